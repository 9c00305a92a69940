"""The report: its three files, what it advises, and what it refuses."""

import csv
import re
import shutil
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_grid import write_grid
from benchmark_results import make_cell, make_result, make_suite
from typer.testing import CliRunner

import pretrainrl
from pretrainrl.benchmarking.analysis import analyze, read_suite, tell_apart
from pretrainrl.benchmarking.kinds import advise, atari_pb, encoder_kind, in_atari_pb, short_names, summarize_kinds
from pretrainrl.benchmarking.results import ResultStore
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.benchmarking.table import compare, rank
from pretrainrl.cli import app
from pretrainrl.errors import InputError
from pretrainrl.games import all_scores
from pretrainrl.runs.checkpoints import checked_json

GAMES = {"id": ["boxing", "breakout", "asteroids"], "near_ood": ["pong"], "far_ood": ["klax", "surround"]}
ENCODERS = [f"{name}.impala_atari8" for name in ("curl", "atc", "siammae", "bc", "cql_m")]


def wide_suite_tasks() -> dict[str, Any]:
    return {
        "bc": {"agent": "bc", "preset": "short", "length": 2, "dataset": "pretrainrl/atari/{game}-expert-v0"},
        "rainbow": {"agent": "rainbow", "preset": "short", "length": 96},
    }


def wide_suite(**changes: Any) -> Suite:
    evaluation = {"episodes": 4, "max_episode_steps": 9}
    fields = {"tasks": wide_suite_tasks(), "games": GAMES, "seeds": 3, "evaluation": evaluation}
    return make_suite(**{**fields, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all cells, beside them the suite's file."""
    made = tmp_path_factory.mktemp("report")
    wide_suite().write(made / "mine.toml")
    write_grid(made, wide_suite(), ENCODERS)
    return made


def test_files(folder: Path) -> None:
    found = pretrainrl.report(folder, suite=folder / "mine.toml")
    assert {path.name for path in (folder / "report").iterdir()} == {"index.html", "cells.csv", "figure.png"}
    page = found.page.read_text(encoding="utf-8")
    for words in ("Mine: which encoder", "random.impala", "Asteroids †", "with 1 flagged", "Beside Atari-PB"):
        assert words in page, words
    with found.table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (5 + 3) * 6 * 2 * 3 and {row["status"] for row in rows} == {"done"}
    assert [row["normalized"] for row in rows if row["game"] == "asteroids"] == [""] * 48, "it has no meaning"
    assert found.figure.read_bytes()[:4] == b"\x89PNG"
    assert set(found.advice) == {(task, split) for task in ("bc", "rainbow") for split in GAMES}
    assert found.advice["bc", "id"].startswith("Take an encoder trained on trajectories: ahead of all other kinds")


def test_a_report_is_the_same_twice(folder: Path, tmp_path: Path) -> None:
    first, second = (pretrainrl.report(folder, suite=folder / "mine.toml", out=tmp_path / name) for name in "ab")
    for name in ("page", "table", "figure"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()


def test_one_seed_decides_nothing(tmp_path: Path) -> None:
    wide_suite().write(tmp_path / "mine.toml")
    write_grid(tmp_path, wide_suite(), ENCODERS, seeds=1)
    found = pretrainrl.report(tmp_path, suite=tmp_path / "mine.toml")
    assert all("one seed says nothing of chance" in text for text in found.advice.values())
    assert "no interval from one seed" in found.page.read_text() and "nan" not in found.page.read_text()


def test_failed_and_unfinished_cells_are_named(tmp_path: Path) -> None:
    wide_suite().write(tmp_path / "mine.toml")
    write_grid(tmp_path, wide_suite(), ENCODERS)
    write_grid(tmp_path, wide_suite(games={"id": ["boxing"]}), ["mine"], seeds=1)
    lost = make_cell(encoder="lost", sha256="f" * 64)
    ResultStore(tmp_path, "mine", 1).write(make_result(lost, status="failed", scores=(), error="<killed>"), lost)
    page = pretrainrl.report(tmp_path, suite=tmp_path / "mine.toml").page.read_text()
    assert "(without mine, which have too few results)" in page
    assert "1 failed" in page and "&lt;killed&gt;" in page, "what comes from files is escaped"


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "holds no results"),
        ([{"suite": "other"}], "the suite other, which is not registered; give its file with --suite"),
        ([{}, {"suite": "other"}], "of mine version 1 and of other version 1"),
        (
            [{"status": "failed", "scores": (), "error": "no data"}],
            "no cell is finished, and 1 failed, .*: no data",
        ),
        ([{"task": "dance"}], "has no cell dance boxing"),
        ([{"game": "pong"}], "has no cell bc pong"),
    ],
)
def test_what_is_refused(tmp_path: Path, results: list[dict[str, Any]], message: str) -> None:
    cells = tmp_path / "results" / "cells"
    cells.mkdir(parents=True)
    for number, changes in enumerate(results):
        one = make_result(**{"seed": number, **changes})
        (cells / f"{number}-{one.key}.json").write_text(checked_json(one.model_dump(mode="json", exclude_none=True)))
    make_suite().write(tmp_path / "mine.toml")
    suite = None if "--suite" in message else tmp_path / "mine.toml"
    with pytest.raises(InputError, match=message):
        pretrainrl.report(tmp_path / "results", suite=suite)
    assert not (tmp_path / "results" / "report").exists()


