"""What the objectives that predict coming latents share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.heads import ActionTransition, GameLinear
from pretrainrl.objectives.momentum import MomentumObjective


class Rollout(NamedTuple):
    """K steps into the future, as predicted and as they came.

    Attributes:
        features: (B, C, H, W), the backbone's map of o_t.
        latents: (B, K + 1, D), the online latent of o_t and what the transition makes of it.
        targets: (B, K, D), of o_t+1..o_t+K, without gradient.
        ended: (B, K) bool, True where the target is past the episode's end.
    """

    features: Tensor
    latents: Tensor
    targets: Tensor
    ended: Tensor


class PredictiveObjective(MomentumObjective):
    """Momentum objective that rolls a latent forward through the actions of a window.

    Attributes:
        transition: From latents and actions to the next latents.
        head: H_g, an affine map for each game, from predicted latents to predicted targets.

    Args:
        backbone: See `Objective`.
        num_games: See `Objective`.
        num_actions: Actions of each game; Atari has 18.
        neck_widths: Of the neck's linear layers; the last is the latents' width D.
        augmentation: See `Objective`.
    """

    window = WindowSpec(future=4, steps=4)

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
        """Predict as many steps as the window has; all its observations are augmented alike."""
        games, steps = batch.games, batch.actions.shape[1]
        seen = replace(batch, frames=self.view(batch.frames))
        features = self.backbone(seen.observation(0))
        latent = self.neck(features, games).float()
        rolled = self.transition(latent, batch.actions, games)
        future = torch.cat([seen.observation(step) for step in range(1, steps + 1)])
        targets = torch.stack(self.targets(future, games.repeat(steps)).chunk(steps), dim=1)
        ended = batch.terminations.cumsum(1) > 0
        return Rollout(features, torch.cat([latent.unsqueeze(1), rolled], dim=1), targets, ended)
