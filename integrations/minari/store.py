"""How one episode lies in a dataset's HDF5 file, and where the episodes of an unfinished collection are kept.

Minari's own writer cuts every frame into small pieces and does not compress (7,345 bytes a frame), or encodes frames
as JPEG with errors of up to 42 grey levels. Chunks of 64 whole frames, compressed along time, are lossless, take
about 230 bytes a frame, and are read by plain Minari without knowing of it.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.packing import CHUNK_ROWS, GZIP_LEVEL, PackedEpisode
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.minari.readable import MAIN_FILE
from pretrainrl.paths import home, writable_folder
from pretrainrl.runs.checkpoints import check_folder, checked_folder
from pretrainrl.runs.folder import LOCK, fingerprint_of
from pretrainrl.runs.lock import exclusive


class EpisodeWriter:
    """Appends episodes to the file in which Minari's HDF5 storage keeps them.

    Args:
        data_path: Folder of the storage.

    Attributes:
        episodes: Number of episodes written.
        steps: Number of transitions written.
        digests: SHA-256 digest of each episode, in their order.
    """

    def __init__(self, data_path: Path) -> None:
        self._disk = _Disk(data_path / MAIN_FILE)
        self._file = h5py.File(self._disk, "a", track_order=True)
        self.episodes, self.steps = 0, 0
        self.digests: list[bytes] = []

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        self._disk.close()
        if exception is None:
            self._disk.check()

    def write(self, episode: Episode | PackedEpisode) -> None:
        """Write one episode, with its metadata as attributes of its group.

        Raises:
            OSError: The file cannot be written, for example because the disk is full.
        """
        packed = episode if isinstance(episode, PackedEpisode) else PackedEpisode.of(episode)
        group = self._file.create_group(f"episode_{self.episodes}")
        group.attrs.update({**episode.metadata, "id": self.episodes, "total_steps": len(episode)})
        _write_frames(group, packed)
        for name in ("actions", "rewards", "terminations", "truncations"):
            _write(group, name, getattr(episode, name))
        for name, array in episode.infos.items():
            _write(group.require_group("infos"), name, array)
        self.episodes += 1
        self.steps += len(episode)
        self.digests.append(packed.sha256)
        self._file.flush()
        self._disk.check()


class _Disk(io.FileIO):
    """A file whose writes seem to succeed, because HDF5 crashes the process when it cannot write what it has in memory.

    The first failure is kept for `check`, and all that is written after it is dropped.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+" if path.exists() else "x+")
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise the error of the first write that failed, if any did."""
        if self._failure is not None:
            raise self._failure

    def write(self, data: Any) -> int:
        """Write all of `data`, unless a write failed before."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and self._failure is None:
                done += super().write(view[done:])
        except OSError as error:
            self._failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the size of the file, unless a write failed before."""
        try:
            return super().truncate(size) if self._failure is None else 0
        except OSError as error:
            self._failure = error
            return 0


def _write_frames(group: h5py.Group, episode: PackedEpisode) -> None:
    count = len(episode) + 1
    frames = group.create_dataset(
        "observations",
        shape=(count, *FRAME_SHAPE),
        dtype=np.uint8,
        chunks=(min(CHUNK_ROWS, count), *FRAME_SHAPE),
        maxshape=(None, *FRAME_SHAPE),
        compression="gzip",
        compression_opts=GZIP_LEVEL,
    )
    for index, chunk in enumerate(episode.chunks):
        frames.id.write_direct_chunk((index * CHUNK_ROWS, 0, 0), chunk)


def _write(group: h5py.Group, name: str, array: npt.NDArray[Any]) -> None:
    # Short rows go into longer chunks: a chunk of 64 booleans would be all header.
    rows = CHUNK_ROWS if array.ndim > 1 else 4096
    group.create_dataset(
        name,
        data=array,
        chunks=(min(rows, len(array)), *array.shape[1:]),
        maxshape=(None, *array.shape[1:]),
        compression="gzip",
        compression_opts=GZIP_LEVEL,
    )


_FACTS, _STATE = "facts.json", "state"


def _segment(number: int) -> str:
    """Return the name of a segment's folder."""
    return f"segment-{number:06d}"


