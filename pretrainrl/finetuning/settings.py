"""The arguments of each algorithm."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from stable_baselines3.common.utils import LinearSchedule

from pretrainrl.finetuning.config import Config
from pretrainrl.integrations.sb3 import BehaviorCloning, Rainbow
from pretrainrl.integrations.sb3.recording.learners import ROLLOUT, hyperparameters
from pretrainrl.networks.standardize import MIN_OBSERVATIONS

_PACKAGES = ("pretrainrl", "torch", "numpy", "ale-py", "stable-baselines3", "sb3-contrib")


def settings(config: Config) -> dict[str, Any]:
    """Return the arguments of the algorithm, but for environment, policy, seed and device."""
    augment = config.features == "pixels"
    if config.algorithm == "bc":
        return {**BehaviorCloning.atari_pb(), "n_epochs": config.length, "augment": augment}
    if config.algorithm == "rainbow":
        return {**_rainbow(config.length, config.n_envs), "augment": augment}
    arguments = hyperparameters(config.algorithm, config.length, config.n_envs)
    if "learning_starts" in arguments:
        arguments["learning_starts"] = max(arguments["learning_starts"], MIN_OBSERVATIONS)
    if config.algorithm == "ppo":  # both fall in Stable-Baselines3's zoo, where learning has an end
        falling = {name: LinearSchedule(arguments[name], 0.0, 1.0) for name in ("learning_rate", "clip_range")}
        arguments.update(falling)
    return arguments


def _rainbow(steps: int, n_envs: int) -> dict[str, Any]:
    """The study's arguments; shorter runs wait and explore for the same shares of their steps."""
    arguments = Rainbow.atari_pb(steps, n_envs)
    first = (arguments["n_steps"] + 1) * n_envs  # only then is there something to replay
    # And only then are there statistics to standardize features by.
    arguments["learning_starts"] = max(min(arguments["learning_starts"], steps // 25), first, MIN_OBSERVATIONS)
    arguments["exploration_fraction"] = min(arguments["exploration_fraction"], 0.2)
    arguments["buffer_size"] = max(min(arguments["buffer_size"], steps), 2 * first)
    return arguments


def rollout_steps(config: Config) -> int:
    """Steps of every game between which the agent is at rest."""
    return ROLLOUT if config.algorithm == "ppo" else 1


def to_toml_values(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return `arguments` with words in place of objects."""
    return {name: value if isinstance(value, bool | int | float | str) else repr(value) for name, value in arguments.items()}


def versions() -> dict[str, str]:
    """Versions of the packages that decide about a run's result."""
    return {package: version(package) for package in _PACKAGES}
