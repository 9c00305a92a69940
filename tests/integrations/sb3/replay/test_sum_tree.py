"""The sum tree against a list of priorities."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrainrl.integrations.sb3.replay.prioritized_replay import SumTree

SIZES = st.sampled_from([1, 2, 15, 16, 17, 300, 8192, 8193, 140_000])  # one to four levels
PRIORITIES = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, list[list[tuple[int, float]]]]:
    """A size, and batches of changes with equal indices among them."""
    size = draw(SIZES)
    change = st.tuples(st.integers(0, size - 1), PRIORITIES)
    return size, draw(st.lists(st.lists(change, min_size=1, max_size=20), min_size=1, max_size=5))


def made(size: int, batches: list[list[tuple[int, float]]]) -> tuple[SumTree, list[float]]:
    tree, slow = SumTree(size), [0.0] * size
    for batch in batches:
        indices, priorities = zip(*batch, strict=True)
        tree.set(np.array(indices), np.array(priorities))
        for index, priority in batch:
            slow[index] = priority
    return tree, slow


@settings(max_examples=60, deadline=None)
@given(changes())
def test_holds_what_was_set(case: tuple[int, list[list[tuple[int, float]]]]) -> None:
    tree, slow = made(*case)
    assert tree.get(np.arange(len(slow))).tolist() == slow
    assert tree.total == pytest.approx(sum(slow))
    for level, above in zip(tree._levels, [*tree._levels[1:], tree._top], strict=True):
        np.testing.assert_allclose(level.sum(axis=1), above.ravel()[: len(level)], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(changes(), st.integers(1, 40), st.integers(0, 99))
def test_draws_what_a_list_would(case: tuple[int, list[list[tuple[int, float]]]], count: int, seed: int) -> None:
    tree, slow = made(*case)
    if not any(slow):
        with pytest.raises(ValueError, match="zero"):
            tree.draw(count)
        return
    np.random.seed(seed)
    indices, priorities = tree.draw(count)
    np.random.seed(seed)
    masses = (np.arange(count) + np.random.random_sample(count)) * (sum(slow) / count)
    bounds = list(accumulate(slow))
    for index, priority, mass in zip(indices.tolist(), priorities.tolist(), masses.tolist(), strict=True):
        assert priority == slow[index] > 0
        margin = 1e-9 * sum(slow)  # sums in another order
        assert bounds[index] - slow[index] - margin <= mass <= bounds[index] + margin


def test_law_of_draws() -> None:
    """Chi-square over all indices; batches of parts of equal mass are, together, as likely as single draws."""
    rng = np.random.default_rng(0)
    priorities = rng.random(700) ** 3 * (rng.random(700) > 0.2)
    tree = SumTree(700)
    tree.set(np.arange(700), priorities)
    np.random.seed(0)
    drawn = np.concatenate([tree.draw(1)[0] for _ in range(10_000)] + [tree.draw(32)[0] for _ in range(2_000)])
    counts = np.bincount(drawn, minlength=700)
    assert counts[priorities == 0].sum() == 0
    expected = priorities / priorities.sum() * len(drawn)
    likely = expected > 5
    chi_square = float(((counts - expected)[likely] ** 2 / expected[likely]).sum())
    freedom = int(likely.sum())
    assert chi_square < freedom + 3 * (2 * freedom) ** 0.5  # mean and deviation of its law; stratifying only lowers it
    assert chi_square > freedom / 10


def test_one_of_each_part() -> None:
    tree = SumTree(64)
    tree.set(np.arange(64), 1.0)
    np.random.seed(0)
    assert (tree.draw(64)[0] == np.arange(64)).all()


def test_extremes_stay_where_mass_is() -> None:
    """Rounding never leads to a priority of zero, however far apart the others are."""
    tree = SumTree(5000)
    tree.set(np.array([3, 1700, 1702, 4999]), np.array([1e-300, 1e300, 1e-12, 1e-3]))
    np.random.seed(0)
    for _ in range(200):
        assert set(tree.draw(33)[0].tolist()) <= {3, 1700, 1702, 4999}
    tree.set(np.array([1700]), 0.0)
    assert set(np.concatenate([tree.draw(33)[0] for _ in range(200)]).tolist()) <= {3, 1702, 4999}


def test_sums_do_not_drift() -> None:
    tree, rng = SumTree(1000), np.random.default_rng(0)
    for _ in range(2000):
        tree.set(rng.integers(1000, size=32), rng.random(32) * 10.0 ** rng.integers(-9, 9))
    tree.set(np.arange(1000), 0.0)
    assert tree.total == 0
