"""The base classes of objectives whose targets come from a momentum copy of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.networks.heads import ActionTransition, GameLinear
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.networks.optimization import linear_momentum, momentum_copy, update_momentum
from pretrainrl.objectives.objective import Objective


class MomentumObjective(Objective):
    """Base class with latents N_g B(o) of an online network and targets N'_g B'(o) of its momentum copy.

    After every optimizer step the copy moves towards the online network; its momentum rises linearly from 0.99 to 0.999
    over training. Targets carry no gradient.

    Attributes:
        neck: Neck N_g, a `SpatialMLP`.
        target_backbone: Momentum copy B' of the backbone.
        target_neck: Momentum copy N'_g of the neck.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        neck_widths: Widths of the neck's linear layers; the last is the latents' width D.
        augmentation: Whether inputs are shifted and varied in intensity.
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
    """Base class of objectives that find each sample's target among all targets by InfoNCE, from H_g of online latents.

    Attributes:
        head: Head H_g, an affine map for each game.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        neck_widths: Widths of the neck's linear layers; the last is the width of queries and keys.
        temperature: Positive number that divides the logits.
        normalize: Whether latents are compared by cosine instead of by dot product.
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: When `temperature` is not positive, and as for `Objective`.
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


class Rollout(NamedTuple):
    """Latents of K steps into the future, predicted and actual.

    Attributes:
        features: Feature map of o_t, (B, C, H, W).
        latents: Online latent of o_t, followed by the K latents predicted from it, (B, K + 1, D).
        targets: Target latents of o_t+1..o_t+K, (B, K, D), without gradient.
        ended: Whether each target is past the episode's end, (B, K) bool.
    """

    features: Tensor
    latents: Tensor
    targets: Tensor
    ended: Tensor


class PredictiveObjective(MomentumObjective):
    """Base class of objectives that roll a latent forward through the actions of a window.

    Attributes:
        transition: Network from latents and actions to the next latents.
        head: Head H_g, an affine map for each game, from predicted latents to predicted targets.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        num_actions: Number of actions of each game; Atari has 18.
        neck_widths: Widths of the neck's linear layers; the last is the latents' width D.
        augmentation: Whether inputs are shifted and varied in intensity.
    """

    window = WindowSpec(future=4, steps=4, cut=True)

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, neck_widths=neck_widths, augmentation=augmentation)
        width = self.neck.out_features
        self.transition = ActionTransition(width, num_actions, num_games)
        self.head = GameLinear(width, width, num_games)

    def rollout(self, batch: Batch) -> Rollout:
        """Predict the latents of all steps of the window, whose observations are all augmented alike."""
        games, steps = batch.games, batch.actions.shape[1]
        seen = replace(batch, frames=self.view(batch.frames))
        features = self.backbone(seen.observation(0))
        latent = self.neck(features, games).float()
        rolled = self.transition(latent, batch.actions, games)
        future = torch.cat([seen.observation(step) for step in range(1, steps + 1)])
        targets = torch.stack(self.targets(future, games.repeat(steps)).chunk(steps), dim=1)
        ended = (batch.terminations.cumsum(1) > 0) | ~batch.valid[:, batch.stack :]
        return Rollout(features, torch.cat([latent.unsqueeze(1), rolled], dim=1), targets, ended)
