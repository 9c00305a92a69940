"""Agents that Stable-Baselines3 has saved: how they are recognized, loaded, and compared with a game."""

from __future__ import annotations

import binascii
import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sb3_contrib
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete, Space
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.behavior_cloning import BehaviorCloning
from pretrainrl.integrations.sb3.rainbow import Rainbow

# What only learning needs, and what cannot be unpickled on another version of Python.
_WITHOUT_LEARNING: dict[str, Any] = {
    "learning_rate": 0.0,
    "lr_schedule": None,
    "clip_range": 0.1,
    "clip_range_vf": None,
    "exploration_schedule": None,
    "replay_buffer_class": None,
    "_last_obs": None,
    "_last_original_obs": None,
    "_last_episode_starts": None,
    "ep_info_buffer": None,
    "ep_success_buffer": None,
}

_SMALL: dict[str, Any] = {"buffer_size": 1, "optimize_memory_usage": False}  # of the replay buffer that loading allocates

MAX_DATA = 1 << 28  # bytes of what is not weights: the last observations are in it
_ERRORS = (
    pickle.UnpicklingError, binascii.Error, zipfile.BadZipFile, ImportError, ArithmeticError, AssertionError, AttributeError,
    EOFError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip

# This package's agents name their algorithm; no other name in a file is ever looked up.
_OURS: dict[str, type[BaseAlgorithm]] = {"Rainbow": Rainbow, "BehaviorCloning": BehaviorCloning}

# Others do not; the first whose mark is found in one is it.
_OTHERS: tuple[tuple[type[BaseAlgorithm], Callable[[dict[str, Any], str], bool]], ...] = (
    (sb3_contrib.RecurrentPPO, lambda data, policy: ".recurrent." in policy),
    (sb3_contrib.MaskablePPO, lambda data, policy: ".maskable." in policy),
    (sb3_contrib.QRDQN, lambda data, policy: {"exploration_rate", "n_quantiles"} <= data.keys()),
    (stable_baselines3.DQN, lambda data, policy: "exploration_rate" in data),
    (stable_baselines3.PPO, lambda data, policy: "clip_range" in data),
    (sb3_contrib.TRPO, lambda data, policy: "cg_max_steps" in data),
    (stable_baselines3.A2C, lambda data, policy: "gae_lambda" in data),
)


def algorithm_of(path: Path) -> type[BaseAlgorithm]:
    """Return the class of the agent saved at `path`, without unpickling anything.

    Raises:
        InputError: There is no such file, or it is no agent of discrete actions saved by Stable-Baselines3.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = _data(archive)
            policy = str(data["policy_class"]["__module__"])
            weights = "policy.pth" in archive.namelist()
    except OSError as error:
        raise InputError(f"cannot read the agent {path}: {error.strerror or error}") from error
    except _ERRORS as error:
        raise InputError(f"{path} is not an agent saved by Stable-Baselines3 ({error})") from error
    recorded = data.get("algorithm")
    if weights and recorded is None:
        for algorithm, has_mark in _OTHERS:
            if has_mark(data, policy):
                return algorithm
    if weights and isinstance(recorded, str) and recorded in _OURS:
        return _OURS[recorded]
    names = ", ".join(sorted(algorithm.__name__ for algorithm in (*_OURS.values(), *(each for each, _ in _OTHERS))))
    raise InputError(f"{path} is an agent of an algorithm that cannot be played here; those that can are {names}")


def _data(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Read what an agent's file says beside its weights: JSON, with pickles in it that stay what they are, text."""
    if archive.getinfo("data").file_size > MAX_DATA:
        raise ValueError(f"its data have more than {MAX_DATA:,} bytes")
    try:
        data = json.loads(archive.read("data"))
    except RecursionError as error:
        raise ValueError("its data are nested too deeply") from error
    if not isinstance(data, dict):
        raise ValueError("its data are no table")
    return data


def load_agent(path: Path, device: str = "auto", *, trust_pickle: bool = False) -> BaseAlgorithm:
    """Load the agent saved at `path`, to play and not to learn.

    Stable-Baselines3 pickles parts of what it saves, and unpickling runs code. An agent is therefore built from what its file
    says as text, which is enough for the policies of Stable-Baselines3 and of this package. Weights are read without pickle.

    Args:
        path: File of the agent.
        device: Device of the agent, as Stable-Baselines3 takes it.
        trust_pickle: Whether the file's pickles are loaded, which runs whatever its author wrote.

    Raises:
        InputError: The file is no saved agent, the agent cannot be loaded, or only its pickles say what it is.
    """
    algorithm = algorithm_of(path)
    left_out = {**_WITHOUT_LEARNING, "replay_buffer_kwargs": {}}  # a new one each time: loading changes it
    try:
        if not trust_pickle:
            return _load_text(path, algorithm, device, left_out)
        return algorithm.load(path, device=device, custom_objects=left_out, **_SMALL)
    except InputError:
        raise
    except _ERRORS as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"the {algorithm.__name__} agent {path} cannot be loaded: {reason}") from error


