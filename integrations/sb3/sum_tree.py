"""Drawing numbers in proportion to priorities that change all the time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FAN_OUT = 16  # children of a node: few levels, for numpy is slow to call and fast once it runs
_TOP = 512  # so many sums are scanned rather than summed up once more


class SumTree:
    """Non-negative priorities with their sums over blocks of 16, over blocks of those blocks, and so on.

    A batch goes down the tree together, one level at a time. A level's sums are always made anew from the level below and
    never changed by differences, so they do not drift, and an index that is given twice does no harm.

    Args:
        size: how many priorities; all are zero at first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._levels: list[NDArray[np.float64]] = []  # the priorities first
        while not self._levels or size > _TOP:
            blocks = -(-size // _FAN_OUT)
            self._levels.append(np.zeros((blocks, _FAN_OUT)))
            size = blocks
        self._top = np.zeros(size)

    @staticmethod
    def bytes_for(size: int) -> float:
        """Memory that a tree of that size takes, about."""
        return size * 8 * (1 + 2 / _FAN_OUT)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._top.sum())

    def get(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Priorities at `indices`, of the same shape."""
        return self._levels[0].ravel()[indices]

    def set(self, indices: NDArray[np.int64], priorities: NDArray[np.float64] | float) -> None:
        """Change the priorities at `indices` (B,) to `priorities` (B,) or to one for all; of equal indices the last counts."""
        self._levels[0].ravel()[indices] = priorities
        for level, above in zip(self._levels, [*self._levels[1:], self._top], strict=True):
            indices = indices // _FAN_OUT
            above.ravel()[indices] = np.add.reduce(level[indices], axis=1)

    def draw(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw one index from each of `count` parts of equal mass, with numpy's global generator.

        Returns:
            Indices (count,), of positive priority each, and their priorities (count,).

        Raises:
            ValueError: when all priorities are zero.
        """
        bounds = np.add.accumulate(self._top)
        if not bounds[-1] > 0:
            raise ValueError("all priorities are zero")
        masses = (np.arange(count) + np.random.random_sample(count)) * (bounds[-1] / count)
        # Rounding must not carry a mass beyond the last positive priority, here and below.
        np.minimum(masses, np.nextafter(bounds[-1], 0), out=masses)
        indices = bounds.searchsorted(masses, side="right")
        masses -= np.where(indices > 0, bounds[indices - 1], 0.0)
        for level in reversed(self._levels):
            # The children of all nodes in one row: one search finds the child of each.
            bounds = np.zeros(count * _FAN_OUT + 1)
            np.add.accumulate(level.take(indices, axis=0).ravel(), out=bounds[1:])
            masses += bounds[:-1:_FAN_OUT]
            np.minimum(masses, np.nextafter(bounds[_FAN_OUT::_FAN_OUT], 0), out=masses)
            places = bounds[1:].searchsorted(masses, side="right")
            masses -= bounds[places]
            indices = indices[places // _FAN_OUT] * _FAN_OUT + places % _FAN_OUT
        return indices, self.get(indices)
