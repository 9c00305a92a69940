"""The check every environment passes before an encoder is put on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space

from pretrainrl.errors import InputError


def is_channel_last(space: Space[Any], shape: tuple[int, ...]) -> bool:
    """Check that `space` holds the frames an encoder reads, and tell where its channels are.

    Args:
        space: of one observation.
        shape: (frames, height, width) that the encoder reads.

    Returns:
        False for observations of `shape`, True for (height, width, frames).

    Raises:
        InputError: saying what was expected, what came, and what to do about the common mistakes.
    """
    channel_last = shape[1:] + shape[:1]
    expected = f"expected observations Box(0, 255, {shape}, uint8)"
    if not isinstance(space, Box):
        raise InputError(f"{expected}, got {space}")
    if space.dtype != np.uint8:
        raise InputError(f"{expected}, got {space.dtype} of shape {space.shape}: give raw frames, neither scaled nor encoded")
    if space.shape not in (shape, channel_last):
        raise InputError(f"{expected}, got shape {space.shape}{_hint(space.shape, shape)}")
    if space.low.any() or not (space.high == 255).all():
        raise InputError(f"{expected}, got bounds [{space.low.min()}, {space.high.max()}]")
    return space.shape == channel_last


def _hint(got: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The likely reason."""
    frames, *size = shape
    if len(got) == 4 and got[-1] == 3:
        return ": an RGB stack; use grayscale frames"
    if len(got) == 3 and 3 in (got[0], got[-1]):
        return ": an RGB frame; use grayscale frames"
    if len(got) == 4 and got[-1] == 1:
        return ": drop the last axis (AtariPreprocessing has grayscale_newaxis=False)"
    if list(got) == size or sorted(got) == sorted([1, *size]):
        return f": a single frame; stack {frames} of them"
    return ""
