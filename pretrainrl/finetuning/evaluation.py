"""What an agent scores in whole games."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

EPSILON = 0.001  # the study's
ALE_SEEDS = 2**31 - 1  # they are not negative and have 32 bits, with one for each copy


class EpsilonGreedy:
    """An agent that takes what it thinks best, but for one action in a thousand.

    Args:
        agent: whose actions are discrete.
        seed: of the other actions.
    """

    def __init__(self, agent: BaseAlgorithm, seed: int) -> None:
        self._agent, self._random = agent, np.random.default_rng(seed)
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
        explore = self._random.random(actions.shape) < EPSILON
        return np.where(explore, self._random.integers(self._n_actions, size=actions.shape), actions), state


def evaluate(
    agent: BaseAlgorithm, games: VecEnv, episodes: int, seed: int, on_step: Callable[[], None]
) -> tuple[list[float], list[int]]:
    """Let `agent` play whole games; its learning does not notice.

    PPO draws from its policy, as it learnt to; the others are greedy with ε = 0.001.

    Args:
        agent: who plays.
        games: of any number of copies.
        episodes: games to play.
        seed: of the games and the agent's random numbers.
        on_step: called now and then.

    Returns:
        Raw score and length, in agent steps, of each game.
    """
    games.seed(seed % (ALE_SEEDS - games.num_envs))
    draws = isinstance(agent, PPO)
    devices = [agent.device] if agent.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        scores, lengths = evaluate_policy(
            agent if draws else EpsilonGreedy(agent, seed),
            games,
            episodes,
            deterministic=not draws,
            return_episode_rewards=True,
            callback=lambda _locals, _globals: on_step(),
        )
    return list(map(float, scores)), list(map(int, lengths))  # type: ignore[arg-type]  # lists, as was asked for
