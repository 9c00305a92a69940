"""Suites: cards that run no code, and are refused as a whole when one field is wrong."""

from pathlib import Path
from typing import Any

import pytest
from benchmark_results import suite_table as table

from pretrainrl.benchmarking.suite import SUITES, Suite, find_suite
from pretrainrl.errors import CardError, InputError, UnknownNameError
from pretrainrl.games import all_scores


@pytest.mark.parametrize("name", SUITES.names())
def test_registered_suites_name_games_of_their_splits(name: str) -> None:
    suite = SUITES.get(name)
    assert suite.name == name
    assert suite.splits == {slug: all_scores()[slug].split for slug in suite.splits}


def test_a_seed_of_all_games_comes_before_the_next() -> None:
    suite = Suite.parse(table(), "mine.toml")
    assert list(suite.select()) == [
        ("bc", game, seed) for seed in (0, 1) for game in ("boxing", "breakout", "freeway", "klax")
    ]
    assert list(suite.select(["bc"], ["Klax"], 1)) == [("bc", "klax", 0)]
    assert suite.splits["breakout"] == "id"


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"tasks": ["bcc"]}, UnknownNameError, "bc"),
        ({"games": ["pong"]}, UnknownNameError, "game of mine"),
        ({"games": ["bogus"]}, UnknownNameError, "bogus"),
        ({"seeds": 0}, InputError, "at least 1"),
    ],
)
def test_wrong_choices_are_refused(chosen: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(Suite.parse(table(), "mine.toml").select(**chosen))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"games": {"seen": ["pong"]}}, "splits are id, near_ood, far_ood, not seen"),
        ({"games": {}}, "at least one game"),
        ({"tasks": {}}, "one task"),
        (
            {"tasks": {"bc": {"agent": "bc", "preset": "short", "length": 2, "dataset": "pretrainrl/atari/pong-expert-v0"}}},
            "game",
        ),
        ({"evaluation": {"episodes": 0, "max_episode_steps": 1}}, "episodes"),
        ({"seeds": 0}, "seeds"),
        ({"code": "import os"}, "code"),
        ({"dtype": "float64"}, "dtype"),
    ],
)
def test_wrong_cards_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        Suite.parse(table(**changes), "mine.toml")


def test_a_suite_of_ones_own_is_a_file(tmp_path: Path) -> None:
    Suite.parse(table(), "mine.toml").write(tmp_path / "mine.toml")
    assert find_suite(tmp_path / "mine.toml") == find_suite(str(tmp_path / "mine.toml")) == Suite.parse(table(), "mine.toml")
    with pytest.raises(UnknownNameError, match="atari-mini"):
        find_suite("atari-mni")
    with pytest.raises(CardError, match="no card at"):
        find_suite(tmp_path / "other.toml")
