"""`python -m pretrainrl.integrations.rl_zoo.enjoy`: the zoo's `enjoy` with `--algo rainbow`."""

from __future__ import annotations

from typing import Any, TypeVar

from pretrainrl.integrations.rl_zoo.scripts import run
from pretrainrl.integrations.sb3 import Rainbow

SelfPlayer = TypeVar("SelfPlayer", bound="RainbowPlayer")


class RainbowPlayer(Rainbow):
    """Rainbow that plays and does not learn, with next to no replay buffer; the zoo does this for the algorithms it knows."""

    @classmethod
    def load(cls: type[SelfPlayer], path: Any, env: Any = None, **arguments: Any) -> SelfPlayer:  # type: ignore[override]
        """Load an agent with the smallest replay buffer there is."""
        return super().load(path, env, **{"n_steps": 1, "n_envs": 1, "buffer_size": 2, **arguments})


if __name__ == "__main__":
    run("enjoy", RainbowPlayer)
