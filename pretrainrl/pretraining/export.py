"""From trained weights to an encoder card."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import torch

from pretrainrl.cards import OBJECTIVES, EncoderCard, Golden, Initial, ObservationSpec, Training, Weights, default_features
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.encoders import make_backbone
from pretrainrl.encoders.check import golden_values
from pretrainrl.encoders.encoder import Encoder
from pretrainrl.encoders.factory import load_tensors
from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.pretraining.run_folder import final_metrics
from pretrainrl.pretraining.trained import FILE
from pretrainrl.weights import file_sha256, read_tensors


def export_card(
    config: PretrainConfig,
    weights: Path,
    cache: FrameCache,
    steps: int,
    minutes: float,
    device: torch.device,
    commit: str,
    initial: Initial | None = None,
) -> EncoderCard:
    """Describe the encoder that a finished run has written.

    Args:
        config: Configuration of the run.
        weights: File of the weights, beside the run's `metrics.csv` and whole objective.
        cache: Frames that the run has learned from.
        steps: Number of optimizer steps.
        minutes: Minutes that the run has taken.
        device: Device of the run.
        commit: Commit of the code.
        initial: Record of what training began from; None for a new network.

    Returns:
        The card, with golden values of the encoder.
    """
    sha256 = file_sha256(weights)
    backbone = make_backbone(config.backbone, **dict[str, Any](config.backbone_options))
    objective = OBJECTIVES.get(config.objective)
    shape: Any = tuple(backbone.feature_map_shape)  # type: ignore[arg-type]  # nn.Module attributes are untyped
    card = EncoderCard(
        name=config.name,
        summary=(
            f"{config.objective}{f' from {initial.name}' if initial else ''} for {minutes:.0f} minutes on "
            f"{cache.num_transitions:,} transitions of {', '.join(cache.games)}; compare it with `random` on your own game"
        ),
        objective=config.objective,
        backbone=config.backbone,
        backbone_options=config.backbone_options,
        features=default_features(shape),
        feature_map_shape=shape,
        license="MIT",
        observation=ObservationSpec(),
        weights=Weights(sources=(weights.name,), sha256=sha256, bytes=weights.stat().st_size),
        training=Training(
            datasets=config.datasets,
            transitions=cache.num_transitions,
            fingerprint=cache.fingerprint,
            steps=steps,
            batch_size=config.training.batch_size,
            preset=config.preset,
            seed=config.seed,
            commit=commit,
            command=_command(config, steps),
            minutes=float(f"{minutes:.3g}"),
            objective_sha256=file_sha256(weights.with_name(FILE)),
            initial=initial,
            hardware=torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores",
        ),
        paper=objective.paper,
        metrics=final_metrics(weights.with_name("metrics.csv")),
    )
    load_tensors(backbone, read_tensors(weights), str(weights))
    golden = Golden(features=tuple(golden_values(Encoder(backbone, card, sha256))))
    return card.model_copy(update={"golden": golden})


def _command(config: PretrainConfig, steps: int) -> str:
    """Return the command line that makes these weights again."""
    words = ["pretrainrl", "pretrain", config.objective]
    for dataset in config.datasets:
        words += ["--dataset", dataset]
    words += ["--preset", config.preset, "--backbone", config.backbone, "--steps", str(steps)]
    words += ["--batch-size", str(config.training.batch_size), "--lr", str(config.training.lr)]
    words += ["--seed", str(config.seed), "--precision", config.precision, "--name", config.name]
    words += ["--from", config.initial.name] if config.initial else []
    return shlex.join(words)


def code_commit() -> str:
    """Return the commit of the code where it runs from a clone, else `unknown`."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
