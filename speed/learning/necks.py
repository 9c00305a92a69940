"""Compare necks between frozen encoders and agents: make the runs that are missing, and keep their results.

The results lie in `--out`, one file a run, each written whole; a run that has one is not made again, so what was killed goes
on with the next call. Behaviour cloning takes seconds a run, Rainbow minutes, each of one core. Features of datasets are kept
in PRETRAINRL_HOME and shared by all runs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from neck_cells import ENCODERS, GAMES, SEEDS, STEPS, TASKS, Cell, check_games, select_cells

from pretrainrl.errors import InputError, PretrainRLError
from pretrainrl.runs.folder import require_same

DOCS = Path(__file__).resolve().parents[2] / "docs" / "learning" / "necks.csv"
FEWEST = 10_000  # transitions of a recorded set, of which fewer are for trying it
COLUMNS = ("task", "game", "encoder", "features", "normalization", "neck", "embeddings", "seed", "score", "majority")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="bc, rainbow")
    parser.add_argument("--games", nargs="+", default=list(GAMES), help="ID games only")
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS))
    parser.add_argument("--necks", nargs="+", default=["*"], help="names as in the results, or patterns such as 'flat-*'")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="number of seeds, from 0")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of Rainbow; fewer are for trying it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time, each on one core")
    parser.add_argument("--out", type=Path, default=Path("runs/learning/necks"))
    parser.add_argument("--write", action="store_true", help="also keep the results in docs/learning/necks.csv")
    return parser.parse_args(arguments)


def missing_cells(cells: Sequence[Cell], out: Path, steps: int) -> list[Cell]:
    """Leave out the runs that have a result.

    Raises:
        InputError: When a result is of another number of steps, or damaged.
    """
    missing = []
    for cell in cells:
        if not cell.file(out).exists():
            missing.append(cell)
        else:
            made = read_result(cell, out).get("steps", steps)
            require_same({"steps": steps}, {"steps": made}, str(cell.file(out)), "give another --out")
    return missing


def read_result(cell: Cell, out: Path) -> dict[str, Any]:
    """Read the result of a run.

    Raises:
        InputError: When the file is damaged.
    """
    try:
        result: dict[str, Any] = json.loads(cell.file(out).read_text(encoding="utf-8"))
        float(result["score"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{cell.file(out)} is damaged ({error}); delete it and run again") from error
    return result


def run_all(cells: Sequence[Cell], out: Path, steps: int, jobs: int) -> None:
    """Make the runs that are missing, first the clones, `jobs` at a time."""
    missing = missing_cells(cells, out, steps)
    print(f"{len(cells) - len(missing)} of {len(cells)} runs are there", flush=True)
    for task, units in (("bc", 1), ("rainbow", steps)):
        if todo := [cell for cell in missing if cell.task == task]:
            run_task(task, todo, units, out, steps, jobs)


def run_task(task: str, todo: Sequence[Cell], units: int, out: Path, steps: int, jobs: int) -> None:
    """Make the runs of one task under one bar; each that has finished is printed, with the time left."""
    from neck_tasks import run_cell

    from pretrainrl.runs.pool import show_jobs

    by_name = {cell.name: cell for cell in todo}
    began, count = time.monotonic(), 0

    def finished(name: str, result: str) -> None:
        nonlocal count
        count += 1
        left = (time.monotonic() - began) / count * (len(todo) - count)
        print(f"{result}; {count} of {len(todo)}, about {left / 60:.0f} min left", flush=True)

    work = partial(run_cell, by_name, out, steps)
    show_jobs(work, list(by_name), jobs, total=units * len(todo), unit=task, finished=finished)


def write_results(out: Path, path: Path) -> None:
    """Keep what was found: a line for every run of the whole comparison, without a score where it was not made.

    Raises:
        InputError: When there are results of a game that is kept for tests, of fewer steps, or of too few transitions.
    """
    check_games(sorted({file.relative_to(out).parts[1] for file in out.glob("*/*/*/*/*.json")}))
    cells = select_cells()
    missing = set(missing_cells(cells, out, STEPS))
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for cell in cells:
            setting = cell.setting
            neck = (setting.features, setting.normalization or "none", setting.neck, setting.embeddings)
            found = {} if cell in missing else read_result(cell, out)
            if found.get("transitions", FEWEST) < FEWEST:
                raise InputError(f"{cell.file(out)} is of {found['transitions']:,} transitions; results need {FEWEST:,}")
            numbers = [f"{found[key]:.4f}" if key in found else "" for key in ("score", "majority")]
            rows.writerow((cell.task, cell.game, cell.encoder, *neck, cell.seed, *numbers))


def main(arguments: Sequence[str] | None = None) -> None:
    args = parse(arguments)
    try:
        cells = select_cells(args.tasks, args.games, args.encoders, args.necks, args.seeds)
        run_all(cells, args.out, args.steps, args.jobs)
        if args.write:
            write_results(args.out, DOCS)
    except PretrainRLError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
