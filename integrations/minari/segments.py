"""The finished segments of a collection under way, on disk until the dataset is published."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pretrainrl.data.episode import Episode
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.minari.store import MAIN_FILE, EpisodeWriter
from pretrainrl.paths import atomic_path, home, writable_folder
from pretrainrl.scratch import try_lock

_FACTS, _STATE = "facts.json", "state"


class Segments:
    """Segments `0, 1, ...`, each a folder with its episodes and the agent's state after it, which only the last keeps.

    Args:
        folder: of all segments.
        game: slug.
    """

    def __init__(self, folder: Path, game: str) -> None:
        self.folder, self._game = folder, game

    def latest(self) -> tuple[int, int, Path] | None:
        """Number of segments, episodes begun in them, folder of the agent's state; None where there is no segment."""
        folders = self._folders()
        if not folders:
            return None
        try:
            begun = int(json.loads((folders[-1] / _FACTS).read_text())["begun"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folders[-1]} is damaged ({error}); delete {self.folder} to start anew") from error
        return len(folders), begun, folders[-1] / _STATE

    def add(self, episodes: list[Episode], begun: int, save_state: Callable[[Path], None]) -> None:
        """Write the next segment, whole or not at all.

        Raises:
            InputError: when it cannot be written, for example because the disk is full.
        """
        before = self._folders()
        try:
            with atomic_path(self._path(len(before))) as temporary:
                (temporary / _STATE).mkdir(parents=True)
                save_state(temporary / _STATE)
                with EpisodeWriter(temporary) as writer:
                    for episode in episodes:
                        writer.write(episode)
                (temporary / _FACTS).write_text(json.dumps({"begun": begun}))
        except OSError as error:
            raise InputError(f"cannot write to {self.folder}: {error.strerror or error}; earlier segments are kept") from error
        for folder in before:
            shutil.rmtree(folder / _STATE, ignore_errors=True)

    def episodes(self) -> Iterator[Episode]:
        """Read the episodes of all segments, in order.

        Raises:
            InputError: when a file is damaged.
        """
        for folder in self._folders():
            try:
                with h5py.File(folder / MAIN_FILE, "r") as file:
                    for index in range(len(file)):
                        yield _episode(file[f"episode_{index}"], self._game)
            except (OSError, KeyError) as error:
                raise InputError(f"{folder} is damaged ({error}); delete {self.folder} to start anew") from error

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("segment-*"))

    def _path(self, number: int) -> Path:
        return self.folder / f"segment-{number:06d}"


@contextmanager
def segments_of(name: str, game: str, settings: Mapping[str, Any], *, resume: bool) -> Iterator[Segments]:
    """Yield the segments of the dataset `name` as it is collected with `settings`; they are deleted on success.

    They lie in `collect/` of `PRETRAINRL_HOME`.

    Raises:
        DatasetError: when there are some and `resume` is not set, or another process is adding to them.
    """
    key = hashlib.sha256(json.dumps([name, settings], sort_keys=True).encode()).hexdigest()[:8]
    folder = writable_folder(home() / "collect" / f"{name.rsplit('/', 1)[-1]}-{key}")
    segments = Segments(folder, game)
    with (folder / "lock").open("w") as lock:
        if not try_lock(lock) and sys.platform != "win32":
            raise DatasetError(f"another process is collecting {name} in {folder}")
        if segments.latest() is not None and not resume:
            raise DatasetError(f"a part of {name} is collected in {folder}; go on with --resume, or delete the folder")
        for unfinished in folder.glob(".segment-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield segments
        shutil.rmtree(folder, ignore_errors=True)


def _episode(group: h5py.Group, game: str) -> Episode:
    facts = {key: value.item() if isinstance(value, np.generic) else value for key, value in group.attrs.items()}
    names = {"frames": "observations", **{n: n for n in ("actions", "rewards", "terminations", "truncations")}}
    arrays = {argument: group[name][:] for argument, name in names.items()}
    metadata = {key: value for key, value in facts.items() if key not in ("id", "total_steps")}
    infos = {name: array[:] for name, array in group.get("infos", {}).items()}
    return Episode(**arrays, game=game, infos=infos, metadata=metadata)
