"""Hyper-parameters on a frozen encoder, in the zoo's terms."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pretrainrl.errors import UnknownNameError
from pretrainrl.networks.necks import Neck, reads_map

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
_ALGORITHMS: dict[str, tuple[str, dict[str, Any]]] = {
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


def frozen(algo: str, encoder: str = "siammae", neck: Neck = "mlp") -> dict[str, Any]:
    """Return settings of an agent that learns Atari games from a frozen encoder's features.

    Each observation is encoded once, when it is made, and stored as its features: flat or, where that would be wide, pooled,
    as the encoder's card says. The neck standardizes them; then come a linear layer and a ReLU. `neck="spatial_mlp"` is
    Atari-PB's neck, on feature maps.

    Args:
        algo: Name of the algorithm: `rainbow`, `dqn`, `qrdqn` or `ppo`.
        encoder: Name of the encoder.
        neck: Name of the neck: `mlp`, or `spatial` or `spatial_mlp` on feature maps.

    Raises:
        UnknownNameError: For another `algo`.
    """
    if algo not in _ALGORITHMS:
        raise UnknownNameError.of("algorithm", algo, _ALGORITHMS)
    policy, settings = _ALGORITHMS[algo]
    features = {"features": "map"} if reads_map(neck) else {}
    # The zoo's own frame_stack comes after vec_env_wrapper, and would stack features.
    wrappers = [
        {"stable_baselines3.common.vec_env.VecFrameStack": {"n_stack": 4}},
        {"pretrainrl.integrations.sb3.VecEncodeObservation": {"encoder": encoder, **features}},
    ]
    return deepcopy(
        {
            **ATARI,
            "vec_env_wrapper": wrappers,
            "policy": f"pretrainrl.integrations.sb3.encoding.policies.{policy}",
            "policy_kwargs": {"encoder": None, "neck": neck},
            **settings,
        }
    )
