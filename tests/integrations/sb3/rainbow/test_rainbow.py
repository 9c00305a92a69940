"""Rainbow is an algorithm of Stable-Baselines3: the tests that its own algorithms pass."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.sb3 import Rainbow

SMALL: dict[str, Any] = {"buffer_size": 250, "learning_starts": 40, "batch_size": 8, "target_update_interval": 20, "seed": 0}
PLAIN = {"double_q": False, "dueling": False, "noisy": False, "distributional": None, "prioritized": False, "n_steps": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "rainbow": {},
    "dqn": PLAIN,
    "quantile": {"distributional": "quantile", "n_quantiles": 8},
    "mean": {"distributional": None},
    "uniform": {"prioritized": False},
    "ema": {"tau": 0.1, "target_update_interval": 2, "noisy": False, "acting_net": "target"},
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def make(env: Any = "CartPole-v1", policy: str = "MlpPolicy", **arguments: Any) -> Any:
    settings: dict[str, Any] = {
        **SMALL,
        **({"policy_kwargs": {"net_arch": [16]}} if policy == "MlpPolicy" else {}),
        **arguments,
    }
    return Rainbow(policy, env, device="cpu", **settings)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# --- run


@variants
@pytest.mark.parametrize("n_envs", [1, 3])
def test_runs(variant: str, n_envs: int) -> None:
    agent = make(make_vec_env("CartPole-v1", n_envs), **VARIANTS[variant])
    before, target = weights(agent.q_net), weights(agent.q_net_target)
    agent.learn(160)
    after = weights(agent.q_net)
    assert agent._n_updates > 5 and agent.num_timesteps >= 160
    moved = [key for key in after if not torch.equal(before[key], after[key])]
    assert moved == [key for key in after if key not in ("values.support", "values.midpoints")], "every weight learns"
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert not same(weights(agent.q_net_target), target)


def test_runs_with_normalised_environment_and_episodic_training() -> None:
    env = VecNormalize(make_vec_env("CartPole-v1", 1))
    assert make(env, train_freq=(1, "episode"), gradient_steps=-1).learn(150)._n_updates > 50


def test_target_network_is_copied_every_so_many_steps_of_all_environments() -> None:
    agent = make(make_vec_env("CartPole-v1", 2), train_freq=1, target_update_interval=10, noisy=False)
    seen = []
    for _ in range(40):
        agent.learn(2, reset_num_timesteps=False)
        seen.append(agent.q_net_target.head.advantage[-1].weight.clone())
    changed = [step for step, (old, new) in enumerate(pairwise(seen), 2) if not torch.equal(old, new)]
    assert changed == [25, 30, 35, 40], "learning starts after 40 transitions, 20 steps"


def test_moving_average_follows_updates() -> None:
    agent = make(tau=0.25, target_update_interval=1, train_freq=1, gradient_steps=2)
    agent.learn(40)
    online, target, layers = agent.q_net, agent.q_net_target, []
    step = agent.policy.optimizer.step

    def spy(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        layers.append(online.head.advantage[-1].weight.clone())

    agent.policy.optimizer.step = spy
    expected = target.head.advantage[-1].weight.clone()
    agent.learn(1, reset_num_timesteps=False)
    assert len(layers) == 2
    for weight in layers:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(target.head.advantage[-1].weight, expected)


# --- save and load


@variants
def test_saved_agents_are_loaded_whole(variant: str, tmp_path: Path) -> None:
    agent = make(**VARIANTS[variant]).learn(100)
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "replay.pkl")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = Rainbow.load(tmp_path / "agent.zip", env=agent.get_env(), device="cpu")
    assert same(weights(loaded.policy), weights(agent.policy))
    assert (loaded.n_steps, loaded.distributional, loaded.acting_net) == (
        agent.n_steps,
        agent.distributional,
        agent.acting_net,
    )
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    assert np.array_equal(loaded.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0])

    loaded.load_replay_buffer(tmp_path / "replay.pkl")
    assert loaded.replay_buffer.size() == agent.replay_buffer.size()
    steps, updates = loaded.num_timesteps, loaded._n_updates
    loaded.learn(30, reset_num_timesteps=False)
    assert loaded.num_timesteps >= steps + 30 and loaded._n_updates > updates


def test_parameters_can_be_set_in_place_and_policies_saved_alone(tmp_path: Path) -> None:
    agent, other = make(seed=1), make(seed=2)
    assert not same(weights(agent.policy), weights(other.policy))
    other.set_parameters(agent.get_parameters())
    assert same(weights(agent.policy), weights(other.policy))
    agent.policy.save(tmp_path / "policy.pkl")
    policy = type(agent.policy).load(tmp_path / "policy.pkl", device="cpu")
    assert same(weights(policy), weights(agent.policy))


def test_nothing_large_and_no_network_is_in_the_saved_attributes(tmp_path: Path) -> None:
    agent = make().learn(60)
    agent.save(tmp_path / "agent.zip")
    parameters = sum(tensor.numel() for tensor in agent.policy.state_dict().values())
    assert (tmp_path / "agent.zip").stat().st_size < 4 * parameters * 4 + 60_000


def test_arguments_change_what_is_loaded(tmp_path: Path) -> None:
    make(noisy=False).save(tmp_path / "agent.zip")
    loaded = Rainbow.load(tmp_path / "agent.zip", n_steps=5, acting_net="target", device="cpu")
    assert loaded.policy.acting_net == "target" and loaded.replay_buffer.n_steps == 5
    with pytest.raises(InputError, match="dueling=False is asked for, but the agent was saved with dueling=True"):
        Rainbow.load(tmp_path / "agent.zip", dueling=False, device="cpu")


# --- images and dictionaries


@variants
@pytest.mark.parametrize("channel_first", [True, False])
def test_images(variant: str, channel_first: bool, tmp_path: Path) -> None:
    env = FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=True, channel_first=channel_first)
    kwargs: dict[str, Any] = {"features_extractor_kwargs": {"features_dim": 16}}
    agent = make(env, "CnnPolicy", policy_kwargs=kwargs, augment=True, **VARIANTS[variant])
    online, target = agent.q_net.features_extractor, agent.q_net_target.features_extractor
    assert online is not target and same(weights(online), weights(target))
    agent.learn(70)
    assert not same(weights(online), weights(target)), "the target's follows later"
    agent.save(tmp_path / "agent.zip")
    obs = agent.get_env().reset()
    action = Rainbow.load(tmp_path / "agent.zip", device="cpu").predict(obs, deterministic=True)[0]
    assert np.array_equal(action, agent.predict(obs, deterministic=True)[0])


@pytest.mark.parametrize("prioritized", [True, False])
def test_dictionaries(prioritized: bool) -> None:
    env = DummyVecEnv([lambda: SimpleMultiObsEnv(random_start=False)] * 2)
    kwargs: dict[str, Any] = {"net_arch": [8]}
    agent = make(env, "MultiInputPolicy", prioritized=prioritized, augment=True, policy_kwargs=kwargs).learn(80)
    assert agent._n_updates > 3
    assert agent.predict(env.reset())[0].shape == (2,)
    assert agent.predict(SimpleMultiObsEnv(random_start=False).reset()[0])[0].shape == ()


def test_other_replay_buffers_may_be_given() -> None:
    replay: dict[str, Any] = {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": {"n_steps": 3, "gamma": 0.99}}
    with pytest.warns(UserWarning, match="configure it explicitly"):
        assert make(prioritized=False, **replay).learn(60)._n_updates > 3


# --- learning


def test_identity_is_learnt() -> None:
    env = DummyVecEnv([lambda: IdentityEnv(4, ep_length=10)])
    agent = make(env, learning_rate=1e-2, buffer_size=1000, train_freq=2, gamma=0.0, v_min=0, v_max=1, n_steps=1).learn(300)
    assert evaluate_policy(agent, env, n_eval_episodes=5, warn=False)[0] == 10


def test_cartpole_is_learnt() -> None:
    learning: dict[str, Any] = {
        "learning_rate": 3e-3,
        "batch_size": 64,
        "gradient_steps": 2,
        "target_update_interval": 100,
        "v_min": 0,
        "v_max": 100,
    }
    exploring: dict[str, Any] = {"noisy": False, "exploration_fraction": 0.3, "learning_starts": 200}
    agent = make(buffer_size=10_000, policy_kwargs={"net_arch": [64]}, **learning, **exploring).learn(4_000)
    mean: Any = evaluate_policy(agent, make_vec_env("CartPole-v1", 1, seed=1), n_eval_episodes=5)[0]
    assert mean > 150, "random play lasts 22 steps"


@variants
def test_equal_seeds_give_equal_agents(variant: str) -> None:
    first, second, other = (make(seed=seed, **VARIANTS[variant]).learn(120) for seed in (3, 3, 4))
    assert same(weights(first.policy), weights(second.policy))
    assert not same(weights(first.policy), weights(other.policy))


# --- logs and callbacks


def test_callbacks_and_logs(tmp_path: Path) -> None:
    agent = make(make_vec_env("CartPole-v1", 2), noisy=False, tensorboard_log=str(tmp_path))
    folder = str(tmp_path)
    evaluate = EvalCallback(make_vec_env("CartPole-v1", 1), eval_freq=40, log_path=folder, best_model_save_path=folder)
    checkpoint = CheckpointCallback(30, folder, save_replay_buffer=True)
    agent.learn(240, [evaluate, checkpoint], log_interval=1)
    [events] = (tmp_path / "Rainbow_1").iterdir()
    logged = EventAccumulator(str(events)).Reload()
    expected = {
        "rollout/ep_rew_mean",
        "rollout/exploration_rate",
        "time/fps",
        "train/loss",
        "train/learning_rate",
        "eval/mean_reward",
    }
    assert expected <= set(logged.Tags()["scalars"]) and not logged.Tags()["histograms"]
    assert all(0 < event.value < 10 for event in logged.Scalars("train/loss"))
    assert [event.value for event in logged.Scalars("rollout/exploration_rate")][-1] == pytest.approx(0.01)
    assert (tmp_path / "evaluations.npz").is_file()
    assert (tmp_path / "rl_model_60_steps.zip").is_file() and (tmp_path / "rl_model_replay_buffer_60_steps.pkl").is_file()
    assert Rainbow.load(tmp_path / "best_model.zip", device="cpu").num_timesteps > 0


# --- spaces and arguments


class Spaces(gym.Env[Any, Any]):
    """Samples of any space."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any] | None = None) -> None:
        self.observation_space, self.action_space = observations, actions or spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), 0.0, self.np_random.random() < 0.2, False, {}


