"""Policies that take an encoder's name, for settings that cannot hold Python classes, such as the zoo's YAML files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from gymnasium.spaces import Space
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from pretrainrl.encoders.observation_encoder import definite_dtype
from pretrainrl.errors import InputError, WeightsError
from pretrainrl.integrations.sb3 import neck_policy_kwargs, policy_kwargs
from pretrainrl.integrations.sb3.rainbow.policies import RainbowPolicy
from pretrainrl.networks.necks import Neck, Normalization


class EncoderPolicy(BasePolicy):
    """A policy of Stable-Baselines3 behind an encoder, which takes the arguments of `policy_kwargs` as its own.

    The digest of the encoder's weights is part of its state, so loading a saved agent is refused where they are others.

    Args:
        observation_space: Space of stacked frames (4, 84, 84) uint8, or without `encoder`, of features.
        action_space: Space of actions, as the policy takes it.
        lr_schedule: Learning rate, as the policy takes it.
        encoder: Name, run folder or card file; None where `VecEncodeObservation` has encoded what is observed.
        neck: Name of the neck: `mlp`, `spatial`, `spatial_mlp` or None. Those on maps, without `encoder`, need observations
            of `features="map"`.
        normalization: Kind of normalization: `standardize`, `layer`, None or `auto`.
        embeddings: Number of weighted sums of each channel, of `spatial` only.
        features_dim: Width of the neck's output.
        net_arch: Widths of hidden layers after the neck.
        features: Kind of features, `flat` or `pooled`; the card's choice by default.
        weights: Weights instead of the card's.
        trainable: Whether the encoder is trained too.
        dtype: Type in which the frozen encoder computes wherever the agent is loaded, `float32` or `bfloat16`.
        sha256: Digest that the weights must have; by default those found first.
        **arguments: Further arguments of the policy.

    Raises:
        InputError: When arguments or observations do not fit.
        UnknownNameError: When the encoder is not registered, or the neck or normalization does not exist.
        WeightsError: When its weights cannot be found, are damaged, do not fit, or are others than `sha256` says.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        lr_schedule: Schedule,
        *,
        encoder: str | None,
        neck: Neck | None = "mlp",
        normalization: Normalization | None = "auto",
        embeddings: int = 1,
        features_dim: int = 512,
        net_arch: Sequence[int] | dict[str, list[int]] = (),
        features: Literal["flat", "pooled"] | None = None,
        weights: str | None = None,
        trainable: bool = False,
        dtype: str = "float32",
        sha256: str | None = None,
        **arguments: Any,
    ) -> None:
        if taken := arguments.keys() & {"features_extractor_class", "features_extractor_kwargs"}:
            raise InputError(f"{type(self).__name__} makes its extractor from encoder=, neck=, ...; leave out {sorted(taken)}")
        definite_dtype(dtype)
        of_neck: dict[str, Any] = {
            "neck": neck,
            "normalization": normalization,
            "embeddings": embeddings,
            "features_dim": features_dim,
            "net_arch": net_arch,
        }
        own = {
            "encoder": encoder,
            **of_neck,
            "features": features,
            "weights": weights,
            "trainable": trainable,
            "dtype": dtype,
        }
        made = neck_policy_kwargs(**of_neck) if encoder is None else policy_kwargs(**own)
        extractor = made["features_extractor_kwargs"]
        own["normalization"] = extractor["normalization"]
        if sha256 is not None and encoder is not None:
            extractor["sha256"] = sha256
        super().__init__(observation_space, action_space, **{**made, **arguments, "lr_schedule": lr_schedule})
        self.encoder_arguments = {**own, "sha256": extractor.get("sha256")}

    def get_extra_state(self) -> Tensor:
        """Return the digest of the encoder's weights, (32,) uint8, or (0,) without an encoder."""
        return torch.tensor(list(bytes.fromhex(self.encoder_arguments["sha256"] or "")), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare the digest of the encoder's weights with that of what is loaded.

        Raises:
            WeightsError: When that was made with other weights of the encoder.
        """
        here, saved = (bytes(each.tolist()).hex() for each in (self.get_extra_state(), state.cpu()))
        if here != saved:
            raise WeightsError(
                f"encoder {self.encoder_arguments['encoder']!r} has sha256 {here[:12]}... here, but what was saved with it "
                f"was made with {saved[:12]}...; give it the same weights"
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        made = ("features_extractor_class", "features_extractor_kwargs")
        return {**{key: value for key, value in parameters.items() if key not in made}, **self.encoder_arguments}


class DQNEncoderPolicy(EncoderPolicy, DQNPolicy):
    """`EncoderPolicy` for DQN."""


class QRDQNEncoderPolicy(EncoderPolicy, QRDQNPolicy):
    """`EncoderPolicy` for QR-DQN."""


class ActorCriticEncoderPolicy(EncoderPolicy, ActorCriticPolicy):
    """`EncoderPolicy` for PPO, A2C and TRPO."""


class RainbowEncoderPolicy(EncoderPolicy, RainbowPolicy):
    """`EncoderPolicy` for Rainbow."""


ENCODER_POLICIES: dict[str, type[EncoderPolicy]] = {
    cls.__name__: cls for cls in (ActorCriticEncoderPolicy, DQNEncoderPolicy, QRDQNEncoderPolicy, RainbowEncoderPolicy)
}
