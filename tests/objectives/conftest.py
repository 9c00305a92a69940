"""Real frames of two games, small enough to be collected anew for every session."""

from itertools import chain

import pytest
import torch

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Batch

GAMES = ("boxing", "freeway")  # in both something moves in every frame, so no two windows are equal


@pytest.fixture(scope="session")
def frame_cache(tmp_path_factory):
    episodes = chain.from_iterable(collect_episodes(game, 160, n_envs=2, seed=1) for game in GAMES)
    return FrameCache.build(episodes, tmp_path_factory.mktemp("frames") / "cache")


@pytest.fixture
def real_batch(frame_cache):
    """Make the first batch of windows that an objective reads."""

    def make(objective, size: int = 8) -> Batch:
        return WindowSampler(frame_cache, objective.window, size, seed=0).batch(0)

    return make


@pytest.fixture(autouse=True)
def _seeded_and_on_one_thread():
    """Batches of eight gain nothing from a second thread and wait long for it on a busy machine."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
