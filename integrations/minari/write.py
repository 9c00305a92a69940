"""Episodes become a Minari dataset: without loss, with all that it takes to make them again, and all of it or nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from importlib.metadata import version as package_version
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
from pretrainrl.data.hdf5 import mark_checked
from pretrainrl.data.packing import PackedEpisode, content_sha256
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import Game, find_game
from pretrainrl.integrations.minari.metadata import aside_of, check_dataset, check_id, dataset_folder, datasets_root, restore
from pretrainrl.integrations.minari.readable import MAIN_FILE
from pretrainrl.integrations.minari.store import EpisodeWriter
from pretrainrl.paths import absolute_folders, replace_durably, writable_folder
from pretrainrl.runs.folder import fingerprint_of, require_same
from pretrainrl.runs.lock import exclusive, lock_path, locked, remove_scratch, scratch_folder

_SCRATCH = ".write-"  # before the names of folders in which datasets are made

# Keys that take one of a few values, in the metadata of every published episode.
EPISODE_KEYS = {
    "ends_by": ("game_over", "time_out", "cut"),
    "final_observation": ("true", "repeated"),
}


@absolute_folders()
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

    Frames are stored without loss, one episode at a time as they come, in a hidden folder that is renamed at the end. A
    failure or an interruption leaves nothing, and the id stays free; what a killed process left is removed by the next one.
    Every episode gets the metadata `return`, `ends_by` and `final_observation`, if it does not have them.

    Args:
        name: Id of the dataset, `pretrainrl/atari/<game>-<kind>-v<version>`.
        episodes: Episodes of the id's game, at least one.
        sticky_actions: Probability of sticky actions in the environment that `recover_environment()` gives, in [0, 1].
        algorithm: Player, for people.
        description: Sentence for people; by default it is made from the rest.
        author: Author of the dataset.
        metadata: Further facts, JSON values; or a function that gives them once the last episode has been read.
        preprocessing: Way of the frames from the screen to 84x84, and what was done to the rewards.
        overwrite: Whether a dataset of the same id is replaced.

    Returns:
        The dataset, as Minari loads it.

    Raises:
        InputError: The id has another form, there are no episodes or they do not belong together, the folder cannot be
            written to, or another process writes the same dataset.
        UnknownNameError: The id's game does not exist.
        DatasetError: The id exists.
    """
    namespace, slug = check_id(name)
    game = find_game(slug)
    target, root = dataset_folder(name), datasets_root()
    if target.exists() and not overwrite:
        raise exists_error(name)
    writable_folder(root)
    env = single_env(game, sticky_actions)
    try:
        with closing(env), exclusive(_writing_lock(name), name), scratch_folder(root, _SCRATCH) as scratch:
            new = scratch / "new"
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
            move(new, target, overwrite=overwrite)
    except OSError as error:
        if target.exists() and not overwrite:  # another process was faster
            raise exists_error(name) from error
        raise InputError(f"cannot write {name} under {root}: {error.strerror or error}") from error
    return minari.load_dataset(name)


def exists_error(name: str) -> DatasetError:
    """Return the error for an id that is taken."""
    return DatasetError(f"{name} exists at {datasets_root() / name}; choose another version")


def sweep(name: str) -> None:
    """Remove what a process left that was killed when the dataset `name` was in its place already."""
    remove_scratch(datasets_root(), _SCRATCH)
    if _writing_lock(name).exists():
        with locked(_writing_lock(name), wait=False):
            pass  # whoever holds a lock removes its file


def is_written(name: str, key: str, settings: Mapping[str, Any], *, resume: bool) -> bool:
    """Whether the dataset `name` is here already, made with the same settings.

    Args:
        name: Minari id.
        key: Key of the dataset's metadata that holds the settings with which it was made.
        settings: Settings with which it would be made now.
        resume: Whether a dataset that is here is one to go on after, and not a mistake.

    Raises:
        DatasetError: It is here and `resume` is not set, it was made with other settings, or it is damaged.
    """
    if not dataset_folder(name).exists():
        return False
    if not resume:
        raise exists_error(name)
    sweep(name)
    require_same(settings, check_dataset(name).metadata.get(key, {}), name, "choose another --version", DatasetError)
    return True


def _writing_lock(name: str) -> Path:
    return datasets_root() / f".writing-{fingerprint_of(name)}.lock"


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


def move(new: Path, target: Path, *, overwrite: bool = False) -> None:
    """Put a finished dataset in its place.

    One that is there is set aside first, and comes back on failure; whoever looks for it next brings it back where the process
    is killed between the two.

    Raises:
        OSError: There is a dataset already and `overwrite` is not set, or the folder cannot be written to.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(target)
    restore(target)
    with locked(lock_path(target)):
        if overwrite and target.exists():
            shutil.rmtree(aside, ignore_errors=True)
            target.rename(aside)
        try:
            replace_durably(new, target)
        except BaseException:
            if aside.exists() and not target.exists():
                aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    if (file := target / "data" / MAIN_FILE).is_file():
        mark_checked(file)


def episode_metadata(episode: Episode | PackedEpisode) -> dict[str, Any]:
    """Return the metadata of an episode, with `return`, `ends_by` and `final_observation` added where they are missing.

    An episode that does not end with the game was cut, unless its source says otherwise.

    Raises:
        InputError: A value is none of `EPISODE_KEYS`, or contradicts the terminations.
    """
    over = bool(episode.terminations[-1])
    facts = {
        "return": float(episode.rewards.sum()),
        "ends_by": "game_over" if over else "cut",
        "final_observation": "true",
        **episode.metadata,
    }
    for key, values in EPISODE_KEYS.items():
        if facts[key] not in values:
            raise InputError(f"an episode's {key} must be one of {', '.join(values)}, not {facts[key]!r}")
    if over != (facts["ends_by"] == "game_over"):
        last = "a termination" if over else "no termination"
        raise InputError(f"an episode whose last transition is {last} cannot end by {facts['ends_by']!r}")
    return facts


def provenance(game: Game, env: Env[Any, Any], sticky_actions: float) -> dict[str, Any]:
    """Return everything needed to make the same observations again."""
    return {
        "game": game.slug,
        "rom": game.rom,
        "rom_md5": game.rom_md5,
        "ale_py_version": package_version("ale-py"),
        "action_meanings": list(env.unwrapped.get_action_meanings()),  # type: ignore[attr-defined]
        "sticky_actions": sticky_actions,
        "minari_version": package_version("minari"),
        "code_permalink": f"pretrainrl=={package_version('pretrainrl')}",
        "requirements": ["ale-py>=0.12", "gymnasium[atari]>=1.1"],
    }
