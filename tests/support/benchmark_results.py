"""A small suite and results of its cells, made by hand."""

from typing import Any

from pretrainrl.benchmarking.results import Cell, CellResult
from pretrainrl.benchmarking.suite import Suite


def suite_table(**changes: Any) -> dict[str, Any]:
    bc = {"agent": "bc", "preset": "short", "length": 2, "dataset": "pretrainrl/atari/{game}-expert-v0"}
    fields: dict[str, Any] = {
        "name": "mine",
        "version": 1,
        "title": "Mine",
        "summary": "A suite.",
        "games": {"id": ["boxing", "ALE/Breakout-v5", "freeway"], "far_ood": ["klax"]},
        "tasks": {"bc": bc},
        "evaluation": {"episodes": 2, "max_episode_steps": 100},
        "seeds": 2,
        "backbone": "impala",
        "encoders": ["atc"],
    }
    return {**fields, **changes}


def make_suite(**changes: Any) -> Suite:
    return Suite.parse(suite_table(**changes), "mine.toml")


def make_cell(**changes: Any) -> Cell:
    fields: dict[str, Any] = {"suite": "mine", "version": 1, "task": "bc", "game": "boxing", "encoder": "atc"}
    return Cell(**{**fields, "sha256": "ab" * 32, "seed": 0, "settings": {"lr": 0.1}, "length": 10, **changes})


def make_result(of: Cell | None = None, **changes: Any) -> CellResult:
    names = ("suite", "version", "task", "game", "encoder", "sha256", "seed", "length", "settings")
    cell = of or make_cell(**{name: changes[name] for name in names if name in changes})
    fields: dict[str, Any] = {name: getattr(cell, name) for name in names}
    return CellResult(**{**fields, "status": "done", "scores": (1.0, 3.0), "seconds": 1.0, **changes})
