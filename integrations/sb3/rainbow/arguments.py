"""Checks of Rainbow's arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.sb3.rainbow.augmentation import can_augment
from pretrainrl.integrations.sb3.replay.observation_store import check_discrete

if TYPE_CHECKING:
    from pretrainrl.integrations.sb3.rainbow.rainbow import Rainbow

_OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Dict)


def check_arguments(agent: Rainbow) -> None:
    """Check what would fail late, obscurely, or not at all.

    Raises:
        InputError: When spaces or arguments do not fit.
        UnknownNameError: When `distributional` is none of these; the policy checks `acting_net`.
    """
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
