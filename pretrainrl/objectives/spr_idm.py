"""SPR with IDM: the network predicts latents of future observations, and actions from a prediction and its outcome."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.data.windows import Batch
from pretrainrl.networks.heads import GameMLP
from pretrainrl.networks.losses import masked_cross_entropy, masked_mean
from pretrainrl.objectives.momentum import PredictiveObjective
from pretrainrl.objectives.objective import feature_std


class SPRIDM(PredictiveObjective):
    """Two of the three losses of SGI (Schwarzer et al., 2021, https://arxiv.org/abs/2106.04799; here as in Atari-PB).

        z_0 = N_g B(A o_t),   z_i = RNN(z_i-1, a_t+i-1),   k_i = N'_g B'(A o_t+i),   i = 1..4
        loss = 2 mean(-cos(H_g z_i, k_i)) + 1 mean(cross-entropy(M_g [z_i-1; k_i], a_t+i-1))

    with observations (B, 4, 84, 84), one augmentation A for all observations of a window, backbone B, neck N_g, linear head
    H_g and two-layer MLP M_g of the sample's game g, a tanh RNN driven by embedded actions, and momentum copies B', N' that
    get no gradient. Both means leave out the steps after a terminal in the window.

    Differs from the original: no goal-conditioned reinforcement learning, a recurrent model of latent vectors instead of a
    convolutional one of maps, inverse dynamics from predicted latents, weights 2 and 1. Differs from Atari-PB's code
    (https://arxiv.org/abs/2406.06037), which predicts across the ends of episodes.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        num_actions: Number of actions of each game; Atari has 18.
        neck_widths: Widths of the neck's linear layers; the last is the width of latents and of M_g's hidden layer.
        prediction_weight: Weight of the first term.
        action_weight: Weight of the second term.
        augmentation: Whether inputs are shifted and varied in intensity.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        prediction_weight: float = 2.0,
        action_weight: float = 1.0,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, num_actions=num_actions, neck_widths=neck_widths, augmentation=augmentation)
        width = self.neck.out_features
        self.inverse = GameMLP(2 * width, width, num_actions, num_games)
        self.prediction_weight = prediction_weight
        self.action_weight = action_weight

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict latents and actions; metrics: `cosine`, `action_loss`, `action_accuracy`, `feature_std`."""
        features, latents, targets, ended = self.rollout(batch)
        ignore = ended.flatten()
        similarity = F.cosine_similarity(self.head(latents[:, 1:], batch.games).float(), targets.float(), dim=-1)
        cosine = masked_mean(similarity.flatten(), ignore)
        logits = self.inverse(torch.cat([latents[:, :-1], targets], dim=-1), batch.games)
        action_loss, accuracy = masked_cross_entropy(logits.flatten(0, 1), batch.actions.flatten(), ignore)
        metrics = {"cosine": cosine.detach(), "action_loss": action_loss.detach(), "action_accuracy": accuracy}
        loss = self.action_weight * action_loss - self.prediction_weight * cosine
        return loss, {**metrics, "feature_std": feature_std(features)}
