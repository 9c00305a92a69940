"""Shards become the episodes that were played, whatever the replay buffer made of them."""

import gzip
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from dqn_shards import Log, log_of, npy, numbered, write_shard
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.data.sources import shard as reading
from pretrainrl.data.sources.array_file import ArrayFile
from pretrainrl.data.sources.dqn_replay import find_shards
from pretrainrl.data.sources.shard import Findings, read_episodes
from pretrainrl.errors import DatasetError, InputError


def read(root: Path, steps: int, findings: Findings | None = None, verify: bool = False) -> list[Episode]:
    shards = find_shards(root, ["pong"], [1], [1])["pong"]
    return list(read_episodes(shards, steps, 6, verify=verify, findings=findings))


def facts(episodes: Sequence[Episode], key: str) -> list[object]:
    return [episode.metadata[key] for episode in episodes]


def assert_holds(episode: Episode, original: Episode, start: int = 0) -> None:
    """The transitions of `episode` are those of `original` from `start` on."""
    rows = slice(start, start + len(episode))
    assert np.array_equal(episode.frames[:-1], original.frames[:-1][rows])
    assert np.array_equal(episode.actions, original.actions[rows])
    assert np.array_equal(episode.rewards, np.clip(original.rewards, -1, 1)[rows])


@pytest.fixture
def log() -> Log:
    return log_of(numbered([10, 6, 9]))


def test_real_episodes_come_back(tmp_path: Path) -> None:
    played = list(collect_episodes("breakout", 600, n_envs=1, seed=2))
    write_shard(tmp_path, log_of(played), game="Breakout")
    shards = find_shards(tmp_path, ["breakout"], [1], [1])["breakout"]
    findings = Findings()
    episodes = list(read_episodes(shards, 550, 4, findings=findings))
    assert len(episodes) > 2 and sum(map(len, episodes)) == 550
    for episode, original in zip(episodes, played, strict=False):
        assert_holds(episode, original)
    assert np.array_equal(episodes[-1].frames[-1], played[len(episodes) - 1].frames[len(episodes[-1])])
    assert all(episode.game == "breakout" for episode in episodes)
    assert findings == Findings(dropped_padding_rows=3 * len(episodes))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    padding=st.integers(0, 3),
    start=st.integers(0, 12),
    missing=st.integers(0, 6),
    steps=st.integers(1, 40),
)
def test_transitions_are_those_that_were_played(
    lengths: list[int], padding: int, start: int, missing: int, steps: int
) -> None:
    """Any part of a log gives its transitions in order, as many as were asked for, each once."""
    log = log_of(numbered(lengths), padding)
    part = {name: array[start : len(array) - missing] for name, array in log.items()}
    if not len(part["action"]):
        return
    played = np.flatnonzero(part["observation"].any((1, 2)))
    if len(played) and not part["terminal"][played[-1]]:
        played = played[:-1]  # what follows the last row is not known
    with TemporaryDirectory() as folder:
        write_shard(Path(folder), part)
        episodes = read(Path(folder), steps)
    rows = [
        row
        for episode in episodes
        for row in range(episode.metadata["shard_row"], episode.metadata["shard_row"] + len(episode))
    ]
    assert rows == played[:steps].tolist()
    for episode in episodes:
        first = episode.metadata["shard_row"]
        assert np.array_equal(episode.frames[:-1], part["observation"][first : first + len(episode)])
        assert np.array_equal(episode.actions, part["action"][first : first + len(episode)])
        ended = bool(part["terminal"][first + len(episode) - 1])
        assert episode.terminations[-1] == ended != episode.truncations[-1]
        final = first + len(episode) - ended
        assert np.array_equal(episode.frames[-1], part["observation"][final])


def test_ends_and_final_observations(tmp_path: Path, log: Log) -> None:
    write_shard(tmp_path, log)
    originals, episodes = numbered([10, 6, 9]), read(tmp_path, 20)
    assert list(map(len, episodes)) == [10, 6, 4]
    assert facts(episodes, "ends_by") == ["game_over", "game_over", "cut"]
    assert facts(episodes, "final_observation") == ["repeated", "repeated", "true"]
    assert facts(episodes, "shard_row") == [3, 16, 25]
    assert facts(episodes, "starts_at_reset") == [True] * 3
    assert facts(episodes, "run") == facts(episodes, "checkpoint") == [1] * 3
    assert facts(episodes, "return") == [episode.rewards.sum() for episode in episodes]
    for episode, original in zip(episodes, originals, strict=True):
        assert_holds(episode, original)
        over = episode.metadata["ends_by"] == "game_over"
        last = np.arange(len(episode)) == len(episode) - 1
        assert np.array_equal(episode.terminations, last & over)
        assert np.array_equal(episode.truncations, last & (not over))
        final = episode.frames[-2] if over else original.frames[len(episode)]
        assert np.array_equal(episode.frames[-1], final)


