"""The pre-training loop: resume, order of the learning rate, run folders, what comes out."""

import csv
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

import pretrainrl
from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Batch
from pretrainrl.encoders.check import verify_encoder
from pretrainrl.errors import CardError, InputError, UnknownNameError, WeightsError
from pretrainrl.networks.optimization import cosine_with_warmup
from pretrainrl.objectives import Objective
from pretrainrl.pretraining import PretrainConfig, run
from pretrainrl.pretraining.loop import Pretraining
from pretrainrl.pretraining.run_folder import PretrainFolder
from pretrainrl.pretraining.trained import load_objective
from pretrainrl.runs.interrupt import InterruptedRunError
from pretrainrl.weights import file_sha256

OBJECTIVES = pretrainrl.list_objectives()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    episodes = [*collect_episodes("pong", 120, n_envs=2), *collect_episodes("breakout", 120, n_envs=2)]
    return FrameCache.build(episodes, tmp_path_factory.mktemp("cache") / "frames")


def config(objective: str = "idm", **changes: object) -> PretrainConfig:
    options: dict[str, Any] = {"steps": 6, "batch_size": 8, "backbone": "nature", **changes}
    return PretrainConfig.of(objective, ("pretrainrl/atari/pong-random-v0",), **options)


def train(folder: Path, cache: FrameCache, config: PretrainConfig, **options: object) -> Path:
    return run(config, folder, lambda: cache, device="cpu", progress=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Send this process a SIGINT while it reads batch number `step`."""

    def arrange(step: int) -> None:
        read = WindowSampler.batch

        def batch(self: WindowSampler, number: int) -> Batch:
            if number == step and self.batch_size == 8:
                os.kill(os.getpid(), signal.SIGINT)
            return read(self, number)

        monkeypatch.setattr(WindowSampler, "batch", batch)

    return arrange


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_stopped_and_resumed_equals_never_stopped(
    objective: str, cache: FrameCache, tmp_path: Path, stop_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
):
    whole = train(tmp_path / "whole", cache, config(objective, steps=24))
    with monkeypatch.context():
        stop_at(9)
        with pytest.raises(InterruptedRunError, match=r"stopped at step \d+ of 24; go on with --resume"):
            train(tmp_path / "parts", cache, config(objective, steps=24))
    monkeypatch.undo()
    parts = train(tmp_path / "parts", cache, config(objective, steps=24), resume=True)
    for name in ("encoder.safetensors", "metrics.csv"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()
    checkpoints = [torch.load(folder / "checkpoints/step_0000000024/state.pt", weights_only=True) for folder in (whole, parts)]
    for first, second in zip(*(state["objective"].values() for state in checkpoints), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_run_folder_is_an_encoder(objective: str, cache: FrameCache, tmp_path: Path):
    folder = train(tmp_path / "run", cache, config(objective))
    encoder = pretrainrl.make_encoder(folder)
    pretrainrl.check_encoder(encoder)
    verify_encoder(str(folder))
    assert encoder.card.training is not None and encoder.card.training.transitions == 240
    assert encoder.sha256 == file_sha256(folder / "encoder.safetensors")
    assert (folder / "config.toml").exists() and any((folder / "tensorboard").iterdir())
    assert (folder / "figures" / "reconstruction.png").exists() == (objective in {"mae", "siammae"})


def test_training_changes_the_backbone_and_lowers_the_loss(cache: FrameCache, tmp_path: Path):
    folder = train(tmp_path / "run", cache, config("siammae", steps=60, lr=1e-3))
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [20, 40, 60]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    untrained = pretrainrl.make_encoder("random.nature").sha256
    assert pretrainrl.make_encoder(folder).sha256 != untrained


def test_seeds_matter(cache: FrameCache, tmp_path: Path):
    weights = [train(tmp_path / str(seed), cache, config(seed=seed)) / "encoder.safetensors" for seed in (0, 1)]
    assert weights[0].read_bytes() != weights[1].read_bytes()


def test_bfloat16_autocast(cache: FrameCache, tmp_path: Path):
    folder = train(tmp_path / "run", cache, config(precision="bf16-mixed"))
    exact = train(tmp_path / "exact", cache, config())
    assert (folder / "encoder.safetensors").read_bytes() != (exact / "encoder.safetensors").read_bytes()


def test_an_occupied_folder_is_refused(cache: FrameCache, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        train(tmp_path, cache, config())
    with pytest.raises(InputError, match="holds no run to go on with"):
        train(tmp_path, cache, config(), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_configuration_is_not_resumed(cache: FrameCache, tmp_path: Path):
    train(tmp_path / "run", cache, config())
    with pytest.raises(InputError, match="seed was 0 and is now 1"):
        train(tmp_path / "run", cache, config(seed=1), resume=True)


def test_other_data_are_not_gone_on_with(cache: FrameCache, tmp_path: Path, stop_at: Callable[[int], None]):
    stop_at(3)
    with pytest.raises(InterruptedRunError):
        train(tmp_path / "run", cache, config())
    other = FrameCache.build(collect_episodes("pong", 240, n_envs=2, seed=1), tmp_path / "other")
    with pytest.raises(InputError, match=r"the data of the run is of other settings: fingerprint was \w+ and is now \w+"):
        train(tmp_path / "run", other, config(), resume=True)


def test_a_folder_in_use_is_refused(cache: FrameCache, tmp_path: Path):
    folder = PretrainFolder(tmp_path / "run", config(), resume=False)
    with folder.opened(config()), pytest.raises(InputError, match=rf"is in use by process {os.getpid()} on"):
        train(tmp_path / "run", cache, config(), resume=True)


def test_a_finished_run_is_returned_as_it_is(cache: FrameCache, tmp_path: Path):
    folder = train(tmp_path / "run", cache, config())
    before = (folder / "encoder.safetensors").stat().st_mtime_ns
    assert train(tmp_path / "run", cache, config(), resume=True) == folder
    assert (folder / "encoder.safetensors").stat().st_mtime_ns == before


def test_a_damaged_checkpoint_is_named(tmp_path: Path):
    folder = PretrainFolder(tmp_path / "run", config(), resume=False)
    for step in (1, 2, 3):
        folder.save_checkpoint(step, {"objective": {}})
    newest = tmp_path / "run/checkpoints/step_0000000003/state.pt"
    newest.write_bytes(newest.read_bytes()[:40])
    with pytest.raises(InputError, match=r"step_0000000003 is damaged .state.pt.*delete it to go on from step_0000000002"):
        folder.load_checkpoint()
    shutil.rmtree(newest.parent)
    assert folder.load_checkpoint() == {"step": 2, "objective": {}}
    assert len(list((tmp_path / "run/checkpoints").iterdir())) == 1  # step 1 had been dropped


def test_a_diverging_run_keeps_its_last_good_checkpoint(cache: FrameCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pretrainrl.objectives.idm import IDM

    loss, calls = IDM.loss, []

    def diverging(self: Objective, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        calls.append(1)
        value, metrics = loss(self, batch)  # type: ignore[arg-type]
        return (value * float("nan") if len(calls) > 3 else value), metrics

    monkeypatch.setattr(IDM, "loss", diverging)
    with pytest.raises(InputError, match="the loss is nan at step 4; lower the learning rate"):
        train(tmp_path / "run", cache, config(), checkpoint_every=2)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step_0000000002"]
    assert not (tmp_path / "run/encoder.safetensors").exists()


@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_infinite_gradient_is_not_saved(
    clip: float | None, cache: FrameCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The loss of that step is finite, and so is the next one's where nothing reads the weight."""
    step, calls = Pretraining.step, []

    def exploding(self: Pretraining, number: int, batch: Batch) -> Any:
        calls.append(1)
        if len(calls) == 4:
            weight = next(self.objective.parameters())
            weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), float("inf")))
        return step(self, number, batch)

    monkeypatch.setattr(Pretraining, "step", exploding)
    settings = config()
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"clip_grad_norm": clip})})
    with pytest.raises(InputError, match=r"the norm of the gradient is (inf|nan) at step 4; lower the learning rate"):
        train(tmp_path / "run", cache, settings, checkpoint_every=2)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step_0000000002"]


