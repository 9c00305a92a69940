"""Uniform replay of single frames."""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Space

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.compact_replay import CompactReplayBuffer
from pretrainrl.integrations.sb3.observation_store import is_stack


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
