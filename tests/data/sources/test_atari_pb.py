"""Atari-PB's finished files give the same episodes as the shards that they were made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from atari_pb_data import replace, write_files
from dqn_shards import Log, log_of, numbered, write_shard

from pretrainrl.data.episode import Episode
from pretrainrl.data.sources.atari_pb import GAMES, find_atari_pb_shards
from pretrainrl.data.sources.dqn_replay import find_shards
from pretrainrl.data.sources.shard import Findings, check_shards, read_episodes
from pretrainrl.errors import DatasetError, InputError, UnknownNameError
from pretrainrl.games import all_games

PONG, BREAKOUT = GAMES.index("pong"), GAMES.index("breakout")


def log(number: int) -> Log:
    """The first 28 rows; they end within the third episode."""
    return {name: array[:28] for name, array in log_of(numbered([10, 6, 9], number)).items()}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two games of two runs with three checkpoints each."""
    logs = {game: [[log(10 * run + checkpoint) for checkpoint in range(3)] for run in range(2)] for game in (PONG, BREAKOUT)}
    for run in logs[BREAKOUT]:
        for shard in run:
            actions: Any = shard["action"]
            actions %= 4
    return write_files(tmp_path / "atari-pb", logs)


def read(folder: Path, steps: int, findings: Findings | None = None, game: str = "pong") -> list[Episode]:
    shards = find_atari_pb_shards(folder, [game], [2], [2])[game]
    check_shards(shards)
    return list(read_episodes(shards, steps, 6, findings=findings))


