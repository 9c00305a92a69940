"""Policy arguments, end-to-end training, and saved agents that look for their encoder."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sb3_agents import CHANNEL_FIRST, STEPS, first_bytes, frames, make_agent, other_weights, same, small, weights
from stable_baselines3 import DQN

from pretrainrl import make_encoder
from pretrainrl.device import has_native_bf16
from pretrainrl.encoders import cached_encoder, clear_encoder_cache
from pretrainrl.encoders.observation_encoder import SharedEncoder
from pretrainrl.errors import InputError, UnknownNameError, WeightsError
from pretrainrl.integrations.sb3 import PretrainedExtractor, policy_kwargs

# --- end-to-end training


@pytest.mark.parametrize("algorithm", ["DQN", "PPO", "A2C", "SAC", "RecurrentPPO"])
def test_trainable_encoder_starts_from_its_weights_and_learns(algorithm: str, tmp_path: Path) -> None:
    pretrained = weights(make_encoder("random.nature").backbone)
    agent = make_agent(algorithm, small(trainable=True))
    extractors = [module for module in agent.policy.modules() if isinstance(module, PretrainedExtractor)]
    assert all(same(weights(extractor.encoder.backbone), pretrained) for extractor in extractors)
    assert len({next(extractor.encoder.parameters()).data_ptr() for extractor in extractors}) == len(extractors)

    agent.learn(STEPS)
    for extractor in extractors:
        assert not same(weights(extractor.encoder.backbone), pretrained)
    assert same(weights(cached_encoder("random.nature").backbone), pretrained), "the shared one is another"
    agent.save(tmp_path / "agent.zip")
    loaded = type(agent).load(tmp_path / "agent.zip", device="cpu")
    assert same(weights(loaded.policy), weights(agent.policy))
    assert np.array_equal(*(a.predict(frames(), deterministic=True)[0] for a in (agent, loaded)))


def test_trainable_encoder_follows_the_policys_mode() -> None:
    policy = make_agent("PPO", small(trainable=True)).policy
    policy.set_training_mode(True)
    assert policy.features_extractor.encoder.training
    policy.set_training_mode(False)
    assert not policy.features_extractor.encoder.training


def test_trainable_encoder_is_trained_in_float32() -> None:
    with pytest.raises(InputError, match="float32"):
        make_agent("DQN", small(trainable=True, dtype="bfloat16"))


# --- saved agents and their encoders


def test_loading_checks_the_digest_of_the_encoder(tmp_path: Path) -> None:
    path = other_weights(tmp_path)
    make_agent("DQN", small(weights=path)).save(tmp_path / "agent.zip")
    other_weights(tmp_path, value=0.02)
    clear_encoder_cache()
    with pytest.raises(WeightsError, match=r"has sha256 [0-9a-f]{12}\.\.\. here.* give it the same weights"):
        DQN.load(tmp_path / "agent.zip")
    path.unlink()
    clear_encoder_cache()
    with pytest.raises(WeightsError, match="no such file"):
        DQN.load(tmp_path / "agent.zip")


def test_an_encoder_that_moved_can_be_given_anew(tmp_path: Path) -> None:
    path = other_weights(tmp_path)
    agent = make_agent("DQN", small(weights=path))
    agent.save(tmp_path / "agent.zip")
    moved = path.rename(tmp_path / "moved.safetensors")
    clear_encoder_cache()
    loaded: Any = DQN.load(tmp_path / "agent.zip", custom_objects={"policy_kwargs": small(weights=moved)})
    assert torch.equal(*(a.q_net(torch.as_tensor(frames())) for a in (agent, loaded)))


def test_policy_kwargs_hold_names_and_a_digest() -> None:
    kwargs = policy_kwargs("random.nature", dtype=torch.bfloat16, net_arch=(32,))
    assert kwargs["features_extractor_class"] is PretrainedExtractor
    assert kwargs["net_arch"] == [32]
    arguments = kwargs["features_extractor_kwargs"]
    assert arguments["sha256"] == make_encoder("random.nature").sha256
    assert arguments["dtype"] == "bfloat16"
    assert all(isinstance(value, str | int | bool | None) for value in arguments.values())


def test_extractors_are_copied_and_pickled_without_the_encoder() -> None:
    extractor = PretrainedExtractor(CHANNEL_FIRST, "random.nature", features_dim=16)
    batch = torch.rand(2, 4, 84, 84)
    expected = extractor(batch)
    data = pickle.dumps(extractor)
    assert first_bytes(extractor.encoder_on("cpu")) not in data
    for copy in (deepcopy(extractor), pickle.loads(data)):
        assert torch.equal(copy(batch), expected)
        assert copy.encoder_on("cpu") is extractor.encoder_on("cpu")


def test_auto_is_resolved_where_an_agent_is_made(tmp_path: Path) -> None:
    chosen = "bfloat16" if has_native_bf16("cuda" if torch.cuda.is_available() else "cpu") else "float32"
    agent = make_agent("DQN", small(dtype="auto"))
    assert agent.policy_kwargs["features_extractor_kwargs"]["dtype"] == chosen
    for refused in (lambda: PretrainedExtractor(CHANNEL_FIRST, dtype="auto"), lambda: SharedEncoder("random", dtype="auto")):
        with pytest.raises(InputError, match="wherever the agent is loaded, and not 'auto'"):
            refused()


def test_fast_dtypes_give_float32_to_the_neck() -> None:
    extractor = PretrainedExtractor(CHANNEL_FIRST, "random.nature", neck=None, dtype="bfloat16")
    exact = PretrainedExtractor(CHANNEL_FIRST, "random.nature", neck=None)
    batch = torch.as_tensor(frames()).float() / 255
    assert extractor(batch).dtype == torch.float32
    assert (extractor(batch) - exact(batch)).abs().max() <= 0.03 * exact(batch).abs().max()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"random\.nature"):
        policy_kwargs("random.natur")
    encoder: Any = make_encoder("random.nature")
    with pytest.raises(InputError, match="name or path, got Encoder"):
        policy_kwargs(encoder)
    with pytest.raises(UnknownNameError, match="unknown neck 'mpl'; did you mean 'mlp'"):
        PretrainedExtractor(CHANNEL_FIRST, "random.nature", neck=cast(Any, "mpl"))
    with pytest.raises(InputError, match="features_dim must be positive"):
        PretrainedExtractor(CHANNEL_FIRST, "random.nature", features_dim=0)
    with pytest.raises(InputError, match="unknown dtype 'half16'"):
        policy_kwargs("random.nature", dtype="half16")
