"""Builds that are killed, builds at the same time, builds and removals: what there is in the end is whole."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from pretrainrl.data import cache_build
from pretrainrl.data.cache_files import Codec, partial_folder
from pretrainrl.data.caches import remove_cache
from pretrainrl.data.episode import Episode
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.runs.lock import lock_path, locked

LENGTHS = [5, 16, 1, 7, 8, 23, 2, 15]
FORK = multiprocessing.get_context("fork")


def make_episode(number: int) -> Episode:
    rng = np.random.default_rng(number)
    steps = LENGTHS[number]
    ends = np.arange(steps) == steps - 1
    frames = np.zeros((steps + 1, 84, 84), np.uint8)
    frames[:, :20] = rng.integers(256, size=(steps + 1, 20, 84))
    rewards = rng.integers(-3, 4, size=steps).astype(np.float32)
    return Episode(frames, rng.integers(6, size=steps), rewards, ends, ends & False, ("pong", "boxing")[number % 2])


def episodes(start: int = 0, stop: int = len(LENGTHS)) -> Iterator[Episode]:
    return (make_episode(number) for number in range(start, stop))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def start(target: Callable[[], object]) -> BaseProcess:
    process = FORK.Process(target=target)
    process.start()
    return process


def killed_at(folder: Path, number: int, codec: Codec) -> None:
    """Build in another process that is killed when it asks for episode `number`."""

    def dying() -> Iterator[Episode]:
        for index, episode in enumerate(episodes()):
            if index == number:
                os.kill(os.getpid(), signal.SIGKILL)
            yield episode

    process = start(lambda: FrameCache.build(dying(), folder, codec=codec))
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture(params=["raw", "lz4"])
def codec(request: pytest.FixtureRequest) -> Codec:
    return request.param


@pytest.fixture
def whole(tmp_path: Path, codec: Codec) -> dict[str, bytes]:
    """The files of a cache that was built in one go."""
    return files(FrameCache.build(episodes(), tmp_path / "whole" / "cache", codec=codec).folder)


@pytest.fixture(autouse=True)
def commit_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_build, "COMMIT_BYTES", 0)


def test_killed_builds_are_gone_on_with(tmp_path: Path, codec: Codec, whole: dict[str, bytes]) -> None:
    folder = tmp_path / "cache"
    for number in (3, 3, 4, 7):
        killed_at(folder, number, codec)
        assert not folder.exists()
    read = []

    class Rest:
        def __iter__(self) -> Iterator[Episode]:
            raise AssertionError("from the start although there is a journal")

        def after(self, count: int) -> Iterator[Episode]:
            read.append(count)
            return episodes(count)

    assert files(FrameCache.build(Rest(), folder, codec=codec).folder) == whole
    assert read == [7]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "whole"]


def test_a_plain_iterable_is_gone_on_with(tmp_path: Path, codec: Codec, whole: dict[str, bytes]) -> None:
    killed_at(tmp_path / "cache", 5, codec)
    assert files(FrameCache.build(episodes(), tmp_path / "cache", codec=codec).folder) == whole


def test_killed_at_any_moment(tmp_path: Path, codec: Codec, whole: dict[str, bytes]) -> None:
    """Whenever the signal comes, what is there afterwards can be gone on with."""
    folder, kills = tmp_path / "cache", 0
    for attempt in range(1000):
        process = start(lambda: FrameCache.build(episodes(), folder, codec=codec))
        process.join(0.002 * (attempt % 40))
        if process.exitcode is None:
            kills += 1
        process.kill()
        process.join()
        if folder.exists():
            break
    assert kills > 3
    assert files(FrameCache.build(episodes(), folder, codec=codec).folder) == whole


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Episode]:
        yield from episodes(0, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FrameCache.build(interrupted(), tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == [".cache.partial"]


@pytest.mark.parametrize("damage", ["lost frames", "half a line", "no journal", "nonsense", "another codec"])
def test_what_cannot_be_gone_on_with_is_begun_anew(tmp_path: Path, codec: Codec, whole: dict[str, bytes], damage: str) -> None:
    folder = tmp_path / "cache"
    killed_at(folder, 5, {"raw": "lz4", "lz4": "raw"}[codec] if damage == "another codec" else codec)  # type: ignore[arg-type]
    journal = partial_folder(folder) / "journal"
    if damage == "lost frames":
        os.truncate(journal.with_name("frames"), 100)
    elif damage == "half a line":
        journal.write_bytes(journal.read_bytes()[:-7])
    elif damage == "no journal":
        journal.unlink()
    elif damage == "nonsense":
        journal.write_text(journal.read_text().replace("[", "{"))
    assert files(FrameCache.build(episodes(), folder, codec=codec).folder) == whole


def test_several_processes_build_one_cache(tmp_path: Path, codec: Codec, whole: dict[str, bytes]) -> None:
    """One of them builds, the others wait for it, and all read the same."""
    folder, made, results = tmp_path / "cache", FORK.Value("i", 0), FORK.Queue()
    barrier = FORK.Barrier(4)

    def counted() -> Iterator[Episode]:
        for episode in episodes():
            with made.get_lock():
                made.value += 1
            time.sleep(0.02)
            yield episode

    def build() -> None:
        barrier.wait()
        cache = FrameCache.build(counted(), folder, codec=codec)
        results.put((cache.num_transitions, cache.frames.read(cache.starts).sum().item()))

    processes = [start(build) for _ in range(4)]
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert len(set(found)) == 1 and found[0][0] == sum(LENGTHS)
    assert made.value == len(LENGTHS)
    assert files(folder) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "whole"]


def test_who_waits_goes_on_where_the_builder_was_killed(tmp_path: Path) -> None:
    folder, reached, results = tmp_path / "cache", FORK.Event(), FORK.Queue()

    def stuck() -> Iterator[Episode]:
        yield from episodes(0, 4)
        reached.set()
        time.sleep(60)

    class Rest:
        def __iter__(self) -> Iterator[Episode]:
            return self.after(0)

        def after(self, count: int) -> Iterator[Episode]:
            results.put(count)
            return episodes(count)

    builder = start(lambda: FrameCache.build(stuck(), folder))
    assert reached.wait(30)
    waiting = start(lambda: results.put(FrameCache.build(Rest(), folder).num_transitions))
    time.sleep(0.3)
    assert results.empty()
    builder.kill()
    assert [results.get(timeout=30), results.get(timeout=30)] == [4, sum(LENGTHS)]
    waiting.join()
    builder.join()


def test_a_cache_that_is_being_built_is_not_removed(tmp_path: Path) -> None:
    folder, reached, go_on = tmp_path / "cache", FORK.Event(), FORK.Event()

    def slow() -> Iterator[Episode]:
        yield from episodes(0, 4)
        reached.set()
        go_on.wait(30)
        yield from episodes(4)

    builder = start(lambda: FrameCache.build(slow(), folder))
    assert reached.wait(30)
    assert not remove_cache(folder)
    go_on.set()
    builder.join()
    cache = FrameCache.open(folder)
    assert remove_cache(folder)
    assert list(tmp_path.iterdir()) == []
    assert cache.frames.read(cache.starts).any()  # who has it open keeps it


def test_building_and_removing_at_once(tmp_path: Path) -> None:
    """Builders always get a whole cache, however often it is removed under them."""
    folder, results = tmp_path / "cache", FORK.Queue()

    def build() -> None:
        try:
            for _ in range(30):
                cache = FrameCache.build(episodes(), folder)
                assert cache.num_transitions == sum(LENGTHS)
            results.put("")
        except BaseException as error:
            results.put(repr(error))

    def remove() -> None:
        while True:
            remove_cache(folder)

    builders, remover = [start(build) for _ in range(2)], start(remove)
    assert [results.get(timeout=60) for _ in builders] == ["", ""]
    remover.kill()
    remover.join()
    for builder in builders:
        builder.join()


def test_locks_are_exclusive_and_leave_nothing(tmp_path: Path) -> None:
    path, counter = lock_path(tmp_path / "cache"), tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(50):
            with locked(path):
                value = int(counter.read_text())
                time.sleep(0.0005)
                counter.write_text(str(value + 1))

    processes = [start(count) for _ in range(3)]
    for process in processes:
        process.join()
    assert counter.read_text() == "150"
    with locked(path) as first, locked(path, wait=False) as second:
        assert first and not second
    assert not path.exists()


def test_the_manifest_names_the_datasets(tmp_path: Path, codec: Codec) -> None:
    folder = FrameCache.build(episodes(), tmp_path / "cache", codec=codec, datasets=["a/b-v0", "a/c-v0"]).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["datasets"] == ["a/b-v0", "a/c-v0"]
    assert manifest["codec"] == codec
