"""`benchmark`: compare encoders by a suite's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pretrainrl.benchmarking.results import BenchmarkResult
    from pretrainrl.benchmarking.suite import Suite

console = Console()


def benchmark(
    suite: Annotated[str, typer.Argument(help="Name of a suite, or path of its TOML file.")],
    encoders: Annotated[
        str | None, typer.Option(help="Names or paths, with commas between them; `all` are the suite's, the default.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="Names of tasks, with commas; default: all.")] = None,
    games: Annotated[str | None, typer.Option(help="Names of games, with commas; default: all.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds; default: the suite's.")] = None,
    baselines: Annotated[bool, typer.Option(help="Also run an untrained encoder and learning end to end.")] = True,
    out: Annotated[Path | None, typer.Option(help="Folder of results; default results/<suite>.")] = None,
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
        for failure in result.failed:
            console.print(f"failed: {failure.task} {failure.game} {failure.encoder} seed {failure.seed}: {failure.error}")
        raise typer.Exit(1)


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
    console.print(f"{done} of {result.planned} cells in {result.folder}", highlight=False, soft_wrap=True)
