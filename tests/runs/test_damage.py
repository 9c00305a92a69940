"""No damage to what a run goes on from gets through: it is refused by name, or made good.

Every test makes a real folder once and damages copies of it at random, from a seed: bits, stretches, ends, whole files.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_results import make_cell, make_result
from damage import damaged_copies

from pretrainrl import make_encoder
from pretrainrl.benchmarking.results import ResultStore, read_result
from pretrainrl.data import cache_build, feature_cache
from pretrainrl.data.cache_files import Codec, partial_folder
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.data.feature_cache import cached_features
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.encoders import Encoder
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.finetuning import finetune
from pretrainrl.finetuning.config import FinetuneRecord
from pretrainrl.finetuning.folder import FinetuneFolder
from pretrainrl.finetuning.segments import FinetuneSegments
from pretrainrl.integrations.minari.store import CollectionSegments
from pretrainrl.pretraining import PretrainConfig, run
from pretrainrl.pretraining.run_folder import PretrainFolder
from pretrainrl.runs.checkpoints import checked_json, parse_checked
from pretrainrl.runs.interrupt import InterruptedRunError

COUNT = 60


def contents(folder: Path, *names: str) -> dict[str, bytes]:
    """The bytes of a folder's files, with plain ends of lines in tables, which rewriting gives them."""
    files = [path for path in folder.iterdir() if not names or path.name in names]
    return {path.name: path.read_bytes().replace(b"\r\n", b"\n" if path.suffix == ".csv" else b"\r\n") for path in files}


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return list(collect_episodes("pong", 60, n_envs=3))


@pytest.fixture(scope="module")
def frames(episodes: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.build(episodes, tmp_path_factory.mktemp("frames") / "pong")


def test_a_checked_table_is_what_was_written() -> None:
    table = {"a": 1, "b": [1.5, None, "é"], "c": {"d": False}}
    for indent in (None, 1):
        text = checked_json(table, indent)
        assert parse_checked(text, indent) == table
        for place in range(len(text)):
            for changed in (text[:place], text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :], text + " "):
                with pytest.raises(ValueError):
                    parse_checked(changed, indent)


def test_pretraining(frames: FrameCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = PretrainConfig.of("idm", ("pretrainrl/atari/pong-random-v0",), steps=99, batch_size=8, backbone="nature")
    monkeypatch.setattr("pretrainrl.pretraining.loop.LOG_EVERY", 2)

    def stopping(folder: PretrainFolder, step: int, state: dict[str, Any]) -> None:
        save(folder, step, state)
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)

    save = PretrainFolder.save_checkpoint
    monkeypatch.setattr(PretrainFolder, "save_checkpoint", stopping)
    with pytest.raises(InterruptedRunError):
        run(config, tmp_path / "run", lambda: frames, device="cpu", checkpoint_every=3, progress=False)
    whole = PretrainFolder(tmp_path / "run", config, resume=True).load_checkpoint()
    metrics = (tmp_path / "run" / "metrics.csv").read_bytes()
    assert whole is not None and metrics.count(b"\n") > 3
    refused = 0
    for pattern, count in (("state.pt", COUNT), ("checksums.json", COUNT), ("metrics.csv", COUNT)):
        for damage in damaged_copies(tmp_path / "run", tmp_path / "copy", count, only=pattern):
            try:
                state = PretrainFolder(tmp_path / "copy", config, resume=True).load_checkpoint(restore_files=True)
            except InputError:
                refused += 1
                continue
            assert (tmp_path / "copy" / "metrics.csv").read_bytes() == metrics, damage
            assert state is not None and state["step"] == whole["step"], damage
            for key, tensor in whole["objective"].items():
                assert torch.equal(state["objective"][key], tensor), damage
    assert refused > COUNT


