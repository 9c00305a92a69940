"""Losses that several objectives share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_cross_entropy(logits: Tensor, labels: Tensor, ignore: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy and accuracy over the samples that are not ignored.

    Args:
        logits: (B, K) float.
        labels: (B,) int64 in [0, K).
        ignore: (B,) bool, True for samples that do not count.

    Returns:
        The loss and the detached accuracy in [0, 1], both 0-d float32, and both 0 when every sample is ignored.
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    hits = (logits.detach().argmax(dim=1) == labels).float()
    if ignore is None:
        return losses.mean(), hits.mean()
    keep = (~ignore).float()
    count = keep.sum().clamp(min=1)
    return (losses * keep).sum() / count, (hits * keep).sum() / count


def info_nce(
    queries: Tensor, keys: Tensor, *, temperature: float = 1.0, normalize: bool = False, ignore: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """InfoNCE (van den Oord et al., 2018, https://arxiv.org/abs/1807.03748): tell each query's key from all others.

    Logits are the products of every query with every key over the temperature, the label of row i is column i.

    Args:
        queries: (B, D) float.
        keys: (B, D) float, row i the positive of query i.
        temperature: Divides the logits.
        normalize: Scale queries and keys to unit length first, so that logits are cosines over the temperature.
        ignore: (B,) bool, True for queries that do not count; their keys still serve as negatives.

    Returns:
        The loss and the detached share of queries whose own key scores highest, both 0-d float32.
    """
    if normalize:
        queries, keys = F.normalize(queries.float(), dim=1), F.normalize(keys.float(), dim=1)
    with torch.autocast(queries.device.type, enabled=False):  # bfloat16 would round logits by whole units
        logits = queries.float() @ keys.float().T / temperature
    labels = torch.arange(len(queries), device=queries.device)
    return masked_cross_entropy(logits, labels, ignore)
