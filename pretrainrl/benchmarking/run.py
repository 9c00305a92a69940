"""Run a benchmark: only the cells that are missing, each kept when it is finished."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pretrainrl.benchmarking.cells import END_TO_END, CellSpec, Entrant
from pretrainrl.benchmarking.engines import Engine, open_engine
from pretrainrl.benchmarking.results import BenchmarkResult, CellResult, ResultStore
from pretrainrl.benchmarking.suite import Suite, find_suite
from pretrainrl.cards import BACKBONES, ENCODERS, find_card
from pretrainrl.errors import InputError
from pretrainrl.progress import progress_bar
from pretrainrl.runs.interrupt import stop_requests
from pretrainrl.runs.pool import cores

ALL = "all"


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
        PretrainRLError: A name, number or folder does not fit, or no cluster answers.
        InterruptedRunError: SIGINT or SIGTERM asked to stop.
    """
    protocol = find_suite(suite)
    folder = Path("results") / protocol.name if out is None else Path(out).expanduser()
    store = ResultStore(folder, protocol.name, protocol.version)
    specs = plan_cells(
        protocol, _names(encoders), _names(tasks), _names(games), seeds, baselines=baselines, runs=folder / "runs"
    )
    by_cell = {spec.cell.key: spec for spec in specs}
    missing = [by_cell[cell.key] for cell in store.missing([spec.cell for spec in specs], retry=retry)]
    if missing:
        with open_engine(engine, jobs=cores() if jobs is None else jobs, address=address) as workers:
            _compute(workers, missing, store, done=len(specs) - len(missing), progress=progress)
    found = [result for result in store if result.key in by_cell]
    return BenchmarkResult(folder, protocol.name, tuple(found), len(specs))


def plan_cells(
    suite: Suite,
    encoders: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    games: Sequence[str] | None = None,
    seeds: int | None = None,
    *,
    baselines: bool = True,
    runs: Path = Path("runs"),
) -> list[CellSpec]:
    """List the cells of a benchmark, all encoders of a game before the next game, so that unfinished results compare.

    Raises:
        PretrainRLError: A name or number does not fit.
    """
    entrants = find_entrants(suite, encoders, baselines=baselines)
    cells = suite.select(tasks, games, seeds)
    return [CellSpec.of(suite, task, game, seed, entrant, runs) for task, game, seed in cells for entrant in entrants]


def find_entrants(suite: Suite, encoders: Sequence[str] | None = None, *, baselines: bool = True) -> list[Entrant]:
    """Find all encoders that take part, and the digests of their weights.

    Raises:
        InputError: Nothing takes part.
        PretrainRLError: An encoder does not exist, or its weights cannot be had.
    """
    named = [ALL] if encoders is None else list(encoders)
    names = [name for given in named for name in (suite.encoders if given == ALL else (given,))]
    entrants = [_entrant(name) for name in names]
    if baselines:
        entrants.append(_entrant(f"random.{suite.backbone}"))
        for backbone in dict.fromkeys((suite.backbone, "nature")):
            start = _entrant(f"random.{backbone}")
            entrants.append(start.model_copy(update={"name": f"{END_TO_END}{backbone}", "frozen": False}))
    if not entrants:
        raise InputError("name at least one encoder, or let the baselines run")
    return list({entrant.name: entrant for entrant in entrants}.values())


def _names(given: str | Sequence[str] | None) -> list[str] | None:
    """Split names with commas between them."""
    if given is None:
        return None
    return [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)


def _entrant(name: str) -> Entrant:
    from pretrainrl.encoders import cached_encoder

    card = find_card(name)
    registered = name in ENCODERS.names() or name in {f"random.{backbone}" for backbone in BACKBONES.names()}
    return Entrant(name=card.name if registered else Path(name).name, encoder=name, sha256=cached_encoder(name).sha256)


def _compute(engine: Engine, specs: Sequence[CellSpec], store: ResultStore, *, done: int, progress: bool) -> None:
    """Compute cells under one progress bar; each result is written when it comes."""
    with stop_requests() as stop, progress_bar(disable=not progress) as bar:
        row = bar.add_task(store.suite, total=len(specs) + done, completed=done, note="")

        def finished(spec: CellSpec, result: CellResult) -> None:
            store.write(result, spec.cell)
            bar.update(row, advance=1, note=f"{spec.title}: {result.error or f'{result.score:.1f}'}")

        engine.run(specs, stop=stop, started=lambda spec: bar.update(row, description=spec.title), finished=finished)
