"""What the objectives with momentum targets share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretrainrl.errors import InputError
from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.networks.optimization import linear_momentum, momentum_copy, update_momentum
from pretrainrl.objectives.objective import Objective


class MomentumObjective(Objective):
    """Latents N_g B(o) of an online network, and targets N'_g B'(o) of its momentum copy.

    After every optimiser step the copy moves towards the online network; its momentum rises linearly from 0.99 to 0.999
    over training. Targets carry no gradient.

    Attributes:
        neck: N_g, a `SpatialMLP`.
        target_backbone: B'.
        target_neck: N'_g.

    Args:
        backbone: See `Objective`.
        num_games: See `Objective`.
        neck_widths: Of the neck's linear layers; the last is the latents' width D.
        augmentation: See `Objective`.
    """

    def __init__(
        self, backbone: nn.Module, num_games: int, *, neck_widths: Sequence[int] = (1024, 512), augmentation: bool = True
    ) -> None:
        super().__init__(backbone, num_games, augmentation=augmentation)
        self.neck = SpatialMLP(self.feature_map_shape, num_games, neck_widths)
        self.target_backbone = momentum_copy(self.backbone)
        self.target_neck = momentum_copy(self.neck)

    @torch.no_grad()
    def targets(self, views: Tensor, games: Tensor) -> Tensor:
        """Map float views (B, 4, 84, 84) of games (B,) to targets (B, D)."""
        latents: Tensor = self.target_neck(self.target_backbone(views), games)
        return latents

    def after_step(self, progress: float) -> None:
        """Move the momentum copies."""
        momentum = linear_momentum(progress)
        update_momentum(self.target_backbone, self.backbone, momentum)
        update_momentum(self.target_neck, self.neck, momentum)


class ContrastiveObjective(MomentumObjective):
    """Momentum objective that tells targets apart, from H_g of online latents, by InfoNCE.

    Attributes:
        head: H_g, an affine map for each game.

    Args:
        backbone: See `Objective`.
        num_games: See `Objective`.
        neck_widths: Of the neck's linear layers; the last is the width of queries and keys.
        temperature: Divides the logits.
        normalize: Compare by cosine instead of dot product.
        augmentation: See `Objective`.

    Raises:
        InputError: when `temperature` is not positive, and as for `Objective`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        neck_widths: Sequence[int] = (1024, 512),
        temperature: float = 1.0,
        normalize: bool = False,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, neck_widths=neck_widths, augmentation=augmentation)
        if temperature <= 0:
            raise InputError(f"temperature must be positive, got {temperature}")
        self.head = GameLinear(self.neck.out_features, self.neck.out_features, num_games)
        self.temperature = temperature
        self.normalize = normalize
