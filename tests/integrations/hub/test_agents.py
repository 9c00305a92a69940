"""Agents on the hub: named as huggingface_sb3 does, and built again without unpickling."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_hub import FakeHub
from hub_agents import AGENTS, CARTPOLE, OFF, PONG, cartpole, description, observations, pixels, rainbow
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from sb3_agents import same, small, weights
from stable_baselines3.common.utils import LinearSchedule

from pretrainrl.errors import InputError, MissingExtraError, WeightsError
from pretrainrl.integrations.hub import agent_name, load_from_hub, push_to_hub
from pretrainrl.integrations.hub.json_codec import from_json, to_json
from pretrainrl.integrations.sb3 import Rainbow
from pretrainrl.integrations.sb3.replay import observation_store


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub.install(tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", AGENTS)
def test_round_trip(hub: FakeHub, kind: str) -> None:
    make_env, make = AGENTS[kind]
    env = make_env()
    agent = make(env).learn(36)
    name = agent_name(kind.split(",")[0], PONG)
    revision = push_to_hub(agent, "someone", PONG)
    loaded = load_from_hub(f"someone/{name}", make_env(), revision=revision, device="cpu")
    assert type(loaded) is type(agent)
    assert type(loaded.policy) is type(agent.policy)
    assert same(weights(loaded.policy), weights(agent.policy))
    batch = observations(env)
    assert np.array_equal(loaded.predict(batch, deterministic=True)[0], agent.predict(batch, deterministic=True)[0])
    assert loaded.num_timesteps == agent.num_timesteps
    for key in (
        "gamma",
        "n_steps",
        "batch_size",
        "train_freq",
        "replay_buffer_class",
        "replay_buffer_kwargs",
        "exploration_rate",
    ):
        assert getattr(loaded, key, None) == getattr(agent, key, None), key
    assert loaded.lr_schedule(0.5) == agent.lr_schedule(0.5)
    assert type(loaded.policy.optimizer) is type(agent.policy.optimizer)
    loaded.learn(36)


# --- what is on the hub


def test_files_and_page(hub: FakeHub) -> None:
    push_to_hub(rainbow(), "someone", "CartPole-v1", mean_reward=212.4, std_reward=3.21, token="secret")
    assert "secret" in hub.tokens
    names = {
        f"{CARTPOLE}/{name}"
        for name in ("README.md", "agent.json", "rainbow-CartPole-v1.safetensors", "rainbow-CartPole-v1.zip")
    }
    assert hub.files().keys() == names
    card: Any = ModelCard(hub.files()[f"{CARTPOLE}/README.md"].decode())
    assert card.data.library_name == "stable-baselines3"
    assert {"CartPole-v1", "deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3"} <= set(card.data.tags)
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("mean_reward", "212.40 +/- 3.21", "CartPole-v1")
    assert card.data.model_name == "Rainbow"
    assert f'load_from_hub("{CARTPOLE}", env)' in card.text
    assert not any(str(hub.store.parent).encode() in content for content in hub.files().values())


def test_page_without_a_score_and_with_an_encoder(hub: FakeHub) -> None:
    push_to_hub(Rainbow("CnnPolicy", pixels(), policy_kwargs=small(), **OFF), "someone/mine", "ALE/Pong-v5")
    card: Any = ModelCard(hub.files()["someone/mine/README.md"].decode())
    assert card.data.eval_results is None
    assert "`random.nature`" in card.text
    assert "someone/mine/rainbow-ALE-Pong-v5.zip" in hub.files()
    digest = small()["features_extractor_kwargs"]["sha256"]
    kwargs = description(hub, "someone/mine")["arguments"]["policy_kwargs"]
    assert kwargs["features_extractor_kwargs"]["sha256"] == digest
    tensors = load_file(hub.store / "someone" / "mine" / "rainbow-ALE-Pong-v5.safetensors")
    assert sum(tensor.numel() for key, tensor in tensors.items() if "extractor" in key and "neck" not in key) == 0


def test_names_are_huggingface_sb3s(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = pytest.importorskip("huggingface_sb3")
    for env_id in (PONG, "ALE/Pong-v5", "CartPole-v1", "some_module:Game-v0"):
        name = theirs.ModelName("rainbow", theirs.EnvironmentName(env_id))
        assert agent_name("rainbow", env_id) == name
    agent = rainbow().learn(36)
    push_to_hub(agent, "someone", "CartPole-v1")
    name = theirs.ModelName("rainbow", theirs.EnvironmentName("CartPole-v1"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub.hf_hub_download)
    monkeypatch.setenv("TRUST_REMOTE_CODE", "True")
    path = theirs.load_from_hub(theirs.ModelRepoId("someone", name), name.filename)
    batch = observations(cartpole())
    loaded = Rainbow.load(path, device="cpu")
    assert np.array_equal(loaded.predict(batch, deterministic=True)[0], agent.predict(batch, deterministic=True)[0])
    assert loaded.tensorboard_log is None


def test_a_commit_stays_the_same_agent(hub: FakeHub) -> None:
    first, second = rainbow(seed=0), rainbow(seed=1)
    revision = push_to_hub(first, "someone", "CartPole-v1")
    push_to_hub(second, "someone", "CartPole-v1")
    for agent, loaded in (
        (first, load_from_hub(CARTPOLE, cartpole(), revision=revision)),
        (second, load_from_hub(CARTPOLE, "CartPole-v1", device="cpu", buffer_size=16)),
    ):
        assert same(weights(agent.policy), weights(loaded.policy))
    assert isinstance(loaded, Rainbow) and loaded.buffer_size == 16
    with pytest.raises(WeightsError, match=r"was not fetched .*no main2 in"):
        load_from_hub(CARTPOLE, cartpole(), revision="main2")


def test_nothing_is_unpickled(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(rainbow(), "someone", "CartPole-v1")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("unpickled")

    env = cartpole()
    for target in (
        "pickle.load",
        "pickle.loads",
        "cloudpickle.loads",
        "torch.load",
        "stable_baselines3.common.save_util.load_from_zip_file",
    ):
        monkeypatch.setattr(target, refuse)
    load_from_hub(CARTPOLE, env)


def test_what_only_plays_needs_no_memory_and_what_learns_goes_on(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    push_to_hub(rainbow(n_steps=10, train_freq=1, policy_kwargs={"net_arch": [8]}).learn(40), "someone", "CartPole-v1")
    assert description(hub)["arguments"]["policy_kwargs"] == {"net_arch": [8]}, "what was given"
    loaded: Any = load_from_hub(CARTPOLE, cartpole())
    loaded.learn(7, reset_num_timesteps=False)
    assert (loaded.num_timesteps, loaded._n_updates) == (47, 0), "the n steps of the first transition are not over"
    assert loaded.learn(5, reset_num_timesteps=False)._n_updates > 0
    others: dict[str, Any] = {"v_max": 50, "dueling": False}
    for name, value in others.items():
        with pytest.raises(InputError, match=f"{name}={value} is asked for, but the agent was saved with {name}="):
            load_from_hub(CARTPOLE, cartpole(), **{name: value})
    monkeypatch.setattr(observation_store, "free_memory", lambda: 10)
    for size in (1, 10**12):
        player = load_from_hub(CARTPOLE, cartpole(), buffer_size=size)
        assert player.predict(np.zeros(4, np.float32))[0].shape == ()
        with pytest.raises(InputError, match=r"must hold at least 11 transitions|GiB of memory"):
            player.learn(5)


# --- values


def test_values_come_back() -> None:
    value: dict[str, Any] = {
        "a": [1, 2.5, None, "x", True],
        "b": (1, "step"),
        "c": LinearSchedule(1.0, 0.1, 0.5),
        "d": torch.nn.ReLU,
    }
    plain = json.loads(json.dumps(to_json(value, "value")))
    back = from_json(plain)
    assert {**back, "c": None} == {**value, "c": None}
    assert back["c"](0.75) == value["c"](0.75)


@pytest.mark.parametrize(
    "value", [float("nan"), {1: 2}, {"$class": "x"}, object(), pickle.Unpickler, np.float32(1), {"a": {1}}]
)
def test_values_that_json_does_not_have(value: Any) -> None:
    with pytest.raises(InputError, match="only a pickle can hold"):
        to_json(value, "value")


def test_without_the_hubs_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: load_from_hub(CARTPOLE, cartpole()), lambda: push_to_hub(rainbow(), "someone", "CartPole-v1")):
        with pytest.raises(MissingExtraError, match=r'huggingface_hub is not installed; run: pip install "pretrainrl\[hub\]"'):
            call()
