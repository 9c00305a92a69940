"""The same work for several names, one after the other or in processes of their own, under one progress bar."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from pretrainrl.errors import PretrainRLError
from pretrainrl.games import silence_emulator
from pretrainrl.malloc import keep_freed_memory
from pretrainrl.progress import progress_bar
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests

Work = Callable[[str, Callable[[int], None]], str]
_SECONDS = 0.2  # between two messages of a process

_messages: Any = None  # queue to the process that started this one
_stop: Any = None  # event of the process that started this one


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def show_jobs(
    work: Work,
    names: Sequence[str],
    jobs: int,
    *,
    total: int,
    unit: str,
    title: str | None = None,
    finished: Callable[[str, str], None] | None = None,
    disable: bool = False,
) -> None:
    """Run jobs under one progress bar until all are done, or until SIGINT or SIGTERM asks to stop.

    Args:
        work: Function as `run_jobs` takes it.
        names: Names, one for each call of `work`.
        jobs: Number of calls at a time, at least 1.
        total: Number of steps of all calls together.
        unit: Noun for the steps, shown beside their number.
        title: Words before the bar; by default the names of the calls under way.
        finished: Function that is called with name and result of each call.
        disable: Whether the bar is hidden.

    Raises:
        InterruptedRunError: A signal asked to stop.
        PretrainRLError: A process was killed.
        Exception: The first error in `work`.
    """
    running: list[str] = []
    with stop_requests() as stop, progress_bar(disable=disable) as bar:
        task = bar.add_task(title or "", total=total, note=unit)

        def show() -> None:
            bar.update(task, description=title or ", ".join(running))

        def on_start(name: str) -> None:
            running.append(name)
            show()

        def on_finish(name: str, result: str) -> None:
            running.remove(name)
            show()
            if finished is not None:
                finished(name, result)

        run_jobs(
            work, names, jobs, stop=stop, started=on_start, progress=lambda _, new: bar.advance(task, new), finished=on_finish
        )


def run_jobs(
    work: Work,
    names: Sequence[str],
    jobs: int,
    *,
    stop: threading.Event,
    started: Callable[[str], None],
    progress: Callable[[str, int], None],
    finished: Callable[[str, str], None],
) -> None:
    """Call `work(name, report)` for each of `names`, `jobs` at a time.

    With one job all happens in this process. With several, processes share the processor's cores, and the script that is
    running is not run again in them. The first error stops the other calls at their next report, and is raised when they
    have stopped.

    Args:
        work: Function that calls `report` with numbers of new steps and returns a result. `report` raises an error when the
            call is to stop. With several jobs, `work` comes from a module that can be imported.
        names: Names, one for each call.
        jobs: Number of calls at a time, at least 1.
        stop: Event that asks all calls to stop.
        started: Function that is called with each name when its work begins or, with several jobs, when its first report
            arrives.
        progress: Function that is called with name and number of new steps.
        finished: Function that is called with name and result.

    Raises:
        InterruptedRunError: `stop` was set.
        PretrainRLError: A process was killed.
        Exception: The first error in `work`.
    """
    if jobs > 1 and len(names) > 1:
        _run_in_processes(work, names, jobs, stop, started, progress, finished)
        return
    for name in names:
        started(name)

        def report(new: int, name: str = name) -> None:
            progress(name, new)
            if stop.is_set():
                raise InterruptedRunError("interrupted")

        finished(name, work(name, report))


def _run_in_processes(
    work: Work,
    names: Sequence[str],
    jobs: int,
    stop: threading.Event,
    started: Callable[[str], None],
    progress: Callable[[str, int], None],
    finished: Callable[[str, str], None],
) -> None:
    context = multiprocessing.get_context("spawn")  # forking a process that has threads is not safe
    messages, stop_all = context.SimpleQueue(), context.Event()  # what is put is there before the result is
    failures: list[BaseException] = []
    seen: set[str] = set()

    def drain() -> None:
        while not messages.empty():
            name, new = messages.get()
            if name not in seen:
                seen.add(name)
                started(name)
            progress(name, new)

    workers = min(jobs, len(names))
    with ProcessPoolExecutor(workers, context, _prepare, (messages, stop_all, max(1, cores() // jobs))) as pool:
        with _script_hidden():  # processes start when work is submitted
            running: dict[Future[str], str] = {pool.submit(_call, work, name): name for name in names}
            pool.submit(int)  # lets the pool look at its processes once more: it may have missed the last one's death
        try:
            while running:
                done, _ = wait(running, timeout=_SECONDS, return_when=FIRST_COMPLETED)
                drain()
                for future in done:
                    name = running.pop(future)
                    if error := future.exception():
                        failures.append(error)
                    else:
                        finished(name, future.result())
                if failures or stop.is_set():
                    stop_all.set()
        finally:
            stop_all.set()  # the pool waits for its processes, also after an error here
    errors = [error for error in failures if not isinstance(error, InterruptedRunError)]
    if errors and isinstance(errors[0], BrokenProcessPool):
        raise PretrainRLError("a process was killed, perhaps because memory ran out; take fewer jobs") from errors[0]
    if failures:
        raise (errors or failures)[0]


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Keep processes that start meanwhile from running the user's script once more, as `multiprocessing` has them do."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _prepare(messages: Any, stop_all: Any, threads: int) -> None:
    """Make a new process ready: it takes its share of the cores, and leaves Ctrl-C to the process that started it."""
    global _messages, _stop
    _messages, _stop = messages, stop_all
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before any library that reads it is imported
    keep_freed_memory()
    silence_emulator()


def _call(work: Work, name: str) -> str:
    """Do the work in a process of its own, and send messages on it."""
    parent = multiprocessing.parent_process()
    waiting, sent = 0, 0.0

    def report(new: int) -> None:
        nonlocal waiting, sent
        waiting += new
        if time.monotonic() - sent > _SECONDS:
            if _stop.is_set() or (parent is not None and not parent.is_alive()):
                raise InterruptedRunError("interrupted")
            _messages.put((name, waiting))
            waiting, sent = 0, time.monotonic()

    if _stop.is_set():
        raise InterruptedRunError("interrupted")
    result = work(name, report)
    _messages.put((name, waiting))
    return result
