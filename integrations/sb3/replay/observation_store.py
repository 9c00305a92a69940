"""Storage of the observations that agents have seen, which holds each frame once."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import get_obs_shape

from pretrainrl.data.caches import free_memory
from pretrainrl.errors import InputError

_GROWTH = 16  # room is added by a sixteenth


def check_memory(needed: float, what: str, advice: str) -> None:
    """Refuse what does not fit into memory, before anything is allocated.

    Raises:
        InputError: When it does not fit; the message says what is needed and what is free.
    """
    free = free_memory()
    if needed > free:
        raise InputError(f"{what} needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are available; {advice}")


class ObservationStore:
    """Observations before and after each step of several environments, in a ring of rows.

    Observations consist of parts: stacks of frames (stack, height, width) uint8 of their frames, RGB ones of three channels
    each, any other of one part. What follows a step is mostly what precedes the next one, and stacks that follow each other
    share all frames but one. That is compared, not assumed: what is read is what was written, whatever it was; only the
    memory that it takes depends on what is shared.

    Args:
        space: Space of one observation, anything but Dict and Tuple.
        rows: Number of steps that the ring holds.
        n_envs: Number of environments.
    """

    def __init__(self, space: Space[Any], rows: int, n_envs: int) -> None:
        self._shape, self._dtype = _shape(space), np.dtype(space.dtype)
        parts, part_shape = _parts(space)
        self._rows, self._n_envs, self._n_parts = rows, n_envs, parts
        # A new part for each step; a few more where episodes begin, at the latest when the ring is overwritten.
        room = 1 + (rows + 1 + parts) * n_envs
        self._items = np.zeros((room, *part_shape), self._dtype)  # the first stays zero: frames before an episode
        self._unused = np.arange(room - 1, 0, -1, dtype=np.int32)
        self._n_unused = len(self._unused)
        self._before = np.zeros((rows * n_envs, parts), np.int32)  # places of the parts
        self._after = np.zeros((rows * n_envs, parts), np.int32)
        self._newest = np.zeros((n_envs, parts, *part_shape), self._dtype)  # what followed the newest step

    @staticmethod
    def bytes_for(space: Space[Any]) -> float:
        """Return the bytes of memory that one step of one environment takes."""
        parts, part_shape = _parts(space)
        return float(np.prod(part_shape)) * np.dtype(space.dtype).itemsize + 8 * parts

    def write(self, row: int, before: NDArray[Any], after: NDArray[Any], full: bool) -> NDArray[np.bool_]:
        """Put the observations before and after a step, (n_envs, ...) each, into `row`, the one after that written last.

        Args:
            row: Number of the row.
            before: Observations that the agents acted on.
            after: Observations that followed; at an episode's end its final one.
            full: Whether the row holds an old step, which is overwritten.

        Returns:
            (n_envs,), whether the step goes on from the last one.
        """
        if full:
            self._release(row)
        here, last = self._places(row), self._places((row - 1) % self._rows)
        before, after = self._split(before), self._split(after)
        same = _equal(before, self._newest)
        places = self._after[last]
        if not same.all():
            known = same[:, None] | ~before.reshape(self._n_envs, self._n_parts, -1).any(axis=2)
            places = np.where(same[:, None], places, 0)
            self._add(before, known, places)
        self._before[here] = places

        shifted = _equal(after[:, :-1], before[:, 1:])
        known = np.zeros((self._n_envs, self._n_parts), np.bool_)
        known[shifted, :-1] = True
        following = np.zeros_like(places)
        following[:, :-1] = places[:, 1:]
        self._add(after, known, following)
        self._after[here] = following
        self._newest[:] = after
        return same

    def before(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the observations (B, ...) before the steps at `index`, (B,) int64 of row * n_envs + environment."""
        return self._items.take(self._before[index], axis=0).reshape(len(index), *self._shape)

    def after(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the observations (B, ...) after the steps at `index`, (B,) int64 of row * n_envs + environment."""
        return self._items.take(self._after[index], axis=0).reshape(len(index), *self._shape)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that it holds as arrays by name, without the room that was never used."""
        used = 1 + max(int(self._before.max()), int(self._after.max()))
        unused = self._unused[: self._n_unused]
        arrays = {"items": self._items[:used], "before": self._before, "after": self._after, "newest": self._newest}
        return {**arrays, "unused": unused[unused < used], "room": np.array(len(self._items))}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over the `arrays` of a store of the same sizes, or of one of fewer rows."""
        room, used = int(arrays["room"]), len(arrays["items"])
        self._items = np.zeros((room, *self._items.shape[1:]), self._dtype)
        self._items[:used] = arrays["items"]
        self._before, self._after = self._padded(arrays["before"]), self._padded(arrays["after"])
        self._newest = np.array(arrays["newest"])
        unused = np.concatenate([np.arange(room - 1, used - 1, -1), arrays["unused"]])
        self._unused, self._n_unused = np.zeros(room, np.int32), len(unused)
        self._unused[: len(unused)] = unused

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_shape", "_dtype", "_rows", "_n_envs", "_n_parts")
        return {"sizes": {name: getattr(self, name) for name in kept}, "arrays": self.arrays()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["sizes"])
        self._items = state["arrays"]["items"]
        self.restore(state["arrays"])

    def _places(self, row: int) -> slice:
        return slice(row * self._n_envs, (row + 1) * self._n_envs)

    def _padded(self, places: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return the places of as many rows as there are, the last of which are empty."""
        padded = np.zeros((self._rows * self._n_envs, self._n_parts), np.int32)
        padded[: len(places)] = places
        return padded

    def _split(self, observations: NDArray[Any]) -> NDArray[Any]:
        array = np.asarray(observations, self._dtype)
        if array.shape[1:] != self._shape and not (array.ndim == 1 and self._shape == (1,)):
            raise InputError(
                f"the buffer is for observations of shape {self._shape}, got {array.shape[1:]}; with VecNormalize, put it "
                "above all wrappers that change observations, because what is stored comes from below it"
            )
        parts: NDArray[Any] = array.reshape(self._newest.shape)
        return parts

    def _add(self, parts: NDArray[Any], known: NDArray[np.bool_], places: NDArray[np.int32]) -> None:
        """Store the parts that are not known, and write where into `places`, (n_envs, parts) both."""
        new = ~known
        count = int(new.sum())
        if count > self._n_unused:
            self._grow()
        fresh = self._unused[self._n_unused - count : self._n_unused][::-1].copy()
        self._n_unused -= count
        self._items[fresh] = parts[new]
        places[new] = fresh

    def _release(self, row: int) -> None:
        """Free the parts of a row that the next one, now the oldest, does not share."""
        old, following = self._places(row), self._places((row + 1) % self._rows)
        held = zip(self._before[old].tolist(), self._after[old].tolist(), self._before[following].tolist(), strict=True)
        for before, after, kept in held:
            free = {*before, *after}.difference(kept, (0,))
            self._unused[self._n_unused : self._n_unused + len(free)] = sorted(free, reverse=True)
            self._n_unused += len(free)

    def _grow(self) -> None:
        room = len(self._items)
        more = max(room // _GROWTH, self._n_envs * self._n_parts)
        advice = "observations share fewer frames than stacks do; lower buffer_size"
        check_memory(more * self._items[0].nbytes, "more room for observations", advice)
        self._items.resize((room + more, *self._items.shape[1:]), refcheck=False)  # in place: no view of it is ever handed out
        unused = np.zeros(room + more, np.int32)
        unused[:more] = np.arange(room + more - 1, room - 1, -1)
        unused[more : more + self._n_unused] = self._unused[: self._n_unused]
        self._unused, self._n_unused = unused, more + self._n_unused


def is_stack(space: Space[Any]) -> bool:
    """Return whether observations are frames (channels, height, width) uint8."""
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[0] < space.shape[1]


def check_discrete(space: Space[Any], what: str) -> None:
    """Refuse spaces of numbers that Stable-Baselines3 misreads: those that do not count from 0, and tables of numbers.

    Args:
        space: Space, of which entries are looked at if it is a Dict.
        what: Word for what it is the space of, for the error.

    Raises:
        InputError: When it is such a space.
    """
    for each in space.values() if isinstance(space, Dict) else [space]:
        if isinstance(each, Discrete | MultiDiscrete) and np.any(each.start):
            raise InputError(f"{what} must count from 0, got {each}; subtract its start in a wrapper")
        if isinstance(each, MultiDiscrete) and each.nvec.ndim > 1:
            raise InputError(f"{what} must be a single row of numbers, got {each}; flatten it in a wrapper")


def _shape(space: Space[Any]) -> tuple[int, ...]:
    check_discrete(space, "observations")
    shape = get_obs_shape(space)
    if isinstance(shape, dict):
        raise InputError(f"expected observations without nested dictionaries, got {space}")
    return shape


def _parts(space: Space[Any]) -> tuple[int, tuple[int, ...]]:
    """Return the number of an observation's parts, and their shape."""
    shape = _shape(space)
    if not is_stack(space):
        return 1, shape
    return (shape[0] // 3, (3, *shape[1:])) if shape[0] % 3 == 0 else (shape[0], shape[1:])


def _equal(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each environment's arrays, (n_envs, ...) both, are equal: (n_envs,)."""
    equal: NDArray[np.bool_] = (one == other).reshape(len(one), -1).all(axis=1)
    return equal
