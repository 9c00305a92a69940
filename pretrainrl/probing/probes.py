"""Linear classifiers in closed form, reconstructions, and measures of the features' health.

The classifiers are ridge regression onto class indicators, followed by discriminant analysis among the fitted values.
Together they are penalized discriminant analysis (Hastie, Buja and Tibshirani, 1995,
https://doi.org/10.1214/aos/1176324456). The classifier is linear in the features; unlike plain regression it does not
overlook a class that lies between two others. One factorization of the features serves any number of labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.objectives import Objective

RIDGE = 0.1  # penalty as a share of the features' variance, which is 1
TOGETHER = 8  # labels that are fitted at once; more take much memory and little less time
FLOOR = 1e-6  # share of the fitted values' variance that is added within classes, so that nothing is divided by zero


class LinearProbe:
    """Linear classifiers on the same features, which are standardized by their mean and deviation on the training side.

    Args:
        train: Features to fit the classifiers on, (N, D) float32.
        test: Features to classify, (M, D) float32.
    """

    def __init__(self, train: Tensor, test: Tensor) -> None:
        mean, std = train.mean(0), train.std(0)
        std = torch.where(std > 0, std, 1)  # a feature that never varies says nothing
        self._train, self._test = (train - mean).div_(std), (test - mean).div_(std)
        n, d = train.shape
        self._penalty = RIDGE * n
        # The smaller of the two forms, X'X or XX'.
        self._dual = d > n
        gram = self._train @ self._train.T if self._dual else self._train.T @ self._train
        gram.diagonal().add_(self._penalty)
        self._factor = torch.linalg.cholesky(gram)

    def classify(self, labels: Tensor, *, balanced: bool) -> Tensor:
        """Fit P classifiers at once and classify the test side.

        Args:
            labels: Labels of the training side, (N, P) int64, counted from 0.
            balanced: Whether all classes have equal weight, however rare they are; otherwise the most likely class wins.

        Returns:
            Predicted labels of the test side, (M, P) int64.
        """
        classes = int(labels.max()) + 1
        parts = [self._classify(part, classes, balanced) for part in torch.split(labels, TOGETHER, dim=1)]
        return torch.cat(parts, dim=1)

    def _classify(self, labels: Tensor, classes: int, balanced: bool) -> Tensor:
        indicators = F.one_hot(labels, classes).float()  # (N, P, K)
        share = indicators.mean(0)
        train, test = self._fit((indicators - share).flatten(1))
        fitted, predicted = train.view(-1, *share.shape), test.view(-1, *share.shape)
        scores = _discriminants(indicators, fitted, predicted) if balanced else predicted + share
        return scores.masked_fill(share == 0, -torch.inf).argmax(-1)

    def _fit(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Regress onto centered `targets` (N, T) and return the fitted values of both sides."""
        if self._dual:
            weights = torch.cholesky_solve(targets, self._factor)
            return targets - self._penalty * weights, self._test @ (self._train.T @ weights)
        weights = torch.cholesky_solve(self._train.T @ targets, self._factor)
        return self._train @ weights, self._test @ weights


