"""Work for several names, in this process and in several: results, errors, interruption, death."""

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from pretrainrl.errors import InputError, PretrainRLError
from pretrainrl.runs.interrupt import InterruptedRunError
from pretrainrl.runs.pool import cores, run_jobs, show_jobs


def work(name: str, report: Callable[[int], None]) -> str:
    """Ten steps, and what else the name asks for; must be importable by other processes."""
    if name == "bad":
        raise InputError("bad is bad")
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(10):
        report(1)
    while name == "endless":
        report(0)
        time.sleep(0.01)
    return f"{name} with {os.environ.get('OMP_NUM_THREADS')} threads"


class Seen:
    def __init__(self) -> None:
        self.stop = threading.Event()
        self.began: list[str] = []
        self.steps: dict[str, int] = {}
        self.results: dict[str, str] = {}

    def run(self, names: list[str], jobs: int) -> None:
        run_jobs(
            work, names, jobs, stop=self.stop, started=self.began.append, progress=self.progress,
            finished=self.results.__setitem__,
        )  # fmt: skip

    def progress(self, name: str, new: int) -> None:
        self.steps[name] = self.steps.get(name, 0) + new
        if name == "endless":
            self.stop.set()


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_and_progress(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = Seen()
    seen.run(["a", "b", "c"], jobs)
    assert seen.steps == {"a": 10, "b": 10, "c": 10}
    assert sorted(seen.began) == sorted(seen.results) == ["a", "b", "c"]
    assert seen.results["a"] == f"a with {None if jobs == 1 else max(1, cores() // 2)} threads"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted(jobs: int) -> None:
    seen = Seen()
    with pytest.raises(InterruptedRunError):
        seen.run(["a", "endless", "b", "c"], jobs)
    assert "endless" not in seen.results
    assert len(seen.results) < 4


def test_a_signal_stops_all_under_one_bar(capfd: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []
    threading.Timer(8, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(InterruptedRunError):
        show_jobs(
            work, ["a", "endless"], 2, total=20, unit="steps", title="both", finished=lambda name, result: done.append(name)
        )
    assert done == ["a"]
    assert "both" in capfd.readouterr().err


def test_an_error_in_the_display_stops_all() -> None:
    seen = Seen()

    def failing(name: str, new: int) -> None:
        raise ZeroDivisionError

    seen.progress = failing  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        seen.run(["endless", "endless"], 2)


def test_first_error_stops_the_others() -> None:
    seen = Seen()
    seen.progress = lambda name, new: None  # type: ignore[method-assign]
    with pytest.raises(InputError, match="bad is bad"):
        seen.run(["endless", "bad", "a"], 2)
    assert not seen.stop.is_set()


def test_killed_process_is_an_error() -> None:
    seen = Seen()
    seen.progress = lambda name, new: None  # type: ignore[method-assign]
    with pytest.raises(PretrainRLError, match=r"process was killed.*fewer jobs"):
        seen.run(["endless", "killed"], 2)
