"""What the tests of Stable-Baselines3 and sb3-contrib ask of every algorithm, beside what `test_rainbow.py` asks."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TimeLimit
from stable_baselines3.common.envs import IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack
from torch import Tensor, nn

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import Rainbow

SMALL: dict[str, Any] = {"buffer_size": 250, "learning_starts": 0, "batch_size": 8, "seed": 0, "device": "cpu"}


def make(env: Any = "CartPole-v1", policy: str = "MlpPolicy", **arguments: Any) -> Any:
    return Rainbow(policy, env, **{**SMALL, "policy_kwargs": {"net_arch": [16]}, **arguments})


def like(tensor: Tensor) -> Tensor:
    return torch.rand_like(tensor) if tensor.is_floating_point() else torch.randint_like(tensor, 10)


@pytest.mark.parametrize("distributional", ["c51", "quantile", None])
def test_all_that_is_saved_can_be_set(distributional: Any, tmp_path: Path) -> None:
    """Every tensor takes the value it is given, none is fixed, and errors are of the kinds that are expected."""
    agent = make(IdentityEnv(10), distributional=distributional).learn(40)
    saved = deepcopy(agent.get_parameters())
    for exact in (True, False):
        with pytest.raises(ValueError, match="invalid object name"):
            agent.set_parameters({**saved, "other": {}}, exact_match=exact)
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        agent.set_parameters({"policy": saved["policy"]})
    first, *others = saved["policy"]
    with pytest.raises(RuntimeError, match="Missing key"):
        agent.set_parameters({**saved, "policy": {key: saved["policy"][key] for key in others}})
    new = {key: like(saved["policy"][key]) for key in others}
    agent.set_parameters({**saved, "policy": new}, exact_match=False)
    loaded = agent.get_parameters()["policy"]
    assert torch.equal(loaded[first], saved["policy"][first])
    assert all(torch.equal(loaded[key], new[key]) for key in others)

    agent.save(tmp_path / "agent")
    observations = np.arange(10)
    chosen = agent.predict(observations, deterministic=True)[0]
    again = Rainbow.load(tmp_path / "agent", env=IdentityEnv(10), device="cpu")
    assert np.array_equal(again.predict(observations, deterministic=True)[0], chosen)
    assert again.learn(40)._n_updates > 0
    agent.policy.save(tmp_path / "policy")
    policy = type(agent.policy).load(tmp_path / "policy", device="cpu")
    assert np.array_equal(policy.predict(observations, deterministic=True)[0], chosen)


@pytest.mark.parametrize("prioritized", [True, False])
def test_replay_buffers_have_stable_baselines_arrays(prioritized: bool, tmp_path: Path) -> None:
    agent = make(IdentityEnv(10), prioritized=prioritized).learn(40)
    before = deepcopy(agent.replay_buffer)
    agent.save_replay_buffer(tmp_path / "replay")
    agent.replay_buffer = None
    agent.load_replay_buffer(tmp_path / "replay")
    names = ("observations", "actions", "rewards", "dones", "timeouts")
    assert all(np.array_equal(getattr(before, name), getattr(agent.replay_buffer, name)) for name in names)
    infos = [[{"TimeLimit.truncated": each}] for each in before.timeouts]
    obs = before.observations
    agent.replay_buffer.extend(obs, obs, before.actions, before.rewards, before.dones, infos)
    assert agent.replay_buffer.full


class Normalizing(BaseFeaturesExtractor):
    """Batch normalization and dropout, which show the mode."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, 4)
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)

    def forward(self, observations: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(self.norm(observations))
        return dropped


def test_batch_normalization() -> None:
    kwargs: dict[str, Any] = {"features_extractor_class": Normalizing, "net_arch": [16]}
    agent = make(policy_kwargs=kwargs, gradient_steps=0, train_freq=1)
    start = deepcopy(agent.policy.state_dict())
    agent.learn(60)
    assert all(torch.equal(start[key], tensor) for key, tensor in agent.policy.state_dict().items()), "play changes nothing"
    agent.gradient_steps, agent.target_update_interval = 1, 10**9
    agent.learn(60)
    norms = [net.features_extractor.norm for net in (agent.q_net, agent.q_net_target)]
    assert not torch.equal(norms[0].bias, norms[1].bias) and norms[0].running_mean.any() and not norms[1].running_mean.any()
    agent.target_update_interval = 1
    agent._on_step()
    assert len(agent.batch_norm_stats) == len(agent.batch_norm_stats_target) == 2
    assert all(map(torch.equal, agent.batch_norm_stats, agent.batch_norm_stats_target))


class Vectors(gym.Env[Any, Any]):
    """A dictionary of one vector."""

    observation_space = spaces.Dict({"vec": spaces.Box(-1, 1, (2,), np.float32)})
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observe(), 0.0, False, False, {}

    def _observe(self) -> dict[str, Any]:
        return {"vec": self.np_random.uniform(-1, 1, 2).astype(np.float32)}


def test_a_dictionary_of_one_vector_is_that_vector() -> None:
    both = TimeLimit(Vectors(), 20), FlattenObservation(TimeLimit(Vectors(), 20))
    agents = [make(env, policy).learn(80) for env, policy in zip(both, ("MultiInputPolicy", "MlpPolicy"), strict=True)]
    one, other = (list(agent.policy.state_dict().values()) for agent in agents)
    assert agents[0]._n_updates > 10 and all(map(torch.equal, one, other))


@pytest.mark.parametrize("channel_last", [True, False])
def test_stacked_dictionaries(channel_last: bool) -> None:
    games = DummyVecEnv([lambda: SimpleMultiObsEnv(random_start=True, discrete_actions=True, channel_last=channel_last)])
    order: Any = {"vec": None, "img": "last" if channel_last else "first"}
    env = VecFrameStack(games, 3, order)
    kwargs: dict[str, Any] = {"net_arch": [8], "features_extractor_kwargs": {"cnn_output_dim": 8}}
    agent = make(env, "MultiInputPolicy", policy_kwargs=kwargs, train_freq=8, gradient_steps=1).learn(40)
    evaluate_policy(agent, env, n_eval_episodes=1, warn=False)


class InMemory(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(None, [])

    def dump(self, step: int = 0) -> None:
        pass


def test_frames_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, logger = make(), InMemory()
    agent.set_logger(logger)
    agent.learn(60, log_interval=1)
    agent.num_timesteps = 20_000
    agent.learn(60, log_interval=1, reset_num_timesteps=False)
    assert 0 < logger.name_to_value["time/fps"] < 10_000, "of this call's steps"
    monkeypatch.setattr(time, "time_ns", lambda: 42)
    make().learn(60)


@pytest.mark.parametrize("unit", ["epoch", 2])
def test_bad_input_is_a_value_error(unit: Any) -> None:
    with pytest.raises(ValueError, match="must be either 'step' or 'episode'"):
        make(train_freq=(1, unit))
    assert issubclass(InputError, ValueError)
    with pytest.raises(ValueError, match="Discrete actions"):
        make("Pendulum-v1")
