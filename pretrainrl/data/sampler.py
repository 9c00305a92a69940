"""Batches of windows in an order that can be resumed anywhere, read ahead of the loop that consumes them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.data.frame_cache import FrameCache, read_ahead
from pretrainrl.data.windows import Batch, WindowSpec, discounted_returns
from pretrainrl.errors import InputError


class WindowSampler:
    """Batches of windows in an order that is a function of (seed, step) alone.

    Every epoch is a permutation of all windows, drawn from (seed, epoch) and cut into batches; the last, partial one is left
    out. With several ranks, each takes every `world_size`-th window of a global batch of `batch_size * world_size`, so
    together they see what a single process with that batch size sees.

    Args:
        cache: Frames and transitions.
        spec: Content of a window.
        batch_size: Number of windows in a batch of each rank, at least 1.
        seed: Seed of the order, at least 0.
        rank: Number of this process, in 0..world_size - 1.
        world_size: Number of processes.

    Attributes:
        steps_per_epoch: Number of batches in an epoch.

    Raises:
        InputError: A number is out of range, or there are fewer windows than one global batch.
    """

    def __init__(
        self,
        cache: FrameCache,
        spec: WindowSpec,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1 or seed < 0 or not 0 <= rank < world_size:
            raise InputError(
                "a sampler needs batch_size >= 1, seed >= 0 and 0 <= rank < world_size, "
                f"not {batch_size=}, {seed=}, {rank=}, {world_size=}"
            )
        self.cache, self.spec, self.batch_size = cache, spec, batch_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        # Windows are numbered through: those of episode e are first[e] .. end[e] - 1.
        counts = _count_windows(cache, spec)
        self._ends = counts.cumsum(0)
        self._firsts = self._ends - counts
        self.steps_per_epoch = len(self) // (batch_size * world_size)
        if len(self) == 0:
            raise InputError(f"every episode is shorter than the {spec.reach} steps that a window needs")
        if self.steps_per_epoch == 0:
            raise InputError(f"a batch of {batch_size * world_size} is larger than the data, {len(self)} windows")
        self._frame_offsets = torch.arange(1 - spec.stack, spec.future + 1)
        self._step_offsets = torch.arange(spec.steps)
        self._returns = discounted_returns(cache, spec.returns) if spec.returns else None
        self._last: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """Number of windows in an epoch, those of the partial last batch included."""
        return int(self._ends[-1])

    def batch(self, step: int) -> Batch:
        """Return batch number `step` of the run, counted over all epochs."""
        return self.read(self._windows(step))

    def batches(self, start: int, stop: int, depth: int = 2) -> Iterator[Batch]:
        """Yield batches `start` to `stop - 1`, reading up to `depth` of them ahead in one thread.

        What fails in the thread is raised here; closing the iterator ends the thread.
        """
        return read_ahead(self.batch, range(start, stop), depth)

    def read(self, windows: Tensor) -> Batch:
        """Return the windows with the numbers `windows`, `(B,)` int64 in 0..len(self) - 1.

        The numbers of an episode's windows follow one another in time.
        """
        cache = self.cache
        episodes = torch.searchsorted(self._ends, windows, right=True)
        starts = cache.starts[episodes].unsqueeze(1)
        last_frames, ends = (starts + each[episodes].unsqueeze(1) for each in (cache.observed, cache.lengths))
        now = starts + (windows - self._firsts[episodes]).unsqueeze(1)
        frames = now + self._frame_offsets
        valid = (frames >= starts) & (frames <= last_frames)
        steps = now + self._step_offsets
        taken = steps < ends
        steps *= taken  # row 0 has action and reward 0
        return Batch(
            frames=cache.frames.read((frames * valid).flatten()).view(*frames.shape, *FRAME_SHAPE),
            actions=cache.actions[steps].long(),
            rewards=cache.rewards[steps],
            terminations=cache.terminations[steps] | ~taken,
            games=cache.game_ids[episodes],
            stack=self.spec.stack,
            returns=cache.rewards.new_empty(len(windows), 0) if self._returns is None else self._returns[steps],
            valid=valid,
            taken=taken,
        )

    def _windows(self, step: int) -> Tensor:
        """Return the numbers of the windows of one batch, `(batch_size,)` int64."""
        epoch, position = divmod(step, self.steps_per_epoch)
        size = self.batch_size * self.world_size
        batch = self._order(epoch)[position * size : (position + 1) * size]
        return batch[self.rank :: self.world_size].contiguous()

    def _order(self, epoch: int) -> Tensor:
        """Return the permutation of an epoch, `(windows,)` int64; the last one is kept."""
        last = self._last  # one read: the prefetch thread may replace it
        if last is None or last[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self))
            self._last = last = (epoch, torch.from_numpy(order))
        return last[1]


def _count_windows(cache: FrameCache, spec: WindowSpec) -> Tensor:
    """Return the number of windows of each episode, `(E,)` int64."""
    if spec.cut:
        return cache.lengths
    whole = (torch.minimum(cache.lengths - spec.steps, cache.observed - spec.future) + 1).clamp(min=0)
    if not spec.bootstraps:
        return whole
    terminated = cache.terminations[cache.starts + cache.lengths - 1]
    return torch.where(terminated, cache.lengths, whole)
