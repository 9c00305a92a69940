"""Standardizing necks in every algorithm: when their statistics are measured, from what, and that it happens once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from feature_agents import KINDS, Fits, check_statistics, features_env, make, standardizers
from sb3_agents import same, weights
from stable_baselines3.common.vec_env import VecNormalize

from pretrainrl.integrations.sb3.encoding import standardization as module
from pretrainrl.networks.standardize import Standardize

# --- every algorithm does it by itself


@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_measures_once(kind: str, fits: Fits, tmp_path: Path) -> None:
    env = features_env(KINDS[kind][2])
    agent = make(kind, env)
    stored = []
    step = env.step_wait

    def recording() -> Any:
        stored.append(np.array(agent._last_obs))
        return step()

    env.step_wait = recording  # type: ignore[method-assign]
    states: list[bool] = [each.is_fitted for each in standardizers(agent)]
    agent.learn(60)
    assert not any(states) and agent._n_updates > 0
    [seen] = fits.seen
    assert len(seen) == (42 if hasattr(agent, "learning_starts") else 40), "what was stored when training began"
    expected = np.concatenate(stored[: len(seen) // 2])
    assert np.array_equal(np.sort(seen, axis=0), np.sort(expected.astype(np.float32), axis=0))
    first, *others = standardizers(agent)
    check_statistics(first, expected)
    assert all(each.is_fitted and same(weights(each), weights(first)) for each in others), "targets, actors, critics"
    assert (first(torch.as_tensor(expected))[:, 3] == 0).all(), "what never changes"

    agent.save(tmp_path / "agent.zip")
    loaded = type(agent).load(tmp_path / "agent.zip", env=features_env(KINDS[kind][2]), device="cpu")
    assert same(weights(loaded.policy), weights(agent.policy))
    assert np.array_equal(*(each.predict(expected[:5], deterministic=True)[0] for each in (loaded, agent)))
    before = weights(standardizers(loaded)[0])
    updates = loaded._n_updates
    loaded.learn(60)
    agent.learn(20, reset_num_timesteps=False)
    assert loaded._n_updates > updates and len(fits.seen) == 1
    assert all(same(weights(each), before) for each in (*standardizers(agent), *standardizers(loaded)))


@pytest.mark.parametrize("kind", ["DQN", "PPO", "SAC", "Rainbow"])
def test_parameters_and_policies_carry_the_statistics(kind: str, tmp_path: Path) -> None:
    agent, other = make(kind).learn(60), make(kind, seed=1)
    other.set_parameters(agent.get_parameters())
    agent.policy.save(tmp_path / "policy.pth")
    policy = type(agent.policy).load(tmp_path / "policy.pth", device="cpu")
    for each in (other.policy, policy):
        assert same(weights(each), weights(agent.policy))
        assert all(found.is_fitted for found in each.modules() if isinstance(found, Standardize))
    other.learn(60)
    assert same(weights(standardizers(other)[0]), weights(standardizers(agent)[0]))


def test_training_is_what_it_would_be_with_the_statistics_at_hand() -> None:
    """Off-policy nothing depends on the neck before training begins."""
    agent = make("Rainbow").learn(60)
    ahead = make("Rainbow")
    for each in standardizers(ahead):
        each.load_state_dict(standardizers(agent)[0].state_dict())
    ahead.learn(60)
    assert same(weights(agent.policy), weights(ahead.policy))


def test_equal_seeds_give_equal_agents() -> None:
    assert all(same(weights(make(kind).learn(60).policy), weights(make(kind).learn(60).policy)) for kind in ("DQN", "PPO"))


def test_a_full_ring_is_read_evenly(fits: Fits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OBSERVATIONS", 50)
    monkeypatch.setattr(module, "_BATCH", 7)
    agent: Any = make("DQN", learning_starts=300)
    agent.learn(304)
    [seen] = fits.seen
    assert len(seen) == 50 and agent.replay_buffer.full
    stored = agent.replay_buffer.observations.reshape(-1, 6).astype(np.float32)
    places = [int(np.flatnonzero((stored == row).all(axis=1))[0]) for row in seen if (stored == row).all(axis=1).any()]
    assert len(places) >= 48, "two observations were overwritten since"
    assert places == sorted(places) and set(np.diff(places)) <= {4, 5, 8, 9}


def test_vec_normalize_comes_first(fits: Fits) -> None:
    for kind in ("DQN", "PPO"):
        env: Any = VecNormalize(features_env(), norm_reward=False)
        agent: Any = make(kind, env)
        env.training = False
        env.obs_rms.mean, env.obs_rms.var = np.arange(6.0), np.arange(1, 7.0)
        agent.learn(60)
        buffer = agent.replay_buffer if kind == "DQN" else agent.rollout_buffer
        seen = fits.seen.pop()
        if kind == "DQN":
            stored = buffer.observations[:21].reshape(-1, 6)
            np.testing.assert_allclose(seen, env.normalize_obs(stored), rtol=1e-3, atol=1e-3)
        assert np.allclose(seen[:, 3], seen[0, 3]) and np.abs(seen).max() <= 10.01, "clipped as VecNormalize does"
