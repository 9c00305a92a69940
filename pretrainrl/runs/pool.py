"""The same work for several games, one after the other or in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from pretrainrl.errors import PretrainRLError
from pretrainrl.runs.interrupt import InterruptedRunError

Work = Callable[[str, Callable[[int], None]], str]
_SECONDS = 0.2  # between two messages of a process

_messages: Any = None  # a queue, in the processes
_stop: Any = None  # an event, likewise


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

    With one job all happens in this process; with several, each has its share of the processor's cores. The first error
    stops the others at their next report, and is raised when they have stopped.

    Args:
        work: calls `report` with numbers of new steps, which raises an error if it is to stop, and returns a result. With
            several jobs it must be a function that can be pickled.
        names: one for each call.
        jobs: at least 1.
        stop: asks all to stop.
        started: called with each name when its work begins, or, with several jobs, when its first report arrives.
        progress: called with name and number of new steps.
        finished: called with name and result.

    Raises:
        InterruptedRunError: when `stop` was set.
        PretrainRLError: when a process was killed.
        Exception: the first error in `work`.
    """
    if jobs > 1 and len(names) > 1:
        with _threads_divided(jobs):
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

    with ProcessPoolExecutor(min(jobs, len(names)), context, _prepare, (messages, stop_all)) as pool:
        running: dict[Future[str], str] = {pool.submit(_call, work, name): name for name in names}
        pool.submit(int)  # lets the pool look at its processes once more: it may have missed the last, and then its death too
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
    errors = [error for error in failures if not isinstance(error, InterruptedRunError)]
    if errors and isinstance(errors[0], BrokenProcessPool):
        raise PretrainRLError("a process was killed, perhaps because memory ran out; take fewer jobs") from errors[0]
    if failures:
        raise (errors or failures)[0]


def _prepare(messages: Any, stop_all: Any) -> None:
    """In a new process: Ctrl-C is for the one that started it."""
    global _messages, _stop
    _messages, _stop = messages, stop_all
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _call(work: Work, name: str) -> str:
    """In a process: do the work, and send messages on it."""
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


@contextmanager
def _threads_divided(jobs: int) -> Iterator[None]:
    """Give the processes that are started meanwhile their share of the cores, unless the user has."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // jobs))
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
