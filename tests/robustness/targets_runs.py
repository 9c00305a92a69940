"""What the package itself leaves on the disk and goes on with: caches, run folders, results."""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from benchmark_results import make_cell, make_result
from dqn_shards import numbered
from mutate import damage, hostile_json, hostile_toml
from targets_cards import digest
from targets_datasets import OWN
from targets_sources import LENGTHS, one_of
from trials import CHANGED, SAME, Fault, Target, Trial, mutated

from pretrainrl.benchmarking.results import ResultStore, read_result
from pretrainrl.commands import pretrain
from pretrainrl.data import cache_build
from pretrainrl.data.cache_build import CacheWriter
from pretrainrl.data.cache_files import MANIFEST, Codec, partial_folder
from pretrainrl.data.caches import list_caches
from pretrainrl.data.feature_cache import cached_features
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.encoders import make_encoder
from pretrainrl.finetuning import finetune
from pretrainrl.finetuning.folder import FinetuneFolder
from pretrainrl.integrations.minari import write_dataset
from pretrainrl.paths import environment_variables
from pretrainrl.pretraining import loop
from pretrainrl.pretraining.run_folder import PretrainFolder
from pretrainrl.pretraining.trained import load_objective
from pretrainrl.runs.interrupt import InterruptedRunError

CODECS: tuple[Codec, ...] = ("raw", "lz4")
STEPS = 3


def prepare_caches(folder: Path) -> None:
    """Write caches of frames, whole and begun, and a cache of features."""
    cache_build.COMMIT_BYTES = 0
    episodes = numbered(LENGTHS)
    for codec in CODECS:
        FrameCache.build(episodes, folder / "home" / "frames" / codec, codec=codec)
        partial = partial_folder(folder / "begun" / codec)
        with CacheWriter(partial, codec, ()) as writer:
            for episode in episodes[:2]:
                writer.add(episode)
    with environment_variables(PRETRAINRL_HOME=str(folder / "home")):
        _features(FrameCache.open(folder / "home" / "frames" / "raw"))


def _features(cache: FrameCache) -> torch.Tensor:
    return cached_features(cache, make_encoder("random.nature"), "flat", dataset=OWN, fingerprint="ab" * 32)


def _content(cache: FrameCache) -> int:
    """Checksum of all that a cache gives."""
    names = ("actions", "rewards", "terminations", "starts", "lengths", "observed", "game_ids")
    tensors = [cache.frames.read(torch.arange(len(cache.frames))), *(getattr(cache, name) for name in names)]
    return zlib.crc32(b"".join(tensor.numpy().tobytes() for tensor in tensors) + str(cache.games).encode())


def start_caches(folder: Path) -> Trial:
    """Caches are damaged and then opened, or, where they were begun, finished."""
    frames = folder / "home" / "frames"
    whole = {codec: _content(FrameCache.open(frames / codec)) for codec in CODECS}
    with environment_variables(PRETRAINRL_HOME=str(folder / "home")):
        features = np.array(_features(FrameCache.open(frames / "raw")))
    encoded = FrameCache.open(frames / "raw")
    episodes = numbered(LENGTHS)

    def trial(rng: Random, scratch: Path) -> str:
        kind, codec = rng.choice(("frames", "frames", "begun", "begun", "features")), rng.choice(CODECS)
        if kind == "begun":
            place = mutated(scratch, folder / "begun") / codec
            spoil(rng, one_of(rng, partial_folder(place)))
            return _same(_content(FrameCache.build(episodes, place, codec=codec)) == whole[codec])
        place = mutated(scratch, folder / "home")
        path = one_of(rng, place / kind / (codec if kind == "frames" else ""))
        spoil(rng, path)
        list_caches()
        if kind == "frames":
            return _same(_content(FrameCache.open(place / kind / codec)) == whole[codec])
        manifest = next((folder / "home" / "features").rglob(MANIFEST)).read_text()
        return _same(np.array_equal(_features(encoded), features), covered="crc32" in manifest)

    return trial


def spoil(rng: Random, path: Path) -> None:
    """Damage a file; one of text is sometimes made hostile, and any is sometimes removed."""
    content, draw = path.read_bytes(), rng.random()
    if draw < 0.05:
        path.unlink()
    elif draw < 0.5 and path.suffix == ".json":
        path.write_text(hostile_json(rng, content.decode()), errors="replace")
    elif draw < 0.5 and path.suffix == ".toml":
        path.write_text(hostile_toml(rng, content.decode()), errors="replace")
    else:
        path.write_bytes(damage(rng, content))


def _same(same: bool, covered: bool = True) -> str:
    if not same and covered:
        raise Fault("damage accepted", "what was read is not what was written")
    return SAME if same else CHANGED


