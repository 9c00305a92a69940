"""The replay buffer of single frames gives the stacks that were added, and sums rewards within an episode."""

import io
from typing import Any

import numpy as np
import pytest
from experience import SPACES, experience
from experience import check as compare
from gymnasium.spaces import Box, Discrete

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import AtariVecEnv
from pretrainrl.integrations.sb3.replay import observation_store
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer
from pretrainrl.integrations.sb3.replay.prioritized_replay import PrioritizedReplayBuffer

ENVS, ROWS, GAMMA = 3, 64, 0.9


def filled(steps: int, n_steps: int = 3, buffer_size: int = ROWS * ENVS) -> tuple[CompactReplayBuffer, list[dict[str, Any]]]:
    """A buffer that has seen `steps` steps of Breakout, with lost lives and ends of games, and those steps."""
    env: Any = AtariVecEnv("breakout", ENVS, seed=1)
    buffer = CompactReplayBuffer(
        buffer_size, env.observation_space, env.action_space, "cpu", ENVS, n_steps=n_steps, gamma=GAMMA
    )
    rng = np.random.default_rng(0)
    obs, log = env.reset(), []
    for _ in range(steps):
        action = rng.integers(env.action_space.n, size=ENVS)
        new, reward, done, infos = env.step(action)
        final = new.copy()
        for i in np.flatnonzero(done):
            final[i] = infos[i]["terminal_observation"]
        buffer.add(obs, final, action, reward, done, infos)
        log.append({"obs": obs, "next": final, "action": action, "reward": reward, "done": done, "infos": infos})
        obs = new
    env.close()
    return buffer, log


def check(buffer: CompactReplayBuffer, log: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, n_steps: int) -> None:
    """Compare samples with the log, step by step."""
    drawn: list[np.ndarray] = []
    get = CompactReplayBuffer._get_samples

    def spy(self: CompactReplayBuffer, rows: np.ndarray, env: Any = None) -> Any:
        drawn.append(rows)
        return get(self, rows)

    monkeypatch.setattr(CompactReplayBuffer, "_get_samples", spy)
    np.random.seed(0)
    batch: Any = buffer.sample(256)
    np.random.seed(0)
    size = len(log) if not buffer.full else ROWS
    np.random.randint(0, size - n_steps + 1, size=256)
    envs = np.random.randint(ENVS, size=256)
    times = np.array([max(t for t in range(len(log)) if t % ROWS == row) for row in drawn[0]])
    assert times.min() == len(log) - size  # 256 draws from at most 64 rows
    assert times.max() == len(log) - n_steps
    ends = 0
    for k, (t, env) in enumerate(zip(times, envs, strict=True)):
        assert np.array_equal(batch.observations[k], log[t]["obs"][env])
        assert batch.actions[k] == log[t]["action"][env]
        total, last = 0.0, n_steps - 1
        for i in range(n_steps):
            total += GAMMA**i * log[t + i]["reward"][env]
            if log[t + i]["done"][env]:
                last = i
                break
        done = bool(log[t + last]["done"][env])
        assert float(batch.rewards[k]) == pytest.approx(total)
        assert bool(batch.dones[k]) == done
        assert float(batch.discounts[k]) == pytest.approx(GAMMA ** (last + 1))
        assert np.array_equal(batch.next_observations[k], log[t + last]["next"][env])
        ends += done
    assert ends > 0


@pytest.mark.parametrize("steps", [60, 600])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_samples_are_what_was_added(steps: int, n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, log = filled(steps, n_steps)
    games = sum("episode" in info for step in log for info in step["infos"])
    lives = sum(step["done"].sum() for step in log) - games
    assert lives > 0
    if steps == 600:
        assert games > 0
        assert buffer.full
    check(buffer, log, monkeypatch, n_steps)


def test_saved_and_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, log = filled(100)
    file = io.BytesIO()
    buffer.save(file)
    file.seek(0)
    other = CompactReplayBuffer(
        ROWS * ENVS, buffer.observation_space, buffer.action_space, "cpu", ENVS, n_steps=3, gamma=GAMMA
    )
    other.load(file)
    assert (other.pos, other.full) == (buffer.pos, buffer.full) == (100 - ROWS, True)
    check(other, log, monkeypatch, 3)


def test_seven_kilobytes_a_transition() -> None:
    space = Box(0, 255, (4, 84, 84), np.uint8)
    buffer = CompactReplayBuffer(1000, space, Discrete(4), "cpu", 4)
    buffer._allocate()
    arrays = (buffer._stores[""]._items, buffer._stores[""]._before, buffer._stores[""]._after, buffer.actions, buffer.rewards)
    assert sum(array.nbytes for array in arrays) / 1000 == pytest.approx(84 * 84, rel=0.04)
    assert buffer.bytes_per_transition() == pytest.approx(84 * 84, rel=0.01)


def test_memory_is_allocated_by_the_first_transition(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Box(0, 255, (4, 84, 84), np.uint8)
    monkeypatch.setattr(observation_store, "free_memory", lambda: 2**20)
    for size, message in ((3, "at least 4 transitions, not 3"), (10**9, "needs 6614.* GiB of memory, 0.0 GiB are available")):
        buffer = CompactReplayBuffer(size, frames, Discrete(2), "cpu", 2)
        step = (np.zeros((2, 4, 84, 84), np.uint8), np.zeros((2, 4, 84, 84), np.uint8), *np.zeros((3, 2)), [{}, {}])
        for refused in (buffer.check_size, lambda buffer=buffer, step=step: buffer.add(*step), buffer.arrays):
            with pytest.raises(InputError, match=message):
                refused()
        with pytest.raises(InputError, match="nothing to sample among 0 steps"):
            buffer.sample(4)


@pytest.mark.parametrize("cls", [CompactReplayBuffer, PrioritizedReplayBuffer])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_before_n_steps_are_over_there_are_shorter_returns(cls: type[CompactReplayBuffer], n_envs: int) -> None:
    """Agents such as DQN sample when they like: what they get is true of the steps there were, and bootstraps after them."""
    log = experience("features", n_envs, 9, 0.0, 1)
    buffer = cls(40 * n_envs, SPACES["features"], Discrete(3), "cpu", n_envs, n_steps=6, gamma=GAMMA)
    assert not buffer.is_ready
    for time, step in enumerate(log, 1):
        buffer.add(*step.arguments())
        assert buffer.is_ready == (time >= 6)
        index = np.arange(time * n_envs)
        batch: Any = buffer.transitions(index)
        for k in index.tolist():
            compare(batch, k, log[:time], k // n_envs, k % n_envs, 6, GAMMA)
        if time < 6:
            drawn = buffer.sample(200)
            assert np.array_equal(np.unique(drawn.observations, axis=0), np.unique(batch.observations, axis=0))
            assert drawn.observations.shape == (200, 7) and drawn.discounts.min() >= GAMMA**6 - 1e-6


def test_observations_are_an_array_as_in_other_buffers() -> None:
    buffer, log = filled(80)
    expected = [max(t for t in range(len(log)) if t % ROWS == row) for row in range(ROWS)]
    assert np.array_equal(buffer.observations, np.stack([log[t]["obs"] for t in expected]))
    both = CompactReplayBuffer(12, SPACES["dict"], Discrete(3), "cpu", 2)
    for step in experience("dict", 2, 5, 0.2, 0):
        both.add(*step.arguments())
    assert {key: each.shape for key, each in both.observations.items()} == {"frames": (6, 2, 4, 5, 6), "last": (6, 2, 2)}
    assert not both.observations["last"][5].any(), "no step yet"
