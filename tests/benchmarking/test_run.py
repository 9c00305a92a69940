"""A toy suite through the public functions and the command line, on real frames."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from benchmark_results import make_suite

import pretrainrl
from pretrainrl.benchmarking.plan import find_entrants, plan_benchmark
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.runs.folder import exclusive_folder

GAMES = ["boxing", "pong"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A suite file of seconds, with datasets that were played at random."""
    folder = tmp_path_factory.mktemp("benchmark")
    tasks = {
        "bc": {"agent": "bc", "preset": "short", "length": 1, "dataset": "pretrainrl/atari/{game}-random-v0"},
        "rainbow": {"agent": "rainbow", "preset": "short", "length": 96},
    }
    evaluation = {"episodes": 2, "max_episode_steps": 12}
    games = {"id": ["boxing"], "near_ood": ["pong"]}
    made = make_suite(tasks=tasks, evaluation=evaluation, games=games, seeds=1, backbone="nature", encoders=["random.nature"])
    made.write(folder / "mine.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "datasets"))
        patch.setenv("PRETRAINRL_HOME", str(folder / "home"))
        pretrainrl.collect(GAMES, steps=120, n_envs=2, progress=False)
        yield folder / "mine.toml"


@pytest.fixture(scope="module")
def first(suite: Path) -> Any:
    return pretrainrl.benchmark(suite, out=suite.parent / "results", jobs=2, progress=False)


def test_every_cell_has_whole_games_of_its_own(first: Any) -> None:
    assert first.planned == 2 * 2 * 2 == len(first.results), "random.nature and nature end to end, 2 tasks, 2 games"
    assert first.failed == ()
    assert {result.encoder for result in first.results} == {"random.nature", "end-to-end.nature"}
    assert all(len(result.scores) == len(result.lengths) == 2 and max(result.lengths) <= 12 for result in first.results)
    assert all(result.dtype == "float32" and result.hardware and result.versions for result in first.results)


def test_finished_cells_are_not_computed_again(first: Any, suite: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("cells/**/*.json")}
    again = pretrainrl.benchmark(suite, out=first.folder, jobs=1, progress=False)
    assert again.results == first.results
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("cells/**/*.json")} == before


def test_a_cell_is_the_same_wherever_it_is_computed(first: Any, suite: Path, tmp_path: Path) -> None:
    again = pretrainrl.benchmark(
        suite, encoders=["random.nature"], tasks="rainbow", games="pong", baselines=False, out=tmp_path, jobs=1, progress=False
    )
    (result,) = again.results
    (expected,) = [found for found in first.results if found.key == result.key]
    assert (result.scores, result.lengths, result.curve) == (expected.scores, expected.lengths, expected.curve)


def test_frames_of_episodes(first: Any) -> None:
    pytest.importorskip("pandas")
    frame = first.to_frame()
    assert len(frame) == 8 * 2 and set(frame.task) == {"bc", "rainbow"}


def test_a_failed_cell_is_recorded_and_the_others_go_on(suite: Path, tmp_path: Path) -> None:
    text = suite.read_text().replace('near_ood = [\n    "pong",\n]', 'near_ood = [\n    "pong",\n    "assault",\n]')
    (tmp_path / "wider.toml").write_text(text.replace("random-v0", "missing-v0").replace("mine", "wider"))
    arguments: dict[str, Any] = {"tasks": "bc,rainbow", "games": "assault", "baselines": False, "out": tmp_path / "out"}
    found = pretrainrl.benchmark(tmp_path / "wider.toml", jobs=2, progress=False, **arguments)
    assert [result.task for result in found.failed] == ["bc"] and "assault-missing-v0" in str(found.failed[0].error)
    assert {result.task: result.status for result in found.results} == {"bc": "failed", "rainbow": "done"}


@pytest.mark.slow
def test_an_interrupted_benchmark_goes_on(suite: Path, first: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pretrainrl", "benchmark", str(suite), "--jobs", "1", "--tasks", "bc"]
    command += ["--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out" / "cells").rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "go on with the same command" in errors
    assert 0 < len(list(tmp_path.rglob("cells/**/*.json"))) < 4
    result = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0 and "4 of 4 cells" in result.stdout.replace("\n", " ")


def test_encoders_are_compared_game_by_game(tmp_path: Path) -> None:
    make_suite(backbone="nature", seeds=1).write(tmp_path / "mine.toml")
    specs = plan_benchmark(tmp_path / "mine.toml", encoders="random.nature").specs
    assert [spec.game for spec in specs[:2]] == ["boxing", "boxing"]
    assert [spec.entrant.frozen for spec in specs[:2]] == [True, False]
    assert specs[0].cell.key != specs[1].cell.key, "the same weights, frozen or not, are two cells"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"encoders": "siamme"}, UnknownNameError, "siammae"),
        ({"games": "klax"}, UnknownNameError, "klax"),
        ({"tasks": "bcc"}, UnknownNameError, "bc"),
        ({"engine": "slurm"}, InputError, "local or ray"),
        ({"jobs": 0}, InputError, "jobs must be in 1..4096"),
    ],
)
def test_wrong_arguments_are_refused_before_work(
    suite: Path, tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pretrainrl.benchmark(suite, out=tmp_path / "out", progress=False, **{"baselines": False, **arguments})
    assert not (tmp_path / "out").exists()


def test_nobody_takes_part() -> None:
    with pytest.raises(InputError, match="at least one encoder"):
        find_entrants(make_suite(), [], baselines=False)


def test_one_process_computes_in_a_folder(suite: Path, tmp_path: Path) -> None:
    with exclusive_folder(tmp_path), pytest.raises(InputError, match=rf"{tmp_path} is in use by process {os.getpid()} on"):
        pretrainrl.benchmark(suite, baselines=False, out=tmp_path, jobs=1, progress=False)
    assert list(tmp_path.iterdir()) == []
