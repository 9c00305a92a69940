"""Windows of frames and transitions around one time: all that an objective reads of an episode."""

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
        steps: Number of rewards in the sum, the n of an n-step return, at least 1; None sums up to the episode's end
            (return-to-go).
        discount: Factor of each further step, in [0, 1].

    Raises:
        InputError: `steps` is not positive, or `discount` is out of range.
    """

    steps: int | None = None
    discount: float = 1.0

    def __post_init__(self) -> None:
        if (self.steps is not None and self.steps < 1) or not 0 <= self.discount <= 1:
            raise InputError(f"returns need steps >= 1 (or None) and a discount in 0..1, not {self}")


@dataclass(frozen=True)
class WindowSpec:
    """What an objective reads around time t of an episode of T transitions.

    Windows start at every t with `t + max(future, steps) <= T`, so they never cross an episode's end. A last frame that only
    repeats the one before is no observation: there `t + future <= T - 1`. Where windows may be cut, they start at every t < T,
    and what they lack is masked: frames are zero and not `valid`, steps are not `taken`.

    Attributes:
        future: Time of the last observation read, in steps after t, at least 0.
        steps: Number of transitions (action, reward, termination) read from t on, at least 0.
        stack: Number of frames in an observation, at least 1; those before the episode's start are zero.
        returns: Sums of rewards read from each of the transitions on; None reads none.
        cut: Whether windows may be cut by the end of an episode, so that its last transitions are read as often as others.
        bootstraps: Whether the observation at t + future only tells the value of going on, and is not looked at where a
            termination comes before it. Windows may then be cut by a termination, but by no other end.

    Raises:
        InputError: A number is negative, or `stack` is not positive.
    """

    future: int = 0
    steps: int = 0
    stack: int = 4
    returns: Returns | None = None
    cut: bool = False
    bootstraps: bool = False

    def __post_init__(self) -> None:
        if self.future < 0 or self.steps < 0 or self.stack < 1:
            raise InputError(f"a window needs future >= 0, steps >= 0 and stack >= 1, not {self}")

    @property
    def reach(self) -> int:
        """Number of transitions that a window needs from t on."""
        return max(self.future, self.steps)


@dataclass(eq=False)
class Batch:
    """B windows.

    Attributes:
        frames: Frames from t - stack + 1 to t + future, `(B, stack + future, 84, 84)` uint8.
        actions: Actions from t on, `(B, steps)` int64.
        rewards: Raw score from t on, `(B, steps)` float32.
        terminations: Whether the game was over, `(B, steps)` bool; past the end of an episode it is.
        games: Index into the cache's `games`, `(B,)` int64.
        stack: Number of frames in an observation.
        returns: Sums of rewards from t on, `(B, steps)` float32; `(B, 0)` without `WindowSpec.returns`.
        valid: Whether a frame is one of the episode, `(B, stack + future)` bool; the zero frames before its start and past its
            end are not.
        taken: Whether a step is one of the episode, `(B, steps)` bool; those past its end, action and reward 0, are not.
    """

    frames: Tensor
    actions: Tensor
    rewards: Tensor
    terminations: Tensor
    games: Tensor
    stack: int = 4
    returns: Tensor = field(default_factory=lambda: torch.empty(0))
    valid: Tensor = field(default_factory=lambda: torch.empty(0))
    taken: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        if not len(self.returns):
            self.returns = self.rewards.new_empty(len(self.frames), 0)
        if not len(self.valid):
            self.valid = torch.ones(self.frames.shape[:2], dtype=torch.bool, device=self.frames.device)
        if not len(self.taken):
            self.taken = torch.ones(self.actions.shape, dtype=torch.bool, device=self.actions.device)

    def observation(self, offset: int | Tensor = 0) -> Tensor:
        """Return the frame stack at t + `offset`, `(B, stack, 84, 84)` uint8.

        Args:
            offset: Steps after t, in 0..future: an integer for all windows, or a `(B,)` integer tensor with one for each.

        Raises:
            InputError: An integer offset is outside the window.
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

    Sums over 1, 2, 4, ... rewards are each made of two of the one before, and those that make up the wanted number are joined.
    That takes log2 passes over the rows, however long the episodes are, and no loop over them.
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
    """Return the number of rows after each one in the same episode, `(1 + N,)` int64."""
    left = torch.zeros(len(cache.rewards), dtype=torch.int64)
    ends = cache.starts + cache.lengths
    left[1:] = torch.repeat_interleave(ends, cache.lengths + 1) - torch.arange(1, len(left))
    return left
