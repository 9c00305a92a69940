"""Frames in a file, raw or in compressed blocks; both are read by row number and give the same frames."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrainrl.data.cache_files import BLOCK, as_tensor, damaged
from pretrainrl.data.episode import FRAME_SHAPE

FRAME_BYTES = FRAME_SHAPE[0] * FRAME_SHAPE[1]


class Frames(Protocol):
    """Every frame of a cache by row number; row 0 is the zero frame."""

    def __len__(self) -> int:
        """Number of rows, the zero frame included."""
        ...

    def read(self, rows: Tensor) -> Tensor:
        """Return the frames at `rows`, `(R,)` int64 -> `(R, 84, 84)` uint8. May be called by several threads."""
        ...


class CheckedFrames:
    """Frames whose checksums are compared when each is first read, so that a cache larger than memory opens at once.

    Args:
        path: File of the frames, named in errors.
        frames: Frames, as they are in the file.
        checksums: CRC-32 of every frame, `(1 + N,)` uint32.

    Attributes:
        unchecked: The frames as they are in the file.
    """

    def __init__(self, path: Path, frames: Frames, checksums: npt.NDArray[np.uint32]) -> None:
        self._path, self.unchecked, self._checksums = path, frames, checksums
        self._checked = np.zeros(len(frames), np.bool_)

    def __len__(self) -> int:
        """Number of rows, the zero frame included."""
        return len(self.unchecked)

    def read(self, rows: Tensor) -> Tensor:
        """Return the frames at `rows`, `(R,)` int64 -> `(R, 84, 84)` uint8.

        Raises:
            DatasetError: A frame is damaged.
        """
        frames, numbers = self.unchecked.read(rows), rows.numpy()
        for index in np.flatnonzero(~self._checked[numbers]).tolist():
            number = int(numbers[index])
            if zlib.crc32(frames[index].numpy().data) != self._checksums[number]:
                raise damaged(self._path.parent, f"row {number} of {self._path.name} has another checksum")
        self._checked[numbers] = True
        return frames


class RawFrames:
    """An array mapped into memory.

    Args:
        array: Frames, `(1 + N, 84, 84)` uint8, read-only.
    """

    def __init__(self, array: npt.NDArray[np.uint8]) -> None:
        self.tensor = as_tensor(array)

    def __len__(self) -> int:
        """Number of rows, the zero frame included."""
        return len(self.tensor)

    def read(self, rows: Tensor) -> Tensor:
        """Return the frames at `rows`, `(R,)` int64 -> `(R, 84, 84)` uint8."""
        return self.tensor.index_select(0, rows)


class Lz4Frames:
    """Compressed blocks of 8 frames; those that are needed are decompressed, one after the other.

    Args:
        path: File of the frames, named in errors.
        content: Blocks, `(bytes,)` uint8.
        block_ends: End of each block, `(blocks,)` int64.
        starts: Row of each episode's first frame, `(E,)` int64.
        lengths: Number of transitions of each episode, `(E,)` int64.
    """

    def __init__(
        self,
        path: Path,
        content: npt.NDArray[np.uint8],
        block_ends: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        lengths: npt.NDArray[np.int64],
    ) -> None:
        from lz4.block import LZ4BlockError, decompress

        self._decompress, self._error = decompress, LZ4BlockError
        self._path, self._content = path, content.data
        self._offsets = np.concatenate([[0], block_ends])
        self._starts, self._sizes = starts, lengths + 1
        blocks = -(-self._sizes // BLOCK)
        self._first_blocks = blocks.cumsum() - blocks

    def __len__(self) -> int:
        """Number of rows, the zero frame included."""
        return 1 + int(self._sizes.sum())

    def read(self, rows: Tensor) -> Tensor:
        """Return the frames at `rows`, `(R,)` int64 -> `(R, 84, 84)` uint8.

        Raises:
            DatasetError: A block is damaged.
        """
        frames = torch.empty(len(rows), *FRAME_SHAPE, dtype=torch.uint8)
        target = frames.numpy().data.cast("B")
        held, content = -1, memoryview(b"")
        for run in self._runs(rows.numpy()):
            if run.size == 0:
                target[run.target : run.target + run.bytes] = bytes(run.bytes)
                continue
            if run.block != held:
                held, content = run.block, memoryview(self._block(run))
            target[run.target : run.target + run.bytes] = content[run.source : run.source + run.bytes]
        return frames

    def _block(self, run: _Run) -> bytes:
        try:
            content: bytes = self._decompress(self._content[run.start : run.stop], uncompressed_size=run.size)
        except self._error as error:
            raise damaged(self._path.parent, f"block {run.block} of {self._path.name} cannot be decompressed") from error
        if len(content) != run.size:
            raise damaged(self._path.parent, f"block {run.block} of {self._path.name} is of another size")
        return content

    def _runs(self, rows: npt.NDArray[np.int64]) -> Iterator[_Run]:
        """Yield runs of successive rows in the same block, ordered by block so that none is decompressed twice."""
        episodes = np.searchsorted(self._starts, rows, side="right") - 1  # -1 for the zero frame, overwritten below
        times = rows - self._starts[episodes]
        blocks = np.where(rows > 0, self._first_blocks[episodes] + times // BLOCK, -1)
        first = np.flatnonzero(np.append(True, (np.diff(blocks) != 0) | (np.diff(rows) != 1)))
        counts = np.diff(np.append(first, len(rows)))
        order = np.argsort(blocks[first], kind="stable")
        first, counts = first[order], counts[order]
        block, time = blocks[first], times[first]
        size = np.where(block < 0, 0, np.minimum(BLOCK, self._sizes[episodes[first]] - time // BLOCK * BLOCK))
        yield from map(
            _Run,
            block.tolist(),
            self._offsets[block].tolist(),
            self._offsets[block + 1].tolist(),
            (size * FRAME_BYTES).tolist(),
            (time % BLOCK * FRAME_BYTES).tolist(),
            (first * FRAME_BYTES).tolist(),
            (counts * FRAME_BYTES).tolist(),
        )


class _Run(NamedTuple):
    """Bytes that are copied from one block to one place; `size` 0 stands for zeros."""

    block: int
    start: int  # of the block, in the file
    stop: int
    size: int  # of the block, decompressed
    source: int  # within it
    target: int
    bytes: int


class Lz4Encoder:
    """Compresses the blocks of an episode on all cores, as small as it can: they are written once and read many times."""

    LEVEL = 9

    def __init__(self) -> None:
        import lz4.block

        self._lz4 = lz4.block
        self._pool = ThreadPoolExecutor(os.cpu_count())

    def encode(self, frames: npt.NDArray[np.uint8]) -> list[bytes]:
        """Return the blocks of `frames` `(T + 1, 84, 84)`."""
        return list(self._pool.map(self._compress, (frames[i : i + BLOCK] for i in range(0, len(frames), BLOCK))))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _compress(self, block: npt.NDArray[np.uint8]) -> Any:
        return self._lz4.compress(block.tobytes(), mode="high_compression", compression=self.LEVEL, store_size=False)
