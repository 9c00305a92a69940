"""The file of a recording: what is written is read, and nothing else is."""

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.emulator import Emulator
from pretrainrl.data.packing import PackedEpisode, content_sha256
from pretrainrl.data.recording import MAGIC, VERSION, RecordedEpisode, Recording, replay
from pretrainrl.data.replay_worker import deal
from pretrainrl.errors import DatasetError
from pretrainrl.games import find_game

BOMB = lzma.compress(bytes(257 << 20), preset=0)


def recorded(episode: Any) -> RecordedEpisode:
    return RecordedEpisode(episode.actions.astype(np.uint8), episode.infos["delays"], episode.metadata)


def recording(episodes: list[RecordedEpisode] | None = None, **changes: Any) -> Recording:
    facts: dict[str, Any] = {"noops": 3, "ends_by": "cut", "return": 1.0, "env": 0}
    one = RecordedEpisode(np.array([0, 1, 5], np.uint8), np.array([0, 4, 1], np.uint8), facts)
    arguments: dict[str, Any] = {
        "dataset_id": "pretrainrl/atari/pong-test-v0",
        "game": "pong",
        "rom_md5": find_game("pong").rom_md5,
        "ale_py_version": "0.12.1",
        "content_sha256": "0" * 64,
        "algorithm": "a test",
        "sticky_actions": 0.25,
        "metadata": {"collection": {"seed": 1}},
        "episodes": episodes or [one],
        **changes,
    }
    return Recording(**arguments)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    lengths = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=6))
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    episodes = [
        RecordedEpisode(
            rng.integers(18, size=length).astype(np.uint8),
            rng.integers(5, size=length).astype(np.uint8),
            {"noops": int(rng.integers(30)), "ends_by": "time_out", "return": float(rng.normal()), "seed": index},
        )
        for index, length in enumerate(lengths)
    ]
    path = tmp_path_factory.mktemp("recording") / "a.rec"
    written = recording(episodes)
    written.write(path)
    read = Recording.read(path)
    assert {**read.__dict__, "episodes": 0} == {**written.__dict__, "episodes": 0}
    for found, expected in zip(read.episodes, episodes, strict=True):
        assert np.array_equal(found.actions, expected.actions)
        assert np.array_equal(found.delays, expected.delays)
        assert found.metadata == expected.metadata
    assert [path.name for path in path.parent.iterdir()] == ["a.rec"]


@pytest.mark.parametrize(("game", "sticky_actions"), [("breakout", 0.25), ("freeway", 0.0), ("klax", 0.25)])
def test_replay_gives_the_same_episodes(game: str, sticky_actions: float) -> None:
    episodes = list(collect_episodes(game, 700, n_envs=2, seed=2, sticky_actions=sticky_actions, ram=True))
    emulator = Emulator(find_game(game))
    for episode in reversed(episodes):  # in another order than they were played
        again = replay(emulator, game, recorded(episode), ram=True)
        for name in ("frames", "actions", "rewards", "terminations", "truncations"):
            assert np.array_equal(getattr(again, name), getattr(episode, name)), name
        assert np.array_equal(again.infos["ram"], episode.infos["ram"])
        assert PackedEpisode.of(again).sha256 == PackedEpisode.of(episode).sha256


def test_random_play_takes_less_than_half_a_byte_a_transition(tmp_path: Path) -> None:
    episodes = [recorded(episode) for episode in collect_episodes("pong", 3000, n_envs=4)]
    recording(episodes).write(tmp_path / "a.rec")
    assert (tmp_path / "a.rec").stat().st_size < 0.5 * 3000


def test_a_packed_episode_is_read_as_written(tmp_path: Path) -> None:
    (episode,) = collect_episodes("pong", 70, n_envs=1, ram=True)
    packed = PackedEpisode.of(episode)
    packed.write(tmp_path / "a.npz")
    read = PackedEpisode.read(tmp_path / "a.npz", "pong", episode.metadata)
    assert (read.chunks, read.sha256, read.metadata) == (packed.chunks, packed.sha256, packed.metadata)
    assert np.array_equal(read.infos["ram"], episode.infos["ram"])
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-500])
    with pytest.raises(DatasetError, match="damaged"):
        PackedEpisode.read(tmp_path / "a.npz", "pong", {})


def test_the_fingerprint_tells_every_array_and_the_order() -> None:
    first, second = (PackedEpisode.of(episode) for episode in collect_episodes("pong", 12, n_envs=2))
    assert content_sha256([first.sha256, second.sha256]) != content_sha256([second.sha256, first.sha256])
    (episode,) = collect_episodes("pong", 12, n_envs=1)
    digests = {PackedEpisode.of(episode).sha256}
    for name in ("frames", "actions", "rewards", "terminations", "truncations"):
        array = getattr(episode, name)
        array.flat[0] = not array.flat[0] if array.dtype == bool else array.flat[0] + 1
        digests.add(PackedEpisode.of(episode).sha256)
    assert len(digests) == 6