def _stopping(folder: type[Any]) -> None:
    """Let runs end after their first checkpoint, as if a signal had come."""
    save: Callable[..., None] = folder.save_checkpoint

    def save_and_stop(self: Any, *arguments: Any) -> None:
        save(self, *arguments)
        raise InterruptedRunError("stopped")

    folder.save_checkpoint = save_and_stop


def _run_both(folder: Path, kind: type[Any], run: Callable[[Path], Any]) -> None:
    """Write the data set, a run that was stopped, and one that was not."""
    (folder / "sets").mkdir()
    with environment_variables(MINARI_DATASETS_PATH=str(folder / "sets"), PRETRAINRL_HOME=str(folder / "home")):
        write_dataset(OWN, numbered((20, 20, 20)))
        vars(loop)["code_commit"] = lambda: "unknown"
        run(folder / "whole")
        _stopping(kind)
        try:
            run(folder / "begun")
        except InterruptedRunError:
            return
    raise RuntimeError("the run was not stopped")


def _pretrain(out: Path) -> Path:
    options: dict[str, Any] = {"backbone": "nature", "batch_size": 4, "steps": STEPS, "checkpoint_every": 1, "device": "cpu"}
    return pretrain("idm", OWN, out=out, resume=True, progress=False, **options).folder


def prepare_pretraining(folder: Path) -> None:
    """Write two runs of pre-training."""
    _run_both(folder, PretrainFolder, _pretrain)


def start_pretraining(folder: Path) -> Trial:
    """A run that was begun is damaged and gone on with; one that is finished is damaged and used."""
    vars(loop)["code_commit"] = lambda: "unknown"  # which starts git
    whole = (folder / "whole" / "encoder.safetensors").read_bytes()
    shipped = digest(make_encoder(folder / "whole"))

    def trial(rng: Random, scratch: Path) -> str:
        if rng.random() < 0.5:
            run = mutated(scratch, folder / "whole")
            spoil(rng, one_of(rng, run))
            load_objective(run)
            return SAME if digest(make_encoder(run)) == shipped else CHANGED
        with environment_variables(MINARI_DATASETS_PATH=str(folder / "sets"), PRETRAINRL_HOME=str(folder / "home")):
            run = mutated(scratch, folder / "begun")
            path = one_of(rng, run)
            spoil(rng, path)
            _pretrain(run)
        covered = "checkpoints" in path.parts or path.name == "metrics.csv"
        return _same((run / "encoder.safetensors").read_bytes() == whole, covered)

    return trial


def _finetune(out: Path) -> Path:
    options: dict[str, Any] = {"n_envs": 1, "eval_episodes": 1, "eval_freq": 1, "max_episode_steps": 2, "checkpoint_every": 1}
    options |= {"dataset": OWN, "epochs": 2, "features": "pooled", "device": "cpu", "progress": False, "resume": True}
    return finetune("bc", "pong", "random.nature", out=out, **options).folder


def prepare_finetuning(folder: Path) -> None:
    """Write two runs of fine-tuning."""
    _run_both(folder, FinetuneFolder, _finetune)


def _policy(run: Path) -> bytes:
    with zipfile.ZipFile(next(run.glob("[!b]*.zip"))) as agent:
        return agent.read("policy.pth")


def start_finetuning(folder: Path) -> Trial:
    """A run that was begun is damaged and gone on with."""
    [config] = (folder / "whole").rglob("config.toml")
    whole = _policy(config.parent)

    def trial(rng: Random, scratch: Path) -> str:
        with environment_variables(MINARI_DATASETS_PATH=str(folder / "sets"), PRETRAINRL_HOME=str(folder / "home")):
            run = mutated(scratch, folder / "begun")
            path = one_of(rng, run)
            spoil(rng, path)
            done = _finetune(run)
        return _same(_policy(done) == whole, covered="checkpoints" in path.parts)

    return trial


def prepare_results(folder: Path) -> None:
    """Write a folder of two results."""
    for cell in (make_cell(seed=0), make_cell(seed=1)):
        ResultStore(folder, "mine", 1).write(make_result(cell), cell)


def start_results(folder: Path) -> Trial:
    """Results of a benchmark."""
    whole = {path.name: read_result(path) for path in folder.rglob("*.json")}

    def trial(rng: Random, scratch: Path) -> str:
        place = mutated(scratch, folder / "cells")
        path = one_of(rng, place)
        spoil(rng, path)
        found = list(ResultStore(scratch, "mine", 1))
        if any(each not in whole.values() for each in found):
            raise Fault("damage accepted", "a result is not what was written")
        return SAME if len(found) == len(whole) else CHANGED

    return trial


CACHES = Target("caches", prepare_caches, start_caches)
PRETRAINING = Target("pretraining", prepare_pretraining, start_pretraining, seconds=60)
FINETUNING = Target("finetuning", prepare_finetuning, start_finetuning, seconds=60)
RESULTS = Target("results", prepare_results, start_results)
