"""CURL: the network tells an image from all others by a differently augmented copy of it."""

from __future__ import annotations

from torch import Tensor

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.losses import info_nce
from pretrainrl.objectives.momentum import ContrastiveObjective
from pretrainrl.objectives.objective import feature_std


class CURL(ContrastiveObjective):
    """Contrastive unsupervised representations for reinforcement learning (Laskin et al., 2020).

    https://arxiv.org/abs/2004.04136, in the form of Atari-PB (https://arxiv.org/abs/2406.06037):

        q = H_g N_g B(A1 o_t),   k = N'_g B'(A2 o_t),   loss = -log softmax_j(q_i . k_j / temperature)[i], mean over i

    with observation o_t (B, 4, 84, 84), two augmentations A1 and A2, backbone B, neck N_g and linear head H_g of the
    sample's game g, and momentum copies B', N' that get no gradient. Negatives are the other samples of the batch.

    Differs from the original: H_g is an affine map per game instead of one bilinear form; small shifts and intensity
    instead of crops; the momentum rises linearly from 0.99 to 0.999; pre-training alone, not beside reinforcement
    learning. As in the original and in Atari-PB, embeddings are not scaled to unit length unless `normalize` is set.
    Differs from Atari-PB's code: gradients do not shrink with the number of processes.

    The arguments are those of `ContrastiveObjective`.
    """

    window = WindowSpec()

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast the two views of o_t; metrics: `accuracy`, `feature_std`."""
        games, frames = batch.games, batch.observation()
        features = self.backbone(self.view(frames))
        queries = self.head(self.neck(features, games), games)
        keys = self.targets(self.view(frames), games)
        loss, accuracy = info_nce(queries, keys, temperature=self.temperature, normalize=self.normalize)
        return loss, {"accuracy": accuracy, "feature_std": feature_std(features)}
