"""What an objective reads of an episode: a window of frames and transitions around one time."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.errors import InputError


@dataclass(frozen=True)
class Returns:
    """Sums of rewards from a step on, each reward clipped to its sign, never past the episode's end.

    Attributes:
        steps: n of an n-step return; None goes on to the episode's end (return-to-go).
        discount: factor per step, in 0..1.

    Raises:
        InputError: when `steps` is not positive or `discount` is out of range.
    """

    steps: int | None = None
    discount: float = 1.0

    def __post_init__(self) -> None:
        if (self.steps is not None and self.steps < 1) or not 0 <= self.discount <= 1:
            raise InputError(f"returns need steps >= 1 (or None) and a discount in 0..1, not {self}")


@dataclass(frozen=True)
class WindowSpec:
    """What an objective reads around time t of an episode of T transitions.

    Windows start at every t with `t + max(future, steps) <= T`, so they never cross an episode's end. A final frame that
    only repeats the one before is no observation: there `t + future <= T - 1`.

    Attributes:
        future: the last observation read, in steps after t.
        steps: transitions (action, reward, termination) read, from t on.
        stack: frames of one observation; those before the episode's start are zero.
        returns: sums of rewards read from each of the transitions on, if any.
        bootstraps: the observation at t + future only tells the value of going on, and is not looked at where a termination
            comes before it; there it may be a repeated final frame.

    Raises:
        InputError: when a number is negative or `stack` is not positive.
    """

    future: int = 0
    steps: int = 0
    stack: int = 4
    returns: Returns | None = None
    bootstraps: bool = False

    def __post_init__(self) -> None:
        if self.future < 0 or self.steps < 0 or self.stack < 1:
            raise InputError(f"a window needs future >= 0, steps >= 0 and stack >= 1, not {self}")

    @property
    def reach(self) -> int:
        """Transitions that a window needs from t on."""
        return max(self.future, self.steps)


@dataclass(eq=False)
class Batch:
    """B windows.

    Attributes:
        frames: `(B, stack + future, 84, 84)` uint8, from t - stack + 1 to t + future.
        actions: `(B, steps)` int64, from t on.
        rewards: `(B, steps)` float32, raw score.
        terminations: `(B, steps)` bool.
        games: `(B,)` int64, index into the cache's `games`.
        stack: frames of one observation.
        returns: `(B, steps)` float32, from t on; `(B, 0)` without `WindowSpec.returns`.
        valid: `(B, stack + future)` bool, False for the zero frames before an episode's start.
    """

    frames: Tensor
    actions: Tensor
    rewards: Tensor
    terminations: Tensor
    games: Tensor
    stack: int = 4
    returns: Tensor = field(default_factory=lambda: torch.empty(0))
    valid: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if not len(self.returns):
            self.returns = self.rewards.new_empty(len(self.frames), 0)
        if not len(self.valid):
            self.valid = torch.ones(self.frames.shape[:2], dtype=torch.bool, device=self.frames.device)

    def observation(self, offset: int | Tensor = 0) -> Tensor:
        """Return the frame stack at t + `offset`, `(B, stack, 84, 84)` uint8.

        Args:
            offset: in 0..future; one for all or a `(B,)` integer tensor, one per window.

        Raises:
            InputError: when an integer offset is outside the window.
        """
        if isinstance(offset, Tensor):
            rows = offset.unsqueeze(1) + torch.arange(self.stack, device=offset.device)
            return self.frames[torch.arange(len(rows), device=offset.device).unsqueeze(1), rows]
        future = self.frames.shape[1] - self.stack
        if not 0 <= offset <= future:
            raise InputError(f"offset {offset} is outside the window, which reads 0..{future}")
        return self.frames[:, offset : offset + self.stack]

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """Return the batch on `device`."""
        names = [field.name for field in fields(self) if field.name != "stack"]
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=non_blocking) for name in names})


def discounted_returns(cache: FrameCache, returns: Returns) -> Tensor:
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
