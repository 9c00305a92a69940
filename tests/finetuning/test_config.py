"""What a run is told, and what is filled in."""

from typing import Any

import pytest

from pretrainrl.finetuning.config import FinetuneConfig


@pytest.mark.parametrize(
    ("encoder", "given", "neck", "features"),
    [
        ("random.impala", None, "mlp", "flat"),
        ("random.resnet50", None, "mlp", "pooled"),
        ("random.resnet50", "flat", "mlp", "flat"),
        ("random.impala", None, "spatial_mlp", "map"),
        ("random.impala", "pixels", "spatial", "pixels"),
    ],
)
def test_what_is_observed_by_default(encoder: str, given: Any, neck: Any, features: str) -> None:
    numbers: dict[str, Any] = {"steps": 5, "epochs": None, "n_envs": 1, "seed": 0, "eval_freq": 1, "eval_episodes": 1}
    numbers |= {
        "checkpoint_every": 1,
        "max_episode_steps": 9,
        "end_to_end": False,
        "eval_epsilon": None,
        "sticky_actions": 0.0,
    }
    config = FinetuneConfig.of("ppo", "pong", encoder, preset=None, dataset=None, features=given, neck=neck, **numbers)
    assert (config.features, config.neck) == (features, neck)
