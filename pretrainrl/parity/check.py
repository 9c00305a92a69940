"""An objective beside the reference implementation on one batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pretrainrl.errors import InputError
from pretrainrl.objectives.masked import MaskedObjective
from pretrainrl.objectives.objective import Objective
from pretrainrl.parity.checkpoint import load_objective
from pretrainrl.parity.fixture import Fixture

TOLERANCE = 1e-4  # of features and loss, relative
GRADIENT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """What was computed, what was expected, and how far apart they are, relatively.

    Attributes:
        objective: name.
        loss: of the batch.
        expected_loss: of the reference.
        loss_rel_err: |loss - expected| / |expected|.
        features_rel_err: L2 norm of the difference of the backbone's maps over that of the expected ones.
        grad_norm: L2 norm of the loss's gradient over all parameters of the backbone.
        expected_grad_norm: of the reference.
        grad_norm_rel_err: as for the loss.
        ok: loss and features agree to 1e-4, the gradient's norm to 1e-3.
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
        checkpoint: .pth file in the layout of the Atari-PB study.
        batch: .npz file with `batch/...` and `expected/...`.
        objective: name; by default told from the checkpoint.

    Raises:
        WeightsError: when the checkpoint will not do.
        InputError: when the batch will not do.
    """
    fixture = Fixture.read(batch)
    name, module = load_objective(checkpoint, objective)
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
    """Loss, the map of the first observation (B, C, H, W), and the norm of the backbone's gradient."""
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
