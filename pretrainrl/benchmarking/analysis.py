"""All that a report says of a folder of results, as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from pretrainrl.benchmarking.aggregate import Estimate, Scores, estimate, interquartile_mean, performance_profile
from pretrainrl.benchmarking.cells import END_TO_END
from pretrainrl.benchmarking.kinds import Advice, KindRow, advise, summarize_kinds
from pretrainrl.benchmarking.plan import SUITE
from pretrainrl.benchmarking.results import CellResult, read_folders
from pretrainrl.benchmarking.suite import SUITES, Suite, find_suite
from pretrainrl.benchmarking.table import Comparison, Row, compare, correlate, rank
from pretrainrl.errors import InputError

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Section:
    """What is said of one task on one split.

    Attributes:
        comparison: Scores on the games and seeds that the encoders have in common.
        rows: Estimates of each encoder, the best first.
        kinds: Estimates of each kind of data.
        advice: Which kind is best; None where too few kinds are compared, or no agent learns.
        human: Interquartile mean of each encoder over the games that a person has played, with 1 for the person's score.
        with_flagged: Interquartile mean of each encoder with the ill-conditioned games; empty where the split has none.
        thresholds: Normalized scores from 0 to the best run.
        profiles: Share of runs above each of the thresholds, with the ends of its interval.
        curves: Pairs of steps (or epochs) and interquartile mean while agents learned, of encoders with two or more.
        seconds: Mean wall-clock time of a cell.
    """

    comparison: Comparison
    rows: Sequence[Row]
    kinds: Sequence[KindRow]
    advice: Advice | None
    human: Mapping[str, Estimate]
    with_flagged: Mapping[str, Estimate]
    thresholds: Scores
    profiles: Mapping[str, tuple[Scores, Scores, Scores]]
    curves: Mapping[str, Curve]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Correlation:
    """How the interquartile means of two tasks go together on a split.

    Attributes:
        tasks: Names of both tasks.
        split: Name of the split.
        encoders: Names of the encoders that have both, without those trained end to end.
        found: Pearson's correlation; None where there are too few encoders, or all are the same.
    """

    tasks: tuple[str, str]
    split: str
    encoders: tuple[str, ...]
    found: Estimate | None


@dataclass(frozen=True)
class Analysis:
    """All numbers of a report.

    Attributes:
        suite: The suite.
        results: Results that count, finished and failed; an encoder's name has its digest behind `@` where the same name
            stands for several weights.
        notes: Sentences on what was left out, and why.
        sections: What is said of each task and split of which a cell is finished.
        correlations: How tasks go together, the first pair being learning from data and learning by playing.
    """

    suite: Suite
    results: Sequence[CellResult]
    notes: Sequence[str]
    sections: Mapping[tuple[str, str], Section]
    correlations: Sequence[Correlation]

    @property
    def done(self) -> list[CellResult]:
        """Results of the finished cells."""
        return [result for result in self.results if result.status == "done"]

    @property
    def baselines(self) -> tuple[str, str]:
        """Names of the untrained encoder, and of the same backbone trained end to end."""
        return baselines(self.suite)


def baselines(suite: Suite) -> tuple[str, str]:
    """Return the names of the suite's untrained backbone, and of the same backbone trained end to end."""
    return f"random.{suite.backbone}", END_TO_END + suite.backbone


