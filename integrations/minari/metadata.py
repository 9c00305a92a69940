"""What is recorded of a dataset and of each of its episodes: one spelling of the keys, checked when they are written."""

from __future__ import annotations

from importlib.metadata import version as package_version
from typing import Any

from gymnasium import Env

from pretrainrl.data.episode import Episode
from pretrainrl.data.packing import PackedEpisode
from pretrainrl.errors import InputError
from pretrainrl.games import Game

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
