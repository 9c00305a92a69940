"""Episodes laid out for random access, with every frame of every game in one file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from pretrainrl.data.cache_build import write_cache
from pretrainrl.data.cache_files import (
    BLOCK_ENDS,
    CHECKSUMS,
    EPISODES,
    FORMAT,
    FRAMES,
    MANIFEST,
    STEPS,
    Codec,
    Damaged,
    as_tensor,
    checked_array,
    damaged,
    map_array,
    own_files,
    partial_folder,
    put_in_place,
    read_manifest,
)
from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.frame_codec import CheckedFrames, Frames, Lz4Frames, RawFrames
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.paths import writable_folder
from pretrainrl.runs.folder import fingerprint_of
from pretrainrl.runs.lock import lock_path, locked

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class FrameCache:
    """Every frame of a set of episodes, read-only and mapped into memory; `FrameCache.open` opens it.

    The row `starts[e] + t` is frame t of episode e, and transition t where t < lengths[e]; row 0 is the zero frame.

    Attributes:
        folder: Folder of its files.
        games: Slugs of the games, sorted.
        frames: The 1 + N frames; `frames.read(rows)` returns `(R, 84, 84)` uint8.
        actions: Actions, `(1 + N,)` uint8.
        rewards: Raw score, `(1 + N,)` float32.
        terminations: Whether the game was over, `(1 + N,)` bool.
        starts: Row of each episode's first frame, `(E,)` int64.
        lengths: Number of transitions of each episode, `(E,)` int64.
        observed: Time of each episode's last real frame, `(E,)` int64: its length, or one less where the last frame only
            repeats the one before.
        game_ids: Index of each episode's game in `games`, `(E,)` int64.
    """

    folder: Path
    games: tuple[str, ...]
    frames: Frames
    actions: Tensor
    rewards: Tensor
    terminations: Tensor
    starts: Tensor
    lengths: Tensor
    observed: Tensor
    game_ids: Tensor

    @property
    def num_transitions(self) -> int:
        """Number of transitions of all episodes together."""
        return int(self.lengths.sum())

    @property
    def fingerprint(self) -> str:
        """Digest of games, frames, actions, rewards and ends, which does not depend on how the frames are stored."""
        files = read_manifest(self.folder)["files"]
        return fingerprint_of(self.games, *(files[name]["crc32"] for name in (*STEPS, EPISODES, CHECKSUMS)))

    @classmethod
    def build(
        cls, episodes: Iterable[Episode], folder: Path, *, codec: Codec = "raw", datasets: Sequence[str] = ()
    ) -> FrameCache:
        """Write `episodes`, one at a time, to a new cache at `folder` and open it.

        A cache that is there already is opened as it is, and one that was begun is finished, whatever `episodes` are: name
        folders by their content. While another process builds it, this one waits.

        Args:
            episodes: Episodes to write.
            folder: Folder of the cache.
            codec: Storage of the frames: `raw`, 7056 bytes a frame, or `lz4`, compressed without loss.
            datasets: Ids of the datasets that the episodes are from, for the record.

        Raises:
            DatasetError: There are no episodes, or the cache is damaged.
            InputError: `codec` is unknown, or `folder` cannot be written to.
        """
        if codec not in ("raw", "lz4"):
            raise InputError(f"a frame cache is 'raw' or 'lz4', not {codec!r}")
        if folder.exists():
            with suppress(_Missing):  # perhaps it is being removed: whoever holds the lock can tell
                return cls.open(folder)
        writable_folder(folder.parent)
        with locked(lock_path(folder)):
            if not own_files(folder):
                try:
                    write_cache(episodes, partial_folder(folder), codec, datasets)
                    put_in_place(partial_folder(folder), folder)
                except OSError as error:
                    raise InputError(f"cannot write the frame cache {folder}: {error.strerror or error}") from error
            return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> FrameCache:
        """Open the cache at `folder` and check every file, the frames by their size; each is checked when it is first read.

        Raises:
            DatasetError: There is none, or it is damaged; the message names what to delete.
        """
        try:
            cache = cls._read(folder, read_manifest(folder))
        except FileNotFoundError as error:
            if not folder.exists():
                raise _Missing(f"there is no frame cache at {folder}") from error
            raise _Missing(str(damaged(folder, f"{Path(error.filename).name} is missing"))) from error
        except Damaged as error:
            raise damaged(folder, str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder, f"{MANIFEST}: {error}") from error
        except OSError as error:
            raise DatasetError(f"cannot read the frame cache {folder}: {error.strerror or error}") from error
        with suppress(OSError):  # of somebody else, perhaps
            os.utime(folder)  # when it was last used
        return cache

    @classmethod
    def _read(cls, folder: Path, manifest: dict[str, Any]) -> FrameCache:
        if manifest["format"] != FORMAT:
            raise Damaged(f"it has format {manifest['format']}, not {FORMAT}")
        rows, files, codec = int(manifest["rows"]), manifest["files"], manifest["codec"]
        steps = {name: as_tensor(checked_array(folder / name, dtype, (rows,), files[name])) for name, dtype in STEPS.items()}
        checksums = checked_array(folder / CHECKSUMS, "uint32", (rows,), files[CHECKSUMS])
        table = checked_array(folder / EPISODES, "int64", (int(manifest["episodes"]), 4), files[EPISODES])
        columns = dict(zip(("starts", "lengths", "observed", "game_ids"), np.ascontiguousarray(table.T), strict=True))
        size = int(files[FRAMES]["bytes"])
        frames: Frames
        if codec == "raw":
            frames = RawFrames(map_array(folder / FRAMES, "uint8", (rows, *FRAME_SHAPE), size))
        elif codec == "lz4":
            content = map_array(folder / FRAMES, "uint8", (size,), size)
            ends = checked_array(folder / BLOCK_ENDS, "int64", (files[BLOCK_ENDS]["bytes"] // 8,), files[BLOCK_ENDS])
            frames = Lz4Frames(folder / FRAMES, content, ends, columns["starts"], columns["lengths"])
        else:
            raise Damaged(f"its frames are {codec!r}")
        tensors = {name: as_tensor(column) for name, column in columns.items()}
        checked = CheckedFrames(folder / FRAMES, frames, checksums)
        return cls(folder, tuple(manifest["games"]), checked, **steps, **tensors)


class _Missing(DatasetError):
    """There is no cache, or not all of it."""


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], depth: int = 2) -> Iterator[Result]:
    """Yield `read(item)` of all items in order, calling it up to `depth` of them ahead in one thread.

    What fails in the thread is raised here; closing the iterator ends the thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="windows") as thread:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(thread.submit(read, item))
                if len(ahead) > depth:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
