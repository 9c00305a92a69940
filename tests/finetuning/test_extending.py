"""Runs that are made longer once they are over: what comes out, what is kept, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finetuned import evaluations, games, learnt, same

import pretrainrl
from pretrainrl.errors import InputError
from pretrainrl.finetuning.config import FinetuneRecord
from pretrainrl.finetuning.segments import FinetuneSegments
from pretrainrl.integrations.minari import collect_dataset
from pretrainrl.results import FinetuneResult

COMMON: dict[str, Any] = {"features": "pooled", "eval_episodes": 1, "max_episode_steps": 15, "progress": False}
# The first length lies between two checkpoints, but for the last one's.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "qrdqn": {"n_envs": 2, "checkpoint_every": 24, "eval_freq": 30},
    "rainbow": {"n_envs": 2, "checkpoint_every": 24, "eval_freq": 30},
    "bc": {"n_envs": 2, "checkpoint_every": 2, "eval_freq": 2, "dataset": "pretrainrl/atari/pong-random-v0"},
    "ppo": {"n_envs": 1, "checkpoint_every": 128, "eval_freq": 1000, "preset": "constant"},
}
LENGTHS: dict[str, tuple[str, int, int]] = {
    "qrdqn": ("steps", 60, 100),
    "rainbow": ("steps", 60, 100),
    "bc": ("epochs", 3, 6),
    "ppo": ("steps", 256, 512),
}
KILLED_AT = {"qrdqn": 16, "rainbow": 16, "bc": 3, "ppo": 140}  # calls of the extension, after its first checkpoint


@pytest.fixture(scope="module", autouse=True)
def _dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("extending")))
        collect_dataset("pong", steps=64, n_envs=2)
        yield


def run(algorithm: str, out: Path, length: int | None = None, **changes: Any) -> FinetuneResult:
    named = {} if length is None else {LENGTHS[algorithm][0]: length}
    arguments: dict[str, Any] = {**COMMON, **ARGUMENTS[algorithm], **named, **changes}
    return pretrainrl.finetune(algorithm, "pong", "random.nature", out=out, **arguments)


def check_equal(one: Path, other: Path) -> None:
    assert same(learnt(one), learnt(other))
    assert same(learnt(one, "best_model.zip"), learnt(other, "best_model.zip"))
    found, expected = evaluations(one), evaluations(other)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    if (one / "0.monitor.csv").exists():
        assert games(one) == games(other)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ARGUMENTS)
def test_extended_in_one_go_or_killed(algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is stopped, what an extension gives is the same, and all that was there before stays in it."""
    _, length, longer = LENGTHS[algorithm]
    first = run(algorithm, tmp_path / "one", length)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    remaining: list[float] = []
    begin = FinetuneSegments._begin

    def beginning(self: FinetuneSegments) -> None:
        remaining.append(self.model._current_progress_remaining)
        begin(self)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneSegments, "_begin", beginning)
        whole = run(algorithm, tmp_path / "one", longer, resume=True)
    assert remaining[0] == pytest.approx(1 - length / longer), "schedules are those of the longer run, from the first step on"
    assert first.lengths == (length,) and whole.lengths == (length, longer)
    assert whole.evaluations[: len(first.evaluations)] == first.evaluations and len(whole.evaluations) > len(first.evaluations)
    record = FinetuneRecord.read(whole.folder / "config.toml")
    assert record.run.length == longer and record.run.earlier == (length,)
    assert len(list((whole.folder / "checkpoints").iterdir())) == 1

    step, calls = FinetuneSegments._on_step, [0]

    def dying(self: FinetuneSegments) -> bool:
        calls[0] += 1
        if calls[0] == KILLED_AT[algorithm]:
            raise MemoryError
        return step(self)

    agent = first.agent_path.relative_to(tmp_path / "one")
    before = (tmp_path / "other" / agent).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneSegments, "_on_step", dying)
        with pytest.raises(MemoryError):
            run(algorithm, tmp_path / "other", longer, resume=True)
    assert (tmp_path / "other" / agent).read_bytes() == before  # the shorter run's agent is there until the longer one's is
    again = run(algorithm, tmp_path / "other", resume=True)  # without a length, the run keeps its own
    assert again.lengths == (length, longer)
    check_equal(again.folder, whole.folder)


@pytest.mark.slow
def test_equals_a_long_run_where_nothing_depends_on_the_length(tmp_path: Path) -> None:
    """That is so with constant settings, if the shorter run ends where a checkpoint is due."""
    _, length, longer = LENGTHS["ppo"]
    run("ppo", tmp_path / "extended", length)
    extended = run("ppo", tmp_path / "extended", longer, resume=True)
    direct = run("ppo", tmp_path / "direct", longer)
    assert same(learnt(extended.folder), learnt(direct.folder)) and games(extended.folder) == games(direct.folder)
    assert extended.scores == direct.scores and direct.lengths == (longer,)


@pytest.mark.slow
def test_an_unfinished_run_is_finished_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, length, longer = LENGTHS["bc"]
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneSegments, "_on_training_end", lambda self: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            run("bc", tmp_path / "stopped", length)
    stopped = run("bc", tmp_path / "stopped", longer, resume=True)
    run("bc", tmp_path / "whole", length)
    check_equal(stopped.folder, run("bc", tmp_path / "whole", longer, resume=True).folder)


@pytest.mark.slow
def test_refused(tmp_path: Path) -> None:
    folder = run("bc", tmp_path, 3).folder
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"is a run of 3 epochs, which can be made longer and not shorter, got 2; choose"):
        run("bc", tmp_path, 2, resume=True)
    with pytest.raises(InputError, match=r"of other settings: eval_freq was 2 and is now 1; choose another folder with --out"):
        run("bc", tmp_path, 6, resume=True, eval_freq=1)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(InputError, match=r"has no checkpoint, from which alone it goes on; begin anew with another --out"):
        run("bc", tmp_path, 6, resume=True)
    assert run("bc", tmp_path, resume=True).lengths == (3,)
