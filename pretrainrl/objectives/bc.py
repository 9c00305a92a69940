"""BC: the network predicts the action that the agent took."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.losses import masked_cross_entropy
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.objectives.objective import Objective, feature_std


class BC(Objective):
    """Behavior cloning (Pomerleau, 1991, https://doi.org/10.1162/neco.1991.3.1.88; here as in Atari-PB).

        loss = cross-entropy(H_g N_g B(A o_t), a_t), mean over the batch

    with observation (B, 4, 84, 84), augmentation A, backbone B, neck N_g and linear head H_g of the sample's game g, and
    action a_t in [0, num_actions). All outputs take part, also those of actions that the game does not have: they never
    occur as labels, so they are soon improbable.

    Differs from the original: one network serves many games and learns from any agents instead of experts. Nothing differs
    from Atari-PB's code (https://arxiv.org/abs/2406.06037).

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        num_actions: Number of the head's actions; Atari has 18.
        neck_widths: Widths of the neck's linear layers.
        augmentation: Whether inputs are shifted and varied in intensity.
    """

    window = WindowSpec(steps=1)

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
        self.head = GameLinear(self.neck.out_features, num_actions, num_games)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict a_t from o_t; metrics: `accuracy`, `feature_std`."""
        features = self.backbone(self.view(batch.observation()))
        logits = self.head(self.neck(features, batch.games), batch.games)
        loss, accuracy = masked_cross_entropy(logits, batch.actions[:, 0])
        return loss, {"accuracy": accuracy, "feature_std": feature_std(features)}

    def action_scores(self, observations: Tensor, games: Tensor) -> Tensor:
        """Map observations (B, 4, 84, 84) uint8 of games (B,) to the logits of all actions (B, num_actions)."""
        logits: Tensor = self.head(self.neck(self.backbone(observations.float().div_(255)), games), games)
        return logits
