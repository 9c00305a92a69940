"""Measures of a representation that need no labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pretrainrl.errors import InputError

DORMANT = 0.025  # of the mean activity of all channels
NEIGHBOURS = 5
COLLAPSED = 0.01  # of the greatest feature_std before, below which a run is said to have collapsed


def spectrum(features: Tensor) -> Tensor:
    """Singular values of (N, D) features, float64, falling; as they are, not centred."""
    features = features.double()
    gram = features @ features.T if len(features) < features.shape[1] else features.T @ features
    values: Tensor = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
    return values


def rankme(singular_values: Tensor) -> float:
    """Effective rank, between 1 and their number (Garrido et al., 2023, https://arxiv.org/abs/2210.02885).

    The exponential of the entropy of the singular values over their sum; 0 if all are 0.
    """
    total = singular_values.sum()
    if total == 0:
        return 0.0
    return float(torch.special.entr(singular_values / total).sum().exp())


def dormant_ratio(activity: Tensor) -> float:
    """Share of channels that hardly ever respond (Sokar et al., 2023, https://arxiv.org/abs/2302.12902).

    Args:
        activity: (C,), mean absolute value of each channel over observations and places.

    Returns:
        Share in [0, 1] of those with at most 0.025 of the mean over channels; 1 if all are silent.
    """
    return float((activity <= DORMANT * activity.mean()).double().mean())


def knn_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Share of (M, D) `test` features whose 5 nearest of (N, D) `train`, by cosine, are mostly of their own label."""
    similarity = F.normalize(test, dim=1) @ F.normalize(train, dim=1).T
    nearest = similarity.topk(min(NEIGHBOURS, len(train)), dim=1).indices
    return float((labels[nearest].mode(1).values == test_labels).double().mean())


def principal_components(features: Tensor) -> Tensor:
    """Coordinates (N, 2), float64, of (N, D) features along the two directions in which they vary most.

    Raises:
        InputError: for fewer than two features vectors.
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
    """Notices, once, that features have become the same whatever is seen."""

    def __init__(self) -> None:
        self._greatest = 0.0
        self._told = False

    def message(self, step: int, metrics: dict[str, float]) -> str | None:
        """Return what to tell at `step`, whose metrics hold `feature_std` if the objective measures it; None for nothing."""
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
