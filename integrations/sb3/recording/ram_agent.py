"""Agents that read the console's memory: they learn in minutes what takes hours from pixels, to be imitated from pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import Tensor, nn

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.encoding.necks import ExtractorWithNeck
from pretrainrl.integrations.sb3.envs.atari_vec_env import RecordedAtariVecEnv
from pretrainrl.networks.standardize import Standardize

RAM_SPACE = Box(0, 255, (2, 128), np.uint8)
_FARTHEST = 64  # what moves by more in one step has wrapped around or is no position


class VecRamObservation(VecEnvWrapper):
    """Shows agents the console's memory, before and after the last step, instead of frames: `(n_envs, 2, 128)` uint8.

    What an agent sees in this way is more than a player sees: it is for making demonstrations, not for comparing agents.

    Args:
        venv: Environment whose innermost one is a `RecordedAtariVecEnv`.

    Raises:
        InputError: The innermost environment is another one.
    """

    def __init__(self, venv: VecEnv) -> None:
        games = venv.unwrapped
        if not isinstance(games, RecordedAtariVecEnv):
            raise InputError(f"only a RecordedAtariVecEnv tells its memory, not a {type(games).__name__}")
        super().__init__(venv, RAM_SPACE)
        self._games = games.games

    def reset(self) -> NDArray[np.uint8]:
        """Begin all games."""
        self.venv.reset()
        self._last = self._games.ram
        return np.stack([self._last, self._last], axis=1)

    def step_wait(self) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Collect the step's results; terminal observations are of memory too."""
        _, rewards, dones, infos = self.venv.step_wait()
        before, now = self._last, self._games.ram
        began = np.array(["episode" in info for info in infos])
        observations = np.stack([np.where(began[:, None], now, before), now], axis=1)
        for env in np.flatnonzero(dones).tolist():
            ended = [before[env], self._games.final_ram[env]]
            infos[env]["terminal_observation"] = np.stack(ended) if began[env] else observations[env]
        self._last = now
        return observations, rewards, dones, infos


class RamExtractor(ExtractorWithNeck):
    """Bytes, bits and movements of memory, standardized, and two linear layers with ReLU.

    Args:
        observation_space: Space of `VecRamObservation`, (2, 128) uint8.
        features_dim: Width of the last layer.
        hidden: Width of the first layer.

    Raises:
        InputError: The observations are others.
    """

    def __init__(self, observation_space: Space[Any], features_dim: int = 256, hidden: int = 512) -> None:
        if observation_space != RAM_SPACE:
            raise InputError(f"memory before and after a step is {RAM_SPACE}, got {observation_space}")
        super().__init__(observation_space, features_dim)
        inputs = 256 + 128 + 1024
        self.neck = nn.Sequential(
            Standardize((inputs,)), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, features_dim), nn.ReLU()
        )

    def forward(self, observations: Tensor) -> Tensor:
        """Map memory (B, 2, 128) to (B, features_dim) float32."""
        return self.apply_neck(self.encode(observations))

    def encode(self, observations: Tensor) -> Tensor:
        """Return the bytes, their movements in one step, and the bits of the last, (B, 1408) float32."""
        values = observations.flatten(1)
        moved = observations[:, 1] - observations[:, 0]
        moved = torch.where(moved.abs() > _FARTHEST, 0.0, moved)
        last = observations[:, 1].to(torch.uint8)
        bits = last.unsqueeze(2) >> torch.arange(8, device=values.device, dtype=torch.uint8) & 1
        return torch.cat([values, moved, bits.flatten(1).float()], dim=1)
