"""The one pre-training loop: lightning-fabric for devices, precision and processes; everything else is in sight here."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrainrl.cards import EncoderCard
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Batch
from pretrainrl.device import resolve_device
from pretrainrl.encoders import make_backbone
from pretrainrl.errors import InputError
from pretrainrl.networks.optimization import LOWER_RATE, cosine_with_warmup, require_finite
from pretrainrl.objectives import Objective, make_objective
from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.pretraining.export import code_commit, export_card
from pretrainrl.pretraining.run_folder import OTHER_FOLDER, MetricsFile, PretrainFolder
from pretrainrl.pretraining.start import Start
from pretrainrl.pretraining.trained import save_objective
from pretrainrl.probing.probes import CollapseWatch
from pretrainrl.progress import progress_bar
from pretrainrl.runs.folder import require_same
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests

LOG_EVERY = 20  # steps between two rows of metrics.csv
PATIENCE = 30.0  # seconds in which torchrun and schedulers may repeat their signal, until torchrun itself kills
FIGURE_WINDOWS = 8


def run(
    config: PretrainConfig,
    out: Path,
    open_cache: Callable[[], FrameCache],
    *,
    start: Start | None = None,
    device: str = "auto",
    checkpoint_every: int = 500,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Pre-train one backbone and return `out`, which then holds its weights and card.

    The result depends on `config` and the data alone: batch order, augmentation and masks are functions of seed and step, so
    on a CPU a run that was stopped and resumed ends bit-identical to one that never stopped. Under `torchrun`, processes share
    the batch, and a signal to any of them stops all of them after the same step.

    Args:
        config: Configuration of the run.
        out: Folder of the run.
        open_cache: Function that returns the frames; it is called once the run folder is known to be usable.
        start: Weights to begin from; None for a new network.
        device: Name of the device, `auto`, `cpu`, `cuda`, or `cuda:1` for the second one.
        checkpoint_every: Number of steps between two checkpoints.
        resume: Whether to continue the run in `out`; a finished run is returned as it is.
        progress: Whether to show a progress bar.

    Raises:
        InputError: The run folder does not fit or is in use, the data have changed, what a session has left is damaged, or
            loss, gradients or weights are not finite.
        InterruptedRunError: SIGINT or SIGTERM asked to stop; a checkpoint has been written.
    """
    folder = PretrainFolder(out, config, resume=resume)
    if folder.is_finished():
        folder.check_result(open_cache().fingerprint)
        return out
    commit = code_commit()  # of what runs now: a clone may have moved on by the end
    fabric = _launch(config, device)
    cache = open_cache()
    pretraining = Pretraining(fabric, config, cache, start)
    with (
        stop_requests(PATIENCE if fabric.world_size > 1 else 1.0) as requested,
        folder.opened(config) if fabric.is_global_zero else nullcontext(),
    ):
        fabric.barrier()  # the first process has the folder: what all read next stays as it is
        if folder.is_finished():  # another session was faster
            return out
        step = pretraining.restore(folder.load_checkpoint(restore_files=fabric.is_global_zero))
        _optimize(pretraining, folder, step, checkpoint_every, requested, progress=progress and fabric.is_global_zero)
        if fabric.is_global_zero:
            weights = folder.save_weights(pretraining.objective.backbone)
            save_objective(out, pretraining.objective, cache)
            card = export_card(
                config, weights, cache, pretraining.steps, pretraining.minutes, fabric.device, commit, pretraining.initial
            )
            card.write(out / EncoderCard.FILE)
        fabric.barrier()
    return out


