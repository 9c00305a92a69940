"""SiamMAE: a later frame is painted from an earlier one and a few visible patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.networks.masked_autoencoder import PixelDecoder, TokenEncoder
from pretrainrl.networks.masking import TokenMask, mask_from_scores, show_visible
from pretrainrl.objectives.objective import Objective, feature_std


class SiamMAE(Objective):
    """Siamese masked autoencoder (Gupta et al., 2023, https://arxiv.org/abs/2305.14344; here as in Atari-PB).

        x = E_g B(A1 o_t),   y = mask(E_g B(A2 o_t+k)),   loss = mean over all pixels (sigmoid(D_g(y; x)) - o_t+k)^2

    with observations (B, 4, 84, 84), k drawn from 1..3 for each sample, two augmentations A1 and A2, backbone B, token
    encoder E_g, and decoder D_g whose blocks read x by cross-attention. x keeps all N tokens, y a random 5 % (1 of 36).
    The target o_t+k is not augmented.

    Differs from the original: masks hide places of the backbone's feature map instead of pixels, the loss counts visible
    patches too, and frames are 1 to 3 steps apart instead of 4 to 48. Differs from the study's code
    (https://arxiv.org/abs/2406.06037): o_t and o_t+k never lie in different episodes.

    Args:
        backbone: See `Objective`.
        num_games: See `Objective`.
        neck_widths: Of the per-place MLP; the last is the transformers' width.
        encoder_depth: Transformer blocks of the encoder.
        decoder_depth: Transformer blocks of the decoder.
        heads: Attention heads of both.
        mlp_width: Hidden width of both transformers' feed-forward layers.
        mask_ratio: Share of o_t+k's tokens that is hidden.
        augmentation: See `Objective`.

    Raises:
        InputError: when `mask_ratio` is not in [0, 1), when the backbone's map cannot be cut into patches of the frame, and
            as for `Objective`.
    """

    window = WindowSpec(future=3)

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        neck_widths: Sequence[int] = (1024, 512),
        encoder_depth: int = 4,
        decoder_depth: int = 3,
        heads: int = 4,
        mlp_width: int = 2048,
        mask_ratio: float = 0.95,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, augmentation=augmentation)
        if not 0 <= mask_ratio < 1:
            raise InputError(f"mask_ratio must be in [0, 1), got {mask_ratio}")
        shared = {"heads": heads, "mlp_width": mlp_width}
        self.encoder = TokenEncoder(self.feature_map_shape, num_games, widths=neck_widths, depth=encoder_depth, **shared)
        self.decoder = PixelDecoder(
            self.encoder.grid, self.encoder.out_features, num_games, depth=decoder_depth, cross=True, **shared
        )
        self.mask_ratio = mask_ratio

    def loss(self, batch: Batch, mask: TokenMask | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruct o_t+k; `mask` replaces the random one. Metrics: `feature_std`."""
        target, painted, _, features = self._paint(batch, mask)
        return F.mse_loss(painted, target), {"feature_std": feature_std(features)}

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Tensor:
        """Return (B, 3, 84, 84) in [0, 1]: the newest frame of o_t+k, its visible patches on grey, its reconstruction."""
        target, painted, mask, _ = self._paint(batch, None)
        newest = target[:, -1:]
        return torch.cat([newest, show_visible(newest, mask), painted[:, -1:]], dim=1)

    def _paint(self, batch: Batch, mask: TokenMask | None) -> tuple[Tensor, Tensor, TokenMask, Tensor]:
        """Return o_t+k in [0, 1], its reconstruction, the mask used, and the backbone's maps of both frames."""
        games = batch.games
        gap = torch.randint(1, self.window.future + 1, games.shape, device=games.device)
        past, future = batch.observation(0), batch.observation(gap)
        if mask is None:
            tokens = self.encoder.grid**2
            scores = torch.rand(len(games), tokens, device=games.device)
            mask = mask_from_scores(scores, keep=int(tokens * (1 - self.mask_ratio)))
        features = self.backbone(self.view(torch.cat([past, future])))
        past_map, future_map = features.chunk(2)
        context = self.encoder(past_map, games)
        visible = self.encoder(future_map, games, mask)
        painted = self.decoder(visible, mask, games, context).sigmoid()
        return future.float() / 255, painted, mask, features
