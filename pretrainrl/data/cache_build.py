"""How a frame cache is written: one process at a time, and from where the last one was stopped.

A cache grows in a hidden folder beside its place and is renamed when it is complete. A journal there says up to which
episode the files are on the disk; who comes next cuts them to that and goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from pretrainrl.data.cache_files import BLOCK_ENDS, EPISODES, FORMAT, FRAMES, JOURNAL, MANIFEST, STEPS, Codec
from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.frame_codec import Lz4Encoder
from pretrainrl.errors import DatasetError, InputError

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
    """An episode in the journal, and the sizes of all files once it has been written."""

    length: int
    observed: int
    game: str
    sizes: list[int]


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
        self._header = json.dumps(self._facts)
        self._names = [FRAMES, *STEPS, *([BLOCK_ENDS] if codec == "lz4" else [])]
        self.entries = self._resume()
        self._encoder = Lz4Encoder() if codec == "lz4" else None
        self._files = {name: (folder / name).open("ab") for name in (*self._names, JOURNAL)}
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
            self._files[name].write(rows.tobytes())
        sizes = [self._files[name].tell() for name in self._names]
        self.entries.append(_Entry(len(episode), episode.last_observed, episode.game, sizes))
        before = self.entries[self._committed - 1].sizes[0] if self._committed else 0
        if sizes[0] - before >= COMMIT_BYTES:
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
            "files": {name: _facts(self._folder / name) for name in (*self._names, EPISODES)},
        }
        (self._folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
        (self._folder / JOURNAL).unlink()

    def _write_header(self) -> None:
        """Write the row that all files begin with, and the journal's first line."""
        if self._codec == "raw":
            self._files[FRAMES].write(bytes(FRAME_SHAPE[0] * FRAME_SHAPE[1]))
        for name, dtype in STEPS.items():
            self._files[name].write(bytes(np.dtype(dtype).itemsize))
        self._files[JOURNAL].write(f"{self._header}\n".encode())
        self._files[JOURNAL].flush()

    def _write_frames(self, frames: np.typing.NDArray[np.uint8]) -> None:
        if self._encoder is None:
            self._files[FRAMES].write(np.ascontiguousarray(frames).data.cast("B"))
            return
        position = self._files[FRAMES].tell()
        blocks = self._encoder.encode(frames)
        self._files[FRAMES].writelines(blocks)
        ends = position + np.cumsum([len(block) for block in blocks], dtype=np.int64)
        self._files[BLOCK_ENDS].write(ends.tobytes())

    def _commit(self) -> None:
        """Note in the journal what is new, once it is on the disk."""
        for name in self._names:
            self._files[name].flush()
            os.fsync(self._files[name].fileno())
        for entry in self.entries[self._committed :]:
            self._files[JOURNAL].write(f"{json.dumps(entry)}\n".encode())
        self._files[JOURNAL].flush()
        self._committed = len(self.entries)

    def _resume(self) -> list[_Entry]:
        """Cut the files to what the journal says is there and return that; without a usable journal, clear the folder."""
        try:
            header, *lines, _ = (self._folder / JOURNAL).read_text().split("\n")  # a line without its end is none
            entries = [_Entry(*json.loads(line)) for line in lines]
            sizes = dict(zip(self._names, entries[-1].sizes, strict=True))
            if header == self._header and all((self._folder / name).stat().st_size >= sizes[name] for name in sizes):
                for name, size in sizes.items():
                    os.truncate(self._folder / name, size)
                self._cut_journal(header, lines)
                return entries
        except (FileNotFoundError, IndexError, TypeError, ValueError):
            pass  # nothing there yet, or nothing finished, or a disk that lost what was on it
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return []

    def _cut_journal(self, header: str, lines: Sequence[str]) -> None:
        """Remove a line that was not finished."""
        os.truncate(self._folder / JOURNAL, sum(len(line.encode()) + 1 for line in (header, *lines)))


def _facts(path: Path) -> dict[str, int]:
    """Return size and checksum of a file; frames are too many to be checked whenever a cache is opened."""
    size = path.stat().st_size
    return {"bytes": size} if path.name == FRAMES else {"bytes": size, "crc32": zlib.crc32(path.read_bytes())}