def test_another_version_and_no_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    wide_suite(version=2).write(tmp_path / "newer.toml")
    with pytest.raises(InputError, match="results are of mine version 1, and the suite is mine version 2"):
        pretrainrl.report(folder, suite=tmp_path / "newer.toml")
    with pytest.raises(InputError, match="there is no such folder"):
        pretrainrl.report(tmp_path / "nothing")


def test_the_suite_beside_the_results_is_found(folder: Path) -> None:
    shutil.copy(folder / "mine.toml", folder / "suite.toml")
    assert read_suite([folder])[0] == wide_suite()
    (folder / "suite.toml").unlink()


def test_command(folder: Path, tmp_path: Path) -> None:
    arguments = ["report", str(folder), "--suite", str(folder / "mine.toml"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "Take an encoder trained on trajectories" in result.output
    assert "index.html" in result.output.replace("\n", "")


def test_weights_of_one_name_are_told_apart() -> None:
    results = [make_result(seed=seed, sha256="ab" * 32) for seed in range(2)] + [make_result(sha256="cd" * 32)]
    assert [one.encoder for one in tell_apart(results)] == ["atc", "atc", "atc@cdcdcdcd"]
    assert encoder_kind("atc@cdcdcdcd") == "video"


def test_names_of_one_encoder_become_one() -> None:
    results = [make_result(seed=seed, encoder="mine" if seed else "atc") for seed in range(3)]
    assert {one.encoder for one in tell_apart([*results, make_result(encoder="end-to-end.impala", game="freeway")])} == {
        "mine",
        "end-to-end.impala",
    }, "learning end to end begins with weights that an untrained encoder has, too"


def test_two_settings_of_one_cell_are_refused() -> None:
    results = [make_result(make_cell(settings={"lr": lr})) for lr in (0.1, 0.2)]
    with pytest.raises(InputError, match=r"two results of bc boxing atc seed 0 differ in lr \(0\.1 and 0\.2\); keep"):
        tell_apart(results)


def test_only_the_most_common_budget_counts() -> None:
    results = [make_result(seed=seed, length=20 if seed else 10) for seed in range(3)]
    analysis = analyze(make_suite(), results)
    assert analysis.sections["bc", "id"].comparison.seeds == (1, 2)
    assert list(analysis.notes) == ["1 results of bc are left out: their budget is not 20."]


def test_kinds(folder: Path) -> None:
    suite, results = read_suite([folder], folder / "mine.toml")
    comparison = compare(results, suite, "bc", "far_ood")
    rows = {row.kind: row for row in summarize_kinds(comparison)}
    assert list(rows) == ["image", "video", "demonstration", "trajectory", "untrained", "end to end"]
    iqm = {row.encoder: row.metrics["iqm"].value for row in rank(comparison)}
    assert rows["video"].iqm.value == pytest.approx((iqm[ENCODERS[1]] + iqm[ENCODERS[2]]) / 2)
    alone = compare([one for one in results if one.encoder == ENCODERS[0]], suite, "bc", "id")
    assert advise(alone, "impala") is None


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ({"random.impala": 0.9, "atc": 0.2, "bc": 0.3}, "No kind of pre-training pays here"),
        ({"random.impala": 0.1, "atc": 0.5, "bc": 0.48}, "These results do not decide"),
        ({"atc": 0.5, "bc": 0.2}, "Take an encoder trained on videos.*No untrained encoder was compared"),
        ({"random.impala": 0.48, "atc": 0.5, "bc": 0.2}, "These results do not decide"),
    ],
)
def test_advice(levels: dict[str, float], words: str) -> None:
    rng = np.random.default_rng(0)
    results = []
    for name, level in levels.items():
        for game, seed in product(("boxing", "breakout", "freeway"), range(3)):
            facts = all_scores()[game]
            raw = facts.random + (level + 0.05 * rng.normal()) * (facts.reference - facts.random)
            results.append(make_result(encoder=name, game=game, seed=seed, scores=(raw,)))
    found = advise(compare(results, make_suite(), "bc", "id"), "impala")
    assert found is not None and re.search(words, found.text), found


