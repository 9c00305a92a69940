"""Aggregates of normalized scores over games and seeds, with stratified-bootstrap intervals (Agarwal et al., 2021).

Scores are arrays of shape (seeds, games). A bootstrap draws the seeds of each game anew and keeps the games, as in
*Deep Reinforcement Learning at the Edge of the Statistical Precipice*, https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pretrainrl.errors import InputError

Scores = NDArray[np.float64]
Metric = Callable[[Scores], Scores]

LEVEL, REPETITIONS = 0.95, 2_000


@dataclass(frozen=True)
class Estimate:
    """A number and its interval.

    Attributes:
        value: Estimate from the scores as they are.
        low: Lower end of the interval; NaN where there is one seed, because one run says nothing of how runs vary.
        high: Upper end of the interval; NaN where there is one seed.
        level: Probability with which such intervals hold the true value.
    """

    value: float
    low: float
    high: float
    level: float = LEVEL

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def interquartile_mean(scores: Scores) -> Scores:
    """Return the mean of the middle half of the runs: (..., seeds, games) to (...)."""
    return np.asarray(stats.trim_mean(_runs(scores), 0.25, axis=-1), np.float64)


def median_of_games(scores: Scores) -> Scores:
    """Return the median over games of the mean over seeds: (..., seeds, games) to (...)."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def mean_of_games(scores: Scores) -> Scores:
    """Return the mean over games and seeds: (..., seeds, games) to (...)."""
    return np.asarray(_runs(scores).mean(axis=-1))


def optimality_gap(scores: Scores) -> Scores:
    """Return by how much runs stay below the reference on average: (..., seeds, games) to (...)."""
    return np.asarray((1.0 - np.minimum(_runs(scores), 1.0)).mean(axis=-1))


METRICS: dict[str, Metric] = {
    "iqm": interquartile_mean,
    "median": median_of_games,
    "mean": mean_of_games,
    "optimality_gap": optimality_gap,
}


def normalize_scores(scores: Scores, low: Scores | float, high: Scores | float) -> Scores:
    """Put raw scores between 0, which is `low`, and 1, which is `high`; both may be one number a game."""
    return (np.asarray(scores, np.float64) - low) / (np.asarray(high, np.float64) - low)


def estimate(
    scores: Scores, metric: Metric = interquartile_mean, *, level: float = LEVEL, repetitions: int = REPETITIONS, seed: int = 0
) -> Estimate:
    """Estimate a metric of the scores (seeds, games) with its interval.

    Args:
        scores: Normalized scores, (seeds, games), finite.
        metric: Function of scores (..., seeds, games), one of `METRICS`.
        level: Probability that the interval is to hold, in (0, 1).
        repetitions: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Raises:
        InputError: The array is empty, has another number of axes, or is not finite.
    """
    scores = _checked(scores)
    (drawn,) = draw_metric({"": scores}, metric, repetitions=repetitions, seed=seed).values()
    return interval(float(metric(scores)), drawn, level)


def draw_metric(
    scores: Mapping[str, Scores], metric: Metric = interquartile_mean, *, repetitions: int = REPETITIONS, seed: int = 0
) -> dict[str, Scores]:
    """Compute a metric of bootstrap samples of several encoders' scores; every sample has the same seeds of all of them.

    Args:
        scores: Normalized scores (seeds, games) of each encoder, all of one shape.
        metric: Function of scores (..., seeds, games), one of `METRICS`.
        repetitions: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        The metric of each sample by name of the encoder, (repetitions,); NaN where there is one seed.
    """
    first = next(iter(scores.values()))
    if len(first) == 1:
        return {name: np.full(repetitions, np.nan) for name in scores}
    index, games = _draw_seeds(first, np.random.default_rng(seed), repetitions), np.arange(first.shape[1])
    return {name: metric(runs[index, games]) for name, runs in scores.items()}


def interval(value: float, drawn: Scores, level: float = LEVEL) -> Estimate:
    """Return an estimate with the interval that holds the middle of the bootstrap's samples."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), level)


def corrected_level(comparisons: int) -> float:
    """Return the level of each of several intervals that hold together with a probability of 95 % (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, comparisons)


