"""The study's learning rate as Stable-Baselines3 takes it."""

from __future__ import annotations

from dataclasses import dataclass

from pretrainrl.pretraining.schedule import cosine_with_warmup

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
