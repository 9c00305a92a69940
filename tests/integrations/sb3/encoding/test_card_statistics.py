"""Statistics of features from an encoder's card: what is measured, who takes it, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sb3_agents import CHANNEL_FIRST, RandomFrames, same, weights
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

import pretrainrl
from pretrainrl.cards import EncoderCard
from pretrainrl.errors import InputError, WeightsError
from pretrainrl.integrations.minari import collect_dataset, dataset_id
from pretrainrl.integrations.sb3 import (
    Rainbow,
    VecEncodeObservation,
    fit_standardization,
    neck_policy_kwargs,
    policy_kwargs,
    write_standardization,
)
from pretrainrl.networks.standardize import Standardize

SETTINGS: dict[str, Any] = {"buffer_size": 200, "learning_starts": 40, "device": "cpu", "seed": 0}
DATASET = dataset_id("pong", "statistics")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the card of an encoder whose features of play of Pong were measured."""
    collect_dataset("pong", steps=60, n_envs=2, kind="statistics")
    folder = tmp_path_factory.mktemp("card")
    pretrainrl.encoder_card("random.nature").write(folder / EncoderCard.FILE)
    assert write_standardization(folder, DATASET).standardization is not None
    return folder


def frames() -> DummyVecEnv:
    return DummyVecEnv([lambda: RandomFrames(space=CHANNEL_FIRST)] * 2)


def standardize(agent: Any) -> Standardize:
    return next(module for module in agent.policy.modules() if isinstance(module, Standardize))


def in_the_agent(encoder: str | Path, **choice: Any) -> DQN:
    return DQN("CnnPolicy", frames(), policy_kwargs=policy_kwargs(encoder, features_dim=16, **choice), **SETTINGS)


def test_an_agent_takes_what_it_would_have_measured(folder: Path) -> None:
    from_card, from_dataset = in_the_agent(folder), in_the_agent(folder)
    fit_standardization(from_card, "card")
    fit_standardization(from_dataset, DATASET)
    ours, theirs = standardize(from_card), standardize(from_dataset)
    assert ours.is_fitted
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.scale, theirs.scale, rtol=1e-3, atol=1e-5)
    assert all(same(weights(each), weights(ours)) for each in from_card.policy.modules() if isinstance(each, Standardize))
    from_card.learn(44)
    torch.testing.assert_close(ours.mean, theirs.mean)


@pytest.mark.parametrize(("features", "neck"), [("flat", "mlp"), ("pooled", "mlp"), ("map", "mlp"), ("map", "spatial")])
def test_every_kind_of_features_in_the_environment(folder: Path, features: Any, neck: Any) -> None:
    env = VecEncodeObservation(frames(), folder, features=features, views=1 if features == "map" else None)
    agent = Rainbow("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(neck=neck, features_dim=16), **SETTINGS)
    fit_standardization(agent, "card")
    assert standardize(agent).is_fitted
    with pytest.raises(InputError, match="measured already"):
        fit_standardization(agent, "card")


def test_the_card_stays_one_that_can_be_moved(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    folder.rename(moved)
    try:
        card = EncoderCard.read(moved / EncoderCard.FILE)
        assert card.weights == pretrainrl.encoder_card("random.nature").weights
        fit_standardization(in_the_agent(moved), "card")
        file = moved / "standardization.safetensors"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        with pytest.raises(WeightsError, match="bytes"):
            fit_standardization(in_the_agent(moved), "card")
        file.write_bytes(whole)
    finally:
        moved.rename(folder)


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"card of random\.nature holds no statistics"):
        fit_standardization(in_the_agent("random.nature"), "card")
    with pytest.raises(InputError, match="no neck of this DQN standardizes"):
        fit_standardization(in_the_agent(folder, normalization="layer"), "card")
    with pytest.raises(InputError, match="for an agent, not for a policy"):
        fit_standardization(in_the_agent(folder).policy, "card")
    reseeded = pretrainrl.encoder_card("random.nature").weights.model_copy(update={"seed": 5})
    card = EncoderCard.read(folder / EncoderCard.FILE).model_copy(update={"weights": reseeded})
    card.write(tmp_path / "other.toml")
    with pytest.raises(InputError, match="are of weights with sha256"):
        fit_standardization(in_the_agent(tmp_path / "other.toml"), "card")
