"""A pre-training run on real frames, to be stepped by hand."""

from __future__ import annotations

from pathlib import Path

from lightning_fabric import Fabric

from pretrainrl.data import FrameCache, collect_episodes
from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.pretraining.loop import Pretraining

TRANSITIONS = 1_000  # of each of two games


def make_cache(folder: Path) -> FrameCache:
    """Play two games at random and keep their frames in `folder`."""
    episodes = (episode for game in ("breakout", "pong") for episode in collect_episodes(game, TRANSITIONS, n_envs=4))
    return FrameCache.build(episodes, folder / "frames")


def make_run(cache: FrameCache, objective: str, *, preset: str, batch_size: int, precision: str) -> Pretraining:
    """Make the state of a run that takes its steps on the CPU."""
    config = PretrainConfig.of(
        objective, ("benchmark",), preset=preset, batch_size=batch_size, steps=1_000, precision=precision
    )
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]  # one of two strings
    return Pretraining(fabric, config, cache)
