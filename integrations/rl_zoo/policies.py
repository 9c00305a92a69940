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

from pretrainrl.errors import InputError, WeightsError
from pretrainrl.integrations.sb3 import neck_policy_kwargs, policy_kwargs
from pretrainrl.integrations.sb3.extractor import Neck
from pretrainrl.integrations.sb3.rainbow.policies import RainbowPolicy


class EncoderPolicy(BasePolicy):
    """What follows an encoder is a policy of Stable-Baselines3; the arguments of `policy_kwargs` are its own.

    The digest of the encoder's weights is part of its state, so loading a saved agent is refused where they are others.

    Args:
        observation_space: of stacked frames (4, 84, 84) uint8, or without `encoder`, of features.
        action_space: as the policy's.
        lr_schedule: as the policy's.
        encoder: name, run folder or card file; None where `VecEncodeObservation` has encoded what is observed.
        neck: `mlp`, `spatial_mlp` or None; without `encoder`, the observations' shape decides.
        features_dim: width of the neck's output.
        net_arch: hidden layers after the neck.
        features: `flat` or `pooled`; the card's choice by default.
        weights: instead of the card's.
        trainable: train the encoder too.
        dtype: the frozen encoder's.
        sha256: digest that the weights must have; by default those found first.
        **arguments: further ones of the policy.

    Raises:
        InputError: for arguments or observations that do not fit.
        UnknownNameError: for an encoder that is not registered.
        WeightsError: when its weights cannot be found, are damaged, do not fit, or are others than `sha256` says.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        lr_schedule: Schedule,
        *,
        encoder: str | None,
        neck: Neck | None = "mlp",
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
        own: dict[str, Any] = {
            "encoder": encoder,
            "neck": neck,
            "features_dim": features_dim,
            "net_arch": net_arch,
            "features": features,
            "weights": weights,
            "trainable": trainable,
            "dtype": dtype,
        }
        made = neck_policy_kwargs(features_dim=features_dim) if encoder is None else policy_kwargs(**own)
        made["net_arch"] = net_arch if isinstance(net_arch, dict) else list(net_arch)
        extractor = made["features_extractor_kwargs"]
        if sha256 is not None and encoder is not None:
            extractor["sha256"] = sha256
        super().__init__(observation_space, action_space, **{**made, **arguments, "lr_schedule": lr_schedule})
        self.encoder_arguments = {**own, "sha256": extractor.get("sha256")}

    def get_extra_state(self) -> Tensor:
        """The digest of the encoder's weights, (32,) uint8, or (0,) without an encoder."""
        return torch.tensor(list(bytes.fromhex(self.encoder_arguments["sha256"] or "")), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Compare with the digest of what is loaded.

        Raises:
            WeightsError: when that was made with other weights of the encoder.
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
