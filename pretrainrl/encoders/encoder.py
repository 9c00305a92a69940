"""The encoder: a backbone, its card, and the contract between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from pretrainrl.device import dtype_name, resolve_dtype
from pretrainrl.encoders.frozen import freeze, thaw
from pretrainrl.encoders.observation_spaces import check_observation, check_range, tensor_ready
from pretrainrl.errors import InputError
from pretrainrl.forked import leave_parent_threads

if TYPE_CHECKING:
    from pretrainrl.cards import EncoderCard


class Encoder(nn.Module):
    """Turns stacked frames into features; frozen unless `trainable`.

    Frozen means: no gradient, no parameter that requires one, and eval mode whatever `train()` is told. Made by
    `pretrainrl.make_encoder`, which loads and verifies the weights.

    Args:
        backbone: Network that maps (B, C, H, W) floats in [0, 1] to a feature map.
        card: Card that says what the encoder is.
        sha256: Digest of the weights, 64 hex digits.
        dtype: Type of computation and features, torch.float32 or torch.bfloat16. float32 is exact; bfloat16 is the fast path
            on hardware that has it, and moves features by up to about 1 % of their largest value.
        features: Kind of features, `flat` or `pooled`; the card's choice by default.
        trainable: Whether gradients flow and the weights may change.
        prepared: Whether the layers of a frozen encoder are prepared for the CPU, as `make_encoder` says.

    Raises:
        InputError: When the dtype or kind of features does not exist.
    """

    def __init__(
        self,
        backbone: nn.Module,
        card: EncoderCard,
        sha256: str,
        *,
        dtype: torch.dtype = torch.float32,
        features: Literal["flat", "pooled"] | None = None,
        trainable: bool = False,
        prepared: bool = True,
    ) -> None:
        super().__init__()
        if features not in (None, "flat", "pooled"):
            raise InputError(f"features must be 'flat' or 'pooled', got {features!r}")
        self.card = card
        self.sha256 = sha256
        self.features = features or card.features
        self.trainable = trainable
        self.backbone = backbone.to(resolve_dtype(dtype)).to(memory_format=torch.channels_last)
        if trainable:
            thaw(self.backbone)
        else:
            freeze(self.backbone, prepared=prepared)
        self._range_checked = False
        self.train(trainable)

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def observation_space(self) -> Box:
        """Space of one observation: `Box(0, 255, (4, 84, 84), uint8)`."""
        return Box(0, 255, self.card.observation.shape, np.uint8)

    @property
    def feature_map_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one feature map."""
        return self.card.feature_map_shape

    @property
    def features_dim(self) -> int:
        """Length of one feature vector."""
        return int(np.prod(self.feature_map_shape)) if self.features == "flat" else self.feature_map_shape[0]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._reference.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, the computation and the features."""
        return self._reference.dtype

    @property
    def _reference(self) -> Tensor:
        return next(self.backbone.parameters())

    def feature_map(self, obs: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Map observations, (B, 4, 84, 84) uint8 or floats in [0, 1], to (B, C, H, W) of the encoder's dtype.

        uint8 frames and the same frames divided by 255 give the same result. Arrays are moved to the encoder's device.

        Raises:
            InputError: When the shape, dtype or range is wrong. On an accelerator the range is checked on the first call only,
                because the check waits for the device.
        """
        leave_parent_threads()
        if isinstance(obs, np.ndarray):
            obs = torch.as_tensor(tensor_ready(obs), device=self.device)
        check_observation(obs, self.card.observation.shape)
        if obs.dtype == torch.uint8:
            obs = obs.to(self.dtype).div_(255)  # bfloat16 has all of 0..255
        elif obs.device.type == "cpu" or not self._range_checked:
            check_range(obs)
            self._range_checked = True
        return self.map_floats(obs)

    def map_floats(self, frames: Tensor) -> Tensor:
        """Map floats (B, 4, 84, 84) as `feature_map` does, without checks: augmented frames may leave [0, 1] a little."""
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            features: Tensor = self.backbone(frames.to(dtype=self.dtype, memory_format=torch.channels_last))
        return features

    def pool(self, feature_map: Tensor) -> Tensor:
        """Reduce (B, C, H, W) maps to (B, features_dim): flattened in (C, H, W) order, or averaged over space."""
        return feature_map.flatten(1) if self.features == "flat" else feature_map.mean((2, 3))

    def forward(self, obs: Tensor | np.ndarray[Any, Any]) -> Tensor:
        """Encode observations, (B, 4, 84, 84) uint8 or floats in [0, 1], as (B, features_dim) of the encoder's dtype."""
        return self.pool(self.feature_map(obs))

    def train(self, mode: bool = True) -> Encoder:
        """Set the mode; a frozen encoder stays in eval mode."""
        return super().train(mode and self.trainable)

    def extra_repr(self) -> str:
        """Describe the encoder in `repr`."""
        state = "trainable" if self.trainable else "frozen"
        return f"{self.name!r}, {state}, features={self.features!r} ({self.features_dim}), dtype={dtype_name(self.dtype)}"
