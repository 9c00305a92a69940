"""What a saved agent holds, what it refuses when it is loaded, and how it goes on learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from torch import nn

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import BehaviorCloning, CompactReplayBuffer, PrioritizedReplayBuffer, Rainbow
from pretrainrl.integrations.sb3.replay import observation_store
from pretrainrl.networks import c51

SMALL: dict[str, Any] = {"batch_size": 4, "seed": 0, "device": "cpu", "buffer_size": 2_000, "train_freq": 1}
NARROW: dict[str, Any] = {"net_arch": [8]}
OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def make(**arguments: Any) -> Rainbow:
    return Rainbow("MlpPolicy", "CartPole-v1", **{**SMALL, "policy_kwargs": NARROW, **arguments})


def make_clone(**arguments: Any) -> BehaviorCloning:
    env = make_vec_env("CartPole-v1", 1)
    spaces_of: dict[str, Any] = {"observation_space": env.observation_space, "action_space": env.action_space}
    return BehaviorCloning("MlpPolicy", device="cpu", **spaces_of, **arguments)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make().save(tmp_path / "agent.zip")
    return tmp_path / "agent.zip"


# --- going on


@pytest.mark.parametrize(("n_envs", "n_steps"), [(1, 10), (16, 3), (64, 10)])
@pytest.mark.parametrize("prioritized", [True, False])
def test_updates_wait_for_transitions_of_n_steps(n_envs: int, n_steps: int, prioritized: bool, tmp_path: Path) -> None:
    """An agent that was loaded has learned for longer than `learning_starts`, and has an empty buffer."""
    env = make_vec_env("CartPole-v1", n_envs)
    agent = Rainbow(
        "MlpPolicy",
        env,
        n_steps=n_steps,
        learning_starts=0,
        prioritized=prioritized,
        policy_kwargs=NARROW,
        **SMALL,
    )
    agent.learn((n_steps + 1) * n_envs)
    assert 0 < agent._n_updates <= n_steps + 1
    agent.save(tmp_path / "agent.zip")
    loaded = Rainbow.load(tmp_path / "agent.zip", env=env, device="cpu")
    before = loaded._n_updates
    for _ in range(n_steps + 2):
        waiting = not loaded.replay_buffer.is_ready
        loaded.learn(n_envs, reset_num_timesteps=False)
        waiting &= not loaded.replay_buffer.is_ready
        assert (loaded._n_updates == before) == waiting
        before = loaded._n_updates
    assert loaded.replay_buffer.size() == n_steps + 2 and not waiting


@pytest.mark.parametrize("algorithm", [DQN, QRDQN])
@pytest.mark.parametrize("buffer", [CompactReplayBuffer, PrioritizedReplayBuffer])
@pytest.mark.parametrize("n_envs", [1, 16])
def test_others_go_on_with_our_buffers(algorithm: Any, buffer: Any, n_envs: int, tmp_path: Path) -> None:
    """They update after every step from the first on, as with Stable-Baselines3's own n-step buffer."""
    env = make_vec_env("CartPole-v1", n_envs)
    replay: dict[str, Any] = {"replay_buffer_class": buffer, "replay_buffer_kwargs": {"n_steps": 10}}
    agent = algorithm("MlpPolicy", env, policy_kwargs={**NARROW}, learning_starts=0, **replay, **SMALL).learn(3 * n_envs)
    assert agent._n_updates == 3
    agent.save(tmp_path / "agent.zip")
    loaded = algorithm.load(tmp_path / "agent.zip", env=env, device="cpu")
    loaded.learn(3 * n_envs, reset_num_timesteps=False)
    assert loaded._n_updates == 6
    assert all(tensor.isfinite().all() for tensor in loaded.policy.state_dict().values())
    player = algorithm.load(tmp_path / "agent.zip", device="cpu", buffer_size=1)
    assert player.predict(OBSERVATIONS)[0].shape == (20,)


