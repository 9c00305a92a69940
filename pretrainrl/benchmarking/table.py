"""From results of cells to what a reader asks: which encoder is how good on which split, and is it better than none?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pretrainrl.benchmarking.aggregate import (
    LEVEL,
    METRICS,
    Estimate,
    Scores,
    corrected_level,
    correlation,
    draw_metric,
    estimate,
    interquartile_mean,
    interval,
    normalize_scores,
    probability_of_improvement,
)
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.errors import InputError
from pretrainrl.games import all_scores

Scale = Literal["reference", "human"]
_LEAST_SPAN = 1e-6  # between random play and the reference, where both are the same


@dataclass(frozen=True)
class Comparison:
    """Scores of encoders that finished the same games with the same seeds.

    Attributes:
        task: Name of the task.
        split: Name of the split.
        games: Games that all of them finished.
        seeds: Seeds that all of them finished.
        scores: Raw scores (seeds, games) of each encoder.
        unfinished: Encoders that have results and too few of them to be compared.
        ill_conditioned: Games of the split whose reference is not above random play. They are left out of `games`, unless
            `compare` was asked to keep them.
        measured: Whether scores are a measurement of features, as those of probes, which is not normalized.
    """

    task: str
    split: str
    games: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: Mapping[str, Scores]
    unfinished: tuple[str, ...]
    ill_conditioned: tuple[str, ...]
    measured: bool = False

    def normalized(self, encoder: str, scale: Scale = "reference") -> Scores:
        """Return an encoder's scores between 0, which is random play, and 1, (seeds, games); of measurements, as they are.

        Args:
            encoder: Name of the encoder.
            scale: What 1 is: the score of the reference agent, or a person's, of games for which one is known.

        Raises:
            InputError: No game of the comparison has a person's score, or scores are measurements.
        """
        if self.measured:
            if scale == "human":
                raise InputError(f"{self.task} is no score in a game; nothing of a person's compares")
            return self.scores[encoder]
        facts = [all_scores()[game] for game in self.games]
        ends = [(fact.random, fact.reference if scale == "reference" else fact.human) for fact in facts]
        kept = [index for index, (_, one) in enumerate(ends) if one is not None]
        if not kept:
            raise InputError(f"no game of {self.split} has a person's score; scale by the reference")
        pairs = np.array([ends[index] for index in kept], np.float64)
        # Where the reference is below random play, the lower of the two is 0, as in Atari-PB's code.
        low, high = pairs.min(axis=1), pairs.max(axis=1)
        return normalize_scores(self.scores[encoder][:, kept], low, np.maximum(high, low + _LEAST_SPAN))


@dataclass(frozen=True)
class Row:
    """What is said of one encoder on one split.

    Attributes:
        encoder: Name of the encoder.
        metrics: Estimates by name: `iqm`, `median`, `mean`, `optimality_gap`.
        differences: Estimated difference of the IQM to each baseline, with an interval that is wide enough for all encoders.
        improvements: Probability that a run beats one of each baseline.
        places: First and last place in the ranking that the encoder takes in the middle 95 % of the bootstrap's samples; None
            where there is one seed.
    """

    encoder: str
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    improvements: Mapping[str, Estimate]
    places: tuple[int, int] | None


def is_ill_conditioned(game: str) -> bool:
    """Whether the reference of a game is not above random play, so that a normalized score means nothing."""
    scores = all_scores()[game]
    return scores.reference <= scores.random


def compare(
    results: Iterable[CellResult], suite: Suite, task: str, split: str, *, keep_ill_conditioned: bool = False
) -> Comparison:
    """Find the games and seeds that encoders have in common, and their scores on them.

    Where few results of an encoder would leave little in common, it is left out: what is kept makes the most pairs of runs
    of two encoders on one game with one seed.

    Args:
        results: Results of the suite, of all tasks.
        suite: The suite.
        task: Name of the task.
        split: Name of the split.
        keep_ill_conditioned: Whether games stay whose reference is not above random play.

    Raises:
        InputError: No cell of the task and split is finished.
    """
    games = {game for game, its in suite.splits.items() if its == split}
    measured = task in suite.tasks and suite.tasks[task].kind == "probe"
    ill = set() if measured else {game for game in games if is_ill_conditioned(game)}
    kept = games if keep_ill_conditioned else games - ill
    done: dict[str, dict[tuple[int, str], float]] = {}
    for result in results:
        if result.task == task and result.status == "done" and result.game in kept:
            done.setdefault(result.encoder, {})[result.seed, result.game] = result.score
    if not done:
        raise InputError(f"no cell of {task} on {split} is finished")
    compared, (seeds, common) = _most_pairs(done)
    scores = {name: np.array([[done[name][seed, game] for game in common] for seed in seeds]) for name in sorted(compared)}
    unfinished = tuple(sorted(done.keys() - compared))
    return Comparison(task, split, common, seeds, scores, unfinished, tuple(sorted(ill)), measured)


def rank(comparison: Comparison, baselines: Sequence[str] = (), *, scale: Scale = "reference", seed: int = 0) -> list[Row]:
    """Say how good each encoder is, the best IQM first.

    Args:
        comparison: Scores on the same games and seeds.
        baselines: Names of what the others are compared with; those that the comparison lacks are left out.
        scale: What a normalized score of 1 is.
        seed: Seed of the bootstrap.
    """
    normalized = {name: comparison.normalized(name, scale) for name in comparison.scores}
    against = [name for name in baselines if name in normalized]
    level = corrected_level(len(normalized) - len(against))
    drawn = draw_metric(normalized, seed=seed)
    iqm = {name: float(interquartile_mean(scores)) for name, scores in normalized.items()}
    places = _places(drawn)
    rows = [
        Row(
            name,
            {metric: estimate(scores, function, seed=seed) for metric, function in METRICS.items()},
            {base: interval(iqm[name] - iqm[base], drawn[name] - drawn[base], level) for base in against if base != name},
            {base: probability_of_improvement(scores, normalized[base], seed=seed) for base in against if base != name},
            places.get(name),
        )
        for name, scores in normalized.items()
    ]
    return sorted(rows, key=lambda row: -row.metrics["iqm"].value)


def correlate(first: Sequence[Row], second: Sequence[Row]) -> tuple[list[str], Estimate]:
    """Estimate the correlation of the IQM of two tasks over the encoders that both have.

    Returns:
        Names of the encoders, and the correlation.

    Raises:
        InputError: Fewer than four encoders are in both.
    """
    values = [{row.encoder: row.metrics["iqm"].value for row in rows} for rows in (first, second)]
    names = sorted(values[0].keys() & values[1].keys())
    x, y = (np.array([table[name] for name in names]) for table in values)
    return names, correlation(x, y)


def _places(drawn: Mapping[str, Scores]) -> dict[str, tuple[int, int]]:
    """Find between which places each encoder is in the middle 95 % of the samples; empty where there are none."""
    samples = np.stack(list(drawn.values()))
    if np.isnan(samples).any():
        return {}
    places = 1 + (samples[None] > samples[:, None]).sum(axis=1)
    ends = np.quantile(places, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1, method="nearest").astype(int)
    return {name: (int(first), int(last)) for name, first, last in zip(drawn, *ends, strict=True)}


_Grid = tuple[tuple[int, ...], tuple[str, ...]]


def _most_pairs(done: Mapping[str, Mapping[tuple[int, str], float]]) -> tuple[set[str], _Grid]:
    """Find the encoders with the most results, and their common grid, that make the most pairs of runs."""
    order = sorted(done, key=lambda name: (-len(done[name]), name))
    candidates = []
    for count in range(1, len(order) + 1):
        grid = _common_grid([done[name] for name in order[:count]])
        if grid is None:
            break
        candidates.append((count * (count - 1) * len(grid[0]) * len(grid[1]), count, grid))
    _, count, grid = max(candidates)
    return set(order[:count]), grid


def _common_grid(tables: Sequence[Mapping[tuple[int, str], float]]) -> _Grid | None:
    """Find the largest grid of seeds 0, 1, ... and games that all tables fill; None where there is none."""
    common = set.intersection(*(set(table) for table in tables))
    seeds = sorted({seed for seed, _ in common})
    grids = []
    for count in range(1, len(seeds) + 1):
        games = sorted({game for _, game in common if all((seed, game) in common for seed in seeds[:count])})
        grids.append((tuple(seeds[:count]), tuple(games)))
    return max(grids, key=lambda grid: (len(grid[0]) * len(grid[1]), len(grid[1])), default=None)
