"""Encoder and decoder of the masked objectives (MAE, SiamMAE), on the tokens of a feature map.

Unlike the original methods, which mask pixels, the mask hides places of the backbone's map: every visible token has
already seen its whole receptive field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.necks import FRAME_SIZE, SpatialTokens
from pretrainrl.networks.transformer import Transformer, sincos_positions_2d


class TokenEncoder(nn.Module):
    """Feature map to encoded tokens: per-place MLP, positions, mask, CLS token, transformer.

    Args:
        feature_map_shape: Shape (C, H, W) of the backbone's map.
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
            feature_map: Feature maps (B, C, H, W) float.
            games: Game of each sample, (B,) int64.
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
            tokens: Encoded visible tokens (B, 1 + K, width), the CLS token first.
            mask: The mask that kept them.
            games: Game of each sample, (B,) int64.
            context: Encoded tokens (B, 1 + N, width) of the other image, none of them hidden; only with `cross`.

        Returns:
            (B, channels, 84, 84) float32, unbounded.
        """
        tokens = self.embed(tokens)
        tokens = torch.cat([tokens[:, :1], mask.fill(tokens[:, 1:], self.mask_token)], dim=1) + self.positions
        if context is not None:
            context = self.embed(context) + self.positions
        patches = self.pixels(self.transformer(tokens, context)[:, 1:], games)
        return unpatchify(patches.float(), self.channels)


class TokenMask(NamedTuple):
    """Which of N tokens stay visible, and how to put them back among the others.

    Attributes:
        visible: Places of the visible tokens in the image, (B, K) int64.
        restore: Position of each place in the order [visible tokens, hidden tokens], (B, N) int64.
    """

    visible: Tensor
    restore: Tensor

    def keep(self, tokens: Tensor) -> Tensor:
        """Select the visible ones of `tokens`: (B, N, D) -> (B, K, D)."""
        return tokens.gather(1, self.visible.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

    def fill(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Put `tokens` (B, K, D) in their places of (B, N, D), and `hidden` (1, 1, D) in all others."""
        batch, kept, width = tokens.shape
        rest = hidden.to(tokens.dtype).expand(batch, self.restore.shape[1] - kept, width)
        order = self.restore.unsqueeze(-1).expand(-1, -1, width)
        return torch.cat([tokens, rest], dim=1).gather(1, order)

    def hidden(self) -> Tensor:
        """Return (B, N) bool, True where a token is hidden."""
        return self.restore >= self.visible.shape[1]


def mask_from_scores(scores: Tensor, keep: int) -> TokenMask:
    """Return the mask that keeps the `keep` tokens of lowest score; uniform random scores give a uniform random mask.

    Args:
        scores: Scores (B, N) float, or a permutation of 0..N-1 per row to replay: it then equals the mask's `restore`.
        keep: Number of visible tokens.
    """
    order = scores.argsort(dim=1)
    return TokenMask(visible=order[:, :keep], restore=order.argsort(dim=1))


def patchify(images: Tensor, grid: int) -> Tensor:
    """Cut (B, C, S, S) into grid * grid patches in raster order: (B, grid * grid, C * patch * patch)."""
    batch, channels, size, _ = images.shape
    patch = size // grid
    patches = images.view(batch, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, grid * grid, channels * patch * patch)


def unpatchify(patches: Tensor, channels: int) -> Tensor:
    """Undo `patchify`: (B, N, channels * patch * patch) -> (B, channels, S, S)."""
    batch, tokens, size = patches.shape
    grid, patch = round(tokens**0.5), round((size // channels) ** 0.5)
    images = patches.view(batch, grid, grid, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return images.reshape(batch, channels, grid * patch, grid * patch)


def show_visible(images: Tensor, mask: TokenMask, grey: float = 0.5) -> Tensor:
    """Paint the hidden patches of `images` (B, C, S, S) gray."""
    patches = patchify(images, round(mask.restore.shape[1] ** 0.5))
    return unpatchify(patches.masked_fill(mask.hidden().unsqueeze(-1), grey), images.shape[1])
