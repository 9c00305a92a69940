"""What changes over a training run: the learning rate, momentum (EMA) copies of networks, and whether all is finite."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pretrainrl.errors import InputError

Module = TypeVar("Module", bound=nn.Module)

LOWER_RATE = "lower the learning rate. The checkpoint before is kept"  # what to do about learning that has diverged


def momentum_copy(online: Module) -> Module:
    """Copy `online` for use as a target: equal weights, no gradient, and the same train or eval mode."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def update_momentum(target: nn.Module, online: nn.Module, momentum: float) -> None:
    """Move the target towards the online network: target <- momentum * target + (1 - momentum) * online.

    Args:
        target: Module made by `momentum_copy(online)`; buffers are copied.
        online: Module being trained.
        momentum: Momentum in [0, 1]; 1 leaves the target's parameters as they are.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), 1 - momentum)
    for buffer, source in zip(target.buffers(), online.buffers(), strict=True):
        buffer.copy_(source)


def linear_momentum(progress: float, start: float = 0.99, end: float = 0.999) -> float:
    """Return the momentum at `progress` in [0, 1] of training, linear from `start` to `end`."""
    return start + (end - start) * progress


def cosine_with_warmup(step: int, steps: int, *, warmup: float = 0.1, floor: float = 0.1) -> float:
    """Return the factor on the peak learning rate at `step` of `steps`.

    Linear from `floor` to 1 over the first `warmup` share of the steps, then a cosine back to `floor`.
    """
    rise = int(warmup * steps)
    if step < rise:
        return floor + (1 - floor) * step / rise
    progress = (step - rise) / max(1, steps - rise)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


_STEPS = 1_000_000


@dataclass(frozen=True)
class WarmupCosine:
    """Linear from a tenth of `peak` to `peak` over the first tenth of training, then a cosine back to a tenth.

    Attributes:
        peak: Greatest learning rate.
    """

    peak: float

    def __call__(self, progress_remaining: float) -> float:
        """Return the learning rate by what remains of training, from 1 to 0."""
        return self.peak * cosine_with_warmup(round((1 - progress_remaining) * _STEPS), _STEPS)


def require_finite(state: Any, when: str, remedy: str) -> None:
    """Check that no tensor of a state is NaN or infinite, before it is saved.

    Args:
        state: Tensors in dictionaries and lists, for example what `state_dict` returns.
        when: Words for the time, such as `at step 10`.
        remedy: Last words of the error, which say what to do and what is kept.

    Raises:
        InputError: A tensor is not finite; the message names the first one.
    """
    name = next(_non_finite(state, ""), None)
    if name is not None:
        raise InputError(f"the learning has diverged: {name} is not finite {when}; {remedy}")


def _non_finite(state: Any, name: str) -> Iterator[str]:
    """Yield the names of the tensors that are not finite."""
    if isinstance(state, Tensor):
        if not state.isfinite().all():
            yield name
    elif isinstance(state, dict | list | tuple):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _non_finite(value, f"{name}.{key}" if name else str(key))
