"""Spaces of frames and of features, and the checks that observations pass before they reach a network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from pretrainrl.errors import InputError


def tensor_ready(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array that PyTorch can share, which is a copy where strides are negative or the memory is read-only."""
    return array if array.flags.writeable and all(stride >= 0 for stride in array.strides) else array.copy()


def check_observation(obs: Tensor, shape: tuple[int, ...]) -> None:
    """Check a batch of observations.

    Args:
        obs: Observations, which should be (B, *shape), uint8, or floats in [0, 1].
        shape: Shape of one observation.

    Raises:
        InputError: When the shape or dtype is wrong; the message says what to do about the common mistakes.
    """
    if tuple(obs.shape[1:]) != shape or obs.ndim != len(shape) + 1:
        raise InputError(f"observations must be (batch, {', '.join(map(str, shape))}), got {_hint(tuple(obs.shape), shape)}")
    if obs.dtype != torch.uint8 and not obs.is_floating_point():
        raise InputError(f"observations must be uint8 in [0, 255] or floats in [0, 1], got {obs.dtype}")


def check_range(obs: Tensor) -> None:
    """Check that floats lie in [0, 1]. On an accelerator this waits for the values.

    Raises:
        InputError: When some value does not; the message gives the range found.
    """
    low, high = (value.item() for value in obs.aminmax())
    if not (low >= 0 and high <= 1):  # written so that NaN fails
        raise InputError(
            f"float observations must be in [0, 1], got [{low:.4g}, {high:.4g}]; divide by 255, or pass uint8 frames"
        )


def _hint(got: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Return the shape that came, with the likely reason."""
    channel_last = shape[1:] + shape[:1]
    if got == shape:
        return f"{got}: add a batch axis with obs[None]"
    if got[-3:] == channel_last:
        return f"{got}: channels come last; move them first"
    if got[-1] == 3:
        return f"{got}: an RGB stack; use grayscale frames"
    return f"{got}"


FeatureKind = Literal["flat", "pooled", "map"]


@dataclass(frozen=True)
class FeatureSource:
    """What features were made by. Two sources are equal when they give the same features, whatever the encoder's name.

    Attributes:
        encoder: Name of the encoder.
        sha256: Digest of its weights, 64 hex digits.
        kind: Kind of features: `flat`, `pooled` or `map`.
        dtype: Type in which the encoder computes, `float32` or `bfloat16`.
    """

    encoder: str = field(compare=False)
    sha256: str
    kind: FeatureKind
    dtype: str

    def __str__(self) -> str:
        return f"{self.encoder}, sha256 {self.sha256[:8]}, {self.kind} in {self.dtype}"


class FeatureSpace(Box):
    """Unbounded Box that knows by what its features were made, and equals no Box of other features.

    Agents learn from one encoder's features and never see the frames; on another's features of the same shape they would play
    at random. Stable-Baselines3 compares spaces when an agent is loaded or gets a new environment, and then says which differ.

    Args:
        shape: Shape of one observation's features.
        dtype: Type of the arrays, float16 or float32, whatever the encoder computes in.
        source: Encoder, kind of features and type of computation.
    """

    dtype: np.dtype[np.floating[Any]]

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, source: FeatureSource) -> None:
        floats: Any = np.dtype(dtype)
        super().__init__(-np.inf, np.inf, shape, floats)
        self.source = source

    def __eq__(self, other: Any) -> bool:
        """Return whether `other` holds features of the same source, in the same shape and type."""
        return isinstance(other, FeatureSpace) and self.source == other.source and super().__eq__(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape}, {self.dtype}, {self.source})"


def is_channel_last(space: Space[Any], shape: tuple[int, ...]) -> bool:
    """Check that `space` holds the frames an encoder reads, and tell where its channels are.

    Args:
        space: Space of one observation.
        shape: Shape (frames, height, width) that the encoder reads.

    Returns:
        False for observations of `shape`, True for (height, width, frames).

    Raises:
        InputError: When the space is another one; the message says what to do about the common mistakes.
    """
    channel_last = shape[1:] + shape[:1]
    expected = f"expected observations Box(0, 255, {shape}, uint8)"
    if not isinstance(space, Box):
        raise InputError(f"{expected}, got {space}")
    if space.dtype != np.uint8:
        raise InputError(f"{expected}, got {space.dtype} of shape {space.shape}: give raw frames, neither scaled nor encoded")
    if space.shape not in (shape, channel_last):
        raise InputError(f"{expected}, got shape {space.shape}{_frame_hint(space.shape, shape)}")
    if space.low.any() or not (space.high == 255).all():
        raise InputError(f"{expected}, got bounds [{space.low.min()}, {space.high.max()}]")
    return space.shape == channel_last


def _frame_hint(got: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Return the likely reason for a wrong shape."""
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
