"""Encoders as Stable-Baselines3 features extractors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from gymnasium.spaces import Space
from torch import Tensor

from pretrainrl.cards import find_encoder
from pretrainrl.device import dtype_name, resolve_dtype
from pretrainrl.encoders import Encoder, make_encoder
from pretrainrl.encoders.observation_encoder import SharedEncoder
from pretrainrl.encoders.observation_spaces import is_channel_last
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.encoding.necks import ExtractorWithNeck, separate_random_stream
from pretrainrl.networks.necks import Neck, Normalization, make_neck, reads_map, resolve_normalization
from pretrainrl.weights import resolve_source


class PretrainedExtractor(ExtractorWithNeck):
    """An encoder, followed by a neck that is trained with the agent's heads.

    Best made by `policy_kwargs`. A frozen encoder is not a part of this module: it is looked up by name in the process's
    cache when it is needed. So there is one in memory for all of an agent's networks, no optimizer, target update or
    initialization reaches it, and saved agents hold its name and digest rather than its weights.

    Args:
        observation_space: Space of stacked frames, (4, 84, 84) uint8; Stable-Baselines3 transposes channel-last ones itself.
        encoder: Name, run folder or card file, as `make_encoder` takes it.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        sha256: Digest that the encoder's weights must have, as recorded by `policy_kwargs`.
        features: Kind of features, `flat` or `pooled`, that the `mlp` neck or, without a neck, the agent sees; the card's
            choice by default.
        neck: Name of the neck: `mlp`, `spatial`, `spatial_mlp` or None; see `policy_kwargs`.
        normalization: Kind of normalization: `standardize`, `layer`, None or `auto`; see `policy_kwargs`.
        embeddings: Number of weighted sums of each channel, of `spatial` only.
        features_dim: Width of the neck's output; without a neck, it is the encoder's.
        trainable: Whether the encoder is trained too, from its weights on. Every network then has its own copy, and it is
            saved.
        dtype: Type in which the frozen encoder computes wherever the agent is loaded, `float32` or `bfloat16`.

    Raises:
        InputError: When observations or arguments do not fit.
        UnknownNameError: When the encoder is not registered, or the neck or normalization does not exist.
        WeightsError: When its weights cannot be found, are damaged, do not fit, or are others than `sha256` says.
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
        normalization: Normalization | None = "auto",
        embeddings: int = 1,
        features_dim: int = 512,
        trainable: bool = False,
        dtype: str = "float32",
    ) -> None:
        if features_dim < 1:
            raise InputError(f"features_dim must be positive, got {features_dim}")
        if trainable and dtype != "float32":
            raise InputError(f"a trainable encoder is trained in float32, not {dtype}")
        normalization = resolve_normalization(neck, normalization, trainable=trainable)
        shared = SharedEncoder(encoder, weights=weights, features=features, dtype=dtype, sha256=sha256)
        model = shared.on("cpu")
        if is_channel_last(observation_space, model.observation_space.shape):
            raise InputError(f"frames must come channel-first, got {observation_space}; wrap them in VecTransposeImage")
        super().__init__(observation_space, features_dim if neck else model.features_dim)
        self.encoder = make_encoder(encoder, weights=weights, features=features, trainable=True) if trainable else None
        self._shared = shared
        self._scale_checked = False
        self.reads_map = reads_map(neck)
        shape = model.feature_map_shape if self.reads_map else (model.features_dim,)
        with separate_random_stream():
            self.neck = make_neck(neck, shape, features_dim, normalization=normalization, embeddings=embeddings)

    def encoder_on(self, device: torch.device | str) -> Encoder:
        """Return the encoder that reads observations on `device`: the shared frozen one there, or this network's own."""
        return self._shared.on(device) if self.encoder is None else self.encoder

    @property
    def frozen(self) -> bool:
        """Whether the encoder is the shared one, which no training changes."""
        return self.encoder is None

    def forward(self, observations: Tensor) -> Tensor:
        """Map frames (B, 4, 84, 84), scaled to [0, 1] by the policy, to (B, features_dim) float32.

        Raises:
            InputError: When the frames are not scaled, as with `normalize_images=False`.
        """
        self._check_scale(observations)
        return self.apply_neck(self.encode(observations))

    def encode(self, observations: Tensor) -> Tensor:
        """Map scaled, perhaps augmented frames (B, 4, 84, 84) to what the neck reads: their map or features, float32.

        Where the encoder is frozen, that is the same for all of an agent's networks.
        """
        encoder = self.encoder_on(observations.device)
        feature_map = encoder.map_floats(observations)
        return (feature_map if self.reads_map else encoder.pool(feature_map)).float()

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
    normalization: Normalization | None = "auto",
    embeddings: int = 1,
    features_dim: int = 512,
    net_arch: Sequence[int] | dict[str, list[int]] = (),
    features: Literal["flat", "pooled"] | None = None,
    weights: str | Path | None = None,
    trainable: bool = False,
    dtype: str | torch.dtype = "float32",
) -> dict[str, Any]:
    """Build the `policy_kwargs` that put an encoder into the `CnnPolicy` of any Stable-Baselines3 algorithm.

    They hold names, numbers and the weights' sha256, so a saved agent is small, refuses to be loaded where the encoder is
    another, and computes everywhere in the type in which it learned. The dictionary may be extended, e.g. with
    `share_features_extractor=True` for SAC. Where the encoder is found elsewhere, load an agent with
    `custom_objects={"policy_kwargs": policy_kwargs(...)}`.

    Args:
        encoder: Name, run folder or card file, as `make_encoder` takes it.
        neck: Name of what is trained between encoder and heads. `mlp`: normalization, linear layer, ReLU on the encoder's
            features. `spatial`: normalization of the feature map, learned weighted sums over its places, linear layer, ReLU.
            `spatial_mlp`: Atari-PB's neck, a learned weight for each place of the map, mean over places, LayerNorm, two linear
            layers with ReLU. None: no neck.
        normalization: Kind of normalization in `mlp` and `spatial`. `standardize`: each feature by its own mean and standard
            deviation, measured once, when training begins, and then fixed; see `fit_standardization`. `layer`: LayerNorm
            across features. None: nothing. `auto`: `standardize`, but `layer` behind a trainable encoder.
        embeddings: Number of weighted sums of each channel, at least 1, of `spatial` only.
        features_dim: Width of the neck's output.
        net_arch: Widths of hidden layers after the extractor. Stable-Baselines3 would add two if it were left out.
        features: Kind of features, `flat` or `pooled`; the card's choice by default.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        trainable: Whether the encoder is trained too.
        dtype: Type in which the frozen encoder computes wherever the agent is loaded: `float32`, `bfloat16`, or `auto` for
            bfloat16 where this machine's accelerator, or else its CPU, has it in hardware.

    Raises:
        InputError: When arguments do not fit.
        UnknownNameError: When the encoder is not registered, or the neck or normalization does not exist.
        WeightsError: When its weights cannot be found, are damaged, or do not fit.
    """
    chosen = dtype_name(resolve_dtype(dtype))
    shared = SharedEncoder(encoder, weights=weights, features=features, dtype=chosen)
    return {
        "features_extractor_class": PretrainedExtractor,
        "features_extractor_kwargs": {
            "encoder": str(find_encoder(encoder)),
            "weights": None if weights is None else resolve_source(weights),
            "sha256": shared.on("cpu").sha256,
            "features": features,
            "neck": neck,
            "normalization": resolve_normalization(neck, normalization, trainable=trainable),
            "embeddings": embeddings,
            "features_dim": features_dim,
            "trainable": trainable,
            "dtype": chosen,
        },
        "net_arch": net_arch if isinstance(net_arch, dict) else list(net_arch),
    }
