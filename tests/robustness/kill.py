"""Kills every command that can be taken up again, at random, and compares what it ends with to a run that nobody killed.

    PYTHONPATH=tests/support python tests/robustness/kill.py --minutes 10 --seed 1 [--jobs pretrain collect]
    PYTHONPATH=tests/support python tests/robustness/kill.py --again pretrain:1:12

Of the signals, most are SIGKILL, sent before a file operation that the seed chooses; others come by the clock, which no seed
repeats. After each, the job begins again in the same folder. In the end every file must be as in a run that was not killed,
with none lost, none twice and none left over. The exit code is 1 where it is otherwise.
"""

import argparse
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200", "NO_COLOR": "1"}

import h5py
import torch
from attempts import End, Kill, attempt
from jobs import JOBS, Job, short_segments

MOST_KILLS = 4
MARKS = "home/checked"  # which HDF5 files have been looked at, by their times of change
_TIMES = re.compile(
    rb'^(minutes|summary|commit|hardware) = .*$|"(seconds|t_start|dataset_size|crc32|checksum)": [^,}]*', re.MULTILINE
)


@dataclass
class Tally:
    """What the trials of one job came to."""

    trials: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Reference:
    """What a job leaves when nobody kills it, and how long it takes."""

    files: dict[str, str]
    operations: int
    seconds: float


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _options()
    torch.set_num_threads(1)
    short_segments()
    tallies = {name: Tally() for name in options.jobs}
    folder = Path(tempfile.mkdtemp(prefix="kill-"))  # not TemporaryDirectory, which forked processes would remove
    try:
        if options.again:
            return _again(folder, *options.again.split(":"))
        _run(options, folder, tallies)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(_table(tallies, options.seed))
    return int(any(tally.faults for tally in tallies.values()))


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="Minutes of all jobs together.")
    parser.add_argument("--trials", type=int, default=sys.maxsize, help="Most trials of each job.")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="Seed; default the clock.")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS), help="Default all.")
    parser.add_argument("--again", metavar="JOB:SEED:NUMBER", help="Run one trial again, and show what it does.")
    return parser.parse_args()


def _again(folder: Path, name: str, seed: str, number: str) -> int:
    where = folder / name
    faults = trial(JOBS[name], where, reference(JOBS[name], where), int(seed), int(number), Tally(), loud=True)
    print(faults or "no fault")
    return int(bool(faults))


def _run(options: Any, folder: Path, tallies: dict[str, Tally]) -> None:
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    references: dict[str, Reference] = {}
    end = time.monotonic() + 60 * options.minutes
    following = list(tallies)
    for number in range(options.trials):
        for name in list(following):
            tally = tallies[name]
            if time.monotonic() > end:
                return
            began = time.monotonic()
            if name not in references:
                try:
                    references[name] = reference(JOBS[name], folder / name)
                except RuntimeError as error:
                    tally.faults["without a kill", str(error)] = [number]
                    following.remove(name)
                    continue
            for kind, what in trial(JOBS[name], folder / name, references[name], options.seed, number, tally):
                tally.faults.setdefault((kind, what), []).append(number)
            tally.trials += 1
            tally.seconds += time.monotonic() - began


def reference(job: Job, folder: Path) -> Reference:
    """Prepare a job's folder `before`, run it twice without a kill, and check that both runs left the same."""
    before = folder / "before"
    before.mkdir(parents=True)
    _succeed(attempt(job.prepare, before, None, job.seconds))
    found = []
    for name in ("one", "two"):
        shutil.copytree(before, folder / name)
        ended = _succeed(attempt(job.run, folder / name, None, job.seconds))
        found.append(Reference(files_of(folder / name), ended.operations, ended.seconds))
        shutil.rmtree(folder / name)
    if wrong := differences(found[0].files, found[1].files):
        raise RuntimeError(f"{job.name} leaves other files each time: {wrong}")
    return found[1]


def _succeed(end: End) -> End:
    if end.code != 0:
        raise RuntimeError(f"exit code {end.code}\n{end.log}")
    return end


def trial(
    job: Job, folder: Path, whole: Reference, seed: int, number: int, tally: Tally, *, loud: bool = False
) -> list[tuple[str, str]]:
    """Kill a job some times, let it end, and return the faults that were seen."""
    rng = Random(f"{job.name}:{seed}:{number}")
    here, faults = folder / "here", []
    shutil.copytree(folder / "before", here)
    try:
        for _ in range(rng.randint(1, MOST_KILLS)):
            kill = Kill.draw(rng, whole.operations, whole.seconds)
            ended = attempt(job.run, here, kill, job.seconds)
            faults += _faults_of(ended, kill)
            _tell(loud, kill, ended)
            if ended.code == 0:
                break
            tally.kills[kill.signal.name] += 1
            faults += _checked(job, here)
        ended = attempt(job.run, here, None, job.seconds)
        _tell(loud, None, ended)
        if ended.code != 0:
            last = next((line for line in reversed(ended.log.splitlines()) if line.strip()), "")
            return [*faults, ("not resumed", f"exit code {ended.code}: {_anonymous(last)}")]
        return faults + differences(whole.files, files_of(here))
    finally:
        shutil.rmtree(here, ignore_errors=True)
        shutil.rmtree(folder / "here.tmp", ignore_errors=True)


