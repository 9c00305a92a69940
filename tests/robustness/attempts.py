"""One attempt at a job in a forked process, which a signal ends at a time or at a file operation that a seed chooses."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from pretrainrl.games import silence_emulator
from pretrainrl.malloc import keep_freed_memory

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "shutil.rmtree", "shutil.move"}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Kill:
    """When and how an attempt ends.

    Attributes:
        signal: Signal that is sent.
        operation: Number of the file operation before which it is sent; None where a clock decides.
        seconds: Seconds after which it is sent.
        group: Whether all processes of the attempt get it, as from a terminal, or the first one alone.
    """

    signal: signal.Signals
    operation: int | None
    seconds: float
    group: bool

    @classmethod
    def draw(cls, rng: Random, operations: int, seconds: float) -> "Kill":
        """Draw one for a job that takes so many file operations and seconds."""
        by_operation = rng.random() < 0.7
        number = signal.Signals(rng.choice(SIGNALS))
        operation = rng.randint(1, max(1, operations)) if by_operation else None
        return cls(number, operation, rng.uniform(0, 1.1 * seconds), number != signal.SIGTERM or rng.random() < 0.5)


@dataclass(frozen=True)
class End:
    """How an attempt ended: exit code, negative for a signal; None where the time limit ended it."""

    code: int | None
    operations: int
    seconds: float
    log: str


def attempt(run: Callable[[], None], folder: Path, kill: Kill | None, limit: float) -> End:
    """Run a job in `folder`, in a process group of its own, and end it as `kill` says."""
    log = folder.with_name(f"{folder.name}.log")
    began = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _run(run, folder, kill, log, writer)
    os.close(writer)
    with contextlib.suppress(OSError):  # whoever of the two is first makes the group
        os.setpgid(child, child)
    due = began + kill.seconds if kill is not None and kill.operation is None else began + limit
    status = _wait(child, due)
    if status is None and kill is not None and kill.operation is None:
        (os.killpg if kill.group else os.kill)(child, kill.signal)
        status = _wait(child, began + limit)
    late = status is None
    if late:
        os.killpg(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    assert status is not None
    _kill_rest(child)
    with os.fdopen(reader, "rb") as pipe:
        counted = len(pipe.read())
    code = None if late else os.waitstatus_to_exitcode(status)
    return End(code, counted, time.monotonic() - began, log.read_text(errors="replace") if log.exists() else "")


def _wait(child: int, due: float) -> int | None:
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > due:
            return None
        time.sleep(0.005)


def _kill_rest(group: int) -> None:
    """End what the first process has left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _run(run: Callable[[], None], folder: Path, kill: Kill | None, log: Path, writer: int) -> None:
    """Run the job in this forked process; never returns."""
    os.setpgid(0, 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    code = 1
    try:
        _prepare(folder)
        sys.addaudithook(_Counter(folder, kill, writer))
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not _in_package(error):
            code = 130  # it came before the package's code ran, or after
        else:
            traceback.print_exc()
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading._shutdown()  # type: ignore[attr-defined]  # as at the end of a program
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _in_package(error: BaseException) -> bool:
    return any("/pretrainrl/" in frame.filename for frame in traceback.extract_tb(error.__traceback__))


def _prepare(folder: Path) -> None:
    temporary = folder.with_name(f"{folder.name}.tmp")
    temporary.mkdir(exist_ok=True)
    os.environ.update(PRETRAINRL_HOME=str(folder / "home"), MINARI_DATASETS_PATH=str(folder / "sets"), TMPDIR=str(temporary))
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    silence_emulator()
    keep_freed_memory()


class _Counter:
    """Audit hook that counts the operations on files in a folder, and sends the signal before one of them."""

    def __init__(self, folder: Path, kill: Kill | None, writer: int) -> None:
        self._folder, self._kill, self._writer, self._count = str(folder), kill, writer, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in _CHANGES:
            return
        if not isinstance(arguments[0], (str, os.PathLike)) or not str(Path(arguments[0]).absolute()).startswith(self._folder):
            return
        self._count += 1
        os.write(self._writer, b".")
        if self._kill is not None and self._kill.operation == self._count:
            (os.killpg if self._kill.group else os.kill)(os.getpid(), self._kill.signal)
