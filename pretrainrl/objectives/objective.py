"""The base class of pre-training objectives, and how to make an objective by its name."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from pretrainrl.cards import OBJECTIVES
from pretrainrl.data.augment import augment
from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.encoders import Encoder, make_backbone
from pretrainrl.encoders.frozen import thaw
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.registry import import_target


class Objective(nn.Module, ABC):
    """Base class of pre-training objectives: losses on windows of experience that train a backbone.

    An objective knows nothing of training loops, devices, loggers or files. Its random numbers come from PyTorch's default
    generators.

    Attributes:
        window: Part of an episode that one sample needs.
        backbone: Network that is pre-trained.

    Args:
        backbone: Network that maps (B, 4, 84, 84) floats in [0, 1] to (B, C, H, W), and has `feature_map_shape` (C, H, W).
        num_games: Number of games in the data, at least 1; every game has its own weights in necks and heads.
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: When `num_games` is not positive, or the backbone has no `feature_map_shape`.
    """

    window: ClassVar[WindowSpec]

    def __init__(self, backbone: nn.Module, num_games: int, *, augmentation: bool = True) -> None:
        super().__init__()
        if num_games < 1:
            raise InputError(f"an objective needs at least one game, got num_games={num_games}")
        shape = getattr(backbone, "feature_map_shape", None)
        if not isinstance(shape, tuple):
            raise InputError(f"a backbone needs a feature_map_shape (C, H, W); {type(backbone).__name__} has none")
        self.feature_map_shape: tuple[int, int, int] = shape
        self.backbone = backbone
        self.augmentation = augmentation

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a 0-d tensor with a gradient, and metrics by name, 0-d tensors without one."""

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return `loss(batch)`; wrappers such as DistributedDataParallel hook into this call."""
        return self.loss(batch)

    def after_step(self, progress: float) -> None:
        """Update what changes after an optimizer step, such as a momentum copy; `progress` of training is in [0, 1]."""

    def reconstruct(self, batch: Batch) -> Tensor | None:
        """Return pictures of reconstructions, or None from an objective that does not reconstruct.

        Masked objectives return (B, 3, 84, 84) floats in [0, 1]: the newest input frame, its visible part, and its
        reconstruction.
        """
        return None

    def view(self, frames: Tensor) -> Tensor:
        """Turn (B, 4, 84, 84) uint8 frames into the backbone's float input, augmented anew at each call."""
        return augment(frames) if self.augmentation else frames.float().div_(255)


def feature_std(feature_map: Tensor) -> Tensor:
    """Return how much features vary over the batch; near 0 the backbone has collapsed.

    Args:
        feature_map: Feature maps, (B, C, H, W) float.

    Returns:
        Standard deviation over the batch of each channel's spatial mean, averaged over channels; 0-d float32, detached.
    """
    return feature_map.detach().float().mean((2, 3)).std(dim=0).mean()


def make_objective(
    name: str, *, encoder: nn.Module | Encoder | str, num_games: int, preset: str | None = None, **overrides: Any
) -> Objective:
    """Make a pre-training objective.

    Args:
        name: Name from `pretrainrl.list_objectives()`.
        encoder: Network to train: a backbone module, which is trained in place; the name of a backbone, which starts
            untrained; or an encoder, whose backbone is copied, so that the encoder itself does not change.
        num_games: Number of games in the data, at least 1.
        preset: Preset of the objective's card, for the sizes of necks, heads and transformers; by default the sizes are
            those of the objective's class, which are the paper's.
        overrides: Keyword arguments of the objective's class; they take precedence over the preset's.

    Raises:
        UnknownNameError: For an objective, backbone, preset or option that does not exist.
        InputError: For arguments that the objective refuses.
    """
    card = OBJECTIVES.get(name)
    if preset is not None and preset not in card.presets:
        raise UnknownNameError.of(f"preset of {name}", preset, card.presets)
    options = {**(card.presets[preset].model if preset else {}), **overrides}
    target: type[Objective] = import_target(card.target, Objective)
    known = [key for key, value in inspect.signature(target).parameters.items() if value.kind is value.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise UnknownNameError.of(f"option of {name}", option, known)
    backbone = _backbone(encoder)
    try:
        return target(backbone, num_games, **options)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"objective {name!r} refuses its options {options}: {reason}") from error


def _backbone(encoder: nn.Module | Encoder | str) -> nn.Module:
    """Return the module to train."""
    if isinstance(encoder, str):
        return make_backbone(encoder)
    if isinstance(encoder, Encoder):
        backbone = copy.deepcopy(encoder.backbone).float().train()
        thaw(backbone)
        return backbone
    return encoder