FITTING = [
    spaces.Discrete(4),
    spaces.MultiDiscrete([4, 3]),
    spaces.MultiBinary(3),
    spaces.Box(-1, 1, (2, 3)),
    spaces.Box(-1, 1, (2,), np.float64),
]


@pytest.mark.parametrize("space", FITTING, ids=str)
def test_observation_spaces(space: spaces.Space[Any]) -> None:
    agent = make(Spaces(space)).learn(60)
    assert agent.predict(space.sample())[0].shape == ()


IMAGE = spaces.Box(0, 255, (1, 40, 40), np.uint8)
VECTOR = spaces.Box(-1, 1, (2,))
REFUSED: dict[str, tuple[gym.Env[Any, Any], dict[str, Any], str]] = {
    "continuous": (Spaces(VECTOR, spaces.Box(-1, 1, (2,))), {}, "Discrete actions, got Box"),
    "several": (Spaces(VECTOR, spaces.MultiDiscrete([2, 2])), {}, "Discrete actions, got MultiDiscrete"),
    "start": (Spaces(VECTOR, spaces.Discrete(3, start=1)), {}, "count from 0"),
    "vector": (Spaces(VECTOR), {"policy": "CnnPolicy"}, "CnnPolicy is for images"),
    "not a dict": (Spaces(VECTOR), {"policy": "MultiInputPolicy"}, "MultiInputPolicy is for Dict"),
    "augment": (Spaces(VECTOR), {"augment": True}, "augment=True needs images"),
    "n_steps": (Spaces(VECTOR), {"n_steps": 250}, "must hold at least 251 transitions, not 250"),
    "no steps": (Spaces(VECTOR), {"n_steps": 0}, "n_steps must be at least 1"),
    "uniform n_steps": (Spaces(VECTOR), {"n_steps": 250, "prioritized": False}, "at least 251 transitions"),
    "memory": (Spaces(VECTOR), {"buffer_size": 10**13}, "needs .* GiB of memory"),
    "buffer": (Spaces(VECTOR), {"replay_buffer_class": ReplayBuffer}, "ReplayBuffer has no update_priorities"),
    "tau": (Spaces(VECTOR), {"tau": 0}, "tau must be in"),
    "atoms": (Spaces(VECTOR), {"n_atoms": 1}, "two atoms or more"),
    "range": (Spaces(VECTOR), {"v_min": 10}, "low < high"),
    "quantiles": (Spaces(VECTOR), {"distributional": "quantile", "n_quantiles": 0}, "n_quantiles must be positive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str) -> None:
    env, arguments, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        make(env, **arguments)


@pytest.mark.parametrize(("name", "value", "near"), [("distributional", "c_51", "c51"), ("acting_net", "targets", "target")])
def test_unknown_names_have_neighbours(name: str, value: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown {name} '{value}'; did you mean '{near}'"):
        make(**{name: value})


# --- training and evaluation mode


class DropoutExtractor(BaseFeaturesExtractor):
    """Its mode shows in what it gives."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 4)
        self.layers = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5))

    def forward(self, observations: Tensor) -> Tensor:
        return self.layers(observations)


def test_modes() -> None:
    kwargs: dict[str, Any] = {"features_extractor_class": DropoutExtractor, "net_arch": [8]}
    agent = make(policy_kwargs=kwargs, noisy=False, target_update_interval=1_000)
    obs = torch.as_tensor(np.random.default_rng(0).normal(size=(6, 4)), dtype=torch.float32)
    agent.policy.set_training_mode(True)
    assert agent.q_net.training and not agent.q_net_target.training
    assert not torch.equal(agent.q_net(obs), agent.q_net(obs)), "dropout"
    first, second = (agent.predict(obs.numpy(), deterministic=True)[0] for _ in range(2))
    assert np.array_equal(first, second) and not agent.q_net.training
    agent.learn(60)
    online, target = (net.features_extractor.layers[1].running_mean for net in (agent.q_net, agent.q_net_target))
    assert online.any() and not target.any()
    agent._update_target()
    assert torch.equal(online, target), "with the weights go the running statistics"
