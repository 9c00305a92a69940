"""Replay under VecNormalize: what is stored comes from below it, what is sampled is normalized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from dqn_shards import numbered
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete
from sb3_agents import CHANNEL_LAST, RandomFrames
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.errors import InputError
from pretrainrl.integrations.minari import write_dataset
from pretrainrl.integrations.sb3 import AtariVecEnv, CompactReplayBuffer, Rainbow, VecEncodeObservation, fill_replay_buffer

NAME = "pretrainrl/atari/pong-random-v0"
VECTOR = Box(-9, 9, (5,), np.float32)
TABLE = MultiDiscrete(np.array([[2, 3], [4, 5]]))


class Numbers(gym.Env[Any, Any]):
    """Random vectors, alone or in a dictionary, and rewards that need normalizing."""

    action_space = Discrete(3)

    def __init__(self, space: Any) -> None:
        self.observation_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return (
            self.observation_space.sample(),
            float(self.np_random.normal(3, 5)),
            bool(self.np_random.random() < 0.2),
            False,
            {},
        )


@pytest.mark.parametrize("space", [VECTOR, Dict({"here": VECTOR, "there": Box(0, 1, (2,), np.float32)})])
def test_the_compact_buffer_samples_what_sb3s_does(space: Any) -> None:
    env = VecNormalize(DummyVecEnv([lambda: Numbers(space)]), gamma=0.9)
    sb3: Any = DictReplayBuffer if isinstance(space, Dict) else ReplayBuffer
    theirs, ours = (kind(60, space, env.action_space, device="cpu") for kind in (sb3, CompactReplayBuffer))
    env.reset()
    before: Any = env.get_original_obs()
    for _ in range(50):
        action = np.random.randint(3, size=1)
        _, _, dones, infos = env.step(action)
        now: Any = env.get_original_obs()
        final = infos[0].get("terminal_observation")
        after = now if final is None else env.unnormalize_obs(final)
        after = (
            {key: each[None] if each.ndim == 1 else each for key, each in after.items()} if isinstance(after, dict) else after
        )
        for buffer in (theirs, ours):
            buffer.add(
                before, np.reshape(after, (1, -1)) if not isinstance(after, dict) else after, action, *rest(env, dones, infos)
            )
        before = now
    index = np.arange(49)
    expected, found = theirs._get_samples(index, env=env), ours.transitions(index, env)
    for name in ("observations", "next_observations", "actions", "dones", "rewards"):
        one, other = getattr(expected, name), getattr(found, name)
        pairs = [(one[key], other[key]) for key in one] if isinstance(one, dict) else [(one, other)]
        for each, same in pairs:
            torch.testing.assert_close(same.float(), each.float(), rtol=1e-5, atol=1e-5)


def rest(env: VecNormalize, dones: Any, infos: Any) -> tuple[Any, ...]:
    return env.get_original_reward(), dones, infos


def test_a_dataset_is_stored_raw_and_sampled_normalized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = numbered([7, 9])
    write_dataset(NAME, episodes)
    encoder = VecEncodeObservation(AtariVecEnv("pong", 1, seed=0), "random.nature", device="cpu")
    env = VecMonitor(VecNormalize(encoder, training=False))
    normalize: Any = env.venv
    normalize.obs_rms.mean, normalize.obs_rms.var = np.full(3136, 0.5), np.full(3136, 4.0)
    kinds: tuple[dict[str, Any], ...] = ({}, {"replay_buffer_class": CompactReplayBuffer})
    agents = [DQN("MlpPolicy", env, buffer_size=50, device="cpu", policy_kwargs={"net_arch": [8]}, **more) for more in kinds]
    stacks = np.concatenate([np.zeros((3, 84, 84), np.uint8), episodes[0].frames])
    expected = encoder.encode(np.stack([stacks[time : time + 4] for time in range(7)]))
    for agent in agents:
        assert fill_replay_buffer(agent, NAME) == 16
        buffer: Any = agent.replay_buffer
        index = np.arange(7)
        raw = buffer.observations[index, 0] if type(buffer) is ReplayBuffer else buffer.observations_at(index)
        np.testing.assert_array_equal(raw, expected)
        sampled = buffer._get_samples(index, env=normalize).observations
        np.testing.assert_allclose(sampled.numpy(), np.clip((expected - 0.5) / 2, -10, 10), rtol=1e-4, atol=1e-4)


def test_observations_from_below_another_wrapper_are_refused() -> None:
    """Stable-Baselines3 transposes above VecNormalize, and stores what has not been transposed."""
    env = VecNormalize(DummyVecEnv([lambda: RandomFrames(CHANNEL_LAST)]), norm_obs=False)
    kwargs = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
    agent = Rainbow("CnnPolicy", env, buffer_size=100, learning_starts=4, policy_kwargs=kwargs, device="cpu")
    with pytest.raises(InputError, match=r"observations of shape \(4, 84, 84\), got \(84, 84, 4\); with VecNormalize, put it"):
        agent.learn(8)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (Discrete(4, start=1), Discrete(3), r"observations must count from 0, got Discrete\(4, start=1\)"),
        (TABLE, Discrete(3), "observations must be a single row of numbers"),
        (Dict({"here": MultiDiscrete([2, 3], start=[0, 1])}), Discrete(3), "observations must count from 0"),
        (VECTOR, Discrete(3, start=-1), "actions must count from 0"),
        (VECTOR, TABLE, "actions must be a single row of numbers"),
    ],
)
def test_numbers_that_are_misread_are_refused(observations: Any, actions: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompactReplayBuffer(20, observations, actions)


def test_rainbow_refuses_them_at_construction() -> None:
    class States(Numbers):
        pass

    with pytest.raises(InputError, match="observations must count from 0"):
        Rainbow("MlpPolicy", DummyVecEnv([lambda: States(Discrete(4, start=1))]), buffer_size=100)


def test_flipped_and_read_only_frames_are_stored(tmp_path: Path) -> None:
    (episode,) = numbered([7])
    plain = FrameCache.build([episode], tmp_path / "plain")
    frames = np.ascontiguousarray(episode.frames[:, ::-1])[:, ::-1]
    frames.flags.writeable = False
    assert frames.strides[1] < 0
    flipped = FrameCache.build([replace(episode, frames=frames)], tmp_path / "flipped")
    assert torch.equal(plain.frames.read(torch.arange(9)), flipped.frames.read(torch.arange(9)))
