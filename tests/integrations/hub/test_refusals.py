"""What the hub integration refuses, with one clear error each."""

import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from fake_hub import FakeHub
from hub_agents import AGENTS, BY_NAME, CARTPOLE, OFF, PONG, cartpole, description, maps, pixels, rainbow, rewrite
from huggingface_hub.errors import LocalEntryNotFoundError
from sb3_agents import CHANNEL_FIRST, RandomFrames, other_weights, small
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy

from pretrainrl.errors import CardError, InputError, PretrainRLError, UnknownNameError, WeightsError
from pretrainrl.integrations.hub import load_from_hub, push_to_hub
from pretrainrl.integrations.sb3 import Rainbow
from pretrainrl.integrations.sb3.encoding.policies import EncoderPolicy


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub.install(tmp_path, monkeypatch)


# --- what is refused when it is pushed


def test_what_takes_a_pickle_is_refused_unless_asked_for(hub: FakeHub) -> None:
    custom = rainbow(learning_rate=lambda progress: 1e-3 * progress)
    with pytest.raises(InputError, match=r"described without pickle: learning_rate is <function.* zip_only=True"):
        push_to_hub(custom, "someone", "CartPole-v1")
    assert hub.files() == {}
    push_to_hub(rainbow(), "someone", "CartPole-v1")
    push_to_hub(custom, "someone", "CartPole-v1", zip_only=True)
    assert f"{CARTPOLE}/agent.json" not in hub.files(), "of the agent before"
    with zipfile.ZipFile(hub.store / CARTPOLE / "rainbow-CartPole-v1.zip") as archive:
        assert "policy.pth" in archive.namelist()
    with pytest.raises(InputError, match=r"has no agent\.json: its agent can only be unpickled.*If you trust it"):
        load_from_hub(CARTPOLE, cartpole())


class OwnPolicy(EncoderPolicy, DQNPolicy):
    """A class that nobody else has."""


def refused(tmp_path: Path) -> dict[str, tuple[BaseAlgorithm, str]]:
    continuous = DummyVecEnv([lambda: RandomFrames(CHANNEL_FIRST, continuous=True)])
    local = small(weights=other_weights(tmp_path))
    return {
        "algorithm": (
            SAC("CnnPolicy", continuous, policy_kwargs=small(), **OFF),
            "it is a SAC; .* a2c, dqn, ppo, qrdqn, rainbow",
        ),
        "policy": (DQN(OwnPolicy, pixels(), policy_kwargs=BY_NAME, **OFF), "its policy is a OwnPolicy"),
        "class": (rainbow(policy_kwargs={"activation_fn": torch.nn.Hardtanh}), r"policy_kwargs\['activation_fn'\] is <class"),
        "file": (Rainbow("CnnPolicy", pixels(), policy_kwargs=local, **OFF), "others do not have; upload it"),
        "statistics": (rainbow(VecNormalize(cartpole())), "normalized by VecNormalize"),
    }


@pytest.mark.parametrize("why", ["algorithm", "policy", "class", "file", "statistics"])
def test_what_cannot_be_described(hub: FakeHub, tmp_path: Path, why: str) -> None:
    agent, message = refused(tmp_path)[why]
    with pytest.raises(InputError, match=message):
        push_to_hub(agent, "someone", "CartPole-v1")
    assert hub.files() == {}


def test_bad_names_and_scores(hub: FakeHub) -> None:
    for repo_id, env_id in (("a/b/c", "CartPole-v1"), ("", "CartPole-v1"), ("someone", "Cart Pole"), ("someone", "")):
        with pytest.raises(InputError, match="expected"):
            push_to_hub(rainbow(), repo_id, env_id)
    with pytest.raises(InputError, match="belong together"):
        push_to_hub(rainbow(), "someone", "CartPole-v1", mean_reward=1.0)


def test_a_push_that_fails(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "upload_folder", Mock(side_effect=ConnectionError("the line is dead")))
    with pytest.raises(WeightsError, match=f"was not pushed to {CARTPOLE} .*the line is dead"):
        push_to_hub(rainbow(), "someone", "CartPole-v1")


# --- what is refused when it is loaded


def test_normalized_observations_are_not_what_it_learned(hub: FakeHub) -> None:
    push_to_hub(rainbow(), "someone", "CartPole-v1")
    with pytest.raises(InputError, match="that VecNormalize had not changed"):
        load_from_hub(CARTPOLE, VecNormalize(cartpole()))
    assert load_from_hub(CARTPOLE, VecNormalize(cartpole(), norm_obs=False)) is not None


def test_damaged_and_missing_files(hub: FakeHub) -> None:
    push_to_hub(rainbow(), "someone", "CartPole-v1")
    file = hub.store / CARTPOLE / "rainbow-CartPole-v1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match=r"has sha256 \w+ instead of"):
        load_from_hub(CARTPOLE, cartpole())
    file.unlink()
    with pytest.raises(WeightsError, match=r"has no rainbow-CartPole-v1\.safetensors, which its agent\.json names"):
        load_from_hub(CARTPOLE, cartpole())
    with pytest.raises(InputError, match=r"someone/other has no agent\.json"):
        load_from_hub("someone/other", cartpole())
    with pytest.raises(InputError, match="expected a repository"):
        load_from_hub("someone", cartpole())


