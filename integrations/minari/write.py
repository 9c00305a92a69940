"""Episodes become a Minari dataset: lossless, self-describing, and all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import minari
import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces

from pretrainrl.data.collect import PREPROCESSING, single_env
from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.packing import PackedEpisode, content_sha256
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import Game, find_game
from pretrainrl.integrations.minari.metadata import check_id, datasets_root, episode_metadata, provenance
from pretrainrl.integrations.minari.store import EpisodeWriter
from pretrainrl.paths import writable_folder
from pretrainrl.runs.lock import scratch_folder


def write_dataset(
    name: str,
    episodes: Iterable[Episode | PackedEpisode],
    *,
    sticky_actions: float = 0.25,
    algorithm: str = "unknown",
    description: str | None = None,
    author: str = "pretrainrl",
    metadata: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    preprocessing: Mapping[str, Any] = PREPROCESSING,
    overwrite: bool = False,
) -> minari.MinariDataset:
    """Write `episodes` of one game as the Minari dataset `name` under `MINARI_DATASETS_PATH`.

    Frames are stored without loss, one episode at a time as they come, in a hidden folder that is renamed at the end: on
    any failure or interruption nothing is left and the id stays free; what a killed process left is removed by the next.
    Every episode gets the metadata `return`, `ends_by` and `final_observation`, if it does not have them.

    Args:
        name: id, `pretrainrl/atari/<game>-<kind>-v<version>`.
        episodes: at least one, all of the id's game.
        sticky_actions: of the environment that `recover_environment()` gives.
        algorithm: who played.
        description: a sentence for people; by default made from the rest.
        author: of the dataset.
        metadata: further facts, JSON values; or a function that gives them once the last episode has been read.
        preprocessing: how the frames and rewards were made.
        overwrite: replace a dataset of the same id.

    Raises:
        InputError: when the id, the episodes or the folder will not do.
        DatasetError: when the id exists.
    """
    namespace, slug = check_id(name)
    game = find_game(slug)
    target, root = datasets_root() / name, datasets_root()
    if target.exists() and not overwrite:
        raise exists_error(name)
    writable_folder(root)
    env = single_env(game, sticky_actions)
    try:
        with closing(env), scratch_folder(root, ".write-") as scratch:
            new, old = scratch / "new", scratch / "old"
            facts = {
                "dataset_id": name,
                "author": {author},
                "algorithm_name": algorithm,
                "description": description or f"Single 84x84 frames of {game.env_id}, lossless; played by: {algorithm}.",
                **provenance(game, env, sticky_actions),
                "preprocessing": dict(preprocessing),
            }
            _write(new / "data", episodes, game, env, lambda: {**_evaluated(metadata), **facts})
            create_namespaces(namespace)
            move(new, target, old if overwrite else None)
    except OSError as error:
        if target.exists() and not overwrite:  # another process was faster
            raise exists_error(name) from error
        raise InputError(f"cannot write {name} under {root}: {error.strerror or error}") from error
    return minari.load_dataset(name)


def exists_error(name: str) -> DatasetError:
    """Return the error for an id that is taken."""
    return DatasetError(f"{name} exists at {datasets_root() / name}; choose another version or delete it first")


def _evaluated(metadata: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None) -> Mapping[str, Any]:
    return metadata() if callable(metadata) else metadata or {}


def _write(
    data: Path,
    episodes: Iterable[Episode | PackedEpisode],
    game: Game,
    env: Env[Any, Any],
    facts: Callable[[], Mapping[str, Any]],
) -> None:
    """Write a dataset in Minari's layout to the folder `data`; `facts` is called when the episodes are written."""
    data.mkdir(parents=True)
    storage = MinariStorage.new(
        data,
        observation_space=Box(0, 255, FRAME_SHAPE, np.uint8),
        action_space=env.action_space,
        env_spec=env.spec,
        data_format="hdf5",
        jpeg_encoding=False,
    )
    with EpisodeWriter(data) as writer:
        for episode in episodes:
            _check(episode, game, int(env.action_space.n))  # type: ignore[attr-defined]
            writer.write(replace(episode, metadata=episode_metadata(episode)))
    if not writer.episodes:
        raise InputError(f"there are no episodes of {game.slug!r} to write")
    counts = {"total_episodes": writer.episodes, "total_steps": writer.steps}
    storage.update_metadata({**facts(), **counts, "content_sha256": content_sha256(writer.digests)})
    storage.update_metadata({"dataset_size": float(storage.get_size())})


def _check(episode: Episode | PackedEpisode, game: Game, num_actions: int) -> None:
    if episode.game != game.slug:
        raise InputError(f"an episode of {episode.game!r} does not belong into a dataset of {game.slug!r}")
    if not 0 <= episode.actions.min() <= episode.actions.max() < num_actions:
        raise InputError(f"actions of {game.slug!r} must be indices in 0..{num_actions - 1}")


def create_namespaces(namespace: str) -> None:
    """Make `namespace` and its parents known to Minari."""
    if namespace not in list_local_namespaces():
        with suppress(ValueError):  # another process was first
            create_namespace(namespace, description="Single 84x84 Atari frames, lossless")


def move(new: Path, target: Path, old: Path | None) -> None:
    """Put a finished dataset in its place; one that is there goes to `old`, and back on failure."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if old is not None and target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old is not None and old.exists():
            old.rename(target)
        raise
