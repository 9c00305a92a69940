"""Hyper-parameters on a frozen encoder, in the zoo's terms."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pretrainrl.errors import UnknownNameError

ATARI: dict[str, Any] = {"env_wrapper": ["stable_baselines3.common.atari_wrappers.AtariWrapper"], "n_timesteps": 10_000_000}

_Q_LEARNING: dict[str, Any] = {
    "learning_rate": 1e-4,
    "buffer_size": 50_000,
    "learning_starts": 10_000,
    "batch_size": 32,
    "train_freq": 4,
    "target_update_interval": 1_000,
    "exploration_fraction": 0.1,
    "exploration_final_eps": 0.01,
}
_ON_MAPS: dict[str, tuple[str, dict[str, Any]]] = {
    "rainbow": ("RainbowEncoderPolicy", {"learning_rate": 1e-4, "buffer_size": 100_000, "learning_starts": 10_000}),
    "dqn": ("DQNEncoderPolicy", _Q_LEARNING),
    "qrdqn": ("QRDQNEncoderPolicy", _Q_LEARNING),
    "ppo": (
        "ActorCriticEncoderPolicy",
        {
            "n_envs": 8,
            "n_steps": 128,
            "n_epochs": 4,
            "batch_size": 256,
            "learning_rate": "lin_2.5e-4",
            "clip_range": "lin_0.1",
            "vf_coef": 0.5,
            "ent_coef": 0.01,
        },
    ),
}


def frozen(algo: str, encoder: str = "siammae") -> dict[str, Any]:
    """Return settings of an agent that learns Atari games from a frozen encoder's feature maps, with the study's neck.

    Each observation is encoded once, when it is made, and stored as its map.

    Args:
        algo: `rainbow`, `dqn`, `qrdqn` or `ppo`.
        encoder: its name.

    Raises:
        UnknownNameError: for another `algo`.
    """
    if algo not in _ON_MAPS:
        raise UnknownNameError.of("algorithm", algo, _ON_MAPS)
    policy, settings = _ON_MAPS[algo]
    # The zoo's own frame_stack comes after vec_env_wrapper, and would stack features.
    wrappers = [
        {"stable_baselines3.common.vec_env.VecFrameStack": {"n_stack": 4}},
        {"pretrainrl.integrations.sb3.VecEncodeObservation": {"encoder": encoder, "features": "map"}},
    ]
    return deepcopy(
        {
            **ATARI,
            "vec_env_wrapper": wrappers,
            "policy": f"pretrainrl.integrations.rl_zoo.policies.{policy}",
            "policy_kwargs": {"encoder": None},
            **settings,
        }
    )
