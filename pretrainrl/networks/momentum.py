"""Momentum (EMA) copies of networks, which give the targets of CURL, ATC, R3M, SPR and CQL."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def momentum_copy(online: Module) -> Module:
    """Copy `online` for use as a target: equal weights, no gradient, and the same train or eval mode."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def update_momentum(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the target towards the online network: target <- momentum * target + (1 - momentum) * online.

    Args:
        target: Module made by `momentum_copy(online)`; buffers are copied.
        online: Module being trained.
        momentum: In [0, 1]; 1 leaves the target's parameters as they are.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)
    for buffer, source in zip(target.buffers(), online.buffers(), strict=True):
        buffer.copy_(source)


def linear_momentum(progress: float, start: float = 0.99, end: float = 0.999) -> float:
    """Momentum at `progress` in [0, 1] of training, linear from `start` to `end`."""
    return start + (end - start) * progress
