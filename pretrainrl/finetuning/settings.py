"""The arguments of a run's algorithm, and what is written down of them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pretrainrl.agent_cards import AgentPreset
from pretrainrl.cards import Scalar
from pretrainrl.finetuning.config import FinetuneConfig
from pretrainrl.integrations.sb3.agents import arguments_of
from pretrainrl.networks.standardize import MIN_OBSERVATIONS

_PACKAGES = ("pretrainrl", "torch", "numpy", "ale-py", "stable-baselines3", "sb3-contrib")
_LEAST_REPLAY = 32  # transitions of each game, longer than the n-step returns of any preset


def run_preset(config: FinetuneConfig) -> AgentPreset:
    """Return the settings of a run's algorithm, without `Scaled` numbers."""
    agent = config.agent
    preset = agent.preset(config.preset).scaled(config.length, config.n_envs)
    begun = agent.preset(config.preset).scaled(config.lengths[0], config.n_envs)  # a run that is extended waits no second time
    changes: dict[str, Scalar] = {"augment": config.features == "pixels"} if agent.augments else {}
    if config.cloning:
        return preset.with_settings(**changes, n_epochs=config.length)
    for name, value in preset.settings.items():
        if name == "learning_starts" and isinstance(value, int):  # before, there are no statistics to standardize features by
            changes[name] = max(int(begun.settings[name]), MIN_OBSERVATIONS)  # type: ignore[arg-type]  # an int, as `value` is
        if name == "buffer_size" and isinstance(value, int):  # more than the run's transitions would stay empty
            changes[name] = min(value, max(config.length, _LEAST_REPLAY * config.n_envs))
    return preset.with_settings(**changes)


def recorded_settings(preset: AgentPreset) -> dict[str, Scalar]:
    """Return a preset's arguments in one table, with words in place of objects."""
    arguments: dict[str, Any] = {**arguments_of(preset), **preset.replay_buffer_kwargs, **preset.policy_kwargs}
    return {name: value if isinstance(value, bool | int | float | str) else repr(value) for name, value in arguments.items()}


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide about a run's result."""
    return {package: version(package) for package in _PACKAGES}
