"""Features extractors that end in a trained neck, and the one that is nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.encoding.vec_encode import one_view, plain_view
from pretrainrl.networks.necks import Neck, Normalization, make_neck, resolve_normalization
from pretrainrl.networks.standardize import Standardize

SelfExtractor = TypeVar("SelfExtractor", bound="ExtractorWithNeck")


class ExtractorWithNeck(BaseFeaturesExtractor):
    """Base of this package's extractors: `encode`, which no training changes if the encoder is frozen, then `apply_neck`.

    Where the neck standardizes features, its statistics belong to the neck.
    """

    neck: nn.Module

    @property
    def standardize(self) -> Standardize | None:
        """The module that standardizes what the neck reads; None in other necks."""
        return next((module for module in self.neck.modules() if isinstance(module, Standardize)), None)

    @property
    def lacks_statistics(self) -> bool:
        """Whether the neck standardizes features and their statistics were not measured yet."""
        standardize = self.standardize
        return standardize is not None and not standardize.is_fitted

    def fit_standardize(self, encoded: Iterable[Tensor]) -> None:
        """Measure the statistics from batches (B, ...) of what `encode` returns, which may be maps that the neck flattens.

        Raises:
            InputError: When there are fewer than 32 observations, or features are not finite.
        """
        standardize = self.standardize
        assert standardize is not None
        shape = standardize.mean.shape
        standardize.fit(batch.reshape(len(batch), *shape) for batch in encoded)

    def encode(self, observations: Tensor) -> Tensor:
        """Map preprocessed observations (B, ...), where there are views the plain one, to what the neck reads, float32."""
        raise NotImplementedError

    def apply_neck(self, encoded: Tensor) -> Tensor:
        """Map what `encode` returns to (B, features_dim) float32."""
        features: Tensor = self.neck(encoded)
        return features

    def train(self: SelfExtractor, mode: bool = True) -> SelfExtractor:
        """Set the mode. Where an algorithm begins to train, statistics that the neck lacks are measured first."""
        if mode and self.lacks_statistics:
            from pretrainrl.integrations.sb3.encoding.standardization import fit_for_caller

            fit_for_caller(self)
        return super().train(mode)

    def apply(self: SelfExtractor, fn: Callable[[nn.Module], None]) -> SelfExtractor:
        """Apply an initialization, such as PPO's and A2C's `ortho_init`, to the neck but not to an encoder."""
        with separate_random_stream():
            self.neck.apply(fn)
        fn(self)
        return self


class NeckExtractor(ExtractorWithNeck):
    """The trainable neck alone, for observations that `VecEncodeObservation` has encoded already.

    With equal seeds, an agent starts from the very weights that it has with `PretrainedExtractor` and the same neck.
    Best made by `neck_policy_kwargs`.

    Args:
        observation_space: Space of feature maps (C, H, W) or of vectors (D,), floats; or `FeatureViews` of either, of which
            the plain one is read.
        features_dim: Width of the neck's output; without a neck, it is the number of features.
        neck: Name of the neck, `mlp`, `spatial`, `spatial_mlp` or None, as `policy_kwargs` takes it. `mlp` flattens maps, the
            other two read nothing else.
        normalization: Kind of normalization, `standardize`, `layer`, None or `auto`, as `policy_kwargs` takes it.
        embeddings: Number of weighted sums of each channel, of `spatial` only.

    Raises:
        InputError: When observations are neither, or arguments do not fit.
        UnknownNameError: When the neck or normalization does not exist.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        features_dim: int = 512,
        *,
        neck: Neck | None = "mlp",
        normalization: Normalization | None = "auto",
        embeddings: int = 1,
    ) -> None:
        shape = one_view(observation_space).shape
        is_features = isinstance(observation_space, Box) and observation_space.dtype != np.uint8
        if not is_features or shape is None or len(shape) not in (1, 3):
            raise InputError(
                f"a neck reads the features of VecEncodeObservation, (C, H, W) or (D,) floats, got {observation_space}"
            )
        if features_dim < 1:
            raise InputError(f"features_dim must be positive, got {features_dim}")
        super().__init__(observation_space, features_dim if neck else int(np.prod(shape)))
        with separate_random_stream():
            self.neck = make_neck(neck, shape, features_dim, normalization=normalization, embeddings=embeddings)

    def forward(self, observations: Tensor) -> Tensor:
        """Map features (B, C, H, W) or (B, D), or views of them, to (B, features_dim) float32."""
        return self.apply_neck(self.encode(plain_view(observations, self._observation_space)))

    def encode(self, observations: Tensor) -> Tensor:
        """Return features (B, C, H, W) or (B, D) as float32: they were encoded in the environment."""
        return observations.float()


def neck_policy_kwargs(
    *,
    neck: Neck | None = "mlp",
    normalization: Normalization | None = "auto",
    embeddings: int = 1,
    features_dim: int = 512,
    net_arch: Sequence[int] | dict[str, list[int]] = (),
) -> dict[str, Any]:
    """Build the `policy_kwargs` of a `MlpPolicy` whose environment is wrapped in `VecEncodeObservation`.

    Args:
        neck: Name of the neck: `mlp` on the flattened features, or, of an environment with `features="map"`, `spatial` or
            `spatial_mlp`; None for none. See `policy_kwargs`.
        normalization: Kind of normalization, `standardize`, `layer`, None or `auto`; see `policy_kwargs`.
        embeddings: Number of weighted sums of each channel, of `spatial` only.
        features_dim: Width of the neck's output.
        net_arch: Widths of hidden layers after the neck. Stable-Baselines3 would add two if it were left out.
    """
    return {
        "features_extractor_class": NeckExtractor,
        "features_extractor_kwargs": {
            "features_dim": features_dim,
            "neck": neck,
            "normalization": resolve_normalization(neck, normalization),
            "embeddings": embeddings,
        },
        "net_arch": net_arch if isinstance(net_arch, dict) else list(net_arch),
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
