"""Observation wrappers of Gymnasium's environments, single and vectorized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.core import ActType
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import DTypeLike, NDArray

from pretrainrl.encoders import Encoder
from pretrainrl.encoders.observation_encoder import ObservationEncoder
from pretrainrl.encoders.observation_spaces import FeatureKind


class EncodeObservation(
    gymnasium.ObservationWrapper[NDArray[np.floating[Any]], ActType, NDArray[np.uint8]], RecordConstructorArgs
):
    """Replaces stacked frames by the features of a frozen encoder.

    The environment gives uint8 stacks of four gray 84x84 frames, such as
    `FrameStackObservation(AtariPreprocessing(gymnasium.make("ALE/Pong-v5", frameskip=1)), 4, padding_type="zero")`.
    The wrapper is recorded in `env.spec`, so `gymnasium.make(env.spec)` builds the wrapped environment again.

    Args:
        env: Environment with observations (4, 84, 84) uint8, or channel-last (84, 84, 4).
        encoder: Name, run folder or card file, as `make_encoder` takes it.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        features: Kind of features: `flat`, `pooled`, or `map` for the feature map itself; the card's choice by default.
        device: Device of the encoder; `auto` takes an accelerator if there is one.
        dtype: Type in which the encoder computes: `float32`, `bfloat16`, or `auto` for bfloat16 where the device has it in
            hardware. The observation space and `env.spec` say which it is.
        output_dtype: Type of the features, float32 or float16.

    Raises:
        InputError: When observations or arguments do not fit.
        UnknownNameError: When the encoder is not registered.
        WeightsError: When its weights cannot be found, are damaged, or do not fit.
    """

    def __init__(
        self,
        env: gymnasium.Env[NDArray[np.uint8], ActType],
        encoder: str | Path,
        *,
        weights: str | Path | None = None,
        features: FeatureKind | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        output_dtype: DTypeLike = np.float32,
    ) -> None:
        self._encode = ObservationEncoder(
            encoder,
            env.observation_space,
            weights=weights,
            features=features,
            device=device,
            dtype=dtype,
            output_dtype=output_dtype,
        )
        RecordConstructorArgs.__init__(self, **self._encode.arguments)
        gymnasium.ObservationWrapper.__init__(self, env)
        self.observation_space = self._encode.space  # type: ignore[assignment]  # an array's exact type is not known

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder; its `name`, `sha256` and `card` say what the features are."""
        return self._encode.encoder

    def observation(self, observation: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Encode one observation, (4, 84, 84) or (84, 84, 4) uint8, as features of `observation_space`."""
        features: NDArray[np.floating[Any]] = self._encode(observation[None])[0]
        return features


Frames = NDArray[np.uint8]
FeatureArray = NDArray[np.floating[Any]]


class VectorEncodeObservation(VectorWrapper[FeatureArray, ActType, Frames, ActType, NDArray[Any]], RecordConstructorArgs):
    """Replaces stacked frames by the features of a frozen encoder, with one forward pass a step.

    Works with every autoreset mode. Under SAME_STEP the final observations in `info["final_obs"]` are encoded in the same
    pass, whether they come as Gymnasium's array of objects or as ALE's dense array, and `info["_final_obs"]` says whose
    they are. (With `life_loss_info=True`, ale-py gives no valid final observation where only a life was lost.)

    Args:
        env: Environment whose single observations are (4, 84, 84) uint8, or channel-last (84, 84, 4).
        encoder: Name, run folder or card file, as `make_encoder` takes it.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        features: Kind of features: `flat`, `pooled`, or `map` for the feature map itself; the card's choice by default.
        device: Device of the encoder; `auto` takes an accelerator if there is one.
        dtype: Type in which the encoder computes: `float32`, `bfloat16`, or `auto` for bfloat16 where the device has it in
            hardware. The observation space and `env.spec` say which it is.
        output_dtype: Type of the features, float32 or float16.

    Raises:
        InputError: When observations or arguments do not fit.
        UnknownNameError: When the encoder is not registered.
        WeightsError: When its weights cannot be found, are damaged, or do not fit.
    """

    def __init__(
        self,
        env: VectorEnv[Frames, ActType, NDArray[Any]],
        encoder: str | Path,
        *,
        weights: str | Path | None = None,
        features: FeatureKind | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
        output_dtype: DTypeLike = np.float32,
    ) -> None:
        self._encode = ObservationEncoder(
            encoder,
            env.single_observation_space,
            weights=weights,
            features=features,
            device=device,
            dtype=dtype,
            output_dtype=output_dtype,
        )
        RecordConstructorArgs.__init__(self, **self._encode.arguments)
        VectorWrapper.__init__(self, env)
        self.single_observation_space = self._encode.space
        self.observation_space = batch_space(self._encode.space, self.num_envs)

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder; its `name`, `sha256` and `card` say what the features are."""
        return self._encode.encoder

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[FeatureArray, dict[str, Any]]:
        """Reset the environments and encode their first observations: (N, *features) and the infos."""
        frames, infos = self.env.reset(seed=seed, options=options)
        return self._encode(frames), infos

    def step(self, actions: ActType) -> tuple[FeatureArray, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Step the environments and encode what they return, final observations included."""
        frames, rewards, terminations, truncations, infos = self.env.step(actions)
        if "final_obs" not in infos:
            return self._encode(frames), rewards, terminations, truncations, infos
        ended = infos.get("_final_obs", terminations | truncations)
        finals = infos["final_obs"]
        features, final_features = self._encode.with_finals(frames, [finals[i] for i in np.flatnonzero(ended)])
        if finals.dtype == object:
            encoded = np.full(self.num_envs, None, dtype=object)
            for i, row in zip(np.flatnonzero(ended), final_features, strict=True):
                encoded[i] = row
        else:
            encoded = np.zeros_like(features)
            encoded[ended] = final_features
        return features, rewards, terminations, truncations, {**infos, "final_obs": encoded, "_final_obs": ended}
