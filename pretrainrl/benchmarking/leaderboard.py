"""The leaderboard: complete results of several folders in one table, and from there into encoders' cards."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pretrainrl.benchmarking.aggregate import Estimate, estimate
from pretrainrl.benchmarking.analysis import read_suite, tell_apart
from pretrainrl.benchmarking.cells import CellSpec, Entrant
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.benchmarking.table import compare, is_ill_conditioned
from pretrainrl.cards import ENCODERS, EncoderCard, Evaluation
from pretrainrl.errors import InputError
from pretrainrl.paths import atomic_path, output_file, registry_folder, resolve_path

Column = tuple[str, str]
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Standing:
    """One row of the leaderboard.

    Attributes:
        encoder: Name of the encoder or baseline.
        sha256: Digest of its weights.
        scores: Interquartile mean of each column, a pair of task and split, of which all cells are finished.
        places: Place in each of those columns, from 1.
        dtype: Type that the encoder computed in.
        missing: Number of cells that are not finished, in the columns that have one.
    """

    encoder: str
    sha256: str
    scores: Mapping[Column, Estimate]
    places: Mapping[Column, int]
    dtype: str
    missing: int

    @property
    def mean_place(self) -> float:
        """Mean of the places; infinite where no column is complete."""
        return fmean(self.places.values()) if self.places else math.inf


@dataclass(frozen=True)
class LeaderboardResult:
    """Encoders by splits and tasks.

    Attributes:
        suite: Name of the suite.
        version: Version of the suite.
        seeds: Number of seeds of each cell.
        columns: Pairs of task and split.
        rows: Encoders, those with the most complete columns first and of these the ones with the best mean place.
        cards: Names of the encoders whose cards have been written.
    """

    suite: str
    version: int
    seeds: int
    columns: tuple[Column, ...]
    rows: tuple[Standing, ...]
    cards: tuple[str, ...] = ()


def leaderboard(
    folders: str | Path | Sequence[str | Path],
    *,
    suite: str | Path | None = None,
    write_cards: bool = False,
    out: str | Path | None = None,
) -> LeaderboardResult:
    """Merge folders of results into one table, with a place for each encoder whose cells of a task and split are complete.

    Args:
        folders: Folders of results, as `pretrainrl.benchmark` makes them.
        suite: Path of the suite's TOML file, where the suite is not registered.
        write_cards: Whether to write the interquartile means into the cards of registered encoders.
        out: CSV file for the table.

    Raises:
        InputError: A folder is none, results are of several suites or of another version, or a result is not accepted: its
            settings, budget or number of games are not the suite's, its digest is not that of the registered encoder, or it
            does not say with which versions and on what machine it was computed.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    out = None if out is None else output_file(out)
    protocol, results = read_suite([resolve_path(folder) for folder in given], suite)
    done = [result for result in results if result.status == "done"]
    _check(done, protocol)
    table = _table(tell_apart(done), protocol)
    if out is not None:
        _write_table(out, table)
    if not write_cards:
        return table
    return LeaderboardResult(
        **{**vars(table), "cards": tuple(_write_card(row, table) for row in table.rows if _has_card(row))}
    )


def _check(results: Sequence[CellResult], suite: Suite) -> None:
    """Raise an error that names the first result that is not accepted, and how many there are."""
    faults = [(result, fault) for result in results if (fault := _fault(result, suite))]
    if faults:
        first, fault = faults[0]
        more = f"; {len(faults) - 1} more results are not accepted either" if len(faults) > 1 else ""
        raise InputError(f"{first.task} {first.game} {first.encoder} seed {first.seed} is not accepted: {fault}{more}")


def _fault(result: CellResult, suite: Suite) -> str | None:
    """Say why a result is not accepted."""
    what, name = suite.tasks[result.task], result.encoder
    frozen = result.settings.get("frozen") is not False
    entrant = Entrant(name=name, encoder=name, sha256=result.sha256, frozen=frozen)
    expected = CellSpec.of(suite, result.task, result.game, result.seed, entrant, Path()).cell
    registered = ENCODERS.get(name).sha256 if name in ENCODERS.names() else None
    if not _DIGEST.fullmatch(result.sha256):
        return f"the digest of its weights is {result.sha256!r}, not 64 hex digits"
    if registered not in (None, result.sha256):
        return (
            f"the digest of its weights begins with {result.sha256[:8]}, that of the registered encoder with {registered:.8}"
        )
    if result.key != expected.key:
        return f"its settings are not those of {suite.name} version {suite.version}"
    if result.length != expected.length:
        return f"its budget is {result.length:,}, and the suite's is {expected.length:,}"
    if what.kind != "probe" and len(result.scores) != suite.evaluation.episodes:
        return f"it has scores of {len(result.scores)} games, and the suite's evaluation has {suite.evaluation.episodes}"
    if not result.versions or result.hardware is None:
        return "it does not say with which versions and on what machine it was computed"
    return None


