"""Pre-norm transformers with fixed sin-cos positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrainrl.errors import InputError


def sincos_positions(positions: Tensor, width: int) -> Tensor:
    """Return sines, then cosines, of positions (N,) at `width` / 2 frequencies from 1 to 1/10000: (N, width) float32."""
    half = width // 2
    frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = positions.to(torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def sincos_positions_2d(height: int, width: int, dim: int) -> Tensor:
    """Return positions of a grid in raster order, (height * width, dim): one half codes the column, the other the row.

    Raises:
        InputError: When `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise InputError(f"2-D sin-cos positions need a width that is a multiple of 4, got {dim}")
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.cat([sincos_positions(axis.flatten(), dim // 2) for axis in (columns, rows)], dim=1)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """Return the scaled dot-product attention of queries (B, T, D) over keys and values (B, S, D), heads contiguous in D.

    It is written out, because sequences here have a few dozen tokens: PyTorch's fused kernel for CPUs took 3 to 6 times as
    long for a forward and backward pass at 37 tokens.
    """
    query, key, value = (part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in (query, key, value))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    mixed: Tensor = scores.softmax(dim=-1) @ value
    return mixed.transpose(1, 2).flatten(-2)


class SelfAttention(nn.Module):
    """Multi-head self-attention on normalized tokens, (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, *, causal: bool = False) -> Tensor:
        """Attend among `tokens`; with `causal`, to earlier tokens and oneself only."""
        query, key, value = self.qkv(self.norm(tokens)).chunk(3, dim=-1)
        mixed: Tensor = self.out(_attend(query, key, value, self.heads, causal=causal))
        return mixed


class CrossAttention(nn.Module):
    """Multi-head attention from normalized tokens to a context that is used as it is."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """Read `context` (B, S, D) from `tokens` (B, T, D); returns (B, T, D)."""
        query = self.query(self.norm(tokens))
        mixed: Tensor = self.out(_attend(query, self.key(context), self.value(context), self.heads))
        return mixed


class FeedForward(nn.Sequential):
    """Per-token LayerNorm-Linear-GELU-Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Block(nn.Module):
    """Residual (cross-attention,) self-attention and feed-forward layer."""

    def __init__(self, width: int, heads: int, mlp_width: int, *, cross: bool) -> None:
        super().__init__()
        self.cross = CrossAttention(width, heads) if cross else None
        self.attention = SelfAttention(width, heads)
        self.mlp = FeedForward(width, mlp_width)

    def forward(self, tokens: Tensor, context: Tensor | None, *, causal: bool) -> Tensor:
        """Transform `tokens` (B, T, D), reading `context` (B, S, D) if the block has cross-attention."""
        if self.cross is not None:
            tokens = tokens + self.cross(tokens, context)
        tokens = tokens + self.attention(tokens, causal=causal)
        mixed: Tensor = tokens + self.mlp(tokens)
        return mixed


class Transformer(nn.Module):
    """Stack of blocks with a final LayerNorm.

    Args:
        depth: Number of blocks.
        width: Width of the tokens.
        heads: Number of attention heads; divides `width`.
        mlp_width: Hidden width of the feed-forward layers.
        cross: Whether each block begins with cross-attention to a context.

    Raises:
        InputError: When `heads` does not divide `width`.
    """

    def __init__(self, depth: int, width: int, heads: int, mlp_width: int, *, cross: bool = False) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise InputError(f"transformer width {width} is not a multiple of its {heads} heads")
        self.blocks = nn.ModuleList(Block(width, heads, mlp_width, cross=cross) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, context: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Transform `tokens` (B, T, D) and normalize; `context` (B, S, D) feeds the cross-attention of `cross` blocks.

        With `causal`, self-attention reaches earlier tokens and oneself only.
        """
        for block in self.blocks:
            tokens = block(tokens, context, causal=causal)
        normalized: Tensor = self.norm(tokens)
        return normalized
