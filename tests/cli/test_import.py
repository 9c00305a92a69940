"""`pretrainrl import dqn-replay`: what it makes, says and refuses, and what is left of it when it is stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import minari
import numpy as np
import pytest
from dqn_shards import log_of, numbered, write_shard

from pretrainrl.cli import main
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.sources import shard as reading
from pretrainrl.data.windows import WindowSpec
from pretrainrl.integrations.minari import cache_datasets, local_ids, open_dataset

PONG, BREAKOUT = "pretrainrl/atari/pong-dqn-replay-v0", "pretrainrl/atari/breakout-dqn-replay-v0"
LOG = log_of(numbered([10, 6, 9]))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "datasets"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two runs with two checkpoints each, of Pong and Breakout (whose action set is smaller)."""
    few = {**LOG, "action": LOG["action"] % 4}
    for run in (1, 2):
        for checkpoint in (1, 2):
            write_shard(tmp_path / "dqn", LOG, run=run, checkpoint=checkpoint)
            write_shard(tmp_path / "dqn", few, game="Breakout", run=run, checkpoint=checkpoint)
    return tmp_path / "dqn"


def call(monkeypatch: pytest.MonkeyPatch, shards: Path, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pretrainrl", "import", "dqn-replay", str(shards), *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def in_new_process(shards: Path, prelude: str = "") -> "subprocess.Popen[str]":
    script = f"{prelude}\nfrom pretrainrl.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        script,
        "import",
        "dqn-replay",
        str(shards),
        "pong",
        "--steps",
        "20",
        "--checkpoints",
        "1",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SMALL = ("--checkpoints", "1,2", "--steps", "20")


def test_one_dataset_for_each_game(
    shards: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, shards, "pong", "Breakout", "--verify", *SMALL) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{PONG}  80 transitions of 4 shards, 12 episodes, ")
    assert first.endswith("36 padding rows left out")
    assert second.startswith(BREAKOUT) and last == f"in {root}"
    assert local_ids() == sorted(minari.list_local_datasets()) == [BREAKOUT, PONG]
    metadata = open_dataset(PONG).metadata
    assert metadata["selection"] == {"runs": [1, 2], "checkpoints": [1, 2], "on_missing": "error", "steps": 20}
    assert [(shard["run"], shard["checkpoint"]) for shard in metadata["shards"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert metadata["reward_clipping"] == metadata["preprocessing"]["reward_clipping"] == "[-1, 1], in the source"
    assert metadata["source"]["dataset"] == "DQN Replay Dataset"
    assert metadata["checksums_verified"] is True
    assert (metadata["dropped_padding_rows"], metadata["nan_rewards"]) == (36, 0)


def test_plain_minari_reads_it(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, shards, "pong", *SMALL) == 0
    dataset = minari.load_dataset(PONG)
    assert (dataset.total_steps, dataset.total_episodes) == (80, 12)
    for episode, original in zip(dataset.iterate_episodes([0, 1]), numbered([10, 6]), strict=True):
        assert np.array_equal(episode.observations[:-1], original.frames[:-1])
        assert np.array_equal(episode.rewards, original.rewards)
    [attributes] = dataset.storage.get_episode_metadata([5])
    expected = {"run": 1, "checkpoint": 2, "shard_row": 25, "starts_at_reset": True, "ends_by": "cut"}
    assert {key: attributes[key] for key in expected} == expected
    assert attributes["final_observation"] == "true"
    assert dataset.recover_environment().unwrapped.spec.kwargs["repeat_action_probability"] == 0.25


def test_objectives_that_predict_never_see_a_repeated_frame(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, shards, "pong", "--runs", "1", "--checkpoints", "1", "--steps", "20") == 0
    cache = cache_datasets([PONG])
    assert cache.lengths.tolist() == [10, 6, 4]
    assert cache.observed.tolist() == [9, 5, 4]
    sampler = WindowSampler(cache, WindowSpec(future=1), 1)
    assert len(sampler) == 9 + 5 + 4
    for step in range(len(sampler)):
        before, after = (sampler.batch(step).observation(offset)[0, -1, 0, 1].item() for offset in (0, 1))
        assert after == before + 1


def test_rewards_that_are_not_clipped_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = LOG["reward"].copy()
    reward[4:6] = 5, np.nan
    write_shard(tmp_path / "dqn", {**LOG, "reward": reward})
    assert call(monkeypatch, tmp_path / "dqn", "pong", "--runs", "1", "--checkpoints", "1", "--steps", "20") == 0
    assert "1 rewards were NaN, now 0, 1 rewards are outside -1..1" in capsys.readouterr().out
    metadata = open_dataset(PONG).metadata
    assert (metadata["reward_clipping"], metadata["nan_rewards"], metadata["unclipped_rewards"]) == ("unknown", 1, 1)


def test_missing_checkpoints(shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("pong", "--checkpoints", "2-3", "--steps", "5", "--runs", "1")
    assert call(monkeypatch, shards, *options) == 2
    error = capsys.readouterr().err.strip()
    assert "Pong/1/replay_logs/$store$_{observation,action,reward,terminal}_ckpt.3.gz" in error
    assert len(error.splitlines()) == 1
    for on_missing, taken in (("skip", [2]), ("previous", [1, 2])):
        assert call(monkeypatch, shards, *options, "--on-missing", on_missing, "--kind", on_missing) == 0
        metadata = open_dataset(f"pretrainrl/atari/pong-{on_missing}-v0").metadata
        assert [shard["checkpoint"] for shard in metadata["shards"]] == taken


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pnog", *SMALL], "unknown game 'pnog'; did you mean 'pong'"),
        (["pong", "--runs", "1;2"], "--runs takes numbers and ranges such as 1,2 or 1-10, not '1;2'"),
        (["pong", "--checkpoints", "5-3"], "--checkpoints takes numbers"),
        (["pong", "--on-missing", "panic", *SMALL], "on_missing one of error, skip, previous"),
        (["pong", "--kind", "a b", *SMALL], "is not a dataset id"),
        (["boxing", *SMALL, "--on-missing", "skip"], "there is no complete shard of boxing"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    shards: Path,
    root: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, shards, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1
    assert not root.exists()


@pytest.mark.parametrize("damage", ["truncated", "html", "checksum", "action"])
def test_damaged_shards_leave_nothing(
    shards: Path, root: Path, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shards / "Pong/2/replay_logs/$store$_action_ckpt.2.gz"
    content = path.read_bytes()
    if damage == "action":
        write_shard(shards, {**LOG, "action": LOG["action"] + 9}, run=2, checkpoint=2)
    else:
        changed = {"truncated": content[:90], "html": b"<html>no", "checksum": content[:-8] + bytes(8)}
        path.write_bytes(changed[damage])
    assert call(monkeypatch, shards, "pong", "--verify", *SMALL) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and str(path) in error
    assert local_ids() == []
    assert not root.exists() or [path.name for path in root.rglob("*")] == []


def test_existing_datasets_and_resume(
    shards: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, shards, "pong", *SMALL) == 0
    written = (root / PONG / "data/main_data.hdf5").stat().st_mtime_ns
    assert call(monkeypatch, shards, "breakout", "pong", *SMALL) == 2
    assert f"{PONG} exists" in capsys.readouterr().err
    assert local_ids() == [PONG]
    assert call(monkeypatch, shards, "pong", "--resume", "--steps", "19", "--checkpoints", "1,2") == 2
    assert "steps was 20 and is now 19" in capsys.readouterr().err
    assert call(monkeypatch, shards, "pong", "breakout", "--resume", *SMALL) == 0
    assert f"{PONG}  is there already" in capsys.readouterr().out
    assert local_ids() == [BREAKOUT, PONG]
    assert (root / PONG / "data/main_data.hdf5").stat().st_mtime_ns == written


def test_resume_verifies_what_is_not_and_notices_other_files(
    shards: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, shards, "pong", *SMALL) == 0
    path = shards / "Pong/2/replay_logs/$store$_action_ckpt.2.gz"
    content = path.read_bytes()
    assert call(monkeypatch, shards, "pong", "--verify", "--resume", *SMALL) == 0
    assert "is there already" not in capsys.readouterr().out
    assert open_dataset(PONG).metadata["checksums_verified"] is True
    assert call(monkeypatch, shards, "pong", "--verify", "--resume", *SMALL) == 0
    assert "is there already" in capsys.readouterr().out
    moved = shards.rename(tmp_path / "moved")
    assert call(monkeypatch, moved, "pong", "--resume", *SMALL) == 0
    path = moved / path.relative_to(shards)
    path.write_bytes(content[:-8] + bytes(4) + content[-4:])  # gzip's checksum of all that is in it
    assert call(monkeypatch, moved, "pong", "--resume", *SMALL) == 2
    assert f"{PONG} is of other settings: digest of the files was" in capsys.readouterr().err
    assert open_dataset(PONG).metadata["checksums_verified"] is True


def test_interrupted(shards: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find_end = reading._Reader.find_end

    def interrupting(self: reading._Reader, row: int, limit: int) -> tuple[int, bool]:
        if self.files.game == "breakout":
            os.kill(os.getpid(), signal.SIGINT)
        return find_end(self, row, limit)

    with monkeypatch.context() as patch:
        patch.setattr(reading._Reader, "find_end", interrupting)
        assert call(monkeypatch, shards, "pong", "breakout", *SMALL) == 130
    assert "interrupted; 1 of 2 datasets are complete" in capsys.readouterr().err
    assert local_ids() == [PONG] and [path.name for path in root.iterdir()] == ["pretrainrl"]
    assert call(monkeypatch, shards, "pong", "breakout", "--resume", *SMALL) == 0
    assert local_ids() == [BREAKOUT, PONG]


def test_killed(shards: Path, root: Path) -> None:
    """No handler runs: what was written so far stays behind, hidden, and is no dataset to anybody."""
    waiting = """
import time
from pretrainrl.integrations.minari.store import EpisodeWriter
write = EpisodeWriter.write
def slow(self, episode):
    write(self, episode)
    time.sleep(600 if self.episodes == 2 else 0)
EpisodeWriter.write = slow
"""
    process = in_new_process(shards, waiting)
    try:
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size for path in root.glob(".write-*/new/data/main_data.hdf5")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert list(root.glob(".write-*/new"))
    assert local_ids() == list(minari.list_local_datasets()) == []
    finished = in_new_process(shards)
    assert finished.communicate()[1] is not None and finished.returncode == 0
    assert local_ids() == list(minari.list_local_datasets()) == [PONG]


def test_full_disk(tmp_path: Path, root: Path) -> None:
    """A quota on the size of files, as a full disk but without filling one."""
    noise = numbered([300])
    noise[0].frames[:] = np.random.default_rng(0).integers(256, size=noise[0].frames.shape, dtype=np.uint8)
    write_shard(tmp_path / "dqn", log_of(noise))
    write_shard(tmp_path / "dqn", log_of(noise), run=2)
    process = in_new_process(
        tmp_path / "dqn", "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    error = process.communicate()[1].strip().splitlines()
    assert process.returncode == 2 and "Traceback" not in " ".join(error), error
    assert f"error: cannot write {PONG} under {root}" in error[-1]
    assert [path.name for path in root.rglob("*")] == []


def test_metadata_is_json(shards: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, shards, "pong", *SMALL) == 0
    metadata = json.loads((root / PONG / "data/metadata.json").read_text())
    assert metadata["preprocessing"]["noop_max"] == 0
    assert metadata["jpeg_encoding"] is False
