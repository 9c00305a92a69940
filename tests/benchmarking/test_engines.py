"""Engines: the same results wherever cells are computed, and one that dies takes no other with it."""

import os
import subprocess
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from benchmark_results import make_suite

from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.engines import LocalEngine, open_engine
from pretrainrl.benchmarking.plan import find_entrants
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.errors import InputError, MissingExtraError
from pretrainrl.runs.interrupt import InterruptedRunError


def specs(folder: Path, games: tuple[str, ...] = ("boxing", "breakout")) -> list[CellSpec]:
    """Cells of some seconds: an agent that plays 64 steps."""
    tasks = {"rainbow": {"agent": "rainbow", "preset": "short", "length": 64}}
    evaluation = {"episodes": 1, "max_episode_steps": 8}
    suite = make_suite(tasks=tasks, evaluation=evaluation, encoders=["random.nature"], seeds=1)
    (entrant,) = find_entrants(suite, baselines=False)
    return [CellSpec.of(suite, "rainbow", game, 0, entrant, folder) for game in games]


def run(
    engine: Any, cells: list[CellSpec], stop: Event | None = None, started: Any = lambda spec: None
) -> dict[str, CellResult]:
    found: dict[str, CellResult] = {}
    engine.run(cells, stop=stop or Event(), started=started, finished=lambda spec, result: found.setdefault(spec.game, result))
    return found


def test_a_killed_process_is_one_failed_cell(tmp_path: Path) -> None:
    def kill(spec: CellSpec) -> None:
        if spec.game == "boxing":
            subprocess.run(["pkill", "-9", "-P", str(os.getpid()), "-f", "benchmarking.worker"], check=True)

    found = run(LocalEngine(1), specs(tmp_path), started=kill)
    assert found["boxing"].status == "failed" and found["boxing"].error == "killed by SIGKILL"
    assert found["breakout"].status == "done" and len(found["breakout"].scores) == 1


def test_a_stop_ends_the_processes(tmp_path: Path) -> None:
    stop = Event()
    with pytest.raises(InterruptedRunError, match="go on with the same command"):
        run(LocalEngine(2), specs(tmp_path), stop, started=lambda spec: stop.set())
    left = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "benchmarking.worker"], check=False, capture_output=True)
    assert left.stdout == b""


@pytest.mark.slow
def test_ray_gives_the_same_results(tmp_path: Path) -> None:
    """On a cluster of two cores that the test starts."""
    pytest.importorskip("ray")
    local = run(LocalEngine(1), specs(tmp_path / "local"))
    with open_engine("ray", jobs=1, address="local") as engine:
        remote = run(engine, specs(tmp_path / "ray"))
    for game, result in local.items():
        assert (remote[game].scores, remote[game].curve, remote[game].key) == (result.scores, result.curve, result.key)


def test_no_cluster_answers() -> None:
    pytest.importorskip("ray")
    with (
        pytest.raises(InputError, match="no Ray cluster answers at 'nowhere:1'"),
        open_engine("ray", jobs=1, address="nowhere:1"),
    ):
        pass


def test_ray_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pretrainrl\[ray\]"'), open_engine("ray", jobs=1):
        pass