def test_without_a_connection(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, message in (
        (LocalEntryNotFoundError("no network"), r"cannot be reached, and agent\.json was not fetched before"),
        (ConnectionError("the line is dead"), r"agent\.json was not fetched from .*the line is dead"),
    ):
        monkeypatch.setattr(hub, "hf_hub_download", Mock(side_effect=error))
        with pytest.raises(WeightsError, match=message):
            load_from_hub(CARTPOLE, cartpole())


def test_weights_of_another_shape(hub: FakeHub) -> None:
    push_to_hub(rainbow(policy_kwargs={"net_arch": [8]}), "someone", "CartPole-v1")
    table = description(hub)
    table["arguments"]["policy_kwargs"]["net_arch"] = [9]
    rewrite(hub, table)
    with pytest.raises(WeightsError, match=r"the weights in .* do not fit"):
        load_from_hub(CARTPOLE, cartpole())


WRONG: dict[str, tuple[dict[str, Any], type[PretrainRLError], str]] = {
    "algorithm": ({"algorithm": "rainbows"}, UnknownNameError, "did you mean 'rainbow'"),
    "policy": ({"policy": "CnnPolici"}, UnknownNameError, "unknown policy of rainbow 'CnnPolici'; did you mean 'CnnPolicy'"),
    "class": (
        {"arguments": {"policy_kwargs": {"x": {"$class": "Popen"}}}},
        CardError,
        "stands for nothing that is known here",
    ),
    "no arguments": ({"arguments": {}}, CardError, "no policy_kwargs"),
    "argument": ({"arguments": {"policy_kwargs": {}, "gama": 1}}, CardError, "that are not Rainbow's: gama"),
    "path": ({"arguments": {"policy_kwargs": {}, "tensorboard_log": "/tmp"}}, CardError, "not Rainbow's: tensorboard_log"),
    "value": ({"arguments": {"policy_kwargs": {}, "gamma": "x"}}, InputError, "are no Rainbow: "),
    "missing": ({"weights": {"file": "a.safetensors"}}, CardError, r"weights\.sha256"),
    "file": ({"weights": {"file": "../a.safetensors", "sha256": "0" * 64}}, CardError, r"weights\.file"),
    "unnamed encoder": (
        {"policy": "RainbowEncoderPolicy", "arguments": {"policy_kwargs": {"encoder": "random.nature"}}},
        CardError,
        "does not say which encoder, and with which sha256",
    ),
    "encoder of a file": (
        {"policy": "RainbowEncoderPolicy", "arguments": {"policy_kwargs": {"encoder": "/tmp/run", "sha256": "0" * 64}}},
        UnknownNameError,
        "unknown encoder '/tmp/run'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_descriptions_that_are_wrong(hub: FakeHub, what: str) -> None:
    changes, error, message = WRONG[what]
    push_to_hub(rainbow(), "someone", "CartPole-v1")
    rewrite(hub, {**description(hub), **changes})
    with pytest.raises(error, match=message):
        load_from_hub(CARTPOLE, cartpole())


@pytest.mark.parametrize("text", ["{", "[]", '{"algorithm": "rainbow"}'])
def test_a_description_that_is_none(hub: FakeHub, text: str) -> None:
    push_to_hub(rainbow(), "someone", "CartPole-v1")
    (hub.store / CARTPOLE / "agent.json").write_text(text)
    with pytest.raises(CardError, match=f"{CARTPOLE}/agent.json"):
        load_from_hub(CARTPOLE, cartpole())


@pytest.mark.parametrize("kind", ["rainbow, encoder", "dqn, by name", "ppo, encoder"])
def test_another_encoder_of_that_name(hub: FakeHub, kind: str) -> None:
    make_env, make = AGENTS[kind]
    push_to_hub(make(make_env()), "someone/agent", PONG)
    text = (hub.store / "someone" / "agent" / "agent.json").read_text()
    digest = small()["features_extractor_kwargs"]["sha256"]
    (hub.store / "someone" / "agent" / "agent.json").write_text(text.replace(digest, "0" * 64))
    with pytest.raises(WeightsError, match=r"has sha256 \w{12}\.\.\. here.*000000000000\.\.\.; give it the same weights"):
        load_from_hub("someone/agent", make_env())


def test_environments_that_do_not_fit(hub: FakeHub, tmp_path: Path) -> None:
    push_to_hub(AGENTS["rainbow, maps"][1](maps()), "someone/maps", PONG)
    with pytest.raises(
        InputError, match=r"features of encoder 'random\.nature' .* gives no features; wrap it in VecEncodeObservation"
    ):
        load_from_hub("someone/maps", pixels())
    with pytest.raises(InputError, match=r"features of encoder 'random\.nature' .* gives 'random\.nature' with sha256"):
        load_from_hub("someone/maps", maps(weights=other_weights(tmp_path)))
    with pytest.raises(InputError, match=r"\(map in float32\), .* \(map in bfloat16\); wrap it .*, dtype='float32'\)"):
        load_from_hub("someone/maps", maps(dtype="bfloat16"))
    push_to_hub(rainbow(), "someone", "CartPole-v1")
    with pytest.raises(InputError, match=r"the agent observes Box\(.*, \(4,\), float32\), but the environment has .*84"):
        load_from_hub(CARTPOLE, pixels())
