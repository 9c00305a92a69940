"""The whole objective comes out of a run as it was trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.windows import Batch
from pretrainrl.errors import InputError, WeightsError
from pretrainrl.pretraining import PretrainConfig, run
from pretrainrl.pretraining.trained import best_returns, load_objective


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    episodes = [*collect_episodes("pong", 40, n_envs=2), *collect_episodes("breakout", 40, n_envs=2)]
    return FrameCache.build(episodes, tmp_path_factory.mktemp("cache") / "frames")


@pytest.fixture(scope="module")
def finished(cache: FrameCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = PretrainConfig.of("cql_d", ("pretrainrl/atari/pong-random-v0",), steps=3, batch_size=4, backbone="nature")
    return run(config, tmp_path_factory.mktemp("runs") / "run", lambda: cache, device="cpu", progress=False)


def test_equals_the_last_checkpoint(finished: Path, cache: FrameCache):
    trained = load_objective(finished)
    assert trained.name == "cql_d" and trained.games == cache.games == ("breakout", "pong")
    checkpoint = torch.load(finished / "checkpoints/step_0000000003/state.pt", weights_only=True)["objective"]
    state = trained.objective.state_dict()
    assert state.keys() == checkpoint.keys() and all(torch.equal(state[key], checkpoint[key]) for key in state)
    assert not trained.objective.training and not any(p.requires_grad for p in trained.objective.parameters())


def test_loading_leaves_the_random_stream_alone(finished: Path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_objective(finished)
    assert torch.equal(torch.rand(1), expected)


def test_best_return_is_that_of_a_whole_episode(tmp_path: Path):
    episodes = list(collect_episodes("pong", 40, n_envs=4))
    length = len(episodes[0].actions)
    assert all(len(e.actions) == length == 10 for e in episodes)
    last = np.arange(length) == length - 1
    rewards = [np.full(length, value, np.float32) for value in (-3, -1, 0, 7)]
    rewards[1][:4] = 2
    whole = np.array([True, True, False, False])
    made = [
        replace(e, rewards=r, terminations=last & w, truncations=last & ~w)
        for e, r, w in zip(episodes, rewards, whole, strict=True)
    ]
    assert best_returns(FrameCache.build(made, tmp_path / "whole")) == [-2.0]  # 4 of +1, 6 of -1
    cut = [replace(e, terminations=last & False, truncations=last) for e in made]
    assert best_returns(FrameCache.build(cut, tmp_path / "cut")) == [10.0]


def test_what_is_no_finished_run(finished: Path, tmp_path: Path):
    with pytest.raises(InputError, match="holds no finished pre-training run"):
        load_objective(tmp_path)
    (tmp_path / "config.toml").write_bytes((finished / "config.toml").read_bytes())
    tensors = load_file(finished / "objective.safetensors")
    metadata: dict[str, Any] = {"games": '["breakout", "pong"]', "best_returns": "[1.0, 2.0]"}
    save_file(tensors, tmp_path / "objective.safetensors")
    with pytest.raises(WeightsError, match="does not say what its games are"):
        load_objective(tmp_path)
    del tensors["head.bias"]
    save_file(tensors, tmp_path / "objective.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match=r"head\.bias is missing"):
        load_objective(tmp_path)
    (tmp_path / "objective.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        load_objective(tmp_path)


def test_the_data_that_it_saw_is_scored_the_same(finished: Path, cache: FrameCache):
    from pretrainrl.data.sampler import WindowSampler

    trained = load_objective(finished)
    batch: Batch = WindowSampler(cache, trained.objective.window, 4, seed=0).batch(0)
    scores = trained.objective.action_scores(batch.observation(), batch.games)  # type: ignore[operator]
    assert scores.shape == (4, 18) and not scores.requires_grad
