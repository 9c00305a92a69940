"""Rewards as a part of observations, for policies that act on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

Observation = dict[str, NDArray[Any]]


class VecRewardObservation(VecEnvWrapper):
    """Observations become `{"frames": observation, "reward": the reward of the step that led to it}`.

    Stable-Baselines3's `evaluate_policy` shows a policy observations alone. A decision transformer asks for the return that
    is still to come, so it has to see what has come in. The reward, (n_envs, 1) float32, is 0 after `reset`; after an
    episode's end it is still the one that the last episode ended with.

    Args:
        venv: Environment of any kind.
    """

    def __init__(self, venv: VecEnv) -> None:
        reward = Box(-np.inf, np.inf, (1,), np.float32)
        super().__init__(venv, observation_space=Dict({"frames": venv.observation_space, "reward": reward}))

    def reset(self) -> Observation:
        """Reset the environments."""
        return _join(self.venv.reset(), np.zeros(self.num_envs, np.float32))

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Collect the step's results; each `terminal_observation` is made of two as well."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones).tolist():
            if "terminal_observation" in infos[i]:
                infos[i]["terminal_observation"] = _join(infos[i]["terminal_observation"], rewards[i])
        return _join(observations, rewards), rewards, dones, infos


def _join(frames: Any, reward: NDArray[np.float32]) -> Observation:
    return {"frames": frames, "reward": np.asarray(reward, np.float32)[..., None]}
