"""Linear classifiers in closed form: one factorisation of the features serves any number of labels.

Ridge regression onto class indicators, then discriminant analysis among the fitted values: together, penalised
discriminant analysis (Hastie, Buja and Tibshirani, 1995, https://doi.org/10.1214/aos/1176324456). The classifier is linear
in the features; unlike plain regression it does not overlook a class that lies between two others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 0.1  # of the features' variance, which is 1
FLOOR = 1e-6  # of the fitted values' variance, added within classes, so that perfect features do not divide by zero


class LinearProbe:
    """Classifiers on the same features; they are standardised by their mean and deviation over the training side.

    Args:
        train: (N, D) float32, to fit.
        test: (M, D) float32, to classify.
    """

    def __init__(self, train: Tensor, test: Tensor) -> None:
        mean, std = train.mean(0), train.std(0)
        std = torch.where(std > 0, std, 1)  # a feature that never varies says nothing
        self._train, self._test = (train - mean) / std, (test - mean) / std
        n, d = train.shape
        self._penalty = RIDGE * n
        # The smaller of the two forms, X'X or XX'.
        self._dual = d > n
        gram = self._train @ self._train.T if self._dual else self._train.T @ self._train
        self._factor = torch.linalg.cholesky(gram.diagonal_scatter(gram.diagonal() + self._penalty))

    def classify(self, labels: Tensor, *, balanced: bool) -> Tensor:
        """Fit P classifiers at once and classify the test side.

        Args:
            labels: (N, P) int64 from 0 on, of the training side.
            balanced: weigh classes equally, however rare; else go by what is most likely.

        Returns:
            (M, P) int64.
        """
        indicators = F.one_hot(labels).float()  # (N, P, K)
        share = indicators.mean(0)
        train, test = self._fit((indicators - share).flatten(1))
        fitted, predicted = train.view(-1, *share.shape), test.view(-1, *share.shape)
        scores = _discriminants(indicators, fitted, predicted) if balanced else predicted + share
        return scores.masked_fill(share == 0, -torch.inf).argmax(-1)

    def _fit(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Regress onto centred `targets` (N, T); returns the fitted values of both sides."""
        if self._dual:
            weights = torch.cholesky_solve(targets, self._factor)
            return targets - self._penalty * weights, self._test @ (self._train.T @ weights)
        weights = torch.cholesky_solve(self._train.T @ targets, self._factor)
        return self._train @ weights, self._test @ weights


def _discriminants(indicators: Tensor, fitted: Tensor, predicted: Tensor) -> Tensor:
    """Gaussian scores of equally likely classes with a common covariance.

    Args:
        indicators: (N, P, K) in {0, 1}.
        fitted: (N, P, K), with mean 0.
        predicted: (M, P, K).

    Returns:
        (M, P, K) float64.
    """
    indicators, fitted, predicted = (each.transpose(0, 1).double() for each in (indicators, fitted, predicted))
    counts = indicators.sum(1)
    means = indicators.mT @ fitted / counts.clamp(min=1).unsqueeze(-1)  # (P, K, K), a row for each class
    total = fitted.mT @ fitted
    within = total - means.mT @ (counts.unsqueeze(-1) * means)
    floor = FLOOR * total.diagonal(dim1=1, dim2=2).mean(-1)[:, None, None] + torch.finfo(torch.float64).tiny
    within = within + floor * torch.eye(fitted.shape[-1], dtype=torch.float64, device=fitted.device)
    directions = torch.linalg.solve(within / fitted.shape[1], means.mT)  # (P, K, K), a column for each class
    offsets = (means * directions.mT).sum(-1) / 2
    scores: Tensor = predicted @ directions - offsets.unsqueeze(1)
    return scores.transpose(0, 1)


def balanced_accuracy(predicted: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean recall over the classes that occur, and what a constant answer reaches: one over their number.

    Args:
        predicted: (M, P) int64.
        labels: (M, P) int64; those below 0 do not count.

    Returns:
        Two (P,) float64; not a number where no label counts.
    """
    known = labels >= 0
    classes = int(labels.max().clamp(min=0)) + 1
    occurring = F.one_hot(labels.clamp(min=0), classes) * known.unsqueeze(-1)
    counts = occurring.sum(0).double()
    hits = (occurring * (predicted == labels).unsqueeze(-1)).sum(0).double()
    number = (counts > 0).sum(-1)
    return (hits / counts.clamp(min=1)).sum(-1) / number, 1 / number.double()
