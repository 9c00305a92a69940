"""Agents made from their cards."""

from __future__ import annotations

import inspect
import io
import re
import zipfile
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.agent_cards import AgentCard, AgentPreset, Schedule
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.replay.compact_replay import check_replay_buffer
from pretrainrl.networks.optimization import WarmupCosine
from pretrainrl.paths import atomic_path
from pretrainrl.registry import import_target


def make_agent(
    card: AgentCard,
    preset: AgentPreset,
    env: VecEnv,
    *,
    policy: str = "CnnPolicy",
    policy_kwargs: dict[str, Any] | None = None,
    seed: int,
    device: Any = "auto",
) -> BaseAlgorithm:
    """Make the agent of a card.

    Args:
        card: Card of the agent.
        preset: Settings of the agent, with every `Scaled` number replaced.
        env: Environments in which it learns.
        policy: Name of the policy among the algorithm's own.
        policy_kwargs: Arguments of the policy beside the preset's.
        seed: Seed of the agent.
        device: Device of the agent, as Stable-Baselines3 takes it.

    Raises:
        InputError: The algorithm cannot be imported, or does not take an argument; or the replay buffer has another discount
            than the algorithm, or does not fit into memory.
    """
    arguments = arguments_of(preset)
    if preset.replay_buffer is not None:
        arguments["replay_buffer_class"] = import_target(preset.replay_buffer, ReplayBuffer)
    if preset.replay_buffer_kwargs:
        arguments["replay_buffer_kwargs"] = dict(preset.replay_buffer_kwargs)
    kwargs = {**(policy_kwargs or {}), **preset.policy_kwargs}
    algorithm = algorithm_of(card)
    known = inspect.signature(algorithm).parameters
    unknown = sorted({*arguments} - {*known})
    if unknown:
        raise InputError(f"{card.algorithm}, the algorithm of agent {card.name!r}, takes no {', '.join(unknown)}")
    agent = algorithm(policy, env=env, policy_kwargs=kwargs, seed=seed, device=device, **arguments)
    check_replay_buffer(agent)
    return agent


def algorithm_of(card: AgentCard) -> type[BaseAlgorithm]:
    """Return the class of the card's algorithm.

    Raises:
        InputError: The class cannot be imported, or is no algorithm of Stable-Baselines3's kind.
    """
    try:
        found: type[BaseAlgorithm] = import_target(card.algorithm, BaseAlgorithm)
    except InputError as error:
        raise InputError(f"the algorithm of agent {card.name!r}: {error}") from error
    return found


def arguments_of(preset: AgentPreset) -> dict[str, Any]:
    """Return the settings as arguments of the algorithm's class, with functions in place of schedules."""
    return {name: _schedule(value) if isinstance(value, Schedule) else value for name, value in preset.settings.items()}


def _schedule(schedule: Schedule) -> LinearSchedule | WarmupCosine:
    if schedule.shape == "linear":
        return LinearSchedule(schedule.peak, schedule.end, 1.0)
    return WarmupCosine(schedule.peak)


def rollout_steps(card: AgentCard, preset: AgentPreset) -> int:
    """Return the number of steps of every game between which the agent is at rest and can be saved."""
    algorithm = algorithm_of(card)
    if not issubclass(algorithm, OnPolicyAlgorithm):
        return 1
    default = inspect.signature(algorithm).parameters["n_steps"].default
    return int(preset.settings.get("n_steps", default))


_TIMES = ("start_time", "ep_info_buffer")  # when the agent learned, and when its last episodes ended
_ADDRESS = re.compile(rb" at 0x[0-9a-f]+")  # in texts for people, of functions in memory


def save_agent(agent: BaseAlgorithm, path: Path) -> None:
    """Save an agent as Stable-Baselines3 does, whole or not at all; equal agents give equal bytes.

    Left out are times, folders of logs and addresses in memory, none of which the agent needs.

    Raises:
        InputError: The file cannot be written; what was there before is unchanged.
    """
    saved = io.BytesIO()
    agent.save(saved, exclude=[*_TIMES, "tensorboard_log"])
    with atomic_path(path) as temporary, zipfile.ZipFile(saved) as source, zipfile.ZipFile(temporary, "w") as target:
        for name in source.namelist():
            entry = zipfile.ZipInfo(name)  # with a date of its own, 1980
            entry.external_attr = 0o644 << 16
            content = source.read(name)
            target.writestr(entry, _ADDRESS.sub(b"", content) if name == "data" else content)
