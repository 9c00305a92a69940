"""Random token masks, and images as rows of patches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TokenMask(NamedTuple):
    """Which of N tokens stay visible, and how to put them back among the others.

    Attributes:
        visible: (B, K) int64, the visible tokens' places in the image.
        restore: (B, N) int64, for each place its position in the order [visible tokens, hidden tokens].
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
        """(B, N) bool, True where a token is hidden."""
        return self.restore >= self.visible.shape[1]


def mask_from_scores(scores: Tensor, keep: int) -> TokenMask:
    """Mask that keeps the `keep` tokens of lowest score; uniform random scores give a uniform random mask.

    Args:
        scores: (B, N) float, or a permutation of 0..N-1 per row to replay: it then equals the mask's `restore`.
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
    """Inverse of `patchify`: (B, N, channels * patch * patch) -> (B, channels, S, S)."""
    batch, tokens, size = patches.shape
    grid, patch = round(tokens**0.5), round((size // channels) ** 0.5)
    images = patches.view(batch, grid, grid, channels, patch, patch).permute(0, 3, 1, 4, 2, 5)
    return images.reshape(batch, channels, grid * patch, grid * patch)


def show_visible(images: Tensor, mask: TokenMask, grey: float = 0.5) -> Tensor:
    """Paint the hidden patches of `images` (B, C, S, S) grey."""
    patches = patchify(images, round(mask.restore.shape[1] ** 0.5))
    return unpatchify(patches.masked_fill(mask.hidden().unsqueeze(-1), grey), images.shape[1])
