"""Which bytes of the console's memory are probed, and as which classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CLASSES = 8
LEAST_ENTROPY = 0.6  # nats; a byte with two classes has it when the rarer one holds 29 % of the observations


def ram_classes(ram: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Turn memory into labels, by the rule of what the training side holds.

    A byte with up to 8 values there has a class for each; one with more is cut into up to 8 ranges of values that are
    about equally frequent. Bytes whose classes have an entropy below 0.6 nats are left out: they hardly vary.

    Args:
        ram: (N, 128) uint8.
        train: indices of the training side, int64.

    Returns:
        labels (N, P) int64, -1 for values of a byte with few that the training side lacks, and bytes (P,) int64, ascending.
    """
    values = ram.long()
    histogram = F.one_hot(values[train].T, 256).sum(1)  # (128, 256)
    table = _value_classes(histogram)
    labels = table.gather(1, values.T).T
    share = F.one_hot(labels[train], CLASSES).double().mean(0)  # (128, CLASSES)
    entropy = torch.special.entr(share).sum(-1)
    probed = (entropy >= LEAST_ENTROPY).nonzero().flatten()
    return labels[:, probed], probed


def _value_classes(histogram: Tensor) -> Tensor:
    """Class of each value of each byte, (B, 256) int64, from how often it occurs, (B, 256)."""
    occurs = histogram > 0
    rank = occurs.cumsum(1) - 1
    few = occurs.sum(1, keepdim=True) <= CLASSES
    below = histogram.cumsum(1) - histogram
    # The middle of a value's place among all observations in order, cut into equal parts.
    middle = (2 * below + histogram) * CLASSES // (2 * histogram.sum(1, keepdim=True))
    return torch.where(few, torch.where(occurs, rank, -1), middle.clamp(max=CLASSES - 1))
