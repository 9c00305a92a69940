"""Where shards are looked for, and what is said about those that are not there."""

from pathlib import Path

import pytest
from dqn_shards import LAYOUTS, log_of, numbered, write_shard

from pretrainrl.data.sources.dqn_replay import ShardFiles, find_shards
from pretrainrl.errors import DatasetError, InputError, UnknownNameError

LOG = log_of(numbered([4]))


def which(shards: list[ShardFiles]) -> list[tuple[int, int]]:
    return [(shard.run, shard.checkpoint) for shard in shards]


@pytest.mark.parametrize("suffix", [".gz", ".npy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str, suffix: str) -> None:
    expected = write_shard(tmp_path, LOG, game="UpNDown", checkpoint=3, layout=layout, suffix=suffix, add_count=7)
    [shard] = find_shards(tmp_path, ["up_n_down"], [1], [3])["upndown"]
    assert shard == ShardFiles("upndown", 1, 3, {n: p for n, p in expected.items() if n != "add_count"}, expected["add_count"])
    count = expected["add_count"]
    count.unlink()
    [shard] = find_shards(tmp_path, ["up_n_down"], [1], [3])["upndown"]
    assert shard.add_count is None


def test_files_without_a_run_are_of_one_run(tmp_path: Path) -> None:
    write_shard(tmp_path, LOG, layout="sgi")
    assert which(find_shards(tmp_path, ["pong"], [4], [1])["pong"]) == [(4, 1)]
    with pytest.raises(DatasetError, match="missing"):
        find_shards(tmp_path, ["pong"], [1, 2], [1])


@pytest.mark.parametrize("folder", ["MsPacman", "ms_pacman", "mspacman", "Ms-Pacman"])
def test_spelling_of_folders(tmp_path: Path, folder: str) -> None:
    write_shard(tmp_path, LOG, game=folder)
    assert list(find_shards(tmp_path, ["ALE/MsPacman-v5", "mspacman"], [1], [1])) == ["mspacman"]


def test_two_spellings_of_a_folder(tmp_path: Path) -> None:
    """Neither hides what the other one has; what both have is asked about."""
    first = write_shard(tmp_path, LOG, game="Pong", checkpoint=1)
    second = write_shard(tmp_path, LOG, game="pong", checkpoint=2)
    [one, two] = find_shards(tmp_path, ["pong"], [1], [1, 2])["pong"]
    assert (one.arrays, two.arrays) == (first, second)
    write_shard(tmp_path, LOG, game="pong", checkpoint=1)
    with pytest.raises(DatasetError, match=r"several of run 1, checkpoint 1 of pong: .*/Pong and .*/pong; leave one"):
        find_shards(tmp_path, ["pong"], [1], [1])
    (tmp_path / "PONG").symlink_to(tmp_path / "Pong")  # the same folder
    assert len(find_shards(tmp_path, ["pong"], [1], [2])["pong"]) == 1


def test_order_and_repetitions(tmp_path: Path) -> None:
    for run in (1, 2):
        for checkpoint in (9, 10):
            write_shard(tmp_path, LOG, run=run, checkpoint=checkpoint)
    assert which(find_shards(tmp_path, ["pong"], [2, 1, 2], [10, 9])["pong"]) == [(1, 9), (1, 10), (2, 9), (2, 10)]


def test_everything_missing_is_named_at_once(tmp_path: Path) -> None:
    write_shard(tmp_path, LOG, checkpoint=1)["reward"].unlink()
    paths = write_shard(tmp_path, LOG, checkpoint=2, layout="atari-pb")
    paths["action"].unlink()
    paths["observation"].unlink()
    write_shard(tmp_path, LOG, checkpoint=3)
    with pytest.raises(DatasetError) as error:
        find_shards(tmp_path, ["pong", "up_n_down"], [1], [1, 2, 3])
    message = str(error.value)
    assert message.startswith(f"missing under {tmp_path}: ") and message.count("\n") == 0
    assert message.split(": ", 1)[1].split("; ")[0].split(", ") == [
        "Pong/1/replay_logs/$store$_reward_ckpt.1.gz",
        "Pong/{observation,action}_1_2.gz",
        *[f"UpNDown/1/replay_logs/$store$_{{observation,action,reward,terminal}}_ckpt.{number}.gz" for number in (1, 2, 3)],
    ]
    assert "--on-missing skip" in message


def test_skip(tmp_path: Path) -> None:
    write_shard(tmp_path, LOG, checkpoint=2)
    assert which(find_shards(tmp_path, ["pong"], [1, 2], [1, 2], "skip")["pong"]) == [(1, 2)]
    with pytest.raises(DatasetError, match=r"no complete shard of boxing, breakout under"):
        find_shards(tmp_path, ["boxing", "pong", "breakout"], [1], [2], "skip")


def test_previous_goes_back_twice_and_takes_nothing_twice(tmp_path: Path) -> None:
    """Of six games the first run ends at checkpoint 49."""
    write_shard(tmp_path, LOG, checkpoint=48)
    assert which(find_shards(tmp_path, ["pong"], [1], [50], "previous")["pong"]) == [(1, 48)]
    write_shard(tmp_path, LOG, checkpoint=49)
    assert which(find_shards(tmp_path, ["pong"], [1], [50], "previous")["pong"]) == [(1, 49)]
    assert which(find_shards(tmp_path, ["pong"], [1], [49, 50], "previous")["pong"]) == [(1, 48), (1, 49)]
    with pytest.raises(DatasetError, match=r"ckpt\.50\.gz"):
        find_shards(tmp_path, ["pong"], [1], [48, 49, 50], "previous")
    with pytest.raises(DatasetError, match=r"ckpt\.51\.gz, Pong/2"):
        find_shards(tmp_path, ["pong"], [1, 2], [49, 51], "previous")


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no folder"):
        find_shards(tmp_path / "nowhere", ["pong"], [1], [1])
    with pytest.raises(UnknownNameError, match="breakout"):
        find_shards(tmp_path, ["breakuot"], [1], [1])
    for runs, checkpoints, on_missing in [([], [1], "error"), ([1], [-1], "error"), ([1], [1], "panic")]:
        with pytest.raises(InputError, match="import needs"):
            find_shards(tmp_path, ["pong"], runs, checkpoints, on_missing)