def read_suite(folders: Sequence[Path], suite: str | Path | None = None) -> tuple[Suite, list[CellResult]]:
    """Read results of one suite, and the suite.

    Args:
        folders: Folders of results.
        suite: Path of the suite's TOML file, where it is neither registered nor beside the results.

    Raises:
        InputError: A folder is none or holds no results, results are of several suites or of another version, or no cell is
            finished.
    """
    results = read_folders(folders)
    kinds = sorted({(result.suite, result.version) for result in results})
    if len(kinds) > 1:
        names = " and of ".join(f"{name} version {version}" for name, version in kinds)
        raise InputError(f"results are of {names}; results of two suites or versions are never mixed: give one")
    ((name, version),) = kinds
    protocol = _find_protocol(name, version, folders) if suite is None else find_suite(Path(suite))
    if (protocol.name, protocol.version) != (name, version):
        raise InputError(
            f"results are of {name} version {version}, and the suite is {protocol.name} version {protocol.version}; "
            "give the file of the suite that they are of with --suite"
        )
    games = protocol.splits
    for result in results:
        if result.task not in protocol.tasks or result.game not in games:
            raise InputError(f"{name} version {version} has no cell {result.task} {result.game}; give the suite's own file")
    if all(result.status == "failed" for result in results):
        raise InputError(f"no cell is finished, and {len(results)} failed, the first because: {results[0].error}")
    return protocol, results


def _find_protocol(name: str, version: int, folders: Sequence[Path]) -> Suite:
    """Find the registered suite, or else the one that lies beside the results."""
    known = [SUITES.get(name)] if name in SUITES.names() else []
    known += [Suite.read(file) for folder in folders if (file := folder / SUITE).is_file()]
    if not known:
        raise InputError(f"results are of the suite {name}, which is not registered; give its file with --suite")
    return next((one for one in known if (one.name, one.version) == (name, version)), known[0])


def analyze(suite: Suite, results: Iterable[CellResult], *, seed: int = 0) -> Analysis:
    """Compute all numbers of a report.

    Args:
        suite: The suite.
        results: Results of the suite.
        seed: Seed of the bootstrap.

    Raises:
        InputError: Two results of one cell differ in their settings.
    """
    kept, notes = _same_budget(tell_apart(list(results)))
    splits = suite.splits
    begun = {(one.task, splits[one.game]) for one in kept if one.status == "done"}
    sections = {
        (task, split): _section(kept, suite, task, split, seed)
        for task in suite.tasks
        for split in suite.games
        if (task, split) in begun
    }
    return Analysis(suite, kept, notes, sections, _correlations(suite, sections))


def tell_apart(results: Sequence[CellResult]) -> list[CellResult]:
    """Give each encoder one name: the most common one of its weights, with their digest where other weights have it.

    Raises:
        InputError: Two results of one cell differ in their settings.
    """
    common = Counter((one.encoder, one.sha256) for one in results).most_common()
    names: dict[tuple[str, bool], str] = {}
    taken: dict[str, str] = {}
    for (encoder, sha256), _ in common:
        weights = sha256, encoder.startswith(END_TO_END)
        if weights not in names:
            names[weights] = encoder if taken.setdefault(encoder, sha256) == sha256 else f"{encoder}@{sha256[:8]}"
    named = [one.model_copy(update={"encoder": names[one.sha256, one.encoder.startswith(END_TO_END)]}) for one in results]
    seen: dict[tuple[str, str, str, int], CellResult] = {}
    for one in named:
        cell = (one.task, one.game, one.encoder, one.seed)
        if seen.setdefault(cell, one).key != one.key:
            raise InputError(
                f"two results of {one.task} {one.game} {one.encoder} seed {one.seed} differ in {_differing(seen[cell], one)}; "
                "keep the results of one protocol in one folder"
            )
    return named


def _differing(first: CellResult, second: CellResult) -> str:
    """Name the settings in which two results of a cell differ."""
    names = sorted(first.settings.keys() | second.settings.keys())
    values = {name: [str(one.settings.get(name, "none")) for one in (first, second)] for name in names}
    return ", ".join(f"{name} ({' and '.join(pair)})" for name, pair in values.items() if pair[0] != pair[1])


def _same_budget(results: Sequence[CellResult]) -> tuple[list[CellResult], list[str]]:
    """Keep the results of each task that have its most common budget."""
    budgets: dict[str, Counter[int]] = {}
    for result in results:
        if result.status == "done":
            budgets.setdefault(result.task, Counter())[result.length] += 1
    common = {task: max(found, key=lambda length: (found[length], length)) for task, found in budgets.items()}
    kept = [result for result in results if result.status == "failed" or result.length == common[result.task]]
    notes = [
        f"{found.total() - found[common[task]]} results of {task} are left out: their budget is not {common[task]:,}."
        for task, found in budgets.items()
        if len(found) > 1
    ]
    return kept, notes


