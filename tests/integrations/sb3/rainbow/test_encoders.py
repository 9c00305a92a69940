"""Rainbow on frozen encoders: one pass for each batch, the same on cached features, augmentation, the study's preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from sb3_agents import CHANNEL_FIRST, CHANNEL_LAST, RandomFrames, frames, same, small, weights
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from pretrainrl.encoders import Encoder, cached_encoder
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import AtariVecEnv, NeckExtractor, Rainbow, VecEncodeObservation, neck_policy_kwargs
from pretrainrl.integrations.sb3.rainbow import augmentation

SMALL: dict[str, Any] = {
    "buffer_size": 200,
    "learning_starts": 40,
    "batch_size": 3,
    "train_freq": 2,
    "seed": 0,
    "device": "cpu",
}


def count_encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that encoders see from now on."""
    sizes: list[int] = []
    encode = Encoder.map_floats

    def spy(self: Encoder, batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return encode(self, batch)

    monkeypatch.setattr(Encoder, "map_floats", spy)
    return sizes


@pytest.mark.parametrize("neck", ["mlp", "spatial_mlp", None])
def test_a_batch_passes_through_a_frozen_encoder_once(neck: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Rainbow("CnnPolicy", RandomFrames(CHANNEL_LAST), policy_kwargs=small(neck=neck), augment=True, **SMALL).learn(42)
    before = weights(cached_encoder("random.nature"))
    head = weights(agent.q_net)
    sizes = count_encoded(monkeypatch)
    agent.train(2, 3)
    assert sizes == [6, 6], "observations and next observations together, for three networks' heads"
    assert same(weights(cached_encoder("random.nature")), before) and not same(weights(agent.q_net), head)


def test_sharing_changes_no_value() -> None:
    agent = Rainbow("CnnPolicy", RandomFrames(CHANNEL_FIRST), policy_kwargs=small(neck="spatial_mlp"), noisy=False, **SMALL)
    obs = torch.as_tensor(frames(4))
    torch.testing.assert_close(agent.q_net.forward_encoded(agent.q_net.encode(obs)), agent.q_net(obs))


def test_a_trainable_encoder_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = small(trainable=True)
    agent: Any = Rainbow("CnnPolicy", RandomFrames(CHANNEL_FIRST), policy_kwargs=kwargs, augment=True, **SMALL).learn(41)
    before = weights(agent.q_net.features_extractor.encoder)
    sizes = count_encoded(monkeypatch)
    agent.train(1, 3)
    assert sizes == [3, 3, 3]
    assert not same(weights(agent.q_net.features_extractor.encoder), before)


def test_a_loaded_optimizer_has_its_parameters_layout(tmp_path: Path) -> None:
    """Fused Adam on a CPU pairs values by their place in memory."""
    agent = Rainbow("CnnPolicy", RandomFrames(CHANNEL_FIRST), policy_kwargs=small(trainable=True), **SMALL).learn(44)
    assert agent.policy.optimizer.defaults["fused"]
    agent.save(tmp_path / "agent")
    loaded = Rainbow.load(tmp_path / "agent", env=RandomFrames(CHANNEL_FIRST), device="cpu")
    for made in (agent, loaded):
        for parameter, state in made.policy.optimizer.state.items():
            assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == parameter.stride()


# --- features that were encoded beforehand


@pytest.mark.parametrize(
    ("features", "neck"), [("map", "spatial_mlp"), ("map", "spatial"), ("flat", "mlp"), ("pooled", "mlp")]
)
def test_cached_features_train_the_network_that_frames_do(features: Any, neck: Any, tmp_path: Path) -> None:
    games = AtariVecEnv("pong", n_envs=2, seed=0)
    env = VecEncodeObservation(games, "random.nature", features=features, device="cpu", dtype="float32")
    cached = Rainbow("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(neck=neck, features_dim=16), **SMALL)
    chosen = None if features == "map" else features
    pixels = Rainbow("CnnPolicy", games, policy_kwargs=small(neck=neck, features=chosen), **SMALL)
    obs = frames(4)
    through_frames = pixels.q_net(torch.as_tensor(obs))
    torch.testing.assert_close(cached.q_net(torch.as_tensor(env.encode(obs))), through_frames, rtol=1e-2, atol=1e-2)

    cached.learn(50)
    assert cached._n_updates > 2
    sampled = cached.replay_buffer.sample(4).observations
    assert sampled.dtype == torch.float16 and sampled.shape[1:] == env.observation_space.shape
    cached.save(tmp_path / "agent.zip")
    loaded, encoded = Rainbow.load(tmp_path / "agent.zip", device="cpu"), env.encode(obs)
    assert np.array_equal(cached.predict(encoded, deterministic=True)[0], loaded.predict(encoded, deterministic=True)[0])
    games.close()


def test_cached_features_need_no_neck() -> None:
    env = VecEncodeObservation(DummyVecEnv([lambda: RandomFrames(CHANNEL_FIRST)]), "random.nature", features="pooled")
    assert Rainbow("MlpPolicy", env, **SMALL).learn(46)._n_updates > 1


@pytest.mark.parametrize("space", [CHANNEL_FIRST, Box(-1, 1, (4, 3)), Discrete(3)], ids=str)
def test_a_neck_refuses_what_is_not_features(space: Any) -> None:
    with pytest.raises(InputError, match="features of VecEncodeObservation"):
        NeckExtractor(space)


# --- augmentation


def test_both_observations_are_augmented_and_actions_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Rainbow("CnnPolicy", RandomFrames(CHANNEL_FIRST), policy_kwargs=small(), augment=True, **SMALL).learn(41)
    shifted: list[Tensor] = []
    varied: list[Tensor] = []
    for name, seen in (("random_shift", shifted), ("intensity", varied)):
        function = getattr(augmentation, name)
        monkeypatch.setattr(augmentation, name, lambda x, f=function, s=seen: s.append(x) or f(x))
    agent.train(1, 3)
    assert [(tuple(x.shape), x.dtype) for x in shifted] == [((6, 4, 84, 84), torch.uint8)]
    assert [(tuple(x.shape), x.dtype) for x in varied] == [((6, 4, 84, 84), torch.float32)] and varied[0].max() == 1
    agent.predict(frames(2))
    assert len(shifted) == 1


def test_augmented_values_are_of_moved_frames() -> None:
    agent: Any = Rainbow("CnnPolicy", RandomFrames(CHANNEL_FIRST), policy_kwargs=small(), noisy=False, **SMALL)
    obs = torch.as_tensor(frames(4))
    plain, first, second = (agent.q_net.encode(obs, augment=augment) for augment in (False, True, True))
    assert not torch.equal(plain, first) and not torch.equal(first, second)
    assert torch.equal(plain, agent.q_net.encode(obs))


# --- the study


def test_the_preset_is_the_study() -> None:
    env = AtariVecEnv("pong", n_envs=1, seed=0)
    preset = Rainbow.atari_pb()
    agent: Any = Rainbow("CnnPolicy", env, policy_kwargs=small(neck="spatial_mlp"), **{**preset, "buffer_size": 500})
    assert preset["buffer_size"] == 100_000
    assert (agent.learning_starts, agent.batch_size, agent.train_freq.frequency, agent.gradient_steps) == (2_000, 32, 1, 2)
    assert (agent.n_steps, agent.replay_buffer.n_steps, agent.gamma) == (10, 10, 0.99)
    assert agent.replay_buffer.alpha == 0.5
    assert [agent.per_beta_schedule(remaining) for remaining in (1.0, 0.0)] == pytest.approx([0.4, 1.0])
    assert agent.q_net.values.support.tolist() == pytest.approx(np.linspace(-10, 10, 51).tolist(), abs=1e-5)
    [group] = agent.policy.optimizer.param_groups
    assert isinstance(agent.policy.optimizer, torch.optim.Adam) and (group["lr"], group["eps"]) == (1e-4, 1.5e-4)
    assert (1 - agent.tau, agent.target_update_interval, agent.max_grad_norm) == (0.99, 1, 10)
    assert agent.policy.acting_net == "target" and agent.double_q and agent.augment
    assert agent.q_net.head.value is None and [type(layer) for layer in agent.q_net.head.advantage] == [torch.nn.Linear]
    rates = []
    agent.set_logger(Logger(None, []))
    for step in (2_000, 7_000, 12_000, 50_000):
        agent._total_timesteps, agent._current_progress_remaining = 50_000, 1 - step / 50_000
        agent._on_step()
        rates.append(agent.exploration_rate)
    assert rates == pytest.approx([1, 0.505, 0.01, 0.01])
    assert Rainbow.atari_pb(n_envs=8)["gradient_steps"] == 16
    env.close()


def test_the_preset_trains() -> None:
    env = AtariVecEnv("pong", n_envs=2, seed=0)
    preset: dict[str, Any] = {**Rainbow.atari_pb(40, n_envs=2), "buffer_size": 200, "learning_starts": 30, "batch_size": 4}
    agent = Rainbow("CnnPolicy", env, policy_kwargs=small(neck="spatial_mlp"), device="cpu", **preset)
    target = weights(agent.q_net_target)
    agent.learn(40)
    assert agent._n_updates == 20 and not same(weights(agent.q_net_target), target)
    env.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_accelerator_trains(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {**SMALL, "device": "cuda"}
    agent = Rainbow(
        "CnnPolicy", RandomFrames(CHANNEL_FIRST), policy_kwargs=small(neck="spatial_mlp"), augment=True, **arguments
    )
    agent.learn(50).save(tmp_path / "agent.zip")
    loaded = Rainbow.load(tmp_path / "agent.zip", device="cpu")
    assert agent._n_updates > 2
    assert np.array_equal(loaded.predict(frames(), deterministic=True)[0], agent.predict(frames(), deterministic=True)[0])
