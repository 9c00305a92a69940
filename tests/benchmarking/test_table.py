"""Comparisons of encoders that have not all finished the same cells."""

from typing import Any

import numpy as np
import pytest
from benchmark_results import make_result, make_suite

from pretrainrl.benchmarking.table import compare, correlate, is_ill_conditioned, rank
from pretrainrl.errors import InputError
from pretrainrl.games import all_scores

GAMES = ("boxing", "breakout", "freeway")


def results(levels: dict[str, float], *, games: tuple[str, ...] = GAMES, seeds: int = 3, **changes: Any) -> list[Any]:
    """Runs whose normalized scores are `level` and, for another seed, a little more."""
    found = []
    for encoder, level in levels.items():
        for game in games:
            facts = all_scores()[game]
            for seed in range(seeds):
                raw = facts.random + (level + 0.01 * seed) * (facts.reference - facts.random)
                found.append(make_result(encoder=encoder, game=game, seed=seed, scores=(raw, raw), **changes))
    return found


def test_encoders_are_ranked_by_normalized_iqm() -> None:
    comparison = compare(results({"atc": 0.5, "random": 0.2, "spr": 0.8}), make_suite(), "bc", "id")
    rows = rank(comparison, ["random", "end-to-end"])
    assert [row.encoder for row in rows] == ["spr", "atc", "random"]
    assert comparison.games == GAMES and comparison.seeds == (0, 1, 2)
    assert rows[1].metrics["iqm"].value == pytest.approx(0.51)
    assert rows[1].differences["random"].value == pytest.approx(0.3)
    assert rows[1].differences["random"].decided and rows[1].improvements["random"].value == 1
    assert set(rows[2].differences) == set(), "a baseline is not compared with itself, nor with what is missing"


def test_only_what_all_have_finished_is_compared() -> None:
    found = results({"atc": 0.5}) + results({"random": 0.2}, games=GAMES[:2], seeds=2)
    comparison = compare(found, make_suite(), "bc", "id")
    assert comparison.games == GAMES[:2] and comparison.seeds == (0, 1)
    assert comparison.scores["atc"].shape == (2, 2) and comparison.unfinished == ()


def test_an_encoder_without_common_cells_is_left_out_and_named() -> None:
    found = results({"atc": 0.5, "random": 0.1}, games=GAMES[:2]) + results({"new": 0.9}, games=GAMES[2:], seeds=1)
    comparison = compare(found, make_suite(), "bc", "id")
    assert comparison.unfinished == ("new",) and set(comparison.scores) == {"atc", "random"}


def test_failed_cells_and_other_splits_do_not_count() -> None:
    found = results({"atc": 0.5}) + results({"atc": 0.9}, games=("klax",))
    failed = make_result(encoder="spr", status="failed", scores=(), error="killed")
    comparison = compare([*found, failed], make_suite(), "bc", "id")
    assert set(comparison.scores) == {"atc"} and "klax" not in comparison.games
    with pytest.raises(InputError, match="no cell of rainbow on id is finished"):
        compare(found, make_suite(), "rainbow", "id")


def test_games_whose_reference_is_not_above_random_are_left_out_and_named() -> None:
    suite = make_suite(games={"id": ["boxing", "asteroids"]})
    comparison = compare(results({"atc": 0.5}, games=("boxing", "asteroids")), suite, "bc", "id")
    assert comparison.ill_conditioned == ("asteroids",) and comparison.games == ("boxing",)
    flagged = {game for game in all_scores() if is_ill_conditioned(game)}
    assert flagged == {"asteroids", "elevatoraction", "privateeye", "montezumarevenge"}


def test_scores_can_be_normalized_by_a_person() -> None:
    comparison = compare(results({"atc": 1.0}, seeds=1), make_suite(), "bc", "id")
    facts: list[Any] = [all_scores()[game] for game in GAMES]
    expected = [(fact.reference - fact.random) / (fact.human - fact.random) for fact in facts]
    np.testing.assert_allclose(comparison.normalized("atc", "human"), [expected])
    far = compare(results({"atc": 1.0}, games=("klax",)), make_suite(), "bc", "far_ood")
    with pytest.raises(InputError, match="person's score"):
        far.normalized("atc", "human")


def test_correlation_is_over_encoders_of_both_tasks() -> None:
    levels = {"a": 0.1, "b": 0.3, "c": 0.4, "d": 0.9, "e": 0.95}
    first = rank(compare(results(levels), make_suite(), "bc", "id"))
    names, found = correlate(first, [row for row in first if row.encoder != "e"])
    assert names == ["a", "b", "c", "d"] and found.value == pytest.approx(1.0)
