"""Agents of every kind that the hub takes, and a look at what was pushed."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fake_hub import FakeHub
from sb3_agents import CHANNEL_FIRST, RandomFrames, frames, small
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from pretrainrl.integrations.sb3 import Rainbow, VecEncodeObservation, neck_policy_kwargs
from pretrainrl.integrations.sb3.encoding.policies import (
    ActorCriticEncoderPolicy,
    DQNEncoderPolicy,
    QRDQNEncoderPolicy,
    RainbowEncoderPolicy,
)
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer

PONG = "PongNoFrameskip-v4"
OFF: dict[str, Any] = {"buffer_size": 80, "learning_starts": 32, "batch_size": 3, "device": "cpu", "seed": 0}
ON: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "device": "cpu", "seed": 0}


def pixels() -> VecEnv:
    return DummyVecEnv([lambda: RandomFrames(CHANNEL_FIRST)])


def maps(encoder: str = "random.nature", **arguments: Any) -> VecEnv:
    return VecEncodeObservation(pixels(), encoder, features="map", device="cpu", **arguments)


def cartpole() -> VecEnv:
    return make_vec_env("CartPole-v1", 1)


BY_NAME: dict[str, Any] = {"encoder": "random.nature", "features_dim": 16}
AGENTS: dict[str, tuple[Callable[[], VecEnv], Callable[[VecEnv], BaseAlgorithm]]] = {
    "rainbow": (cartpole, lambda env: Rainbow("MlpPolicy", env, v_min=0, v_max=100, n_steps=5, **OFF)),
    "rainbow, plain": (
        cartpole,
        lambda env: Rainbow("MlpPolicy", env, distributional=None, prioritized=False, dueling=False, noisy=False, **OFF),
    ),
    "rainbow, encoder": (pixels, lambda env: Rainbow("CnnPolicy", env, policy_kwargs=small(neck="spatial_mlp"), **OFF)),
    "rainbow, by name": (pixels, lambda env: Rainbow(RainbowEncoderPolicy, env, policy_kwargs=BY_NAME, **OFF)),
    "rainbow, maps": (
        maps,
        lambda env: Rainbow("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(neck="spatial_mlp", features_dim=16), **OFF),
    ),
    "rainbow, places": (
        maps,
        lambda env: Rainbow(
            "MlpPolicy", env, policy_kwargs=neck_policy_kwargs(neck="spatial", embeddings=2, features_dim=16), **OFF
        ),
    ),
    "dqn": (cartpole, lambda env: DQN("MlpPolicy", env, n_steps=3, train_freq=(2, "step"), **OFF)),
    "dqn, by name": (pixels, lambda env: DQN(DQNEncoderPolicy, env, policy_kwargs=BY_NAME, **OFF)),
    "qrdqn": (
        cartpole,
        lambda env: QRDQN("MlpPolicy", env, policy_kwargs={"n_quantiles": 7, "activation_fn": torch.nn.Tanh}, **OFF),
    ),
    "qrdqn, by name": (
        pixels,
        lambda env: QRDQN(
            QRDQNEncoderPolicy,
            env,
            policy_kwargs=BY_NAME,
            replay_buffer_class=CompactReplayBuffer,
            replay_buffer_kwargs={"n_steps": 2, "gamma": 0.9},
            **OFF,
        ),
    ),
    "ppo": (cartpole, lambda env: PPO("MlpPolicy", env, learning_rate=LinearSchedule(1e-3, 0, 1), **ON)),
    "ppo, encoder": (pixels, lambda env: PPO("CnnPolicy", env, policy_kwargs=small(), **ON)),
    "ppo, trained encoder": (pixels, lambda env: PPO("CnnPolicy", env, policy_kwargs=small(trainable=True), **ON)),
    "ppo, by name": (pixels, lambda env: PPO(ActorCriticEncoderPolicy, env, policy_kwargs=BY_NAME, **ON)),
    "a2c": (cartpole, lambda env: A2C("MlpPolicy", env, n_steps=4, device="cpu", seed=0)),
}


def observations(env: VecEnv) -> Any:
    """A batch as the agent sees it."""
    if env.observation_space.dtype == np.uint8:
        return frames(8)
    space: Any = env.observation_space
    return np.random.default_rng(0).normal(size=(8, *space.shape)).astype(space.dtype)


CARTPOLE = "someone/rainbow-CartPole-v1"


def rainbow(env: VecEnv | None = None, **arguments: Any) -> Rainbow:
    return Rainbow("MlpPolicy", env or cartpole(), **{"v_min": 0, "v_max": 100, **OFF, **arguments})


def description(hub: FakeHub, repo_id: str = CARTPOLE) -> Any:
    return json.loads((hub.store / repo_id / "agent.json").read_text())


def rewrite(hub: FakeHub, table: Any, repo_id: str = CARTPOLE) -> None:
    (hub.store / repo_id / "agent.json").write_text(json.dumps(table))
