"""Minari datasets of Atari frames are read as episodes, and frame caches are made of them."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import minari
import numpy as np

from pretrainrl.data.cache_files import FORMAT, Codec, partial_folder
from pretrainrl.data.caches import caches_folder, default_codec
from pretrainrl.data.episode import Episode
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import all_minimal_actions
from pretrainrl.integrations.minari.metadata import check_dataset, dataset_folder, datasets_root, local_ids, read_errors
from pretrainrl.integrations.minari.readable import check_readable, dataset_files
from pretrainrl.integrations.minari.recordings import build_dataset, is_recorded, recorded_ids
from pretrainrl.paths import absolute_folders
from pretrainrl.probing import Samples, take_samples
from pretrainrl.progress import progress_bar
from pretrainrl.runs.folder import fingerprint_of


class AtariDataset:
    """The episodes of one Minari dataset of single 84x84 grey frames; iterating reads them one at a time.

    Actions are numbers of the game's minimal action set, whatever the dataset counts them by.

    Attributes:
        minari: The dataset as Minari sees it.
        metadata: Metadata of the dataset as a whole.
        game: Slug of the game.
        num_actions: Size of the game's minimal action set.

    Raises:
        DatasetError: The frames have another shape, nobody knows what the actions mean, Minari has changed the dataset, or its
            files refer to others.
    """

    def __init__(self, dataset: minari.MinariDataset) -> None:
        self.minari = dataset
        with read_errors(dataset.id):
            self._readable = check_readable(dataset.id, Path(dataset.storage.data_path))
        self.metadata: dict[str, Any] = dataset.storage.metadata
        self.game = self._readable.actions.game
        self.num_actions = len(all_minimal_actions()[self.game])

    @property
    def id(self) -> str:
        """Minari id."""
        return str(self.minari.id)

    @property
    def games(self) -> tuple[str, ...]:
        """Slugs of the games in it: one."""
        return (self.game,)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the dataset's own files, and over what its actions mean where they are translated: 64 hex digits."""
        digest = hashlib.sha256()
        folder = Path(self.minari.storage.data_path)
        with read_errors(self.id):
            for path in dataset_files(folder):
                digest.update(path.relative_to(folder).as_posix().encode())
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
        if not self._readable.actions.is_minimal:
            digest.update(repr(self._readable.actions).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.minari)

    def __iter__(self) -> Iterator[Episode]:
        """Read the episodes.

        Raises:
            DatasetError: The file is damaged.
        """
        return self.after(0)

    def after(self, count: int) -> Iterator[Episode]:
        """Read the episodes after the first `count`.

        Raises:
            DatasetError: The file is damaged.
        """
        indices = self.minari.episode_indices[count:]
        with read_errors(self.id):
            facts = self.minari.storage.get_episode_metadata(indices)
            for data, metadata in zip(self.minari.iterate_episodes(indices), facts, strict=True):
                yield self._episode(data, metadata)

    def _episode(self, data: minari.EpisodeData, metadata: dict[str, Any]) -> Episode:
        facts = {key: value.item() if isinstance(value, np.generic) else value for key, value in metadata.items()}
        rewards = np.asarray(data.rewards, np.float32)
        if not np.isfinite(rewards).all():
            raise DatasetError("it has rewards that are no finite numbers")
        arrays = {name: array for name, array in (data.infos or {}).items() if isinstance(array, np.ndarray)}
        return Episode(
            frames=data.observations,
            actions=self._readable.actions.to_minimal(data.actions),
            rewards=rewards,
            terminations=np.asarray(data.terminations, np.bool_),
            truncations=np.asarray(data.truncations, np.bool_),
            game=self.game,
            infos={name: array for name, array in arrays.items() if array.dtype.kind in "biuf"},
            metadata={key: value for key, value in facts.items() if key not in ("id", "total_steps")},
        )


@absolute_folders()
def open_dataset(name: str) -> AtariDataset:
    """Open the local Minari dataset `name`; one that is not there is built first if its recording is registered.

    Raises:
        DatasetError: The dataset is neither here nor recorded (the nearest ids are named), is damaged, or is not of lossless
            84x84 grey frames; or its recording cannot be played.
        InputError: The disk has too little room for its frames.
    """
    if not (dataset_folder(name) / "data").is_dir():
        _build(name)
    check_dataset(name)
    with read_errors(name):
        dataset = minari.load_dataset(name)
    return AtariDataset(dataset)


