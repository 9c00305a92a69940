"""What an agent scores in whole games."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

ALE_SEEDS = 2**31 - 1  # they are not negative and have 32 bits, with one for each copy


class EpsilonGreedy:
    """An agent that takes the action that it thinks best, but for a share of random actions.

    Args:
        agent: Agent with discrete actions.
        epsilon: Share of random actions, in [0, 1].
        seed: Seed of the random actions.
    """

    def __init__(self, agent: BaseAlgorithm, epsilon: float, seed: int) -> None:
        self._agent, self._epsilon, self._random = agent, epsilon, np.random.default_rng(seed)
        self._n_actions = int(agent.action_space.n)  # type: ignore[attr-defined]

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Choose actions (B,), as Stable-Baselines3's algorithms do."""
        actions, state = self._agent.predict(observation, state, episode_start, deterministic=True)
        explore = self._random.random(actions.shape) < self._epsilon
        return np.where(explore, self._random.integers(self._n_actions, size=actions.shape), actions), state


def evaluate(
    agent: BaseAlgorithm, env: VecEnv, episodes: int, seed: int, on_step: Callable[[], None], epsilon: float | None
) -> tuple[list[float], list[int]]:
    """Let an agent play whole games, which changes nothing about its learning.

    Args:
        agent: Agent that plays.
        env: Any number of copies of the game.
        episodes: Number of games to play.
        seed: Seed of the games and of the agent's random numbers.
        on_step: Function that is called after each step.
        epsilon: Share of random actions among greedy ones; None draws actions from the agent's policy.

    Returns:
        Raw score and length, in the agent's steps, of each game.
    """
    env.seed(seed % (ALE_SEEDS - env.num_envs))
    devices = [agent.device] if agent.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        scores, lengths = evaluate_policy(
            agent if epsilon is None else EpsilonGreedy(agent, epsilon, seed),
            env,
            episodes,
            deterministic=epsilon is not None,
            return_episode_rewards=True,
            callback=lambda _locals, _globals: on_step(),
        )
    return list(map(float, scores)), list(map(int, lengths))  # type: ignore[arg-type]  # lists, as was asked for
