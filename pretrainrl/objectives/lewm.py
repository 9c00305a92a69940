"""LeWM: the network predicts the next embedding, and embeddings are kept Gaussian instead of being copied."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.networks.losses import gather, gaussianity, kept_mean
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.objectives.objective import Objective, feature_std


class LeWM(Objective):
    """LeWorldModel (Maes et al., 2026, https://arxiv.org/abs/2603.19312), one step ahead.

        z_t = BN N_g B(A o_t),    loss = mean |P(z_t, a_t) - z_t+1|^2 + weight * SIGReg(z_t, z_t+1)

    with observations (B, 4, 84, 84), one augmentation A for both of a window, backbone B, neck N_g of the sample's game g,
    a batch normalization BN, and a predictor P, a network of two layers that reads an embedding and an embedded action. SIGReg
    (Balestriero & LeCun, 2025, https://arxiv.org/abs/2511.08544) measures on random directions how far the embeddings are
    from a standard normal distribution. Both observations get gradients: nothing is copied or stopped. Transitions that end
    their episode are not predicted.

    Differs from the original: convolutions and two layers instead of transformers, frame stacks instead of a history of
    embeddings, one prediction a window instead of several, and no dropout.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        num_actions: Number of actions of each game; Atari has 18.
        neck_widths: Widths of the neck's linear layers; the last is the embeddings' width.
        weight: Positive weight of SIGReg, the only one.
        directions: Number of random directions of SIGReg, drawn anew for each batch.
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: When `weight` or `directions` is not positive, and as for `Objective`.
    """

    window = WindowSpec(future=1, steps=1)

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        weight: float = 0.1,
        directions: int = 1024,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, augmentation=augmentation)
        if weight <= 0 or directions < 1:
            raise InputError(f"weight and directions must be positive, got {weight} and {directions}")
        self.weight, self.directions, self.num_actions = weight, directions, num_actions
        self.neck = SpatialMLP(self.feature_map_shape, num_games, neck_widths)
        width = self.neck.out_features
        self.actions = nn.Embedding(num_games * num_actions, width)
        self.predictor = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict the embedding of o_t+1 from that of o_t and a_t; metrics: `prediction`, `sigreg`, `feature_std`."""
        frames = torch.cat([batch.observation(0), batch.observation(1)], dim=1)
        features = self.backbone(torch.cat(self.view(frames).chunk(2, dim=1)))
        parts = self.neck(features, batch.games.repeat(2)).float().chunk(2)
        latents = torch.cat([gather(part) for part in parts])  # every process normalizes by the whole batch
        now, following = F.batch_norm(latents, None, None, training=True).chunk(2)
        games, actions, over = (gather(part) for part in (batch.games, batch.actions[:, 0], batch.terminations[:, 0]))
        action = self.actions(actions + self.num_actions * games)
        predicted = self.predictor(torch.cat([now, action], dim=1)).float()
        errors = F.mse_loss(predicted, following, reduction="none").mean(1)
        prediction = kept_mean(errors, (~over).float())
        sigreg = gaussianity(torch.cat([now, following]), self.directions)
        metrics = {"prediction": prediction.detach(), "sigreg": sigreg.detach(), "feature_std": feature_std(features)}
        return prediction + self.weight * sigreg, metrics
