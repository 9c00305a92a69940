"""Tasks beside fine-tuning: probes, and play of the objective that trained an encoder; what is planned, and how far it is."""

from pathlib import Path
from typing import Any

import pytest
from benchmark_results import make_suite, suite_table
from typer.testing import CliRunner

import pretrainrl
from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.compute import run_cell
from pretrainrl.benchmarking.plan import SUITE
from pretrainrl.benchmarking.results import ResultStore
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.cli import app
from pretrainrl.errors import CardError, InputError

DATASET = "pretrainrl/atari/{game}-random-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random play, a suite, and runs of an objective that can play and of one that cannot."""
    folder = tmp_path_factory.mktemp("tasks")
    tasks = {
        "probe": {"kind": "probe", "length": 120, "dataset": DATASET},
        "zero_shot": {"kind": "zero_shot", "returns": [0.5, 1.0]},
        "bc": {"agent": "bc", "preset": "short", "length": 1, "dataset": DATASET, "minutes": 2, "end_to_end_minutes": 30},
    }
    evaluation = {"episodes": 2, "max_episode_steps": 6, "epsilon": 0.5, "sticky_actions": 0.25}
    games = {"id": ["boxing"], "near_ood": ["pong"]}
    suite = make_suite(tasks=tasks, evaluation=evaluation, games=games, seeds=1, backbone="nature", encoders=["random.nature"])
    suite.write(folder / "mine.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "datasets"))
        patch.setenv("PRETRAINRL_HOME", str(folder / "home"))
        pretrainrl.collect(["boxing", "pong"], steps=120, n_envs=2, progress=False)
        for objective in ("dt", "idm"):
            pretrainrl.pretrain(
                objective,
                DATASET.format(game="boxing"),
                steps=1,
                batch_size=2,
                backbone="nature",
                out=folder / objective,
                progress=False,
            )
        yield folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Any:
    return pretrainrl.benchmark(
        folder / "mine.toml",
        encoders=[str(folder / "dt"), str(folder / "idm")],
        tasks="probe,zero_shot",
        out=folder / "results",
        jobs=2,
        progress=False,
    )


def test_only_frozen_encoders_are_probed_and_only_some_play(found: Any) -> None:
    assert found.failed == ()
    assert {(each.task, each.game, each.encoder) for each in found.results} == {
        ("zero_shot", "boxing", "dt"),
        *(("probe", game, encoder) for game in ("boxing", "pong") for encoder in ("dt", "idm", "random.nature")),
    }


def test_a_probe_has_one_accuracy(found: Any) -> None:
    accuracies = [each.scores for each in found.results if each.task == "probe"]
    assert all(len(scores) == 1 and 0 < scores[0] <= 1 for scores in accuracies)


def test_a_decision_transformer_plays_again_for_its_best_return(found: Any) -> None:
    (played,) = [each for each in found.results if each.task == "zero_shot"]
    assert len(played.scores) == len(played.lengths) == 2 and max(played.lengths) <= 6
    assert len(played.curve) == 2, "a mean score for each return that it was asked for"
    assert played.curve[0][0] == pytest.approx(played.curve[1][0] / 2)


def test_a_result_says_what_it_came_from(found: Any, folder: Path) -> None:
    suite = Suite.read(folder / "mine.toml")
    for each in found.results:
        assert each.settings["epsilon"] == 0.5 and each.settings["sticky_actions"] == 0.25
        assert each.settings["kind"] == suite.tasks[each.task].kind
    assert Suite.read(found.folder / SUITE) == suite


def test_nobody_can_play(folder: Path) -> None:
    with pytest.raises(InputError, match="none of these encoders can do zero_shot"):
        pretrainrl.benchmark(folder / "mine.toml", tasks="zero_shot", out=folder / "none", progress=False)


def test_a_missing_metric_is_a_failed_cell(folder: Path) -> None:
    table = suite_table(tasks={"probe": {"kind": "probe", "length": 120, "dataset": DATASET, "metric": "speed"}})
    suite = Suite.parse({**table, "backbone": "nature", "encoders": ["random.nature"]}, "mine.toml")
    (entrant,) = pretrainrl.plan_benchmark(folder / "mine.toml", tasks="probe", games="boxing", out=folder / "x").specs
    result = run_cell(CellSpec.of(suite, "probe", "boxing", 0, entrant.entrant, folder))
    assert result.status == "failed" and "gives no speed; it gives action_accuracy" in str(result.error)


def test_a_plan_says_cells_hours_and_data(folder: Path, found: Any) -> None:
    plan = pretrainrl.plan_benchmark(folder / "mine.toml", encoders=str(folder / "idm"), out=found.folder)
    rows = {(row.task, row.encoder): row for row in plan.rows}
    assert (rows["probe", "idm"].cells, rows["probe", "idm"].done, rows["probe", "idm"].measured) == (2, 2, True)
    assert (rows["bc", "idm"].minutes, rows["bc", "end-to-end.nature"].minutes) == (2.0, 30.0)
    assert rows["bc", "idm"].missing_minutes == 4.0 and plan.unknown == ()
    assert plan.hours == pytest.approx((2 * 4.0 + 2 * 30.0) / 60 / pretrainrl_cores())
    assert plan.datasets == tuple(DATASET.format(game=game) for game in ("boxing", "pong"))
    assert {spec.task for spec in plan.missing()} == {"bc"}


def pretrainrl_cores() -> int:
    from pretrainrl.runs.pool import cores

    return cores()


def test_a_plan_computes_and_writes_nothing(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["benchmark", "plan", str(folder / "mine.toml"), "--out", str(folder / "planned")])
    assert shown.exit_code == 0 and "hours on this machine" in shown.stdout and "GiB" in shown.stdout
    assert not (folder / "planned").exists()


def test_status_of_results(found: Any, folder: Path) -> None:
    status = pretrainrl.benchmark_status(found.folder)
    assert {(row.task, row.encoder): (row.cells, row.done) for row in status.rows}["probe", "dt"] == (2, 2)
    spec = next(spec for spec in status.specs if spec.task == "probe" and spec.entrant.name == "dt")
    store = ResultStore(folder / "failures", "mine", 1)
    status.suite.write(folder / "failures" / SUITE)
    store.write(spec.failed("memory ran out [/b]", 1.0), spec.cell)
    shown = CliRunner().invoke(app, ["benchmark", "status", str(folder / "failures")])
    assert shown.exit_code == 0 and "memory ran out [/b]" in shown.stdout
    with pytest.raises(InputError, match=r"there is no suite\.toml"):
        pretrainrl.benchmark_status(folder)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"agent": "bc", "preset": "short"}, "needs length"),
        ({"agent": "bcc", "preset": "short", "length": 1}, "did you mean 'bc'"),
        ({"agent": "bc", "preset": "shrt", "length": 1}, "did you mean 'short'"),
        ({"kind": "probe", "length": 5}, "needs dataset"),
        ({"kind": "probe", "length": 5, "dataset": "pretrainrl/atari/pong-expert-v0"}, "must have {game}"),
        ({"kind": "look"}, "finetune"),
    ],
)
def test_tasks_are_checked_when_a_suite_is_read(task: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        Suite.parse(suite_table(tasks={"mine": task}), "mine.toml")


def test_unknown_games_are_named_when_a_suite_is_read() -> None:
    with pytest.raises(CardError, match=r"mine\.toml.*did you mean 'breakout'"):
        Suite.parse(suite_table(games={"id": ["brekout"]}), "mine.toml")
