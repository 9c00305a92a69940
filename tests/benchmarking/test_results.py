"""The store of results: nothing is lost, doubled or believed that was edited."""

from pathlib import Path
from typing import Any

import pytest
from benchmark_results import make_cell as cell
from benchmark_results import make_result as result
from hypothesis import given
from hypothesis import strategies as st

from pretrainrl.benchmarking.results import ResultStore, read_folders
from pretrainrl.errors import InputError
from pretrainrl.runs.checkpoints import checked_json, parse_checked


def store(folder: Path) -> ResultStore:
    return ResultStore(folder, "mine", 1)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"game": "freeway"}, {"settings": {"lr": 0.2}}, {"sha256": "cd" * 32}, {"version": 2}, {"task": "rainbow"}],
)
def test_a_key_is_of_all_that_the_result_depends_on(change: dict[str, Any]) -> None:
    assert cell().key != cell(**change).key


def test_a_key_is_not_of_the_budget_the_order_or_the_name() -> None:
    first, second = cell(settings={"a": 1, "b": 2}), cell(settings={"b": 2, "a": 1}, length=99, encoder="other")
    assert first.key == second.key


def test_only_missing_cells_are_left(tmp_path: Path) -> None:
    cells = [cell(seed=seed) for seed in range(3)]
    results = store(tmp_path)
    results.write(result(cells[1]), cells[1])
    assert results.missing(cells) == [cells[0], cells[2]]
    assert [found.seed for found in results] == [1]
    assert next(iter(results)).score == 2.0


def test_a_longer_budget_extends_the_cell_and_a_shorter_one_does_not_undo_it(tmp_path: Path) -> None:
    results = store(tmp_path)
    results.write(result(cell()), cell())
    assert results.missing([cell(length=20)]) == [cell(length=20)]
    results.write(result(cell(length=20)), cell(length=20))
    assert results.missing([cell(length=10), cell(length=20)]) == []
    assert len(list(results)) == 1


def test_failures_are_kept_and_run_again_when_asked(tmp_path: Path) -> None:
    results = store(tmp_path)
    results.write(result(cell(), status="failed", scores=(), error="out of memory"), cell())
    assert results.missing([cell()]) == []
    assert results.missing([cell()], retry=True) == [cell()]
    results.write(result(cell()), cell())
    results.write(result(cell(length=20), status="failed", scores=(), error="killed"), cell(length=20))
    assert [found.status for found in results] == ["done"], "a failure must not replace a result"


def test_results_of_another_suite_are_refused(tmp_path: Path) -> None:
    other = cell(suite="other", version=3)
    ResultStore(tmp_path, "other", 3).write(result(other), other)
    with pytest.raises(InputError, match="holds results of other version 3, not of mine version 1"):
        store(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"suite": 3}'])
def test_damaged_results_are_named(tmp_path: Path, damage: str) -> None:
    store(tmp_path).write(result(cell()), cell())
    cell().file(tmp_path).write_text(damage)
    with pytest.raises(InputError, match=r"0-[0-9a-f]{16}\.json is damaged"):
        list(store(tmp_path))


def test_edited_results_are_named(tmp_path: Path) -> None:
    store(tmp_path).write(result(cell()), cell())
    path = cell().file(tmp_path)
    written = parse_checked(path.read_text())
    path.write_text(checked_json({**written, "seed": 5}))
    with pytest.raises(InputError, match="renamed or edited"):
        list(store(tmp_path))
    path.write_text(checked_json({**written, "scores": []}))
    with pytest.raises(InputError, match="has no scores"):
        list(store(tmp_path))


def test_folders_are_merged_and_the_longer_budget_counts(tmp_path: Path) -> None:
    for name, length in (("a", 10), ("b", 20)):
        of = cell(length=length)
        store(tmp_path / name).write(result(of), of)
    extra = cell(seed=7)
    store(tmp_path / "a").write(result(extra), extra)
    merged = read_folders([tmp_path / "b", tmp_path / "a"])
    assert {(found.seed, found.length) for found in merged} == {(0, 20), (7, 10)}
    with pytest.raises(InputError, match="holds no results"):
        read_folders([tmp_path / "nothing"])


@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.integers(), st.floats(allow_nan=False), st.text(max_size=5), st.booleans())
    )
)
def test_any_settings_have_a_key(settings: dict[str, Any]) -> None:
    assert cell(settings=settings).key == cell(settings=dict(reversed(settings.items()))).key
