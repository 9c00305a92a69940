"""Where cells are computed: in processes of this machine, or on a Ray cluster. The results are the same, to the bit."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import IO, Any, Protocol

from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.data.caches import free_memory
from pretrainrl.errors import InputError, PretrainRLError
from pretrainrl.optional import require
from pretrainrl.runs.interrupt import InterruptedRunError
from pretrainrl.runs.pool import cores

Finished = Callable[[CellSpec, CellResult], None]
_SECONDS = 0.2  # between two looks at the processes
_ANSWER = 10.0  # seconds for a cluster to answer
_CELL_BYTES = 2 * 2**30  # memory that a cell may need: replay memory of 50,000 flat features, and the libraries
_PATIENCE = 60.0  # seconds for a process that was asked to stop to write its checkpoint


class Engine(Protocol):
    """Computes cells. One that fails does not stop the others."""

    def run(self, specs: Sequence[CellSpec], *, stop: Event, started: Callable[[CellSpec], None], finished: Finished) -> None:
        """Compute all cells.

        Args:
            specs: Cells to compute, in this order as far as workers are free.
            stop: Event that asks for an end; cells under way keep their checkpoints.
            started: Function that is called with each cell when its work begins.
            finished: Function that is called with each cell and its result, in the calling thread.

        Raises:
            InterruptedRunError: `stop` was set.
        """


@dataclass
class _Worker:
    """A process that computes a cell, and where its error messages go."""

    spec: CellSpec
    process: subprocess.Popen[str]
    errors: IO[str]
    began: float

    def result(self) -> CellResult:
        """Return the result of a process that has ended."""
        output, _ = self.process.communicate()
        code = self.process.returncode
        with self.errors as errors:
            errors.seek(0)
            message = errors.read()
        if code == 0:
            return CellResult.parse(json.loads(output.splitlines()[-1]), f"the result of {self.spec.title}")
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else _last_line(message)
        return self.spec.failed(reason, time.monotonic() - self.began)


class LocalEngine:
    """One process for each cell, several at a time, each with its share of the threads.

    A process of its own gives a cell's memory back when it ends, and when the system kills it, one cell has failed.

    Args:
        jobs: Number of processes at a time, at least 1. The default is the number of cores, or fewer where memory is short.
        threads: Number of threads of each.

    Raises:
        InputError: A number is less than 1.
    """

    def __init__(self, jobs: int | None = None, threads: int = 1) -> None:
        memory = free_memory()
        jobs = max(1, min(cores() // threads, memory // _CELL_BYTES)) if jobs is None else jobs
        if min(jobs, threads) < 1:
            raise InputError(f"jobs and threads must be at least 1, got {jobs} and {threads}")
        self.jobs, self.threads = jobs, threads
        self._bytes = memory // jobs

    def run(self, specs: Sequence[CellSpec], *, stop: Event, started: Callable[[CellSpec], None], finished: Finished) -> None:
        """See `Engine`."""
        waiting, running = list(specs), list[_Worker]()
        try:
            while (waiting or running) and not stop.is_set():
                while waiting and len(running) < self.jobs:
                    running.append(self._start(waiting.pop(0)))
                    started(running[-1].spec)
                for worker in [worker for worker in running if worker.process.poll() is not None]:
                    running.remove(worker)
                    finished(worker.spec, worker.result())
                time.sleep(_SECONDS)
        finally:
            _stop_all([worker.process for worker in running])
        if stop.is_set():
            raise InterruptedRunError("interrupted; go on with the same command")

    def _start(self, spec: CellSpec) -> _Worker:
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed when the result is read
        process = subprocess.Popen(
            [sys.executable, "-m", "pretrainrl.benchmarking.worker", str(self._bytes)],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # one line, at the end
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the process that shows progress; it asks the others to stop
        )
        assert process.stdin is not None
        process.stdin.write(spec.model_dump_json())
        process.stdin.close()
        process.stdin = None
        return _Worker(spec, process, errors, time.monotonic())


class RayEngine:
    """Workers of a Ray cluster, one core for each cell.

    The package is installed on every node; datasets and features are built there when they are first needed.

    Args:
        address: Address of the cluster, `auto` for the one that this machine belongs to, or `local` for one that is started.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: No cluster answers at the address.
    """

    def __init__(self, address: str = "auto") -> None:
        self._ray = require("ray", "ray")
        try:
            _knock(address)
            self._ray.init(None if address == "local" else address, log_to_driver=False, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]})") from error

    def run(self, specs: Sequence[CellSpec], *, stop: Event, started: Callable[[CellSpec], None], finished: Finished) -> None:
        """See `Engine`."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=2)(_run_on_a_node)
        pending = {remote.remote(spec.model_dump_json()): spec for spec in specs}
        for spec in specs:
            started(spec)
        while pending and not stop.is_set():
            done, _ = ray.wait(list(pending), timeout=_SECONDS)
            for reference in done:
                spec = pending.pop(reference)
                finished(spec, _result_of_ray(ray, reference, spec))
        for reference in pending:
            ray.cancel(reference)
        if stop.is_set():
            raise InterruptedRunError("interrupted; go on with the same command")

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


@contextmanager
def open_engine(name: str, *, jobs: int | None = None, address: str = "auto") -> Iterator[Engine]:
    """Make an engine by name, `local` or `ray`.

    Raises:
        InputError: The name is another one, or no cluster answers.
        MissingExtraError: Ray is not installed.
    """
    if name == "local":
        yield LocalEngine(jobs)
    elif name == "ray":
        engine = RayEngine(address)
        try:
            yield engine
        finally:
            engine.close()
    else:
        raise InputError(f"engine must be local or ray, got {name!r}")


def _knock(address: str) -> None:
    """Raise an `OSError` when nobody listens at an address with a port; Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_ANSWER).close()


def _run_on_a_node(text: str) -> str:
    """Compute a cell as this machine's own engine does, in a process with one thread."""
    found: list[CellResult] = []
    spec = CellSpec.parse(json.loads(text), "a cell")
    LocalEngine(1).run([spec], stop=Event(), started=lambda _: None, finished=lambda _, result: found.append(result))
    return found[0].model_dump_json()


def _result_of_ray(ray: Any, reference: Any, spec: CellSpec) -> CellResult:
    try:
        return CellResult.parse(json.loads(ray.get(reference)), f"the result of {spec.title}")
    except (ray.exceptions.RayError, PretrainRLError) as error:
        return spec.failed(_last_line(str(error)), 0.0)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "ended without a word"


def _stop_all(processes: Sequence[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
