"""The check every observation passes before it reaches a network."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrainrl.errors import InputError


def check_observation(obs: Tensor, shape: tuple[int, ...]) -> None:
    """Check a batch of observations.

    Args:
        obs: expected (B, *shape), uint8, or floating in [0, 1].
        shape: of one observation.

    Raises:
        InputError: saying what was expected, what came, and what to do about the common mistakes.
    """
    if tuple(obs.shape[1:]) != shape or obs.ndim != len(shape) + 1:
        raise InputError(f"observations must be (batch, {', '.join(map(str, shape))}), got {_hint(tuple(obs.shape), shape)}")
    if obs.dtype != torch.uint8 and not obs.is_floating_point():
        raise InputError(f"observations must be uint8 in [0, 255] or floats in [0, 1], got {obs.dtype}")


def check_range(obs: Tensor) -> None:
    """Check that floats lie in [0, 1]. On an accelerator this waits for the values.

    Raises:
        InputError: with the range found.
    """
    low, high = (value.item() for value in obs.aminmax())
    if not (low >= 0 and high <= 1):  # written so that NaN fails
        raise InputError(
            f"float observations must be in [0, 1], got [{low:.4g}, {high:.4g}]; divide by 255, or pass uint8 frames"
        )


def _hint(got: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The shape that came, with the likely reason."""
    channel_last = shape[1:] + shape[:1]
    if got == shape:
        return f"{got}: add a batch axis with obs[None]"
    if got[-3:] == channel_last:
        return f"{got}: channels come last; move them first"
    if got[-1] == 3:
        return f"{got}: an RGB stack; use grayscale frames"
    return f"{got}"
