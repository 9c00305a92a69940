"""fill_replay_buffer: what is in the buffer is what the agent would have stored itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from dqn_shards import numbered
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from sb3_agents import CHANNEL_FIRST, CHANNEL_LAST, RandomFrames
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv

from pretrainrl import make_encoder
from pretrainrl.data.episode import Episode
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.minari import AtariDataset, open_dataset, write_dataset
from pretrainrl.integrations.sb3 import AtariVecEnv, PrioritizedReplayBuffer, VecEncodeObservation, fill_replay_buffer

NAME = "pretrainrl/atari/pong-random-v0"


class Row(NamedTuple):
    """One transition, as the slow reference has it."""

    obs: NDArray[np.uint8]
    next_obs: NDArray[np.uint8]
    action: int
    reward: float
    over: bool
    last: bool


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))


class Frames(RandomFrames):
    """Pong's actions, without the game."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.action_space = Discrete(6)


def agent(cls: Any = DQN, n_envs: int = 1, buffer_size: int = 100, env: Any = None, **settings: Any) -> Any:
    env = env or DummyVecEnv([lambda: Frames(space=CHANNEL_FIRST)] * n_envs)
    small: dict[str, Any] = {"net_arch": [8], "features_extractor_kwargs": {"features_dim": 8}}
    policy, kwargs = ("CnnPolicy", small) if len(env.observation_space.shape) == 3 else ("MlpPolicy", {"net_arch": [8]})
    return cls(policy, env, policy_kwargs=kwargs, buffer_size=buffer_size, device="cpu", seed=0, **settings)


def games() -> list[Episode]:
    """Six games; some are truncated, and their rewards are not clipped."""
    episodes = []
    for index, episode in enumerate(numbered([7, 3, 11, 1, 5, 9])):
        cut = episode.terminations if index % 2 else np.zeros(len(episode), bool)
        over = np.zeros(len(episode), bool) if index % 2 else episode.terminations
        parts = episode.frames, episode.actions, episode.rewards * 3, over, cut
        episodes.append(Episode(*parts, "pong"))
    return episodes


def reference(episodes: list[Episode], stack: int = 4) -> list[Row]:
    """All transitions in order, frame by frame."""
    rows = []
    for episode in episodes:
        seen = [np.zeros((84, 84), np.uint8)] * (stack - 1)
        for t in range(len(episode)):
            seen.append(episode.frames[t])
            obs, next_obs = np.stack(seen[-stack:]), np.stack([*seen[-stack + 1 :], episode.frames[t + 1]])
            over, last = bool(episode.terminations[t]), t == len(episode) - 1
            rows.append(Row(obs, next_obs, int(episode.actions[t]), float(episode.rewards[t]), over, last))
    return rows