def assert_same(episodes: list[Episode], expected: list[Episode]) -> None:
    assert len(episodes) == len(expected) > 0
    for one, other in zip(episodes, expected, strict=True):
        for name in ("frames", "actions", "rewards", "terminations", "truncations"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert one.metadata == other.metadata


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("steps", [5, 16, 18, 100])
def test_same_as_the_shards(tmp_path: Path, n: int, steps: int) -> None:
    """Terminals are marked early by n - 1 rows, padding is there, and rewards may be no numbers."""
    original = log(0)
    original["reward"][[4, 9]] = np.nan, 7
    write_shard(tmp_path / "dqn", original, run=2, checkpoint=2)
    write_files(tmp_path / "pb", {PONG: [[log(7)] * 2, [log(8), original]]}, n=n)
    ours, theirs = Findings(), Findings()
    expected = list(read_episodes(find_shards(tmp_path / "dqn", ["pong"], [2], [2])["pong"], steps, 6, findings=theirs))
    assert_same(read(tmp_path / "pb", steps, ours), expected)
    assert ours == theirs and (ours.nan_rewards or steps == 5)


def test_an_end_in_the_last_row(tmp_path: Path) -> None:
    part = {name: array[:13] for name, array in log(0).items()}
    write_files(tmp_path, {PONG: [[part] * 2] * 2})
    [episode] = read(tmp_path, 100)
    assert (len(episode), episode.metadata["ends_by"]) == (10, "game_over")


def test_each_shard_is_in_its_place(files: dict[str, Path]) -> None:
    shards = find_atari_pb_shards(files["action"].parent, ["Breakout", "pong"], [2, 1], [3, 1])
    assert list(shards) == ["breakout", "pong"]
    for game, found in shards.items():
        assert [(shard.run, shard.checkpoint) for shard in found] == [(1, 1), (1, 3), (2, 1), (2, 3)]
        firsts = [episode for episode in read_episodes(found, 5, 6) if episode.game == game]
        assert [episode.frames[0, 0, 0] for episode in firsts] == [1, 3, 11, 13]


def test_games_are_known(files: dict[str, Path]) -> None:
    assert len(GAMES) == 60 and set(GAMES) <= set(all_games()) and list(GAMES) == sorted(GAMES)
    with pytest.raises(DatasetError, match=r"game_id_.* does not hold boxing; it holds breakout, pong"):
        find_atari_pb_shards(files["action"].parent, ["boxing"], [1], [1])
    with pytest.raises(UnknownNameError, match="pnog"):
        find_atari_pb_shards(files["action"].parent, ["pnog"], [1], [1])


@pytest.mark.parametrize(
    ("runs", "checkpoints", "message"), [([3], [1], "runs 1 to 2, not 3"), ([1], [4], "checkpoints 1 to 3")]
)
def test_runs_and_checkpoints_that_are_not_there(
    files: dict[str, Path], runs: list[int], checkpoints: list[int], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        find_atari_pb_shards(files["action"].parent, ["pong"], runs, checkpoints)
    with pytest.raises(InputError, match="from 1"):
        find_atari_pb_shards(files["action"].parent, ["pong"], [0], [1])


def test_the_largest_complete_set(tmp_path: Path) -> None:
    short = {name: array[:8] for name, array in log(0).items()}
    write_files(tmp_path, {PONG: [[short] * 2] * 2}, steps=8)
    paths = write_files(tmp_path, {PONG: [[log(0)] * 2] * 2}, steps=28, n=0, discount="1.0")
    assert sum(map(len, read(tmp_path, 100))) == 10 + 6 + 2
    paths["observation"].unlink()
    assert sum(map(len, read(tmp_path, 100))) == 4


def test_everything_missing_is_named_at_once(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("observation", "terminal"):
        files[name].unlink()
    files["rtg"].unlink()  # is not read
    with pytest.raises(DatasetError, match=r"missing in \S+: observation_10000\.hdf5, terminal_10000_3_0\.99\.hdf5$"):
        read(files["action"].parent, 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"observation_10000.hdf5, action_10000_<n>_<discount>\.hdf5, .*game_id"):
        read(tmp_path / "empty", 5)
    with pytest.raises(DatasetError, match="no folder"):
        read(tmp_path / "nowhere", 5)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("observation", cut, "cannot read .*observation_10000.*truncated file"),
        ("observation", lambda path: path.write_bytes(b"<html>no"), "cannot read .*observation_10000.*"),
        ("observation", lambda path: path.write_bytes(b""), "cannot read .*observation_10000.*"),
        ("action", lambda path: replace(path, np.ones(3), "images"), "holds images instead of an array 'data'"),
        ("action", lambda path: replace(path, np.ones((2, 2, 3, 28), np.float32)), "holds float32 instead of integer"),
        (
            "action",
            lambda path: replace(path, np.ones((2, 2, 3, 27), np.int32)),
            r"differ in .*: observation_\S* \(2, 2, 3, 28\), action",
        ),
        (
            "terminal",
            lambda path: replace(path, np.ones((2, 2, 3), bool)),
            r"\(2, 2, 3\) instead of \(games, runs, checkpoints, rows\)",
        ),
        (
            "observation",
            lambda path: replace(path, np.ones((2, 2, 3, 28, 80, 84), np.uint8)),
            r"instead of \(games, .*rows, 84, 84\)",
        ),
        ("observation", lambda path: replace(path, np.ones((2, 2, 3, 28, 1, 84, 84), np.float32)), "float32 instead of uint8"),
        ("reward", lambda path: replace(path, np.ones((2, 2, 0, 28), np.float32)), "instead of"),
        ("game_id", lambda path: replace(path, np.full((2, 2, 3, 28), 60)), r"holds 60; games have the numbers 0\.\.59"),
        ("game_id", lambda path: replace(path, np.full((2, 2, 3, 28), PONG)), "holds pong 2 times: .* was interrupted"),
        ("action", lambda path: replace(path, np.full((2, 2, 3, 28), 9)), r"holds action 9 in row 0; it must be in 0\.\.5"),
    ],
)
def test_damage(files: dict[str, Path], name: str, damage: Callable[[Path], None], message: str) -> None:
    damage(files[name])
    with pytest.raises(DatasetError, match=message) as error:
        read(files["action"].parent, 20)
    assert files[name].name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["observation", "action"])
def test_what_an_interrupted_build_leaves(files: dict[str, Path], name: str) -> None:
    """HDF5 gives zeros for what was never written, and the benchmark takes them for data."""
    with h5py.File(files[name], "a") as file:
        file["data"][0, 1, 1:] = 0
    with pytest.raises(DatasetError, match=f"{name}_10000.* is zero for run 2 and checkpoint 2 of pong: .*interrupted"):
        read(files["action"].parent, 5)
    assert read(files["action"].parent, 5, game="breakout")


def test_other_types_that_hold_the_same(files: dict[str, Path]) -> None:
    expected = read(files["action"].parent, 18)
    for name, dtype in (("action", ">i8"), ("reward", "f8"), ("terminal", "u1")):
        with h5py.File(files[name]) as file:
            array = file["data"][()]
        replace(files[name], array.astype(dtype)[..., None])
    with h5py.File(files["observation"]) as file:
        array = file["data"][()]
    replace(files["observation"], array.reshape(2, 2, 3, 28, 84, 84))
    assert_same(read(files["action"].parent, 18), expected)
