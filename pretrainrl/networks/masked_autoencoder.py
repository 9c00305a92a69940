"""Encoder and decoder of the masked objectives (MAE, SiamMAE), on the tokens of a feature map.

Unlike the original methods, which mask pixels, the mask hides places of the backbone's map: every visible token has
already seen its whole receptive field.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.masking import TokenMask, unpatchify
from pretrainrl.networks.necks import FRAME_SIZE, SpatialTokens
from pretrainrl.networks.transformer import Transformer, sincos_positions_2d


class TokenEncoder(nn.Module):
    """Feature map to encoded tokens: per-place MLP, positions, mask, CLS token, transformer.

    Args:
        feature_map_shape: (C, H, W) of the backbone's map.
        num_games: Number of games.
        widths: Of the per-place MLP; the last is the transformer's.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_width: Hidden width of the transformer's feed-forward layers.
    """

    positions: Tensor

    def __init__(
        self,
        feature_map_shape: tuple[int, int, int],
        num_games: int,
        *,
        widths: Sequence[int] = (1024, 512),
        depth: int = 4,
        heads: int = 4,
        mlp_width: int = 2048,
    ) -> None:
        super().__init__()
        self.tokens = SpatialTokens(feature_map_shape, num_games, widths)
        self.out_features = self.tokens.out_features
        self.grid = self.tokens.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.out_features))
        self.transformer = Transformer(depth, self.out_features, heads, mlp_width)
        self.register_buffer("positions", sincos_positions_2d(self.grid, self.grid, self.out_features), persistent=False)

    def forward(self, feature_map: Tensor, games: Tensor, mask: TokenMask | None = None) -> Tensor:
        """Encode the visible tokens, by default all.

        Args:
            feature_map: (B, C, H, W) float.
            games: (B,) int64.
            mask: Keeps K of the N = grid * grid tokens.

        Returns:
            (B, 1 + K, out_features), the CLS token first.
        """
        tokens = self.tokens(feature_map, games) + self.positions
        if mask is not None:
            tokens = mask.keep(tokens)
        cls = self.cls_token.to(tokens.dtype).expand(len(tokens), -1, -1)
        encoded: Tensor = self.transformer(torch.cat([cls, tokens], dim=1))
        return encoded


class PixelDecoder(nn.Module):
    """Encoded tokens to images: mask tokens put in place, positions, transformer, game-wise linear layer to patches.

    Args:
        grid: Tokens along each side of the image.
        width: Of the tokens and the transformer.
        num_games: Number of games.
        channels: Of the image, i.e. stacked frames.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_width: Hidden width of the transformer's feed-forward layers.
        cross: Read the tokens of another image through cross-attention.
    """

    positions: Tensor

    def __init__(
        self,
        grid: int,
        width: int,
        num_games: int,
        *,
        channels: int = 4,
        depth: int = 3,
        heads: int = 4,
        mlp_width: int = 2048,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.embed = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.transformer = Transformer(depth, width, heads, mlp_width, cross=cross)
        self.pixels = GameLinear(width, channels * (FRAME_SIZE // grid) ** 2, num_games)
        positions = torch.cat([torch.zeros(1, width), sincos_positions_2d(grid, grid, width)])
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, tokens: Tensor, mask: TokenMask, games: Tensor, context: Tensor | None = None) -> Tensor:
        """Reconstruct images.

        Args:
            tokens: (B, 1 + K, width) encoded visible tokens, the CLS token first.
            mask: The mask that kept them.
            games: (B,) int64.
            context: (B, 1 + N, width) encoded tokens of the other image, none of them hidden; only with `cross`.

        Returns:
            (B, channels, 84, 84) float32, unbounded.
        """
        tokens = self.embed(tokens)
        tokens = torch.cat([tokens[:, :1], mask.fill(tokens[:, 1:], self.mask_token)], dim=1) + self.positions
        if context is not None:
            context = self.embed(context) + self.positions
        patches = self.pixels(self.transformer(tokens, context)[:, 1:], games)
        return unpatchify(patches.float(), self.channels)