def _load_text(path: Path, algorithm: type[BaseAlgorithm], device: str, left_out: dict[str, Any]) -> BaseAlgorithm:
    """Build an agent from the text in its file, and unpickle nothing."""
    with zipfile.ZipFile(path) as archive:
        data = _data(archive)
        with archive.open("policy.pth") as file:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    try:
        policy = _policy_class(data["policy_class"], algorithm)
        told = {
            "policy_kwargs": _policy_arguments(data["policy_kwargs"]),
            "observation_space": _space(data["observation_space"]),
            "action_space": _space(data["action_space"]),
        }
    except LookupError as error:
        raise InputError(
            f"{path} has its {error.args[0]} only as pickled Python, which runs code when it is loaded; if you trust its "
            "author, load it with --trust-pickle (trust_pickle=True)"
        ) from error
    agent: Any = algorithm(policy, None, device=device, _init_setup_model=False)  # type: ignore[call-arg]
    text = {key: value for key, value in data.items() if key in vars(agent) and not _is_pickled(value)}
    vars(agent).update({**text, **left_out, **_SMALL, "n_envs": 1, "n_steps": 1, "tensorboard_log": None, **told})
    agent._setup_model()
    agent.policy.load_state_dict(tensors)
    agent.policy.set_training_mode(False)
    return agent  # type: ignore[no-any-return]


def _is_pickled(value: Any) -> bool:
    return isinstance(value, dict) and ":serialized:" in value


def _policy_class(told: dict[str, Any], algorithm: type[BaseAlgorithm]) -> type[BasePolicy]:
    """Return the policy of the algorithm whose module, and constructor or description, are those that are told."""
    from pretrainrl.integrations.sb3.encoding.policies import ENCODER_POLICIES

    constructor = str(told.get("__init__")).partition(" at ")[0].rstrip(">")  # with an address, or without one
    for policy in (*algorithm.policy_aliases.values(), *ENCODER_POLICIES.values()):
        if "__init__" in vars(policy):
            same = constructor == f"<function {policy.__qualname__}.__init__"
        else:
            same = "__init__" not in told and told.get("__doc__") == policy.__doc__
        if same and told["__module__"] == policy.__module__:
            return policy
    raise LookupError("policy_class")


def _policy_arguments(told: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a policy, but for those of its optimizer; classes are known ones, told by their names."""
    from pretrainrl.integrations.hub.json_codec import CLASSES
    from pretrainrl.integrations.sb3.recording.ram_agent import RamExtractor

    known = {str(cls): cls for cls in (*CLASSES.values(), RamExtractor)}
    arguments = {}
    for key, value in told.items():
        if key in (":type:", ":serialized:", "optimizer_class", "optimizer_kwargs"):
            continue
        arguments[key] = known.get(value, value) if isinstance(value, str) else value
        if isinstance(arguments[key], str) and value[:1] in ("<", "{", "(", "["):  # Python in the form that people read
            raise LookupError(f"policy_kwargs[{key!r}]")
    return arguments


def _space(told: dict[str, Any]) -> Space[Any]:
    """Return a space that is told: a box of which all bounds are, or numbered actions."""
    if told[":type:"] == str(Discrete):
        return Discrete(int(told["n"]), start=int(told.get("start", 0)))
    if told[":type:"] != str(Box):
        raise LookupError("space")
    shape = tuple(map(int, told["_shape"]))
    low, high = (_bounds(str(told.get(end)), shape) for end in ("low", "high"))
    return Box(low, high, shape, np.dtype(told["dtype"]).type)


def _bounds(told: str, shape: tuple[int, ...]) -> Any:
    """Return bounds that are told as NumPy prints an array, which leaves out some numbers of a large one."""
    numbers = [float(number) for number in re.findall(r"-?inf|-?\d[\d.]*(?:e[+-]?\d+)?", told)]
    if len(set(numbers)) == 1:
        return numbers[0]
    if len(numbers) != math.prod(shape):
        raise LookupError("space")
    return np.reshape(numbers, shape)


def check_agent(agent: BaseAlgorithm, path: Path, env: VecEnv, game: str) -> None:
    """Check that an agent can play a game.

    Raises:
        InputError: The agent expects other observations or actions; the message names both.
    """
    for what, expected, given in (
        ("observes", agent.observation_space, env.observation_space),
        ("acts in", agent.action_space, env.action_space),
    ):
        if expected != given:
            raise InputError(f"the agent {path} {what} {expected}, but {game} has {given}")