def _optimize(
    pretraining: Pretraining, folder: PretrainFolder, start: int, checkpoint_every: int, requested: Event, *, progress: bool
) -> None:
    """Take all steps from `start` on, log them, and write checkpoints; the last step has one, too.

    No process stops or fails alone: whatever ends the loop is agreed on after a step that all have taken.
    """
    fabric, steps = pretraining.fabric, pretraining.steps
    with progress_bar(disable=not progress) as bar, closing(_Log(folder, fabric, start)) as log:
        task = bar.add_task(f"pre-train {pretraining.config.objective}", total=steps, completed=start, note="")
        collapse = CollapseWatch()
        began = time.monotonic()
        for step, batch in enumerate(pretraining.sampler.batches(start, steps), start):
            metrics = pretraining.step(step, batch.to(fabric.device))
            done, stop = step + 1, _any_rank(fabric, requested.is_set())
            logged, saved = done % LOG_EVERY == 0, done % checkpoint_every == 0 or stop
            if logged or saved or done == steps:
                _check_finite(fabric, done, metrics)
            if logged or done == steps:
                row = log.write(done, metrics)
                if fabric.is_global_zero and (message := collapse.message(done, row)):
                    warnings.warn(message, RuntimeWarning, stacklevel=3)
                speed = (done - start) * len(batch.games) / (time.monotonic() - began)
                bar.update(task, note=f"loss {row['loss']:.4g}, {speed:,.0f} windows/s")
            bar.update(task, completed=done)
            if saved or done == steps:
                pretraining.save(folder, done)
            if stop and done < steps:
                raise InterruptedRunError(f"stopped at step {done} of {steps}; go on with --resume --out {folder.path}")


def _any_rank(fabric: Fabric, value: bool) -> bool:
    """Whether `value` holds in any process, so that all of them stop after the same step."""
    if fabric.world_size == 1:
        return value
    flag = fabric.all_reduce(torch.tensor(float(value), device=fabric.device), reduce_op="max")
    return bool(flag)


def _launch(config: PretrainConfig, device: str) -> Fabric:
    """Start fabric on one device, or as a member of the processes that torchrun has started."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // local
    chosen, processes = resolve_device(device), local * nodes
    if config.training.batch_size % processes:
        raise InputError(f"batch_size {config.training.batch_size} does not divide among {processes} processes")
    if processes > 1 and chosen.type == "cuda" and device not in ("auto", "cuda"):
        raise InputError(f"each of the {processes} processes has a device of its own; give device 'cuda', not {device!r}")
    fabric = Fabric(
        accelerator=chosen.type,
        devices=[chosen.index] if processes == 1 and chosen.index is not None and chosen.type != "cpu" else local,
        num_nodes=nodes,
        strategy="ddp" if processes > 1 else "auto",
        precision=config.precision,  # type: ignore[arg-type]  # a str that PretrainConfig has checked
    )
    fabric.launch()
    return fabric


class Pretraining:
    """The state of one run: objective, optimizer and sampler.

    Args:
        fabric: Fabric that has been launched.
        config: Configuration of the run.
        cache: Frames to learn from.
        start: Weights to begin from; None for a new network.

    Attributes:
        fabric: Fabric of the run.
        config: Configuration of the run.
        objective: Objective that is optimized.
        sampler: Sampler of this process's share of each batch.
        steps: Number of optimizer steps of the whole run.
        initial: Record of what training begins from; None for a new network.
    """

    def __init__(self, fabric: Fabric, config: PretrainConfig, cache: FrameCache, start: Start | None = None) -> None:
        self.fabric = fabric
        self.config = config
        training = config.training
        backbone = make_backbone(config.backbone, seed=config.seed, **config.backbone_options)
        if start is not None:  # before the objective is made, which may copy it
            start.load_backbone(backbone)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.seed)
            self.objective: Objective = make_objective(
                config.objective, encoder=backbone, num_games=len(cache.games), **config.model
            )
        self.initial = None if start is None else start.load_objective(self.objective, config, tuple(cache.games))
        self.sampler = WindowSampler(
            cache,
            self.objective.window,
            training.batch_size // fabric.world_size,
            seed=config.seed,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        self.steps = training.steps or (training.epochs or 1) * self.sampler.steps_per_epoch
        optimizer = torch.optim.AdamW(
            self.objective.parameters(),
            lr=training.lr,
            betas=training.betas,
            eps=training.eps,
            weight_decay=training.weight_decay,
        )
        self.objective.to(memory_format=torch.channels_last)
        self._module, self._optimizer = fabric.setup(_Loss(self.objective), optimizer)
        self._data = {"fingerprint": cache.fingerprint}
        self._spent = 0.0
        self._began = time.monotonic()

    @property
    def minutes(self) -> float:
        """Minutes spent in this run, in all of its sessions."""
        return (self._spent + time.monotonic() - self._began) / 60

    def step(self, step: int, batch: Batch) -> dict[str, Tensor]:
        """Take one optimizer step and return its metrics, still on the device."""
        training = self.config.training
        _seed(self.config.seed, step, self.fabric.global_rank)
        factor = cosine_with_warmup(step, self.steps, warmup=training.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = training.lr * factor
        loss, metrics = self._module(lambda: batch)  # fabric adds autocast around it
        self.fabric.backward(loss)
        limit = training.clip_grad_norm or float("inf")
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), limit)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.objective.after_step((step + 1) / self.steps)
        return {"loss": loss.detach(), **metrics, "grad_norm": norm, "lr": torch.tensor(training.lr * factor)}

    def reconstruct(self) -> Tensor | None:
        """Return what a masked objective makes of the first windows, always the same ones; None for other objectives."""
        few = WindowSampler(self.sampler.cache, self.objective.window, FIGURE_WINDOWS, seed=self.config.seed).batch(0)
        _seed(self.config.seed, 0, 0)
        with self.fabric.autocast():
            return self.objective.reconstruct(few.to(self.fabric.device))

    def save(self, folder: PretrainFolder, step: int) -> None:
        """Write a checkpoint, and the reconstructions of a masked objective as a picture.

        Raises:
            InputError: A weight or a moment of the optimizer is not finite, which all processes see alike.
        """
        state = {
            "objective": self.objective.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "data": self._data,
            "seconds": self._spent + time.monotonic() - self._began,
        }
        require_finite(state, f"at step {step}", LOWER_RATE)
        if self.fabric.is_global_zero:
            images = self.reconstruct()
            if images is not None:  # first, or a process that is killed in between would leave the picture of before
                folder.save_figure(images, "reconstruction")
            folder.save_checkpoint(step, state)
        self.fabric.barrier()

    def restore(self, checkpoint: dict[str, Any] | None) -> int:
        """Load a checkpoint and return the step to go on with.

        Raises:
            InputError: The checkpoint was made with other data.
        """
        if checkpoint is None:
            return 0
        require_same(self._data, checkpoint["data"], "the data of the run", OTHER_FOLDER)
        self.objective.load_state_dict(checkpoint["objective"])
        self._optimizer.load_state_dict(checkpoint["optimizer"])
        self._spent = float(checkpoint["seconds"])
        return int(checkpoint["step"])


class _Loss(nn.Module):
    """An objective's loss of a batch in an envelope: fabric would copy an open one and round its rewards to bfloat16."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Callable[[], Batch]) -> tuple[Tensor, dict[str, Tensor]]:
        outcome: tuple[Tensor, dict[str, Tensor]] = self.objective(batch())
        return outcome