def _table(results: Sequence[CellResult], suite: Suite) -> LeaderboardResult:
    columns = [(task, split) for task in suite.tasks for split, games in suite.games.items() if games]
    own = {name: [one for one in results if one.encoder == name] for name in sorted({one.encoder for one in results})}
    scores = {name: _scores(found, suite, columns) for name, found in own.items()}
    places = {
        column: sorted((name for name in own if column in scores[name]), key=lambda name: -scores[name][column].value)
        for column in columns
    }
    rows = [
        Standing(
            name,
            found[0].sha256,
            scores[name],
            {column: 1 + places[column].index(name) for column in scores[name]},
            Counter(one.dtype for one in found).most_common(1)[0][0],
            sum(_missing(found, suite, *column) for column in columns if _begun(found, suite, *column)),
        )
        for name, found in own.items()
    ]
    rows.sort(key=lambda row: (-len(row.scores), row.mean_place, row.encoder))
    return LeaderboardResult(suite.name, suite.version, suite.seeds, tuple(columns), tuple(rows))


def _scores(results: Sequence[CellResult], suite: Suite, columns: Sequence[Column]) -> dict[Column, Estimate]:
    """Estimate the interquartile mean of an encoder in the columns that it has completed."""
    found = {}
    for task, split in columns:
        if not _missing(results, suite, task, split):
            counted = [one for one in results if one.seed < suite.seeds]
            found[task, split] = estimate(compare(counted, suite, task, split).normalized(results[0].encoder))
    return found


def _begun(results: Sequence[CellResult], suite: Suite, task: str, split: str) -> bool:
    return any(one.task == task and suite.splits[one.game] == split for one in results)


def _missing(results: Sequence[CellResult], suite: Suite, task: str, split: str) -> int:
    """Count the cells of a column that are not finished."""
    measured = suite.tasks[task].kind == "probe"
    games = {game for game, its in suite.splits.items() if its == split and (measured or not is_ill_conditioned(game))}
    finished = {(one.game, one.seed) for one in results if one.task == task}
    return sum((game, seed) not in finished for game in games for seed in range(suite.seeds))


def _write_table(path: Path, table: LeaderboardResult) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["suite", "version", "encoder", "sha256", "dtype", "task", "split", "iqm", "low", "high", "place", "seeds"]
        )
        for row in table.rows:
            for (task, split), one in row.scores.items():
                writer.writerow(
                    [table.suite, table.version, row.encoder, row.sha256, row.dtype, task, split]
                    + [f"{value:.6g}" for value in (one.value, one.low, one.high)]
                    + [row.places[task, split], table.seeds]
                )


def _has_card(row: Standing) -> bool:
    return bool(row.scores) and (registry_folder() / "encoders" / f"{row.encoder}.toml").is_file()


def _write_card(row: Standing, table: LeaderboardResult) -> str:
    """Put the scores of a row into its encoder's card, in place of earlier ones of the same suite and version."""
    path = registry_folder() / "encoders" / f"{row.encoder}.toml"
    card = EncoderCard.read(path)
    kept = [one for one in card.evaluations if (one.suite, one.version) != (table.suite, table.version)]
    new = [
        Evaluation(
            suite=table.suite,
            version=table.version,
            task=task,
            split=split,
            iqm=_round(one.value),
            low=_round(one.low),
            high=_round(one.high),
            seeds=table.seeds,
            dtype=row.dtype,
        )
        for (task, split), one in row.scores.items()
    ]
    card.model_copy(update={"evaluations": (*kept, *new)}).write(path)
    return row.encoder


def _round(value: float) -> float:
    return float(f"{value:.4g}")
