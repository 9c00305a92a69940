"""R3M: the network tells what follows soon from what follows later and from other samples."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.losses import info_nce
from pretrainrl.objectives.momentum import ContrastiveObjective
from pretrainrl.objectives.objective import feature_std


class R3M(ContrastiveObjective):
    """Time-contrastive part of R3M (Nair et al., 2022, https://arxiv.org/abs/2203.12601; here as in Atari-PB).

        q = H_g N_g B(A1 o_t),   k = N'_g B'(A2 o_t+3),   m = N'_g B'(A3 o_t+6)
        loss = -log softmax([q_i . k_i, q_i . m_i, q_i . k_j for all j != i] / temperature)[0], mean over i

    with observations (B, 4, 84, 84), three augmentations, backbone B, neck N_g and linear head H_g of the sample's game g,
    and momentum copies B', N' that get no gradient. A sample with a terminal in t..t+5 does not count; its k still serves
    the others as a negative.

    Differs from the original: no language and no sparsity terms, dot products instead of negative distances, momentum
    targets, fixed offsets 3 and 6, and all other samples as negatives. Differs from Atari-PB's code
    (https://arxiv.org/abs/2406.06037): a sample's own k is left out of its negatives instead of scored -100, and gradients
    do not shrink with the number of processes.

    The arguments are those of `ContrastiveObjective`.
    """

    window = WindowSpec(future=6, steps=6)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast o_t with o_t+3 and o_t+6; metrics: `accuracy`, `feature_std`."""
        games = batch.games
        features = self.backbone(self.view(batch.observation(0)))
        queries = self.head(self.neck(features, games), games)
        later = torch.cat([batch.observation(3), batch.observation(6)])
        near, far = self.targets(self.view(later), games.repeat(2)).chunk(2)
        loss, accuracy = info_nce(
            queries,
            near,
            temperature=self.temperature,
            normalize=self.normalize,
            ignore=batch.terminations.any(1),
            own_negatives=far,
        )
        return loss, {"accuracy": accuracy, "feature_std": feature_std(features)}
