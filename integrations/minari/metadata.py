"""What is recorded of a dataset and of each of its episodes: one spelling of the keys, checked when they are written."""

from __future__ import annotations

import os
import re
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from gymnasium import Env

from pretrainrl.data.episode import Episode
from pretrainrl.data.packing import PackedEpisode
from pretrainrl.errors import InputError
from pretrainrl.games import Game, find_game

# Keys that take one of a few values, in the metadata of every published episode.
EPISODE_KEYS = {
    "ends_by": ("game_over", "time_out", "cut"),
    "final_observation": ("true", "repeated"),
}


def episode_metadata(episode: Episode | PackedEpisode) -> dict[str, Any]:
    """Return the metadata of an episode, with `return`, `ends_by` and `final_observation` added where they are missing.

    Without a word from its source, an episode that does not end with the game was cut.

    Raises:
        InputError: when a value is none of `EPISODE_KEYS`, or contradicts the terminations.
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


NAMESPACE = "pretrainrl/atari"
# Stricter than Minari's own, which crashes on an id without a version.
_ID = re.compile(r"(?P<namespace>[\w-]+(?:/[\w-]+)*)/(?P<game>[A-Za-z0-9]+)-(?P<kind>[\w-]+)-v(?P<version>\d+)")


def dataset_id(game: str, kind: str = "random", version: int = 0) -> str:
    """Return the id of a dataset of `game`, e.g. `pretrainrl/atari/mspacman-random-v0`.

    Raises:
        UnknownNameError: when no such game exists.
        InputError: when `kind` or `version` do not make an id.
    """
    name = f"{NAMESPACE}/{find_game(game).slug}-{kind}-v{version}"
    check_id(name)
    return name


def check_id(name: str) -> tuple[str, str]:
    """Return the namespace and the game's slug of the id `name`.

    Raises:
        InputError: when it is not of the form `<namespace>/<game>-<kind>-v<version>`.
        UnknownNameError: when no such game exists.
    """
    match = _ID.fullmatch(name)
    if match is None or len(match["namespace"]) < 2:
        raise InputError(
            f"{name!r} is not a dataset id; ids look like {NAMESPACE}/<game>-<kind>-v<version>, "
            f"e.g. {NAMESPACE}/pong-random-v0"
        )
    return match["namespace"], find_game(match["game"]).slug


def datasets_root() -> Path:
    """Folder of the local datasets: `MINARI_DATASETS_PATH`, by default `~/.minari/datasets`; not created.

    Minari's own function creates it, and crashes where that is not allowed.
    """
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root) if root is not None else Path.home() / ".minari" / "datasets"


def local_ids() -> list[str]:
    """Ids of the datasets under `datasets_root()`, sorted; whether they are whole is for `check_dataset` to say."""
    root = datasets_root()
    folders = (folder.parent.relative_to(root) for folder in root.glob("**/data") if folder.is_dir())
    return sorted(folder.as_posix() for folder in folders if not any(part.startswith(".") for part in folder.parts))


def kind_of(name: str) -> str | None:
    """Kind in the id `name`, e.g. `dqn-replay`; None for an id of another form."""
    match = _ID.fullmatch(name)
    return match["kind"] if match is not None else None
