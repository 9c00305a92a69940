"""What is compared: agents on an environment, with equal networks, equal steps and equal numbers of updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from gymnasium.spaces import Space
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from pretrainrl.integrations.sb3 import (
    AtariVecEnv,
    CompactReplayBuffer,
    Rainbow,
    VecEncodeObservation,
    neck_policy_kwargs,
    policy_kwargs,
)

Settings = dict[str, Any]
EVALUATION_SEED = 10_000


@dataclass(frozen=True)
class Agent:
    """An algorithm with its arguments, on observations of its own if it has `wrap`."""

    algorithm: type[OffPolicyAlgorithm]
    policy: str
    settings: Settings
    wrap: Callable[[VecEnv], VecEnv] = lambda env: env


@dataclass(frozen=True)
class Experiment:
    """Agents that learn the same environment.

    Attributes:
        title: for people.
        make_env: makes environments, given how many, a seed, and whether they are to evaluate.
        agents: by name.
        steps: of every agent, all environments together.
        evaluate_every: as many steps.
        episodes: of an evaluation.
        n_envs: stepped together.
        deterministic: whether agents are evaluated without exploration. RL Zoo does not do so on Atari.
    """

    title: str
    make_env: Callable[[int, int, bool], VecEnv]
    agents: dict[str, Agent]
    steps: int
    evaluate_every: int
    episodes: int = 10
    n_envs: int = 8
    deterministic: bool = False


class SmallCNN(BaseFeaturesExtractor):
    """Network of data-efficient Rainbow (van Hasselt et al., 2019, https://arxiv.org/abs/1906.05243)."""

    def __init__(self, observation_space: Space[Any], features_dim: int = 256) -> None:
        super().__init__(observation_space, features_dim)
        layers = (nn.Conv2d(4, 32, 5, stride=5), nn.ReLU(), nn.Conv2d(32, 64, 5, stride=5), nn.ReLU(), nn.Flatten())
        self.layers = nn.Sequential(*layers, nn.Linear(576, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """Map frames (B, 4, 84, 84) to (B, features_dim)."""
        features: Tensor = self.layers(observations)
        return features


def cartpole(n_envs: int, seed: int, evaluate: bool) -> VecEnv:
    """CartPole-v1."""
    return make_vec_env("CartPole-v1", n_envs, seed=seed)


def atari(game: str, n_envs: int, seed: int, evaluate: bool, longest: int = 5_000) -> VecEnv:
    """One game; evaluations count whole games of at most `longest` steps, without clipping."""
    return AtariVecEnv(
        game,
        n_envs,
        seed=seed,
        terminal_on_life_loss=not evaluate,
        clip_reward=not evaluate,
        max_episode_steps=longest if evaluate else 27_000,  # a greedy beginner may do nothing for ever
        num_threads=1,
    )


# For learning within thousands of updates.
SHORT: Settings = {
    "learning_rate": 2e-4,
    "learning_starts": 1_000,
    "batch_size": 32,
    "train_freq": 1,
    "gradient_steps": 4,
    "exploration_fraction": 0.3,
    "exploration_final_eps": 0.01,
}
# As QR-DQN, so that the rest is compared.
QUANTILES: Settings = {"distributional": "quantile", "n_quantiles": 51}


def _atari_agents() -> dict[str, Agent]:
    """All with the same network, one update for two steps, and targets that follow at the same rate."""
    network: Settings = {"features_extractor_class": SmallCNN, "net_arch": []}
    replay: Settings = {**SHORT, "buffer_size": 50_000}
    # One step of the target for the four updates after each step of the environments.
    others: Settings = {**replay, "replay_buffer_class": CompactReplayBuffer, "tau": 1 - 0.98**4, "target_update_interval": 8}
    rainbow: Settings = {**replay, **QUANTILES, "n_steps": 5, "tau": 0.02, "policy_kwargs": network}
    return {
        "rainbow": Agent(Rainbow, "CnnPolicy", rainbow),
        "qrdqn": Agent(QRDQN, "CnnPolicy", {**others, "policy_kwargs": {**network, "n_quantiles": 51}}),
        "dqn": Agent(DQN, "CnnPolicy", {**others, "policy_kwargs": network}),
    }


def _components() -> dict[str, Agent]:
    """Rainbow, Rainbow without each of its components, and the others, with RL Zoo's hyper-parameters of DQN on CartPole."""
    zoo: Settings = {
        "learning_rate": 2.3e-3,
        "batch_size": 64,
        "buffer_size": 50_000,
        "learning_starts": 1_000,
        "target_update_interval": 10,
        "train_freq": 256,
        "gradient_steps": 128,
        "exploration_fraction": 0.16,
        "exploration_final_eps": 0.04,
    }
    network: Settings = {"net_arch": [256, 256]}
    rainbow: Settings = {**zoo, "policy_kwargs": network, "v_min": 0.0, "v_max": 100.0}
    without: dict[str, Settings] = {
        "double_q": {"double_q": False},
        "prioritized": {"prioritized": False},
        "dueling": {"dueling": False},
        "noisy": {"noisy": False},
        "n_steps": {"n_steps": 1},
        "distributional": {"distributional": None},
    }
    return {
        "rainbow": Agent(Rainbow, "MlpPolicy", rainbow),
        "qrdqn": Agent(QRDQN, "MlpPolicy", {**zoo, "policy_kwargs": {**network, "n_quantiles": 10}}),
        "dqn": Agent(DQN, "MlpPolicy", {**zoo, "policy_kwargs": network}),
        **{f"without_{name}": Agent(Rainbow, "MlpPolicy", {**rainbow, **other}) for name, other in without.items()},
    }


def _features() -> dict[str, Agent]:
    """Rainbow as the study sets it, on frames that are augmented and encoded in every update, and on features kept in replay.

    But there is one update for two steps rather than two a step, because encoding in every update takes so long; hence the
    settings for short learning.
    """
    encoder = "siammae"
    study: Settings = {**Rainbow.atari_pb(12_000, 8), **SHORT, **QUANTILES, "tau": 0.02}
    frames: Settings = {**study, "policy_kwargs": policy_kwargs(encoder, neck="spatial_mlp", dtype="auto")}
    maps: Settings = {**study, "buffer_size": 12_000, "policy_kwargs": neck_policy_kwargs(neck="spatial_mlp")}
    encode = partial(VecEncodeObservation, encoder=encoder)
    return {
        "frames": Agent(Rainbow, "CnnPolicy", frames),
        "map": Agent(Rainbow, "MlpPolicy", {**maps, "augment": False}, partial(encode, features="map")),
        "map_shifted": Agent(Rainbow, "MlpPolicy", maps, partial(encode, features="map")),
        "map_views": Agent(Rainbow, "MlpPolicy", maps, partial(encode, features="map", views=2)),
    }


GAMES = {"upndown": "Up'n Down", "assault": "Assault", "mspacman": "Ms. Pac-Man"}

EXPERIMENTS = {
    "cartpole": Experiment("CartPole-v1", cartpole, _components(), 15_360, evaluate_every=2_560, n_envs=1, deterministic=True),
    "upndown": Experiment(GAMES["upndown"], partial(atari, "upndown"), _atari_agents(), 20_000, evaluate_every=4_000),
    "assault": Experiment(GAMES["assault"], partial(atari, "assault"), _atari_agents(), 12_000, evaluate_every=3_000),
    **{
        f"features_{game}": Experiment(title, partial(atari, game, longest=2_000), _features(), 12_000, evaluate_every=6_000)
        for game, title in GAMES.items()
    },
}
