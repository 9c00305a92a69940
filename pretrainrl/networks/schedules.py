"""The learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
        peak: the greatest learning rate.
    """

    peak: float

    def __call__(self, progress_remaining: float) -> float:
        """Return the learning rate by what remains of training, from 1 to 0."""
        return self.peak * cosine_with_warmup(round((1 - progress_remaining) * _STEPS), _STEPS)
