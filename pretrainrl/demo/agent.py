"""An agent that learns a game from the features of a frozen encoder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from sb3_contrib import QRDQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

import pretrainrl
from pretrainrl.cards import Card
from pretrainrl.demo.steps import Size
from pretrainrl.integrations.sb3 import AtariVecEnv, VecEncodeObservation

ENVS = 8
BINS = 48  # points of a learning curve
EVALUATION_SEED = 10_000
SPEED_STEPS = 800  # over which the environment's speed is measured

Report = Callable[[int, str], None]


class NormalisedFeatures(BaseFeaturesExtractor):
    """LayerNorm on (B, features_dim): encoders differ in the scale of their features, and agents should not."""

    def __init__(self, observation_space: Box) -> None:
        super().__init__(observation_space, observation_space.shape[0])
        self.norm = nn.LayerNorm(observation_space.shape[0])

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, features_dim)."""
        normalised: Tensor = self.norm(features)
        return normalised


# Four updates after each step of the eight games, one for two transitions: little, because the page is to appear in minutes.
QRDQN_SETTINGS: dict[str, Any] = {
    "learning_rate": 2.5e-4,
    "learning_starts": 800,
    "train_freq": 1,
    "gradient_steps": 4,
    "batch_size": 32,
    "n_steps": 5,
    "target_update_interval": 400,
    "exploration_fraction": 0.3,
    "exploration_final_eps": 0.02,
    "policy_kwargs": {
        "features_extractor_class": NormalisedFeatures,
        "net_arch": [256],
        "n_quantiles": 51,
        "optimizer_kwargs": {"eps": 1.5e-4, "fused": True},
    },
}


class Agent(Card):
    """What an agent reached.

    Attributes:
        encoder: name.
        sha256: of its weights.
        game: slug.
        steps: it learned from.
        reward_rates: gains minus losses per 1,000 steps, however large each, in equal parts of the time it learned.
        returns: scores of games after learning, played greedily.
        habit: the action it played most often in them.
        habit_share: share of that action; near 1 the agent does not look at the screen, whatever the encoder.
        steps_per_second: while learning.
        encoded_steps_per_second: of the game played with random actions and encoded, without an agent.
        seconds: learning and evaluation took.
    """

    encoder: str
    sha256: str
    game: str
    steps: int
    reward_rates: tuple[float, ...] = ()
    returns: tuple[float, ...] = ()
    habit: str
    habit_share: float
    steps_per_second: float
    encoded_steps_per_second: float
    seconds: float = 0


def fine_tune(game: str, encoder: str, size: Size, seed: int, report: Report) -> Agent:
    """Train QR-DQN on `encoder`'s features of `game`, then let it play; `report` is told of new steps, with a remark."""
    env = VecEncodeObservation(AtariVecEnv(game, ENVS, seed=seed), encoder)
    model = QRDQN("MlpPolicy", env, seed=seed, buffer_size=size.agent_steps, **QRDQN_SETTINGS)
    curve = _Curve(report)
    env_speed = _encoded_steps_per_second(game, encoder)
    began = time.monotonic()
    model.learn(size.agent_steps, callback=curve)
    seconds = time.monotonic() - began
    env.close()
    returns, played = _play(model, game, encoder, size, seed, report)
    habit, count = played.most_common(1)[0]
    return Agent(
        encoder=encoder,
        sha256=pretrainrl.make_encoder(encoder).sha256,
        game=game,
        steps=len(curve.rewards) * ENVS,
        reward_rates=tuple(round(1000 * float(part.mean()), 3) for part in np.array_split(curve.rewards, BINS) if part.size),
        returns=returns,
        habit=habit,
        habit_share=count / played.total(),
        steps_per_second=len(curve.rewards) * ENVS / seconds,
        encoded_steps_per_second=env_speed,
    )


def _play(
    model: QRDQN, game: str, encoder: str, size: Size, seed: int, report: Report
) -> tuple[tuple[float, ...], Counter[str]]:
    """Scores of whole games under the greedy policy, and how often it played each action."""
    games = AtariVecEnv(
        game,
        size.evaluation_games,
        seed=seed + EVALUATION_SEED,
        terminal_on_life_loss=False,
        clip_reward=False,
        max_episode_steps=size.evaluation_steps,
    )
    names = games.get_action_meanings()
    played: Counter[str] = Counter()

    def count(scope: dict[str, Any], _: dict[str, Any]) -> None:
        if scope["i"] == 0:  # it is called for each game of a step
            played.update(names[action] for action in scope["actions"])
            report(0, f"playing {size.evaluation_games} games")

    env = VecEncodeObservation(games, encoder)
    returns, _ = evaluate_policy(model, env, size.evaluation_games, return_episode_rewards=True, callback=count)
    env.close()
    return tuple(map(float, returns)), played  # type: ignore[arg-type]  # a list, because of return_episode_rewards


class _Curve(BaseCallback):
    """Keeps the mean reward of the games at every step."""

    def __init__(self, report: Report) -> None:
        super().__init__()
        self.rewards: list[float] = []
        self._report = report

    def _on_step(self) -> bool:
        self.rewards.append(float(np.mean(self.locals["rewards"])))
        recent = 1000 * float(np.mean(self.rewards[-250:]))
        self._report(ENVS, f"{recent:+.1f} rewards per 1,000 steps")
        return True


def _encoded_steps_per_second(game: str, encoder: str) -> float:
    env = VecEncodeObservation(AtariVecEnv(game, ENVS, seed=0), encoder)
    actions = np.random.default_rng(0).integers(env.action_space.n, size=(SPEED_STEPS // ENVS, ENVS))  # type: ignore[attr-defined]
    env.reset()
    env.step(actions[0])
    began = time.monotonic()
    for row in actions:
        env.step(row)
    seconds = time.monotonic() - began
    env.close()
    return actions.size / seconds
