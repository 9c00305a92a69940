"""Gymnasium wrappers: the encoder's features, in every autoreset mode, and environments that can be rebuilt."""

from __future__ import annotations

import json
import pickle
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
import torch
from ale_py.vector_env import AtariVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from sb3_agents import CHANNEL_LAST, RandomFrames

from pretrainrl import make_encoder
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.gymnasium import EncodeObservation, VectorEncodeObservation

ENCODER = "random.nature"
gym.register_envs(ale_py)


def atari(game: str = "ALE/Pong-v5") -> gym.Env[Any, Any]:
    env = AtariPreprocessing(gym.make(game, frameskip=1))
    return FrameStackObservation(env, 4, padding_type="zero")


def close(features: Any, expected: torch.Tensor) -> bool:
    return bool(np.allclose(features, expected.numpy(), rtol=1e-4, atol=1e-6))


# --- single environments


@pytest.fixture
def pong() -> gym.Env[Any, Any]:
    pytest.importorskip("cv2", reason="AtariPreprocessing resizes with OpenCV")
    return atari()


@pytest.mark.parametrize("features", [None, "pooled", "map"])
def test_features_are_the_encoders(pong: gym.Env[Any, Any], features: Any) -> None:
    twin = atari()
    env = EncodeObservation(pong, ENCODER, features=features, dtype="float32")
    encoder = make_encoder(ENCODER, features=None if features == "map" else features)
    encode = encoder.feature_map if features == "map" else encoder
    observation, frames = env.reset(seed=0)[0], twin.reset(seed=0)[0]
    for _ in range(3):
        assert observation.dtype == np.float32 and observation in env.observation_space
        assert close(observation, encode(np.asarray(frames)[None])[0])
        observation, frames = env.step(2)[0], twin.step(2)[0]
    assert env.encoder.sha256 == encoder.sha256


def test_check_env(pong: gym.Env[Any, Any]) -> None:
    with pytest.warns(UserWarning, match="infinity|unwrapped"):  # features have no bounds, and check_env mentions wrappers
        check_env(EncodeObservation(pong, ENCODER), skip_render_check=True)


def test_spec_rebuilds_the_wrapped_environment(pong: gym.Env[Any, Any]) -> None:
    env = EncodeObservation(pong, ENCODER, features="pooled", dtype=torch.float32, output_dtype=np.float16)
    spec = EnvSpec.from_json(env.spec.to_json())
    assert json.loads(env.spec.to_json())["additional_wrappers"][-1]["name"] == "EncodeObservation"
    assert env.spec
    for rebuilt in (gym.make(env.spec), gym.make(spec)):
        assert isinstance(rebuilt, EncodeObservation)
        assert rebuilt.observation_space == env.observation_space and rebuilt.observation_space.dtype == np.float16
        assert np.array_equal(rebuilt.reset(seed=3)[0], env.reset(seed=3)[0])


@pytest.mark.parametrize("dtype", [np.float16, "float32"])
def test_output_dtype(dtype: Any) -> None:
    env = EncodeObservation(RandomFrames(), ENCODER, output_dtype=dtype)
    assert env.reset()[0].dtype == env.observation_space.dtype == np.dtype(dtype)


def test_channel_last_stacks_give_the_same_features() -> None:
    features = EncodeObservation(RandomFrames(CHANNEL_LAST), ENCODER, dtype="float32").reset(seed=0)[0]
    frames = RandomFrames(CHANNEL_LAST).reset(seed=0)[0]
    assert close(features, make_encoder(ENCODER)(np.moveaxis(frames, -1, 0)[None])[0])


