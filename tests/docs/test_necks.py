"""Necks are compared on ID games, by runs that are made once, and the page shows what was kept."""

import csv
import importlib.util
import json
import sys
import types
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import all_scores
from pretrainrl.integrations.minari import collect_dataset
from pretrainrl.networks.necks import make_neck

ROOT = Path(__file__).resolve().parents[2]
LEARNING, FIGURES = ROOT / "speed" / "learning", ROOT / "docs" / "figures"
STEPS = 128


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def _importable():
    """Scripts import their neighbours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(LEARNING))
        patch.syspath_prepend(str(FIGURES))
        yield


@pytest.fixture(scope="module")
def cells(_importable):
    return load(LEARNING / "neck_cells.py", "neck_cells")


@pytest.fixture(scope="module")
def script(cells):
    return load(LEARNING / "necks.py", "learning_necks")


@pytest.fixture(scope="module")
def figures(_importable):
    return load(FIGURES / "necks.py", "docs_figures_necks")


class FakeRuns:
    """Stands for `neck_tasks`: writes results, and notes what it made; fails at the `fails_at`-th call."""

    def __init__(self, fails_at=None):
        self.made, self.fails_at = [], fails_at

    def run_cell(self, by_name, out, steps, name, report):
        if len(self.made) == self.fails_at:
            raise InputError("killed")
        self.made.append(name)
        file = by_name[name].file(out)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"score": 0.5, "steps": steps} if name.startswith("rainbow") else {"score": 0.5}))
        report(1)
        return name


@pytest.fixture
def fake(monkeypatch):
    def install(fails_at=None):
        runs = FakeRuns(fails_at)
        module: Any = types.ModuleType("neck_tasks")
        module.run_cell = runs.run_cell
        monkeypatch.setitem(sys.modules, "neck_tasks", module)
        return runs

    return install


def test_cells_are_unique_and_complete(cells):
    chosen = cells.select_cells()
    assert len({cell.name for cell in chosen}) == len(chosen) == 2 * 3 * 3 * 13 * 3
    names = {setting.name for setting in cells.SETTINGS}
    mlp = {f"{features}-{norm}-mlp" for features in ("flat", "pooled") for norm in ("none", "layer", "standardize")}
    spatial = {f"map-{norm}-spatial{k}" for norm in ("none", "layer", "standardize") for k in ("", "8")}
    assert names == mlp | spatial | {"map-none-spatial_mlp"}


def test_every_neck_can_be_made(cells):
    for setting in cells.SETTINGS:
        shape = {"flat": (3872,), "pooled": (32,), "map": (32, 11, 11)}[setting.features]
        arguments: dict[str, Any] = dict(setting.arguments)
        make_neck(arguments.pop("neck"), shape, 8, **arguments)


def test_a_neck_is_tried_on_everything_before_the_next(cells):
    chosen = cells.select_cells(["rainbow"])
    assert len({cell.setting for cell in chosen[:9]}) == 1
    assert len({(cell.game, cell.encoder) for cell in chosen[:9]}) == 9
    assert all(cell.seed == 0 for cell in chosen[: 9 * len(cells.SETTINGS)])


def test_part_of_the_cells(cells):
    chosen = cells.select_cells(["bc"], ["Boxing"], ["atc"], ["flat-*", "map-none-spatial_mlp"], seeds=2)
    assert {cell.setting.name for cell in chosen} == {
        *("flat-standardize-mlp", "flat-layer-mlp", "flat-none-mlp", "map-none-spatial_mlp")
    }
    assert len(chosen) == 8 and {cell.game for cell in chosen} == {"boxing"}
    for arguments in ({"tasks": ["ppo"]}, {"necks": ["flat"]}, {"games": ["pang"]}):
        with pytest.raises(UnknownNameError):
            cells.select_cells(**arguments)


@pytest.mark.parametrize("game", [game for game, scores in all_scores().items() if scores.split != "id"])
def test_games_kept_for_tests_are_refused(cells, game):
    split = {"near_ood": "Near-OOD", "far_ood": "Far-OOD"}[all_scores()[game].split]
    with pytest.raises(InputError, match=f"{game} is a {split} game, kept for tests: necks are compared on ID games only"):
        cells.select_cells(games=["breakout", game])


def test_script_refuses_them_too(script, capsys):
    with pytest.raises(SystemExit, match="error: assault is a Near-OOD game"):
        script.main(["--games", "assault"])


def test_killed_run_goes_on_without_doing_anything_twice(script, cells, fake, tmp_path):
    arguments = ["--games", "boxing", "--seeds", "1", "--necks", "flat-*", "--jobs", "1", "--out", str(tmp_path)]
    first = fake(fails_at=7)
    with pytest.raises(SystemExit, match="killed"):
        script.main(arguments)
    second = fake()
    script.main(arguments)
    wanted = [cell.name for cell in cells.select_cells(games=["boxing"], necks=["flat-*"], seeds=1)]
    assert first.made + second.made == wanted and len(first.made) == 7
    third = fake()
    script.main(arguments)
    assert third.made == []


def test_results_of_other_steps_and_damaged_ones_are_errors(script, cells, fake, tmp_path):
    arguments = ["--tasks", "rainbow", "--games", "boxing", "--seeds", "1", "--encoders", "atc", "--necks", "flat-none-mlp"]
    arguments += ["--jobs", "1", "--out", str(tmp_path)]
    fake()
    script.main([*arguments, "--steps", "64"])
    with pytest.raises(SystemExit, match="of other settings: steps was 64 and is now 25000; give another --out"):
        script.main(arguments)
    next(tmp_path.rglob("*.json")).write_text('{"score"')
    with pytest.raises(SystemExit, match="is damaged"):
        script.main(arguments)


def test_results_are_kept_with_a_line_for_each_missing_run(script, cells, fake, tmp_path):
    out, kept = tmp_path / "out", tmp_path / "necks.csv"
    fake()
    script.main(
        ["--tasks", "rainbow", "--games", "boxing", "--seeds", "1", "--necks", "flat-*", "--jobs", "1", "--out", str(out)]
    )
    script.write_results(out, kept)
    with kept.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(cells.select_cells())
    assert sum(bool(row["score"]) for row in rows) == 9
    toy = cells.Cell("bc", "boxing", "atc", cells.SETTINGS[0], 0).file(out)
    toy.parent.mkdir(parents=True)
    toy.write_text('{"score": 0.5, "transitions": 1500}')
    with pytest.raises(InputError, match="is of 1,500 transitions; results need 10,000"):
        script.write_results(out, kept)
    test_game = cells.Cell("rainbow", "assault", "atc", cells.SETTINGS[0], 0).file(out)
    test_game.parent.mkdir(parents=True)
    test_game.write_text('{"score": 300, "steps": 25000}')
    with pytest.raises(InputError, match="assault is a Near-OOD game"):
        script.write_results(out, kept)


def write_csv(path, rows):
    header = ("task", "game", "encoder", "features", "normalization", "neck", "embeddings", "seed", "score", "majority")
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def test_table_of_known_numbers(figures, tmp_path):
    standard, layer = ("flat", "standardize", "mlp", 1), ("flat", "layer", "mlp", 1)
    scores = {standard: {"boxing": (0.5, 0.7), "freeway": (0.9, 0.9)}, layer: {"boxing": (0.4, 0.4), "freeway": (0.6, 0.6)}}
    rows: list[Any] = [
        ("bc", game, "atc", *setting, seed, value, 0.25 if game == "boxing" else 0.75)
        for setting, games in scores.items()
        for game, values in games.items()
        for seed, value in enumerate(values)
    ]
    # Of the second encoder, one seed of one neck: half way to the reference on Boxing, and all the way on Freeway.
    boxing, freeway = all_scores()["boxing"], all_scores()["freeway"]
    half = (boxing.random + boxing.reference) / 2
    rows += [
        ("rainbow", "boxing", "atc", *standard, 0, half, ""),
        ("rainbow", "freeway", "atc", *standard, 0, freeway.reference, ""),
    ]
    rows += [("rainbow", "boxing", "atc", *layer, 0, half, ""), ("rainbow", "freeway", "atc", *layer, 0, "", "")]
    write_csv(tmp_path / "necks.csv", rows)
    lines = figures.text(tmp_path / "necks.csv").splitlines()
    # Boxing's resampled means are .5, .6, .7 with shares 1/4, 1/2, 1/4; Freeway's is always .9.
    assert "| `mlp` (default) | flat | `standardize` | **0.750** (0.700 to 0.800) | **0.750** (0.700 to 0.800) |" in lines
    assert "| `mlp` | flat | `layer` | 0.500 (0.500 to 0.500) | 0.500 (0.500 to 0.500) |" in lines
    assert "| the most frequent action |  |  | 0.500 | 0.500 |" in lines
    assert "| `mlp` (default) | flat | `standardize` | **0.750** (1 seed) | **0.750** (1 seed) |" in lines
    assert "| `mlp` | flat | `layer` | not yet | not yet |" in lines
    text = "\n".join(lines)
    assert "All 8 runs were made." in text and "3 of 4 runs were made so far" in text
    assert "0.750, is that of `mlp` on flat features with normalization `standardize`. The next is 0.500" in text


def test_table_is_up_to_date_and_of_id_games(figures, cells):
    kept = figures.OUT / "necks.csv"
    assert (figures.OUT / "necks.md").read_text(encoding="utf-8") == figures.text(kept), "run `make figures`"
    runs = figures.read(kept)
    assert len(runs) == len(cells.select_cells())
    cells.check_games(sorted({run.game for run in runs}))
    assert all(np.isfinite(run.value) for run in runs if run.value is not None)


@pytest.fixture(scope="module")
def tasks(cells):
    return load(LEARNING / "neck_tasks.py", "neck_tasks")


def test_episodes_are_split(tasks):
    lengths = np.random.default_rng(0).integers(300, 1_500, size=25).tolist()
    splits = [tasks.split_episodes(lengths, seed) for seed in range(5)]
    for training, held_out in splits:
        assert not set(training) & set(held_out)
        assert abs(sum(lengths[index] for index in training) - 6_000) <= 750
        assert abs(sum(lengths[index] for index in held_out) - 4_000) <= 750
    assert len({tuple(training) for training, _ in splits}) == 5
    training, held_out = tasks.split_episodes([100, 100, 100, 100, 100], 0)
    assert (len(training), len(held_out)) == (3, 2), "of fewer transitions, in proportion"
    with pytest.raises(InputError, match="leave none to score on"):
        tasks.split_episodes([5_000], 0)


@pytest.mark.slow
def test_runs_at_toy_size(tasks, script, cells, monkeypatch, tmp_path):
    """A clone and a Rainbow agent, for real."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setattr(tasks, "EPISODES", 2)
    collect_dataset("breakout", steps=512, n_envs=2, kind="expert")
    arguments = ["--games", "breakout", "--encoders", "atc", "--necks", "flat-standardize-mlp", "--seeds", "1"]
    script.main([*arguments, "--steps", str(STEPS), "--jobs", "1", "--out", str(tmp_path / "out")])
    clone, agent = (
        script.read_result(cell, tmp_path / "out")
        for cell in cells.select_cells(games=["breakout"], encoders=["atc"], necks=["flat-standardize-mlp"], seeds=1)
    )
    assert 0 <= clone["score"] <= 1 and clone["training"] > clone["held_out"] > 0
    assert clone["training"] + clone["held_out"] <= clone["transitions"] == 512
    assert len(agent["scores"]) == 2 and agent["steps"] == STEPS and agent["sha256"] == clone["sha256"]
