"""Frames to measure with: random play of several games, collected once and kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from pretrainrl.data import Episode, collect_episodes

# Games of many kinds: sparse and busy pictures, slow and fast ones.
GAMES = ("pong", "breakout", "space_invaders", "ms_pacman", "seaquest", "qbert", "riverraid", "battle_zone", "enduro")


def default_folder() -> Path:
    """Where frames and caches are kept between runs."""
    return Path(tempfile.gettempdir()) / "pretrainrl-benchmarks"


def episodes(steps: int, games: int) -> Iterator[Episode]:
    """Play each of the first `games` games for `steps` steps."""
    for game in GAMES[:games]:
        yield from collect_episodes(game, steps, n_envs=2, seed=0)