def _discriminants(indicators: Tensor, fitted: Tensor, predicted: Tensor) -> Tensor:
    """Return Gaussian scores of equally likely classes with a common covariance.

    Args:
        indicators: Class indicators of the training side, (N, P, K) in {0, 1}.
        fitted: Fitted values of the training side with mean 0, (N, P, K).
        predicted: Fitted values of the test side, (M, P, K).

    Returns:
        Scores of the test side, (M, P, K) float64.
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
    """Return the mean recall over the classes that occur, and its chance level, which is one over their number.

    Args:
        predicted: Predicted labels, (M, P) int64.
        labels: True labels, (M, P) int64; negative ones are ignored.

    Returns:
        Accuracy and chance level, both (P,) float64; NaN where all labels are ignored.
    """
    classes = int(labels.max().clamp(min=0)) + 1
    places = labels.clamp(min=-1).T + 1  # of what is ignored, the first one

    def count(what: Tensor) -> Tensor:
        return torch.zeros(len(places), classes + 1, dtype=torch.float64).scatter_add_(1, places, what.T.double())[:, 1:]

    counts, hits = count(torch.ones_like(labels)), count(predicted == labels)
    number = (counts > 0).sum(-1)
    return (hits / counts.clamp(min=1)).sum(-1) / number, 1 / number.double()


def reconstructions(
    objective: Objective, games: Sequence[str], episodes: Sequence[Episode], *, moments: int = 3, seed: int = 0
) -> Tensor | None:
    """Reconstruct some moments of each episode with a masked objective.

    Args:
        objective: Objective in eval mode.
        games: Names of the games, in the order of the objective's heads.
        episodes: Episodes to reconstruct; those of other games are skipped.
        moments: Number of evenly spread moments of each episode.
        seed: Seed of the masks.

    Returns:
        Frames, their visible parts and their reconstructions, (n, 3, 84, 84) floats in [0, 1]; None where the objective
        does not reconstruct, or was trained on none of the episodes' games.
    """
    pictures = []
    for episode in episodes:
        if episode.game in games:
            batch = _windows(episode, objective.window, games.index(episode.game), moments)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                pictures.append(objective.reconstruct(batch))
    painted = [picture for picture in pictures if picture is not None]
    return torch.cat(painted) if painted else None


def _windows(episode: Episode, window: WindowSpec, game: int, moments: int) -> Batch:
    """Cut windows without transitions, which masked objectives do not read, from an episode."""
    last = max(0, episode.last_observed - window.future)
    times = (np.arange(moments) * 2 + 1) * (last + 1) // (2 * moments)
    padded = np.concatenate([np.zeros((window.stack - 1, *FRAME_SHAPE), np.uint8), episode.frames])
    rows = times[:, None] + np.arange(window.stack + window.future)
    frames = torch.from_numpy(padded[rows.clip(max=len(padded) - 1)])
    none = torch.empty(moments, 0)
    return Batch(frames, none.long(), none, none.bool(), torch.full((moments,), game), window.stack)


DORMANT = 0.025  # share of the mean activity of all channels, up to which a channel is dormant
NEIGHBORS = 5
COLLAPSED = 0.01  # share of the greatest feature_std so far, below which features have collapsed


def spectrum(features: Tensor) -> Tensor:
    """Return the singular values of (N, D) features in descending order, float64; the features are not centered."""
    features = features.double()
    gram = features @ features.T if len(features) < features.shape[1] else features.T @ features
    values: Tensor = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
    return values


def rankme(singular_values: Tensor) -> float:
    """Return the effective rank of features (RankMe; Garrido et al., 2023, https://arxiv.org/abs/2210.02885).

    The rank is the exponential of the entropy of the singular values over their sum. It lies between 1 and the number of
    singular values, and is 0 if all of them are 0.
    """
    total = singular_values.sum()
    if total == 0:
        return 0.0
    return float(torch.special.entr(singular_values / total).sum().exp())


def dormant_ratio(activity: Tensor) -> float:
    """Return the share of channels that hardly ever respond (Sokar et al., 2023, https://arxiv.org/abs/2302.12902).

    Args:
        activity: Mean absolute value of each channel over observations and places, (C,).

    Returns:
        Share, in [0, 1], of channels with at most 0.025 of the mean over channels; 1 if all channels are silent.
    """
    return float((activity <= DORMANT * activity.mean()).double().mean())


def knn_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Return the accuracy of classifying (M, D) `test` by the 5 nearest neighbors, by cosine, among (N, D) `train`."""
    similarity = F.normalize(test, dim=1) @ F.normalize(train, dim=1).T
    nearest = similarity.topk(min(NEIGHBORS, len(train)), dim=1).indices
    return float((labels[nearest].mode(1).values == test_labels).double().mean())


def principal_components(features: Tensor) -> Tensor:
    """Return the coordinates of (N, D) features along their first two principal components, (N, 2) float64.

    Raises:
        InputError: For fewer than two feature vectors.
    """
    if len(features) < 2:
        raise InputError(f"principal components need at least two vectors, got {len(features)}")
    centred = features.double() - features.double().mean(0)
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    first = vectors[:, -2:].flip(1)
    # An eigenvector may point either way; its largest entry shall be positive.
    signs = first.gather(0, first.abs().argmax(0, keepdim=True)).sign()
    points: Tensor = first * signs * values[-2:].flip(0).clamp(min=0).sqrt()
    return points


class CollapseWatch:
    """Detector of collapse in training: features that have become the same for all observations."""

    def __init__(self) -> None:
        self._greatest = 0.0
        self._told = False

    def message(self, step: int, metrics: dict[str, float]) -> str | None:
        """Return a warning, at most once, when `feature_std` of the metrics of `step` has fallen too far; otherwise None."""
        spread = metrics.get("feature_std")
        if spread is None or self._told:
            return None
        self._greatest = max(self._greatest, spread)
        if spread >= COLLAPSED * self._greatest:
            return None
        self._told = True
        return (
            f"features have collapsed: feature_std is {spread:.3g} at step {step} and was {self._greatest:.3g} before; they "
            "hardly depend on what is seen any more. Lower the learning rate, or choose another objective or other data"
        )