@given(st.lists(st.integers(1, 27_000), max_size=40), st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_every_episode_is_dealt_once_and_evenly(lengths: list[int], shares: int) -> None:
    dealt = deal(lengths, shares)
    assert sorted(index for share in dealt for index in share) == list(range(len(lengths)))
    totals = [sum(lengths[index] for index in share) for share in dealt]
    assert max(totals) - min(totals) <= max(lengths, default=0)


def crafted(header: Any) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + bytes([VERSION]) + lzma.compress(len(text).to_bytes(4, "little") + text + bytes(4), preset=0)


ONE_EPISODE: dict[str, Any] = {"transitions": [4], "noops": [0], "ends_by": ["cut"], "return": [0.0]}


@pytest.mark.parametrize(
    "change",
    [
        {"sticky_actions": "often"},
        {"sticky_actions": 7},
        {"metadata": []},
        {"metadata": {"collection": 3}},
        {"episodes": {**ONE_EPISODE, "return": [float("nan")]}},
        {"episodes": {**ONE_EPISODE, "more": [{}]}},
        {"episodes": {**ONE_EPISODE, "more": [None]}},
        {"episodes": {**ONE_EPISODE, "noops": {"0": 0}}},
        {"episodes": {**ONE_EPISODE, "transitions": [10**400]}},
        {"episodes": 3},
    ],
)
def test_crafted_recordings(tmp_path: Path, change: dict[str, Any]) -> None:
    path, names = tmp_path / "a.rec", ("dataset_id", "game", "rom_md5", "ale_py_version", "content_sha256", "algorithm")
    good = {**dict.fromkeys(names, "pong"), "sticky_actions": 0.25, "metadata": {}, "episodes": ONE_EPISODE}
    path.write_bytes(crafted(good))
    assert Recording.read(path).transitions == 4
    for content in (crafted({**good, **change}), crafted(b"[" * 100_000), crafted(good) + b"more", crafted(b" " * (17 << 20))):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=f"recording {path} is truncated or damaged"):
            Recording.read(path)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damage_is_one_error(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A flipped bit, a lost end, a foreign file: each is found, by the CRC at the latest."""
    path = tmp_path_factory.mktemp("recording") / "a.rec"
    recording().write(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.rec"):
        Recording.read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no recording"),
        (b"<html>403</html>", "no recording"),
        (MAGIC + bytes([VERSION + 1]), "get a newer one"),
        (MAGIC, "version none"),
        (MAGIC + bytes([VERSION]), "truncated or damaged"),
        (MAGIC + bytes([VERSION]) + lzma.compress(b""), "truncated or damaged"),
        (MAGIC + bytes([VERSION]) + lzma.compress(b"\xff" * 64), "truncated or damaged"),
        (MAGIC + bytes([VERSION]) + BOMB, "unpacks to more than"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.rec").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        Recording.read(tmp_path / "a.rec")


@pytest.mark.parametrize(
    "change",
    [
        {"game": 5},
        {"episodes": {"transitions": [2], "noops": [3], "ends_by": ["cut"], "return": [0.0]}},
        {"episodes": {"transitions": [-3], "noops": [3], "ends_by": ["cut"], "return": [0.0]}},
        {"episodes": {"transitions": [3], "noops": [3, 4], "ends_by": ["cut"], "return": [0.0]}},
        {"episodes": {"transitions": [3], "noops": [1000], "ends_by": ["cut"], "return": [0.0]}},
        {"episodes": {"transitions": [3], "noops": [3], "ends_by": ["never"], "return": [0.0]}},
        {"episodes": {"transitions": [3], "noops": [3], "ends_by": ["cut"], "return": ["much"]}},
        {"episodes": {"transitions": [3]}},
        {"episodes": [[[]]]},
        {"unheard": "of"},
    ],
)
def test_headers_are_checked(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.rec"
    recording().write(path)
    content = lzma.decompress(path.read_bytes()[len(MAGIC) + 1 :])
    size = int.from_bytes(content[:4], "little")
    header = json.dumps({**json.loads(content[4 : 4 + size]), **change}).encode()
    packed = lzma.compress(len(header).to_bytes(4, "little") + header + content[4 + size :])
    path.write_bytes(MAGIC + bytes([VERSION]) + packed)
    with pytest.raises(DatasetError, match="damaged"):
        Recording.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.rec"):
        Recording.read(tmp_path / "nothing.rec")


def test_another_rom_is_refused_before_any_play() -> None:
    with pytest.raises(DatasetError, match=f"{'0' * 32}.*{find_game('pong').rom_md5}.*install ale-py 0.12.1"):
        recording(rom_md5="0" * 32).check_game()


def test_actions_that_the_game_has_not_are_refused() -> None:
    facts: dict[str, Any] = {"noops": 0, "ends_by": "cut", "return": 0.0}
    wrong = RecordedEpisode(np.array([6], np.uint8), np.array([0], np.uint8), facts)
    with pytest.raises(DatasetError, match=r"action 6.*0\.\.5"):
        recording([wrong]).check_steps(6)
    late = RecordedEpisode(np.array([0], np.uint8), np.array([5], np.uint8), facts)
    with pytest.raises(DatasetError, match="delay of 5"):
        recording([late]).check_steps(6)


def test_an_end_that_does_not_come_is_told() -> None:
    facts: dict[str, Any] = {"noops": 0, "ends_by": "game_over", "return": 0.0}
    episode = RecordedEpisode(np.zeros(3, np.uint8), np.zeros(3, np.uint8), facts)
    with pytest.raises(DatasetError, match="not over after its 3 steps"):
        replay(Emulator(find_game("pong")), "pong", episode)
