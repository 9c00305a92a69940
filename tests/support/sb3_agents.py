"""Agents on frames without a game, for tests of what an encoder goes through inside Stable-Baselines3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from safetensors.torch import save_file
from sb3_contrib import QRDQN, TQC, TRPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from pretrainrl.encoders import make_backbone
from pretrainrl.integrations.sb3 import Rainbow, policy_kwargs

CHANNEL_FIRST = Box(0, 255, (4, 84, 84), np.uint8)
CHANNEL_LAST = Box(0, 255, (84, 84, 4), np.uint8)


class RandomFrames(gym.Env[np.ndarray, Any]):
    """Random observations, in episodes of a fixed length."""

    def __init__(self, space: gym.Space[Any] = CHANNEL_FIRST, continuous: bool = False, length: int = 3) -> None:
        self.observation_space = space
        self.action_space = Box(-1, 1, (2,)) if continuous else Discrete(3)
        self.length = length

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._frame(), {}

    def _frame(self) -> np.ndarray:
        return self.np_random.integers(0, 256, self.observation_space.shape, dtype=np.uint8)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._frame(), float(self.np_random.normal()), self.steps == self.length, False, {}


STEPS = 36  # enough for the statistics of a standardizing neck, and a few updates
OFF_POLICY: dict[str, Any] = {"buffer_size": 80, "learning_starts": 32, "batch_size": 3, "train_freq": 1}
Q_LEARNING = {**OFF_POLICY, "target_update_interval": 1}
ON_POLICY: dict[str, Any] = {"n_steps": 32}
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], str, bool, dict[str, Any]]] = {
    "DQN": (DQN, "CnnPolicy", False, Q_LEARNING),
    "QRDQN": (QRDQN, "CnnPolicy", False, Q_LEARNING),
    "Rainbow": (Rainbow, "CnnPolicy", False, Q_LEARNING),
    "PPO": (PPO, "CnnPolicy", False, {**ON_POLICY, "batch_size": 16, "n_epochs": 1}),
    "A2C": (A2C, "CnnPolicy", True, ON_POLICY),
    "TRPO": (TRPO, "CnnPolicy", False, {**ON_POLICY, "batch_size": 16, "n_critic_updates": 2, "cg_max_steps": 2}),
    "RecurrentPPO": (RecurrentPPO, "CnnLstmPolicy", False, {**ON_POLICY, "batch_size": 16, "n_epochs": 1}),
    "SAC": (SAC, "CnnPolicy", True, OFF_POLICY),
    "TD3": (TD3, "CnnPolicy", True, OFF_POLICY),
    "TQC": (TQC, "CnnPolicy", True, OFF_POLICY),
}


def make_agent(algorithm: str, kwargs: dict[str, Any], **more: Any) -> Any:
    """An untrained agent on random channel-last frames."""
    cls, policy, continuous, settings = ALGORITHMS[algorithm]
    env = RandomFrames(CHANNEL_LAST, continuous)
    return cls(policy, env, policy_kwargs=kwargs, device="cpu", **{"seed": 0, **settings, **more})


def small(encoder: str = "random.nature", **arguments: Any) -> dict[str, Any]:
    """`policy_kwargs` of a narrow neck."""
    return policy_kwargs(encoder, **{"features_dim": 16, **arguments})


def frames(batch: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (batch, 4, 84, 84), dtype=np.uint8)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def first_bytes(module: nn.Module) -> bytes:
    """Bytes that give away the module's weights wherever they are written."""
    return bytes(next(module.parameters()).untyped_storage()[:64])


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def other_weights(folder: Path, value: float = 0.01) -> Path:
    """Weights for `random.nature` that are not its own."""
    tensors = {key: torch.full(tensor.shape, value) for key, tensor in make_backbone("nature").state_dict().items()}
    save_file(tensors, folder / "other.safetensors")
    return folder / "other.safetensors"


class NaiveExtractor(BaseFeaturesExtractor):
    """The obvious design: the frozen network is a submodule."""

    def __init__(self, observation_space: Box, backbone: nn.Module | None = None, features_dim: int = 16) -> None:
        super().__init__(observation_space, features_dim)
        self.backbone = backbone or make_backbone("nature")
        self.backbone.requires_grad_(False)
        width = self.backbone(torch.zeros(1, 4, 84, 84)).numel()
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(width, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(observations)
        narrowed: Tensor = self.neck(features)
        return narrowed


def naive(**arguments: Any) -> dict[str, Any]:
    return {"features_extractor_class": NaiveExtractor, "features_extractor_kwargs": arguments}
