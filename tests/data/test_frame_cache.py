"""The frame cache: what goes in comes out, whatever happens to the files is noticed."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from quota import quota

from pretrainrl.data.cache_files import Codec
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


@pytest.mark.parametrize("codec", ["raw", "lz4"])
def test_every_row_is_where_the_table_says(episodes: list[Episode], tmp_path: Path, codec: Codec) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = FrameCache.build(iter(episodes), tmp_path / "cache", codec=codec)
    assert cache.games == ("breakout", "pong")
    assert cache.num_transitions == 15
    assert len(cache.frames) == 1 + 6 + 2 + 10
    assert not cache.frames.read(torch.tensor([0])).any()
    assert cache.game_ids.tolist() == [1, 0, 1]
    for episode, start, length in zip(episodes, cache.starts.tolist(), cache.lengths.tolist(), strict=True):
        assert length == len(episode)
        assert np.array_equal(cache.frames.read(torch.arange(start, start + length + 1)), episode.frames)
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


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Episode]:
        yield make_episode(5)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        FrameCache.build(failing(), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_unknown_codec(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'raw' or 'lz4', not 'zip'"):
        FrameCache.build([make_episode(3)], tmp_path / "cache", codec="zip")  # type: ignore[arg-type]


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        FrameCache.build([make_episode(3)], tmp_path / "file" / "cache")


def test_full_disk(tmp_path: Path) -> None:
    with quota(50_000), pytest.raises(InputError, match="cannot write the frame cache"):
        FrameCache.build([make_episode(20)], tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


def test_missing_cache(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no frame cache"):
        FrameCache.open(tmp_path / "nowhere")


FILES = ["frames", "actions", "rewards", "terminations", "episodes", "manifest.json"]


@pytest.mark.parametrize(
    ("codec", "name"), [*(("raw", name) for name in FILES), *(("lz4", name) for name in (*FILES, "block_ends"))]
)
@pytest.mark.parametrize("damage", ["truncated", "longer", "emptied", "deleted"])
def test_damaged_files_are_named(episodes: list[Episode], tmp_path: Path, codec: Codec, name: str, damage: str) -> None:
    folder = FrameCache.build(episodes, tmp_path / "cache", codec=codec).folder
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


@pytest.mark.parametrize("name", ["block_ends", "actions", "rewards", "terminations", "episodes"])
def test_flipped_byte_is_noticed(episodes: list[Episode], tmp_path: Path, name: str) -> None:
    folder = FrameCache.build(episodes, tmp_path / "cache", codec="lz4").folder
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{name} has another checksum"):
        FrameCache.open(folder)


@pytest.mark.parametrize(
    "change", [{"rows": "many"}, {"files": []}, {"episodes": None}, {"games": 3}, {"format": 99}, {"codec": "zip"}]
)
def test_broken_manifest(episodes: list[Episode], tmp_path: Path, change: dict[str, object]) -> None:
    folder = FrameCache.build(episodes, tmp_path / "cache").folder
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DatasetError, match="delete that folder"):
        FrameCache.open(folder)


def test_overwritten_block_is_noticed_when_it_is_read(episodes: list[Episode], tmp_path: Path) -> None:
    cache = FrameCache.build(episodes, tmp_path / "cache", codec="lz4")
    content = bytearray((cache.folder / "frames").read_bytes())
    content[-20_000:] = bytes(20_000)  # more than the last block
    (cache.folder / "frames").write_bytes(content)
    cache = FrameCache.open(cache.folder)
    assert np.array_equal(cache.frames.read(cache.starts[:1])[0], episodes[0].frames[0])
    with pytest.raises(DatasetError, match=r"block \d+ of frames.*delete that folder"):
        cache.frames.read(cache.starts[-1:] + cache.lengths[-1:])


def test_build_opens_what_is_there(episodes: list[Episode], tmp_path: Path) -> None:
    FrameCache.build(episodes, tmp_path / "cache")

    def unread() -> Iterator[Episode]:
        raise AssertionError("read although the cache is there")
        yield

    assert FrameCache.build(unread(), tmp_path / "cache").num_transitions == 15
