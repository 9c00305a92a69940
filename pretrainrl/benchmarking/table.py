"""From results of cells to what a reader asks: which encoder is how good on which split, and is it better than none?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pretrainrl.benchmarking.aggregate import (
    METRICS,
    Estimate,
    Scores,
    correlation,
    estimate,
    normalize_scores,
    paired_difference,
    probability_of_improvement,
)
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.errors import InputError
from pretrainrl.games import all_scores

Scale = Literal["reference", "human"]


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
        ill_conditioned: Games of the split that are left out, because their reference is not above random play.
    """

    task: str
    split: str
    games: tuple[str, ...]
    seeds: tuple[int, ...]
    scores: Mapping[str, Scores]
    unfinished: tuple[str, ...]
    ill_conditioned: tuple[str, ...]

    def normalized(self, encoder: str, scale: Scale = "reference") -> Scores:
        """Return an encoder's scores between 0, which is random play, and 1, (seeds, games).

        Args:
            encoder: Name of the encoder.
            scale: What 1 is: the score of the reference agent, or a person's, of games for which one is known.

        Raises:
            InputError: No game of the comparison has a person's score.
        """
        facts = [all_scores()[game] for game in self.games]
        kept = [index for index, fact in enumerate(facts) if scale == "reference" or fact.human is not None]
        if not kept:
            raise InputError(f"no game of {self.split} has a person's score; scale by the reference")
        highs = [facts[index].reference if scale == "reference" else facts[index].human for index in kept]
        lows = np.array([facts[index].random for index in kept])
        return normalize_scores(self.scores[encoder][:, kept], lows, np.array(highs, np.float64))


@dataclass(frozen=True)
class Row:
    """What is said of one encoder on one split.

    Attributes:
        encoder: Name of the encoder.
        metrics: Estimates by name: `iqm`, `median`, `mean`, `optimality_gap`.
        differences: Estimated difference of the IQM to each baseline, with an interval that is wide enough for all encoders.
        improvements: Probability that a run beats one of each baseline.
    """

    encoder: str
    metrics: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    improvements: Mapping[str, Estimate]


def is_ill_conditioned(game: str) -> bool:
    """Whether the reference of a game is not above random play, so that a normalized score means nothing."""
    scores = all_scores()[game]
    return scores.reference <= scores.random


def compare(results: Iterable[CellResult], suite: Suite, task: str, split: str) -> Comparison:
    """Find the games and seeds that encoders have in common, and their scores on them.

    Where all encoders together have nothing in common, those with the fewest results are left out, one after the other.

    Args:
        results: Results of the suite, of all tasks.
        suite: The suite.
        task: Name of the task.
        split: Name of the split.

    Raises:
        InputError: No cell of the task and split is finished.
    """
    games = {game for game, its in suite.splits.items() if its == split}
    ill = {game for game in games if is_ill_conditioned(game)}
    done: dict[str, dict[tuple[int, str], float]] = {}
    for result in results:
        if result.task == task and result.status == "done" and result.game in games - ill:
            done.setdefault(result.encoder, {})[result.seed, result.game] = result.score
    if not done:
        raise InputError(f"no cell of {task} on {split} is finished")
    compared = sorted(done, key=lambda name: (-len(done[name]), name))
    unfinished: list[str] = []
    while not (grid := _common_grid([done[name] for name in compared])):
        unfinished.append(compared.pop())
    seeds, common = grid
    scores = {name: np.array([[done[name][seed, game] for game in common] for seed in seeds]) for name in sorted(compared)}
    return Comparison(task, split, common, seeds, scores, tuple(sorted(unfinished)), tuple(sorted(ill)))


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
    others = max(1, len(normalized) - len(against))
    rows = [
        Row(
            name,
            {metric: estimate(scores, function, seed=seed) for metric, function in METRICS.items()},
            {
                base: paired_difference(scores, normalized[base], comparisons=others, seed=seed)
                for base in against
                if base != name
            },
            {base: probability_of_improvement(scores, normalized[base], seed=seed) for base in against if base != name},
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


def _common_grid(tables: Sequence[Mapping[tuple[int, str], float]]) -> tuple[tuple[int, ...], tuple[str, ...]] | None:
    """Find the largest grid of seeds 0, 1, ... and games that all tables fill; None where there is none."""
    common = set.intersection(*(set(table) for table in tables))
    seeds = sorted({seed for seed, _ in common})
    grids = []
    for count in range(1, len(seeds) + 1):
        games = sorted({game for _, game in common if all((seed, game) in common for seed in seeds[:count])})
        grids.append((tuple(seeds[:count]), tuple(games)))
    return max(grids, key=lambda grid: (len(grid[0]) * len(grid[1]), len(grid[1])), default=None)
