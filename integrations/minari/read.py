"""Minari datasets of Atari frames, read as episodes; frame caches made of them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import minari
import numpy as np

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.frame_cache import FORMAT, FrameCache
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game
from pretrainrl.integrations.minari.ids import datasets_root, local_ids
from pretrainrl.paths import home


class AtariDataset:
    """The episodes of one Minari dataset of single 84x84 grey frames; iterating reads them one at a time.

    Attributes:
        minari: the dataset as Minari sees it.
        metadata: of the dataset as a whole.
        game: slug.
    """

    def __init__(self, dataset: minari.MinariDataset) -> None:
        self.minari = dataset
        self.metadata: dict[str, Any] = dataset.storage.metadata
        space = dataset.observation_space
        if space.shape != FRAME_SHAPE or space.dtype != np.uint8 or dataset.storage.jpeg_encoding:
            coding = "JPEG-encoded (lossy)" if dataset.storage.jpeg_encoding else "raw"
            raise DatasetError(
                f"{dataset.id} holds {coding} {space.dtype} observations of shape {space.shape}; "
                f"what is needed are lossless uint8 frames of shape {FRAME_SHAPE}, as `pretrainrl collect` makes them"
            )
        self.game = _game_of(dataset, self.metadata)

    @property
    def id(self) -> str:
        """Minari's id."""
        return str(self.minari.id)

    @property
    def games(self) -> tuple[str, ...]:
        """Slugs of the games in it."""
        return (self.game,)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all of the dataset's files, 64 hex digits."""
        digest = hashlib.sha256()
        folder = Path(self.minari.storage.data_path)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(path.relative_to(folder).as_posix().encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def __len__(self) -> int:
        """Episodes."""
        return len(self.minari)

    def __iter__(self) -> Iterator[Episode]:
        """Read the episodes.

        Raises:
            DatasetError: when the file is damaged.
        """
        try:
            facts = self.minari.storage.get_episode_metadata(self.minari.episode_indices)
            for data, metadata in zip(self.minari.iterate_episodes(), facts, strict=True):
                yield self._episode(data, metadata)
        except (OSError, KeyError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise _damaged(self.id, error) from error

    def _episode(self, data: minari.EpisodeData, metadata: dict[str, Any]) -> Episode:
        facts = {key: value.item() if isinstance(value, np.generic) else value for key, value in metadata.items()}
        return Episode(
            frames=data.observations,
            actions=np.asarray(data.actions, np.int64),
            rewards=np.asarray(data.rewards, np.float32),
            terminations=np.asarray(data.terminations, np.bool_),
            truncations=np.asarray(data.truncations, np.bool_),
            game=self.game,
            infos=data.infos or {},
            metadata={key: value for key, value in facts.items() if key not in ("id", "total_steps")},
        )


def open_dataset(name: str) -> AtariDataset:
    """Open the local Minari dataset `name`.

    Raises:
        DatasetError: when it is not there (with the nearest ids), damaged, or not of lossless 84x84 grey frames.
    """
    path = datasets_root() / name
    if not (path / "data").is_dir():
        known = local_ids()
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there: {', '.join(known) or 'none'}"
        raise DatasetError(f"no dataset {name!r} under {datasets_root()}; {hint}")
    try:
        dataset = minari.load_dataset(name)
    except (OSError, KeyError, ValueError, AssertionError) as error:
        raise _damaged(name, error) from error
    return AtariDataset(dataset)


def cache_datasets(names: Sequence[str]) -> FrameCache:
    """Return the frame cache of the datasets `names`, building it the first time.

    Caches lie in `frames/` of `PRETRAINRL_HOME` under a key made of the datasets' content, so the order of `names`
    does not matter and a dataset that changes gets a new cache.

    Raises:
        InputError: when `names` is empty or the folder cannot be written to.
        DatasetError: as `open_dataset`, and when the cache is damaged.
    """
    if not names:
        raise InputError("name at least one dataset")
    datasets = [open_dataset(name) for name in sorted(set(names))]
    key = json.dumps([FORMAT, *(dataset.fingerprint for dataset in datasets)])
    folder = home() / "frames" / hashlib.sha256(key.encode()).hexdigest()[:16]
    return FrameCache.build((episode for dataset in datasets for episode in dataset), folder)


def _game_of(dataset: minari.MinariDataset, metadata: dict[str, Any]) -> str:
    """Slug of the game: as `publish` recorded it, else from the environment's id."""
    name = metadata.get("game") or getattr(dataset.env_spec, "id", None)
    if name is None:
        raise DatasetError(f"{dataset.id} does not say which game it is of")
    return find_game(str(name)).slug


def _damaged(name: str, error: Exception) -> DatasetError:
    path = datasets_root() / name
    return DatasetError(f"dataset {name} cannot be read ({error}); delete {path} and collect or download it again")
