"""Prioritized replay against lists: what can be drawn, how likely, and that it is what was added."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experience import SPACES, Step, at, check, experience, is_ready
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import VecNormalize

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import AtariVecEnv
from pretrainrl.integrations.sb3.replay import observation_store
from pretrainrl.integrations.sb3.replay.prioritized_replay import PrioritizedReplayBuffer

GAMMA, ALPHA = 0.9, 0.6


def empty(kind: str, rows: int, n_envs: int, n_steps: int) -> PrioritizedReplayBuffer:
    sizes = (rows * n_envs, SPACES[kind], Discrete(3), "cpu", n_envs)
    return PrioritizedReplayBuffer(*sizes, n_steps=n_steps, gamma=GAMMA, alpha=ALPHA)


def filled(log: list[Step], *sizes: Any) -> PrioritizedReplayBuffer:
    buffer = empty(*sizes)
    for step in log:
        buffer.add(*step.arguments())
    return buffer


def drawable(log: list[Step], rows: int, n_envs: int, n_steps: int) -> dict[int, tuple[int, int]]:
    """Index -> (time, environment) of all transitions that can be drawn."""
    times = range(max(0, len(log) - rows), len(log))
    pairs = [(t, env) for t in times for env in range(n_envs) if is_ready(log, t, env, n_steps)]
    return {t % rows * n_envs + env: (t, env) for t, env in pairs}


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(sorted(SPACES)),
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 4),
    more_rows=st.integers(1, 9),
    steps=st.integers(1, 45),
    ends=st.sampled_from([0.0, 0.1, 0.3, 1.0]),
    seed=st.integers(0, 999),
)
def test_every_transition_is_what_was_added(
    kind: str, n_envs: int, n_steps: int, more_rows: int, steps: int, ends: float, seed: int
) -> None:
    """At every position, before and after the ring is full, and through a copy in between."""
    rows, log = n_steps + more_rows, experience(kind, n_envs, steps, ends, seed)
    buffer = empty(kind, rows, n_envs, n_steps)
    for time, step in enumerate(log, 1):
        buffer.add(*step.arguments())
        if time == steps // 2:
            for store in buffer._stores.values():
                store.__setstate__(store.__getstate__())
        seen = [Step(**vars(each)) for each in log[:time]]
        places = drawable(seen, rows, n_envs, n_steps)
        priorities = buffer._tree.get(np.arange(rows * n_envs))
        assert set(np.flatnonzero(priorities)) == set(places)
        if time in {steps, steps // 2} and places:
            batch = buffer.transitions(np.array(list(places)))
            for k, (t, env) in enumerate(places.values()):
                check(batch, k, seen, t, env, n_steps, GAMMA)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(sorted(SPACES)),
    n_envs=st.integers(1, 3),
    n_steps=st.integers(1, 3),
    more_rows=st.tuples(st.integers(1, 6), st.integers(0, 9)),
    steps=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    seed=st.integers(0, 999),
)
def test_what_a_smaller_buffer_held_goes_on_in_a_larger_one(
    kind: str, n_envs: int, n_steps: int, more_rows: tuple[int, int], steps: tuple[int, int], seed: int
) -> None:
    rows, before = n_steps + more_rows[0], steps[0]
    larger, log = rows + more_rows[1], experience(kind, n_envs, sum(steps), 0.2, seed)
    file = io.BytesIO()
    filled(log[:before], kind, rows, n_envs, n_steps).save(file)
    file.seek(0)
    buffer = empty(kind, larger, n_envs, n_steps)
    buffer.load(file)
    for step in log[before:]:
        buffer.add(*step.arguments())
    gone = max(0, before - rows)  # steps that the smaller one had overwritten
    first = gone if larger > rows else 0  # which is in row 0
    times = range(max(gone, len(log) - larger), len(log))
    pairs = [(t, env) for t in times for env in range(n_envs) if is_ready(log, t, env, n_steps)]
    places = {(t - first) % larger * n_envs + env: (t, env) for t, env in pairs}
    assert set(np.flatnonzero(buffer._tree.get(np.arange(larger * n_envs)))) == set(places)
    if places:
        batch = buffer.transitions(np.array(list(places)))
        for k, (t, env) in enumerate(places.values()):
            check(batch, k, log, t, env, n_steps, GAMMA)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(5, 8), st.integers(0, 999))
def test_priorities_are_those_of_a_list(n_envs: int, n_steps: int, rows: int, seed: int) -> None:
    """New ones are the largest there was, changed ones stay, those of overwritten or unready transitions are zero."""
    log, rng = experience("features", n_envs, 30, 0.2, seed), np.random.default_rng(seed)
    buffer, slow, largest = empty("features", rows, n_envs, n_steps), np.zeros(rows * n_envs), 1.0
    known: set[tuple[int, int]] = set()
    for time, step in enumerate(log, 1):
        buffer.add(*step.arguments())
        slow[(time - 1) % rows * n_envs : ((time - 1) % rows + 1) * n_envs] = 0
        places = drawable(log[:time], rows, n_envs, n_steps)
        for index, pair in places.items():
            if pair not in known:
                slow[index] = largest**ALPHA
        known |= set(places.values())
        np.testing.assert_allclose(buffer._tree.get(np.arange(len(slow))), slow)

        indices = rng.integers(rows * n_envs, size=6)  # some that cannot be drawn, some twice
        new = rng.choice([0.0, 0.5, 3.0, 7.0], size=6)
        as_tensors = time % 2 == 0
        buffer.update_priorities(
            *((torch.from_numpy(indices), torch.from_numpy(new)[:, None]) if as_tensors else (indices, new))
        )
        largest = max(largest, *new)
        for index, priority in zip(indices.tolist(), new.tolist(), strict=True):
            slow[index] = max(priority, 1e-6) ** ALPHA if index in places else 0.0
        np.testing.assert_allclose(buffer._tree.get(np.arange(len(slow))), slow)


def test_law_and_weights() -> None:
    log = experience("features", 2, 40, 0.1, 0)
    buffer = filled(log, "features", 30, 2, 3)
    ready = np.flatnonzero(buffer._tree.get(np.arange(60)))
    priorities = np.maximum(np.random.default_rng(0).random(len(ready)) * (np.arange(len(ready)) != 5), 1e-6)
    buffer.update_priorities(ready, priorities)
    law = np.zeros(60)
    law[ready] = priorities**ALPHA / (priorities**ALPHA).sum()
    np.random.seed(0)
    counts = np.zeros(60)
    for _ in range(2000):
        batch = buffer.sample(8, beta=0.7)
        counts += np.bincount(batch.indices, minlength=60)
        by_hand = (1 / law[batch.indices]) ** 0.7
        np.testing.assert_allclose(batch.weights[:, 0], by_hand / by_hand.max(), rtol=1e-5)
    assert counts[law == 0].sum() == 0
    expected = law * counts.sum()
    likely = expected > 5
    chi_square, freedom = ((counts - expected)[likely] ** 2 / expected[likely]).sum(), likely.sum()
    assert freedom / 10 < chi_square < freedom + 3 * (2 * freedom) ** 0.5


def test_shapes_and_types() -> None:
    batch = filled(experience("zero-padded stack", 2, 20, 0.1, 0), "zero-padded stack", 30, 2, 3).sample(5)
    assert batch.observations.shape == batch.next_observations.shape == (5, 4, 5, 6)
    assert batch.observations.dtype == torch.uint8
    assert batch.actions.shape == (5, 1)
    for each in (batch.dones, batch.rewards, batch.discounts, batch.weights):
        assert (each.shape, each.dtype) == ((5, 1), torch.float32)
    assert (batch.indices.shape, batch.indices.dtype) == ((5,), np.int64)
    assert filled(experience("features", 1, 9, 0, 0), "features", 9, 1, 1).sample(2).observations.dtype == torch.float16


def test_without_timeout_handling_a_timeout_is_an_end() -> None:
    log = experience("features", 1, 1, 0, 0)
    log[0].dones[0] = log[0].timeouts[0] = True
    for handle in (True, False):
        buffer = PrioritizedReplayBuffer(9, SPACES["features"], Discrete(3), "cpu", handle_timeout_termination=handle)
        buffer.add(*log[0].arguments())
        assert float(buffer.sample(1).dones[0]) == (0.0 if handle else 1.0)


def test_normalises_as_stable_baselines() -> None:
    class Env(VecNormalize):
        def __init__(self) -> None:
            pass

        def normalize_obs(self, obs: Any) -> Any:
            return obs * np.float16(2)

        def normalize_reward(self, reward: Any) -> Any:
            return np.minimum(reward, 0.25)

    log = experience("features", 1, 9, 0, 0)
    batch: Any = filled(log, "features", 9, 1, 2).sample(4, Env())
    for k, row in enumerate(batch.indices.tolist()):
        first, second = (min(float(log[t].rewards[0]), 0.25) for t in (row, row + 1))
        assert float(batch.rewards[k]) == pytest.approx(first + GAMMA * second, abs=1e-5)
        assert np.array_equal(batch.observations[k], at(log[row].obs, 0) * 2)


def test_reset_forgets() -> None:
    buffer = filled(experience("features", 2, 20, 0.1, 0), "features", 9, 2, 2)
    buffer.reset()
    with pytest.raises(InputError, match="nothing to sample among 0 steps"):
        buffer.sample(2)


@pytest.mark.parametrize("agent", [DQN, QRDQN])
def test_serves_agents_and_survives_saving(agent: Any, tmp_path: Path) -> None:
    env = AtariVecEnv("breakout", 2, seed=0)
    small: dict[str, Any] = {"net_arch": [], "features_extractor_kwargs": {"features_dim": 8}}
    replay: dict[str, Any] = {
        "replay_buffer_class": PrioritizedReplayBuffer,
        "replay_buffer_kwargs": {"n_steps": 3, "alpha": 0.5},
    }
    model = agent("CnnPolicy", env, buffer_size=120, learning_starts=60, policy_kwargs=small, batch_size=4, seed=0, **replay)
    model.learn(130)
    assert model._n_updates > 0
    model.save_replay_buffer(tmp_path / "replay")
    before = model.replay_buffer
    model.load_replay_buffer(tmp_path / "replay")
    after = model.replay_buffer
    assert after is not before
    for _ in range(3):
        samples = []
        for buffer in (before, after):
            np.random.seed(1)
            samples.append(buffer.sample(50))
        for one, other in zip(*samples, strict=True):
            np.testing.assert_array_equal(one, other)
        step = experience("features", 2, 1, 0, 0)[0]
        frames = np.random.default_rng(0).integers(0, 255, (2, 4, 84, 84), np.uint8)
        for buffer in (before, after):
            buffer.add(frames, frames, step.actions, step.rewards, step.dones, [{}, {}])
    model.learn(20, reset_num_timesteps=False)
    env.close()


@pytest.mark.parametrize("kind", sorted(SPACES))
@pytest.mark.parametrize("steps", [3, 30])
def test_kept_without_pickle(kind: str, steps: int, tmp_path: Path) -> None:
    """What was loaded goes on as what was saved: the same draws, weights and priorities, before and after the ring is full."""
    sizes, log = (kind, 9, 2, 2), experience(kind, 2, steps + 12, 0.2, 0)
    buffer = filled(log[:steps], *sizes)
    buffer.update_priorities(np.arange(2), np.array([5.0, 0.3]))
    buffer.save(tmp_path / "replay.npz")
    other = empty(*sizes)
    other.load(tmp_path / "replay.npz")
    for step in log[steps:]:
        drawn = []
        for each in (buffer, other):
            np.random.seed(0)
            drawn.append(each.sample(16))
            each.update_priorities(drawn[-1].indices, np.linspace(0.1, 4, 16))
            each.add(*step.arguments())
        for one, two in zip(*drawn, strict=True):
            pairs = [(one[key], two[key]) for key in one] if isinstance(one, dict) else [(one, two)]
            assert all(np.array_equal(a, b) for a, b in pairs)


def test_an_eighth_of_the_memory() -> None:
    buffer = PrioritizedReplayBuffer(1000, Box(0, 255, (4, 84, 84), np.uint8), Discrete(4), "cpu", 4)
    assert buffer.bytes_per_transition() * 100_000 / 1e9 == pytest.approx(0.71, abs=0.01)
    buffer._allocate()
    items = buffer._stores[""]._items
    assert items.nbytes / 1000 == pytest.approx(84 * 84, rel=0.03)


def test_refuses_what_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = Box(0, 255, (4, 84, 84), np.uint8)
    with pytest.raises(InputError, match="at least 22 transitions, not 21: n_steps \\+ 1 of each"):
        PrioritizedReplayBuffer(21, frames, Discrete(3), "cpu", 2, n_steps=10).check_size()
    with pytest.raises(InputError, match="n_steps must be at least 1, got 0"):
        PrioritizedReplayBuffer(21, frames, Discrete(3), n_steps=0)
    with pytest.raises(InputError, match="alpha must be at least 0"):
        PrioritizedReplayBuffer(21, frames, Discrete(3), alpha=-0.5)
    monkeypatch.setattr(observation_store, "free_memory", lambda: 2**30)
    message = r"1,000,000 transitions needs 6\.\d GiB of memory, 1\.0 GiB are available; lower buffer_size"
    with pytest.raises(InputError, match=message):
        PrioritizedReplayBuffer(1_000_000, frames, Discrete(3)).check_size()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 40.0, 1e4])
def test_without_any_error_all_are_drawn(alpha: float) -> None:
    """Neither a priority of zero nor an extreme exponent takes a transition out of replay, or replay to its end."""
    buffer = PrioritizedReplayBuffer(9, SPACES["features"], Discrete(3), "cpu", alpha=alpha)
    for step in experience("features", 1, 9, 0, 0):
        buffer.add(*step.arguments())
    for priorities in (np.zeros(9), np.full(9, 1e30), np.zeros(9)):
        buffer.update_priorities(np.arange(9), priorities)
        batch = buffer.sample(900)
        assert np.bincount(batch.indices, minlength=9).min() > 50
        assert torch.allclose(batch.weights, torch.ones(900, 1))
        assert not batch.rewards.isnan().any()


def test_what_had_no_error_once_is_drawn_again() -> None:
    buffer = filled(experience("features", 1, 9, 0, 0), "features", 9, 1, 1)
    buffer.update_priorities(np.arange(9), np.where(np.arange(9) == 4, 0.0, 1.0))
    np.random.seed(0)
    assert 0 < sum((buffer.sample(64).indices == 4).sum() for _ in range(3_000)) < 200


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_refuses_bad_priorities(bad: float) -> None:
    buffer = filled(experience("features", 1, 9, 0, 0), "features", 9, 1, 1)
    before = buffer._tree.get(np.arange(9))
    with pytest.raises(InputError, match="finite and at least 0"):
        buffer.update_priorities(np.array([1, 2]), np.array([1.0, bad]))
    with pytest.raises(InputError, match="got 1 for 2"):
        buffer.update_priorities(np.array([1, 2]), np.array([1.0]))
    assert (buffer._tree.get(np.arange(9)) == before).all()


def test_pictures_that_share_nothing_stop_before_memory_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    log = experience("picture", 1, 40, 0, 0)
    buffer = empty("picture", 40, 1, 1)
    buffer._allocate()
    monkeypatch.setattr(observation_store, "free_memory", lambda: 10)
    with pytest.raises(InputError, match="more room for observations needs"):
        for step in log:
            buffer.add(*step.arguments())
