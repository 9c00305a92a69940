"""Run a benchmark: only the cells that are missing, each kept when it is finished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pretrainrl.arguments import MAX_PROCESSES, check_counts
from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.display import BenchmarkDisplay
from pretrainrl.benchmarking.engines import Engine, open_engine
from pretrainrl.benchmarking.plan import SUITE, plan_benchmark
from pretrainrl.benchmarking.results import BenchmarkResult, CellResult, ResultStore
from pretrainrl.runs.folder import exclusive_folder
from pretrainrl.runs.interrupt import stop_requests


def benchmark(
    suite: str | Path,
    *,
    encoders: str | Sequence[str] | None = None,
    tasks: str | Sequence[str] | None = None,
    games: str | Sequence[str] | None = None,
    seeds: int | None = None,
    baselines: bool = True,
    out: str | Path | None = None,
    engine: str = "local",
    address: str = "auto",
    jobs: int | None = None,
    retry: bool = False,
    progress: bool = True,
) -> BenchmarkResult:
    """Compare encoders by a suite's protocol.

    Results are files in `<out>/cells`, one for each cell: a task on a game with an encoder and a seed. Cells that have a
    result are not computed again, so an interrupted call goes on with the next one, and a suite with a longer budget extends
    the cells that there are.

    Args:
        suite: Name of a registered suite, or path of a TOML file.
        encoders: Names, run folders or card files of encoders, as a sequence or with commas between them; `all` stands for
            those of the suite, which are the default.
        tasks: Names of the suite's tasks. The default is all of them.
        games: Games of the suite. The default is all of them.
        seeds: Number of seeds, from 0. The default is the suite's.
        baselines: Whether the suite's baselines run too: its backbone untrained and frozen, the same backbone trained end to
            end, and NatureCNN trained end to end.
        out: Folder of results, by default `results/<suite>`.
        engine: Engine that computes the cells: `local` for processes of this machine, `ray` for a Ray cluster.
        address: Address of the Ray cluster.
        jobs: Number of local processes at a time. The default is the number of cores.
        retry: Whether cells that failed are computed again.
        progress: Whether to show a progress bar.

    Returns:
        Results of all cells asked for that are finished, and those that failed.

    Raises:
        PretrainRLError: A name, number or folder does not fit, another process computes in the folder, or no cluster answers.
        InterruptedRunError: SIGINT or SIGTERM asked to stop.
    """
    check_counts(MAX_PROCESSES, jobs=jobs)
    plan = plan_benchmark(suite, encoders=encoders, tasks=tasks, games=games, seeds=seeds, baselines=baselines, out=out)
    missing = plan.missing(retry=retry)
    if missing:
        with (
            open_engine(engine, jobs=jobs, address=address) as workers,
            exclusive_folder(plan.folder),
            BenchmarkDisplay(plan, disable=not progress) as display,
        ):
            plan.suite.write(plan.folder / SUITE)
            _compute(workers, missing, plan.store, display)
    keys = {spec.cell.key for spec in plan.specs}
    found = [result for result in plan.store if result.key in keys]
    return BenchmarkResult(plan.folder, plan.suite.name, tuple(found), len(plan.specs))


def _compute(engine: Engine, specs: Sequence[CellSpec], store: ResultStore, display: BenchmarkDisplay) -> None:
    """Compute cells; each result is written when it comes."""

    def finished(spec: CellSpec, result: CellResult) -> None:
        store.write(result, spec.cell)
        display.finished(spec, result)

    with stop_requests() as stop:
        engine.run(specs, stop=stop, started=display.started, finished=finished)