class CollectionSegments:
    """The segments of an unfinished collection, folders `segment-<number>` with the episodes that were played in each.

    The last segment also keeps the state of the agent after it, in a folder of its own.

    Args:
        folder: Folder of all segments.
        game: Slug of the game.
    """

    def __init__(self, folder: Path, game: str) -> None:
        self.folder, self._game = folder, game

    def latest(self) -> tuple[int, int, Path] | None:
        """Return how far the collection is.

        Returns:
            Number of segments, number of episodes begun in them, and folder of the agent's state; None where there is no
            segment.

        Raises:
            InputError: The last segment is damaged, or one before it is missing.
        """
        folders = self._folders()
        if not folders:
            return None
        self._check(folders[-1])
        self._check(folders[-1] / _STATE)
        return len(folders), int(json.loads((folders[-1] / _FACTS).read_text())["begun"]), folders[-1] / _STATE

    def add(self, episodes: list[Episode], begun: int, save_state: Callable[[Path], None]) -> None:
        """Write the next segment, whole or not at all.

        Args:
            episodes: Episodes of the segment.
            begun: Number of episodes begun so far.
            save_state: Function that writes the agent's state into the folder that it is given.

        Raises:
            InputError: The segment cannot be written, for example because the disk is full.
        """
        before = self._folders()
        try:
            with checked_folder(self.folder / _segment(len(before))) as temporary:
                with checked_folder(temporary / _STATE) as state:
                    save_state(state)
                with EpisodeWriter(temporary) as writer:
                    for episode in episodes:
                        writer.write(episode)
                (temporary / _FACTS).write_text(json.dumps({"begun": begun}))
        except OSError as error:
            raise InputError(f"cannot write to {self.folder}: {error.strerror or error}; earlier segments are kept") from error
        for folder in before:
            shutil.rmtree(folder / _STATE, ignore_errors=True)

    def episodes(self) -> Iterator[Episode]:
        """Yield the episodes of all segments, in their order.

        Raises:
            InputError: A segment is damaged or missing.
        """
        for folder in self._folders():
            self._check(folder)
            with h5py.File(folder / MAIN_FILE, "r") as file:
                for index in range(len(file)):
                    yield _episode(file[f"episode_{index}"], self._game)

    def _folders(self) -> list[Path]:
        folders = sorted(self.folder.glob("segment-*"))
        for number, folder in enumerate(folders):
            if folder.name != _segment(number):
                raise InputError(f"{self.folder} is damaged ({_segment(number)} is missing); delete it to begin anew")
        return folders

    def _check(self, folder: Path) -> None:
        check_folder(folder, f"delete {self.folder} to begin anew")


@contextmanager
def segments_of(name: str, game: str, settings: Mapping[str, Any], *, resume: bool) -> Iterator[CollectionSegments]:
    """Yield the segments of the dataset `name` as it is collected with `settings`; they are deleted on success.

    They lie in `collect/` of `PRETRAINRL_HOME`, in a folder of their own for each name and settings.

    Args:
        name: Minari id of the dataset.
        game: Slug of the game.
        settings: Settings of the collection, JSON values.
        resume: Whether a part may have been collected.

    Raises:
        DatasetError: A part has been collected and `resume` is not set.
        InputError: Another process collects the same, or the folder cannot be written to.
    """
    folder = home() / "collect" / f"{name.rsplit('/', 1)[-1]}-{fingerprint_of(name, settings)[:8]}"
    writable_folder(folder)
    with exclusive(folder / LOCK, str(folder)):
        segments = CollectionSegments(folder, game)
        if segments.latest() is not None and not resume:
            raise DatasetError(f"a part of {name} is collected in {folder}; go on with --resume, or choose another --version")
        for unfinished in folder.glob(".segment-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield segments
        for finished in folder.glob("segment-*"):
            shutil.rmtree(finished, ignore_errors=True)
    with suppress(OSError):  # unless the next process is faster
        folder.rmdir()


def _episode(group: h5py.Group, game: str) -> Episode:
    facts = {key: value.item() if isinstance(value, np.generic) else value for key, value in group.attrs.items()}
    names = {"frames": "observations", **{n: n for n in ("actions", "rewards", "terminations", "truncations")}}
    arrays = {argument: group[name][:] for argument, name in names.items()}
    metadata = {key: value for key, value in facts.items() if key not in ("id", "total_steps")}
    infos = {name: array[:] for name, array in group.get("infos", {}).items()}
    return Episode(**arrays, game=game, infos=infos, metadata=metadata)
