"""Feeds damaged and hostile input to everything that reads, and says what came of it.

    PYTHONPATH=tests/support python tests/robustness/fuzz.py --minutes 10 --seed 1 [--targets cards caches]
    PYTHONPATH=tests/support python tests/robustness/fuzz.py --again cards:1:123     one trial, with its traceback

Every trial must end in a refusal (an error of `pretrainrl.errors`) or be accepted; what a checksum covers must then mean what
it meant. All else is a fault, and the exit code is 1.
"""

import argparse
import faulthandler
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200", "NO_COLOR": "1"}

import torch
from targets import TARGETS
from trials import CHANGED, REFUSED, SAME, Tally, Target, in_child, run_target, trial_once

from pretrainrl.games import silence_emulator

SLICE = 20.0  # seconds of a target before the next one has its turn


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _options()
    torch.set_num_threads(1)
    silence_emulator()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        if options.again:
            return _again(Path(folder), *options.again.split(":"))
        tallies = _run(options, Path(folder))
    print(_table(tallies, options.seed))
    return int(any(tally.faults for tally in tallies.values()))


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="Minutes of all targets together.")
    parser.add_argument("--trials", type=int, default=sys.maxsize, help="Most trials of each target.")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="Seed; default the clock.")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS), help="Default all.")
    parser.add_argument("--again", metavar="TARGET:SEED:NUMBER", help="Run one trial again.")
    return parser.parse_args()


def _run(options: Any, folder: Path) -> dict[str, Tally]:
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    tallies = {name: Tally() for name in options.targets}
    following = dict.fromkeys(tallies, 0)
    for name in tallies:
        _prepared(TARGETS[name], folder)
    end = time.monotonic() + 60 * options.minutes
    while following and time.monotonic() < end:
        for name in list(following):
            until = min(end, time.monotonic() + min(SLICE, 60 * options.minutes / len(tallies)))
            left = options.trials - following[name]
            where = folder / name
            following[name] = run_target(
                TARGETS[name], where, options.seed, following[name], until=until, most=left, tally=tallies[name]
            )
            if following[name] >= options.trials:
                del following[name]
    return tallies


def _prepared(target: Target, folder: Path) -> Path:
    whole = folder / target.name
    whole.mkdir()
    in_child(lambda: target.prepare(whole))
    return whole


def _again(folder: Path, name: str, seed: str, number: str) -> int:
    target = TARGETS[name]
    faulthandler.dump_traceback_later(target.seconds)
    print(trial_once(target, target.start(_prepared(target, folder)), int(seed), int(number)))
    return 0


def _table(tallies: dict[str, Tally], seed: int) -> str:
    lines = [
        "| target | trials | a minute | refused | accepted, same | accepted, no checksum | faults |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        faults = sum(map(len, tally.faults.values()))
        rate = 60 * tally.trials / max(tally.seconds, 1e-9)
        counts = [tally.trials, int(rate), *(tally.counts[each] for each in (REFUSED, SAME, CHANGED)), faults]
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |")
    for name, tally in tallies.items():
        for (kind, place), numbers in sorted(tally.faults.items(), key=lambda item: -len(item[1])):
            lines.append(f"{kind}: {len(numbers)} x, {place}; again with --again {name}:{seed}:{numbers[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
