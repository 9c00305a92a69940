"""What an agent trains between a frozen encoder and its heads, and the extractor that is nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.views import one_view, plain_view
from pretrainrl.networks.necks import SpatialMLP


class OneGameSpatialMLP(SpatialMLP):
    """The study's neck for the one game that an agent plays: maps (B, C, H, W) give (B, features_dim)."""

    def __init__(self, feature_map_shape: tuple[int, int, int], features_dim: int) -> None:
        super().__init__(feature_map_shape, num_games=1, widths=(1024, features_dim))

    def forward(self, feature_map: Tensor, games: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to latents (B, features_dim), which are not negative; `games` is not needed."""
        places = feature_map.flatten(2)
        # The weights of one game are multiplied and averaged in one go, without the large products in between.
        pooled = torch.linalg.vecdot(places, self.embedding.weight.view(places.shape[1:])) / places.shape[2]
        latent: Tensor = self.mlp(self.norm(pooled))
        return latent


def mlp_neck(in_features: int, features_dim: int) -> nn.Sequential:
    """LayerNorm, linear layer, ReLU on vectors (B, in_features)."""
    return nn.Sequential(nn.LayerNorm(in_features), nn.Linear(in_features, features_dim), nn.ReLU())


class NeckExtractor(BaseFeaturesExtractor):
    """The trainable neck alone, for observations that `VecEncodeObservation` has encoded already.

    With equal seeds, an agent starts from the very weights that it has with `PretrainedExtractor` and the same neck.
    Best made by `neck_policy_kwargs`.

    Args:
        observation_space: of feature maps (C, H, W), read by the study's spatial neck, or of vectors (D,), read by LayerNorm,
            a linear layer and ReLU; or `FeatureViews` of either, of which the plain one is read.
        features_dim: width of the neck's output.

    Raises:
        InputError: for observations that are neither, or a width that is not positive.
    """

    def __init__(self, observation_space: Space[Any], features_dim: int = 512) -> None:
        shape = one_view(observation_space).shape
        is_features = isinstance(observation_space, Box) and observation_space.dtype != np.uint8
        if not is_features or shape is None or len(shape) not in (1, 3):
            raise InputError(
                f"a neck reads the features of VecEncodeObservation, (C, H, W) or (D,) floats, got {observation_space}"
            )
        if features_dim < 1:
            raise InputError(f"features_dim must be positive, got {features_dim}")
        super().__init__(observation_space, features_dim)
        with separate_random_stream():
            if len(shape) == 1:
                self.neck: nn.Module = mlp_neck(shape[0], features_dim)
            else:
                channels, height, width = shape
                self.neck = OneGameSpatialMLP((channels, height, width), features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        """Map features (B, C, H, W) or (B, D), or views of them, to (B, features_dim) float32."""
        features: Tensor = self.neck(plain_view(observations, self._observation_space).float())
        return features


def neck_policy_kwargs(*, features_dim: int = 512, net_arch: Sequence[int] = ()) -> dict[str, Any]:
    """Build the `policy_kwargs` of a `MlpPolicy` whose environment is wrapped in `VecEncodeObservation`.

    Args:
        features_dim: width of the neck's output.
        net_arch: hidden layers after the neck. Stable-Baselines3 would add two if it were left out.
    """
    return {
        "features_extractor_class": NeckExtractor,
        "features_extractor_kwargs": {"features_dim": features_dim},
        "net_arch": list(net_arch),
    }


@contextmanager
def separate_random_stream() -> Iterator[None]:
    """Let what is inside take one number from the random stream, however many it needs.

    The neck's size follows the encoder's; the heads after it must start the same whatever the encoder, for equal seeds.
    """
    seed = int(torch.randint(2**63 - 1, ()))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
