"""`benchmark`: compare encoders by a suite's protocol, or say what that takes and how far it is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from pretrainrl.progress import plain_console

if TYPE_CHECKING:
    from pretrainrl.benchmarking.plan import BenchmarkPlan
    from pretrainrl.benchmarking.results import BenchmarkResult, CellResult
    from pretrainrl.benchmarking.suite import Suite

console = plain_console()


class _RunByDefault(TyperGroup):
    """Commands of which `run` need not be written: `benchmark atari-mini` is `benchmark run atari-mini`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help="Compare encoders by the protocol of a suite: `benchmark SUITE` runs it.",
    no_args_is_help=True,
)

SuiteName = Annotated[str, typer.Argument(help="Name of a suite, or path of its TOML file.")]
Encoders = Annotated[
    str | None, typer.Option(help="Names or paths, with commas between them; `all` are the suite's, the default.")
]
Tasks = Annotated[str | None, typer.Option(help="Names of tasks, with commas; default: all.")]
Games = Annotated[str | None, typer.Option(help="Names of games, with commas; default: all.")]
Seeds = Annotated[int | None, typer.Option(min=1, help="Number of seeds; default: the suite's.")]
Baselines = Annotated[bool, typer.Option(help="Also run an untrained encoder and learning end to end.")]
Results = Annotated[Path | None, typer.Option(help="Folder of results; default results/<suite>.")]


@app.command("run")
def benchmark(
    suite: SuiteName,
    encoders: Encoders = None,
    tasks: Tasks = None,
    games: Games = None,
    seeds: Seeds = None,
    baselines: Baselines = True,
    out: Results = None,
    engine: Annotated[str, typer.Option(help="local, or ray for a cluster.")] = "local",
    address: Annotated[str, typer.Option(help="Address of the Ray cluster.")] = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes at a time; default: number of cores.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Compute failed cells again.")] = False,
) -> None:
    """Compare encoders by the protocol of SUITE. What is finished is not computed again."""
    from pretrainrl.benchmarking.suite import find_suite

    protocol = find_suite(suite)  # before the imports, which take seconds

    import pretrainrl

    result = pretrainrl.benchmark(
        suite,
        encoders=encoders,
        tasks=tasks,
        games=games,
        seeds=seeds,
        baselines=baselines,
        out=out,
        engine=engine,
        address=address,
        jobs=jobs,
        retry=retry,
    )
    _show(result, protocol)
    if result.failed:
        _show_failures(result.failed)
        raise typer.Exit(1)


@app.command("plan")
def plan(
    suite: SuiteName,
    encoders: Encoders = None,
    tasks: Tasks = None,
    games: Games = None,
    seeds: Seeds = None,
    baselines: Baselines = True,
    out: Results = None,
) -> None:
    """Say which cells `benchmark SUITE` would compute, and the hours and the disk that it would take here."""
    import pretrainrl

    planned = pretrainrl.plan_benchmark(
        suite, encoders=encoders, tasks=tasks, games=games, seeds=seeds, baselines=baselines, out=out
    )
    _show_plan(planned)
    names = ", ".join(planned.datasets) or "none"
    console.print(f"datasets: {names}", highlight=False, soft_wrap=True)
    console.print(f"disk: at most {planned.disk / 2**30:.1f} GiB for their frames and features", highlight=False)


@app.command("status")
def status(folder: Annotated[Path, typer.Argument(help="Folder of results.")]) -> None:
    """Say how far the results in FOLDER are, and which cells failed."""
    import pretrainrl

    planned = pretrainrl.benchmark_status(folder)
    _show_plan(planned)
    _show_failures(planned.store.failures())


def _show_failures(failures: Iterable[CellResult]) -> None:
    """Print each cell that failed, and why."""
    for one in failures:
        console.print(f"failed: {one.task} {one.game} {one.encoder} seed {one.seed}: {one.error}", soft_wrap=True)


def _show_plan(planned: BenchmarkPlan) -> None:
    """Print the cells of each task and encoder, and the hours that are left."""
    table = Table(title=f"{planned.suite.name} in {planned.folder}", title_justify="left")
    for heading in ("task", "encoder", "cells", "done", "failed", "minutes each", "hours left, one core"):
        table.add_column(heading, justify="left" if heading in ("task", "encoder") else "right")
    for row in planned.rows:
        known = row.minutes is not None
        each = f"{row.minutes:.1f}{'' if row.measured else ' (suite)'}" if known else "unknown"
        left = f"{row.missing_minutes / 60:.1f}" if known else "unknown"
        table.add_row(row.task, row.encoder, str(row.cells), str(row.done), str(row.failed), each, left)
    console.print(table)
    unknown = f", and {', '.join(planned.unknown)}, of which nothing is known" if planned.unknown else ""
    console.print(f"about {planned.hours:.1f} hours on this machine's cores{unknown}", highlight=False, soft_wrap=True)


def _show(result: BenchmarkResult, suite: Suite) -> None:
    """Print the ranking of each task and split."""
    from pretrainrl.benchmarking.table import compare, rank
    from pretrainrl.errors import InputError

    for task in suite.tasks:
        for split in suite.games:
            try:
                comparison = compare(result.results, suite, task, split)
            except InputError:
                continue
            table = Table(
                title=f"{task}, {split}: {len(comparison.games)} games, {len(comparison.seeds)} seeds", title_justify="left"
            )
            for heading in ("encoder", "IQM", "95 % interval", "median", "mean"):
                table.add_column(heading, justify="left" if heading == "encoder" else "right")
            for row in rank(comparison):
                iqm = row.metrics["iqm"]
                others = [f"{row.metrics[name].value:.3f}" for name in ("median", "mean")]
                table.add_row(row.encoder, f"{iqm.value:.3f}", f"{iqm.low:.3f} to {iqm.high:.3f}", *others)
            console.print(table)
    done = sum(found.status == "done" for found in result.results)
    console.print(f"{done} of {result.planned} cells in {result.folder}", soft_wrap=True)
