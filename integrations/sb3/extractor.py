"""Encoders as Stable-Baselines3 features extractors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from gymnasium.spaces import Space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from pretrainrl.encoders import Encoder, make_encoder
from pretrainrl.errors import InputError
from pretrainrl.integrations.gymnasium.frame_space import is_channel_last
from pretrainrl.integrations.gymnasium.shared_encoder import SharedEncoder
from pretrainrl.integrations.sb3.necks import OneGameSpatialMLP, mlp_neck, separate_random_stream

Neck = Literal["mlp", "spatial_mlp"]
SelfExtractor = TypeVar("SelfExtractor", bound="PretrainedExtractor")


class PretrainedExtractor(BaseFeaturesExtractor):
    """An encoder, followed by a neck that is trained with the agent's heads.

    Best made by `policy_kwargs`. A frozen encoder is not a part of this module: it is looked up by name in the process's
    cache when it is needed. So there is one in memory for all of an agent's networks, no optimizer, target update or
    initialisation reaches it, and saved agents hold its name and digest rather than its weights.

    Args:
        observation_space: of stacked frames, (4, 84, 84) uint8; Stable-Baselines3 transposes channel-last ones itself.
        encoder: name, run folder or card file, as `make_encoder` takes it.
        weights: instead of the card's, as `make_encoder` takes them.
        sha256: digest that the encoder's weights must have, as recorded by `policy_kwargs`.
        features: `flat` or `pooled`, what the `mlp` neck or, without a neck, the agent sees; the card's choice by default.
        neck: `mlp`: LayerNorm, linear layer, ReLU on the features. `spatial_mlp`: the neck of the study, a learned weight
            for each place of the feature map, average pool, LayerNorm, two linear layers with ReLU. None: no neck.
        features_dim: width of the neck's output; without a neck, it is the encoder's.
        trainable: train the encoder too, from its weights on. Every network then has its own copy, and it is saved.
        dtype: the frozen encoder's: `float32`, `bfloat16`, or `auto` for bfloat16 where the device has it in hardware.

    Raises:
        InputError: for observations or arguments that do not fit.
        UnknownNameError: for an encoder that is not registered.
        WeightsError: when its weights cannot be found, are damaged, do not fit, or are others than `sha256` says.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        encoder: str = "siammae",
        *,
        weights: str | None = None,
        sha256: str | None = None,
        features: Literal["flat", "pooled"] | None = None,
        neck: Neck | None = "mlp",
        features_dim: int = 512,
        trainable: bool = False,
        dtype: str = "float32",
    ) -> None:
        if features_dim < 1:
            raise InputError(f"features_dim must be positive, got {features_dim}")
        if trainable and dtype != "float32":
            raise InputError(f"a trainable encoder is trained in float32, not {dtype}")
        shared = SharedEncoder(encoder, weights=weights, features=features, dtype=dtype, sha256=sha256)
        model = shared.on("cpu")
        if is_channel_last(observation_space, model.observation_space.shape):
            raise InputError(f"frames must come channel-first, got {observation_space}; wrap them in VecTransposeImage")
        super().__init__(observation_space, features_dim if neck else model.features_dim)
        self.encoder = make_encoder(encoder, weights=weights, features=features, trainable=True) if trainable else None
        self._shared = shared
        self._scale_checked = False
        with separate_random_stream():
            self.neck = _make_neck(neck, model, features_dim)

    def encoder_on(self, device: torch.device | str) -> Encoder:
        """The encoder that reads observations on `device`: the shared frozen one there, or this network's own."""
        return self._shared.on(device) if self.encoder is None else self.encoder

    @property
    def frozen(self) -> bool:
        """Whether the encoder is the shared one, which no training changes."""
        return self.encoder is None

    def forward(self, observations: Tensor) -> Tensor:
        """Map frames (B, 4, 84, 84), scaled to [0, 1] by the policy, to (B, features_dim) float32.

        Raises:
            InputError: for frames that are not scaled, as with `normalize_images=False`.
        """
        self._check_scale(observations)
        return self.read(self.encode(observations))

    def encode(self, observations: Tensor) -> Tensor:
        """What the neck reads of scaled, perhaps augmented frames (B, 4, 84, 84): their map or features, float32.

        Where the encoder is frozen, that is the same for all of an agent's networks.
        """
        encoder = self.encoder_on(observations.device)
        feature_map = encoder.map_floats(observations)
        return (feature_map if isinstance(self.neck, OneGameSpatialMLP) else encoder.pool(feature_map)).float()

    def read(self, encoded: Tensor) -> Tensor:
        """Map what `encode` returns to (B, features_dim)."""
        features: Tensor = self.neck(encoded)
        return features

    def apply(self: SelfExtractor, fn: Callable[[nn.Module], None]) -> SelfExtractor:
        """Apply an initialisation, such as PPO's and A2C's `ortho_init`, to the neck but not to the encoder."""
        with separate_random_stream():
            self.neck.apply(fn)
        fn(self)
        return self

    def extra_repr(self) -> str:
        """Describe the encoder in `repr`: a frozen one is not among the modules."""
        return "" if self.encoder is not None else f"frozen encoder {self._shared.name!r}"

    def _check_scale(self, observations: Tensor) -> None:
        """Check the first batch only, because reading values waits for the device."""
        if self._scale_checked:
            return
        if observations.max() > 1:
            raise InputError("frames are not scaled to [0, 1]: leave the policy's normalize_images at True")
        self._scale_checked = True


