"""Aggregates against slow, obvious references."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pretrainrl.benchmarking.aggregate import (
    METRICS,
    Estimate,
    correlation,
    estimate,
    interquartile_mean,
    median_of_games,
    normalize_scores,
    optimality_gap,
    paired_difference,
    performance_profile,
    probability_of_improvement,
)
from pretrainrl.errors import InputError

MATRICES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6), elements=st.floats(-5, 5))


@given(MATRICES)
def test_interquartile_mean_drops_a_quarter_at_each_end(scores: np.ndarray) -> None:
    runs = sorted(scores.ravel())
    cut = len(runs) // 4
    kept = runs[cut : len(runs) - cut]
    assert float(interquartile_mean(scores)) == pytest.approx(sum(kept) / len(kept), abs=1e-9)


@given(MATRICES)
def test_median_and_gap(scores: np.ndarray) -> None:
    means = [sum(column) / len(column) for column in scores.T]
    assert float(median_of_games(scores)) == pytest.approx(float(np.median(means)), abs=1e-9)
    gaps = [max(0.0, 1.0 - score) for score in scores.ravel()]
    assert float(optimality_gap(scores)) == pytest.approx(sum(gaps) / len(gaps), abs=1e-9)


@given(MATRICES, MATRICES)
def test_probability_of_improvement_counts_pairs(first: np.ndarray, second: np.ndarray) -> None:
    games = min(first.shape[1], second.shape[1])
    first, second = first[:, :games], second[:, :games]
    wins = [
        (a > b) + 0.5 * (a == b)
        for game in range(games)
        for a, b in product(first[:, game].tolist(), second[:, game].tolist())
    ]
    found = probability_of_improvement(first, second, repetitions=50)
    assert found.value == pytest.approx(sum(wins) / len(wins))
    assert 0 <= found.low <= found.high <= 1


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_metrics_of_many_samples_are_those_of_each(metric) -> None:
    samples = np.random.default_rng(0).normal(size=(7, 3, 5))
    np.testing.assert_allclose(metric(samples), [float(metric(sample)) for sample in samples])


def test_the_bootstrap_draws_seeds_of_each_game_alone() -> None:
    """Games never mix: where a game's seeds agree, its scores do not vary, however far apart the games are."""
    scores = np.tile([0.0, 10.0, -3.0], (4, 1))
    found = estimate(scores)
    assert found.low == found.value == found.high


def test_intervals_hold_what_they_say() -> None:
    """Of 200 experiments with 10 seeds, about 95 % of the intervals of the mean hold the true mean."""
    rng = np.random.default_rng(0)
    held = 0
    for number in range(200):
        scores = rng.normal(0.5, 1.0, size=(10, 6))
        found = estimate(scores, METRICS["mean"], repetitions=400, seed=number)
        held += found.low <= 0.5 <= found.high
    assert 0.88 <= held / 200 <= 1.0


def test_paired_differences_are_narrower_than_unpaired_ones_and_widen_with_comparisons() -> None:
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 1, size=(5, 8))  # of data and games, which both share
    baseline, better = luck + rng.normal(0, 0.01, luck.shape), luck + 0.2
    one, many = paired_difference(better, baseline), paired_difference(better, baseline, comparisons=13)
    assert one.decided and one.low == pytest.approx(0.2, abs=0.05)
    assert many.low <= one.low and one.high <= many.high and many.level == pytest.approx(1 - 0.05 / 13)


def test_equal_runs_do_not_differ() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 4))
    assert paired_difference(scores, scores) == Estimate(0.0, 0.0, 0.0)
    assert not paired_difference(scores, scores).decided


def test_profile_falls_from_one_to_zero() -> None:
    scores = np.random.default_rng(0).uniform(size=(3, 4))
    shares, low, high = performance_profile(scores, np.array([-1.0, 0.25, 0.5, 0.75, 2.0]), repetitions=100)
    assert shares[0] == 1 and shares[-1] == 0 and (np.diff(shares) <= 0).all()
    assert (low <= shares).all() and (shares <= high).all()


def test_correlation_with_its_interval() -> None:
    x = np.arange(10.0)
    found = correlation(x, 2 * x + np.random.default_rng(0).normal(size=10))
    assert found.low < found.value < found.high <= 1 and found.value > 0.9
    with pytest.raises(InputError, match="at least 4 encoders"):
        correlation(x[:3], x[:3])
    with pytest.raises(InputError, match="all have the same number"):
        correlation(x, np.ones(10))


def test_normalization_takes_one_pair_of_numbers_a_game() -> None:
    normalized = normalize_scores(np.array([[10.0, 5.0]]), np.array([0.0, 5.0]), np.array([20.0, 10.0]))
    np.testing.assert_allclose(normalized, [[0.5, 0.0]])


@pytest.mark.parametrize(
    ("scores", "message"),
    [(np.zeros((0, 3)), "at least one"), (np.zeros(3), "seeds, games"), (np.array([[np.nan]]), "finite")],
)
def test_wrong_scores_are_refused(scores: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(scores)


def test_shapes_that_do_not_pair_are_refused() -> None:
    with pytest.raises(InputError, match=r"one shape, got \(2, 3\) and \(3, 3\)"):
        paired_difference(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(InputError, match="same games"):
        probability_of_improvement(np.zeros((2, 3)), np.zeros((2, 4)))


def test_as_rliable_says() -> None:
    """The authors' own package gives the same estimates, and intervals that differ by no more than chance."""
    library = pytest.importorskip("rliable.library")
    metrics = pytest.importorskip("rliable.metrics")
    scores, baseline = np.random.default_rng(0).normal(0.5, 1.0, size=(2, 5, 10))
    theirs = {
        "iqm": metrics.aggregate_iqm,
        "median": metrics.aggregate_median,
        "mean": metrics.aggregate_mean,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }
    for name, metric in theirs.items():
        values, intervals = library.get_interval_estimates(
            {"x": scores}, lambda runs, f=metric: np.array([f(runs)]), reps=2_000
        )
        ours = estimate(scores, METRICS[name])
        assert ours.value == pytest.approx(float(values["x"][0]))
        np.testing.assert_allclose([ours.low, ours.high], intervals["x"][:, 0], atol=0.04)
    assert probability_of_improvement(scores, baseline).value == pytest.approx(
        metrics.probability_of_improvement(scores, baseline)
    )