def columns(rows: list[Row], n_envs: int, room: int = 10**9) -> list[list[Row]]:
    """What each environment's column holds; its last transition ends an episode, whether it did or not."""
    height = min(len(rows) // n_envs, room)
    parts = [rows[column * height : (column + 1) * height] for column in range(n_envs)]
    return [[*part[:-1], part[-1]._replace(last=True)] for part in parts]


def assert_holds(buffer: Any, expected: list[list[Row]], *, first: int = 0) -> None:
    assert buffer.pos == (first + len(expected[0])) % buffer.buffer_size
    for env, column in enumerate(expected):
        for number, row in enumerate(column, first):
            assert np.array_equal(buffer.observations[number, env], row.obs)
            assert np.array_equal(buffer.next_observations[number, env], row.next_obs)
            assert buffer.actions[number, env].item() == row.action
            assert buffer.rewards[number, env] == np.sign(row.reward)
            assert buffer.dones[number, env] == (row.over or row.last)
            assert buffer.timeouts[number, env] == (row.last and not row.over)


@pytest.mark.parametrize("n_envs", [1, 2, 3, 8])
def test_equal_to_the_slow_reference(n_envs: int) -> None:
    write_dataset(NAME, games())
    model = agent(n_envs=n_envs, buffer_size=50 * n_envs)
    assert fill_replay_buffer(model, NAME) == 36 // n_envs * n_envs
    assert_holds(model.replay_buffer, columns(reference(games()), n_envs))


@pytest.mark.parametrize("max_episode_steps", [40, 27_000])
def test_equal_to_what_the_agent_stores_itself(max_episode_steps: int) -> None:
    def make() -> Any:
        settings: dict[str, Any] = {
            "terminal_on_life_loss": False,
            "clip_reward": False,
            "max_episode_steps": max_episode_steps,
        }
        return agent(QRDQN, env=AtariVecEnv("breakout", 1, seed=3, **settings), buffer_size=400, learning_starts=10_000)

    played, filled = make(), make()
    played.learn(400)
    own = played.replay_buffer
    ends = [*np.flatnonzero(own.dones[:, 0]).tolist(), 399]
    assert len(ends) > 1  # there is a whole game
    episodes, start = [], 0
    for end in sorted(set(ends)):
        steps = slice(start, end + 1)
        frames = np.concatenate([own.observations[steps, 0, -1], own.next_observations[end, 0, -1:]])
        cut = own.timeouts[steps, 0] > 0
        over = (own.dones[steps, 0] > 0) & ~cut
        cut[-1] = not over[-1]
        actions, rewards = own.actions[steps, 0, 0].astype(np.int64), own.rewards[steps, 0]
        episodes.append(Episode(frames, actions, rewards, over, cut, "breakout"))
        start = end + 1
    write_dataset("pretrainrl/atari/breakout-mine-v0", episodes)
    assert fill_replay_buffer(filled, "pretrainrl/atari/breakout-mine-v0") == 400
    assert filled.replay_buffer.full
    for name in ("observations", "next_observations", "actions", "rewards"):
        assert np.array_equal(getattr(filled.replay_buffer, name), getattr(own, name)), name
    for name in ("dones", "timeouts"):  # the last game under way is truncated
        assert np.array_equal(getattr(filled.replay_buffer, name)[:-1], getattr(own, name)[:-1]), name


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("n_steps", [2, 3, 5])
@pytest.mark.parametrize("own", [False, True], ids=["sb3", "prioritized"])
def test_n_step_returns(n_envs: int, n_steps: int, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(NAME, games())
    steps = {"n_steps": n_steps, "gamma": 0.5}
    settings: dict[str, Any] = (
        {"replay_buffer_class": PrioritizedReplayBuffer, "replay_buffer_kwargs": steps} if own else steps
    )
    model = agent(n_envs=n_envs, buffer_size=50 * n_envs, **settings)
    fill_replay_buffer(model, NAME)
    for env, column in enumerate(columns(reference(games()), n_envs)):
        monkeypatch.setattr(np.random, "randint", lambda *_, size=None, env=env, **__: np.full(size, env))
        samples = model.replay_buffer._get_samples(np.arange(len(column)))
        for number in range(len(column)):
            ahead = column[number : number + n_steps]
            until = next((i for i, row in enumerate(ahead) if row.over or row.last), n_steps - 1)
            ahead = ahead[: until + 1]
            assert samples.rewards[number].item() == sum(0.5**i * np.sign(row.reward) for i, row in enumerate(ahead))
            assert samples.discounts[number].item() == 0.5 ** len(ahead)
            assert samples.dones[number].item() == ahead[-1].over
            assert np.array_equal(samples.next_observations[number].numpy(), ahead[-1].next_obs)


@pytest.mark.parametrize("buffer_size", [100, 24])
def test_memory_optimised_buffers(buffer_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(NAME, games())
    saving: dict[str, Any] = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    model = agent(n_envs=2, buffer_size=buffer_size, **saving)
    fill_replay_buffer(model, NAME)
    buffer = model.replay_buffer
    for env, column in enumerate(columns(reference(games()), 2, room=buffer_size // 2)):
        monkeypatch.setattr(np.random, "randint", lambda *_, size=None, env=env, **__: np.full(size, env))
        samples = buffer._get_samples(np.arange(len(column)))
        for number, row in enumerate(column):
            if buffer.full and number == 0:
                continue  # its place holds the last one's next observation, so it is never sampled
            assert np.array_equal(samples.observations[number].numpy(), row.obs)
            assert samples.dones[number].item() == (row.over or row.last)
            if not row.last:
                assert np.array_equal(samples.next_observations[number].numpy(), row.next_obs)


def test_stops_when_the_buffer_is_full() -> None:
    write_dataset(NAME, games())
    model = agent(n_envs=2, buffer_size=20)
    assert fill_replay_buffer(model, NAME) == 20
    assert model.replay_buffer.full
    assert_holds(model.replay_buffer, columns(reference(games()), 2, room=10))
    with pytest.raises(InputError, match="full: it holds 20 transitions"):
        fill_replay_buffer(model, NAME)


def test_filled_twice_and_after_learning() -> None:
    write_dataset(NAME, games())
    model = agent(n_envs=2, learning_starts=1000)
    model.learn(8)  # episodes of 3 steps: the second is under way
    assert model.replay_buffer.dones[3].tolist() == [0, 0]
    fill_replay_buffer(model, NAME)
    assert_holds(model.replay_buffer, columns(reference(games()), 2), first=4)
    assert model.replay_buffer.dones[3].tolist() == model.replay_buffer.timeouts[3].tolist() == [1, 1]
    fill_replay_buffer(model, NAME)
    assert_holds(model.replay_buffer, columns(reference(games()), 2), first=22)


@pytest.mark.parametrize("clip", [True, False])
def test_rewards_are_the_environment_s_unless_told(clip: bool) -> None:
    write_dataset(NAME, games())
    expected = np.concatenate([episode.rewards for episode in games()])
    signs = np.sign(expected)
    default = agent(env=AtariVecEnv("pong", 1, clip_reward=clip))
    fill_replay_buffer(default, NAME)
    assert np.array_equal(default.replay_buffer.rewards[:36, 0], signs if clip else expected)
    told = agent(env=AtariVecEnv("pong", 1, clip_reward=clip))
    fill_replay_buffer(told, NAME, clip_reward=not clip)
    assert np.array_equal(told.replay_buffer.rewards[:36, 0], expected if clip else signs)


@pytest.mark.parametrize("space", [CHANNEL_FIRST, CHANNEL_LAST])
def test_features_are_encoded_once(space: Any, batches: list[int]) -> None:
    write_dataset(NAME, games())
    env = VecEncodeObservation(DummyVecEnv([lambda: Frames(space=space)] * 2), "random.nature", dtype="float32")
    model = agent(env=env, buffer_size=80)
    batches.clear()
    assert fill_replay_buffer(model, NAME) == 36
    assert sum(batches) == 36 + len(games()) + 1  # an observation more for each episode, and for the one that is cut
    encoder = make_encoder("random.nature")
    buffer = model.replay_buffer
    assert buffer.observations.dtype == np.float16
    for number, env_column in enumerate(columns(reference(games()), 2)):
        for stored, frames in ((buffer.observations, "obs"), (buffer.next_observations, "next_obs")):
            stacks = torch.from_numpy(np.stack([getattr(row, frames) for row in env_column]))
            features = encoder(stacks).numpy()
            assert np.allclose(stored[: len(env_column), number], features, rtol=1e-3, atol=1e-6)


def test_long_episodes_are_encoded_in_batches(batches: list[int]) -> None:
    write_dataset(NAME, numbered([600]))
    model = agent(env=VecEncodeObservation(DummyVecEnv([Frames]), "random.nature"), buffer_size=1000)
    batches.clear()
    assert fill_replay_buffer(model, NAME) == 600
    assert batches == [256, 256, 89]


def test_the_filled_agent_trains() -> None:
    write_dataset(NAME, games())
    model = agent(QRDQN, env=AtariVecEnv("pong", 2), n_steps=3)
    fill_replay_buffer(model, open_dataset(NAME))
    model.set_logger(configure(None, []))
    before = [parameter.clone() for parameter in model.quantile_net.parameters()]
    model.train(gradient_steps=2, batch_size=16)
    after = list(model.quantile_net.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_parts_of_datasets() -> None:
    write_dataset(NAME, games())
    short = open_dataset(NAME).minari.filter_episodes(lambda episode: len(episode) > 6)
    model = agent()
    assert fill_replay_buffer(model, AtariDataset(short)) == 27
    assert_holds(model.replay_buffer, columns(reference([games()[index] for index in (0, 2, 5)]), 1))


def test_what_does_not_fit() -> None:
    write_dataset(NAME, games())
    with pytest.raises(DatasetError, match=f"did you mean {NAME}"):
        fill_replay_buffer(agent(), "pretrainrl/atari/pong-random-v1")
    with pytest.raises(InputError, match="PPO has no replay buffer; off-policy agents"):
        fill_replay_buffer(PPO("CnnPolicy", Frames(), n_steps=4, batch_size=4, device="cpu"), NAME)
    with pytest.raises(InputError, match=r"actions are Discrete\(4\), those of .* are Discrete\(6\)"):
        fill_replay_buffer(agent(env=AtariVecEnv("breakout", 1)), NAME)
    with pytest.raises(InputError, match="actions are Box"):
        env = RandomFrames(continuous=True)
        fill_replay_buffer(SAC("CnnPolicy", env, buffer_size=10, device="cpu"), NAME)
    with pytest.raises(InputError, match="actions mean NOOP, FIRE, UP, RIGHT, LEFT, DOWN, those"):
        fill_replay_buffer(agent(env=AtariVecEnv("qbert", 1)), NAME)
    with pytest.raises(InputError, match="the agent's observations are Box"):
        fill_replay_buffer(DQN("MlpPolicy", Vectors(), buffer_size=10, device="cpu"), NAME)
    with pytest.raises(InputError, match="36 transitions, fewer than the agent's 40 environments"):
        fill_replay_buffer(agent(n_envs=40, buffer_size=400), NAME)


class Vectors(Frames):
    """Observations that are no frames."""

    def __init__(self) -> None:
        from gymnasium.spaces import Box

        super().__init__(space=Box(0, 255, (12,), np.uint8))
