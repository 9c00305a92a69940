"""Settings of Rainbow for `--conf-file`; `pretrainrl.integrations.rl_zoo.train` takes them by default."""

from __future__ import annotations

from typing import Any

from pretrainrl.integrations.rl_zoo.settings import ATARI

# On Atari those of the paper, with a tenth of its replay memory, which takes 7 GB.
hyperparams: dict[str, dict[str, Any]] = {
    "default": {"policy": "MlpPolicy", "n_timesteps": 1_000_000},
    "atari": {
        **ATARI,
        "frame_stack": 4,
        "policy": "CnnPolicy",
        "buffer_size": 100_000,
        "learning_starts": 20_000,
        "policy_kwargs": {"net_arch": [512]},
    },
    "CartPole-v1": {
        "policy": "MlpPolicy",
        "n_timesteps": 50_000,
        "learning_rate": 3e-3,
        "buffer_size": 10_000,
        "batch_size": 64,
        "train_freq": 4,
        "gradient_steps": 2,
        "target_update_interval": 100,
        "noisy": False,
        "exploration_fraction": 0.1,
        "v_min": 0,
        "v_max": 100,
    },
}
