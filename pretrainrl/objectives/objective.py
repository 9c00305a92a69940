"""What every pre-training objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from pretrainrl.data.augment import augment
from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.errors import InputError


class Objective(nn.Module, ABC):
    """A loss on windows of experience that trains a backbone.

    An objective knows nothing of loops, devices, loggers or files. It draws what is random from torch's default
    generators.

    Attributes:
        window: The part of an episode that one sample needs.
        backbone: The network that pre-training is for.

    Args:
        backbone: Maps (B, 4, 84, 84) float in [0, 1] to (B, C, H, W), with that shape as `feature_map_shape`.
        num_games: Number of games in the data; every game has weights of its own in necks and heads.
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: when `num_games` is not positive, or the backbone does not say its `feature_map_shape`.
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
        """Return the loss, 0-d with a gradient, and metrics by name, 0-d and detached."""

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return `loss(batch)`; wrappers such as DistributedDataParallel hook into this call."""
        return self.loss(batch)

    def after_step(self, progress: float) -> None:
        """Do what follows an optimiser step, e.g. move a momentum copy; `progress` of training is in [0, 1]."""

    def reconstruct(self, batch: Batch) -> Tensor | None:
        """Return pictures of what the objective sees, or None if it does not reconstruct.

        Masked objectives give (B, 3, 84, 84) float in [0, 1]: the newest input frame, its visible part, and its
        reconstruction.
        """
        return None

    def view(self, frames: Tensor) -> Tensor:
        """Turn (B, 4, 84, 84) uint8 frames into the backbone's float input, augmented anew at each call."""
        return augment(frames) if self.augmentation else frames.float().div_(255)


def feature_std(feature_map: Tensor) -> Tensor:
    """Standard deviation over the batch of each channel's spatial mean, averaged; near 0 the backbone has collapsed.

    Args:
        feature_map: (B, C, H, W) float.

    Returns:
        0-d float32, detached.
    """
    return feature_map.detach().float().mean((2, 3)).std(dim=0).mean()
