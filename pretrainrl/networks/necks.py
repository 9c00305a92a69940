"""Necks of objectives: from a backbone's feature map to a latent vector, or to one token per image patch."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.errors import InputError

FRAME_SIZE = 84


class SpatialEmbedding(nn.Embedding):
    """One learned weight for each place and channel of the feature map and each game, drawn from N(0, 1)."""

    def __init__(self, feature_map_shape: tuple[int, int, int], num_games: int) -> None:
        channels, height, width = feature_map_shape
        super().__init__(num_games, channels * height * width)

    def weigh(self, feature_map: Tensor, games: Tensor) -> Tensor:
        """Multiply maps (B, C, H, W) with the weights of their `games` (B,)."""
        return feature_map * F.embedding(games, self.weight).view_as(feature_map)


def relu_mlp(in_features: int, widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given widths, each followed by a ReLU."""
    if not widths or min(widths) < 1:
        raise InputError(f"a neck needs positive widths, got {tuple(widths)}")
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(in_features, width), nn.ReLU()]
        in_features = width
    return nn.Sequential(*layers)


class SpatialMLP(nn.Module):
    """Neck of the latent objectives: game-wise spatial embedding, average pool, LayerNorm, MLP with a ReLU at its end.

    Args:
        feature_map_shape: (C, H, W) of the backbone's map.
        num_games: Number of games.
        widths: Of the linear layers; the last is the latent's.
    """

    def __init__(self, feature_map_shape: tuple[int, int, int], num_games: int, widths: Sequence[int] = (1024, 512)) -> None:
        super().__init__()
        self.embedding = SpatialEmbedding(feature_map_shape, num_games)
        self.norm = nn.LayerNorm(feature_map_shape[0])
        self.mlp = relu_mlp(feature_map_shape[0], widths)
        self.out_features = widths[-1]

    def forward(self, feature_map: Tensor, games: Tensor) -> Tensor:
        """Map (B, C, H, W) and games (B,) to latents (B, out_features), which are not negative."""
        pooled = self.embedding.weigh(feature_map, games).mean((2, 3))
        latent: Tensor = self.mlp(self.norm(pooled))
        return latent


class SpatialTokens(nn.Module):
    """Neck of the masked objectives: game-wise spatial embedding and the same MLP at each place, one token per patch.

    Every token stands for a square patch of the 84x84 frame, so the map's side must divide 84: 6x6 (ResNet-50) gives
    14-pixel patches, 7x7 (Nature) 12-pixel ones. A map that does not fit, such as Impala's 11x11, is first halved by a
    learned 3x3 convolution of stride 2, to 6x6 there.

    Args:
        feature_map_shape: (C, H, W) of the backbone's map.
        num_games: Number of games.
        widths: Of the linear layers; the last is the tokens'.

    Raises:
        InputError: when the map is not square, or neither its side nor half of it divides 84.
    """

    def __init__(self, feature_map_shape: tuple[int, int, int], num_games: int, widths: Sequence[int] = (1024, 512)) -> None:
        super().__init__()
        channels, side, width = feature_map_shape
        self.reduce: nn.Module = nn.Identity()
        if FRAME_SIZE % side:
            self.reduce = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)
            side = width = (side + 1) // 2
        if FRAME_SIZE % side or side != width:
            raise InputError(
                f"feature map {feature_map_shape} cannot be cut into tokens of square {FRAME_SIZE}x{FRAME_SIZE} patches"
            )
        self.grid = side
        self.embedding = SpatialEmbedding((channels, side, side), num_games)
        self.mlp = relu_mlp(channels, widths)
        self.out_features = widths[-1]

    def forward(self, feature_map: Tensor, games: Tensor) -> Tensor:
        """Map (B, C, H, W) and games (B,) to tokens in raster order, (B, grid * grid, out_features)."""
        weighed = self.embedding.weigh(self.reduce(feature_map), games)
        tokens: Tensor = self.mlp(weighed.flatten(2).transpose(1, 2))
        return tokens