def test_probes_are_measurements_and_play_without_learning_has_no_curve(tmp_path: Path) -> None:
    data = "pretrainrl/atari/{game}-expert-v0"
    tasks = {
        **wide_suite_tasks(),
        "probe": {"kind": "probe", "length": 9, "dataset": data},
        "zero_shot": {"kind": "zero_shot"},
    }
    suite = wide_suite(tasks=tasks, seeds=2)
    suite.write(tmp_path / "mine.toml")
    write_grid(tmp_path, suite, ENCODERS, seeds=2)
    analysis = analyze(*read_suite([tmp_path], tmp_path / "mine.toml"))
    probe = analysis.sections["probe", "id"]
    assert probe.comparison.games == ("asteroids", "boxing", "breakout") and probe.comparison.ill_conditioned == ()
    raw = [
        one.score for one in analysis.done if one.task == "probe" and one.encoder == ENCODERS[0] and one.game in GAMES["id"]
    ]
    assert min(raw) <= {row.encoder: row for row in probe.rows}[ENCODERS[0]].metrics["iqm"].value <= max(raw)
    assert probe.advice is None and not probe.human and not probe.curves
    shot = analysis.sections["zero_shot", "id"]
    assert set(shot.comparison.scores) == {"bc.impala_atari8", "cql_m.impala_atari8"} and not shot.curves
    assert analysis.correlations[0].tasks == ("bc", "rainbow")
    assert "Probe, action accuracy" in pretrainrl.report(tmp_path, suite=tmp_path / "mine.toml").page.read_text()
    assert len(pretrainrl.leaderboard(tmp_path, suite=tmp_path / "mine.toml").columns) == 4 * 3


def test_names() -> None:
    assert encoder_kind("end-to-end.impala") == "end to end" and encoder_kind("random.nature") == "untrained"
    assert encoder_kind("spr_idm.impala_atari8") == "demonstration" and encoder_kind("mine") == "other"
    assert encoder_kind("siammae.impala-seed0") == "video", "a run folder is called after its objective"
    assert short_names(["atc.impala", "bc.a", "bc.b"]) == {"atc.impala": "atc", "bc.a": "bc.a", "bc.b": "bc.b"}


def test_atari_pb() -> None:
    found = atari_pb()
    assert len(found) == 15 * 3 * 2
    assert found[in_atari_pb("cql_m.impala_atari8", "impala"), "id", "BC"].value == 0.33
    assert found[in_atari_pb("end-to-end.impala", "impala"), "far_ood", "RL"].value == 0.395
    assert found[in_atari_pb("end-to-end.nature", "impala"), "near_ood", "RL"].value == 0.214


@pytest.mark.slow
def test_a_report_of_all_games_takes_seconds(tmp_path: Path) -> None:
    """The script in speed/ measures the full grid; here are some of its encoders."""
    games = {split: [game for game, facts in all_scores().items() if facts.split == split] for split in GAMES}
    suite = wide_suite(games=games, tasks={"bc": wide_suite_tasks()["bc"]})
    suite.write(tmp_path / "mine.toml")
    cells = write_grid(tmp_path, suite, ENCODERS[:2], seeds=2)
    began = time.process_time()
    page = pretrainrl.report(tmp_path, suite=tmp_path / "mine.toml").page.read_text()
    assert time.process_time() - began < 0.01 * cells + 10, "60 s for the 5,850 cells of the full grid"
    assert "Left out, because the reference is not above random play: Asteroids, Elevator Action, Montezuma" in page
    assert "IQM with 4 flagged games" in page
