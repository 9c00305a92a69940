"""What a benchmark is going to compute: its cells, and the hours and the disk that they take on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pretrainrl.arguments import MAX_PROCESSES, check_counts
from pretrainrl.benchmarking.cells import END_TO_END, CellSpec, Entrant
from pretrainrl.benchmarking.results import CellResult, ResultStore
from pretrainrl.benchmarking.suite import Suite, find_suite
from pretrainrl.cards import ENCODERS, find_card, find_encoder
from pretrainrl.errors import InputError
from pretrainrl.paths import output_folder, resolve_path
from pretrainrl.runs.pool import cores

ALL = "all"
SUITE = "suite.toml"  # in a folder of results
_FRAME, _FEATURE = 84 * 84, 2  # bytes of a raw frame and of one number of a cached feature


@dataclass(frozen=True)
class PlanRow:
    """The cells of one task and encoder.

    Attributes:
        task: Name of the task.
        encoder: Name of the encoder or baseline.
        cells: Number of cells.
        done: Number of cells that have a result.
        failed: Number of cells that failed.
        minutes: Minutes of one core that a cell takes; None where nothing is known of it.
        measured: Whether `minutes` is from cells in the folder, rather than from the suite's card.
    """

    task: str
    encoder: str
    cells: int
    done: int
    failed: int
    minutes: float | None
    measured: bool

    @property
    def missing_minutes(self) -> float:
        """Minutes of one core that the cells without a result take, failed ones left out."""
        return (self.cells - self.done - self.failed) * (self.minutes or 0.0)


@dataclass(frozen=True)
class BenchmarkPlan:
    """A benchmark that has not begun, or is partly done.

    Attributes:
        suite: The suite.
        folder: Folder of results.
        specs: Cells, all encoders of a game before the next game, so that unfinished results compare.
        rows: Cells by task and encoder.
        datasets: Minari ids of the datasets that the missing cells learn from.
        disk: Bytes that frames and features of these datasets take at most.
    """

    suite: Suite
    folder: Path
    specs: tuple[CellSpec, ...]
    rows: tuple[PlanRow, ...]
    datasets: tuple[str, ...]
    disk: int

    @property
    def store(self) -> ResultStore:
        """Results in the folder."""
        return ResultStore(self.folder, self.suite.name, self.suite.version)

    @property
    def hours(self) -> float:
        """Hours that the missing cells take with one job for each core of this machine, as far as it is known."""
        return sum(row.missing_minutes for row in self.rows) / 60 / cores()

    @property
    def unknown(self) -> tuple[str, ...]:
        """Tasks of whose cells nobody knows how long they take."""
        return tuple(dict.fromkeys(row.task for row in self.rows if row.minutes is None and row.cells > row.done + row.failed))

    def missing(self, *, retry: bool = False) -> list[CellSpec]:
        """Return the cells without a result, and with `retry` those that failed."""
        by_key = {spec.cell.key: spec for spec in self.specs}
        return [by_key[cell.key] for cell in self.store.missing([spec.cell for spec in self.specs], retry=retry)]


def plan_benchmark(
    suite: str | Path,
    *,
    encoders: str | Sequence[str] | None = None,
    tasks: str | Sequence[str] | None = None,
    games: str | Sequence[str] | None = None,
    seeds: int | None = None,
    baselines: bool = True,
    out: str | Path | None = None,
) -> BenchmarkPlan:
    """Say what `pretrainrl.benchmark` would compute with the same arguments, and compute nothing.

    Args:
        suite: Name of a registered suite, or path of a TOML file.
        encoders: Names, run folders or card files of encoders, as a sequence or with commas between them; `all` stands for
            those of the suite, which are the default.
        tasks: Names of the suite's tasks. The default is all of them.
        games: Games of the suite. The default is all of them.
        seeds: Number of seeds, from 0. The default is the suite's.
        baselines: Whether the suite's baselines run too.
        out: Folder of results, by default `results/<suite>`.

    Raises:
        PretrainRLError: A name, number or folder does not fit.
    """
    protocol = find_suite(suite)
    check_counts(MAX_PROCESSES, seeds=seeds)
    folder = output_folder(Path("results") / protocol.name if out is None else out)
    entrants = find_entrants(protocol, _names(encoders), baselines=baselines)
    chosen = list(protocol.select(_names(tasks), _names(games), seeds))
    specs = [
        CellSpec.of(protocol, task, game, seed, entrant, folder / "runs")
        for task, game, seed in chosen
        for entrant in entrants
        if entrant.can(protocol.tasks[task].kind, game)
    ]
    if not specs:
        asked = ", ".join(dict.fromkeys(task for task, _, _ in chosen))
        raise InputError(f"none of these encoders can do {asked}; zero-shot play needs run folders of bc, cql_m, cql_d or dt")
    return _plan(protocol, folder, specs)


def benchmark_status(folder: str | Path) -> BenchmarkPlan:
    """Say how far a folder of results is: its suite's cells, for the encoders that have results there.

    Args:
        folder: Folder of results.

    Raises:
        InputError: The folder holds no results, or one is damaged.
    """
    path = resolve_path(folder)
    if not (path / SUITE).is_file():
        raise InputError(f"{path} holds no results of a benchmark: there is no {SUITE} in it")
    suite = Suite.read(path / SUITE)
    results = list(ResultStore(path, suite.name, suite.version))
    entrants = {
        found.encoder: Entrant(
            name=found.encoder, encoder=found.encoder, sha256=found.sha256, frozen=bool(found.settings["frozen"])
        )
        for found in results
    }
    tasks = [task for task in suite.tasks if any(found.task == task for found in results)]
    specs = [
        CellSpec.of(suite, task, game, seed, entrant, path / "runs")
        for task, game, seed in suite.select(tasks)
        for entrant in entrants.values()
        if entrant.frozen or suite.tasks[task].kind == "finetune"
    ]
    return _plan(suite, path, specs)


def find_entrants(suite: Suite, encoders: Sequence[str] | None = None, *, baselines: bool = True) -> list[Entrant]:
    """Find all encoders that take part, and the digests of their weights.

    Raises:
        InputError: Nothing takes part.
        PretrainRLError: An encoder does not exist, or its weights cannot be had.
    """
    named = [ALL] if encoders is None else list(encoders)
    for name in suite.encoders:
        ENCODERS.get(name)  # a suite may be a file, and files name what is registered
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


def _entrant(name: str | Path) -> Entrant:
    from pretrainrl.encoders import cached_encoder

    found = find_encoder(name)
    registered = isinstance(found, str)
    return Entrant(
        name=find_card(found).name if registered else Path(found).name,
        encoder=str(found),
        sha256=cached_encoder(found).sha256,
        plays=() if registered else _playable_games(str(found)),
    )


def _playable_games(run: str) -> tuple[str, ...]:
    """Return the games that the objective of a run folder can play; none of a card file."""
    from pretrainrl.integrations.sb3.zero_shot import playable_games

    return playable_games(run) if Path(run).is_dir() else ()


def _plan(suite: Suite, folder: Path, specs: Sequence[CellSpec]) -> BenchmarkPlan:
    store = ResultStore(folder, suite.name, suite.version)
    results = {found.key: found for found in store}
    groups: dict[tuple[str, str], list[CellSpec]] = {}
    for spec in specs:
        groups.setdefault((spec.task, spec.entrant.name), []).append(spec)
    rows = tuple(_row(suite, group, results) for group in groups.values())
    left = {cell.key for cell in store.missing([spec.cell for spec in specs])}
    needed = {(spec.dataset, spec.entrant): spec for spec in specs if spec.dataset is not None and spec.cell.key in left}
    datasets = tuple(dict.fromkeys(str(dataset) for dataset, _ in needed))
    return BenchmarkPlan(suite, folder, tuple(specs), rows, datasets, _disk(datasets, list(needed.values())))


def _row(suite: Suite, specs: Sequence[CellSpec], results: Mapping[str, CellResult]) -> PlanRow:
    first = specs[0]
    task, entrant = suite.tasks[first.task], first.entrant
    found = [results[spec.cell.key] for spec in specs if spec.cell.key in results]
    seconds = _seconds(first, list(results.values()))
    of_the_suite = task.minutes if entrant.frozen else task.end_to_end_minutes
    return PlanRow(
        task=first.task,
        encoder=entrant.name,
        cells=len(specs),
        done=sum(each.status == "done" and each.length >= first.cell.length for each in found),
        failed=sum(each.status == "failed" for each in found),
        minutes=of_the_suite if seconds is None else seconds / 60,
        measured=seconds is not None,
    )


def _seconds(spec: CellSpec, results: Sequence[CellResult]) -> float | None:
    """Return the median time of finished cells of the task and encoder, or of other encoders that are alike frozen."""
    alike = [
        found
        for found in results
        if found.task == spec.task
        and found.status == "done"
        and found.length == spec.cell.length
        and found.settings["frozen"] == spec.entrant.frozen
    ]
    same = [found.seconds for found in alike if found.encoder == spec.entrant.name]
    times = same or [found.seconds for found in alike]
    return median(times) if times else None


def _disk(datasets: Sequence[str], specs: Sequence[CellSpec]) -> int:
    """Return the bytes of the frames of all datasets, and of the features of each with each frozen encoder."""
    from pretrainrl.dataset_cards import RECORDINGS

    names = {dataset: dataset.rsplit("/", 1)[-1] for dataset in datasets}
    sizes = {dataset: RECORDINGS.get(name).transitions for dataset, name in names.items() if name in RECORDINGS.names()}
    encoded = [spec for spec in specs if spec.entrant.frozen and spec.dataset in sizes]
    features = sum(sizes[str(spec.dataset)] * find_card(spec.entrant.encoder).features_dim * _FEATURE for spec in encoded)
    return sum(sizes.values()) * _FRAME + features
