"""What wrappers and features extractors share: from NumPy frames to NumPy features, by the process's one encoder of a name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Space
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from pretrainrl.cards import find_encoder
from pretrainrl.device import dtype_name, resolve_device, resolve_dtype
from pretrainrl.encoders import Encoder, cached_encoder
from pretrainrl.encoders.observation_spaces import (
    FeatureKind,
    FeatureSource,
    FeatureSpace,
    check_observation,
    is_channel_last,
    tensor_ready,
)
from pretrainrl.errors import InputError, WeightsError
from pretrainrl.forked import leave_parent_threads
from pretrainrl.weights import resolve_source


class ObservationEncoder:
    """Encodes batches of observations with this process's one encoder of a name.

    Copies and pickles of it do not contain the weights.

    Args:
        encoder: Name, run folder or card file, as `make_encoder` takes it.
        frame_space: Space of one observation: uint8 stacks, channel-first or channel-last.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        features: Kind of features: `flat`, `pooled`, or `map` for the feature map itself; the card's choice by default.
        device: Device of the encoder; `auto` takes an accelerator if there is one.
        dtype: Type in which the encoder computes: `float32`, `bfloat16`, or `auto` for bfloat16 where the device has it in
            hardware.
        output_dtype: Type of the features returned, float32 or float16, which saturates at its largest finite value.

    Attributes:
        space: Space of one observation's features, of `output_dtype`.
        arguments: Arguments of the constructor but the space, as JSON has them; instead of `auto`, the `dtype` that it chose.

    Raises:
        InputError: When observations or arguments do not fit.
        UnknownNameError: When the encoder is not registered.
        WeightsError: When its weights cannot be found, are damaged, or do not fit.
    """

    def __init__(
        self,
        encoder: str | Path,
        frame_space: Space[Any],
        *,
        weights: str | Path | None = None,
        features: FeatureKind | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        output_dtype: DTypeLike = np.float32,
    ) -> None:
        check_is_name(encoder)
        if np.dtype(output_dtype) not in (np.float16, np.float32):
            raise InputError(f"features are returned as float16 or float32, not {np.dtype(output_dtype)}")
        self._device = resolve_device(device)
        compute_dtype = dtype_name(resolve_dtype(dtype, self._device))
        self.arguments: dict[str, Any] = {
            "encoder": str(find_encoder(encoder)),
            "weights": None if weights is None else resolve_source(weights),
            "features": features,
            "device": str(device),
            "dtype": compute_dtype,
            "output_dtype": np.dtype(output_dtype).name,
        }
        kind = None if features == "map" else features
        self._shared = SharedEncoder(encoder, weights=weights, features=kind, dtype=compute_dtype)
        made = self.encoder
        self._channel_last = is_channel_last(frame_space, made.observation_space.shape)
        shape = made.feature_map_shape if features == "map" else (made.features_dim,)
        source = FeatureSource(made.name, made.sha256, features or made.features, compute_dtype)
        self.space = FeatureSpace(shape, output_dtype, source)

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder, which all that ask for the same one share."""
        return self._shared.on(self._device)

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Encode observations (B, ...) uint8, in one forward pass, as (B, *space.shape) of the output's dtype."""
        with torch.no_grad():
            stacks = self._channel_first(frames)
            return self._array(self.encoder.feature_map(stacks) if self._keeps_map else self.encoder(stacks))

    def stacks(self, frames: NDArray[np.uint8]) -> Tensor:
        """Put observations (B, ...) uint8, checked, on the encoder's device, as (B, 4, 84, 84) uint8."""
        stacks = torch.as_tensor(tensor_ready(self._channel_first(frames)), device=self.encoder.device)
        check_observation(stacks, self.encoder.observation_space.shape)
        return stacks

    def encode_floats(self, stacks: Tensor) -> NDArray[np.floating[Any]]:
        """Encode scaled, perhaps augmented frames (B, 4, 84, 84) as (B, *features) of the output's dtype."""
        with torch.no_grad():
            feature_map = self.encoder.map_floats(stacks)
            return self._array(feature_map if self._keeps_map else self.encoder.pool(feature_map))

    @property
    def _keeps_map(self) -> bool:
        return bool(self.arguments["features"] == "map")

    def _channel_first(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.moveaxis(frames, -1, 1) if self._channel_last else frames

    def _array(self, features: Tensor) -> NDArray[np.floating[Any]]:
        features = features.float()
        if self.space.dtype == np.float16:
            limit = torch.finfo(torch.float16).max
            features = features.clamp(-limit, limit).half()
        array: NDArray[np.floating[Any]] = features.cpu().numpy()
        return array

    def with_finals(
        self, frames: NDArray[np.uint8], finals: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Encode a step's observations and the final ones of episodes that ended in it, in one forward pass.

        Args:
            frames: Observations (N, ...) uint8.
            finals: Final observations (...) uint8.

        Returns:
            Features (N, *space.shape) of the first, and (len(finals), *space.shape) of the others.
        """
        features = self(np.concatenate([frames, np.stack(finals)]) if finals else frames)
        return features[: len(frames)], features[len(frames) :]


def definite_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Turn the type in which an agent's encoder computes into a torch dtype.

    Raises:
        InputError: When the type is `auto`, which may be another one where the agent is loaded, or does not exist.
    """
    if dtype == "auto":
        raise InputError(
            "the dtype of an agent's encoder is 'float32' or 'bfloat16' wherever the agent is loaded, and not 'auto'; "
            "policy_kwargs(encoder, dtype='auto') and VecEncodeObservation choose one of the two"
        )
    return resolve_dtype(dtype)


class SharedEncoder:
    """Refers to this process's one frozen encoder of a name, on any device.

    Not a module: an agent or environment that holds one does not contain the weights, and copying or pickling it copies the
    name and the weights' digest.

    Args:
        name: Name, run folder or card file, as `make_encoder` takes it.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        features: Kind of features, `flat` or `pooled`; the card's choice by default.
        dtype: Type in which the encoder computes on every device, `float32` or `bfloat16`; what learns from its features goes
            on in this type wherever it is loaded, so `auto` has been resolved before.
        sha256: Digest that the weights must have; by default that of the weights found first.

    Raises:
        InputError: When arguments do not fit.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        weights: str | Path | None = None,
        features: Literal["flat", "pooled"] | None = None,
        dtype: str | torch.dtype = "float32",
        sha256: str | None = None,
    ) -> None:
        check_is_name(name)
        self.name = str(name)
        self._source: dict[str, Any] = {"name": name, "weights": weights, "features": features}
        self.dtype = definite_dtype(dtype)
        self._sha256 = sha256
        self._on: dict[torch.device, Encoder] = {}

    def on(self, device: str | torch.device) -> Encoder:
        """Return the encoder on `device`.

        Raises:
            UnknownNameError: When it is not registered.
            WeightsError: When its weights cannot be found, are damaged, do not fit, or are others than they were.
        """
        leave_parent_threads()
        device = resolve_device(device)
        if device not in self._on:
            encoder = cached_encoder(**self._source, device=device, dtype=self.dtype)
            if self._sha256 not in (None, encoder.sha256):
                raise WeightsError(
                    f"encoder {encoder.name!r} has sha256 {encoder.sha256[:12]}... here, but what was saved with it was made "
                    f"with {self._sha256[:12]}...; give it the same weights"
                )
            self._sha256 = encoder.sha256
            self._on[device] = encoder
        return self._on[device]

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold: all but the encoder itself."""
        return {**self.__dict__, "_on": {}}


def check_is_name(encoder: object) -> None:
    """Check that an encoder is given by its name or path.

    Raises:
        InputError: It is given as an object.
    """
    if not isinstance(encoder, str | Path):
        raise InputError(
            f"expected an encoder's name or path, got {type(encoder).__name__}: saved agents and environments find it by name"
        )
