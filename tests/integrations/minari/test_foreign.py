"""Datasets of others: what their actions mean, what their files refer to, and what may be advised about them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from dqn_shards import numbered
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space

from pretrainrl.data.actions import ActionSet
from pretrainrl.data.episode import Episode
from pretrainrl.errors import DatasetError
from pretrainrl.games import ALL_ACTIONS, all_games, all_minimal_actions
from pretrainrl.integrations.minari import cache_datasets, check_dataset, local_ids, open_dataset, write_dataset
from pretrainrl.integrations.minari.metadata import datasets_root

NAME, MAIN = "pretrainrl/atari/pong-theirs-v0", "data/main_data.hdf5"

pytestmark = pytest.mark.filterwarnings("ignore:.* is set to None", "ignore:env_spec is None")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "datasets"


def theirs(actions: Any, space: Space[Any], spec: Any = None, **facts: Any) -> Episode:
    """Write one episode of Pong with plain Minari, under other numbers of its actions."""
    [episode] = numbered([len(actions)])
    buffer = minari.data_collector.EpisodeBuffer(
        observations=episode.frames,
        actions=np.asarray(actions),
        rewards=episode.rewards,
        terminations=episode.terminations,
        truncations=episode.truncations,
    )
    spaces = {"observation_space": Box(0, 255, (84, 84), np.uint8), "action_space": space}
    made = minari.create_dataset_from_buffers(NAME, [buffer], env=spec, **spaces, jpeg_encoding=False)
    made.storage.update_metadata(facts)
    return episode


def refused(message: str) -> None:
    """Reading refuses it, and the list of datasets says so."""
    for read in (check_dataset, lambda name: list(open_dataset(name)), lambda name: cache_datasets([name])):
        with pytest.raises(DatasetError, match=message) as error:
            read(NAME)
        assert NAME in str(error.value)
        assert "delete" not in str(error.value)


def test_minimal_sets_are_those_of_ale() -> None:
    import ale_py

    for slug in ("pong", "breakout", "freeway", "mspacman", "tictactoe3d"):
        ale = ale_py.ALEInterface()
        ale.loadROM(all_games()[slug].rom_path)
        assert [action.value for action in ale.getMinimalActionSet()] == list(all_games()[slug].minimal_actions)
    assert [ale_py.Action(number).name for number in range(18)] == list(ALL_ACTIONS)
    assert set(all_games()) == set(all_minimal_actions())


@pytest.mark.parametrize("spec", [None, "ALE/Pong-v5"])
def test_the_full_set_is_translated(spec: str | None) -> None:
    full = [0, 1, 3, 4, 11, 12, 0, 4]  # NOOP FIRE RIGHT LEFT RIGHTFIRE LEFTFIRE NOOP LEFT
    theirs(full, Discrete(18), gymnasium.spec(spec) if spec else None)
    assert check_dataset(NAME).transitions == 8
    [episode] = open_dataset(NAME)
    assert episode.actions.tolist() == [0, 1, 2, 3, 4, 5, 0, 3]
    assert open_dataset(NAME).num_actions == 6
    assert cache_datasets([NAME]).actions.tolist()[1:9] == episode.actions.tolist()


def test_names_of_actions_count() -> None:
    theirs([0, 1, 2], Discrete(3), action_meanings=["LEFT", "NOOP", "RIGHT"])
    assert next(iter(open_dataset(NAME))).actions.tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    ("actions", "space", "facts", "message"),
    [
        ([0, 17, 3], Discrete(18), {}, "it has the action DOWNLEFTFIRE, and pong is played with NOOP, FIRE"),
        ([0, 1, 2], Discrete(4), {}, "nobody knows what its 4 actions mean; pong is played with 6"),
        ([0, 1, 2], Discrete(6), {"action_meanings": ["A", "B", "C", "D", "E", "F"]}, "it calls them A, B"),
        ([0, 1, 2], Discrete(6), {"action_meanings": ["NOOP", "FIRE"]}, "nobody knows"),
        ([0, 1, 7], Discrete(6), {}, r"it has the action 7; its actions are 0\.\.5"),
        ([0, 1, -1], Discrete(6), {}, "it has the action -1"),
        ([1, 2, 3], Discrete(6, start=1), {}, "counted from 0"),
        ([[0, 1]] * 3, MultiDiscrete([3, 2]), {}, "MultiDiscrete"),
        ([0.0, 1.0, 2.5], Discrete(6), {}, "float64 instead of integers"),
        ([0, 1, 2], Discrete(6), {"game": "chess"}, "is of 'chess', which is no game"),
    ],
)
def test_unknown_actions_are_refused(actions: Any, space: Space[Any], facts: dict[str, Any], message: str) -> None:
    theirs(actions, space, **facts)
    refused(message)


def test_a_full_set_that_is_said_and_not_given() -> None:
    theirs([0, 1], Discrete(6), gymnasium.spec("ALE/Pong-v5"))
    rewrite(env_spec=lambda text: text.replace('"full_action_space": false', '"full_action_space": true'))
    refused("nobody knows what the 6 actions of")


def test_every_number_means_the_same_in_both_sets() -> None:
    for game, minimal in all_minimal_actions().items():
        found = ActionSet.of(game, 18).to_minimal(np.array(minimal))
        assert found.tolist() == list(range(len(minimal)))


def rewrite(**changes: Callable[[Any], Any]) -> None:
    """Change some of the metadata; None takes a value away."""
    path = datasets_root() / NAME / "data/metadata.json"
    facts = json.loads(path.read_text())
    for key, change in changes.items():
        facts[key] = change(facts[key])
    path.write_text(json.dumps({key: value for key, value in facts.items() if value is not None}))


def test_metadata_run_no_code(tmp_path: Path) -> None:
    """Plain Minari makes the environment of a dataset without spaces, whatever its metadata say that is."""
    theirs([0, 1], Discrete(6), gymnasium.spec("ALE/Pong-v5"))
    spec = {"id": "ALE/Pong-v5", "entry_point": "os:mkdir", "kwargs": {"path": str(tmp_path / "made")}}
    rewrite(env_spec=lambda text: json.dumps({**json.loads(text), **spec}), action_space=lambda _: None)
    refused("cannot be read")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"total_steps": lambda _: "many"},
        {"observation_space": lambda _: "[]"},
        {"observation_space": lambda _: "[" * 100_000},
        {"minari_version": lambda _: "99.0"},
        {"data_format": lambda _: "csv"},
        {"env_spec": lambda _: "[1]"},
        {"action_space": lambda _: '{"type": "Discrete", "n": "x"}'},
    ],
)
def test_odd_metadata_are_a_dataset_error(changes: dict[str, Callable[[Any], Any]]) -> None:
    theirs([0, 1], Discrete(6), gymnasium.spec("ALE/Pong-v5"))
    rewrite(**changes)
    with pytest.raises(DatasetError, match=NAME) as error:
        check_dataset(NAME)
    assert "delete" not in str(error.value)


def test_a_locked_dataset_is_not_damaged(root: Path) -> None:
    write_dataset(NAME, numbered([5]))
    with h5py.File(root / NAME / MAIN, "a") as file:
        file.attrs["x"] = 1
        file.flush()
        refused("cannot be opened now .*perhaps another program is writing it")
    assert len(open_dataset(NAME)) == 1


def test_what_file_managers_leave_changes_nothing(root: Path) -> None:
    write_dataset(NAME, numbered([5]))
    before, size = open_dataset(NAME).fingerprint, check_dataset(NAME).bytes
    for place in (".DS_Store", "Thumbs.db", "._main_data.hdf5", "episode/.DS_Store"):
        path = root / NAME / "data" / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\0\0\1Bud1")
    assert (open_dataset(NAME).fingerprint, check_dataset(NAME).bytes) == (before, size)


def test_killed_between_the_renames_of_overwriting(root: Path, tmp_path: Path) -> None:
    write_dataset(NAME, numbered([5]))
    script = f"""
import os, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
from dqn_shards import numbered
from pretrainrl.integrations.minari import write_dataset
rename, replace = Path.rename, Path.replace
def dying(self, target, move):
    if Path(target).name == "pong-theirs-v0":
        os._exit(9)
    return move(self, target)
Path.rename = lambda self, target: dying(self, target, rename)
Path.replace = lambda self, target: dying(self, target, replace)
write_dataset({NAME!r}, numbered([6]), overwrite=True)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert not (root / NAME).exists()
    assert local_ids() == [NAME]
    assert check_dataset(NAME).transitions == 5
    write_dataset(NAME, numbered([7]), overwrite=True)
    assert check_dataset(NAME).transitions == 7
    assert sorted(path.name for path in (root / NAME).parent.iterdir()) == ["namespace_metadata.json", "pong-theirs-v0"]
