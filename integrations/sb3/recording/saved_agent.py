"""Agents that Stable-Baselines3 has saved: how they are recognized, loaded, and compared with a game."""

from __future__ import annotations

import binascii
import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm
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
            data = json.loads(archive.read("data"))
            policy = str(data["policy_class"]["__module__"])
            weights = "policy.pth" in archive.namelist()
    except OSError as error:
        raise InputError(f"cannot read the agent {path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
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


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, 64 hex digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_agent(path: Path, device: str = "auto") -> BaseAlgorithm:
    """Load the agent saved at `path`, to play and not to learn.

    Stable-Baselines3 pickles parts of what it saves, and unpickling runs code: load only what you trust. What only learning
    needs is left out, and weights are read without pickle.

    Raises:
        InputError: The file is no saved agent, or the agent cannot be loaded.
    """
    algorithm = algorithm_of(path)
    left_out = {**_WITHOUT_LEARNING, "replay_buffer_kwargs": {}}  # a new one each time: loading changes it
    try:
        return algorithm.load(path, device=device, custom_objects=left_out, **_SMALL)
    except (
        pickle.UnpicklingError, binascii.Error, zipfile.BadZipFile, ImportError, AttributeError, EOFError, KeyError,
        OSError, RuntimeError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise InputError(f"the {algorithm.__name__} agent {path} cannot be loaded: {type(error).__name__}: {error}") from error


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
