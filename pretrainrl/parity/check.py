"""Comparison of an objective with the reference implementation on one batch."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.networks.masked_autoencoder import TokenMask, mask_from_scores
from pretrainrl.objectives import Objective
from pretrainrl.objectives.masked import MaskedObjective
from pretrainrl.parity.checkpoint import load_checkpoint_objective

TOLERANCE = 1e-4  # relative error of features and loss
GRADIENT_TOLERANCE = 1e-3  # relative error of the gradient's norm


@dataclass(frozen=True)
class Parity:
    """Computed and expected values, and their relative errors.

    Attributes:
        objective: Name of the objective.
        loss: Loss of the batch.
        expected_loss: Loss that the reference computed.
        loss_rel_err: Relative error of the loss, |loss - expected| / |expected|.
        features_rel_err: L2 norm of the difference of the feature maps over the norm of the expected ones.
        grad_norm: L2 norm of the loss's gradient over all parameters of the backbone.
        expected_grad_norm: Norm that the reference computed.
        grad_norm_rel_err: Relative error of the norm.
        ok: Whether loss and features agree to 1e-4 and the gradient's norm to 1e-3.
    """

    objective: str
    loss: float
    expected_loss: float
    loss_rel_err: float
    features_rel_err: float
    grad_norm: float
    expected_grad_norm: float
    grad_norm_rel_err: float
    ok: bool


def check_parity(checkpoint: Path, batch: Path, objective: str | None = None) -> Parity:
    """Compute loss, features and gradient of a checkpoint on a recorded batch, on the CPU in float32.

    Args:
        checkpoint: Path of a .pth file in Atari-PB's layout.
        batch: Path of an .npz file with arrays `batch/...` and `expected/...`.
        objective: Name of the objective; by default it is recognized from the checkpoint.

    Raises:
        WeightsError: When the checkpoint cannot be read or does not fit the objective.
        InputError: When the batch cannot be read or does not fit the objective.
    """
    fixture = Fixture.read(batch)
    name, module = load_checkpoint_objective(checkpoint, objective)
    try:
        loss, features, gradient = _compute(module, fixture)
    except (RuntimeError, IndexError) as error:
        raise InputError(f"{batch} does not fit {name} of {checkpoint}: {error}") from error
    expected = {key: fixture.arrays[f"expected/{key}"].double() for key in ("loss", "features", "backbone_grad_norm")}
    loss_error = _relative(loss, expected["loss"])
    features_error = _relative(features, expected["features"][:, 0])
    gradient_error = _relative(gradient, expected["backbone_grad_norm"])
    return Parity(
        objective=name,
        loss=float(loss),
        expected_loss=float(expected["loss"]),
        loss_rel_err=loss_error,
        features_rel_err=features_error,
        grad_norm=float(gradient),
        expected_grad_norm=float(expected["backbone_grad_norm"]),
        grad_norm_rel_err=gradient_error,
        ok=loss_error <= TOLERANCE and features_error <= TOLERANCE and gradient_error <= GRADIENT_TOLERANCE,
    )


def _compute(objective: Objective, fixture: Fixture) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss, the map of the first observation (B, C, H, W), and the norm of the backbone's gradient."""
    batch = fixture.batch(objective.window)
    if isinstance(objective, MaskedObjective):
        loss, _ = objective.loss(batch, mask=fixture.mask(objective.mask_ratio))
    else:
        loss, _ = objective.loss(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad.norm() for parameter in objective.backbone.parameters() if parameter.grad is not None]
    with torch.no_grad():
        features: Tensor = objective.backbone(objective.view(batch.observation()))
    return loss.detach(), features, torch.stack(gradients).norm()


def _relative(value: Tensor, expected: Tensor) -> float:
    return float((value.double() - expected).norm() / expected.norm())


_BATCH = ("obs", "next_obs", "act", "rew", "done", "rtg", "game_id")
_EXPECTED = ("loss", "backbone_grad_norm", "features")


@dataclass(eq=False)
class RecordedBatch(Batch):
    """A batch that has its later observations as whole stacks, not as frames that follow the first stack.

    Attributes:
        later: Observations after t that the objective reads, in order, `(B, K, 4, 84, 84)` uint8.
        future: Time of the last of them, in steps after t.
    """

    later: Tensor | None = None
    future: int = 0

    def observation(self, offset: int | Tensor = 0) -> Tensor:
        """Return the frame stack at t + `offset`; for a tensor of offsets, the one later observation that was recorded."""
        if self.later is None or (isinstance(offset, int) and offset == 0):
            return super().observation(offset)
        if isinstance(offset, Tensor):
            return self.later[:, 0]
        return self.later[:, self.later.shape[1] * offset // self.future - 1]


@dataclass(frozen=True, eq=False)
class Fixture:
    """A recorded batch and the values that the reference computed from it.

    Attributes:
        arrays: Arrays of the file by name: `batch/...`, `expected/...`, `mask/recover_idx`.
    """

    arrays: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Fixture:
        """Read an .npz file.

        Raises:
            InputError: When the file is no such batch; the message lists every array that is missing or misshapen.
        """
        try:
            with np.load(path) as file:
                arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not a readable batch: {error}") from error
        wanted = [*(f"batch/{name}" for name in _BATCH), *(f"expected/{name}" for name in _EXPECTED)]
        wrong = [f"{name} is missing" for name in wanted if name not in arrays]
        for name in ("batch/obs", "batch/next_obs"):
            if name in arrays and (arrays[name].ndim != 6 or arrays[name].dtype != torch.uint8):
                shape = tuple(arrays[name].shape)
                wrong.append(f"{name} is {arrays[name].dtype} {shape} instead of uint8 (n, t, 4, c, 84, 84)")
        if wrong:
            raise InputError(f"{path} is not a parity batch: {', '.join(wrong)}")
        return cls(arrays)

    def batch(self, window: WindowSpec) -> RecordedBatch:
        """Return the batch in the form that an objective with this window reads.

        Raises:
            InputError: When consecutive steps do not share frames.
        """
        observations = self.arrays["batch/obs"][:, :, :, 0]  # (n, t, 4, 84, 84)
        if not torch.equal(observations[:, 1:, :-1], observations[:, :-1, 1:]):
            raise InputError("the observations of consecutive steps do not overlap")
        frames = torch.cat([observations[:, 0], observations[:, 1:, -1]], dim=1)
        steps = max(window.steps, 1)
        one_step = observations.shape[1] == 1
        return RecordedBatch(
            frames=frames,
            actions=self.arrays["batch/act"][:, :steps].long(),
            rewards=self.arrays["batch/rew"][:, :steps].float(),
            terminations=self.arrays["batch/done"][:, :steps].bool(),
            games=self.arrays["batch/game_id"][:, 0].long(),
            returns=self.arrays["batch/rtg"][:, :steps].float(),
            valid=torch.ones(frames.shape[:2], dtype=torch.bool),
            later=self.arrays["batch/next_obs"][:, 0].transpose(1, 2) if one_step else None,
            future=window.future,
        )

    def mask(self, mask_ratio: float) -> TokenMask:
        """Return the recorded mask of a masked objective that hides the share `mask_ratio` of the tokens.

        Raises:
            InputError: When no mask was recorded.
        """
        if "mask/recover_idx" not in self.arrays:
            raise InputError("a masked objective needs the batch's mask/recover_idx")
        places = self.arrays["mask/recover_idx"]
        return mask_from_scores(places, keep=int(places.shape[1] * (1 - mask_ratio)))
