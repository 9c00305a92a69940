"""Agents of every algorithm on features without a game, whose necks standardize them."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from sb3_contrib import QRDQN, TQC, TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from pretrainrl.integrations.sb3 import (
    CompactReplayBuffer,
    PrioritizedReplayBuffer,
    Rainbow,
    neck_policy_kwargs,
)
from pretrainrl.networks.standardize import Standardize


class RandomFeatures(gym.Env[np.ndarray, Any]):
    """Observations (6,) of different scale, of which one never changes, in episodes of five steps."""

    def __init__(self, continuous: bool = False) -> None:
        self.observation_space = Box(-np.inf, np.inf, (6,), np.float16)
        self.action_space = Box(-1, 1, (2,)) if continuous else Discrete(3)

    def _features(self) -> np.ndarray:
        scale, offset = np.array([0.01, 1, 50, 0, 3, 0.2]), np.array([3, 0, -20, 7, 100, 0])
        features: np.ndarray = self.np_random.normal(size=6) * scale + offset
        return features.astype(np.float16)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._features(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._features(), float(self.np_random.normal()), self.steps == 5, False, {}

    def action_masks(self) -> np.ndarray:
        return np.ones(3, np.bool_)


OFF: dict[str, Any] = {"learning_starts": 40, "batch_size": 4, "buffer_size": 200, "train_freq": 1}
COMPACT: dict[str, Any] = {"replay_buffer_class": CompactReplayBuffer}
KINDS: dict[str, tuple[type[BaseAlgorithm], str, bool, dict[str, Any]]] = {
    "DQN": (DQN, "MlpPolicy", False, OFF),
    "DQN, compact": (DQN, "MlpPolicy", False, {**OFF, **COMPACT}),
    "DQN, prioritized": (DQN, "MlpPolicy", False, {**OFF, "replay_buffer_class": PrioritizedReplayBuffer}),
    "DQN, one array": (
        DQN,
        "MlpPolicy",
        False,
        {**OFF, "optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ),
    "DQN, n steps": (
        DQN,
        "MlpPolicy",
        False,
        {**OFF, "replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 3, "gamma": 0.9}},
    ),
    "QRDQN": (QRDQN, "MlpPolicy", False, OFF),
    "Rainbow": (Rainbow, "MlpPolicy", False, OFF),
    "Rainbow, tau": (Rainbow, "MlpPolicy", False, {**OFF, "tau": 0.01, "prioritized": False}),
    "SAC": (SAC, "MlpPolicy", True, OFF),
    "TD3": (TD3, "MlpPolicy", True, OFF),
    "DDPG": (DDPG, "MlpPolicy", True, OFF),
    "TQC": (TQC, "MlpPolicy", True, OFF),
    "PPO": (PPO, "MlpPolicy", False, {"n_steps": 20, "batch_size": 10, "n_epochs": 2}),
    "A2C": (A2C, "MlpPolicy", True, {"n_steps": 20}),
    "TRPO": (TRPO, "MlpPolicy", False, {"n_steps": 20, "batch_size": 10, "n_critic_updates": 2, "cg_max_steps": 2}),
    "RecurrentPPO": (RecurrentPPO, "MlpLstmPolicy", False, {"n_steps": 20, "batch_size": 10, "n_epochs": 1}),
    "MaskablePPO": (MaskablePPO, "MlpPolicy", False, {"n_steps": 20, "batch_size": 10, "n_epochs": 1}),
}


def features_env(continuous: bool = False, n_envs: int = 2) -> VecEnv:
    env = DummyVecEnv([lambda: RandomFeatures(continuous)] * n_envs)
    env.seed(0)
    return env


def make(kind: str, env: VecEnv | None = None, **more: Any) -> Any:
    cls, policy, continuous, arguments = KINDS[kind]
    kwargs = neck_policy_kwargs(features_dim=8, net_arch=[8])
    env = env or features_env(continuous)
    return cls(policy, env, **{"policy_kwargs": kwargs, "seed": 0, "device": "cpu", **arguments, **more})


def standardizers(agent: BaseAlgorithm) -> list[Standardize]:
    return [each for each in agent.policy.modules() if isinstance(each, Standardize)]


class Fits(NamedTuple):
    """What modules were fitted to, each call's observations in one array."""

    seen: list[np.ndarray]


def check_statistics(standardize: Standardize, data: np.ndarray) -> None:
    """By definition, from observations (N, ...)."""
    data = data.astype(np.float64).reshape(len(data), -1)
    std = data.std(axis=0)
    np.testing.assert_allclose(standardize.mean.numpy().ravel(), data.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(standardize.scale.numpy().ravel(), 1 / (std + 0.01 * std.mean()), rtol=1e-4)
