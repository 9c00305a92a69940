"""Shards of the DQN Replay Dataset, whatever files they lie in, read as a stream of episodes.

A shard is a log of a replay buffer, and shows it: three empty rows stand before each episode, the observation after an
episode's last action was never stored, time-outs are marked as ends of the game, the last of its million rows was written
before the first, and the last shard of a run holds old rows past the place where training stopped. Rewards were clipped to
[-1, 1] before they were stored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.errors import DatasetError, InputError

SHARD_ROWS = 1_000_000
TIME_OUT = 27_000  # steps after which an episode was broken off
PADDING_ROWS = 3

# Shape of a row, and the NumPy types of which one is wanted.
KINDS: dict[str, tuple[tuple[int, ...], tuple[type[np.generic], ...]]] = {
    "observation": (FRAME_SHAPE, (np.uint8,)),
    "action": ((), (np.integer,)),
    "reward": ((), (np.floating, np.integer)),
    "terminal": ((), (np.bool_, np.integer)),
}
ARRAYS = tuple(KINDS)


class Rows(Protocol):
    """An array whose rows are read one after the other.

    Attributes:
        path: File of the array.
        rows: Number of rows.
        dtype: Type of the array.
    """

    path: Path
    rows: int
    dtype: np.dtype[Any]

    def read(self, rows: int, /) -> npt.NDArray[Any]:
        """Read the next `rows` rows, `(rows, ...)`."""

    def read_into(self, out: npt.NDArray[Any], /) -> None:
        """Fill `out`, contiguous and of the array's dtype, with the next `len(out)` rows."""

    def verify(self) -> None:
        """Read on to the end and look for damage."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class Shard(ABC):
    """One million transitions of one agent, or the first of them, as four arrays of as many rows.

    Attributes:
        game: Slug of the game.
        run: Number of the agent, which tells the agents of a game apart; 1..5 in the original.
        checkpoint: Number of the agent's million transitions; 0..50 in the original.
    """

    game: str
    run: int
    checkpoint: int

    @abstractmethod
    def open(self) -> Mapping[str, Rows]:
        """Open each of `ARRAYS`.

        Raises:
            DatasetError: A file is damaged or of another kind.
        """

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Return the files that hold the arrays."""

    def count(self) -> int | None:
        """Return the number of transitions that had been written when the shard was; None if it is not known."""
        return None


@dataclass
class Findings:
    """What was noticed in reading shards.

    Attributes:
        dropped_padding_rows: Number of empty rows that were left out.
        starts_without_padding: Number of episodes that start with fewer than three empty rows after another's end; their rows
            are kept.
        nan_rewards: Number of rewards that were no finite number and became 0.
        unclipped_rewards: Number of rewards outside [-1, 1], which are kept as they are.
    """

    dropped_padding_rows: int = 0
    starts_without_padding: int = 0
    nan_rewards: int = 0
    unclipped_rewards: int = 0


def read_episodes(
    shards: Sequence[Shard],
    steps: int,
    num_actions: int,
    *,
    verify: bool = False,
    findings: Findings | None = None,
) -> Iterator[Episode]:
    """Read the first `steps` transitions of every shard, one episode at a time and no further than needed.

    The headers of all shards are checked before the first shard is read. Memory is bounded by two episodes. A shard with fewer
    transitions gives what it has; the transition that would need a row past its end is left out.

    Args:
        shards: Shards of one game.
        steps: Number of transitions of each shard, at least 1; padding is not counted.
        num_actions: Size of the game's minimal action set.
        verify: Whether every file is read to its end, which checks the checksums of gzip.
        findings: Counters that are added to.

    Returns:
        An iterator of episodes. Their metadata: `run`, `checkpoint`, `shard_row` (row of the first transition),
        `starts_at_reset`, `ends_by` (`game_over`, `time_out` or `cut`), `final_observation` (`true`, or `repeated`
        after an end, where the shard lacks it) and `return` (of clipped rewards). Whether an episode whose start lies in
        another shard ends by time-out cannot be told.

    Raises:
        InputError: `steps` is not positive.
        DatasetError: A file is damaged or holds what it should not.
    """
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    check_shards(shards)
    return _read(shards, steps, num_actions, verify, findings or Findings())


def check_shards(shards: Sequence[Shard]) -> None:
    """Check the headers of all files of `shards`.

    Raises:
        DatasetError: A file is of another kind, or the files of a shard have different lengths.
    """
    for files in shards:
        _Reader(files, 0).close()


def _read(
    shards: Sequence[Shard],
    steps: int,
    num_actions: int,
    verify: bool,
    findings: Findings,
) -> Iterator[Episode]:
    for files in shards:
        shard = _Reader(files, num_actions)
        try:
            yield from _episodes(shard, steps, findings)
            if verify:
                shard.verify()
        finally:
            shard.close()


