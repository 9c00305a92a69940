"""CURL: an image is told from all others by a differently augmented copy of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.losses import info_nce
from pretrainrl.networks.momentum import linear_momentum, momentum_copy, update_momentum
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.objectives.objective import Objective, feature_std


class CURL(Objective):
    """Contrastive unsupervised representations for reinforcement learning (Laskin et al., 2020).

    https://arxiv.org/abs/2004.04136, in the form of the Atari-PB study (https://arxiv.org/abs/2406.06037):

        q = H_g N_g B(A1 o_t),   k = N'_g B'(A2 o_t),   loss = -log softmax_j(q_i . k_j / temperature)[i], mean over i

    with observation o_t (B, 4, 84, 84), two augmentations A1 and A2, backbone B, neck N_g and linear head H_g of the
    sample's game g, and momentum copies B', N' that get no gradient. Negatives are the other samples of the batch.

    Differs from the original: H_g is an affine map per game instead of one bilinear form; small shifts and intensity
    instead of crops; the momentum rises linearly from 0.99 to 0.999; pre-training alone, not beside reinforcement
    learning. As in the original and the study, embeddings are not scaled to unit length unless `normalize` is set.

    Args:
        backbone: See `Objective`.
        num_games: See `Objective`.
        neck_widths: Of the neck's linear layers; the last is the width of q and k.
        temperature: Divides the logits.
        normalize: Compare by cosine instead of dot product.
        augmentation: See `Objective`.

    Raises:
        InputError: when `temperature` is not positive, and as for `Objective`.
    """

    window = WindowSpec()

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
        super().__init__(backbone, num_games, augmentation=augmentation)
        if temperature <= 0:
            raise InputError(f"temperature must be positive, got {temperature}")
        self.neck = SpatialMLP(self.feature_map_shape, num_games, neck_widths)
        self.head = GameLinear(self.neck.out_features, self.neck.out_features, num_games)
        self.target_backbone = momentum_copy(self.backbone)
        self.target_neck = momentum_copy(self.neck)
        self.temperature = temperature
        self.normalize = normalize

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast the two views of o_t; metrics: `accuracy`, `feature_std`."""
        frames = batch.observation()
        features = self.backbone(self.view(frames))
        queries = self.head(self.neck(features, batch.games), batch.games)
        with torch.no_grad():
            keys = self.target_neck(self.target_backbone(self.view(frames)), batch.games)
        loss, accuracy = info_nce(queries, keys, temperature=self.temperature, normalize=self.normalize)
        return loss, {"accuracy": accuracy, "feature_std": feature_std(features)}

    def after_step(self, progress: float) -> None:
        """Move the momentum copies."""
        momentum = linear_momentum(progress)
        update_momentum(self.target_backbone, self.backbone, momentum)
        update_momentum(self.target_neck, self.neck, momentum)