def _faults_of(ended: End, kill: Kill) -> list[tuple[str, str]]:
    """A killed process ends in time, without a traceback, and with an exit code that says what happened."""
    if ended.code is None:
        return [("hang", kill.signal.name)]
    if "Traceback (most recent call last)" in ended.log:
        return [("traceback", f"{kill.signal.name}: {_anonymous(ended.log.strip().splitlines()[-1])}")]
    allowed = {0, 130, -kill.signal} if kill.signal != 2 else {0, 130}
    return [] if ended.code in allowed else [("exit code", f"{kill.signal.name}: {ended.code}")]


def _checked(job: Job, here: Path) -> list[tuple[str, str]]:
    ended = attempt(job.check, here, None, 60)
    return [] if ended.code == 0 else [("lost", _anonymous(ended.log.strip().splitlines()[-1]))]


def _tell(loud: bool, kill: Kill | None, ended: End) -> None:
    if loud:
        print(f"{kill}\n  code {ended.code}, {ended.operations} operations, {ended.seconds:.1f} s\n{ended.log}")


def _anonymous(text: str) -> str:
    """Leave out of a message what is another one in each trial."""
    return re.sub(r"\S*/here/|(?<=\.)[0-9a-f]{8}\b|\bprocess \d+|/tmp/\S+?(?=here)", "", text)[:160]


def differences(expected: dict[str, str], found: dict[str, str]) -> list[tuple[str, str]]:
    """Return the files that are missing, that are left over, and that have another content."""
    return [
        *(("lost", name) for name in expected.keys() - found.keys()),
        *(("left over", _anonymous(name)) for name in found.keys() - expected.keys()),
        *(("differs", name) for name in expected.keys() & found.keys() if expected[name] != found[name]),
    ]


def files_of(folder: Path) -> dict[str, str]:
    """Return a digest of every file's content, without what depends on the time, and the folders that are empty."""
    files: dict[str, str] = {}
    before_the_last = {each for steps in folder.rglob("checkpoints") for each in sorted(steps.glob("step_*"))[:-1]}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if before_the_last.intersection((path, *path.parents)) or name.startswith(MARKS):
            continue  # an interruption writes a checkpoint where no other run has one
        if path.is_dir():
            if not any(path.iterdir()):
                files[f"{name}/"] = "empty"
        elif ".tfevents." in name:
            files[f"{Path(name).parent}/events"] = "TensorBoard's"
        else:
            content = _READERS.get(path.suffix, _plain)(path).replace(str(folder).encode(), b"")
            files[name] = hashlib.sha256(content).hexdigest()
    return files


def _plain(path: Path) -> bytes:
    return _TIMES.sub(b"", path.read_bytes())


def _hdf5(path: Path) -> bytes:
    parts: list[str] = []

    def visit(name: str, item: Any) -> None:
        content = (item.shape, str(item.dtype), item[()].tobytes()) if isinstance(item, h5py.Dataset) else ()
        parts.append(repr((name, content, sorted((key, str(value)) for key, value in item.attrs.items()))))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return "".join(parts).encode()


def _zip(path: Path) -> bytes:
    """Members of an agent or of arrays, but for Stable-Baselines3's record, which has the time of day in it."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(set(archive.namelist()) - {"data", "system_info.txt"})
        return b"".join(name.encode() + archive.read(name) for name in names)


def _state(path: Path) -> bytes:
    """Return a checkpoint's content without the seconds that the run has taken."""
    return _flat({key: value for key, value in torch.load(path, weights_only=True).items() if key != "seconds"})


def _flat(tree: Any) -> bytes:
    if isinstance(tree, dict):
        return b"".join(f"{key}:".encode() + _flat(tree[key]) for key in sorted(tree, key=str))
    if isinstance(tree, (list, tuple)):
        return b"".join(map(_flat, tree))
    return tree.numpy().tobytes() if isinstance(tree, torch.Tensor) else repr(tree).encode()


def _json(path: Path) -> bytes:
    """Return what is not a time; of checksums, only that they are there, because a checkpoint has a time in it."""
    return b"" if path.name == "checksums.json" else _plain(path)


def _csv(path: Path) -> bytes:
    """Rows; those of a monitor without their last column, the time."""
    lines = path.read_bytes().splitlines()
    return b"\n".join(line.rpartition(b",")[0] for line in lines[1:]) if lines[0].startswith(b"#") else b"\n".join(lines)


_READERS: dict[str, Callable[[Path], bytes]] = {
    ".hdf5": _hdf5,
    ".zip": _zip,
    ".npz": _zip,
    ".csv": _csv,
    ".pt": _state,
    ".json": _json,
}


def _table(tallies: dict[str, Tally], seed: int) -> str:
    lines = ["| command | trials | SIGKILL | SIGTERM | SIGINT | a trial takes | faults |", "|---|---|---|---|---|---|---|"]
    for name, tally in tallies.items():
        kills = " | ".join(f"{tally.kills[signal]:,}" for signal in ("SIGKILL", "SIGTERM", "SIGINT"))
        faults = len({number for numbers in tally.faults.values() for number in numbers})
        lines.append(f"| {name} | {tally.trials:,} | {kills} | {tally.seconds / max(1, tally.trials):.1f} s | {faults} |")
    for name, tally in tallies.items():
        for (kind, what), numbers in sorted(tally.faults.items(), key=lambda item: -len(item[1])):
            lines.append(f"{name}: {kind}: {len(numbers)} x, {what}; again with --again {name}:{seed}:{numbers[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