def _build(name: str) -> None:
    """Build a dataset from its recording, with a bar that says so.

    Raises:
        DatasetError: No recording of it is registered.
    """
    if is_recorded(name):
        build_dataset(name, progress=True)
        return
    known = sorted({*local_ids(), *recorded_ids()})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there: {', '.join(known) or 'none'}"
    raise DatasetError(f"no dataset {name!r} under {datasets_root()} or among the recordings; {hint}")


def cache_datasets(names: Sequence[str], *, codec: Codec | None = None, progress: bool = False) -> FrameCache:
    """Return the frame cache of the datasets `names`, building it the first time.

    Caches lie in `frames/` of `PRETRAINRL_HOME` under a key made of the datasets' content, so the order of `names` does not
    matter and a dataset that changes gets a new cache. A build that was stopped goes on where it was.

    Args:
        names: Minari ids, at least one.
        codec: Storage of the frames, `raw` or `lz4`, which changes no window. None takes what is there, else `raw` if that
            fits into 60 % of the free memory and on the disk, and `lz4` if it does not.
        progress: Whether a progress bar is shown while the cache is built.

    Raises:
        InputError: `names` is empty, `codec` is unknown, or the folder cannot be written to.
        DatasetError: A dataset cannot be opened, as in `open_dataset`, or the cache is damaged.
    """
    if not names:
        raise InputError("name at least one dataset")
    datasets = [open_dataset(name) for name in sorted(set(names))]
    prints = [dataset.fingerprint for dataset in datasets]
    folders = {kind: caches_folder() / fingerprint_of(FORMAT, kind, *prints) for kind in get_args(Codec)}
    if codec is None:
        frames = sum(int(dataset.minari.total_steps) + len(dataset) for dataset in datasets)
        codec = _codec_there(folders) or default_codec(frames, caches_folder())
    elif codec not in folders:
        raise InputError(f"a frame cache is {' or '.join(map(repr, folders))}, not {codec!r}")
    ids = [dataset.id for dataset in datasets]
    return FrameCache.build(_Episodes(datasets, progress), folders[codec], codec=codec, datasets=ids)


class _Episodes:
    """The episodes of several datasets, one after the other, with a progress bar."""

    def __init__(self, datasets: Sequence[AtariDataset], progress: bool) -> None:
        self._datasets, self._progress = datasets, progress

    def __iter__(self) -> Iterator[Episode]:
        return self.after(0)

    def after(self, count: int) -> Iterator[Episode]:
        """Yield the episodes after the first `count`, which may be those of whole datasets."""
        with progress_bar(disable=not self._progress) as bar:
            total = sum(map(len, self._datasets))
            task = bar.add_task("frame cache, episodes", total=total, completed=count, note="")
            for dataset in self._datasets:
                bar.update(task, note=dataset.id)
                for episode in dataset.after(min(count, len(dataset))):
                    yield episode
                    bar.advance(task)
                count = max(0, count - len(dataset))


def _codec_there(folders: dict[Codec, Path]) -> Codec | None:
    """Return the codec of the cache that is there, finished or begun."""
    finished = [codec for codec, folder in folders.items() if folder.exists()]
    begun = [codec for codec, folder in folders.items() if partial_folder(folder).exists()]
    return next(iter([*finished, *begun]), None)


def read_samples(names: Sequence[str], *, limit: int = 8000) -> list[Samples]:
    """Take up to `limit` observations of each game, evenly spread over the datasets `names`, for `pretrainrl.probing.probe`.

    Args:
        names: Minari ids, at least one; several may be of the same game.
        limit: Greatest number of observations of each game, at least 1; one takes 28 kB of memory.

    Raises:
        InputError: No dataset is named, or `limit` is not positive.
        DatasetError: A dataset cannot be opened, as in `open_dataset`.
    """
    if not names or limit < 1:
        raise InputError(f"name at least one dataset and a limit of at least 1, not {list(names)} and {limit}")
    by_game: dict[str, list[AtariDataset]] = {}
    for name in dict.fromkeys(names):
        dataset = open_dataset(name)
        by_game.setdefault(dataset.game, []).append(dataset)
    return [_of_one_game(datasets, limit) for datasets in by_game.values()]


def _of_one_game(datasets: Sequence[AtariDataset], limit: int) -> Samples:
    steps = sum(int(dataset.minari.total_steps) for dataset in datasets)
    return take_samples(chain.from_iterable(datasets), every=-(-steps // limit))
