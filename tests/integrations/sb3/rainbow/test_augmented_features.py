"""Rainbow's `augment=True` on features that were encoded beforehand: maps shifted by a cell, and views drawn at random."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict
from sb3_agents import CHANNEL_FIRST, CHANNEL_LAST, RandomFrames, frames, same, weights
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from pretrainrl import make_encoder
from pretrainrl.data.augment import augment
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import (
    AtariVecEnv,
    NeckExtractor,
    Rainbow,
    VecEncodeObservation,
    neck_policy_kwargs,
)
from pretrainrl.integrations.sb3.encoding.vec_encode import FeatureViews, one_view, random_view
from pretrainrl.integrations.sb3.rainbow.augmentation import augment_preprocessed, augment_stored, can_augment
from pretrainrl.networks.necks import SpatialMLP, SpatialNeck

ENCODER = "random.nature"
SMALL: dict[str, Any] = {
    "buffer_size": 100,
    "learning_starts": 32,
    "batch_size": 4,
    "train_freq": 2,
    "seed": 0,
    "device": "cpu",
}
MAP = Box(-np.inf, np.inf, (3, 4, 5), np.float16)


def encoded(n_envs: int = 2, space: Box = CHANNEL_FIRST, **arguments: Any) -> VecEncodeObservation:
    games = DummyVecEnv([lambda: RandomFrames(space)] * n_envs)
    games.seed(0)
    return VecEncodeObservation(games, ENCODER, **{"device": "cpu", "dtype": "float32", **arguments})


def noops(env: Any) -> Any:
    return np.zeros(env.num_envs, np.int64)


def agent_on(env: Any, **arguments: Any) -> Rainbow:
    return Rainbow("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(features_dim=8), **{**SMALL, **arguments})


def close(features: Any, expected: Any) -> bool:
    return bool(np.allclose(np.asarray(features, np.float32), np.asarray(expected, np.float32), rtol=2e-3, atol=1e-5))


# --- feature maps are shifted


def moved(feature_map: Tensor, down: int, right: int) -> Tensor:
    """By definition: each cell is the one so far below and to the right, or else at the border."""
    result = torch.empty_like(feature_map)
    _, height, width = feature_map.shape
    for y in range(height):
        for x in range(width):
            result[:, y, x] = feature_map[:, min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)]
    return result


def test_each_map_is_shifted_by_one_cell_in_its_own_way() -> None:
    torch.manual_seed(0)
    one = torch.randn(MAP.shape)
    ways = {(down, right): moved(one, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    batch = augment_preprocessed(one.expand(1800, -1, -1, -1), MAP)
    counts = Counter(way for row in batch for way, expected in ways.items() if torch.equal(row, expected))
    assert sum(counts.values()) == 1800 and len(counts) == 9
    assert max(abs(count - 200) for count in counts.values()) < 60, "4.5 standard deviations"


def test_observations_and_next_observations_move_apart_and_the_networks_see_the_same() -> None:
    env: Any = encoded(features="map")
    agent = agent_on(env, augment=True)
    stored = torch.as_tensor(env.reset())
    torch.manual_seed(0)
    changed: Any = agent.q_net.encode(torch.cat([stored, stored]), augment=True)
    assert changed.dtype == torch.float32 and changed.shape == (4, *env.observation_space.shape)
    assert not torch.equal(changed[:2], changed[2:])
    plain: Any = agent.q_net.encode(torch.cat([stored, stored]))
    assert torch.equal(plain, torch.cat([stored, stored]).float()), "the stored maps are as they were"
    for row, before in zip(changed, plain, strict=True):
        assert any(torch.equal(row, moved(before, down, right)) for down in (-1, 0, 1) for right in (-1, 0, 1))


# --- views


@pytest.mark.parametrize("features", [None, "flat", "pooled", "map"])
def test_the_first_view_is_the_plain_encoding(features: Any) -> None:
    env, plain = encoded(features=features, views=3), encoded(features=features)
    shape: Any = plain.observation_space.shape
    space = env.observation_space
    assert isinstance(space, FeatureViews) and space.shape == (4, *shape) and space.dtype == np.float16
    assert one_view(space) == plain.observation_space and one_view(CHANNEL_FIRST) is CHANNEL_FIRST
    observations: Any = env.reset()
    expected: Any = plain.reset()
    for _ in range(4):
        assert observations.dtype == np.float16 and observations[0] in space and observations.shape == (2, 4, *shape)
        assert close(observations[:, 0], expected)
        ways = [observations[env, view].tobytes() for env in range(2) for view in range(4)]
        assert len(set(ways)) == 8
        (observations, *_, infos), (expected, *_, plain_infos) = env.step(noops(env)), plain.step(noops(plain))
        for info, plain_info in zip(infos, plain_infos, strict=True):
            assert ("terminal_observation" in info) == ("terminal_observation" in plain_info)
            if "terminal_observation" in info:
                assert info["terminal_observation"].shape == (4, *shape)
                assert close(info["terminal_observation"][0], plain_info["terminal_observation"])


def test_views_are_of_augmented_frames() -> None:
    encoder, obs = make_encoder(ENCODER), frames(2)
    torch.manual_seed(7)
    views = encoded(features="map", views=2).encode(obs)
    torch.manual_seed(7)
    copies = augment(torch.as_tensor(obs).repeat_interleave(2, dim=0))
    assert close(views[:, 1:].reshape(4, *encoder.feature_map_shape), encoder.map_floats(copies))
    last = encoded(space=CHANNEL_LAST, features="map", views=2)
    torch.manual_seed(7)
    assert np.array_equal(last.encode(np.moveaxis(obs, 1, -1)), views)


def test_one_forward_pass_a_step(batches: list[int]) -> None:
    env = encoded(3, views=2)
    env.reset()
    for step in range(1, 7):
        batches.clear()
        env.step(noops(env))
        assert batches == ([18] if step % 3 == 0 else [9])


def test_lost_lives_are_not_encoded_twice(batches: list[int]) -> None:
    env: Any = VecEncodeObservation(AtariVecEnv("breakout", 2, seed=0), ENCODER, views=1)
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(200):
        batches.clear()
        observations, _, dones, infos = env.step(rng.integers(0, 4, 2))
        lost = [i for i in np.flatnonzero(dones) if "episode" not in infos[i]]
        assert batches == [4 + 2 * sum("episode" in info for info in infos)]
        if lost:
            assert np.array_equal(infos[lost[0]]["terminal_observation"], observations[lost[0]])
            return
    pytest.fail("no life was lost")


def test_an_augmented_view_is_drawn_for_each_sample() -> None:
    torch.manual_seed(0)
    views = torch.arange(4.0).view(1, 4, 1).expand(3000, -1, 2)
    first, second = random_view(views), random_view(views)
    assert first.shape == (3000, 2) and torch.equal(first[:, 0], first[:, 1])
    counts = first[:, 0].long().bincount(minlength=4).tolist()
    assert counts[0] == 0, "the plain view is for acting"
    assert max(abs(count - 1000) for count in counts[1:]) < 120, "4.6 standard deviations"
    assert (first == second)[:, 0].float().mean() == pytest.approx(1 / 3, abs=0.05), "drawn anew each time"


def test_both_observations_of_an_update_have_views_of_their_own() -> None:
    env = encoded(features="pooled", views=3)
    agent: Any = agent_on(env, augment=True)
    stored = torch.as_tensor(env.reset()).repeat(32, 1, 1)
    torch.manual_seed(0)
    now, later = agent.q_net.encode(torch.cat([stored, stored]), augment=True).chunk(2)
    which = [(stored[:, 1:].float() == half.unsqueeze(1)).all(dim=2) for half in (now, later)]
    assert all(torch.equal(each.sum(dim=1), torch.ones(64).long()) for each in which)
    assert not torch.equal(*which)
    assert torch.equal(agent.q_net.encode(stored), stored[:, 0].float()), "without augment, the plain one"


def test_agents_act_on_the_plain_view() -> None:
    env = encoded(features="map", views=2)
    agent = agent_on(env, augment=True, noisy=False)
    obs = env.reset()
    spoilt = obs.copy()
    spoilt[:, 1:] = np.nan
    values = agent.q_net.q_values(torch.as_tensor(spoilt))
    assert not values.isnan().any()
    torch.testing.assert_close(values, agent.q_net.q_values(torch.as_tensor(obs)))
    torch.testing.assert_close(
        values, agent.q_net.values.mean(agent.q_net.forward_encoded(agent.q_net.encode(torch.as_tensor(obs))))
    )


def test_views_change_neither_the_network_nor_its_weights() -> None:
    plain, viewed = (agent_on(encoded(features="map", views=views)) for views in (None, 2))
    assert same(weights(plain.q_net), weights(viewed.q_net))
    heads = [Rainbow("MlpPolicy", encoded(features="pooled", views=views), **SMALL) for views in (None, 2)]
    assert same(*(weights(agent.q_net) for agent in heads)), "without a neck, too"


@pytest.mark.parametrize("cls", [DQN, QRDQN, PPO])
def test_other_agents_read_the_plain_view(cls: Any) -> None:
    env = encoded(features="map", views=2)
    settings: dict[str, Any] = (
        {"n_steps": 32, "batch_size": 16} if cls is PPO else {"buffer_size": 80, "learning_starts": 32, "batch_size": 4}
    )
    agent = cls("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(features_dim=8), device="cpu", **settings).learn(36)
    obs = env.reset()
    expected = agent.predict(obs, deterministic=True)[0]
    obs[:, 1:] = np.nan
    assert np.array_equal(agent.predict(obs, deterministic=True)[0], expected)


def test_pickled_views() -> None:
    env = encoded(views=2)
    env.reset()
    copy = pickle.loads(pickle.dumps(env))
    assert isinstance(copy.observation_space, FeatureViews)
    steps: list[Any] = []
    for each in (env, copy):
        torch.manual_seed(3)
        steps.append(each.step(noops(each))[0])
    assert np.array_equal(steps[0], steps[1])


# --- agents


CHOICES: dict[str, Any] = {
    "shift": {"features": "map"},
    "map": {"features": "map", "views": 2},
    "pooled": {"features": "pooled", "views": 1},
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("prioritized", [True, False])
def test_agents_learn_and_are_saved(choice: str, prioritized: bool, tmp_path: Path) -> None:
    env = encoded(**CHOICES[choice])
    agent = agent_on(env, augment=True, prioritized=prioritized).learn(44)
    assert agent._n_updates > 2
    sampled = agent.replay_buffer.sample(4)
    assert sampled.observations.shape[1:] == env.observation_space.shape and sampled.observations.dtype == torch.float16
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "replay.pkl")
    loaded = Rainbow.load(tmp_path / "agent.zip", env=env, device="cpu")
    loaded.load_replay_buffer(tmp_path / "replay.pkl")
    assert loaded.augment and type(loaded.observation_space) is type(env.observation_space)
    obs = env.reset()
    actions = [each.predict(obs, deterministic=True)[0] for each in (agent, loaded)]
    assert np.array_equal(actions[0], actions[1]) and actions[0].shape == (2,)
    before = weights(loaded.q_net)
    loaded.learn(44)
    assert not same(weights(loaded.q_net), before)


@pytest.mark.parametrize("choice", CHOICES)
def test_runs_are_functions_of_their_seed(choice: str) -> None:
    first, again, other = (agent_on(encoded(**CHOICES[choice]), augment=True, seed=seed).learn(44) for seed in (1, 1, 2))
    assert same(weights(first.q_net), weights(again.q_net))
    assert not same(weights(first.q_net), weights(other.q_net))


def test_next_observations_are_stored_once() -> None:
    env = encoded(1, features="pooled", views=2)
    agent = agent_on(env, buffer_size=40).learn(30)
    size = 3 * make_encoder(ENCODER).feature_map_shape[0] * 2
    assert size <= agent.replay_buffer.bytes_per_transition() < size + 40


# --- bad input


@pytest.mark.parametrize("views", [0, -1, 1.5, "2"])
def test_a_number_of_views_is_positive(views: Any) -> None:
    with pytest.raises(InputError, match=f"views must be the number of augmented copies, at least 1, or None; got {views!r}"):
        encoded(views=views)


def test_views_are_of_frames() -> None:
    with pytest.raises(InputError, match="raw frames"):
        encoded(space=Box(0, 1, (4, 84, 84), np.float32), views=2)
    with pytest.raises(InputError, match="observations must be"):
        encoded(views=2).encode(frames(2)[:, :3])


VECTORS: list[Any] = [
    Box(-np.inf, np.inf, (64,), np.float16),
    Box(-np.inf, np.inf, (3, 64), np.float16),
    Box(0, 1, (3, 8, 8), np.float32),
]


@pytest.mark.parametrize("space", [*VECTORS, Dict({"ram": VECTORS[0]})], ids=str)
def test_nothing_else_is_taken_for_maps_or_views(space: Any) -> None:
    assert not can_augment(space)
    if not isinstance(space, Dict):
        batch = torch.randn(5, *space.shape)
        assert augment_stored(batch, space) is batch and augment_preprocessed(batch, space) is batch


def test_vectors_cannot_be_augmented() -> None:
    for env in (encoded(features="pooled"), "CartPole-v1"):
        with pytest.raises(
            InputError, match=r"needs images, or what VecEncodeObservation gives with features='map' or with views"
        ):
            agent_on(env, augment=True)
    with pytest.raises(InputError, match="features of VecEncodeObservation"):
        NeckExtractor(VECTORS[1])


def test_maps_within_a_dictionary_are_shifted() -> None:
    space = Dict({"map": MAP, "ram": VECTORS[0]})
    obs = {"map": torch.randn(50, *MAP.shape), "ram": torch.randn(50, 64)}
    changed = augment_preprocessed(augment_stored(obs, space), space)
    assert can_augment(space) and changed["ram"] is obs["ram"] and not torch.equal(changed["map"], obs["map"])


# --- the neck


def test_the_neck_for_one_game_is_the_studys() -> None:
    torch.manual_seed(0)
    neck = SpatialNeck((3, 4, 5), 8)
    maps = torch.randn(6, 3, 4, 5)
    outputs, expected = neck(maps), SpatialMLP.forward(neck, maps, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(outputs, expected)
    gradients = [torch.autograd.grad(each.square().sum(), list(neck.parameters())) for each in (outputs, expected)]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(neck(maps.to(memory_format=torch.channels_last)), outputs)