def test_a_cut_at_an_end_is_an_end(tmp_path: Path, log: Log) -> None:
    write_shard(tmp_path, log)
    assert facts(read(tmp_path, 16), "ends_by") == ["game_over", "game_over"]
    assert facts(read(tmp_path, 15), "ends_by") == ["game_over", "cut"]


def test_end_of_a_shard_gives_its_last_frame_as_final_observation(tmp_path: Path) -> None:
    log: dict[str, Any] = {name: array[:20] for name, array in log_of(numbered([10, 30])).items()}
    write_shard(tmp_path, log)
    episodes = read(tmp_path, 1000)
    assert list(map(len, episodes)) == [10, 3]
    assert facts(episodes, "final_observation") == ["repeated", "true"]
    assert np.array_equal(episodes[1].frames, numbered([10, 30])[1].frames[:4])
    for rows in (17, 16, 14, 13):  # one row of the second episode, or only padding
        write_shard(tmp_path, {name: array[:rows] for name, array in log.items()})
        assert list(map(len, read(tmp_path, 1000))) == [10]


def test_shard_that_starts_within_an_episode(tmp_path: Path, log: Log) -> None:
    write_shard(tmp_path, {name: array[7:] for name, array in log.items()})
    findings = Findings()
    episodes = read(tmp_path, 12, findings)
    assert facts(episodes, "starts_at_reset") == [False, True]
    assert_holds(episodes[0], numbered([10])[0], start=4)
    assert findings == Findings(dropped_padding_rows=3)  # the head of a shard need not have any


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_padding_is_left_out_only_where_it_is(tmp_path: Path, padding: int) -> None:
    write_shard(tmp_path, log_of(numbered([5, 6]), padding))
    findings = Findings()
    for episode, original in zip(read(tmp_path, 11, findings), numbered([5, 6]), strict=True):
        assert_holds(episode, original)
    assert findings == Findings(dropped_padding_rows=2 * padding, starts_without_padding=1)


def test_a_fourth_empty_row_and_rows_that_do_something_are_kept(tmp_path: Path) -> None:
    black = numbered([5, 6])
    black[1].frames[0] = 0  # a black screen at the start; action and reward are 0 or not
    for action, reward in [(0, 0), (2, 0), (0, 1)]:
        black[1].actions[0], black[1].rewards[0] = action, reward
        write_shard(tmp_path, log_of(black))
        assert list(map(len, read(tmp_path, 11))) == [5, 6]
    log = log_of(black, padding=2)  # this black screen follows two empty rows: it shows that it is none by its reward
    write_shard(tmp_path, log)
    assert list(map(len, read(tmp_path, 11))) == [5, 6]


def test_time_outs_are_truncations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    monkeypatch.setattr(reading, "TIME_OUT", 6)
    write_shard(tmp_path, log)
    episodes = read(tmp_path, 25)
    assert facts(episodes, "ends_by") == ["game_over", "time_out", "game_over"]
    assert facts(episodes, "final_observation") == ["repeated"] * 3
    assert episodes[1].truncations[-1] and not episodes[1].terminations.any()
    write_shard(tmp_path, {name: array[7:] for name, array in log.items()})  # six steps of a longer episode
    assert facts(read(tmp_path, 12), "ends_by") == ["game_over", "time_out"]


def test_last_of_a_million_rows_went_before_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    log["observation"][-1] = 77  # not what followed
    write_shard(tmp_path, log)
    assert sum(map(len, read(tmp_path, 25))) == 25
    monkeypatch.setattr(reading, "SHARD_ROWS", len(log["action"]))
    episodes = read(tmp_path, 25)
    assert list(map(len, episodes)) == [10, 6, 7]
    assert not any((episode.frames == 77).any() for episode in episodes)


@pytest.mark.parametrize(("add_count", "lengths"), [(20, [10, 3]), (1, []), (34, [10, 6, 9]), (1_999_999, [10, 6, 9])])
def test_old_rows_past_the_count(tmp_path: Path, log: Log, add_count: int, lengths: list[int]) -> None:
    write_shard(tmp_path, log, add_count=add_count)
    assert list(map(len, read(tmp_path, 25))) == lengths


def test_rewards_that_are_no_numbers(tmp_path: Path, log: Log) -> None:
    log["reward"][[4, 6, 30]] = np.nan, np.inf, np.nan
    log["reward"][8] = 7
    write_shard(tmp_path, log)
    findings = Findings()
    episodes = read(tmp_path, 12, findings)
    assert episodes[0].rewards[[1, 3, 5]].tolist() == [0, 0, 7]
    assert np.isfinite(episodes[0].metadata["return"])
    assert (findings.nan_rewards, findings.unclipped_rewards) == (2, 1)  # row 30 was not asked for


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("action", 6, r"action_ckpt\.1\.gz holds action 6 in row 8; it must be in 0\.\.5"),
        ("action", -1, r"holds action -1 in row 8"),
        ("terminal", 2, r"terminal_ckpt\.1\.gz holds terminal 2 in row 8; it must be in 0\.\.1"),
    ],
)
def test_impossible_values(tmp_path: Path, log: Log, name: str, value: int, message: str) -> None:
    log[name][8] = value
    write_shard(tmp_path, log)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, 12)
    assert sum(map(len, read(tmp_path, 5))) == 5  # not read that far


