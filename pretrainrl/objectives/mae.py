"""MAE: the network paints an image from a few visible patches."""

from __future__ import annotations

from torch import Tensor

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.networks.masked_autoencoder import TokenMask
from pretrainrl.objectives.masked import MaskedObjective


class MAE(MaskedObjective):
    """Masked autoencoder (He et al., 2022, https://arxiv.org/abs/2111.06377; here as in Atari-PB).

        y = mask(E_g B(A o_t)),   loss = mean over all pixels (D_g(y) - o_t)^2

    with observation (B, 4, 84, 84), augmentation A, backbone B, token encoder E_g, and decoder D_g. A random 10 % of the N
    tokens (3 of 36) stays visible. The target o_t is not augmented.

    Differs from the original: masks hide places of the backbone's feature map instead of pixels, the loss counts visible
    patches too, pixels are not normalized by patch, and 90 % of the tokens are hidden instead of 75 %. Nothing differs from
    Atari-PB's code (https://arxiv.org/abs/2406.06037).

    The arguments are those of `MaskedObjective`.
    """

    window = WindowSpec()
    siamese = False
    mask_ratio = 0.9

    def _paint(self, batch: Batch, mask: TokenMask | None) -> tuple[Tensor, Tensor, TokenMask, Tensor]:
        games, frames = batch.games, batch.observation()
        mask = self._random_mask(games) if mask is None else mask
        features = self.backbone(self.view(frames))
        painted = self.decoder(self.encoder(features, games, mask), mask, games)
        return frames.float().div_(255), painted, mask, features
