"""Settings of agents on a frozen encoder's features: a module for RL Zoo's `--conf-file`, and what files of yours build on."""

from __future__ import annotations

import sys
from typing import Any

from pretrainrl.agent_cards import AgentCard, AgentPreset, Schedule, find_agent_card
from pretrainrl.errors import InputError
from pretrainrl.integrations.rl_zoo.command_line import option
from pretrainrl.networks.necks import Neck, reads_map

ATARI: dict[str, Any] = {"env_wrapper": ["stable_baselines3.common.atari_wrappers.AtariWrapper"], "n_timesteps": 10_000_000}


def frozen(algo: str, encoder: str = "siammae", neck: Neck = "mlp") -> dict[str, Any]:
    """Return settings of an agent that learns Atari games from a frozen encoder's features.

    Each observation is encoded once, when it is made, and stored as its features: flat or, where that would be wide, pooled,
    as the encoder's card says. The neck standardizes them; then come a linear layer and a ReLU. `neck="spatial_mlp"` is
    Atari-PB's neck, on feature maps.

    Args:
        algo: Name of an agent whose card has a preset for RL Zoo: `rainbow`, `dqn`, `qrdqn`, `ppo`.
        encoder: Name of the encoder.
        neck: Name of the neck: `mlp`, or `spatial` or `spatial_mlp` on feature maps.

    Raises:
        UnknownNameError: There is no such agent.
        InputError: The agent's card names no policy that takes an encoder.
    """
    card = find_agent_card(algo, "rl_zoo", "algorithm")
    preset = card.preset(card.uses["rl_zoo"])
    features = {"features": "map"} if reads_map(neck) else {}
    # The zoo's own frame_stack comes after vec_env_wrapper, and would stack features.
    wrappers = [
        {"stable_baselines3.common.vec_env.VecFrameStack": {"n_stack": 4}},
        {"pretrainrl.integrations.sb3.VecEncodeObservation": {"encoder": encoder, **features}},
    ]
    return {
        **ATARI,
        "vec_env_wrapper": wrappers,
        "policy": _policy(card),
        "policy_kwargs": {"encoder": None, "neck": neck, **preset.policy_kwargs},
        **zoo_settings(preset),
    }


def zoo_settings(preset: AgentPreset) -> dict[str, Any]:
    """Return a preset's settings as RL Zoo's files have them.

    Raises:
        InputError: A setting changes over a run otherwise than linearly to 0, which these files cannot say.
    """
    n_envs = preset.n_envs or 1
    scaled = preset.scaled(ATARI["n_timesteps"], n_envs).settings
    settings = {name: _linear(value) if isinstance(value, Schedule) else value for name, value in scaled.items()}
    return {"n_envs": n_envs, **settings} if preset.n_envs else settings


def _linear(schedule: Schedule) -> str:
    """Write `lin_0.1` for what falls from 0.1 to 0."""
    if schedule.shape != "linear" or schedule.end != 0:
        raise InputError(f"RL Zoo's files can say of a setting that it falls linearly to 0, not {schedule!r}")
    return f"lin_{schedule.peak}"


def _policy(card: AgentCard) -> str:
    if card.policy is None:
        raise InputError(f"the card of agent {card.name!r} names no policy that takes an encoder")
    return card.policy.replace(":", ".")


def __getattr__(name: str) -> Any:
    """Return `hyperparams` for the agent that `--algo` names on the zoo's command line (PEP 562)."""
    if name != "hyperparams":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    algo = option(sys.argv[1:], "--algo")
    if algo is None:
        raise InputError("these settings are for an agent that --algo names on the command line; in Python, call frozen()")
    return {"atari": frozen(algo)}