def _section(results: Sequence[CellResult], suite: Suite, task: str, split: str, seed: int) -> Section:
    whole = compare(results, suite, task, split, keep_ill_conditioned=True)
    conditioned = set(whole.games) - set(whole.ill_conditioned)
    comparison = compare(results, suite, task, split) if conditioned else whole
    flagged = comparison is not whole and set(whole.games) & set(whole.ill_conditioned)
    cells = {(one.encoder, one.game, one.seed): one for one in results if one.task == task and one.status == "done"}
    normalized = {name: comparison.normalized(name) for name in comparison.scores}
    learned = suite.tasks[task].kind == "finetune"
    thresholds = np.linspace(0.0, max(0.1, *(float(scores.max()) for scores in normalized.values())), 41)
    grids = {
        name: [cells[name, game, one] for one in comparison.seeds for game in comparison.games] for name in comparison.scores
    }
    return Section(
        comparison,
        rank(comparison, baselines(suite), seed=seed),
        summarize_kinds(comparison, seed=seed),
        advise(comparison, suite.backbone, seed=seed) if learned else None,
        _human(comparison, seed),
        {name: estimate(whole.normalized(name), seed=seed) for name in whole.scores} if flagged else {},
        thresholds,
        {name: performance_profile(scores, thresholds, repetitions=200, seed=seed) for name, scores in normalized.items()},
        {name: curve for name, grid in grids.items() if learned and len(curve := _curve(comparison, name, grid)) > 1},
        {name: float(np.mean([cell.seconds for cell in grid])) for name, grid in grids.items()},
    )


def _human(comparison: Comparison, seed: int) -> dict[str, Estimate]:
    try:
        return {name: estimate(comparison.normalized(name, "human"), seed=seed) for name in comparison.scores}
    except InputError:  # nobody has played any of the games
        return {}


def _curve(comparison: Comparison, name: str, grid: Sequence[CellResult]) -> Curve:
    """Average the curves of cells, (seeds, games) in rows, at the steps that all of them have."""
    curves = [dict(cell.curve) for cell in grid]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    shape = comparison.scores[name].shape
    found = []
    for step in steps:
        raw = np.array([curve[step] for curve in curves]).reshape(shape)
        then = replace(comparison, scores={name: raw}).normalized(name)
        found.append((step, float(interquartile_mean(then))))
    return found


def _correlations(suite: Suite, sections: Mapping[tuple[str, str], Section]) -> list[Correlation]:
    """Correlate all pairs of tasks, first those of learning from data with learning by playing."""
    order = sorted(
        (task for task in suite.tasks if any(key[0] == task for key in sections)), key=lambda task: way(suite, task)
    )
    pairs = sorted(combinations(order, 2), key=lambda pair: [way(suite, task) for task in pair] != ["BC", "RL"])
    found = []
    for pair in pairs:
        for split in suite.games:
            if all((task, split) in sections for task in pair):
                rows = [[row for row in sections[task, split].rows if END_TO_END not in row.encoder] for task in pair]
                names = sorted({row.encoder for row in rows[0]} & {row.encoder for row in rows[1]})
                found.append(Correlation(pair, split, tuple(names), _correlate(*rows)))
    return found


def way(suite: Suite, task: str) -> str:
    """Return how an agent learns, in Atari-PB's words: `BC` from data, `RL` by playing; else the kind of the task."""
    what = suite.tasks[task]
    return what.kind if what.kind != "finetune" else "RL" if what.dataset is None else "BC"


def _correlate(first: Sequence[Row], second: Sequence[Row]) -> Estimate | None:
    try:
        return correlate(first, second)[1]
    except InputError:  # too few encoders, or none differs
        return None
