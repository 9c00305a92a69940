"""Checks of Rainbow's arguments, and the values of Atari-PB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium import spaces

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.sb3.rainbow.augmentation import can_augment

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


def atari_pb(total_timesteps: int, n_envs: int) -> dict[str, Any]:
    """See `Rainbow.atari_pb`."""
    return {
        "learning_rate": 1e-4,
        "buffer_size": 100_000,
        "learning_starts": 2_000,
        "batch_size": 32,
        "tau": 0.01,
        "target_update_interval": 1,
        "gamma": 0.99,
        "train_freq": 1,
        "gradient_steps": 2 * n_envs,
        "n_steps": 10,
        "exploration_fraction": 10_000 / total_timesteps,
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.01,
        "max_grad_norm": 10.0,
        "double_q": True,
        "dueling": False,
        "noisy": False,
        "distributional": "c51",
        "n_atoms": 51,
        "v_min": -10.0,
        "v_max": 10.0,
        "prioritized": True,
        "per_alpha": 0.5,
        "per_beta": 0.4,
        "acting_net": "target",
        "augment": True,
    }
