"""Results: one small file for every cell, written whole, never changed by another cell."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pretrainrl.cards import Card, Scalar
from pretrainrl.errors import CardError, InputError
from pretrainrl.optional import require
from pretrainrl.paths import atomic_path
from pretrainrl.runs.checkpoints import checked_json, parse_checked

CELLS = "cells"


class Cell(Card):
    """One run of the benchmark, independent of all others.

    Attributes:
        suite: Name of the suite.
        version: Version of the suite.
        task: Name of the task.
        game: Game, as one lower-case word.
        encoder: Name of the encoder or baseline.
        sha256: Digest of the encoder's weights.
        seed: Seed of the run.
        length: Budget, in steps or epochs; of a result, the one that was spent.
        settings: All that the result depends on besides, but for the budget: a longer budget extends the same cell.
    """

    suite: str
    version: int
    task: str
    game: str
    encoder: str
    sha256: str
    seed: int
    length: int
    settings: dict[str, Scalar]

    @property
    def key(self) -> str:
        """Digest of the cell's content, 16 hex digits, the same on every machine."""
        content = [self.suite, self.version, self.task, self.game, self.sha256, self.seed, sorted(self.settings.items())]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()[:16]

    def file(self, out: Path) -> Path:
        """Return the file of the cell's result in the folder of results `out`."""
        return out / CELLS / self.task / self.game / self.encoder / f"{self.seed}-{self.key}.json"


class Hardware(Card):
    """Where a cell was computed.

    Attributes:
        device: Name of the processor or accelerator.
        threads: Number of threads.
        system: Operating system and machine type.
    """

    device: str
    threads: int
    system: str


class CellResult(Cell):
    """What a cell found, or why it failed.

    Attributes:
        status: `done` or `failed`.
        error: Error that ended a failed cell, one line.
        scores: Raw score of every episode of the final evaluation; of a probe, its one number.
        lengths: Agent steps of those episodes.
        curve: Pairs of steps (or epochs) and mean raw score while the agent learned.
        seconds: Wall-clock time of the cell, in seconds.
        dtype: Type that the encoder computed in.
        hardware: Where it was computed.
        versions: Versions of the packages that had a part in it.
    """

    status: Literal["done", "failed"]
    error: str | None = None
    scores: tuple[float, ...] = ()
    lengths: tuple[int, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    seconds: float = Field(ge=0)
    dtype: str = "float32"
    hardware: Hardware | None = None
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def score(self) -> float:
        """Mean raw score of the final evaluation."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class BenchmarkResult:
    """Results of a benchmark.

    Attributes:
        folder: Folder of the results.
        suite: Name of the suite.
        results: Results of the cells that were asked for and are finished, or have failed.
        planned: Number of cells that were asked for.
    """

    folder: Path
    suite: str
    results: tuple[CellResult, ...]
    planned: int

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """Results of the cells that failed."""
        return tuple(result for result in self.results if result.status == "failed")

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame` with one row for each episode: what the cell was, `episode` and `score`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = require("pandas", "pandas")
        columns = ("suite", "version", "task", "game", "encoder", "seed", "length")
        return pandas.DataFrame(
            [
                {**{name: getattr(result, name) for name in columns}, "episode": episode, "score": score}
                for result in self.results
                for episode, score in enumerate(result.scores)
            ]
        )


class ResultStore:
    """A folder of results of one suite, to which several processes and machines may add.

    Args:
        out: Folder, which need not exist.
        suite: Name of the suite.
        version: Version of the suite.

    Raises:
        InputError: The folder holds results of another suite or version.
    """

    def __init__(self, out: Path, suite: str, version: int) -> None:
        self.out, self.suite = out, suite
        first = next(iter(self), None)
        if first is not None and (first.suite, first.version) != (suite, version):
            raise InputError(
                f"{out} holds results of {first.suite} version {first.version}, not of {suite} version {version}; "
                "give another folder"
            )

    def __iter__(self) -> Iterator[CellResult]:
        """Read all results, in the order of their files' names."""
        return map(read_result, sorted((self.out / CELLS).rglob("*.json")))

    def failures(self) -> list[CellResult]:
        """Return the results of the cells that failed."""
        return [result for result in self if result.status == "failed"]

    def missing(self, cells: Iterable[Cell], *, retry: bool = False) -> list[Cell]:
        """Leave out the cells that have a result of at least their budget; failed ones too, unless `retry` is set."""
        return [cell for cell in cells if not self._has(cell, retry)]

    def write(self, result: CellResult, cell: Cell) -> None:
        """Write the result of a cell, whole or not at all. A failure never replaces what an earlier budget found."""
        path = cell.file(self.out)
        if result.status == "failed" and path.exists() and read_result(path).status == "done":
            return
        with atomic_path(path) as temporary:
            temporary.write_text(checked_json(result.model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def _has(self, cell: Cell, retry: bool) -> bool:
        path = cell.file(self.out)
        if not path.exists():
            return False
        result = read_result(path)
        return not retry if result.status == "failed" else result.length >= cell.length


def read_result(path: Path) -> CellResult:
    """Read the result of a cell.

    Raises:
        InputError: The file is damaged, or is not what its name says.
    """
    try:
        result = CellResult.parse(parse_checked(path.read_text(encoding="utf-8")), str(path))
    except (ValueError, CardError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it, and its cell runs again") from error
    if not path.name.endswith(f"{result.seed}-{result.key}.json"):
        raise InputError(f"{path} holds the cell {result.seed}-{result.key}; it was renamed or edited")
    if result.status == "done" and not (result.scores and all(map(math.isfinite, result.scores))):
        raise InputError(f"{path} is done and has no scores, or one that is no number; delete it, and its cell runs again")
    return result


def read_folders(folders: Sequence[Path]) -> list[CellResult]:
    """Read and merge results of several folders; of two results of one cell the one with the longer budget counts.

    Raises:
        InputError: A folder is none or holds no results, or one file is damaged.
    """
    merged: dict[str, CellResult] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} holds no results: there is no such folder; give one of pretrainrl benchmark --out")
        found = [read_result(path) for path in sorted((folder / CELLS).rglob("*.json"))]
        if not found:
            raise InputError(f"{folder} holds no results: its folder {CELLS!r} is missing or empty")
        for result in found:
            known = merged.get(result.key)
            if known is None or (result.status == "done", result.length) > (known.status == "done", known.length):
                merged[result.key] = result
    return list(merged.values())
