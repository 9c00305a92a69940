"""A run's folder on disk: configuration, metrics, checkpoints, figures, and the encoder that comes out."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from pretrainrl.cards import EncoderCard
from pretrainrl.errors import CardError, InputError
from pretrainrl.paths import atomic_path, save_with_torch, writable_folder
from pretrainrl.pretraining.config import Config

CONFIG = "config.toml"
KEEP = 2  # the newest checkpoint, and the one before it in case the disk damages the newest


class RunFolder:
    """Files of one run; every file is written under a temporary name and renamed.

    Layout: `config.toml, metrics.csv, tensorboard/, checkpoints/, figures/`, and at the end `encoder.safetensors,
    objective.safetensors, card.toml`.

    Args:
        path: the folder.
        config: of the run.
        resume: continue what is there.

    Raises:
        InputError: when the folder is not empty and `resume` is not set, or holds another run.
    """

    def __init__(self, path: Path, config: Config, *, resume: bool) -> None:
        self.path = path
        self._config = config
        file = path / CONFIG
        occupied = path.exists() and any(path.iterdir())
        if occupied and not resume:
            raise InputError(f"{path} is not empty; continue that run with resume, or choose another folder")
        if occupied:
            try:
                config.require_same(Config.read(file))
            except CardError as error:
                raise InputError(f"{path} holds no run to resume: {error}") from error

    def create(self) -> None:
        """Make the folder and write the configuration, once everything that a run needs is there.

        Raises:
            InputError: when the folder cannot be written to.
        """
        writable_folder(self.path)
        self._config.write(self.path / CONFIG)

    @property
    def finished(self) -> bool:
        """Whether the encoder has been written."""
        return (self.path / EncoderCard.FILE).exists()

    def save_checkpoint(self, step: int, state: dict[str, Any]) -> None:
        """Write the checkpoint that stands before `step`, and drop all but the newest two."""
        with atomic_path(self.path / "checkpoints" / f"step_{step:08d}.pt") as temporary:
            save_with_torch({"step": step, **state}, temporary)
        for old in self._checkpoints()[:-KEEP]:
            old.unlink()

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Return the newest checkpoint, or None where there is none.

        Raises:
            InputError: when it is damaged.
        """
        checkpoints = self._checkpoints()
        if not checkpoints:
            return None
        try:
            state: dict[str, Any] = torch.load(checkpoints[-1], map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(f"{checkpoints[-1]} is damaged ({error}); delete it to resume from the one before") from error
        return state

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step_*.pt"))

    def save_weights(self, backbone: nn.Module) -> Path:
        """Write the backbone's weights as float16 safetensors and return the file.

        Raises:
            InputError: when a weight is not finite, or overflows float16.
        """
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {k: v.detach().half().cpu().contiguous() for k, v in backbone.state_dict().items()}
        broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise InputError(f"weights are not finite in float16: {', '.join(broken)}; the run has diverged")
        target = self.path / "encoder.safetensors"
        with atomic_path(target) as temporary:
            save_file(tensors, temporary)
        return target

    def save_figure(self, images: Tensor, name: str) -> None:
        """Write (n, 3, H, W) images in [0, 1] as `figures/<name>.png`: one row of three for each of the n."""
        from torchvision.utils import save_image

        tiles = images.detach().float().cpu().flatten(0, 1).unsqueeze(1)
        with atomic_path(self.path / "figures" / f"{name}.png") as temporary:
            save_image(tiles, temporary, nrow=6, padding=2, pad_value=1.0, format="png")


def final_metrics(path: Path) -> dict[str, float]:
    """Average each column of a `metrics.csv`, but for the step and the optimiser's own, over the last tenth of its rows.

    One batch says little: 128 guesses are off by several per cent.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-max(1, len(rows) // 10) :]
    columns = [name for name in rows[0] if name not in ("step", "lr", "grad_norm")]
    return {name: float(f"{fmean(float(row[name]) for row in last):.4g}") for name in columns}


class MetricsFile:
    """`metrics.csv`: one row a logged step. A resumed run first drops the rows from after its checkpoint.

    Args:
        path: of the file.
        start: first step of this session.
    """

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._fields: list[str] = []
        if path.exists():
            with path.open(newline="") as file:
                reader = csv.DictReader(file)
                rows = [row for row in reader if int(row["step"]) <= start]
                self._fields = list(reader.fieldnames or [])
            with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self._fields)
                writer.writeheader()
                writer.writerows(rows)

    def write(self, row: dict[str, float]) -> None:
        """Append one row; the first row sets the columns."""
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._fields or list(row))
            if not self._fields:
                self._fields = list(row)
                writer.writeheader()
            writer.writerow(row)
