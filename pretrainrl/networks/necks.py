"""Necks of objectives: from a backbone's feature map to a latent vector, or to one token per image patch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.networks.standardize import Standardize

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
    """Make linear layers of the given widths, each followed by a ReLU."""
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
        feature_map_shape: Shape (C, H, W) of the backbone's map.
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
        feature_map_shape: Shape (C, H, W) of the backbone's map.
        num_games: Number of games.
        widths: Of the linear layers; the last is the tokens'.

    Raises:
        InputError: When the map is not square, or neither its side nor half of it divides 84.
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


Neck = Literal["mlp", "spatial", "spatial_mlp"]
Normalization = Literal["auto", "standardize", "layer"]
NECKS = ("mlp", "spatial", "spatial_mlp")
NORMALIZATIONS = ("auto", "standardize", "layer")
_ON_MAPS = ("spatial", "spatial_mlp")


class FlatMLP(nn.Sequential):
    """Normalization, linear layer, ReLU on features (B, D) or maps (B, C, H, W), which are flattened.

    Args:
        normalization: Module that maps (B, D) to (B, D).
        in_features: Number of features D.
        features_dim: Width of the output.
    """

    def __init__(self, normalization: nn.Module, in_features: int, features_dim: int) -> None:
        super().__init__(normalization, nn.Linear(in_features, features_dim), nn.ReLU())

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, D) or (B, C, H, W) to (B, features_dim), which are not negative."""
        latent: Tensor = super().forward(features.flatten(1))  # type: ignore[no-untyped-call]
        return latent


class WeightedPlaces(nn.Module):
    """Learned weighted sums over the places of each channel: (B, C, H, W) to (B, C * embeddings).

    Args:
        feature_map_shape: Shape (C, H, W) of a map.
        embeddings: Number of sums of each channel, at least 1.
    """

    def __init__(self, feature_map_shape: tuple[int, int, int], embeddings: int) -> None:
        super().__init__()
        channels, height, width = feature_map_shape
        # Sums of features of variance 1 then have variance 1, which a mean with weights of N(0, 1) has not.
        self.weight = nn.Parameter(torch.randn(channels, embeddings, height * width) / math.sqrt(height * width))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C * embeddings)."""
        return torch.einsum("bcp,cep->bce", feature_map.flatten(2), self.weight).flatten(1)


class SpatialNeck(SpatialMLP):
    """Atari-PB's neck for the one game that an agent plays: maps (B, C, H, W) give (B, features_dim)."""

    def __init__(self, feature_map_shape: tuple[int, int, int], features_dim: int) -> None:
        super().__init__(feature_map_shape, num_games=1, widths=(1024, features_dim))

    def forward(self, feature_map: Tensor, games: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to latents (B, features_dim), which are not negative; `games` is not needed."""
        places = feature_map.flatten(2)
        # The weights of one game are multiplied and averaged in one go, without the large products in between.
        pooled = torch.linalg.vecdot(places, self.embedding.weight.view(places.shape[1:])) / places.shape[2]
        latent: Tensor = self.mlp(self.norm(pooled))
        return latent


def reads_map(neck: Neck | None) -> bool:
    """Return whether a neck needs the places of a feature map, (C, H, W), rather than a vector."""
    return neck in _ON_MAPS


def make_neck(
    neck: Neck | None,
    shape: tuple[int, ...],
    features_dim: int,
    *,
    normalization: Normalization | None = "auto",
    embeddings: int = 1,
) -> nn.Module:
    """Make what is trained between features and heads.

    Args:
        neck: Name of the neck. `mlp`: normalization, linear layer, ReLU on the flattened features. `spatial`: normalization,
            `embeddings` learned weighted sums over the places of each channel, linear layer, ReLU. `spatial_mlp`: Atari-PB's,
            a learned weight for each place, mean over places, LayerNorm, two linear layers with ReLU. None: the flattened
            features as they are.
        shape: Shape of one observation's features, (D,) or (C, H, W).
        features_dim: Width of the output, at least 1.
        normalization: Kind of normalization, as `resolve_normalization` takes it.
        embeddings: Number of weighted sums of each channel, at least 1, of `spatial` only.

    Raises:
        InputError: For a neck that needs maps where features are vectors, or numbers that do not fit.
        UnknownNameError: For names that do not exist.
    """
    normalization = resolve_normalization(neck, normalization)
    if features_dim < 1:
        raise InputError(f"features_dim must be positive, got {features_dim}")
    if embeddings < 1 or (embeddings > 1 and neck != "spatial"):
        raise InputError(f"embeddings is a number of at least 1, and above 1 for neck='spatial' only; got {embeddings}")
    if neck is None:
        return nn.Flatten()
    if neck == "mlp":
        width = math.prod(shape)
        return FlatMLP(_normalize(normalization, (width,)), width, features_dim)
    if len(shape) != 3:
        raise InputError(f"neck={neck!r} reads maps (C, H, W), got features of shape {shape}; encode with features='map'")
    if neck == "spatial_mlp":
        return SpatialNeck((shape[0], shape[1], shape[2]), features_dim)
    places = WeightedPlaces((shape[0], shape[1], shape[2]), embeddings)
    return nn.Sequential(_normalize(normalization, shape), places, nn.Linear(shape[0] * embeddings, features_dim), nn.ReLU())


def resolve_normalization(
    neck: Neck | None, normalization: Normalization | None, *, trainable: bool = False
) -> Literal["standardize", "layer"] | None:
    """Choose what normalizes the features that a neck reads.

    Args:
        neck: Name of the neck, as `make_neck` takes it.
        normalization: Kind of normalization. `standardize`: each feature by its own statistics, which are measured once and
            then fixed. `layer`: LayerNorm across all features. None: nothing. `auto`: `standardize`, but `layer` behind a
            trainable encoder, and nothing for `spatial_mlp`, which has a LayerNorm of its own, and where there is no neck.
        trainable: Whether the encoder is trained too.

    Raises:
        InputError: For a normalization that the neck or a trainable encoder cannot have.
        UnknownNameError: For names that do not exist.
    """
    if neck is not None and neck not in NECKS:
        raise UnknownNameError.of("neck", str(neck), NECKS)
    if normalization is not None and normalization not in NORMALIZATIONS:
        raise UnknownNameError.of("normalization", str(normalization), NORMALIZATIONS)
    if neck in (None, "spatial_mlp"):
        if normalization in ("standardize", "layer"):
            raise InputError(f"normalization={normalization!r} is for the necks 'mlp' and 'spatial', not for neck={neck!r}")
        return None
    if normalization == "auto":
        return "layer" if trainable else "standardize"
    if normalization == "standardize" and trainable:
        raise InputError(
            "normalization='standardize' is for frozen encoders: features of a trainable one change after they were measured; "
            "take normalization='layer'"
        )
    return normalization


def _normalize(normalization: str | None, shape: tuple[int, ...]) -> nn.Module:
    """Make the module that normalizes features of a shape."""
    if normalization == "standardize":
        return Standardize(shape)
    return nn.LayerNorm(shape) if normalization == "layer" else nn.Identity()
