"""The leaderboard: complete results count, what was not computed by the suite's protocol does not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_grid import write_grid
from benchmark_results import make_suite
from typer.testing import CliRunner

import pretrainrl
from pretrainrl.benchmarking.results import read_folders
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.benchmarking.table import compare, rank
from pretrainrl.cards import EncoderCard
from pretrainrl.cli import app
from pretrainrl.errors import InputError
from pretrainrl.paths import registry_folder
from pretrainrl.runs.checkpoints import checked_json, parse_checked

ENCODERS = ["atc.impala_atari8", "siammae.impala_atari8"]


@pytest.fixture(scope="module")
def suite() -> Suite:
    return make_suite(evaluation={"episodes": 4, "max_episode_steps": 9})


@pytest.fixture
def folder(tmp_path: Path, suite: Suite) -> Path:
    suite.write(tmp_path / "mine.toml")
    write_grid(tmp_path / "first", suite, ENCODERS, seeds=2)
    return tmp_path


def test_folders_become_one_table(folder: Path, suite: Suite) -> None:
    write_grid(folder / "second", suite, ["mine", "partial"], seeds=2, level=20.0)
    removed = next((folder / "second" / "cells" / "bc" / "klax" / "partial").iterdir())
    removed.unlink()
    found = pretrainrl.leaderboard([folder / "first", folder / "second"], suite=folder / "mine.toml", out=folder / "table.csv")
    assert found.columns == (("bc", "id"), ("bc", "far_ood"))
    rows = {row.encoder: row for row in found.rows}
    assert list(rows)[-1] == "partial" and len(rows) == 5 + 2
    assert {rows[name].places["bc", "id"] for name in ("mine", "partial")} == {1, 2}
    assert rows["mine"].places["bc", "far_ood"] == 1 and rows["mine"].missing == 0
    assert set(rows["partial"].scores) == {("bc", "id")} and rows["partial"].missing == 1
    ranked = rank(compare(read_folders([folder / "first"]), suite, "bc", "id"))
    assert {row.encoder: row.metrics["iqm"] for row in ranked} == {
        name: rows[name].scores["bc", "id"] for name in rows if name not in ("mine", "partial")
    }, "a row depends on its own cells only"
    assert len((folder / "table.csv").read_text().splitlines()) == 1 + 6 * 2 + 1, "partial has one column"


def test_scores_go_into_cards(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "registry"
    shutil.copytree(registry_folder() / "encoders", registry / "encoders")
    monkeypatch.setattr("pretrainrl.benchmarking.leaderboard.registry_folder", lambda: registry)
    before = {path: path.read_bytes() for path in (registry / "encoders").iterdir()}
    found = pretrainrl.leaderboard(folder / "first", suite=folder / "mine.toml", write_cards=True)
    assert set(found.cards) == {*ENCODERS, "random.impala"}
    again = pretrainrl.leaderboard(folder / "first", suite=folder / "mine.toml", write_cards=True)
    assert again.cards == found.cards, "scores of the same suite are replaced"
    card = EncoderCard.read(registry / "encoders" / f"{ENCODERS[0]}.toml")
    (row,) = [row for row in found.rows if row.encoder == ENCODERS[0]]
    assert [(one.task, one.split, one.seeds, one.dtype) for one in card.evaluations] == [
        ("bc", "id", 2, "float32"),
        ("bc", "far_ood", 2, "float32"),
    ]
    assert card.evaluations[0].iqm == pytest.approx(row.scores["bc", "id"].value, rel=1e-3)
    assert card.model_copy(update={"evaluations": ()}) == EncoderCard.read(
        registry_folder() / "encoders" / f"{ENCODERS[0]}.toml"
    )
    changed = {path.stem for path, content in before.items() if path.read_bytes() != content}
    assert changed == set(found.cards)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = sorted((folder / "first" / "cells").rglob("*.json"))[0]
    table = parse_checked(path.read_text())
    change(table)
    path.write_text(checked_json(table))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cell: cell.pop("versions"), "does not say with which versions"),
        (lambda cell: cell.pop("hardware"), "does not say with which versions and on what machine"),
        (lambda cell: cell.update(scores=[1.0]), "scores of 1 games, and the suite's evaluation has 4"),
        (lambda cell: cell.update(length=1), "its budget is 1, and the suite's is 2"),
    ],
)
def test_results_that_are_not_accepted(folder: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    edit(folder, change)
    with pytest.raises(InputError, match=f"bc boxing atc.impala_atari8 seed 0 is not accepted: .*{message}"):
        pretrainrl.leaderboard([folder / "first"], suite=folder / "mine.toml")


@pytest.mark.parametrize(
    ("sha256", "message"),
    [("ab" * 32, "begins with abababab, that of the registered encoder with"), ("none", "not 64 hex digits")],
)
def test_weights_must_be_known(folder: Path, sha256: str, message: str, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark_grid import entrants

    wrong = [one.model_copy(update={"sha256": sha256}) for one in entrants(suite, ENCODERS[:1])[:1]]
    monkeypatch.setattr("benchmark_grid.entrants", lambda *_: wrong)
    write_grid(folder / "wrong", suite, ENCODERS[:1], seeds=1)
    with pytest.raises(InputError, match=message):
        pretrainrl.leaderboard(folder / "wrong", suite=folder / "mine.toml")


def test_other_settings_are_not_accepted(folder: Path, suite: Suite) -> None:
    other = make_suite(evaluation={"episodes": 4, "max_episode_steps": 10})
    write_grid(folder / "other", other, ["mine"], seeds=1)
    with pytest.raises(InputError, match=r"settings are not those of mine version 1; 15 more results are not accepted either"):
        pretrainrl.leaderboard(folder / "other", suite=folder / "mine.toml")


def test_a_table_without_cells_is_not_accepted(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "empty" / "cells.csv").write_text("suite,version")
    with pytest.raises(InputError, match="holds no results: its folder 'cells' is missing or empty"):
        pretrainrl.leaderboard([folder / "first", folder / "empty"], suite=folder / "mine.toml")


def test_command(folder: Path) -> None:
    result = CliRunner().invoke(app, ["leaderboard", str(folder / "first"), "--suite", str(folder / "mine.toml")])
    assert result.exit_code == 0, result.output
    assert "mine version 1, 2 seeds" in result.output and "siammae.impala_atari8" in result.output and "1. 0." in result.output
