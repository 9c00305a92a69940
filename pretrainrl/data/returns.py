"""Discounted sums of rewards from every row of a frame cache on, all rows at once."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.windows import Returns


def sums_of_rewards(cache: FrameCache, returns: Returns) -> Tensor:
    """Return the sum of clipped rewards from every row on, up to its episode's end, `(1 + N,)` float32.

    Sums over 1, 2, 4, ... rewards are each made of two of the one before, and those that make up the wanted number
    are joined: log2 passes over the rows however long the episodes are, and no loop over them.
    """
    longest = int(cache.lengths.max())
    wanted = min(returns.steps or longest, longest)
    rows_left = _rows_left(cache)
    power, length = cache.rewards.sign().double(), 1  # sums over `length` rewards
    total, done = torch.zeros_like(power), 0  # sums over the first `done` rewards
    while done < wanted:
        if wanted & length:
            _add_later(total, power, done, returns.discount, rows_left)
            done += length
        if done < wanted:
            power = _add_later(power.clone(), power, length, returns.discount, rows_left)
            length *= 2
    return total.float()


def _add_later(sums: Tensor, later: Tensor, distance: int, discount: float, rows_left: Tensor) -> Tensor:
    """Add to each row of `sums` what `later` holds `distance` rows on, discounted, where that is the same episode's."""
    rows = len(sums) - distance
    sums[:rows].add_(torch.where(rows_left[:rows] >= distance, later[distance:], 0), alpha=discount**distance)
    return sums


def _rows_left(cache: FrameCache) -> Tensor:
    """Rows after each one in the same episode, `(1 + N,)` int64."""
    left = torch.zeros(len(cache.rewards), dtype=torch.int64)
    ends = cache.starts + cache.lengths
    left[1:] = torch.repeat_interleave(ends, cache.lengths + 1) - torch.arange(1, len(left))
    return left