def test_a_weight_that_is_not_finite_is_not_saved(cache: FrameCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Loss and gradient of the last step may be finite all the same."""
    step = Pretraining.step

    def breaking(self: Pretraining, number: int, batch: Batch) -> Any:
        metrics = step(self, number, batch)
        if number == 3:
            next(self.objective.parameters()).data[0] = float("nan")
        return metrics

    monkeypatch.setattr(Pretraining, "step", breaking)
    with pytest.raises(InputError, match=r"the learning has diverged: objective\.backbone\S+ is not finite at step 4; lower"):
        train(tmp_path / "run", cache, config(), checkpoint_every=2)
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step_0000000002"]


def test_frames_that_have_changed_are_noticed(cache: FrameCache, tmp_path: Path, stop_at: Callable[[int], None]):
    """All else is the same; compression makes no difference."""
    episodes = [*collect_episodes("pong", 120, n_envs=2), *collect_episodes("breakout", 120, n_envs=2)]
    assert FrameCache.build(episodes, tmp_path / "same", codec="lz4").fingerprint == cache.fingerprint
    episodes[1].frames[7, 50, 50] ^= 1
    other = FrameCache.build(episodes, tmp_path / "other")
    train(tmp_path / "finished", cache, config())
    stop_at(3)
    with pytest.raises(InterruptedRunError):
        train(tmp_path / "stopped", cache, config())
    for name in ("finished", "stopped"):
        with pytest.raises(InputError, match=r"the data of the run is of other settings: fingerprint was \w+ and is now \w+"):
            train(tmp_path / name, other, config(), resume=True)


@pytest.mark.parametrize("name", ["encoder", "objective"])
def test_a_finished_run_whose_weights_are_damaged(cache: FrameCache, tmp_path: Path, name: str):
    folder = train(tmp_path / "run", cache, config())
    file = folder / f"{name}.safetensors"
    weights = file.read_bytes()
    file.write_bytes(weights[:-9] + bytes([weights[-9] ^ 1]) + weights[-8:])
    expected = r"is not what the run has written; delete .*card.toml and go on with --resume to write both again"
    with pytest.raises(WeightsError, match=expected):
        train(folder, cache, config(), resume=True)
    if name == "objective":
        with pytest.raises(WeightsError, match=expected):
            load_objective(folder)
    (folder / "card.toml").unlink()
    for _ in range(2):  # the second one finds both right
        train(folder, cache, config(), resume=True)
    before, after = load(weights), load(file.read_bytes())
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_runs_outside_the_main_thread(cache: FrameCache, tmp_path: Path):
    done: list[Path] = []
    thread = threading.Thread(target=lambda: done.append(train(tmp_path / "run", cache, config())))
    thread.start()
    thread.join()
    assert done == [tmp_path / "run"]


def test_learning_rate_rises_then_falls():
    factors = [cosine_with_warmup(step, 1000) for step in range(1001)]
    assert factors[0] == pytest.approx(0.1) and factors[100] == pytest.approx(1) and factors[1000] == pytest.approx(0.1)
    assert factors[50] == pytest.approx(0.55) and factors[550] == pytest.approx(0.55)
    assert max(factors) == factors[100]
    assert cosine_with_warmup(0, 5, warmup=0) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"preset": "nan0"}, UnknownNameError, "unknown preset of idm 'nan0'; did you mean 'nano'"),
        ({"objective": "idn"}, UnknownNameError, "unknown objective 'idn'"),
        ({"name": "no spaces"}, CardError, "name"),
        ({"batch_size": 0}, CardError, "batch_size"),
        ({"precision": "16"}, CardError, "precision"),
    ],
)
def test_bad_configurations(changes: dict[str, object], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        config(**changes)  # type: ignore[arg-type]


def test_batches_larger_than_the_data(cache: FrameCache, tmp_path: Path):
    with pytest.raises(InputError, match="larger than the data"):
        train(tmp_path / "run", cache, config(batch_size=100_000))


def test_configurations_survive_toml():
    first = config()
    assert PretrainConfig.parse(first.model_dump(mode="json"), "copy") == first
