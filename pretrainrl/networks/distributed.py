"""Batches that are spread over processes, put together for losses that compare or count across all of them."""

from __future__ import annotations

import torch
import torch.distributed as dist
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
        part: (B, ...) float, of the same shape in every process.

    Returns:
        (world_size * B, ...).
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return part
    whole: Tensor = _Gather.apply(part)
    return whole
