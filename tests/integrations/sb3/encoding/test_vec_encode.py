"""VecEncodeObservation: the right features, one forward pass a step, and agents that are ordinary MLP ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from sb3_agents import CHANNEL_LAST, RandomFrames
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecFrameStack, VecNormalize, VecTransposeImage

from pretrainrl import make_encoder
from pretrainrl.device import has_native_bf16
from pretrainrl.encoders import Encoder
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.gymnasium import EncodeObservation
from pretrainrl.integrations.sb3 import AtariVecEnv, Rainbow, VecEncodeObservation, policy_kwargs

ENCODER = "random.nature"


class Recorded(VecEnvWrapper):
    """Keeps the frames that pass through."""

    def reset(self) -> Any:
        self.frames: Any = self.venv.reset()
        return self.frames

    def step_wait(self) -> Any:
        result = self.venv.step_wait()
        self.frames = result[0]
        self.finals = {i: info["terminal_observation"] for i, info in enumerate(result[3]) if "terminal_observation" in info}
        return result


def random_frames(n_envs: int = 2, **arguments: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: RandomFrames(**arguments)] * n_envs)


def close(features: Any, expected: torch.Tensor) -> bool:
    """Equal up to float16, and for zeros up to the smallest steps of it."""
    return bool(np.allclose(features, expected.detach().numpy(), rtol=1e-3, atol=1e-6))


def noops(env: Any) -> NDArray[np.int64]:
    return np.zeros(env.num_envs, np.int64)


@pytest.mark.parametrize("features", [None, "flat", "pooled", "map"])
def test_features_are_the_encoders(features: Any) -> None:
    frames = Recorded(AtariVecEnv("pong", 2, seed=0))
    env = VecEncodeObservation(frames, ENCODER, features=features, dtype="float32")
    encoder = make_encoder(ENCODER, features=None if features == "map" else features)
    encode = encoder.feature_map if features == "map" else encoder
    shape = encoder.feature_map_shape if features == "map" else (encoder.features_dim,)
    assert env.observation_space.shape == shape and env.observation_space.dtype == np.float16
    observations: Any = env.reset()
    for _ in range(5):
        assert observations.dtype == np.float16 and observations[0] in env.observation_space
        assert close(observations, encode(frames.frames))
        observations, *_ = env.step(noops(env))


def test_channel_last_stacks_give_the_same_features() -> None:
    env = VecEncodeObservation(random_frames(space=CHANNEL_LAST), ENCODER, dtype="float32")
    env.seed(0)
    frames = random_frames(space=CHANNEL_LAST)
    frames.seed(0)
    assert close(env.reset(), make_encoder(ENCODER)(VecTransposeImage(frames).reset()))


def test_stacks_of_vec_frame_stack_are_encoded() -> None:
    single = random_frames(space=Box(0, 255, (84, 84, 1), np.uint8))
    assert VecEncodeObservation(VecFrameStack(single, 4), ENCODER).reset().shape == (2, 3136)


def test_one_forward_pass_a_step_whatever_the_updates(batches: list[int]) -> None:
    settings: dict[str, Any] = {"buffer_size": 50, "learning_starts": 5, "batch_size": 4, "train_freq": 1, "gradient_steps": 2}
    kwargs = policy_kwargs(ENCODER, features_dim=8, normalization="layer")  # standardizing waits for more frames
    DQN("CnnPolicy", random_frames(1), policy_kwargs=kwargs, **settings).learn(12)
    assert sum(batches) > 12 * 8, "as an extractor, replayed frames are encoded again and again"

    batches.clear()
    DQN("MlpPolicy", VecEncodeObservation(random_frames(1), ENCODER), **settings).learn(12)
    finals = 12 // 3
    assert len(batches) == 1 + 12
    assert sum(batches) == 1 + 12 + finals


def test_terminal_observations_are_encoded_in_the_same_pass(batches: list[int]) -> None:
    frames = Recorded(random_frames(3))
    env = VecEncodeObservation(frames, ENCODER, dtype="float32")
    env.reset()
    for step in range(1, 7):
        batches.clear()
        observations, _, dones, infos = env.step(noops(env))
        assert batches == ([6] if step % 3 == 0 else [3])
        assert close(observations, make_encoder(ENCODER)(frames.frames))
        assert dones.all() == bool(frames.finals) == (step % 3 == 0)
        for i, final in frames.finals.items():
            assert close(infos[i]["terminal_observation"], make_encoder(ENCODER)(final[None])[0])


def test_the_obvious_wrapper_leaves_frames_in_the_infos() -> None:
    class Naive(VecEnvWrapper):
        def __init__(self, venv: Any) -> None:
            super().__init__(venv, Box(-np.inf, np.inf, (3136,), np.float16))

        def reset(self) -> Any:
            return make_encoder(ENCODER)(self.venv.reset()).numpy()

        def step_wait(self) -> Any:
            observations, *rest = self.venv.step_wait()
            return make_encoder(ENCODER)(observations).numpy(), *rest

    settings: dict[str, Any] = {"buffer_size": 20, "learning_starts": 100}
    with pytest.raises(ValueError, match="broadcast"):
        DQN("MlpPolicy", Naive(random_frames(1)), **settings).learn(4)

    agent = DQN("MlpPolicy", VecEncodeObservation(random_frames(1), ENCODER, dtype="float32"), **settings).learn(4)
    buffer = agent.replay_buffer
    assert buffer.dones[2, 0]
    assert not np.array_equal(buffer.next_observations[2], buffer.observations[3]), "the terminal one, not the next episode's"


def test_lost_lives_are_not_encoded_twice(batches: list[int]) -> None:
    env: Any = VecEncodeObservation(AtariVecEnv("breakout", 2, seed=0), ENCODER)
    env.reset()
    lost = over = 0
    rng = np.random.default_rng(0)
    while not (lost >= 3 and over >= 1):
        batches.clear()
        observations, _, dones, infos = env.step(rng.integers(0, 4, 2))
        games_over = sum("episode" in info for info in infos)
        over += games_over
        assert batches == [2 + games_over]
        for i in np.flatnonzero(dones):
            lost += "episode" not in infos[i]
            same = np.array_equal(infos[i]["terminal_observation"], observations[i])
            assert same == ("episode" not in infos[i])


def test_one_pass_for_all_environments_where_gymnasium_wrappers_make_one_each(batches: list[int]) -> None:
    each = DummyVecEnv([lambda: EncodeObservation(RandomFrames(), ENCODER)] * 3)
    together = VecEncodeObservation(random_frames(3), ENCODER)
    for env, expected in ((each, [1, 1, 1]), (together, [3])):
        env.reset()
        batches.clear()
        env.step(noops(env))
        assert batches == expected


@pytest.mark.parametrize("cls", [DQN, QRDQN, PPO, A2C, SAC, TD3])
def test_agents_are_ordinary_mlp_ones(cls: Any, tmp_path: Any) -> None:
    env = VecEncodeObservation(random_frames(2, continuous=cls in (SAC, TD3)), ENCODER)
    on_policy = cls in (PPO, A2C)
    settings: dict[str, Any] = {"n_steps": 4} if on_policy else {"buffer_size": 50, "learning_starts": 4, "batch_size": 4}
    agent = cls("MlpPolicy", env, policy_kwargs={"net_arch": [16]}, **settings).learn(12)
    buffer = agent.rollout_buffer if on_policy else agent.replay_buffer
    assert buffer.observations.dtype == np.float16
    agent.save(tmp_path / "agent.zip")
    loaded = cls.load(tmp_path / "agent.zip", env=env)
    observations = env.reset()
    actions = (a.predict(observations, deterministic=True)[0] for a in (agent, loaded))
    assert np.array_equal(*actions)
    loaded.learn(8)


def test_evaluation_reports_raw_scores(tmp_path: Any, recwarn: pytest.WarningsRecorder) -> None:
    env = VecEncodeObservation(AtariVecEnv("qbert", 2, seed=0), ENCODER)
    agent = A2C("MlpPolicy", env, n_steps=4, policy_kwargs={"net_arch": [8]})
    evaluation = VecEncodeObservation(AtariVecEnv("qbert", 2, seed=1, max_episode_steps=25), ENCODER)
    agent.learn(8, callback=EvalCallback(evaluation, eval_freq=4, n_eval_episodes=2, verbose=0))
    scores, lengths = evaluate_policy(agent, evaluation, n_eval_episodes=2, return_episode_rewards=True, deterministic=False)
    assert all(score % 25 == 0 for score in scores) and lengths == [25, 25]
    assert not [warning for warning in recwarn if "Monitor" in str(warning.message)]


def test_dtype_is_bfloat16_where_it_is_native() -> None:
    assert VecEncodeObservation(random_frames(), ENCODER, device="cpu").encoder.dtype == (
        torch.bfloat16 if has_native_bf16("cpu") else torch.float32
    )
    fast, exact = (VecEncodeObservation(random_frames(), ENCODER, dtype=dtype) for dtype in ("bfloat16", torch.float32))
    for env in (fast, exact):
        env.seed(0)
    features, expected = fast.reset(), exact.reset()
    assert 0 < np.abs(features - expected).max() <= 0.03 * np.abs(expected).max()


def test_the_encoder_is_shared_and_says_what_it_is() -> None:
    first, second = (VecEncodeObservation(random_frames(), ENCODER) for _ in range(2))
    assert first.encoder is second.encoder
    assert first.encoder.sha256 == make_encoder(ENCODER).sha256 and first.encoder.name == ENCODER


def test_features_beyond_float16_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "forward", lambda self, obs: torch.full((len(obs), self.features_dim), 1e9))
    assert (VecEncodeObservation(random_frames(), ENCODER).reset() == np.finfo(np.float16).max).all()


def test_wrapper_is_pickled_without_the_encoder() -> None:
    env: Any = VecEncodeObservation(random_frames(), ENCODER, dtype="float32")
    env.seed(0)
    env.reset()
    data = pickle.dumps(env)
    assert bytes(next(env.encoder.parameters()).untyped_storage()[:64]) not in data
    copy = pickle.loads(data)
    assert copy.encoder is env.encoder
    assert np.array_equal(copy.step(noops(copy))[0], env.step(noops(env))[0])


def test_other_wrappers_go_around_it() -> None:
    env = VecNormalize(VecEncodeObservation(random_frames(), ENCODER))
    assert env.reset().shape == (2, 3136)
    assert env.encoder.name == ENCODER


def test_wrapping_twice_is_refused() -> None:
    env = VecEncodeObservation(random_frames(), ENCODER)
    for wrapped in (env, VecNormalize(env)):
        with pytest.raises(InputError, match="already"):
            VecEncodeObservation(wrapped, ENCODER)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(0, 255, (4, 84, 84, 3), np.uint8), "an RGB stack"),
        (Box(0, 255, (4, 84, 84, 1), np.uint8), "drop the last axis"),
        (Box(0, 1, (4, 84, 84), np.float32), "raw frames"),
        (Box(0, 255, (84, 84), np.uint8), "a single frame"),
        (Box(0, 255, (8, 84, 84), np.uint8), r"got shape \(8, 84, 84\)"),
    ],
)
def test_wrong_observations_are_refused(space: Box, message: str) -> None:
    with pytest.raises(InputError, match=message):
        VecEncodeObservation(random_frames(space=space), ENCODER)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="random"):
        VecEncodeObservation(random_frames(), "randon")
    with pytest.raises(InputError, match="name or path, got Encoder"):
        VecEncodeObservation(random_frames(), cast(Any, make_encoder(ENCODER)))
    with pytest.raises(InputError, match="features must be"):
        VecEncodeObservation(random_frames(), ENCODER, features=cast(Any, "maps"))
    with pytest.raises(InputError, match="unknown dtype"):
        VecEncodeObservation(random_frames(), ENCODER, dtype="fp8x")


@pytest.mark.parametrize("algorithm", [Rainbow, DQN, PPO], ids=lambda algorithm: algorithm.__name__)
def test_agents_play_on_the_features_they_learned_from_alone(algorithm: Any, tmp_path: Path) -> None:
    def env(encoder: str) -> VecEncodeObservation:
        return VecEncodeObservation(random_frames(), encoder, features="pooled", device="cpu")

    agent = algorithm("MlpPolicy", env("siammae"), device="cpu", **({} if algorithm is PPO else {"buffer_size": 100}))
    agent.save(tmp_path / "agent")
    assert algorithm.load(tmp_path / "agent", env=env("siammae")).observation_space == env("siammae").observation_space
    differ = r"spaces do not match: FeatureSpace\(\(32,\), float16, siammae.*!= FeatureSpace\(\(32,\), float16, curl"
    with pytest.raises(ValueError, match=differ):
        algorithm.load(tmp_path / "agent", env=env("curl"))
    anonymous = Box(-np.inf, np.inf, (32,), np.float16)
    assert env("siammae").observation_space != anonymous, "whose features these are nobody knows"


def test_agents_compute_in_the_type_that_they_learned_in(tmp_path: Path) -> None:
    def env(dtype: str) -> Any:
        return VecEncodeObservation(random_frames(), ENCODER, features="pooled", device="cpu", dtype=dtype)

    PPO("MlpPolicy", env("bfloat16"), device="cpu").save(tmp_path / "agent")
    loaded: Any = PPO.load(tmp_path / "agent", env=env("bfloat16"))
    assert loaded.observation_space.source.dtype == "bfloat16"
    with pytest.raises(ValueError, match=r"spaces do not match: .*pooled in bfloat16\) != .*pooled in float32"):
        PPO.load(tmp_path / "agent", env=VecEncodeObservation(random_frames(), ENCODER, features="pooled"))
    chosen = env("auto")
    assert chosen.observation_space.source.dtype == ("bfloat16" if has_native_bf16("cpu") else "float32")
    assert chosen.observation_space == env(chosen.observation_space.source.dtype).observation_space
