"""The base class of masked objectives."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.data.windows import Batch
from pretrainrl.errors import InputError
from pretrainrl.networks.masked_autoencoder import PixelDecoder, TokenEncoder, TokenMask, mask_from_scores, show_visible
from pretrainrl.objectives.objective import Objective, feature_std


class MaskedObjective(Objective):
    """Base class of objectives that reconstruct an observation from the few tokens that a random mask leaves visible.

    The loss is the mean squared error over all pixels of the observation. The observation to reconstruct is not augmented.

    Attributes:
        encoder: Network from the feature map to the encoded visible tokens.
        decoder: Network from the encoded tokens to pixels.
        siamese: Whether the decoder reads another observation by cross-attention.
        mask_ratio: Share of tokens that is hidden.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        neck_widths: Widths of the MLP for each place; the last is the transformers' width.
        encoder_depth: Number of the encoder's transformer blocks.
        decoder_depth: Number of the decoder's transformer blocks.
        heads: Number of attention heads of both transformers.
        mlp_width: Hidden width of both transformers' feed-forward layers.
        mask_ratio: Share of tokens that is hidden, in [0, 1); by default the class's, which is Atari-PB's.
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: When `mask_ratio` is not in [0, 1), when the backbone's map cannot be cut into patches of the frame, and
            as for `Objective`.
    """

    siamese: ClassVar[bool]
    mask_ratio: float

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
        mask_ratio: float | None = None,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, augmentation=augmentation)
        if mask_ratio is not None:
            self.mask_ratio = mask_ratio
        if not 0 <= self.mask_ratio < 1:
            raise InputError(f"mask_ratio must be in [0, 1), got {mask_ratio}")
        shared = {"heads": heads, "mlp_width": mlp_width}
        self.encoder = TokenEncoder(self.feature_map_shape, num_games, widths=neck_widths, depth=encoder_depth, **shared)
        self.decoder = PixelDecoder(
            self.encoder.grid, self.encoder.out_features, num_games, depth=decoder_depth, cross=self.siamese, **shared
        )

    def loss(self, batch: Batch, mask: TokenMask | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruct the observation; `mask` replaces the random one. Metrics: `feature_std`."""
        target, painted, _, features = self._paint(batch, mask)
        return F.mse_loss(painted, target), {"feature_std": feature_std(features)}

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Tensor:
        """Return (B, 3, 84, 84) in [0, 1]: the newest target frame, its visible patches on grey, its reconstruction."""
        target, painted, mask, _ = self._paint(batch, None)
        newest = target[:, -1:]
        return torch.cat([newest, show_visible(newest, mask), painted[:, -1:].clamp(0, 1)], dim=1)

    @abstractmethod
    def _paint(self, batch: Batch, mask: TokenMask | None) -> tuple[Tensor, Tensor, TokenMask, Tensor]:
        """Return the target in [0, 1], its reconstruction, the mask used, and the backbone's maps."""

    def _random_mask(self, games: Tensor) -> TokenMask:
        """Draw a mask for each sample of `games` (B,)."""
        tokens = self.encoder.grid**2
        scores = torch.rand(len(games), tokens, device=games.device)
        return mask_from_scores(scores, keep=int(tokens * (1 - self.mask_ratio)))
