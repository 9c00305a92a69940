"""How long a report of a whole benchmark takes: 12 encoders, 65 games, 3 seeds, 2 tasks, 100 games of evaluation each."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from support.report import parser, report

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from benchmark_grid import write_grid

import pretrainrl
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.games import all_scores


def whole_suite() -> Suite:
    """Return a suite of Atari-PB's 65 games and two tasks."""
    games: dict[str, list[str]] = {"id": [], "near_ood": [], "far_ood": []}
    for game, facts in all_scores().items():
        games[facts.split].append(game)
    tasks = {
        "bc": {"agent": "bc", "preset": "short", "length": 10, "dataset": "pretrainrl/atari/{game}-expert-v0"},
        "rainbow": {"agent": "rainbow", "preset": "short", "length": 50_000},
    }
    table = {"name": "whole", "version": 1, "title": "Sixty-five games", "summary": "Results that nobody ran.", "seeds": 3}
    table |= {"backbone": "impala", "encoders": ["atc"], "games": games, "tasks": tasks}
    return Suite.parse(table | {"evaluation": {"episodes": 100, "max_episode_steps": 27_000}}, "whole.toml")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, help="keep the results and the report in this folder")
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        suite = whole_suite()
        suite.write(folder / "whole.toml")
        cells = write_grid(folder, suite, episodes=100)
        began, before = time.perf_counter(), time.process_time()
        page = pretrainrl.report(folder, suite=folder / "whole.toml").page
        seconds, busy = time.perf_counter() - began, time.process_time() - before
        size = page.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [
        ["", "measured", "target"],
        ["seconds", f"{seconds:.1f}", "at most 60"],
        ["seconds of a core", f"{busy:.1f}", ""],
        ["peak memory, MB, with that of making the results", f"{peak:,.0f}", "at most 1,000"],
        ["page, MB", f"{size:.1f}", ""],
    ]
    remark = (
        f"`pretrainrl.report` on {cells:,} cells, three baselines included; seconds of a core do not depend on other programs."
    )
    report("benchmark_report", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
