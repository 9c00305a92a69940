"""ATC: the network tells an observation from all others by what follows a moment later."""

from __future__ import annotations

from torch import Tensor

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.losses import info_nce
from pretrainrl.objectives.momentum import ContrastiveObjective
from pretrainrl.objectives.objective import feature_std


class ATC(ContrastiveObjective):
    """Augmented temporal contrast (Stooke et al., 2021, https://arxiv.org/abs/2009.08319; here as in Atari-PB).

        q = H_g N_g B(A1 o_t),   k = N'_g B'(A2 o_t+3),   loss = -log softmax_j(q_i . k_j / temperature)[i], mean over i

    with observations (B, 4, 84, 84), two augmentations A1 and A2, backbone B, neck N_g and linear head H_g of the sample's
    game g, and momentum copies B', N' that get no gradient. Negatives are the other samples of the batch. A sample with a
    terminal in t..t+2 does not count, since its o_t+3 is past the episode's end; its key still serves as a negative.

    Differs from the original: H_g is an affine map per game instead of a residual MLP and a bilinear form, and the momentum
    rises linearly from 0.99 to 0.999 instead of staying at 0.99. Differs from Atari-PB's code
    (https://arxiv.org/abs/2406.06037): gradients do not shrink with the number of processes.

    The arguments are those of `ContrastiveObjective`.
    """

    window = WindowSpec(future=3, steps=3)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast o_t with o_t+3; metrics: `accuracy`, `feature_std`."""
        games = batch.games
        features = self.backbone(self.view(batch.observation(0)))
        queries = self.head(self.neck(features, games), games)
        keys = self.targets(self.view(batch.observation(3)), games)
        loss, accuracy = info_nce(
            queries,
            keys,
            temperature=self.temperature,
            normalize=self.normalize,
            ignore=batch.terminations.any(1),
        )
        return loss, {"accuracy": accuracy, "feature_std": feature_std(features)}
