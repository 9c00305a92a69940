"""What plain Minari can do to a dataset: the good survives it, and what is lost without a word is refused with one."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from dqn_shards import numbered
from gymnasium.spaces import Box, Discrete
from minari.data_collector import EpisodeBuffer

from pretrainrl.data.episode import Episode
from pretrainrl.errors import DatasetError
from pretrainrl.integrations.minari import AtariDataset, check_dataset, collect_dataset, open_dataset, write_dataset

NAME, OTHER = "pretrainrl/atari/pong-random-v0", "pretrainrl/atari/pong-mine-v0"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def buffer_of(episode: Episode) -> EpisodeBuffer:
    return EpisodeBuffer(
        observations=episode.frames,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=episode.terminations,
        truncations=episode.truncations,
    )


def with_stock_minari(name: str, episodes: list[Episode], **settings: Any) -> minari.MinariDataset:
    spaces: dict[str, Any] = {"observation_space": Box(0, 255, (84, 84), np.uint8), "action_space": Discrete(6)}
    with pytest.warns(UserWarning):
        return minari.create_dataset_from_buffers(name, [buffer_of(each) for each in episodes], **spaces, **settings)


def refused(name: str, message: str) -> None:
    """Both ways to a dataset refuse it."""
    with pytest.raises(DatasetError, match=message):
        check_dataset(name)
    with pytest.raises(DatasetError, match=message):
        open_dataset(name)


def test_jpeg_by_default() -> None:
    episodes = list(open_dataset(collect_dataset("pong", 60, n_envs=1).id))
    stored = next(iter(with_stock_minari(OTHER, episodes).iterate_episodes())).observations
    assert not np.array_equal(stored, episodes[0].frames)  # the trap is there
    refused(OTHER, r"JPEG-encoded \(lossy\).* record it again with jpeg_encoding=False")


def test_lossless_by_stock_minari_is_welcome() -> None:
    with_stock_minari(OTHER, numbered([5, 6]), jpeg_encoding=False)
    summary = check_dataset(OTHER)
    assert (summary.transitions, len(summary.episodes)) == (11, 2)
    assert summary.mean_return == np.mean([episode.rewards.sum() for episode in numbered([5, 6])])


def test_combining_turns_lossless_into_jpeg() -> None:
    first, second = write_dataset(NAME, numbered([5])), write_dataset(OTHER, numbered([6]))
    combined = "pretrainrl/atari/pong-both-v0"
    minari.combine_datasets([first, second], combined)
    refused(combined, rf"combine_datasets re-encodes .* use its parts as they are \({NAME}, {OTHER}\)")
    # What the message and the documentation offer instead:
    write_dataset("pretrainrl/atari/pong-joined-v0", [*open_dataset(NAME), *open_dataset(OTHER)])
    joined = list(open_dataset("pretrainrl/atari/pong-joined-v0"))
    for ours, theirs in zip([*numbered([5]), *numbered([6])], joined, strict=True):
        assert np.array_equal(ours.frames, theirs.frames)


@pytest.mark.parametrize("data_format", ["arrow", pytest.param("parquet", marks=pytest.mark.heavy)])
def test_long_episodes_in_arrow_and_parquet(data_format: str) -> None:
    pytest.importorskip("pyarrow")
    made: dict[str, Any] = {"data_format": data_format, "jpeg_encoding": False}
    longest, longer = numbered([32_767, 3]), numbered([32_768, 3])
    fine = with_stock_minari(OTHER, longest, **made)
    assert [len(episode) for episode in fine.iterate_episodes()] == [32_767, 3]
    assert check_dataset(OTHER).transitions == 32_770
    lost = with_stock_minari(NAME, longer, **made)
    assert [len(episode) for episode in lost.iterate_episodes()] != [32_768, 3]  # the trap is there
    refused(NAME, rf"stored as {data_format}, .* more than 32,767 transitions \(episode 0\).*data_format='hdf5'")


def test_other_observations_are_not_frames() -> None:
    with pytest.warns(UserWarning):
        minari.create_dataset_from_buffers(
            OTHER,
            [EpisodeBuffer(observations=np.zeros((3, 4), np.float32), actions=np.zeros(2, np.int64), rewards=np.zeros(2),
                           terminations=np.zeros(2, bool), truncations=np.ones(2, bool))],
            observation_space=Box(-1, 1, (4,)), action_space=Discrete(6),
        )  # fmt: skip
    refused(OTHER, r"observations of shape \(4,\)")


def test_split_filter_and_sample() -> None:
    episodes = numbered([5, 6, 7, 8])
    write_dataset(NAME, episodes)
    dataset = minari.load_dataset(NAME)
    parts = minari.split_dataset(dataset, sizes=[3, 1], seed=0)
    assert sorted(len(episode) for part in parts for episode in part.iterate_episodes()) == [5, 6, 7, 8]
    assert [len(episode) for episode in AtariDataset(parts[0])] == [len(episode) for episode in parts[0].iterate_episodes()]
    short = dataset.filter_episodes(lambda episode: len(episode) < 7)
    assert [episode.frames.shape for episode in AtariDataset(short)] == [(6, 84, 84), (7, 84, 84)]
    sampled = dataset.sample_episodes(2)
    for each in sampled:
        assert np.array_equal(each.observations, episodes[each.id].frames)
    env = dataset.recover_environment()
    assert env.observation_space.shape == (84, 84)
    env.close()


def test_appending_keeps_it_lossless_and_readable() -> None:
    first, *more = numbered([5, 90, 7])
    write_dataset(NAME, [first])
    minari.load_dataset(NAME).update_dataset_from_buffer([buffer_of(episode) for episode in more])
    summary = check_dataset(NAME)
    assert (summary.transitions, len(summary.episodes)) == (102, 3)
    assert [facts["return"] for facts in summary.episodes] == [episode.rewards.sum() for episode in [first, *more]]
    for ours, theirs in zip([first, *more], open_dataset(NAME), strict=True):
        assert np.array_equal(ours.frames, theirs.frames)
        assert np.array_equal(ours.actions, theirs.actions)
    assert minari.load_dataset(NAME).storage.jpeg_encoding is False


def test_torchrl_reads_it(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchrl")
    from tensordict import PersistentTensorDict
    from torchrl.data.datasets import MinariExperienceReplay

    episodes = numbered([5, 6])
    write_dataset(NAME, episodes)
    with_stock_minari(OTHER, episodes, jpeg_encoding=False)
    read: dict[str, Any] = {"load_from_local_minari": True, "batch_size": 4, "root": tmp_path / "torchrl"}
    ours, stock = (MinariExperienceReplay(name, **read)[:] for name in (NAME, OTHER))
    # Compared with what it makes of plain Minari's own file: TorchRL 0.14 with tensordict 0.15 reads zeros from either.
    assert (ours == stock).all()
    assert ours["next", "observation"].shape == (11, 84, 84)
    stored = PersistentTensorDict.from_h5(root / NAME / "data" / "main_data.hdf5")
    for number, episode in enumerate(episodes):
        assert np.array_equal(stored[f"episode_{number}", "observations"].numpy(), episode.frames)
        assert np.array_equal(stored[f"episode_{number}", "actions"].numpy(), episode.actions)


def damage(root: Path, how: str) -> None:
    data = root / NAME / "data"
    if how == "no metadata":
        (data / "metadata.json").unlink()
    elif how == "half the metadata":
        (data / "metadata.json").write_text((data / "metadata.json").read_text()[:999])
    elif how == "no file":
        (data / "main_data.hdf5").unlink()
    elif how == "empty file":
        (data / "main_data.hdf5").write_bytes(b"")
    elif how == "half the file":
        content = (data / "main_data.hdf5").read_bytes()
        (data / "main_data.hdf5").write_bytes(content[: len(content) // 2])
    elif how == "an episode less":
        with h5py.File(data / "main_data.hdf5", "a") as file:
            del file["episode_1"]
    elif how == "another id":
        metadata = json.loads((data / "metadata.json").read_text())
        (data / "metadata.json").write_text(json.dumps({**metadata, "dataset_id": OTHER}))


@pytest.mark.parametrize(
    "how",
    ["no metadata", "half the metadata", "no file", "empty file", "half the file", "an episode less", "another id"],
)
def test_damage_is_seen_without_reading_frames(root: Path, how: str) -> None:
    write_dataset(NAME, numbered([5, 6]))
    assert check_dataset(NAME).transitions == 11
    damage(root, how)
    with pytest.raises(DatasetError, match="says that it is" if how == "another id" else "cannot be read"):
        check_dataset(NAME)


def test_missing_dataset() -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        check_dataset(NAME)


def test_killed_while_publishing(root: Path) -> None:
    script = f"""
import sys
from pretrainrl.integrations.minari import write_dataset
sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
from dqn_shards import numbered
def episodes():
    yield from numbered([5])
    print("half", flush=True)
    sys.stdin.read()
write_dataset({NAME!r}, episodes())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    assert len(list(root.glob(".write-*/new/data/main_data.hdf5"))) == 1
    process.send_signal(signal.SIGKILL)
    process.communicate()
    write_dataset(NAME, numbered([5]))
    assert [path.name for path in root.iterdir()] == ["pretrainrl"]