def test_wrapper_is_pickled_without_the_encoder() -> None:
    env = EncodeObservation(RandomFrames(), ENCODER)
    env.reset(seed=0)
    data = pickle.dumps(env)
    assert bytes(next(env.encoder.parameters()).untyped_storage()[:64]) not in data
    copy = pickle.loads(data)
    assert copy.encoder is env.encoder
    assert np.array_equal(copy.step(0)[0], env.step(0)[0])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(0, 255, (4, 84, 84, 3), np.uint8), "an RGB stack; use grayscale"),
        (Box(0, 255, (210, 160, 3), np.uint8), "an RGB frame"),
        (Box(0, 255, (84, 84), np.uint8), "a single frame; stack 4"),
        (Box(0, 255, (4, 84, 84, 1), np.uint8), "grayscale_newaxis=False"),
        (Box(0, 1, (4, 84, 84), np.float32), "raw frames"),
        (Box(0, 255, (4, 96, 96), np.uint8), r"got shape \(4, 96, 96\)"),
        (Box(0, 9, (4, 84, 84), np.uint8), r"got bounds \[0, 9\]"),
        (Dict({"frames": Box(0, 255, (4, 84, 84), np.uint8)}), "got Dict"),
    ],
)
def test_wrong_observations_are_refused(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EncodeObservation(RandomFrames(space), ENCODER)
    with pytest.raises(InputError, match=message):
        VectorEncodeObservation(SyncVectorEnv([lambda: RandomFrames(space)]), ENCODER)


def test_wrapping_twice_is_refused() -> None:
    wrapped: Any = EncodeObservation(RandomFrames(), ENCODER)
    with pytest.raises(InputError, match="neither scaled nor encoded"):
        EncodeObservation(wrapped, ENCODER)


def test_bad_arguments_are_refused() -> None:
    encoder: Any = make_encoder(ENCODER)
    with pytest.raises(UnknownNameError, match=r"random\.impala"):
        EncodeObservation(RandomFrames(), "random.impalla")
    with pytest.raises(InputError, match="name or path, got Encoder"):
        EncodeObservation(RandomFrames(), encoder)
    with pytest.raises(InputError, match="float16 or float32, not int8"):
        EncodeObservation(RandomFrames(), ENCODER, output_dtype=np.int8)


# --- vector environments


def vector(mode: AutoresetMode, lengths: tuple[int, ...] = (2, 3), cls: Any = SyncVectorEnv) -> Any:
    return cls([lambda length=length: RandomFrames(length=length) for length in lengths], autoreset_mode=mode)


def noops(env: Any) -> np.ndarray:
    return np.zeros(env.num_envs, np.int64)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_vector_features_are_the_encoders(mode: AutoresetMode, batches: list[int]) -> None:
    env, twin = VectorEncodeObservation(vector(mode), ENCODER, dtype="float32"), vector(mode)
    encoder = make_encoder(ENCODER)
    assert env.observation_space.shape == (2, 3136) and env.single_observation_space.shape == (3136,)
    observations, frames = env.reset(seed=0)[0], twin.reset(seed=0)[0]
    finals = 0
    for _ in range(7):
        assert observations in env.observation_space and close(observations, encoder(frames))
        batches.clear()
        observations, _, terminated, _, infos = env.step(noops(env))
        frames, _, _, _, twin_infos = twin.step(noops(twin))
        assert ("final_obs" in infos) == ("final_obs" in twin_infos)
        ended = twin_infos.get("_final_obs", np.zeros(2, bool))
        assert batches == [2 + ended.sum()]
        if ended.any():
            assert np.array_equal(infos["_final_obs"], ended) and np.array_equal(ended, terminated)
            for i, final in enumerate(infos["final_obs"]):
                assert (final is None) == (not ended[i])
                if ended[i]:
                    finals += 1
                    assert close(final, encoder(twin_infos["final_obs"][i][None])[0])
    assert finals == (5 if mode == AutoresetMode.SAME_STEP else 0)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_ales_vector_environment_and_its_dense_final_observations(mode: AutoresetMode, batches: list[int]) -> None:
    settings: dict[str, Any] = {"num_envs": 3, "max_num_frames_per_episode": 40, "autoreset_mode": mode, "noop_max": 30}
    env = VectorEncodeObservation(AtariVectorEnv("pong", **settings), ENCODER, dtype="float32")
    twin = AtariVectorEnv("pong", **settings)
    encoder = make_encoder(ENCODER)
    observations, frames = env.reset(seed=0)[0], twin.reset(seed=0)[0]
    seen = 0
    for _ in range(12):
        assert close(observations, encoder(frames))
        batches.clear()
        observations, _, _, truncated, infos = env.step(noops(env))
        frames, _, _, _, twin_infos = twin.step(noops(twin))
        if "final_obs" in twin_infos:
            seen += 1
            assert batches == [3 + truncated.sum()]
            assert infos["final_obs"].shape == (3, 3136) and infos["final_obs"].dtype == np.float32
            assert np.array_equal(infos["_final_obs"], truncated)
            assert close(infos["final_obs"][truncated], encoder(twin_infos["final_obs"][truncated]))
            assert not infos["final_obs"][~truncated].any()
        else:
            assert batches == [3]
    assert (seen > 0) == (mode == AutoresetMode.SAME_STEP)


def test_gymnasiums_own_base_class_refuses_same_step() -> None:
    """Which is why the wrapper does not build on it."""

    class Naive(gym.vector.VectorObservationWrapper):
        def observations(self, observations: Any) -> Any:
            return make_encoder(ENCODER)(observations).numpy()

    with pytest.raises(ValueError, match="autoreset_mode"):
        Naive(vector(AutoresetMode.SAME_STEP))


def test_the_wrapped_environments_infos_are_left_alone() -> None:
    inner = vector(AutoresetMode.SAME_STEP)
    kept: Any = []
    step = inner.step
    inner.step = lambda actions: kept.append((result := step(actions))[4]) or result
    env = VectorEncodeObservation(inner, ENCODER)
    env.reset(seed=0)
    env.step(noops(env))
    env.step(noops(env))
    assert kept[1]["final_obs"][0].shape == (4, 84, 84)


@pytest.mark.parametrize("features", ["pooled", "map"])
def test_vector_features_and_output_dtype(features: Any) -> None:
    env = VectorEncodeObservation(vector(AutoresetMode.SAME_STEP), ENCODER, features=features, output_dtype="float16")
    shape = (64,) if features == "pooled" else (64, 7, 7)
    assert env.reset()[0].shape == (2, *shape)
    env.step(noops(env))
    final = env.step(noops(env))[4]["final_obs"][0]
    assert final.shape == shape and final.dtype == np.float16


def test_the_encoder_stays_in_this_process_when_environments_are_elsewhere(batches: list[int]) -> None:
    env = VectorEncodeObservation(vector(AutoresetMode.SAME_STEP, cls=AsyncVectorEnv), ENCODER)
    env.reset(seed=0)
    env.step(noops(env))
    env.step(noops(env))
    env.close()
    assert batches == [2, 2, 3]


def test_make_vec_environments_are_wrapped() -> None:
    env = VectorEncodeObservation(gym.make_vec("ALE/Pong-v5", num_envs=2), ENCODER)
    assert env.spec.id == "ALE/Pong-v5" and env.encoder.name == ENCODER
    assert env.reset(seed=0)[0].shape == (2, 3136)
    assert env._saved_kwargs["encoder"] == ENCODER
