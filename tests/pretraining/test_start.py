"""Pre-training that begins from an encoder or a run: which weights are taken, what is recorded, what is refused."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import pretrainrl
from pretrainrl.cards import EncoderCard
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Batch
from pretrainrl.errors import CardError, InputError, UnknownNameError, WeightsError
from pretrainrl.pretraining import PretrainConfig, run
from pretrainrl.pretraining.loop import Pretraining, _launch
from pretrainrl.pretraining.start import Start
from pretrainrl.pretraining.trained import load_objective
from pretrainrl.runs.interrupt import InterruptedRunError
from pretrainrl.weights import file_sha256

Caches = dict[str, FrameCache]


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Caches:
    folder = tmp_path_factory.mktemp("caches")
    episodes = {game: list(collect_episodes(game, 60, n_envs=2)) for game in ("pong", "breakout")}
    both = [*episodes["pong"], *episodes["breakout"]]
    return {"pong": FrameCache.build(episodes["pong"], folder / "pong"), "both": FrameCache.build(both, folder / "both")}


def config(objective: str = "atc", start: Start | None = None, **changes: Any) -> PretrainConfig:
    options: dict[str, Any] = {"steps": 4, "batch_size": 4, "start": start, **changes}
    return PretrainConfig.of(objective, ("pretrainrl/atari/pong-random-v0",), **options)


def train(out: Path, cache: FrameCache, config: PretrainConfig, start: Start | None = None, **options: Any) -> Path:
    return run(config, out, lambda: cache, start=start, device="cpu", progress=False, **options)


@pytest.fixture(scope="module")
def finished(caches: Caches, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "first", caches["pong"], config(backbone="nature", steps=3))


def begun(config: PretrainConfig, cache: FrameCache, start: Start | None) -> Pretraining:
    """A run before its first step."""
    return Pretraining(_launch(config, "cpu"), config, cache, start)


def test_an_encoder_is_the_backbone_and_its_copies(caches: Caches) -> None:
    start = Start.read("siammae")
    encoder = pretrainrl.make_encoder("siammae", prepared=False)
    pretraining = begun(config(start=start), caches["pong"], start)
    state = pretraining.objective.state_dict()
    for name, tensor in encoder.backbone.state_dict().items():
        same = [torch.equal(value, tensor) for key, value in state.items() if key.endswith(f"backbone.{name}")]
        assert len(same) == 2 and all(same), "the network and its momentum copy"
    assert pretraining.config.backbone == "impala" and pretraining.initial == start.initial
    assert start.initial.name == "siammae.impala_atari8" and start.initial.sha256 == encoder.sha256
    plain = begun(config(), caches["pong"], None).objective.state_dict()
    assert all(torch.equal(plain[key], state[key]) for key in state if "backbone" not in key), "heads are new"


def test_a_run_of_the_same_kind_is_taken_whole(finished: Path, caches: Caches, tmp_path: Path) -> None:
    start, before = Start.read(finished), load_objective(finished).objective.state_dict()
    objective = begun(config(start=start, seed=1), caches["pong"], start).objective
    assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())
    out = train(tmp_path / "out", caches["pong"], config(start=start, steps=1), start)
    card = EncoderCard.read(out / "card.toml")
    assert card.training is not None and card.training.initial == start.initial
    assert start.initial.objective_sha256 == file_sha256(finished / "objective.safetensors")
    assert "--from atc.nature" in card.training.command and "from atc.nature" in card.summary
    assert PretrainConfig.read(out / "config.toml").initial == start.initial


@pytest.mark.parametrize("why", ["objective", "games", "options"])
def test_of_another_run_the_encoder_is_taken(why: str, finished: Path, caches: Caches) -> None:
    start, before = Start.read(finished), load_objective(finished).objective
    others: dict[str, dict[str, Any]] = {"objective": {"objective": "idm"}, "options": {"model": {"augmentation": False}}}
    cache = caches["both" if why == "games" else "pong"]
    pretraining = begun(config(start=start, **others.get(why, {})), cache, start)
    found = pretraining.objective.backbone.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in before.backbone.state_dict().items())
    assert pretraining.initial == start.initial.model_copy(update={"objective_sha256": None})


def test_stopped_and_resumed_equals_never_stopped(
    finished: Path, caches: Caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, cache = Start.read(finished), caches["pong"]
    whole = train(tmp_path / "whole", cache, config(start=start), start)
    read = WindowSampler.batch

    def batch(self: WindowSampler, number: int) -> Batch:
        if number == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(WindowSampler, "batch", batch)
        with pytest.raises(InterruptedRunError):
            train(tmp_path / "out", cache, config(start=start), start)
    with pytest.raises(InputError, match=r"initial\.name was atc\.nature and is now None"):
        train(tmp_path / "out", cache, config(backbone="nature"), resume=True)
    train(tmp_path / "out", cache, config(start=start), start, resume=True)
    for name in ("encoder.safetensors", "objective.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes()


def test_an_untrained_encoder_is_one_too() -> None:
    start = Start.read("random.nature")
    assert start.initial.sha256 == pretrainrl.make_encoder("random.nature").sha256 and start.objective is None


def test_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"atc\.nature has the backbone nature, not impala; leave the backbone out"):
        config(start=Start.read(finished), backbone="impala")
    with pytest.raises(UnknownNameError, match=r"unknown encoder 'siamae'; did you mean 'siammae"):
        Start.read("siamae")
    with pytest.raises(CardError, match="no card at"):
        Start.read(tmp_path)
    copy = shutil.copytree(finished, tmp_path / "copy")
    file = copy / "objective.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file({**tensors, "backbone.layers.0.bias": tensors["backbone.layers.0.bias"] + 1}, file, metadata)
    with pytest.raises(WeightsError, match=r"objective\.safetensors is not what the run has written"):
        Start.read(copy)
