"""Space of an encoder's features."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import DTypeLike


class FeatureSpace(Box):
    """Unbounded Box that knows whose features it holds, and equals no Box of other features.

    Agents learn from one encoder's features and know nothing of the frames; given another's of the same shape they would play
    at random. Stable-Baselines3 compares spaces when an agent is loaded or gets a new environment, and then says which differ.

    Args:
        shape: of one observation's features.
        dtype: float16 or float32.
        encoder: its name.
        sha256: of its weights.
    """

    dtype: np.dtype[np.floating[Any]]

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, encoder: str, sha256: str) -> None:
        floats: Any = np.dtype(dtype)
        super().__init__(-np.inf, np.inf, shape, floats)
        self.encoder, self.sha256 = encoder, sha256

    def __eq__(self, other: Any) -> bool:
        """Whether the other one holds features of the same weights, in the same shape and dtype."""
        return isinstance(other, FeatureSpace) and self.sha256 == other.sha256 and super().__eq__(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape}, {self.dtype}, {self.encoder}, sha256 {self.sha256[:8]})"
