"""How a frame cache is written: one process at a time, and from where the last one was stopped.

A cache grows in a hidden folder beside its place and is renamed when it is complete. A journal there says up to which
episode the files are on the disk, and with which checksums; who comes next cuts them to that and goes on, or begins anew
where a byte is not as it was written.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pretrainrl.data.cache_files import BLOCK_ENDS, CHECKSUMS, EPISODES, FORMAT, FRAMES, JOURNAL, MANIFEST, STEPS, Codec
from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.frame_codec import Lz4Encoder
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.runs.checkpoints import checked_json, file_facts, parse_checked

COMMIT_BYTES = 64 << 20  # of frames, between two entries in the journal


@runtime_checkable
class Resumable(Protocol):
    """Episodes of which the first need not be read again."""

    def after(self, count: int) -> Iterator[Episode]:
        """Yield the episodes after the first `count`."""
        ...


def write_cache(episodes: Iterable[Episode], partial: Path, codec: Codec, datasets: Sequence[str]) -> None:
    """Write all of `episodes` to the folder `partial`, going on with what is in it.

    A process that is stopped by a signal leaves what it has done; after an error nothing is left.

    Args:
        episodes: Episodes to write, at least one.
        partial: Folder in which the cache grows.
        codec: Codec of the frames.
        datasets: Minari ids of the datasets that the episodes are from.

    Raises:
        DatasetError: There are no episodes.
        InputError: Actions are no indices in 0..255.
        OSError: A file cannot be written.
    """
    try:
        with CacheWriter(partial, codec, datasets) as writer:
            done = len(writer.entries)
            for episode in episodes.after(done) if isinstance(episodes, Resumable) else islice(episodes, done, None):
                writer.add(episode)
            writer.finish()
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


class _Entry(NamedTuple):
    """An episode in the journal, and size and checksum of each file once it has been written."""

    length: int
    observed: int
    game: str
    files: dict[str, dict[str, int]]


class _GrowingFile:
    """A file that is appended to, whose size and checksum are known at any time.

    Args:
        path: Path of the file, which is made if need be.
        facts: Size and checksum of what is in it; None for a new file.
    """

    def __init__(self, path: Path, facts: dict[str, int] | None) -> None:
        self._file = path.open("ab")
        self.facts = dict(facts or {"bytes": 0, "crc32": 0})

    def write(self, data: Any) -> None:
        """Append bytes, or any contiguous array."""
        self.facts = {"bytes": self.facts["bytes"] + self._file.write(data), "crc32": zlib.crc32(data, self.facts["crc32"])}

    def sync(self) -> None:
        """Wait until all is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class CacheWriter:
    """The files of a cache that grows.

    Args:
        folder: Folder in which the cache grows; it is made if need be.
        codec: Codec of the frames. A folder begun with another codec, or for other datasets, is begun anew.
        datasets: Minari ids of the datasets that the episodes are from.

    Attributes:
        entries: Episodes written so far.
    """

    def __init__(self, folder: Path, codec: Codec, datasets: Sequence[str]) -> None:
        self._folder, self._codec = folder, codec
        self._facts = {"format": FORMAT, "codec": codec, "datasets": list(datasets)}
        self._header = checked_json(self._facts, indent=None)
        self._names = [FRAMES, CHECKSUMS, *STEPS, *([BLOCK_ENDS] if codec == "lz4" else [])]
        self.entries = self._resume()
        self._encoder = Lz4Encoder() if codec == "lz4" else None
        done = self.entries[-1].files if self.entries else {}
        self._files = {name: _GrowingFile(folder / name, done.get(name)) for name in self._names}
        self._journal = (folder / JOURNAL).open("ab")
        self._committed = len(self.entries)
        if not self.entries:
            self._write_header()

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._encoder:
            self._encoder.close()
        for file in self._files.values():
            file.close()
        self._journal.close()

    def add(self, episode: Episode) -> None:
        """Append an episode.

        Raises:
            InputError: An action does not fit into a byte.
        """
        if not 0 <= episode.actions.min() <= episode.actions.max() <= 255:
            raise InputError(f"episode of {episode.game!r}: actions must be indices in 0..255")
        self._write_frames(episode.frames)
        for name, dtype in STEPS.items():
            rows = np.append(getattr(episode, name), 0).astype(dtype)  # the final observation has no transition
            self._files[name].write(rows)
        files = {name: self._files[name].facts for name in self._names}
        self.entries.append(_Entry(len(episode), episode.last_observed, episode.game, files))
        before = self.entries[self._committed - 1].files[FRAMES]["bytes"] if self._committed else 0
        if files[FRAMES]["bytes"] - before >= COMMIT_BYTES:
            self._commit()

    def finish(self) -> None:
        """Write the table of episodes and the manifest, and remove the journal.

        Raises:
            DatasetError: There are no episodes.
        """
        if not self.entries:
            raise DatasetError("there are no episodes to cache")
        self._commit()
        games = sorted({entry.game for entry in self.entries})
        first_rows = np.cumsum([1, *(entry.length + 1 for entry in self.entries)])
        table = [
            (row, entry.length, entry.observed, games.index(entry.game))
            for row, entry in zip(first_rows[:-1].tolist(), self.entries, strict=True)
        ]
        (self._folder / EPISODES).write_bytes(np.array(table, np.int64).tobytes())
        manifest = {
            **self._facts,
            "games": games,
            "rows": int(first_rows[-1]),
            "episodes": len(table),
            "files": {**self.entries[-1].files, EPISODES: file_facts(self._folder / EPISODES)},
        }
        (self._folder / MANIFEST).write_text(checked_json(manifest), encoding="utf-8")
        (self._folder / JOURNAL).unlink()

    def _write_header(self) -> None:
        """Write the row that all files begin with, and the journal's first line."""
        zero = np.zeros((1, *FRAME_SHAPE), np.uint8)
        if self._codec == "raw":
            self._files[FRAMES].write(zero)
        self._files[CHECKSUMS].write(_checksums(zero))
        for name, dtype in STEPS.items():
            self._files[name].write(bytes(np.dtype(dtype).itemsize))
        self._journal.write(f"{self._header}\n".encode())
        self._journal.flush()

    def _write_frames(self, frames: npt.NDArray[np.uint8]) -> None:
        frames = np.ascontiguousarray(frames)
        self._files[CHECKSUMS].write(_checksums(frames))
        if self._encoder is None:
            self._files[FRAMES].write(frames)
            return
        ends = []
        for block in self._encoder.encode(frames):
            self._files[FRAMES].write(block)
            ends.append(self._files[FRAMES].facts["bytes"])
        self._files[BLOCK_ENDS].write(np.array(ends, np.int64))

    def _commit(self) -> None:
        """Note in the journal what is new, once it is on the disk."""
        for file in self._files.values():
            file.sync()
        for entry in self.entries[self._committed :]:
            self._journal.write(f"{checked_json(entry._asdict(), indent=None)}\n".encode())
        self._journal.flush()
        self._committed = len(self.entries)

    def _resume(self) -> list[_Entry]:
        """Cut the files to what the journal says is there and return that; clear the folder unless all of it is right."""
        try:
            header, *lines, _ = (self._folder / JOURNAL).read_text(encoding="utf-8").split("\n")  # the last one has no end
            entries = [_Entry(**parse_checked(line, indent=None)) for line in lines]
            done = {**entries[-1].files, JOURNAL: {"bytes": sum(len(line.encode()) + 1 for line in (header, *lines))}}
            if header == self._header:
                for name, facts in done.items():
                    os.truncate(self._folder / name, facts["bytes"])
                if all(file_facts(self._folder / name) == done[name] for name in self._names):
                    return entries
        except (FileNotFoundError, IndexError, KeyError, TypeError, ValueError):
            pass  # nothing there yet, or nothing finished, or a disk that lost what was on it
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return []


def _checksums(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Return the CRC-32 of each frame."""
    return np.array([zlib.crc32(frame) for frame in frames], np.uint32)
