"""Two games with the console's memory, really played."""

from collections.abc import Sequence

import pytest

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.probing import Samples, take_samples


@pytest.fixture(scope="session")
def played() -> dict[str, Sequence[Episode]]:
    return {game: list(collect_episodes(game, 480, n_envs=4, seed=2, ram=True)) for game in ("breakout", "pong")}


@pytest.fixture(scope="session")
def samples(played: dict[str, Sequence[Episode]]) -> list[Samples]:
    return [take_samples(episodes, every=2) for episodes in played.values()]
