"""Policies that take an encoder's name keep every promise of `policy_kwargs`."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_agents import CHANNEL_FIRST, RandomFrames, first_bytes, frames, other_weights, same, small, weights
from sb3_contrib import QRDQN, TRPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from pretrainrl.encoders import cached_encoder, clear_encoder_cache
from pretrainrl.errors import InputError, UnknownNameError, WeightsError
from pretrainrl.integrations.sb3 import Rainbow, VecEncodeObservation, neck_policy_kwargs
from pretrainrl.integrations.sb3.encoding.policies import (
    ActorCriticEncoderPolicy,
    DQNEncoderPolicy,
    QRDQNEncoderPolicy,
    RainbowEncoderPolicy,
)

OFF: dict[str, Any] = {"buffer_size": 80, "learning_starts": 32, "batch_size": 3}
ON: dict[str, Any] = {"n_steps": 32}
KINDS: dict[str, tuple[type[BaseAlgorithm], Any, dict[str, Any]]] = {
    "dqn": (DQN, DQNEncoderPolicy, {**OFF, "target_update_interval": 1}),
    "qrdqn": (QRDQN, QRDQNEncoderPolicy, {**OFF, "target_update_interval": 1}),
    "ppo": (PPO, ActorCriticEncoderPolicy, {**ON, "batch_size": 16, "n_epochs": 1}),
    "a2c": (A2C, ActorCriticEncoderPolicy, ON),
    "trpo": (TRPO, ActorCriticEncoderPolicy, {**ON, "batch_size": 16, "n_critic_updates": 2, "cg_max_steps": 2}),
    "rainbow": (Rainbow, RainbowEncoderPolicy, OFF),
}
BY_NAME: dict[str, Any] = {"encoder": "random.nature", "features_dim": 16}


def make(kind: str, env: Any = None, policy: Any = None, **kwargs: Any) -> Any:
    algorithm, by_name, settings = KINDS[kind]
    env = env or RandomFrames(CHANNEL_FIRST)
    return algorithm(policy or by_name, env, policy_kwargs=kwargs or dict(BY_NAME), device="cpu", seed=0, **settings)


def parameters(agent: BaseAlgorithm) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in weights(agent.policy).items() if key != "_extra_state"}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_agent_of_policy_kwargs(kind: str) -> None:
    """The same layers, the same weights at equal seed, and so after learning."""
    stages = []
    for agent in (lambda: make(kind), lambda: make(kind, policy="CnnPolicy", **small())):
        made = agent()
        stages.append((parameters(made), parameters(made.learn(36))))
    [(before, after), (theirs_before, theirs_after)] = stages
    assert same(before, theirs_before)
    assert same(after, theirs_after)
    assert not same(before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_without_its_encoder_and_loaded(kind: str, tmp_path: Path) -> None:
    agent = make(kind).learn(36)
    agent.save(tmp_path / "agent.zip")
    needle = first_bytes(cached_encoder("random.nature"))
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        assert all(needle not in archive.read(name) for name in archive.namelist())
    loaded = type(agent).load(tmp_path / "agent.zip", env=RandomFrames(CHANNEL_FIRST), device="cpu")
    assert same(weights(agent.policy), weights(loaded.policy))
    assert np.array_equal(*(each.predict(frames(), deterministic=True)[0] for each in (agent, loaded)))
    loaded.learn(36)


@pytest.mark.parametrize("kind", ["dqn", "ppo", "rainbow"])
def test_the_policy_alone_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    policy = make(kind, encoder="random.nature", neck="spatial_mlp", features_dim=16, net_arch=[8]).policy
    policy.save(tmp_path / "policy.pth")
    loaded = type(policy).load(tmp_path / "policy.pth", device="cpu")
    assert same(weights(policy), weights(loaded))
    assert loaded.encoder_arguments == policy.encoder_arguments


@pytest.mark.parametrize("kind", ["dqn", "ppo", "rainbow"])
def test_loading_is_refused_where_the_encoder_is_another(kind: str, tmp_path: Path) -> None:
    path = other_weights(tmp_path)
    agent = make(kind, weights=str(path), **BY_NAME)
    agent.save(tmp_path / "agent.zip")
    other_weights(tmp_path, value=0.02)
    clear_encoder_cache()
    with pytest.raises(WeightsError, match=r"has sha256 [0-9a-f]{12}\.\.\. here.* give it the same weights"):
        type(agent).load(tmp_path / "agent.zip")


def test_a_digest_can_be_asked_for() -> None:
    digest = cached_encoder("random.nature").sha256
    assert make("dqn", sha256=digest, **BY_NAME).policy.encoder_arguments["sha256"] == digest
    with pytest.raises(WeightsError, match=r"was made with 000000000000\.\.\."):
        make("dqn", sha256="0" * 64, **BY_NAME)


@pytest.mark.parametrize("kind", ["dqn", "ppo", "rainbow"])
def test_without_an_encoder_it_is_a_neck_on_features(kind: str, tmp_path: Path) -> None:
    def env() -> Any:
        return VecEncodeObservation(DummyVecEnv([RandomFrames]), "random.nature", features="map", device="cpu")

    agents = [
        make(kind, env(), encoder=None, features_dim=16),
        make(kind, env(), "MlpPolicy", **neck_policy_kwargs(features_dim=16)),
    ]
    assert same(*map(parameters, agents))
    agents[0].learn(36).save(tmp_path / "agent.zip")
    assert same(*(weights(agent.policy) for agent in (agents[0], type(agents[0]).load(tmp_path / "agent.zip", device="cpu"))))


def test_a_trainable_encoder_is_trained(tmp_path: Path) -> None:
    agent = make("ppo", trainable=True, **BY_NAME)
    before = weights(agent.policy.features_extractor.encoder)
    agent.learn(36).save(tmp_path / "agent.zip")
    assert not same(before, weights(agent.policy.features_extractor.encoder))
    assert same(weights(agent.policy), weights(PPO.load(tmp_path / "agent.zip", device="cpu").policy))


def test_bad_arguments() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'random\.nature'"):
        make("dqn", encoder="random.natur")
    with pytest.raises(InputError, match=r"DQNEncoderPolicy makes its extractor .* leave out \['features_extractor_class'\]"):
        make("dqn", features_extractor_class=None, **BY_NAME)
    with pytest.raises(TypeError, match="encoder"):
        make("dqn", features_dim=16)
