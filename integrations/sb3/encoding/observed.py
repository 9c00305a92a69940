"""What an agent observes of a game's frames, through all the wrappers of its environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, TypeGuard

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.encoding.vec_encode import VecEncodeObservation

Encode = Callable[[NDArray[np.uint8]], NDArray[Any]]

_OF_FRAMES = (VecTransposeImage, VecFrameStack, VecExtractDictObs)  # their spaces tell how they lay frames out
_KEEP_OBSERVATIONS = (VecMonitor, VecCheckNan, VecVideoRecorder)


@dataclass(frozen=True, eq=False)
class Observed:
    """What an agent observes of a game's frames.

    Attributes:
        stack: Number of frames in an observation.
        encode: Function that turns stacks (B, stack, 84, 84) uint8, oldest frame first, into what the environment gives below
            `normalize`, which is what replay buffers store.
        wrapper: Wrapper that encodes the frames; None if there is none.
        normalize: Wrapper that normalizes observations, above all others that change them; None if there is none.
    """

    stack: int
    encode: Encode
    wrapper: VecEncodeObservation | None = None
    normalize: VecNormalize | None = None


def observed(model: BaseAlgorithm, env: VecEnv | None = None) -> Observed:
    """Follow a game's frames through the wrappers of an agent's environment.

    A wrapper of another package may do anything to observations. It is taken for one that leaves them as they are only if its
    class says so, by an attribute `keeps_observations = True`.

    Args:
        model: Agent.
        env: Environment that the agent is to get; by default the one that it has.

    Raises:
        InputError: When observations are not made of frames, or nobody knows what a wrapper makes of them.
    """
    env = model.get_env() if env is None else env
    if env is None:
        return _of_frames(model.observation_space)
    chain = list(_wrappers(env))[::-1]
    of_frames = list(takewhile(lambda each: not isinstance(each, VecEncodeObservation) and not _normalizes(each), chain))
    others = chain[len(of_frames) :]
    _check_frames(of_frames)
    seen = _of_frames(others[0].venv.observation_space if others else env.observation_space)
    for wrapper in others:
        seen = _through(wrapper, seen)
    return seen


def _check_frames(chain: list[VecEnvWrapper]) -> None:
    """Check that wrappers, from the innermost on, do nothing to frames but stack single ones and lay them out."""
    for wrapper in chain:
        if type(wrapper) is VecFrameStack:
            single = _of_frames(wrapper.venv.observation_space)
            if single.stack != 1:
                raise InputError(f"VecFrameStack stacks observations of {single.stack} frames again; leave it out")
        elif type(wrapper) not in _OF_FRAMES and not _keeps_observations(wrapper):
            raise _unknown(wrapper)


def _of_frames(space: spaces.Space[Any]) -> Observed:
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3:
        if space.shape[1:] == FRAME_SHAPE:
            return Observed(space.shape[0], lambda stacks: stacks)
        if space.shape[:2] == FRAME_SHAPE:
            return Observed(space.shape[2], lambda stacks: np.moveaxis(stacks, 1, -1))
    raise InputError(
        f"the agent's observations are {space}; what datasets hold are stacks of frames, (stack, 84, 84) uint8, or what "
        "VecEncodeObservation makes of them"
    )


def _through(wrapper: VecEnvWrapper, seen: Observed) -> Observed:
    """Follow observations through a wrapper above the frames, of which one may encode them and then one normalize them."""
    if seen.normalize is not None and not _keeps_observations(wrapper):
        raise InputError(
            f"VecNormalize must come after all wrappers that change observations, but {type(wrapper).__name__} does"
        )
    if isinstance(wrapper, VecEncodeObservation) and seen.wrapper is None:
        return Observed(seen.stack, lambda stacks: wrapper.encode(seen.encode(stacks)), wrapper)
    if _normalizes(wrapper):
        return replace(seen, normalize=wrapper)
    if not _keeps_observations(wrapper):
        raise _unknown(wrapper)
    return seen


def _wrappers(env: VecEnv) -> Iterator[VecEnvWrapper]:
    while isinstance(env, VecEnvWrapper):
        yield env
        env = env.venv


def _normalizes(wrapper: VecEnvWrapper) -> TypeGuard[VecNormalize]:
    return type(wrapper) is VecNormalize and wrapper.norm_obs


def _keeps_observations(wrapper: VecEnvWrapper) -> bool:
    kind = type(wrapper)
    if kind is VecNormalize:
        return not _normalizes(wrapper)
    return kind in _KEEP_OBSERVATIONS or bool(getattr(kind, "keeps_observations", False))


def _unknown(wrapper: VecEnvWrapper) -> InputError:
    name = type(wrapper).__name__
    return InputError(
        f"what {name} makes of observations is not known here, so a dataset cannot be shown as the agent sees it: leave it "
        "out, or, if it leaves observations as they are, give its class the attribute keeps_observations = True"
    )
