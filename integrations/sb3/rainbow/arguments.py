"""Rainbow's arguments: checks, and what follows from them for the policy and the replay buffer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import ConstantSchedule, LinearSchedule

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.sb3.rainbow.augmentation import can_augment
from pretrainrl.integrations.sb3.rainbow.policies import RainbowPolicy
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer
from pretrainrl.integrations.sb3.replay.observation_store import check_discrete
from pretrainrl.integrations.sb3.replay.prioritized_replay import PrioritizedReplayBuffer

if TYPE_CHECKING:
    from pretrainrl.integrations.sb3.rainbow.rainbow import Rainbow

_OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict)
_NETWORK = ("distributional", "n_atoms", "n_quantiles", "v_min", "v_max", "dueling", "noisy")


def check_arguments(agent: Rainbow) -> None:
    """Check what would fail late, obscurely, or not at all.

    Raises:
        InputError: When spaces or arguments do not fit.
        UnknownNameError: When `distributional` is none of these; the policy checks `acting_net`.
    """
    if agent.algorithm != "Rainbow":
        raise InputError(f"this is a saved {agent.algorithm}, not a Rainbow agent; load it with {agent.algorithm}.load")
    if not issubclass(agent.policy_class, RainbowPolicy):
        raise InputError(f"Rainbow needs MlpPolicy, CnnPolicy or MultiInputPolicy, got {agent.policy_class.__name__}")
    check_network(agent._network, network_arguments(agent))
    _check_spaces(agent.observation_space, agent.action_space)
    if agent.augment and not can_augment(agent.observation_space):
        raise InputError(
            "augment=True needs images, or what VecEncodeObservation gives with features='map' or with views; "
            f"got {agent.observation_space}"
        )
    if agent.distributional not in ("c51", "quantile", None):
        raise UnknownNameError.of("distributional", str(agent.distributional), ("c51", "quantile", "None"))
    if not 0 < agent.tau <= 1:
        raise InputError(f"tau must be in (0, 1], got {agent.tau}")
    if not 0 <= agent.exploration_fraction <= 1:
        raise InputError(f"exploration_fraction must be in [0, 1], got {agent.exploration_fraction}")
    given = agent.replay_buffer_class
    if agent.prioritized and given is not None and not hasattr(given, "update_priorities"):
        raise InputError(f"{given.__name__} has no update_priorities: set prioritized=False, or give a prioritized buffer")


def _check_spaces(observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
    if not isinstance(actions, spaces.Discrete):
        raise InputError(f"Rainbow needs Discrete actions, got {actions}")
    if actions.start != 0:
        raise InputError(f"Rainbow needs actions that count from 0, got {actions}")
    if not isinstance(observations, _OBSERVATIONS):
        raise InputError(f"Rainbow cannot read {observations}; expected {', '.join(kind.__name__ for kind in _OBSERVATIONS)}")
    check_discrete(observations, "observations")


def network_arguments(agent: Rainbow) -> dict[str, Any]:
    """Return the arguments that decide what the networks are."""
    return {name: getattr(agent, name) for name in _NETWORK}


def check_network(learned: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Check that the arguments of the networks are those with which their weights were learned.

    Raises:
        InputError: When one is not.
    """
    for name in _NETWORK:
        if name in asked and asked[name] != learned[name]:
            raise InputError(
                f"{name}={asked[name]!r} is asked for, but the agent was saved with {name}={learned[name]!r}, and its weights "
                "are of that network; leave it out, or make a new agent"
            )


def complete_arguments(agent: Rainbow) -> dict[str, Any]:
    """Return the arguments from which Stable-Baselines3 makes the policy and the replay buffer.

    Raises:
        InputError: When `policy_kwargs` or `replay_buffer_kwargs` say otherwise than the agent's own arguments.
    """
    default = PrioritizedReplayBuffer if agent.prioritized else CompactReplayBuffer
    buffer = agent.replay_buffer_class or default
    of_replay: dict[str, Any] = {"n_steps": agent.n_steps, "gamma": agent.gamma}
    if agent.prioritized:
        of_replay["alpha"] = agent.per_alpha
    of_policy = {**network_arguments(agent), "acting_net": agent.acting_net}
    _check_conflicts("policy_kwargs", agent.policy_kwargs, of_policy)
    _check_conflicts("replay_buffer_kwargs", agent.replay_buffer_kwargs, of_replay)
    told = agent.prioritized or issubclass(buffer, CompactReplayBuffer)
    return {
        "policy_kwargs": {**agent.policy_kwargs, **of_policy},
        "replay_buffer_class": buffer,
        "replay_buffer_kwargs": {**agent.replay_buffer_kwargs, **(of_replay if told else {})},
        # Else Stable-Baselines3 warns that a buffer of a given class does not know of it.
        "n_steps": 1 if told else agent.n_steps,
    }


def make_exploration_schedule(agent: Rainbow) -> Schedule:
    """Return the share of random actions as a function of what remains of training."""
    if agent.noisy:
        return ConstantSchedule(0.0)  # noise explores instead
    if agent.exploration_fraction == 0:
        return ConstantSchedule(agent.exploration_final_eps)
    return LinearSchedule(agent.exploration_initial_eps, agent.exploration_final_eps, agent.exploration_fraction)


def _check_conflicts(where: str, given: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    for name, value in own.items():
        if name in given and given[name] != value:
            argument = "per_alpha" if name == "alpha" else name
            raise InputError(
                f"{where} has {name}={given[name]!r}, but Rainbow's own argument {argument} is {value!r}; give it to Rainbow, "
                f"and not in {where}"
            )
