"""The frame cache: what goes in comes out, whatever happens to the files is noticed."""

import json
import multiprocessing
import os
import resource
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrainrl.data.episode import Episode
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.errors import DatasetError, InputError


def make_episode(steps: int, game: str = "pong", seed: int = 0) -> Episode:
    """Random content: here it is not what the frames show that matters but where they end up."""
    rng = np.random.default_rng((seed, steps))
    ends = np.arange(steps) == steps - 1
    return Episode(
        frames=rng.integers(256, size=(steps + 1, 84, 84), dtype=np.uint8),
        actions=rng.integers(6, size=steps),
        rewards=rng.integers(-3, 4, size=steps).astype(np.float32),
        terminations=ends & bool(seed % 2),
        truncations=ends & (not seed % 2),
        game=game,
    )


@pytest.fixture
def episodes() -> list[Episode]:
    return [make_episode(5, "pong"), make_episode(1, "breakout", 1), make_episode(9, "pong", 2)]


def test_every_row_is_where_the_table_says(episodes: list[Episode], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = FrameCache.build(iter(episodes), tmp_path / "cache")
    assert cache.games == ("breakout", "pong")
    assert cache.num_transitions == 15
    assert cache.frames.shape == (1 + 6 + 2 + 10, 84, 84)
    assert not cache.frames[0].any()
    assert cache.game_ids.tolist() == [1, 0, 1]
    for episode, start, length in zip(episodes, cache.starts.tolist(), cache.lengths.tolist(), strict=True):
        assert length == len(episode)
        assert np.array_equal(cache.frames[start : start + length + 1], episode.frames)
        for name in ("actions", "rewards", "terminations"):
            rows = getattr(cache, name)[start : start + length + 1]
            assert np.array_equal(rows[:-1], getattr(episode, name))
            assert rows[-1] == 0  # the final observation has no transition
    assert cache.rewards.dtype == torch.float32
    assert cache.terminations.dtype == torch.bool


def test_final_frames_that_are_repetitions_are_marked(episodes: list[Episode], tmp_path: Path) -> None:
    for episode, final in zip(episodes, ("true", "repeated", "repeated"), strict=True):
        episode.metadata["final_observation"] = final
    cache = FrameCache.build(episodes, tmp_path / "cache")
    assert cache.lengths.tolist() == [5, 1, 9]
    assert cache.observed.tolist() == [5, 0, 8]


def test_nothing_to_cache(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no episodes"):
        FrameCache.build([], tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_actions_beyond_a_byte(tmp_path: Path) -> None:
    episode = make_episode(3)
    episode.actions[1] = 256
    with pytest.raises(InputError, match=r"0\.\.255"):
        FrameCache.build([episode], tmp_path / "cache")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interrupted_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def failing() -> Iterator[Episode]:
        yield make_episode(5)
        raise error

    with pytest.raises(error):
        FrameCache.build(failing(), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        FrameCache.build([make_episode(3)], tmp_path / "file" / "cache")


def test_full_disk(tmp_path: Path) -> None:
    """A quota on the size of files, as a full disk but without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(InputError, match="cannot write the frame cache"):
            FrameCache.build([make_episode(20)], tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_killed_build(tmp_path: Path) -> None:
    """What it leaves behind is hidden, and in nobody's way."""

    def build() -> None:
        def episodes() -> Iterator[Episode]:
            yield make_episode(5)
            os.kill(os.getpid(), signal.SIGKILL)

        FrameCache.build(episodes(), tmp_path / "cache")

    process = multiprocessing.get_context("fork").Process(target=build)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".cache.")
    assert FrameCache.build([make_episode(7)], tmp_path / "cache").num_transitions == 7


def test_missing_cache(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no frame cache"):
        FrameCache.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["frames", "actions", "rewards", "terminations", "episodes", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "longer", "emptied", "deleted"])
def test_damaged_files_are_named(episodes: list[Episode], tmp_path: Path, name: str, damage: str) -> None:
    folder = FrameCache.build(episodes, tmp_path / "cache").folder
    path = folder / name
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "longer":
        path.write_bytes(path.read_bytes() + b"1")
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(DatasetError, match=f"{name}.*delete that folder") as error:
        FrameCache.open(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["actions", "rewards", "terminations", "episodes"])
def test_flipped_byte_is_noticed(episodes: list[Episode], tmp_path: Path, name: str) -> None:
    folder = FrameCache.build(episodes, tmp_path / "cache").folder
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{name} has another checksum"):
        FrameCache.open(folder)


@pytest.mark.parametrize("change", [{"rows": "many"}, {"files": []}, {"episodes": None}, {"games": 3}, {"format": 99}])
def test_broken_manifest(episodes: list[Episode], tmp_path: Path, change: dict[str, object]) -> None:
    folder = FrameCache.build(episodes, tmp_path / "cache").folder
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DatasetError, match="delete that folder"):
        FrameCache.open(folder)


def test_build_opens_what_is_there(episodes: list[Episode], tmp_path: Path) -> None:
    FrameCache.build(episodes, tmp_path / "cache")

    def unread() -> Iterator[Episode]:
        raise AssertionError("read although the cache is there")
        yield

    assert FrameCache.build(unread(), tmp_path / "cache").num_transitions == 15


def _build(folder: Path, barrier: "multiprocessing.synchronize.Barrier", results: "multiprocessing.Queue[int]") -> None:
    def episodes() -> Iterator[Episode]:
        yield make_episode(5)
        barrier.wait()  # both are in the middle
        yield make_episode(7)

    results.put(FrameCache.build(episodes(), folder).num_transitions)


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_build, args=(tmp_path / "cache", barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [12, 12]
    for process in processes:
        process.join()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
