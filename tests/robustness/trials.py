"""Trials in forked processes: each has a seed, a folder, a time limit, a memory limit and a watch over what it may do."""

import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from pretrainrl.errors import PretrainRLError

SAME, CHANGED, REFUSED = "same", "changed", "refused"
MEMORY = 1 << 30  # bytes that a trial may take beyond what is there when it begins
WORKER_TRIALS = 200  # after which a new process begins
_ODD_MODULES = ("antigravity", "this", "turtle", "canary")  # nothing imports them but what a card or a file names
_ODD_EVENTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "pty.spawn")

Trial = Callable[[Random, Path], str]


class Fault(Exception):
    """A trial has found a fault of the kind `kind`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Target:
    """What is tried.

    Attributes:
        name: Name on the command line and in the table.
        prepare: Function that writes what is whole into a folder, once.
        start: Function that reads that folder and returns the trial. A trial gets its random numbers and an empty folder, and
            returns `same` or `changed`, for what was accepted with the same meaning or, where no checksum covers it, another.
        seconds: Time limit of a trial, in seconds.
        watched: Whether a trial must start no program and write nothing outside its folder.
    """

    name: str
    prepare: Callable[[Path], None]
    start: Callable[[Path], Trial]
    seconds: float = 20.0
    watched: bool = True


@dataclass
class Tally:
    """What the trials of one target came to: a count of each outcome, and the faults by what raised them."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def trials(self) -> int:
        """Number of trials."""
        return sum(self.counts.values())

    def add(self, outcome: str, place: str, number: int) -> None:
        """Count the trial `number`."""
        self.counts[outcome] += 1
        if outcome not in (SAME, CHANGED, REFUSED):
            self.faults.setdefault((outcome, place), []).append(number)


def run_target(target: Target, folder: Path, seed: int, first: int, *, until: float, most: int, tally: Tally) -> int:
    """Run trials from number `first` on, until the clock shows `until` or `most` are done; returns the next number."""
    began, number = time.monotonic(), first
    while number < first + most and time.monotonic() < until:
        number = _run_worker(target, folder, seed, number, min(number + WORKER_TRIALS, first + most), until, tally)
    tally.seconds += time.monotonic() - began
    return number


def in_child(work: Callable[[], None]) -> None:
    """Call a function in a process of its own, so that its threads and memory end with it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the preparation failed")


def trial_once(target: Target, trial: Trial, seed: int, number: int) -> str:
    """Run one trial in this process, in a folder of its own that is removed in the end."""
    rng = Random(f"{target.name}:{seed}:{number}")
    with tempfile.TemporaryDirectory(prefix="trial-") as name:
        folder, before = Path(name), Path.cwd()
        os.environ.update(PRETRAINRL_HOME=f"{name}/home", MINARI_DATASETS_PATH=f"{name}/sets")
        os.chdir(name)
        if target.watched:
            _watch.begin(folder)
        try:
            outcome = trial(rng, folder)
        finally:
            os.chdir(before)
        _watch.end()
        return outcome


def _run_worker(target: Target, folder: Path, seed: int, first: int, stop: int, until: float, tally: Tally) -> int:
    """Fork a process that runs trials until one ends it; returns the number of the next trial."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _work(target, folder, seed, range(first, stop), until, writer)
    os.close(writer)
    number, limit = first - 1, 120.0  # the start reads what is whole
    with os.fdopen(reader, "rb", 0) as pipe:
        while message := _next_message(pipe, limit):
            if message is _LATE:
                os.kill(child, signal.SIGKILL)
                break
            if message[0] == "begin":
                number, limit = message[1], target.seconds
            else:
                tally.add(message[1], message[2], number)
                limit = 120.0
    status = os.waitpid(child, 0)[1]
    if number < first and (message is _LATE or status):
        raise RuntimeError(f"{target.name}: what is whole cannot be read; FUZZ_LOUD=1 shows why")
    if message is _LATE:
        tally.add("hang", f"more than {target.seconds:g} s", number)
    elif status:
        ended = os.waitstatus_to_exitcode(status)
        tally.add("crash", f"ended by {signal.Signals(-ended).name}" if ended < 0 else "exit", number)
    return number + 1


_LATE: Any = ("late",)


def _next_message(pipe: Any, seconds: float) -> Any:
    """Return the next line of the pipe, None at its end, `_LATE` where none comes in time."""
    if not select.select([pipe], [], [], seconds)[0]:
        return _LATE
    line = pipe.readline()
    return json.loads(line) if line else None


def _work(target: Target, folder: Path, seed: int, numbers: range, until: float, writer: int) -> None:
    """Run trials in this forked process and tell their outcomes; never returns."""
    silence = os.open(os.devnull, os.O_RDWR)
    if "FUZZ_LOUD" not in os.environ:
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
    status = 1
    try:
        trial = target.start(folder)
        sys.addaudithook(_watch.hook)
        with os.fdopen(writer, "w") as pipe:
            for number in numbers:
                if time.monotonic() > until:
                    break
                print(json.dumps(("begin", number)), file=pipe, flush=True)
                print(json.dumps(("end", *_outcome(target, trial, seed, number))), file=pipe, flush=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _outcome(target: Target, trial: Trial, seed: int, number: int) -> tuple[str, str]:
    _limit_memory()
    try:
        return trial_once(target, trial, seed, number), ""
    except PretrainRLError:
        return (REFUSED, "") if not _watch.seen else ("ran code", _watch.seen[0])
    except Fault as fault:
        return fault.kind, str(fault)[:160]
    except MemoryError as error:
        return "memory", _place_of(error)
    except BaseException as error:
        return "traceback", _place_of(error)


def _place_of(error: BaseException) -> str:
    """Return the kind of an error and the package's line that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/robustness/" not in frame.filename]
    ours = [frame for frame in frames if "/pretrainrl/" in frame.filename or "/integrations/" in frame.filename]
    last = (ours or frames or traceback.extract_tb(error.__traceback__))[-1]
    return f"{type(error).__name__} in {'/'.join(Path(last.filename).parts[-2:])}:{last.name}: {str(error)[:80]!r}"


def _limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)  # processes that a trial starts set limits of their own
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Watch:
    """Notes, while a trial runs, programs that are started, connections, odd imports, and files written elsewhere."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []

    def begin(self, folder: Path) -> None:
        self.folder, self.seen = str(folder), []

    def end(self) -> None:
        self.folder = None
        if self.seen:
            raise Fault("ran code", self.seen[0])

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note one of Python's audit events."""
        if self.folder is None:
            return
        odd = event in _ODD_EVENTS or (event == "import" and str(arguments[0]).split(".")[0] in _ODD_MODULES)
        if event == "open" and isinstance(arguments[0], str) and isinstance(arguments[2], int):
            written = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            path = os.path.abspath(arguments[0])  # noqa: PTH100  # it may be `..` that leads out
            odd = bool(written) and not path.startswith((self.folder, "/dev/", "/proc/"))
        if odd:
            self.seen.append(f"{event} {str(arguments[0])[:100]}")


_watch = _Watch()


def mutated(folder: Path, whole: Path) -> Path:
    """Copy the folder or file `whole` into a trial's folder."""
    target = folder / whole.name
    if whole.is_dir():
        shutil.copytree(whole, target)
    else:
        shutil.copy(whole, target)
    return target