class _Log:
    """metrics.csv and TensorBoard, written by the first process."""

    def __init__(self, folder: PretrainFolder, fabric: Fabric, start: int) -> None:
        self._active = fabric.is_global_zero
        if self._active:
            from torch.utils.tensorboard import SummaryWriter

            self._file = MetricsFile(folder.metrics)
            self._writer = SummaryWriter(folder.path / "tensorboard", purge_step=start + 1)

    def write(self, step: int, metrics: dict[str, Tensor]) -> dict[str, float]:
        """Write one row and return it."""
        row = {"step": step, **{key: value.item() for key, value in metrics.items()}}
        if self._active:
            self._file.write(row)
            for key, value in row.items():
                self._writer.add_scalar(f"train/{key}", value, step)
            self._writer.flush()
        return row

    def close(self) -> None:
        """Close TensorBoard's file and end the thread that writes it."""
        if self._active:
            self._writer.close()


def _check_finite(fabric: Fabric, step: int, metrics: dict[str, Tensor]) -> None:
    """End a run that has diverged, in all processes."""
    watched = {"the loss": metrics["loss"], "the norm of the gradient": metrics["grad_norm"]}
    broken = [f"{name} is {value.item()}" for name, value in watched.items() if not value.isfinite()]
    if _any_rank(fabric, bool(broken)):
        what = broken[0] if broken else "the loss of another process is not finite"
        raise InputError(f"{what} at step {step}; {LOWER_RATE}")


def _seed(seed: int, step: int, rank: int) -> None:
    """Seed torch's generators for one step of one process."""
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + rank)
