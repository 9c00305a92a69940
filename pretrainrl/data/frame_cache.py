"""Episodes laid out for random access: every frame of every game in one memory-mapped file.

A cache is a folder of raw arrays and a manifest. Row 0 of all of them is empty, the zero frame, so that what lies
before an episode's start is an index and not a mask. After it the episodes follow back to back with T + 1 rows each;
row `start + t` holds frame t and the action, reward and termination of transition t, and an episode's last row, its
final observation, has zeros there.
"""

from __future__ import annotations

import json
import mmap
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.paths import atomic_path, writable_folder

MANIFEST = "manifest.json"
FORMAT = 2

# Name of each per-row file and what one row of it is. Only the frames are too large to be checked by content.
_ROWS: dict[str, tuple[str, tuple[int, ...]]] = {
    "frames": ("uint8", FRAME_SHAPE),
    "actions": ("uint8", ()),
    "rewards": ("float32", ()),
    "terminations": ("bool", ()),
}
_EPISODES = "episodes"  # int64 rows of (first row, transitions, last time observed, index of the game)


@dataclass(frozen=True, eq=False)
class FrameCache:
    """Every frame of a set of episodes, opened by `FrameCache.open`; read-only.

    Attributes:
        folder: where it is.
        games: slugs, sorted.
        frames: `(1 + N, 84, 84)` uint8, mapped into memory; row 0 is the zero frame. Writing to it crashes.
        actions: `(1 + N,)` uint8.
        rewards: `(1 + N,)` float32, raw score.
        terminations: `(1 + N,)` bool.
        starts: `(E,)` int64, row of each episode's first frame.
        lengths: `(E,)` int64, transitions of each episode.
        observed: `(E,)` int64, time of each episode's last real frame: its length, or one less where the final frame
            only repeats the one before.
        game_ids: `(E,)` int64, index of each episode's game in `games`.
    """

    folder: Path
    games: tuple[str, ...]
    frames: Tensor
    actions: Tensor
    rewards: Tensor
    terminations: Tensor
    starts: Tensor
    lengths: Tensor
    observed: Tensor
    game_ids: Tensor

    @property
    def num_transitions(self) -> int:
        """Transitions of all episodes."""
        return int(self.lengths.sum())

    @classmethod
    def build(cls, episodes: Iterable[Episode], folder: Path) -> FrameCache:
        """Write `episodes`, one at a time, to a new cache at `folder` and open it.

        A cache that is there already, or that another process finishes first, is opened as it is: name folders
        by their content.

        Raises:
            DatasetError: when there are no episodes.
            InputError: when `folder` cannot be written to.
        """
        if folder.exists():
            return cls.open(folder)
        writable_folder(folder.parent)
        try:
            with atomic_path(folder) as temporary:
                temporary.mkdir()
                _write(episodes, temporary)
        except OSError as error:
            if not (folder / MANIFEST).exists():
                raise InputError(f"cannot write the frame cache {folder}: {error.strerror or error}") from error
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> FrameCache:
        """Open the cache at `folder`, checking the size of every file and the content of all but the frames.

        Raises:
            DatasetError: when there is none or it is damaged; the message names what to delete.
        """
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            if manifest["format"] != FORMAT:
                raise _Damaged(f"it has format {manifest['format']}, not {FORMAT}")
            rows, files = int(manifest["rows"]), manifest["files"]
            arrays = {
                name: _map(folder / name, np.dtype(dtype), (rows, *shape), files[name])
                for name, (dtype, shape) in _ROWS.items()
            }
            table = _map(folder / _EPISODES, np.dtype("int64"), (int(manifest["episodes"]), 4), files[_EPISODES])
            columns = zip(("starts", "lengths", "observed", "game_ids"), table.T.contiguous(), strict=True)
            return cls(folder, tuple(manifest["games"]), **arrays, **dict(columns))
        except FileNotFoundError as error:
            if not folder.exists():
                raise DatasetError(f"there is no frame cache at {folder}") from error
            raise _delete(folder, f"{Path(error.filename).name} is missing") from error
        except _Damaged as error:
            raise _delete(folder, str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise _delete(folder, f"{MANIFEST} cannot be read") from error
        except OSError as error:
            raise DatasetError(f"cannot read the frame cache {folder}: {error.strerror or error}") from error


class _Damaged(Exception):
    """What is wrong with one file of a cache."""


def _delete(folder: Path, reason: str) -> DatasetError:
    return DatasetError(f"the frame cache {folder} is damaged ({reason}); delete that folder and run again")


def _write(episodes: Iterable[Episode], folder: Path) -> None:
    """Write the rows of `episodes`, then the table and the manifest."""
    files = {name: _File(folder / name) for name in (*_ROWS, _EPISODES)}
    rows, table = 1, []
    try:
        for name, (dtype, shape) in _ROWS.items():
            files[name].write(np.zeros(shape, dtype))
        for episode in episodes:
            if not 0 <= episode.actions.min() <= episode.actions.max() <= 255:
                raise InputError(f"episode of {episode.game!r}: actions must be indices in 0..255")
            for name, (dtype, _) in _ROWS.items():
                array = getattr(episode, name).astype(dtype, copy=False)
                files[name].write(array)
                if name != "frames":
                    files[name].write(np.zeros(1, dtype))  # the final observation's row
            table.append((rows, len(episode), episode.last_observed, episode.game))
            rows += len(episode) + 1
        if not table:
            raise DatasetError("there are no episodes to cache")
        games = sorted({game for *_, game in table})
        files[_EPISODES].write(np.array([(*numbers, games.index(game)) for *numbers, game in table]))
    finally:
        for file in files.values():
            file.close()
    manifest = {
        "format": FORMAT,
        "games": games,
        "rows": rows,
        "episodes": len(table),
        "files": {name: {"bytes": file.bytes, "crc32": file.crc32} for name, file in files.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


class _File:
    """A file written from start to end, with its size and checksum."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.bytes, self.crc32 = 0, 0

    def write(self, array: npt.NDArray[Any]) -> None:
        data = np.ascontiguousarray(array).data.cast("B") if array.ndim else array.tobytes()
        self._file.write(data)
        self.bytes += len(data)
        self.crc32 = zlib.crc32(data, self.crc32)

    def close(self) -> None:
        self._file.close()


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], expected: dict[str, int]) -> Tensor:
    """Map a file of an expected size into memory, read-only.

    Not `torch.from_file`: its private mapping counts against memory, so a cache larger than RAM is refused, and its
    shared mapping needs the right to write.
    """
    size = path.stat().st_size
    if size != expected["bytes"] or size != dtype.itemsize * int(np.prod(shape)):
        raise _Damaged(f"{path.name} has {size} bytes instead of {expected['bytes']}")
    with path.open("rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if path.name != "frames" and zlib.crc32(buffer) != expected["crc32"]:
        raise _Damaged(f"{path.name} has another checksum than when it was written")
    array = np.frombuffer(buffer, dtype).reshape(shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
        return torch.from_numpy(array)