@pytest.mark.parametrize("noisy", [True, False])
def test_exploration_may_end_at_once(noisy: bool) -> None:
    agent = make(exploration_fraction=0, exploration_final_eps=0.25, noisy=noisy, learning_starts=5).learn(20)
    assert agent.exploration_rate == (0 if noisy else 0.25)
    with pytest.raises(InputError, match=r"exploration_fraction must be in \[0, 1\], got -0.1"):
        make(exploration_fraction=-0.1)


def test_returns_beyond_the_support_do_not_end_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 51 atoms from 0 to 7, float32 puts 7 after the last atom."""
    smallest, project = [], c51.project

    def spy(*arguments: Any) -> torch.Tensor:
        projected = project(*arguments)
        smallest.append(projected.min().item())
        return projected

    monkeypatch.setattr(c51, "project", spy)
    make(v_min=0, v_max=7, n_steps=1, learning_rate=1e-2, target_update_interval=10, learning_starts=10).learn(150)
    assert len(smallest) > 100 and min(smallest) >= 0


# --- what is stored


def test_what_was_given_is_stored_and_may_be_given_again(saved: Path) -> None:
    loaded = Rainbow.load(saved, policy_kwargs={"net_arch": [8]}, replay_buffer_kwargs={}, device="cpu")
    assert (loaded.policy_kwargs, loaded.replay_buffer_class, loaded.replay_buffer_kwargs) == (NARROW, None, {})
    with pytest.raises(ValueError, match="policy kwargs"):
        Rainbow.load(saved, policy_kwargs={"net_arch": [9]}, device="cpu")


CONFLICTS: dict[str, tuple[dict[str, Any], str]] = {
    "v_max": ({"policy_kwargs": {"v_max": 100}}, r"policy_kwargs has v_max=100, but .* v_max is 10.0"),
    "noisy": ({"policy_kwargs": {"noisy": False}}, "noisy is True"),
    "acting_net": ({"policy_kwargs": {"acting_net": "target"}}, "acting_net is 'online'"),
    "alpha": ({"replay_buffer_kwargs": {"alpha": 0.9}}, r"replay_buffer_kwargs has alpha=0.9, but .* per_alpha is 0.5"),
    "n_steps": ({"replay_buffer_kwargs": {"n_steps": 5}}, "n_steps is 3"),
    "gamma": ({"replay_buffer_kwargs": {"gamma": 0.9}, "prioritized": False}, "gamma is 0.99"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_conflicts_are_refused_by_name(case: str, saved: Path) -> None:
    arguments, message = CONFLICTS[case]
    with pytest.raises(InputError, match=message):
        make(**arguments)
    with pytest.raises(ValueError, match=message if "replay_buffer_kwargs" in arguments else "policy kwargs"):
        Rainbow.load(saved, device="cpu", **arguments)


def test_what_says_the_same_is_no_conflict() -> None:
    agent = make(v_max=100, gamma=0.9, policy_kwargs={"v_max": 100}, replay_buffer_kwargs={"gamma": 0.9, "alpha": 0.5})
    assert agent.q_net.values.mean(torch.tensor([*[-99.0] * 50, 99.0])) == 100 and agent.replay_buffer.gamma == 0.9


NETWORKS: dict[str, Any] = {
    "v_min": -100,
    "v_max": 100,
    "n_atoms": 21,
    "dueling": False,
    "noisy": False,
    "distributional": "quantile",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_another_network_is_refused_when_loaded(name: str, saved: Path) -> None:
    with pytest.raises(InputError, match=f"{name}={NETWORKS[name]!r} is asked for, but the agent was saved with {name}="):
        Rainbow.load(saved, device="cpu", **{name: NETWORKS[name]})


def test_replay_may_change_when_loaded(saved: Path) -> None:
    env = make_vec_env("CartPole-v1", 2)
    uniform = Rainbow.load(saved, env=env, prioritized=False, n_steps=4, gamma=0.5, device="cpu")
    assert (type(uniform.replay_buffer), uniform.replay_buffer.n_steps) == (CompactReplayBuffer, 4)
    uniform.learn(120).save(saved)
    again = Rainbow.load(saved, env=env, prioritized=True, per_alpha=0.7, device="cpu").learn(120)
    assert isinstance(again.replay_buffer, PrioritizedReplayBuffer)
    assert (again.replay_buffer.alpha, again.replay_buffer.n_steps, again.replay_buffer.gamma) == (0.7, 4, 0.5)


def test_a_replay_buffer_of_another_discount_is_refused(saved: Path, tmp_path: Path) -> None:
    """It has summed and discounted by its own."""
    make().learn(10).save_replay_buffer(tmp_path / "replay")
    loaded = Rainbow.load(saved, env=make_vec_env("CartPole-v1", 1), gamma=0.5, device="cpu")
    loaded.load_replay_buffer(tmp_path / "replay")
    with pytest.raises(InputError, match=r"the agent discounts by gamma=0.5, but its replay buffer by gamma=0.99"):
        loaded.learn(10)


def test_memory_is_for_learning_only(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make()
    monkeypatch.setattr(observation_store, "free_memory", lambda: 10)
    for size, message in ((10**13, "GiB of memory"), (1, "must hold at least 4 transitions, not 1")):
        loaded = Rainbow.load(saved, env=agent.get_env(), buffer_size=size, device="cpu")
        played = loaded.predict(OBSERVATIONS, deterministic=True)[0]
        assert np.array_equal(played, agent.predict(OBSERVATIONS, deterministic=True)[0])
        with pytest.raises(InputError, match=message):
            loaded.learn(10)
        assert loaded.num_timesteps == 0, "before work begins"
        with pytest.raises(InputError, match=message):
            make(buffer_size=size)


def test_files_of_other_algorithms_are_refused(saved: Path, tmp_path: Path) -> None:
    make_clone().save(tmp_path / "clone.zip")
    QRDQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=9).save(tmp_path / "qrdqn.zip")
    with pytest.raises(InputError, match="a saved BehaviorCloning, not a Rainbow agent"):
        Rainbow.load(tmp_path / "clone.zip", device="cpu")
    with pytest.raises(InputError, match="a saved Rainbow, not a BehaviorCloning"):
        BehaviorCloning.load(saved, device="cpu")
    for algorithm in (Rainbow, BehaviorCloning):
        with pytest.raises(InputError, match="got QRDQNPolicy"):
            algorithm.load(tmp_path / "qrdqn.zip", device="cpu")


# --- networks alone

MAKERS: dict[str, Any] = {
    "c51": lambda: make().q_net,
    "target": lambda: make().q_net_target,
    "quantiles": lambda: make(distributional="quantile", n_quantiles=7, dueling=False).q_net,
    "mean": lambda: make(distributional=None, noisy=False, policy_kwargs={"activation_fn": nn.Tanh}).q_net,
    "range": lambda: make(v_min=0, v_max=7, n_atoms=5).q_net,
    "clone": lambda: make_clone().policy.q_net,
    "images": lambda: (
        Rainbow(
            "CnnPolicy",
            FakeImageEnv(screen_height=40, screen_width=40, n_channels=2, discrete=True),
            policy_kwargs={"features_extractor_kwargs": {"features_dim": 16}},
            **SMALL,
        ).q_net
    ),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_networks_are_saved_and_loaded_alone(kind: str, tmp_path: Path) -> None:
    net = MAKERS[kind]()
    net.load_state_dict({key: torch.rand_like(tensor) for key, tensor in net.state_dict().items()})
    net.save(tmp_path / "net.pt")
    loaded = type(net).load(tmp_path / "net.pt", device="cpu")
    space = net.observation_space
    assert isinstance(space, spaces.Box)
    batch = OBSERVATIONS if space.shape == (4,) else np.stack([space.sample() for _ in range(4)])
    observations = torch.as_tensor(batch)
    with torch.no_grad():
        assert torch.equal(loaded.q_values(observations), net.q_values(observations))
    assert np.array_equal(loaded.predict(batch, deterministic=True)[0], net.predict(batch, deterministic=True)[0])


def test_a_clone_has_one_output_an_action() -> None:
    with pytest.raises(InputError, match="dueling is False, not True"):
        make_clone(policy_kwargs={"dueling": True})