def paired_difference(
    scores: Scores,
    baseline: Scores,
    metric: Metric = interquartile_mean,
    *,
    comparisons: int = 1,
    repetitions: int = REPETITIONS,
    seed: int = 0,
) -> Estimate:
    """Estimate by how much a metric of the scores exceeds that of a baseline on the same games and seeds.

    Both are resampled together, because runs of one game and seed share their data and their games. With several
    comparisons the interval is widened (Bonferroni), so that all of them hold together with a probability of 95 %.

    Args:
        scores: Normalized scores, (seeds, games).
        baseline: Normalized scores of the baseline, of the same shape.
        metric: Function of scores (..., seeds, games), one of `METRICS`.
        comparisons: Number of encoders that are compared with the baseline, at least 1.
        repetitions: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Raises:
        InputError: The shapes differ, or a score is not finite.
    """
    scores, baseline = _checked(scores), _checked(baseline)
    if scores.shape != baseline.shape:
        raise InputError(f"paired scores must have one shape, got {scores.shape} and {baseline.shape}")
    drawn = draw_metric({"ours": scores, "theirs": baseline}, metric, repetitions=repetitions, seed=seed)
    return interval(float(metric(scores) - metric(baseline)), drawn["ours"] - drawn["theirs"], corrected_level(comparisons))


def probability_of_improvement(scores: Scores, baseline: Scores, *, repetitions: int = REPETITIONS, seed: int = 0) -> Estimate:
    """Estimate how probable it is that a run beats one of the baseline on a game drawn at random; a tie counts half.

    Args:
        scores: Scores, (seeds, games), raw or normalized.
        baseline: Scores of the baseline, (its seeds, games).
        repetitions: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Raises:
        InputError: The numbers of games differ, or a score is not finite.
    """
    scores, baseline = _checked(scores), _checked(baseline)
    if scores.shape[1] != baseline.shape[1]:
        raise InputError(f"scores must be of the same games, got {scores.shape[1]} and {baseline.shape[1]} games")
    rng = np.random.default_rng(seed)
    drawn = _wins(_resample(scores, rng, repetitions), _resample(baseline, rng, repetitions))
    return interval(float(_wins(scores, baseline)), drawn)


def performance_profile(
    scores: Scores, thresholds: Scores, *, repetitions: int = REPETITIONS, seed: int = 0
) -> tuple[Scores, Scores, Scores]:
    """Return the share of runs above each threshold.

    Args:
        scores: Normalized scores, (seeds, games).
        thresholds: Normalized scores, (T,).
        repetitions: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        Shares, and the lower and upper ends of their intervals, (T,) each.

    Raises:
        InputError: The scores are empty or not finite.
    """
    scores = _checked(scores)
    drawn = _runs(_resample(scores, np.random.default_rng(seed), repetitions))
    shares = np.array([(_runs(scores) > threshold).mean() for threshold in thresholds])
    samples = np.stack([(drawn > threshold).mean(axis=-1) for threshold in thresholds], axis=-1)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return shares, low, high


def correlation(first: Scores, second: Scores) -> Estimate:
    """Estimate Pearson's correlation of two numbers of each encoder, (encoders,) each, with Fisher's interval.

    Raises:
        InputError: There are fewer than four encoders, or all have the same number.
    """
    if first.shape != second.shape or first.ndim != 1 or first.size < 4:
        raise InputError(f"a correlation needs two numbers of at least 4 encoders, got {first.shape} and {second.shape}")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        raise InputError("a correlation needs encoders that differ; all have the same number")
    found: Any = stats.pearsonr(first, second)
    interval = found.confidence_interval(LEVEL)
    return Estimate(float(found.statistic), float(interval.low), float(interval.high))


def _runs(scores: Scores) -> Scores:
    """Join seeds and games: (..., seeds, games) to (..., runs)."""
    return scores.reshape(*scores.shape[:-2], -1)


def _checked(scores: Scores) -> Scores:
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or scores.size == 0:
        raise InputError(f"scores must be (seeds, games) with at least one of each, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError("scores must be finite; leave out games that have no reference")
    return scores


def _draw_seeds(scores: Scores, rng: np.random.Generator, repetitions: int) -> NDArray[np.int64]:
    """Draw seeds for each game on its own, (repetitions, seeds, games)."""
    return rng.integers(len(scores), size=(repetitions, *scores.shape))


def _resample(scores: Scores, rng: np.random.Generator, repetitions: int) -> Scores:
    return np.asarray(scores[_draw_seeds(scores, rng, repetitions), np.arange(scores.shape[1])])


def _wins(scores: Scores, baseline: Scores) -> Scores:
    """Share of pairs of runs of the same game that the first wins: (..., seeds, games) to (...)."""
    first, second = scores[..., :, None, :], baseline[..., None, :, :]
    return np.asarray(((first > second) + 0.5 * (first == second)).mean(axis=(-3, -2, -1)))
