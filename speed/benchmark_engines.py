"""Eight equal cells of a benchmark: with one local process, with one for each core, and on a Ray cluster of as many.

Each cell is Rainbow on features of an untrained encoder, in a process of its own with one thread; the time counts from the
first cell's start to the last one's result, processes' start included.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from threading import Event

from support.report import parser, report

from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.engines import Engine, LocalEngine, open_engine
from pretrainrl.benchmarking.plan import find_entrants
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.runs.pool import cores

CELLS = 8


def make_specs(steps: int, folder: Path) -> list[CellSpec]:
    table = {
        "name": "engines",
        "version": 1,
        "title": "Engines",
        "summary": "Equal cells.",
        "games": {"id": ["boxing"]},
        "tasks": {"rainbow": {"agent": "rainbow", "preset": "short", "length": steps}},
        "evaluation": {"episodes": 2, "max_episode_steps": 200},
        "seeds": CELLS,
        "backbone": "nature",
        "encoders": ["random.nature"],
    }
    suite = Suite.parse(table, "engines")
    (entrant,) = find_entrants(suite, baselines=False)
    return [CellSpec.of(suite, "rainbow", "boxing", seed, entrant, folder) for seed in range(CELLS)]


def seconds(engine: Engine, steps: int) -> float:
    """Time that the engine takes for all cells."""

    def finished(spec: CellSpec, result: CellResult) -> None:
        if result.error:
            raise SystemExit(f"{spec.title}: {result.error}")

    with tempfile.TemporaryDirectory() as folder:
        specs, start = make_specs(steps, Path(folder)), time.perf_counter()
        engine.run(specs, stop=Event(), started=lambda _: None, finished=finished)
        return time.perf_counter() - start


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=3_000, help="steps of each cell")
    args = arguments.parse_args()
    alone = seconds(LocalEngine(1), args.steps)
    together = seconds(LocalEngine(cores()), args.steps)
    with open_engine("ray", address="local") as engine:
        seconds(engine, 64)  # the cluster's own start
        remote = seconds(engine, args.steps)
    rows = [
        ["engine", "seconds", "beside one process"],
        ["local, one process", f"{alone:.0f}", "1.00x"],
        [f"local, {cores()} processes", f"{together:.0f}", f"**{alone / together:.2f}x**"],
        [f"Ray, {cores()} cores", f"{remote:.0f}", f"**{alone / remote:.2f}x**"],
    ]
    report("benchmark_engines", rows, f"{CELLS} cells of {args.steps:,} steps each.", write=args.write)


if __name__ == "__main__":
    main()
