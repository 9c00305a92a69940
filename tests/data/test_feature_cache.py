"""The features of a dataset are computed once, survive what interrupts them, and are those of the encoder."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretrainrl import cli, make_encoder
from pretrainrl.data import feature_cache
from pretrainrl.data.cache_files import partial_folder
from pretrainrl.data.caches import features_folder, list_caches
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.feature_cache import cached_features
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec
from pretrainrl.encoders import Encoder
from pretrainrl.errors import DatasetError, InputError

STEPS = 40


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.build(collect_episodes("pong", STEPS, n_envs=2), tmp_path_factory.mktemp("frames") / "pong")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder("random.nature")


@pytest.fixture(autouse=True)
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(feature_cache, "_BATCH", 8)


def features(frames: FrameCache, encoder: Encoder, kind: Any = "flat", fingerprint: str = "f") -> torch.Tensor:
    return cached_features(frames, encoder, kind, dataset="a/b-v0", fingerprint=fingerprint)


def test_they_are_the_encoders(frames: FrameCache, encoder: Encoder) -> None:
    observations = WindowSampler(frames, WindowSpec(steps=1), 1).read(torch.arange(STEPS)).observation()
    flat, maps = features(frames, encoder), features(frames, encoder, "map")
    assert flat.dtype == maps.dtype == torch.float16 and maps.shape == (STEPS, *encoder.feature_map_shape)
    assert torch.allclose(flat.float(), encoder(observations), atol=1e-3)
    assert torch.equal(maps.flatten(1), flat)


def test_each_kind_encoder_type_and_dataset_has_its_own(frames: FrameCache, encoder: Encoder) -> None:
    features(frames, encoder)
    features(frames, encoder, "map")
    features(frames, encoder, fingerprint="g")
    features(frames, make_encoder("random.nature", dtype=torch.bfloat16))
    features(frames, make_encoder("random.nature", features="pooled"), "pooled")
    assert len({info.key for info in list_caches()}) == 5


def test_goes_on_where_it_was_stopped(frames: FrameCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = features(frames, encoder).numpy().tobytes()
    [folder] = features_folder().iterdir()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    calls: list[int] = []
    forward = Encoder.feature_map

    def counting(self: Encoder, obs: Any) -> Any:
        calls.append(len(obs))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return forward(self, obs)

    monkeypatch.setattr(Encoder, "feature_map", counting)
    with pytest.raises(KeyboardInterrupt):
        features(frames, encoder)
    [info] = list_caches()
    assert info.state == "unfinished" and info.datasets == ("a/b-v0",) and not folder.exists()
    assert features(frames, encoder).numpy().tobytes() == whole
    assert calls == [8] * 7, "three batches, one in vain, a comparison, and the last two"


@pytest.mark.parametrize("finished", [True, False])
def test_code_that_has_changed_is_noticed(
    frames: FrameCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """Weights and names are the same, and yet the features are others."""
    forward, calls = Encoder.feature_map, [0]

    def dying(self: Encoder, obs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4 and not finished:
            raise KeyboardInterrupt
        return forward(self, obs)

    with monkeypatch.context() as patch, nullcontext() if finished else pytest.raises(KeyboardInterrupt):
        patch.setattr(Encoder, "feature_map", dying)
        features(frames, encoder)
    monkeypatch.setattr(Encoder, "feature_map", lambda self, obs: 255 / 256 * forward(self, obs))
    observations = WindowSampler(frames, WindowSpec(steps=1), 1).read(torch.arange(STEPS)).observation()
    assert torch.allclose(features(frames, encoder).float(), encoder(observations), rtol=1e-3, atol=1e-4)
    assert len(list_caches()) == 1


def test_one_encodes_and_others_wait(frames: FrameCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Any = []
    forward = Encoder.feature_map
    monkeypatch.setattr(Encoder, "feature_map", lambda self, obs: calls.append(len(obs)) or forward(self, obs))
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda _: features(frames, encoder), range(3)))
    assert sum(calls) == STEPS + 2 * 8, "those who waited compare a few"
    assert all(torch.equal(result, results[0]) for result in results)


def test_too_large_for_float16(frames: FrameCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "feature_map", lambda self, obs: torch.full((len(obs), *self.feature_map_shape), 1e9))
    assert float(features(frames, encoder).max()) == np.finfo(np.float16).max


def test_damage(frames: FrameCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    features(frames, encoder)
    [folder] = features_folder().iterdir()
    with (folder / "features").open("ab") as file:
        file.write(b"0")
    with pytest.raises(DatasetError, match=rf"the features in {folder} are damaged .*delete that folder"):
        features(frames, encoder)

    def full(*arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache, "_encode", full)
    with pytest.raises(InputError, match=r"cannot write the features .*: No space left on device"):
        features(frames, encoder, fingerprint="g")
    assert sorted(features_folder().iterdir()) == [folder], "nothing half-written is left"


def test_cache_commands(
    frames: FrameCache, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    features(frames, encoder)
    [folder] = features_folder().iterdir()
    assert json.loads((folder / "manifest.json").read_text())["rows"] == STEPS
    for command, shown in (("info", "random.nature, flat"), ("clear", f"removed {folder.name}")):
        monkeypatch.setattr("sys.argv", ["pretrainrl", "cache", command])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code and shown in capsys.readouterr().out
    assert not folder.exists() and not partial_folder(folder).exists()