def policy_kwargs(
    encoder: str | Path,
    *,
    neck: Neck | None = "mlp",
    features_dim: int = 512,
    net_arch: Sequence[int] | dict[str, list[int]] = (),
    features: Literal["flat", "pooled"] | None = None,
    weights: str | Path | None = None,
    trainable: bool = False,
    dtype: str | torch.dtype = "float32",
) -> dict[str, Any]:
    """Build the `policy_kwargs` that put an encoder into the `CnnPolicy` of any Stable-Baselines3 algorithm.

    They hold names, numbers and the weights' sha256, so a saved agent is small and refuses to be loaded where the encoder
    is another. The dictionary may be extended, e.g. with `share_features_extractor=True` for SAC. Where the encoder is found
    elsewhere, load an agent with `custom_objects={"policy_kwargs": policy_kwargs(...)}`.

    Args:
        encoder: name, run folder or card file, as `make_encoder` takes it.
        neck: what is trained between encoder and heads: `mlp`, `spatial_mlp` or None; see `PretrainedExtractor`.
        features_dim: width of the neck's output.
        net_arch: hidden layers after the extractor. Stable-Baselines3 would add two if it were left out.
        features: `flat` or `pooled`; the card's choice by default.
        weights: instead of the card's, as `make_encoder` takes them.
        trainable: train the encoder too.
        dtype: the frozen encoder's: `float32`, `bfloat16` or `auto`.

    Raises:
        InputError: for arguments that do not fit.
        UnknownNameError: for an encoder that is not registered.
        WeightsError: when its weights cannot be found, are damaged, or do not fit.
    """
    shared = SharedEncoder(encoder, weights=weights, features=features, dtype=dtype)
    return {
        "features_extractor_class": PretrainedExtractor,
        "features_extractor_kwargs": {
            "encoder": str(encoder),
            "weights": None if weights is None else str(weights),
            "sha256": shared.on("cpu").sha256,
            "features": features,
            "neck": neck,
            "features_dim": features_dim,
            "trainable": trainable,
            "dtype": str(dtype).removeprefix("torch."),
        },
        "net_arch": net_arch if isinstance(net_arch, dict) else list(net_arch),
    }


def _make_neck(neck: Neck | None, encoder: Encoder, features_dim: int) -> nn.Module:
    """Build the trainable part after the encoder."""
    if neck is None:
        return nn.Identity()
    if neck == "mlp":
        return mlp_neck(encoder.features_dim, features_dim)
    if neck == "spatial_mlp":
        return OneGameSpatialMLP(encoder.feature_map_shape, features_dim)
    raise InputError(f"unknown neck {neck!r}; expected 'mlp', 'spatial_mlp' or None")