def _episodes(shard: _Reader, steps: int, findings: Findings) -> Iterator[Episode]:
    row, left, after_end = 0, steps, False
    while left > 0:
        padding, frame = shard.skip_padding(row)
        row += padding
        findings.dropped_padding_rows += padding
        findings.starts_without_padding += after_end and frame is not None and padding < PADDING_ROWS
        length, ended = shard.find_end(row, left)
        if frame is None or length == 0:
            return
        frames = np.empty((length + 1, *FRAME_SHAPE), np.uint8)
        frames[0] = frame
        shard.observations.read_into(frames[1:length] if ended else frames[1:])
        if ended:
            frames[length] = frames[length - 1]
        starts_at_reset = after_end or padding > 0
        ends_by = "cut" if not ended else "time_out" if starts_at_reset and length == TIME_OUT else "game_over"
        actions, rewards = shard.steps(row, length, findings)
        last = np.arange(length) == length - 1
        yield Episode(
            frames=frames,
            actions=actions,
            rewards=rewards,
            terminations=last & (ends_by == "game_over"),
            truncations=last & (ends_by != "game_over"),
            game=shard.files.game,
            metadata={
                "run": shard.files.run,
                "checkpoint": shard.files.checkpoint,
                "shard_row": row,
                "starts_at_reset": starts_at_reset,
                "ends_by": ends_by,
                "final_observation": "repeated" if ended else "true",
                "return": float(rewards.sum()),
            },
        )
        if not ended:
            return
        row, left, after_end = row + length, left - length, True


class _Reader:
    """The four arrays of a shard: the observations are a stream, and the others are kept as far as they were needed.

    Attributes:
        files: Shard that is read.
        observations: Array of the observations, read up to where the episodes are.
        rows: Number of rows that hold transitions in order.
    """

    def __init__(self, files: Shard, num_actions: int) -> None:
        self.files, self._num_actions = files, num_actions
        with ExitStack() as opened:
            self._arrays = files.open()
            for array in self._arrays.values():
                opened.callback(array.close)
            self.observations = self._arrays["observation"]
            if len({array.rows for array in self._arrays.values()}) > 1:
                each = ", ".join(f"{array.path.name} {array.rows:,}" for array in self._arrays.values())
                raise DatasetError(f"files of one shard in {self.observations.path.parent} differ in rows: {each}")
            self.rows = _rows_in_order(self.observations, files.count())
            self._opened = opened.pop_all()
        self._columns = {name: np.empty(0, array.dtype) for name, array in self._arrays.items() if name != "observation"}

    def close(self) -> None:
        self._opened.close()

    def verify(self) -> None:
        """Read all files to their ends."""
        for array in self._arrays.values():
            array.verify()

    def skip_padding(self, row: int) -> tuple[int, npt.NDArray[np.uint8] | None]:
        """Return how many empty rows there are from `row` on, at most three, and the frame after them, if any."""
        for padding in range(min(PADDING_ROWS, self.rows - row) + 1):
            if row + padding == self.rows:
                return padding, None
            frame = self.observations.read(1)[0]
            empty = not frame.any() and not any(self._column(name, row + padding + 1)[row + padding] for name in self._columns)
            if not empty or padding == PADDING_ROWS:
                return padding, frame
        return 0, None

    def find_end(self, row: int, limit: int) -> tuple[int, bool]:
        """Return the number of transitions from `row` on, at most `limit`, and whether the episode ends with them.

        Without an end, the row after the last transition must exist: it holds the final observation.
        """
        stop = min(row + limit, self.rows)
        ends = np.flatnonzero(self._column("terminal", stop)[row:stop])
        if len(ends):
            return int(ends[0]) + 1, True
        return max(0, min(stop, self.rows - 1) - row), False

    def steps(self, row: int, length: int, findings: Findings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return actions and rewards of `length` transitions from `row` on, both `(length,)`."""
        actions = self._column("action", row + length)[row : row + length]
        rewards = self._column("reward", row + length)[row : row + length].astype(np.float32)
        finite = np.isfinite(rewards)
        rewards[~finite] = 0
        findings.nan_rewards += int((~finite).sum())
        findings.unclipped_rewards += int((np.abs(rewards) > 1).sum())
        return actions.astype(np.int64), rewards

    def _column(self, name: str, stop: int) -> npt.NDArray[Any]:
        """Return at least the rows before `stop` of a short array."""
        column, array = self._columns[name], self._arrays[name]
        if stop > len(column):
            new = array.read(stop - len(column))
            limit = {"action": self._num_actions, "terminal": 2}.get(name)
            if limit is not None and len(wrong := np.flatnonzero((new < 0) | (new >= limit))):
                row, value = len(column) + int(wrong[0]), new[wrong[0]]
                raise DatasetError(f"{array.path} holds {name} {value} in row {row:,}; it must be in 0..{limit - 1}")
            column = self._columns[name] = np.concatenate([column, new])
        return column


def _rows_in_order(observations: Rows, count: int | None) -> int:
    """Return the number of rows that are neither left over from before nor the one that went before the first."""
    rows = observations.rows - (observations.rows == SHARD_ROWS)
    rows = rows if count is None else min(rows, count)
    if rows < 1:
        raise DatasetError(f"{observations.path} has no rows")
    return rows
