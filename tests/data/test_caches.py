"""The caches on this machine: listed and removed by the command line, and what decides how the next one is stored."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pretrainrl import cli
from pretrainrl.data import caches
from pretrainrl.data.caches import caches_folder, default_codec, free_memory, list_caches
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.errors import InputError
from pretrainrl.integrations.minari import cache_datasets, write_dataset
from pretrainrl.runs.lock import lock_path, locked

PONG, BOXING = "pretrainrl/atari/pong-random-v0", "pretrainrl/atari/boxing-random-v0"


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return list(collect_episodes("pong", 60, n_envs=2))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "home"


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, exit_code: int = 0) -> None:
    monkeypatch.setattr("sys.argv", ["pretrainrl", "cache", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert (end.value.code or 0) == exit_code


def begun(episodes: list[Episode], folder: Path) -> None:
    """A build that was killed."""

    def dying() -> Iterator[Episode]:
        yield from episodes
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(
        target=lambda: FrameCache.build(dying(), folder, datasets=["a/begun-v0"])
    )
    process.start()
    process.join()


def test_cache_commands(episodes: list[Episode], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run("info", monkeypatch=monkeypatch)
    assert "no caches" in capsys.readouterr().out
    write_dataset(PONG, episodes)
    write_dataset(BOXING, [Episode(**{**vars(episode), "game": "boxing"}) for episode in episodes])
    run("build", PONG, "--codec", "lz4", monkeypatch=monkeypatch)
    assert "lz4" in capsys.readouterr().out
    both = cache_datasets([PONG, BOXING])
    begun(episodes, caches_folder() / "begun")
    run("info", monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    frames = len(both.frames)
    [line] = [line for line in lines if both.folder.name in line]
    assert f"{frames:,}" in line and " raw " in line and "ready" in line
    assert any("unfinished" in line and "a/begun-v0" in line for line in lines)
    assert sum(PONG in line for line in lines) == 2

    run("clear", "*boxing*", monkeypatch=monkeypatch)
    assert not both.folder.exists()
    assert [info.codec for info in list_caches()] == ["raw", "lz4"]
    run("clear", "nonsense", monkeypatch=monkeypatch, exit_code=2)
    with locked(lock_path(caches_folder() / "begun")):
        assert [info.state for info in list_caches()] == ["being built", "ready"]
        run("clear", monkeypatch=monkeypatch)
        assert "kept begun, which is being built" in capsys.readouterr().out
    run("clear", monkeypatch=monkeypatch)
    assert list(caches_folder().iterdir()) == []


def test_last_used(episodes: list[Episode]) -> None:
    folders = [caches_folder() / name for name in ("first", "second")]
    for folder in folders:
        FrameCache.build(episodes, folder)
        os.utime(folder, (0, 0))
    FrameCache.open(folders[0])
    assert [info.key for info in list_caches()] == ["first", "second"]
    assert list_caches()[1].last_used.timestamp() == 0


def test_raw_where_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "free_memory", lambda: 100 * 7056)
    assert default_codec(60, tmp_path / "not" / "there") == "raw"
    assert default_codec(61, tmp_path) == "lz4"
    monkeypatch.undo()
    assert default_codec(10**15, tmp_path) == "lz4"
    assert 2**26 < free_memory() < 2**50


def test_both_kinds_of_the_same_datasets(episodes: list[Episode], monkeypatch: pytest.MonkeyPatch) -> None:
    """The key tells them apart, and what is there is taken before a second one is built."""
    write_dataset(PONG, episodes)
    compressed = cache_datasets([PONG], codec="lz4")
    assert cache_datasets([PONG]).folder == compressed.folder
    raw = cache_datasets([PONG], codec="raw")
    assert raw.folder != compressed.folder
    assert np.array_equal(raw.frames.read(raw.starts), compressed.frames.read(compressed.starts))
    with pytest.raises(InputError, match="'raw' or 'lz4', not 'zip'"):
        cache_datasets([PONG], codec="zip")  # type: ignore[arg-type]


def test_a_build_goes_on_in_the_middle_of_a_dataset(episodes: list[Episode], monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(PONG, episodes)
    write_dataset(BOXING, [Episode(**{**vars(episode), "game": "boxing"}) for episode in episodes])
    whole = {path.name: path.read_bytes() for path in cache_datasets([PONG, BOXING]).folder.iterdir()}
    [info] = list_caches()
    monkeypatch.setattr("pretrainrl.data.cache_build.COMMIT_BYTES", 0)
    for done in range(2 * len(episodes)):
        caches.remove_cache(info.folder)
        with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
            patch.setattr("pretrainrl.data.cache_build.CacheWriter.add", _interrupted_after(done))
            cache_datasets([PONG, BOXING])
        assert cache_datasets([PONG, BOXING]).folder == info.folder
        assert {path.name: path.read_bytes() for path in info.folder.iterdir()} == whole


def _interrupted_after(count: int):
    from pretrainrl.data.cache_build import CacheWriter

    add = CacheWriter.add

    def counting(self: CacheWriter, episode: Episode) -> None:
        if len(self.entries) == count:
            raise KeyboardInterrupt
        add(self, episode)

    return counting


def test_only_caches_are_listed_and_removed(
    episodes: list[Episode], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else lies in the folders of caches, or inside a cache, stays as it is; also what links lead to."""
    elsewhere = FrameCache.build(episodes, tmp_path / "elsewhere").folder
    cache = FrameCache.build(episodes, caches_folder() / "0123456789abcdef", datasets=["a/b-v0"]).folder
    mixed = FrameCache.build(episodes, caches_folder() / "fedcba9876543210", datasets=["a/b-v0"]).folder
    damaged = FrameCache.build(episodes, caches_folder() / "aaaaaaaaaaaaaaaa").folder
    (damaged / "manifest.json").write_text("{")
    others = {
        caches_folder() / "notes.txt": "a file",
        caches_folder() / "films" / "frames": "of a folder that is no cache",
        caches_folder() / "films" / "manifest.json": '{"name": "of something else"}',
        caches_folder() / ".films.partial" / "frames": "of another one",
        mixed / "notes.txt": "a file in a cache",
        mixed / "more" / "notes.txt": "a file below a cache",
        home / "features" / "notes.txt": "a file",
    }
    for path, text in others.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    places = [caches_folder() / "linked", mixed / "linked", caches_folder() / f".{cache.name}.partial"]
    links = dict.fromkeys(places, elsewhere)
    for link, target in links.items():
        link.symlink_to(target, target_is_directory=True)
    assert {info.folder for info in list_caches()} == {cache, mixed, damaged}
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}

    run("clear", monkeypatch=monkeypatch)
    assert list_caches() == [] and not cache.exists() and not damaged.exists()
    assert {path: path.read_text() for path in others} == others
    assert all(link.is_symlink() for link in links) and {path: path.read_bytes() for path in before} == before

    again = FrameCache.build(episodes, mixed, datasets=["a/b-v0"])  # beside what is left there
    assert len(again.frames) == len(FrameCache.open(elsewhere).frames) and (mixed / "notes.txt").exists()
    assert [info.folder for info in list_caches()] == [mixed]
