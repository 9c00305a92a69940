"""SiamMAE: the network paints a later frame from an earlier one and a few visible patches."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.masked_autoencoder import TokenMask
from pretrainrl.objectives.masked import MaskedObjective


class SiamMAE(MaskedObjective):
    """Siamese masked autoencoder (Gupta et al., 2023, https://arxiv.org/abs/2305.14344; here as in Atari-PB).

        x = E_g B(A1 o_t),   y = mask(E_g B(A2 o_t+k)),   loss = mean over all pixels (sigmoid(D_g(y; x)) - o_t+k)^2

    with observations (B, 4, 84, 84), k drawn from 1..3 for each sample, two augmentations A1 and A2, backbone B, token
    encoder E_g, and decoder D_g whose blocks read x by cross-attention. x keeps all N tokens, y a random 5 % (1 of 36).
    The target o_t+k is not augmented.

    Differs from the original: masks hide places of the backbone's feature map instead of pixels, the loss counts visible
    patches too, and frames are 1 to 3 steps apart instead of 4 to 48. Differs from Atari-PB's code
    (https://arxiv.org/abs/2406.06037): o_t and o_t+k never lie in different episodes.

    The arguments are those of `MaskedObjective`.
    """

    window = WindowSpec(future=3)
    siamese = True
    mask_ratio = 0.95

    def _paint(self, batch: Batch, mask: TokenMask | None) -> tuple[Tensor, Tensor, TokenMask, Tensor]:
        games = batch.games
        gap = torch.randint(1, self.window.future + 1, games.shape, device=games.device)
        past, future = batch.observation(0), batch.observation(gap)
        mask = self._random_mask(games) if mask is None else mask
        features = self.backbone(self.view(torch.cat([past, future])))
        past_map, future_map = features.chunk(2)
        context = self.encoder(past_map, games)
        visible = self.encoder(future_map, games, mask)
        painted = self.decoder(visible, mask, games, context).sigmoid()
        return future.float().div_(255), painted, mask, features
