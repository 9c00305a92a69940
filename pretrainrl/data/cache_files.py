"""The files of a frame cache: their names, their types, and how they are mapped into memory.

A cache is a folder of raw arrays and a manifest. Row 0 of all of them is empty, the zero frame, so that what lies
before an episode's start is an index and not a mask. After it the episodes follow back to back with T + 1 rows each;
row `start + t` holds frame t and the action, reward and termination of transition t, and an episode's last row, its
final observation, has zeros there.

The frames are one of two kinds, or codecs. `raw` is that array. `lz4` compresses blocks of 8 frames, none of which
goes on into the next episode; the zero frame is in none of them.

Every byte is covered by a checksum: frames by one each, which is compared when the frame is first read, all other files by
the manifest's, and the manifest by its own.
"""

from __future__ import annotations

import mmap
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrainrl.errors import DatasetError
from pretrainrl.paths import replace_durably
from pretrainrl.runs.checkpoints import file_facts, parse_checked

Codec = Literal["raw", "lz4"]

FORMAT = 4
MANIFEST = "manifest.json"
JOURNAL = "journal"  # of a cache that is not finished
FRAMES = "frames"
CHECKSUMS = "frame_checksums"  # uint32: CRC-32 of each row's frame, decompressed
BLOCK_ENDS = "block_ends"  # int64: where each lz4 block ends in `frames`
BLOCK = 8  # frames; more compress better and cost more to read for a window
STEPS = {"actions": "uint8", "rewards": "float32", "terminations": "bool"}  # one per row
FEATURES = "features"  # of a cache of features
EPISODES = "episodes"  # int64 rows of (first row, transitions, last time observed, index of the game)
OWN = (MANIFEST, JOURNAL, FRAMES, CHECKSUMS, BLOCK_ENDS, *STEPS, EPISODES, FEATURES)  # all files that caches are made of


class Damaged(Exception):
    """A file of a cache is damaged; the message says how."""


def damaged(folder: Path, reason: str) -> DatasetError:
    """Return the error for a damaged cache, which says what to delete."""
    return DatasetError(f"the frame cache {folder} is damaged ({reason}); delete that folder and run again")


def partial_folder(folder: Path) -> Path:
    """Return the hidden folder in which the cache at `folder` is built."""
    return folder.with_name(f".{folder.name}.partial")


def own_files(folder: Path) -> list[Path]:
    """Return the files in `folder` that are a cache's, the manifest first; whatever else is there belongs to somebody else."""
    return [path for name in OWN if (path := folder / name).is_file() and not path.is_symlink()]


def put_in_place(partial: Path, folder: Path) -> None:
    """Make the finished cache in `partial` the one at `folder`, where a removed cache may have left files of somebody else."""
    if not folder.exists():
        replace_durably(partial, folder)
        return
    for path in reversed(own_files(partial)):  # the manifest last
        replace_durably(path, folder / path.name)
    partial.rmdir()


def remove_files(folder: Path) -> None:
    """Remove a cache's files, and the folder if there is nothing else in it; a link stays, and what it leads to."""
    if folder.is_symlink():
        return
    for path in own_files(folder):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a cache of frames or features.

    Raises:
        OSError: It cannot be read, for example because there is none.
        ValueError: It is damaged.
    """
    return parse_checked((folder / MANIFEST).read_text(encoding="utf-8"))


def checked_array(path: Path, dtype: str, shape: tuple[int, ...], facts: dict[str, int]) -> npt.NDArray[Any]:
    """Map a file into memory, read-only, and check all of it.

    Args:
        path: Path of the file.
        dtype: NumPy's name of the data type.
        shape: Shape of the array.
        facts: Size and checksum of the file when it was written, as `file_facts` returns them.

    Raises:
        Damaged: The file has another size or checksum.
    """
    array = map_array(path, dtype, shape, facts["bytes"])
    if file_facts(path) != facts:
        raise Damaged(f"{path.name} has another checksum than when it was written")
    return array


def map_array(path: Path, dtype: str, shape: tuple[int, ...], size: int) -> npt.NDArray[Any]:
    """Map a file into memory, read-only.

    `torch.from_file` would not do: its private mapping counts against memory, so a cache larger than RAM is refused, and its
    shared mapping needs the right to write.

    Args:
        path: Path of the file.
        dtype: NumPy's name of the data type.
        shape: Shape of the array.
        size: Size of the file in bytes.

    Raises:
        Damaged: The file has another size.
    """
    found = path.stat().st_size
    if found != size or found != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise Damaged(f"{path.name} has {found} bytes instead of {size}")
    with path.open("rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(buffer, dtype).reshape(shape)


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor of a read-only array, which nobody will write to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable.*", category=UserWarning)
        return torch.from_numpy(array)