def test_finetuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters, optimizer and replay buffer are in the checkpoint; scores, finished games and the best agent beside it."""
    calls: list[int] = []

    def dying(self: FinetuneSegments) -> bool:
        calls.append(1)
        if len(calls) == 35:
            raise MemoryError
        return step(self)

    step = FinetuneSegments._on_step
    sizes: dict[str, Any] = {"steps": 90, "checkpoint_every": 40, "eval_freq": 30, "eval_episodes": 2, "max_episode_steps": 15}
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(FinetuneSegments, "_on_step", dying)
        finetune("rainbow", "pong", "random.nature", out=tmp_path, n_envs=2, features="pooled", progress=False, **sizes)
    whole = tmp_path / "rainbow" / "ALE-Pong-v5_1"
    record = FinetuneRecord.read(whole / "config.toml")
    [state] = (whole / "checkpoints").iterdir()
    assert {"agent.pt", "replay.npz", "evaluations.npz", "best_model.zip", "0.monitor.csv"} <= contents(state).keys()
    grown = ("evaluations.npz", "best_model.zip", "0.monitor.csv")
    copy = tmp_path / "copies" / "rainbow" / whole.name
    for damage in damaged_copies(whole / "checkpoints", copy / "checkpoints", COUNT):
        (copy / "config.toml").write_bytes((whole / "config.toml").read_bytes())
        folder = FinetuneFolder(copy.parent.parent, record.run, resume=True)
        with pytest.raises(InputError, match="is damaged"):
            folder.open(record)
            pytest.fail(damage)
    for damage in damaged_copies(whole, copy, COUNT, only="*.*[piv]*"):
        folder = FinetuneFolder(copy.parent.parent, record.run, resume=True)
        try:
            folder.open(record)
        except InputError:
            continue
        folder.close()
        assert contents(copy, *grown) == contents(state, *grown), damage


def test_collecting(episodes: list[Episode], tmp_path: Path) -> None:
    whole = CollectionSegments(tmp_path / "whole", "pong")

    def save(folder: Path) -> None:
        (folder / "agent.pt").write_bytes(bytes(range(256)))

    for number in range(3):
        whole.add(episodes[number : number + 1], number, save)
    for damage in damaged_copies(tmp_path / "whole", tmp_path / "copy", COUNT):
        segments = CollectionSegments(tmp_path / "copy", "pong")
        with pytest.raises(InputError, match="is damaged"):
            segments.latest()
            list(segments.episodes())
            pytest.fail(damage)


def test_a_segment_that_is_missing(episodes: list[Episode], tmp_path: Path) -> None:
    segments = CollectionSegments(tmp_path, "pong")
    for number in range(3):
        segments.add(episodes[:1], number, lambda folder: None)
    (tmp_path / "segment-000001").rename(tmp_path / "away")
    for read in (segments.latest, lambda: list(segments.episodes())):
        with pytest.raises(InputError, match="segment-000001 is missing"):
            read()


@pytest.mark.parametrize("codec", ["raw", "lz4"])
def test_frames(episodes: list[Episode], tmp_path: Path, codec: Codec) -> None:
    whole = FrameCache.build(episodes, tmp_path / "whole", codec=codec)
    rows = torch.arange(len(whole.frames))
    expected = whole.frames.read(rows)
    refused = 0
    for damage in damaged_copies(whole.folder, tmp_path / "copy", COUNT):
        try:
            cache = FrameCache.open(tmp_path / "copy")
            found = cache.frames.read(rows)
        except DatasetError as error:
            assert "delete that folder" in str(error)
            refused += 1
            continue
        assert torch.equal(found, expected) and cache.fingerprint == whole.fingerprint, damage
    assert refused == COUNT or codec == "lz4"  # another compression of the same frames would be none


@pytest.mark.parametrize("codec", ["raw", "lz4"])
def test_frames_that_are_being_cached(
    episodes: list[Episode], tmp_path: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_build, "COMMIT_BYTES", 0)
    whole = contents(FrameCache.build(episodes, tmp_path / "whole", codec=codec).folder)
    writer = cache_build.CacheWriter(tmp_path / "begun", codec, ())
    with writer:
        for episode in episodes[:2]:
            writer.add(episode)
    for damage in damaged_copies(tmp_path / "begun", partial_folder(tmp_path / "cache"), COUNT // 3):
        cache = FrameCache.build(episodes, tmp_path / "cache", codec=codec)
        assert contents(cache.folder) == whole, damage
        for path in cache.folder.iterdir():
            path.unlink()
        cache.folder.rmdir()


@pytest.fixture
def cached(frames: FrameCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], torch.Tensor]:
    """Features of the frames, in batches of 8."""
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(feature_cache, "_BATCH", 8)
    encoder = make_encoder("random.nature", features="pooled")
    return lambda: cached_features(frames, encoder, "pooled", dataset="a/b-v0", fingerprint="f")


def test_features(cached: Callable[[], torch.Tensor], tmp_path: Path) -> None:
    cached()
    [folder] = (tmp_path / "home" / "features").iterdir()
    folder.rename(tmp_path / "whole")
    for damage in damaged_copies(tmp_path / "whole", folder, COUNT):
        with pytest.raises(DatasetError, match="delete that folder"):
            cached()
            pytest.fail(damage)


def test_features_that_are_being_cached(
    cached: Callable[[], torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cached().numpy().tobytes()
    [folder] = (tmp_path / "home" / "features").iterdir()
    folder.rename(tmp_path / "whole")
    calls: list[int] = []
    forward = Encoder.forward

    def dying(self: Encoder, observations: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return forward(self, observations)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "forward", dying)
        cached()
    partial_folder(folder).rename(tmp_path / "begun")
    for damage in damaged_copies(tmp_path / "begun", partial_folder(folder), COUNT // 3):
        assert cached().numpy().tobytes() == whole, damage
        folder.rename(partial_folder(folder))  # the next copy replaces it


def test_cells_of_a_benchmark(tmp_path: Path) -> None:
    store, cell = ResultStore(tmp_path / "whole", "mine", 1), make_cell()
    store.write(make_result(cell, scores=tuple(np.linspace(0, 1, 9).tolist()), lengths=(1, 2), dtype="float32"), cell)
    for damage in damaged_copies(tmp_path / "whole", tmp_path / "copy", COUNT):
        for path in (tmp_path / "copy").rglob("*.json"):
            with pytest.raises(InputError, match="is damaged"):
                read_result(path)
                pytest.fail(damage)
