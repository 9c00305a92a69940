"""What a dataset is shown as is what the environment gives, through every wrapper; other wrappers are refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from sb3_agents import CHANNEL_FIRST, CHANNEL_LAST, RandomFrames
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import Rainbow, VecEncodeObservation, fit_standardization, neck_policy_kwargs
from pretrainrl.integrations.sb3.encoding.observed import Observed, observed

ENCODER = "random.nature"
LAST, FIRST = Box(0, 255, (84, 84, 1), np.uint8), Box(0, 255, (1, 84, 84), np.uint8)


class Film(gym.Env[Any, Any]):
    """Frames whose content is their time, one or four in an observation, laid out as the space says."""

    def __init__(self, space: Any) -> None:
        self.observation_space, self.action_space = space, Discrete(3)

    def _seen(self) -> Any:
        space: Any = self.observation_space["frames"] if isinstance(self.observation_space, Dict) else self.observation_space
        stack = film(self.time, min(space.shape[0], space.shape[-1]))
        frames = np.moveaxis(stack, 0, -1) if space.shape[-1] < 84 else stack
        return {"frames": frames, "more": np.zeros(2, np.float32)} if isinstance(self.observation_space, Dict) else frames

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.time = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return self._seen(), 1.0, False, False, {}


def film(time: int, stack: int) -> np.ndarray:
    """The frames up to `time`, (stack, 84, 84), each with a pattern that no transposition leaves as it is."""
    pattern = np.arange(84 * 84).reshape(84, 84)
    frames = [(pattern + 13 * each + 1) % 251 if each >= 0 else 0 * pattern for each in range(time - stack + 1, time + 1)]
    return np.stack(frames).astype(np.uint8)


def base(space: Any) -> VecEnv:
    return DummyVecEnv([lambda: Film(space)])


def encode(env: VecEnv) -> VecEncodeObservation:
    return VecEncodeObservation(env, ENCODER, device="cpu")


def of(env: VecEnv) -> Observed:
    agent: Any = SimpleNamespace(get_env=lambda: env, observation_space=env.observation_space)
    return observed(agent)


DICT = Dict({"frames": CHANNEL_LAST, "more": Box(-1, 1, (2,))})
CHAINS: dict[str, Callable[[], VecEnv]] = {
    "stacks": lambda: base(CHANNEL_FIRST),
    "channel-last": lambda: base(CHANNEL_LAST),
    "transposed": lambda: VecMonitor(VecTransposeImage(VecMonitor(base(CHANNEL_LAST)))),
    "not-transposed": lambda: VecTransposeImage(base(CHANNEL_LAST), skip=True),
    "stacked": lambda: VecFrameStack(base(LAST), 4),
    "stacked-first": lambda: VecFrameStack(base(FIRST), 4, "first"),
    "stacked-transposed": lambda: VecTransposeImage(VecFrameStack(VecNormalize(base(LAST), norm_obs=False), 4)),
    "of-a-dict": lambda: VecTransposeImage(VecExtractDictObs(base(DICT), "frames")),
    "encoded": lambda: VecMonitor(encode(base(CHANNEL_FIRST))),
    "encoded-stacked": lambda: VecCheckNan(encode(VecFrameStack(base(LAST), 4))),
    "encoded-transposed": lambda: encode(VecTransposeImage(VecFrameStack(base(LAST), 4))),
    "encoded-normalized": lambda: VecMonitor(VecNormalize(VecMonitor(encode(base(CHANNEL_FIRST))), training=False)),
    "normalized": lambda: VecNormalize(VecFrameStack(base(LAST), 4), training=False),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_a_dataset_looks_as_the_environment_does(chain: str) -> None:
    env = CHAINS[chain]()
    seen = of(env)
    given: list[Any] = [env.reset()]
    given += [env.step(np.zeros(1, int))[0] for _ in range(6)]
    shown: Any = seen.encode(np.stack([film(time, seen.stack) for time in range(7)]))
    if seen.normalize is not None:
        shown = seen.normalize.normalize_obs(shown)
    expected: Any = np.concatenate(given)
    assert shown.shape == expected.shape and seen.stack == 4
    np.testing.assert_allclose(shown.astype(np.float32), expected.astype(np.float32), atol=1e-3, rtol=1e-3)
    assert (seen.normalize is not None) == ("normalized" in chain) and (seen.wrapper is not None) == ("encoded" in chain)


class Inverted(VecEnvWrapper):
    """Frames of another color, in the same space."""

    def reset(self) -> Any:
        return 255 - np.asarray(self.venv.reset())

    def step_wait(self) -> Any:
        observations, *others = self.venv.step_wait()
        return 255 - np.asarray(observations), *others


class Kept(VecMonitor):
    """A wrapper of another package that says what it does."""

    keeps_observations = True


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inverted(base(CHANNEL_FIRST)), "what Inverted makes of observations is not known"),
        (lambda: VecMonitor(Inverted(encode(base(CHANNEL_FIRST)))), "Inverted"),
        (lambda: encode(Inverted(base(CHANNEL_FIRST))), "Inverted"),
        (lambda: VecFrameStack(base(CHANNEL_LAST), 2), "stacks observations of 4 frames again"),
        (lambda: VecFrameStack(encode(base(CHANNEL_FIRST)), 2), "VecFrameStack"),
        (lambda: VecFrameStack(VecNormalize(base(LAST)), 4), "VecNormalize must come after all .* VecFrameStack"),
        (lambda: VecNormalize(VecNormalize(encode(base(CHANNEL_FIRST)))), "VecNormalize must come after"),
        (lambda: base(DICT), "observations are Dict"),
    ],
)
def test_what_is_not_known_is_refused(make: Callable[[], VecEnv], message: str) -> None:
    with pytest.raises(InputError, match=message):
        of(make())


def test_a_wrapper_says_that_it_keeps_observations() -> None:
    assert of(Kept(base(CHANNEL_FIRST))).stack == 4


@pytest.mark.parametrize("between", [lambda env: env, VecMonitor, lambda env: VecFrameStack(env, 4)])
def test_normalizing_below_the_encoder_is_refused(between: Callable[[VecEnv], VecEnv]) -> None:
    space = CHANNEL_FIRST if between(base(LAST)).observation_space.shape == (84, 84, 1) else LAST
    with pytest.raises(InputError, match=r"put it above, VecNormalize\(VecEncodeObservation\(venv\)\)"):
        encode(between(VecNormalize(base(space), norm_obs=False)))


@pytest.mark.parametrize("algorithm", [DQN, QRDQN, PPO])
@pytest.mark.parametrize("features", ["pooled", "map"])
def test_views_are_not_flattened(algorithm: Any, features: Any) -> None:
    env = VecEncodeObservation(base(CHANNEL_FIRST), ENCODER, features=features, views=2, device="cpu")
    settings: dict[str, Any] = {"device": "cpu", **({} if algorithm is PPO else {"buffer_size": 100})}
    with pytest.raises(InputError, match=r"holds several views .* leave out VecEncodeObservation's views"):
        algorithm("MlpPolicy", env, **settings)
    assert algorithm("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(features_dim=8), **settings).policy is not None
    if algorithm is DQN:
        assert Rainbow("MlpPolicy", env, augment=True, **settings).policy is not None


def test_actions_that_do_not_count_from_0() -> None:
    frames = RandomFrames()
    frames.action_space = Discrete(3, start=1)
    with pytest.raises(InputError, match=r"actions must count from 0, got Discrete\(3, start=1\)"):
        encode(DummyVecEnv([lambda: frames]))


def test_a_card_has_no_statistics_of_normalized_features() -> None:
    env = VecNormalize(encode(base(CHANNEL_FIRST)))
    agent = DQN("MlpPolicy", env, policy_kwargs=neck_policy_kwargs(features_dim=8), buffer_size=100, device="cpu")
    with pytest.raises(InputError, match="the card's statistics are of raw features"):
        fit_standardization(agent, "card")
