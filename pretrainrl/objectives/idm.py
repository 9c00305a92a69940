"""IDM: the network predicts the action that led from one observation to the next."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.losses import masked_cross_entropy
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.objectives.objective import Objective, feature_std


class IDM(Objective):
    """Inverse dynamics model (Pathak et al., 2017, https://arxiv.org/abs/1705.05363; here as in Atari-PB).

        loss = cross-entropy(H_g [N_g B(A1 o_t); N_g B(A2 o_t+1)], a_t), mean over transitions that are not terminal

    with observations (B, 4, 84, 84), two augmentations A1 and A2, backbone B, neck N_g and linear head H_g of the
    sample's game g. A transition that ends its episode is ignored: what follows it is not what the action led to.

    Differs from the original: a linear head per game on the two latents instead of an MLP, no forward model beside it,
    and pre-training on logged data instead of a curiosity bonus. Nothing differs from Atari-PB's code
    (https://arxiv.org/abs/2406.06037).

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        num_actions: Number of the head's actions; Atari has 18.
        neck_widths: Widths of the neck's linear layers.
        augmentation: Whether inputs are shifted and varied in intensity.
    """

    window = WindowSpec(future=1, steps=1)

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, augmentation=augmentation)
        self.neck = SpatialMLP(self.feature_map_shape, num_games, neck_widths)
        self.head = GameLinear(2 * self.neck.out_features, num_actions, num_games)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict a_t from o_t and o_t+1; metrics: `accuracy`, `feature_std`."""
        frames = torch.cat([batch.observation(0), batch.observation(1)])
        features = self.backbone(self.view(frames))
        latents = self.neck(features, batch.games.repeat(2))
        logits = self.head(torch.cat(latents.chunk(2), dim=1), batch.games)
        loss, accuracy = masked_cross_entropy(logits, batch.actions[:, 0], ignore=batch.terminations[:, 0])
        return loss, {"accuracy": accuracy, "feature_std": feature_std(features)}
