"""A replay buffer that holds each frame once, where Stable-Baselines3's holds it eight times."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from pretrainrl.errors import InputError

_ARRAYS = ("frames", "actions", "rewards", "dones", "starts")


class FrameReplayBuffer(ReplayBuffer):
    """Replay of stacked frames for `DQN` and `QRDQN`: 7 kB a transition of 84x84 frames instead of 56 kB.

    Stacks are put together when they are sampled. They are those that were added if stacks begin with zero frames, as
    those of `AtariVecEnv` and `VecFrameStack` do. Pass it as `replay_buffer_class`, with `n_steps` and `gamma` in
    `replay_buffer_kwargs`. A truncated game counts as over.

    Args:
        buffer_size: transitions of all environments together.
        observation_space: of stacked frames, (stack, height, width) uint8.
        action_space: discrete.
        device: of the samples.
        n_envs: environments.
        optimize_memory_usage: without effect.
        n_steps: rewards that are summed before bootstrapping.
        gamma: discount of each step.

    Raises:
        InputError: for other observations, or too small a buffer.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: Space[Any],
        action_space: Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
    ) -> None:
        shape = observation_space.shape
        if shape is None or len(shape) != 3 or observation_space.dtype != np.uint8:
            raise InputError(f"expected stacked frames (stack, height, width) uint8, got {observation_space}")
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.optimize_memory_usage, self.n_steps, self.gamma = optimize_memory_usage, n_steps, gamma
        self.stack, rows = shape[0], max(buffer_size // n_envs, 1)
        if rows < self.stack + n_steps:
            raise InputError(f"the buffer must hold at least {(self.stack + n_steps) * n_envs} transitions, not {buffer_size}")
        self.buffer_size = rows
        self.frames = np.zeros((rows, n_envs, *shape[1:]), np.uint8)
        self.actions = np.zeros((rows, n_envs), np.int64)
        self.rewards = np.zeros((rows, n_envs), np.float32)
        self.dones = np.ones((rows, n_envs), np.bool_)
        self.starts = np.zeros((rows, n_envs), np.bool_)

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Add a transition of every environment; `next_obs` is not needed, as the next call brings it."""
        self.frames[self.pos] = obs[:, -1]
        # After a lost life the stack goes on; a stack that is zero but for its newest frame begins.
        self.starts[self.pos] = self.dones[self.pos - 1] & ~obs[:, :-1].any(axis=(1, 2, 3))
        self.actions[self.pos] = action.reshape(self.n_envs)
        self.rewards[self.pos], self.dones[self.pos] = reward, done
        self.pos = (self.pos + 1) % self.buffer_size
        self.full |= self.pos == 0

    def sample(self, batch_size: int, env: Any = None) -> ReplayBufferSamples:
        """Draw transitions uniformly, but for the oldest, whose stacks are incomplete, and the newest."""
        oldest, low = (self.pos, self.stack - 1) if self.full else (0, 0)
        high = self.size() - self.n_steps
        if high <= low:
            raise InputError(f"there is nothing to sample among {self.size()} steps; raise learning_starts")
        rows = (oldest + np.random.randint(low, high, size=batch_size)) % self.buffer_size
        return self._get_samples(rows)

    def _get_samples(self, batch_inds: NDArray[np.int64], env: Any = None) -> ReplayBufferSamples:
        envs = np.random.randint(self.n_envs, size=len(batch_inds))
        rewards, running, discount = np.zeros(len(envs), np.float32), np.ones(len(envs), np.bool_), 1.0
        for step in range(self.n_steps):
            rows = (batch_inds + step) % self.buffer_size
            rewards += discount * running * self.rewards[rows, envs]
            running &= ~self.dones[rows, envs]
            discount *= self.gamma
        return ReplayBufferSamples(
            observations=self.to_torch(self._stacks(batch_inds, envs)),
            actions=self.to_torch(self.actions[batch_inds, envs][:, None]),
            # After an episode's end this is another one's, which `dones` keeps from mattering.
            next_observations=self.to_torch(self._stacks(batch_inds + self.n_steps, envs)),
            dones=self.to_torch((~running)[:, None].astype(np.float32)),
            rewards=self.to_torch(rewards[:, None]),
            discounts=self.to_torch(np.full((len(envs), 1), discount, np.float32)),
        )

    def _stacks(self, rows: NDArray[np.int64], envs: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Stacks (B, stack, height, width) of which `rows` hold the newest frame, zero before a game's start."""
        ages = np.arange(self.stack - 1, -1, -1)
        places = (rows[:, None] - ages) % self.buffer_size
        starts = self.starts[places, envs[:, None]]
        # A frame belongs to the stack if no younger frame of it begins a game.
        younger = np.cumsum(starts[:, ::-1], axis=1)[:, ::-1] - starts
        stacks: NDArray[np.uint8] = self.frames[places, envs[:, None]]
        stacks[younger > 0] = 0
        return stacks

    def save(self, file: Any) -> None:
        """Write what it holds, without pickle, to a path or file, `.npz`."""
        arrays = {name: getattr(self, name)[: self.size()] for name in _ARRAYS}
        np.savez(file, position=np.array([self.pos, self.full]), **arrays)

    def load(self, file: Any) -> None:
        """Read what `save` of a buffer of the same size has written."""
        with np.load(file) as saved:
            self.pos, self.full = int(saved["position"][0]), bool(saved["position"][1])
            for name in _ARRAYS:
                getattr(self, name)[: self.size()] = saved[name]
