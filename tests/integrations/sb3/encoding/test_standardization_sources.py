"""What statistics of standardizing necks are measured from: frames, views, demonstrations, datasets; and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from feature_agents import OFF, Fits, RandomFeatures, check_statistics, make, standardizers
from gymnasium.spaces import Box
from sb3_agents import ALGORITHMS, CHANNEL_FIRST, RandomFrames, frames, make_agent, same, small, weights
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from pretrainrl.errors import InputError
from pretrainrl.integrations.minari import collect_dataset, open_dataset
from pretrainrl.integrations.sb3 import (
    AtariVecEnv,
    BehaviorCloning,
    CompactReplayBuffer,
    NeckExtractor,
    Rainbow,
    VecEncodeObservation,
    fit_standardization,
    neck_policy_kwargs,
    policy_kwargs,
)
from pretrainrl.networks.standardize import Standardize

ENCODER = "random.nature"


# --- frames and views


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_encoders_in_the_agent_see_what_is_stored(algorithm: str, fits: Fits) -> None:
    agent: Any = make_agent(algorithm, small()).learn(36)
    [seen] = fits.seen
    buffer = getattr(agent, "replay_buffer", None) or agent.rollout_buffer
    assert seen.shape[1:] == (3136,) and len(seen) >= 32
    first, *others = standardizers(agent)
    check_statistics(first, seen)
    assert all(same(weights(each), weights(first)) for each in others)
    if isinstance(buffer, ReplayBuffer) and not isinstance(buffer, CompactReplayBuffer):
        extractor = next(each for each in agent.policy.modules() if hasattr(each, "encode"))
        stored = torch.as_tensor(buffer.observations[: len(seen)].reshape(-1, 4, 84, 84)).float() / 255
        torch.testing.assert_close(torch.from_numpy(seen), extractor.encode(stored))


def encoded_env(features: str, views: int | None = None) -> VecEncodeObservation:
    games = AtariVecEnv("pong", n_envs=2, seed=0)
    choice: Any = features
    return VecEncodeObservation(games, ENCODER, features=choice, views=views, device="cpu", dtype="float32")


@pytest.mark.parametrize(
    ("features", "neck", "embeddings"),
    [("flat", "mlp", 1), ("pooled", "mlp", 1), ("map", "mlp", 1), ("map", "spatial", 1), ("map", "spatial", 3)],
)
def test_features_and_frames_give_the_same_agent(features: Any, neck: Any, embeddings: int) -> None:
    """Nothing is standardized twice, whether the encoder is in the environment or in the agent."""
    choice: dict[str, Any] = {"neck": neck, "embeddings": embeddings, "features_dim": 16}
    settings: dict[str, Any] = {**OFF, "seed": 0, "device": "cpu"}
    env = encoded_env(features)
    outside = Rainbow("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(**choice), **settings)
    kind = None if neck == "spatial" or features == "map" else features
    kwargs = policy_kwargs(ENCODER, features=kind, **choice)
    inside = Rainbow("CnnPolicy", env.venv, policy_kwargs=kwargs, **settings)
    key = "features_extractor.neck"
    assert all(
        torch.equal(tensor.flatten(), dict(inside.q_net.named_parameters())[name].flatten())
        for name, tensor in outside.q_net.named_parameters()
        if key in name
    )
    shown: Any = env.venv.reset()
    played = [shown] + [env.venv.step(np.full(2, 2 + step % 2))[0] for step in range(40)]
    raw = np.concatenate(played)
    fit_standardization(inside, raw)
    fit_standardization(outside, [env.encode(raw[:41]), env.encode(raw[41:])])
    one, other = (standardizers(agent)[0] for agent in (inside, outside))
    np.testing.assert_allclose(one.mean.flatten(), other.mean.flatten(), rtol=1e-2, atol=1e-3)
    values = inside.q_net(torch.as_tensor(raw[:8])), outside.q_net(torch.as_tensor(env.encode(raw[:8])))
    torch.testing.assert_close(*values, rtol=5e-2, atol=5e-2)
    env.close()


@pytest.mark.parametrize("cls", [Rainbow, DQN, PPO])
def test_views_share_the_statistics_of_the_plain_one(cls: Any, fits: Fits) -> None:
    env = encoded_env("pooled", views=2)
    settings: dict[str, Any] = {"n_steps": 20, "batch_size": 10} if cls is PPO else {**OFF, "learning_starts": 40}
    if cls is Rainbow:
        settings["augment"] = True
    agent = cls("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(features_dim=8), seed=0, device="cpu", **settings)
    agent.learn(60)
    [seen] = fits.seen
    assert seen.shape[1:] == (64,)
    if cls is PPO:
        return
    buffer = agent.replay_buffer
    index = np.arange(len(seen))
    stored = buffer.observations_at(index) if cls is Rainbow else buffer.observations.reshape(-1, 3, 64)[index]
    assert np.array_equal(seen, stored[:, 0].astype(np.float32))
    env.close()


def test_a_fitted_neck_is_shared_with_the_target_after_updates() -> None:
    agent = make("Rainbow, tau").learn(80)
    online, target = standardizers(agent)
    assert same(weights(online), weights(target))


# --- behaviour cloning


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    yield collect_dataset("pong", 200, n_envs=2).id


def clones(encoder_in_env: bool, **arguments: Any) -> BehaviorCloning:
    settings: dict[str, Any] = {"batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu", **arguments}
    if encoder_in_env:
        return BehaviorCloning("MlpPolicy", encoded_env("flat"), policy_kwargs=neck_policy_kwargs(features_dim=8), **settings)
    return BehaviorCloning("CnnPolicy", AtariVecEnv("pong", 2), policy_kwargs=small(), **settings)


@pytest.mark.parametrize(
    "arguments", [{"encoder_in_env": True}, {"encoder_in_env": False}, {"encoder_in_env": False, "augment": True}]
)
def test_behavior_cloning_measures_its_demonstrations(arguments: Any, dataset: str, fits: Fits, tmp_path: Path) -> None:
    clone = clones(**arguments).learn(dataset)
    [seen] = fits.seen
    total = open_dataset(dataset).minari.total_steps
    assert seen.shape == (total, 3136), "every observation, once"
    check_statistics(standardizers(clone)[0], seen)
    clone.learn(dataset, reset_num_timesteps=False).save(tmp_path / "clone")
    assert len(fits.seen) == 1
    loaded = BehaviorCloning.load(tmp_path / "clone", device="cpu")
    assert same(weights(loaded.policy), weights(clone.policy))


def test_validation_episodes_are_not_measured(dataset: str, fits: Fits) -> None:
    shown = open_dataset(dataset)
    if len(shown.minari.episode_indices) < 2:
        pytest.skip("one episode")
    clones(True, validation_fraction=0.5).learn(dataset)
    [seen] = fits.seen
    assert 0 < len(seen) < shown.minari.total_steps


def test_a_clone_hands_its_statistics_on(dataset: str, fits: Fits) -> None:
    clone = clones(True).learn(dataset)
    kwargs = neck_policy_kwargs(features_dim=8)
    agent = Rainbow("MlpPolicy", encoded_env("flat"), policy_kwargs=kwargs, seed=0, device="cpu", **OFF)
    clone.initialize(agent)
    agent.learn(60)
    assert len(fits.seen) == 1
    assert all(same(weights(each), weights(standardizers(clone)[0])) for each in standardizers(agent))


# --- by hand


WAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": lambda data: data,
    "tensor": torch.from_numpy,
    "batches": lambda data: iter(np.array_split(data, 7)),
}


@pytest.mark.parametrize("way", WAYS)
def test_statistics_are_measured_by_hand(way: str, fits: Fits) -> None:
    data = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float16)
    for model in (agent := make("DQN"), make("PPO").policy):
        fit_standardization(model, WAYS[way](data))
        assert np.array_equal(fits.seen[-1], data.astype(np.float32))
    agent.learn(60)
    assert len(fits.seen) == 2
    check_statistics(standardizers(agent)[1], data)


@pytest.mark.parametrize("encoder_in_env", [True, False])
def test_statistics_are_measured_from_a_dataset(encoder_in_env: bool, dataset: str, fits: Fits) -> None:
    for shown in (dataset, open_dataset(dataset)):
        clone = clones(encoder_in_env)
        fit_standardization(clone, shown)
        assert len(fits.seen[-1]) == open_dataset(dataset).minari.total_steps
    by_itself = clones(encoder_in_env).learn(dataset)
    torch.testing.assert_close(standardizers(by_itself)[0].mean, standardizers(clone)[0].mean, rtol=1e-2, atol=1e-3)


def test_an_extractor_inside_another_reads_its_entry(fits: Fits) -> None:
    class Both(BaseFeaturesExtractor):
        def __init__(self, observation_space: Any) -> None:
            super().__init__(observation_space, 8)
            self.features = NeckExtractor(observation_space["features"], 8)

        def forward(self, observations: Any) -> Tensor:
            return self.features(observations["features"])

    class DictFeatures(RandomFeatures):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Dict(  # type: ignore[assignment]
                {"features": self.observation_space, "clock": Box(0, 1, (1,), np.float32)}
            )

        def _features(self) -> Any:
            return {"features": super()._features(), "clock": np.zeros(1, np.float32)}

    for cls, arguments in ((DQN, OFF), (Rainbow, OFF), (PPO, {"n_steps": 40, "batch_size": 20})):
        kwargs: dict[str, Any] = {"features_extractor_class": Both, "net_arch": [8]}
        agent: Any = cls("MultiInputPolicy", DictFeatures(), policy_kwargs=kwargs, device="cpu", **arguments)
        agent.learn(60)
        assert all(each.is_fitted for each in standardizers(agent))
        assert fits.seen.pop().shape[1:] == (6,) and not fits.seen


# --- what does not fit


@pytest.mark.parametrize(
    ("kind", "more", "advice"),
    [
        ("DQN", {"learning_starts": 10}, "learning_starts"),
        ("Rainbow", {"learning_starts": 10}, "learning_starts"),
        ("A2C", {"n_steps": 5}, "n_steps or the number of environments"),
    ],
)
def test_too_few_observations_to_begin_with(kind: str, more: Any, advice: str) -> None:
    count = {"A2C": 10}.get(kind, 12)
    message = rf"{kind} begins to train on {count} observations, .* at least 32: raise {advice}, call fit_standardization\("
    with pytest.raises(InputError, match=message):
        make(kind, **more).learn(40)


def test_features_that_are_not_finite() -> None:
    data = np.ones((40, 6), np.float32)
    data[3, 4] = np.nan
    agent = make("DQN")
    with pytest.raises(InputError, match="some features are not finite"):
        fit_standardization(agent, data)
    assert not any(each.is_fitted for each in standardizers(agent))


def test_by_hand_it_is_done_once_and_where_it_makes_sense() -> None:
    data = np.random.default_rng(0).normal(size=(90, 6))
    agent = make("DQN")
    with pytest.raises(InputError, match=r"expected observations \(N, ...\) of Box.*, got shape \(90, 5\)"):
        fit_standardization(agent, data[:, :5])
    with pytest.raises(InputError, match="at least 32 observations, got 31"):
        fit_standardization(agent, data[:31])
    fit_standardization(agent, data)
    with pytest.raises(InputError, match="were measured already and stay what they are"):
        fit_standardization(agent, data)
    for kwargs in (neck_policy_kwargs(normalization="layer"), neck_policy_kwargs(neck=None)):
        with pytest.raises(InputError, match="no neck of this DQN standardizes features"):
            fit_standardization(make("DQN", policy_kwargs=kwargs), data)
    with pytest.raises(InputError, match="a dataset or a card is for an agent, not for a policy"):
        fit_standardization(make("DQN").policy, "pretrainrl/atari/pong-random-v0")


def test_a_buffer_of_unknown_kind_is_named() -> None:
    class Elsewhere(ReplayBuffer):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.hidden, self.observations = self.observations, None  # type: ignore[assignment]

        def add(self, *arguments: Any) -> None:
            self.observations = self.hidden
            super().add(*arguments)
            self.observations = None  # type: ignore[assignment]

    with pytest.raises(InputError, match=r"a Elsewhere has no array of observations .* call fit_standardization"):
        make("DQN", replay_buffer_class=Elsewhere).learn(60)


def test_an_agent_of_another_neck_is_not_loaded(tmp_path: Path) -> None:
    make("DQN", policy_kwargs=neck_policy_kwargs(features_dim=8, net_arch=[8], normalization="layer")).save(tmp_path / "old")
    kwargs = neck_policy_kwargs(features_dim=8, net_arch=[8])
    with pytest.raises(RuntimeError, match=r"saved with another neck\. Make the agent with the neck and normalization"):
        DQN.load(tmp_path / "old", custom_objects={"policy_kwargs": kwargs})


def test_a_trainable_encoder_is_not_standardized() -> None:
    assert small(trainable=True)["features_extractor_kwargs"]["normalization"] == "layer"
    with pytest.raises(InputError, match="is for frozen encoders"):
        small(trainable=True, normalization="standardize")
    with pytest.raises(InputError, match="not for neck='spatial_mlp'"):
        small(neck="spatial_mlp", normalization="standardize")


def test_training_mode_by_hand_measures_nothing() -> None:
    policy = make_agent("DQN", small()).policy
    policy.set_training_mode(True)
    assert not any(each.is_fitted for each in policy.modules() if isinstance(each, Standardize))
    unfitted = policy.q_net.features_extractor(torch.as_tensor(frames()).float() / 255)
    assert torch.isfinite(unfitted).all()


def test_frames_without_a_game_still_learn() -> None:
    agent = Rainbow("CnnPolicy", RandomFrames(CHANNEL_FIRST), policy_kwargs=small(), seed=0, device="cpu", **OFF)
    assert agent.learn(46)._n_updates > 0