def test_lengths_must_agree(tmp_path: Path, log: Log) -> None:
    write_shard(tmp_path, {**log, "reward": log["reward"][:-1], "terminal": log["terminal"][:30]})
    message = (
        r"differ in rows: \S*observation_ckpt.1.gz 34, \S*action_ckpt.1.gz 34, \S*reward_ckpt.1.gz 33, \S*terminal_\S* 30"
    )
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, 1)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("action", np.zeros((34, 2), np.int32), r"action\S* has shape \(34, 2\) instead of \(rows,\)"),
        ("action", np.zeros(34, np.float32), "action.* holds float32 instead of integer"),
        ("reward", np.zeros(34, "U1"), "reward.* holds <U1 instead of floating or integer"),
        ("terminal", np.zeros(34, np.float32), "terminal.* holds float32 instead of bool"),
        ("observation", np.zeros((34, 84, 80), np.uint8), "observation.* has shape"),
    ],
)
def test_other_arrays(tmp_path: Path, log: Log, name: str, array: np.ndarray, message: str) -> None:
    write_shard(tmp_path, {**log, name: array})
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, 1)


def test_other_types_that_hold_the_same(tmp_path: Path, log: Log) -> None:
    types = {"action": ">i8", "reward": "f8", "terminal": "?", "observation": "u1"}
    write_shard(tmp_path, {name: log[name].astype(types[name])[:, None] for name in log})
    for episode, original in zip(read(tmp_path, 25), numbered([10, 6, 9]), strict=True):
        assert_holds(episode, original)


def test_all_headers_are_checked_before_anything_is_read(tmp_path: Path, log: Log) -> None:
    write_shard(tmp_path, log)
    write_shard(tmp_path, log, checkpoint=2)["terminal"].write_bytes(b"<html>")
    shards = find_shards(tmp_path, ["pong"], [1], [1, 2])["pong"]
    with pytest.raises(DatasetError, match=r"terminal_ckpt\.2\.gz is neither"):
        read_episodes(shards, 5, 6)
    with pytest.raises(InputError, match="steps"):
        read_episodes(shards, 0, 6)


def test_no_rows(tmp_path: Path, log: Log) -> None:
    write_shard(tmp_path, {name: array[:0] for name, array in log.items()})
    with pytest.raises(DatasetError, match="has no rows"):
        read(tmp_path, 1)


@pytest.mark.parametrize("name", ["observation", "action", "reward", "terminal"])
def test_checksums_of_all_files_are_verified(tmp_path: Path, log: Log, name: str) -> None:
    path = write_shard(tmp_path, log)[name]
    path.write_bytes(path.read_bytes()[:-8] + b"12345678")
    assert sum(map(len, read(tmp_path, 12))) == 12
    with pytest.raises(DatasetError, match=f"{name}.*CRC check failed"):
        read(tmp_path, 12, verify=True)


def test_no_further_than_needed(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path, log)
    furthest: dict[str, int] = {}
    monkeypatch.setattr(ArrayFile, "close", lambda self: furthest.update({self.path.name: self.position}))
    read(tmp_path, 12)
    assert set(furthest.values()) <= {18, 19} and len(furthest) == 4  # twelve and two times padding; the final observation


def test_several_shards(tmp_path: Path, log: Log) -> None:
    for checkpoint in (1, 2):
        write_shard(tmp_path, log, checkpoint=checkpoint)
    shards = find_shards(tmp_path, ["pong"], [1], [1, 2])["pong"]
    episodes = list(read_episodes(shards, 12, 6))
    assert facts(episodes, "checkpoint") == [1, 1, 2, 2]
    assert list(map(len, episodes)) == [10, 2, 10, 2]
    assert replace(episodes[2], metadata={}).game == "pong"


@pytest.mark.slow
def test_memory_does_not_depend_on_the_shard(tmp_path: Path) -> None:
    """10,000 transitions of a shard of 60,000 rows, 423 MB, in episodes as long as they get."""
    rows = 60_000
    folder = tmp_path / "Pong"
    folder.mkdir()
    with gzip.open(folder / "observation_1.gz", "wb", 1) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 84, 84)})
        block = np.zeros((1000, 84, 84), np.uint8)
        block[:, 0, 0] = 1
        for _ in range(rows // 1000):
            file.write(block.data)
    for name, dtype in (("action", np.int32), ("reward", np.float32), ("terminal", np.uint8)):
        (folder / f"{name}_1.gz").write_bytes(gzip.compress(npy(np.zeros(rows, dtype)), 1))
    [shard] = find_shards(tmp_path, ["pong"], [1], [1])["pong"]
    tracemalloc.start()
    try:
        lengths = [len(episode) for episode in read_episodes([shard, shard], 10_000, 6)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lengths == [10_000, 10_000]
    assert peak < 150e6  # two episodes: the one that is being read, and the one before in the hands of the caller
