"""Losses that several objectives share, and the gathering of batches that are spread over processes.

All losses are of the whole batch: where it is spread over processes, samples are gathered first, so that every process returns
the loss of a single one with the concatenated batch, and DistributedDataParallel's averaged gradients are that one's too.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx


class _Gather(torch.autograd.Function):
    """All-gather along the first dimension; backward adds up what every process sends to this one's part."""

    @staticmethod
    def forward(ctx: FunctionCtx, part: Tensor) -> Tensor:
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather(part: Tensor) -> Tensor:
    """Concatenate every process's `part` in the order of ranks; in a single process, `part` itself.

    A loss of the gathered batch has the same value in every process. Its gradient comes back from each of them, so that
    a part receives world_size times its share, which DistributedDataParallel's average over processes undoes: gradients
    of parameters are those of one process with the whole batch.

    Args:
        part: Tensor (B, ...) float, of the same shape in every process.

    Returns:
        (world_size * B, ...).
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return part
    whole: Tensor = _Gather.apply(part)
    return whole


def from_first(tensor: Tensor) -> Tensor:
    """Return the tensor of the first process, in all of them; in a single process, `tensor` itself. It has no gradient."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.broadcast(tensor, 0)
    return tensor


def masked_mean(values: Tensor, ignore: Tensor | None = None) -> Tensor:
    """Return the mean over the samples that are not ignored.

    Args:
        values: Values (B,) float.
        ignore: Mask (B,) bool, True for samples that do not count; None for none.

    Returns:
        0-d, and 0 when every sample is ignored.
    """
    if ignore is None:
        return gather(values).mean()
    return kept_mean(gather(values), gather((~ignore).float()))


def kept_mean(values: Tensor, keep: Tensor) -> Tensor:
    """Return the mean of gathered values where `keep` is 1, leaving out those where it is 0."""
    return (values * keep).sum() / keep.sum().clamp(min=1)


def masked_cross_entropy(logits: Tensor, labels: Tensor, ignore: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return mean cross-entropy and accuracy over the samples that are not ignored.

    Args:
        logits: Logits (B, K) float.
        labels: Labels (B,) int64 in [0, K).
        ignore: Mask (B,) bool, True for samples that do not count; None for none.

    Returns:
        The loss and the detached accuracy in [0, 1], both 0-d float32, and both 0 when every sample is ignored.
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    hits = (logits.detach().argmax(dim=1) == labels).float()
    return masked_mean(losses, ignore), masked_mean(hits, ignore)


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: float = 1.0,
    normalize: bool = False,
    ignore: Tensor | None = None,
    hide_ignored: bool = False,
    own_negatives: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of telling each query's key from all others, InfoNCE (https://arxiv.org/abs/1807.03748).

    Logits are the products of every query with every key over the temperature, the label of row i is column i.

    Args:
        queries: Queries (B, D) float.
        keys: Keys (B, D) float, row i the positive of query i.
        temperature: Divisor of the logits.
        normalize: Whether queries and keys are scaled to unit length first, so that logits are cosines over the temperature.
        ignore: Mask (B,) bool, True for queries that do not count; their keys still serve as negatives.
        hide_ignored: Whether the keys of ignored queries do not serve as negatives either.
        own_negatives: Further negatives (B, D) float, row i for query i alone.

    Returns:
        The loss and the detached share of queries whose own key scores highest, both 0-d float32.
    """
    sides = [queries, keys] if own_negatives is None else [queries, keys, own_negatives]
    queries, keys, *others = (gather(F.normalize(side.float(), dim=1) if normalize else side.float()) for side in sides)
    labels = torch.arange(len(queries), device=queries.device)
    keep = torch.ones_like(queries[:, 0]) if ignore is None else gather((~ignore).float())
    with torch.autocast(queries.device.type, enabled=False):  # bfloat16 would round logits by whole units
        logits = queries @ keys.T
    if hide_ignored:
        hidden = (keep == 0) & (labels != labels[:, None])  # a row of -inf alone would have no softmax
        logits = logits.masked_fill(hidden, float("-inf"))
    logits = torch.cat([logits, *((queries * other).sum(1, keepdim=True) for other in others)], dim=1) / temperature
    losses = F.cross_entropy(logits, labels, reduction="none")
    hits = (logits.detach().argmax(dim=1) == labels).float()
    return kept_mean(losses, keep), kept_mean(hits, keep)


def gaussianity(samples: Tensor, directions: int, *, knots: int = 17, widest: float = 3.0) -> Tensor:
    """SIGReg (Balestriero & LeCun, 2025, https://arxiv.org/abs/2511.08544): how far samples are from standard normal ones.

    Samples are projected onto random directions. On each the Epps-Pulley statistic is the squared distance of their
    characteristic function from that of the standard normal distribution, weighted by exp(-t^2 / 2) and multiplied by the
    number of samples; the integral over |t| <= `widest` is a sum over `knots` points.

    Args:
        samples: Samples of the whole batch, gathered already, (N, D) float.
        directions: Number of random directions, drawn from PyTorch's default generator, the same in every process.
        knots: Number of points of the trapezoidal rule on [0, `widest`], at least 2.
        widest: Greatest t.

    Returns:
        Mean over the directions, 0-d float32.
    """
    with torch.autocast(samples.device.type, enabled=False):
        drawn = from_first(torch.randn(samples.shape[1], directions, device=samples.device))
        projected = samples.float() @ F.normalize(drawn, dim=0)
        t = torch.linspace(0, widest, knots, device=samples.device)
        normal = torch.exp(-(t**2) / 2)
        steps = torch.full_like(t, 2 * widest / (knots - 1))  # twice: the integrand is even
        steps[[0, -1]] /= 2
        angles = projected.unsqueeze(2) * t
        distance = (angles.cos().mean(0) - normal) ** 2 + angles.sin().mean(0) ** 2
        return len(samples) * (distance @ (steps * normal)).mean()
