"""Uniform replay of single frames, kept between runs without pickle."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Space

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.compact_replay import CompactReplayBuffer
from pretrainrl.integrations.sb3.observation_store import is_stack

_ARRAYS = ("actions", "rewards", "dones", "timeouts")


class FrameReplayBuffer(CompactReplayBuffer):
    """Replay of stacked frames for `DQN` and `QRDQN`: 7 kB a transition of 84x84 frames instead of 56 kB.

    Stacks are put together when they are sampled. Pass it as `replay_buffer_class`, with `n_steps` and `gamma` in
    `replay_buffer_kwargs`.

    Args:
        buffer_size: transitions of all environments together.
        observation_space: of stacked frames, (stack, height, width) uint8.
        arguments: those of `CompactReplayBuffer`.
        options: likewise.

    Raises:
        InputError: for other observations, too small a buffer or too large a one.
    """

    def __init__(self, buffer_size: int, observation_space: Space[Any], *arguments: Any, **options: Any) -> None:
        if not is_stack(observation_space):
            raise InputError(f"expected stacked frames (stack, height, width) uint8, got {observation_space}")
        super().__init__(buffer_size, observation_space, *arguments, **options)

    def save(self, file: Any) -> None:
        """Write what it holds, without pickle, to a path or file, `.npz`."""
        own: dict[str, Any] = {name: getattr(self, name)[: self.size()] for name in _ARRAYS}
        seen: dict[str, Any] = self._stores[""].arrays()
        np.savez(file, position=np.array([self.pos, self.full]), **own, **seen)

    def load(self, file: Any) -> None:
        """Read what `save` of a buffer of the same size has written."""
        with np.load(file) as saved:
            self.pos, self.full = int(saved["position"][0]), bool(saved["position"][1])
            for name in _ARRAYS:
                getattr(self, name)[: self.size()] = saved[name]
            self._stores[""].restore(saved)
