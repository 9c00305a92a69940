"""Settings of Rainbow from pixels: those of `python -m pretrainrl.integrations.rl_zoo train` without `--conf-file`."""

from __future__ import annotations

from typing import Any

from pretrainrl.agent_cards import AGENTS
from pretrainrl.integrations.rl_zoo.frozen import ATARI, zoo_settings


def _settings(preset: str) -> dict[str, Any]:
    found = AGENTS.get("rainbow").preset(preset)
    kwargs = {"policy_kwargs": dict(found.policy_kwargs)} if found.policy_kwargs else {}
    return {"n_timesteps": found.length, **zoo_settings(found), **kwargs}


hyperparams: dict[str, dict[str, Any]] = {
    "default": {"policy": "MlpPolicy", "n_timesteps": 1_000_000},
    "atari": {**ATARI, "frame_stack": 4, "policy": "CnnPolicy", **_settings("paper")},
    "CartPole-v1": {"policy": "MlpPolicy", **_settings("cartpole")},
}
