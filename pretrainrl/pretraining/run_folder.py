"""A run's folder on disk: configuration, metrics, checkpoints, figures, and the encoder that comes out."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from pretrainrl.cards import EncoderCard
from pretrainrl.errors import InputError, WeightsError
from pretrainrl.paths import atomic_path, save_with_torch
from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.pretraining.trained import FILE, check_objective
from pretrainrl.runs.checkpoints import Checkpoints
from pretrainrl.runs.folder import RunFolder, require_same
from pretrainrl.weights import file_sha256, save_tensors

ENCODER = "encoder.safetensors"
OTHER_FOLDER = "choose another folder with --out"
_STATE = "state.pt"


class PretrainFolder(RunFolder[PretrainConfig]):
    """The files of one pre-training run; every file is written under a temporary name and renamed.

    The folder holds `config.toml, metrics.csv, tensorboard/, checkpoints/, figures/` and, at the end, `encoder.safetensors,
    objective.safetensors, card.toml`.

    Args:
        path: Folder of the run.
        config: Configuration of the run.
        resume: Whether the run may have begun.

    Raises:
        InputError: The folder is not empty and `resume` is not set, or it holds another run or something else.
    """

    def __init__(self, path: Path, config: PretrainConfig, *, resume: bool) -> None:
        super().__init__(path, PretrainConfig, resume=resume)
        self.check(config)
        # The newest, and the one before it in case the disk damages the newest.
        self._checkpoints = Checkpoints(path / "checkpoints", keep=2, files=[self.metrics])

    @property
    def metrics(self) -> Path:
        """Path of the file of metrics."""
        return self.path / "metrics.csv"

    def is_finished(self) -> bool:
        """Whether the encoder has been written."""
        return (self.path / EncoderCard.FILE).exists()

    def check_result(self, data: str) -> None:
        """Check that the weights of a finished run are as they were written, and of these data.

        Args:
            data: Fingerprint of the data as they are now.

        Raises:
            InputError: The data have changed since.
            WeightsError: A file of weights is damaged.
        """
        card, file = EncoderCard.read(self.path / EncoderCard.FILE), self.path / ENCODER
        if card.training is not None and card.training.fingerprint is not None:
            require_same(
                {"fingerprint": data}, {"fingerprint": card.training.fingerprint}, "the data of the run", OTHER_FOLDER
            )
        if not file.is_file() or file_sha256(file) != card.weights.sha256:
            raise WeightsError(
                f"{file} is not what the run has written; delete {self.path / EncoderCard.FILE} and go on with --resume to "
                "write both again"
            )
        check_objective(self.path / FILE)

    def save_checkpoint(self, step: int, state: dict[str, Any]) -> None:
        """Write the state that stands before `step`, and drop all checkpoints but the newest two.

        Raises:
            InputError: The checkpoint cannot be written; those before are unchanged.
        """
        self._checkpoints.save(step, partial(_write_state, {"step": step, **state}))

    def load_checkpoint(self, *, restore_files: bool = False) -> dict[str, Any] | None:
        """Return the state in the newest checkpoint, or None where there is none.

        Args:
            restore_files: Whether `metrics.csv` becomes again what it was at the checkpoint.

        Raises:
            InputError: The checkpoint is damaged.
        """
        folder = self._checkpoints.latest()
        if restore_files:
            self._checkpoints.restore(folder)
        if folder is None:
            return None
        state: dict[str, Any] = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        return state

    def save_weights(self, backbone: nn.Module) -> Path:
        """Write the backbone's weights as float16 safetensors and return the file.

        Raises:
            InputError: A weight is not finite, or overflows float16.
        """
        tensors: dict[str, Tensor] = {k: v.detach().half().cpu().contiguous() for k, v in backbone.state_dict().items()}
        broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        if broken:
            raise InputError(f"weights are not finite in float16: {', '.join(broken)}; the run has diverged")
        target = self.path / ENCODER
        with atomic_path(target) as temporary:
            save_tensors(tensors, temporary)
        return target

    def save_figure(self, images: Tensor, name: str) -> None:
        """Write a picture with one row of three images for each of n windows.

        Args:
            images: Float images (n, 3, H, W) in [0, 1].
            name: Name of the file `figures/<name>.png`.
        """
        from torchvision.utils import save_image

        tiles = images.detach().float().cpu().flatten(0, 1).unsqueeze(1)
        with atomic_path(self.path / "figures" / f"{name}.png") as temporary:
            save_image(tiles, temporary, nrow=6, padding=2, pad_value=1.0, format="png")


def _write_state(state: dict[str, Any], folder: Path) -> None:
    save_with_torch(state, folder / _STATE)


def final_metrics(path: Path) -> dict[str, float]:
    """Average each column of a `metrics.csv` over the last tenth of its rows, without the columns of the optimizer.

    One batch says little: 128 guesses are off by several percent.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-max(1, len(rows) // 10) :]
    columns = [name for name in rows[0] if name not in ("step", "lr", "grad_norm")]
    return {name: float(f"{fmean(float(row[name]) for row in last):.4g}") for name in columns}


class MetricsFile:
    """`metrics.csv` with one row for each logged step.

    Args:
        path: Path of the file, whose columns stay if it is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fields: list[str] = []
        if path.exists():
            with path.open(newline="") as file:
                self._fields = next(csv.reader(file), [])

    def write(self, row: dict[str, float]) -> None:
        """Append one row; the first row sets the columns."""
        with self._path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._fields or list(row))
            if not self._fields:
                self._fields = list(row)
                writer.writeheader()
            writer.writerow(row)
