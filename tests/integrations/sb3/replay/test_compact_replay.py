"""The replay buffer of single frames gives the stacks that were added, and sums rewards within an episode."""

import io
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import AtariVecEnv
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer

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
    arrays = (buffer._stores[""]._items, buffer._stores[""]._before, buffer._stores[""]._after, buffer.actions, buffer.rewards)
    assert sum(array.nbytes for array in arrays) / 1000 == pytest.approx(84 * 84, rel=0.04)
    assert buffer.bytes_per_transition() == pytest.approx(84 * 84, rel=0.01)


def test_refuses_what_does_not_fit() -> None:
    frames = Box(0, 255, (4, 84, 84), np.uint8)
    with pytest.raises(InputError, match="at least 4 transitions, not 3"):
        CompactReplayBuffer(3, frames, Discrete(2), "cpu", 2)
    buffer, _ = filled(2, n_steps=3)
    with pytest.raises(InputError, match="nothing to sample among 2 steps"):
        buffer.sample(4)
