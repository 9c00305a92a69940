"""Encode observations once, when they are made, instead of at every update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, is_vecenv_wrapped

from pretrainrl.encoders import Encoder
from pretrainrl.errors import InputError
from pretrainrl.integrations.gymnasium.observation_encoder import Features, ObservationEncoder
from pretrainrl.integrations.sb3.views import ViewEncoder

FeatureArray = NDArray[np.floating[Any]]


class VecEncodeObservation(VecEnvWrapper):
    """Replaces frames by the features of a frozen encoder, so that agents are ordinary `MlpPolicy` ones.

    There is one forward pass a step, over the observations and those that ended an episode together; replay and rollout
    buffers hold features as float16. A replayed frame costs nothing, where an extractor would encode it again. What this
    rules out is training the encoder, and augmenting frames anew whenever they are replayed: `views` augments them once,
    when they are made.

    Args:
        venv: with uint8 stacks of frames, (4, 84, 84) as `AtariVecEnv` gives or (84, 84, 4) as `VecFrameStack` does.
        encoder: name, run folder or card file, as `make_encoder` takes it.
        features: `flat`, `pooled`, or `map` for the feature map itself; the card's choice by default.
        views: k randomly shifted and brightened copies of each observation, encoded with it in one batch. Observations are
            then `FeatureViews` (1 + k, *features), the plain one first, from which `Rainbow(augment=True)` learns.
        weights: instead of the card's, as `make_encoder` takes them.
        device: where the encoder runs; `auto` takes an accelerator if there is one.
        dtype: of computation; `auto` is bfloat16 where the device has it in hardware, else float32.

    Raises:
        InputError: for observations or arguments that do not fit, or an environment that is wrapped already.
        UnknownNameError: for an encoder that is not registered.
        WeightsError: when its weights cannot be found, are damaged, or do not fit.
    """

    def __init__(
        self,
        venv: VecEnv,
        encoder: str | Path,
        *,
        features: Features | None = None,
        views: int | None = None,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> None:
        if is_vecenv_wrapped(venv, VecEncodeObservation):
            raise InputError("the environment is wrapped in VecEncodeObservation already")
        arguments: dict[str, Any] = {
            "weights": weights,
            "features": features,
            "device": device,
            "dtype": dtype,
            "output_dtype": np.float16,
        }
        encode = (
            ObservationEncoder(encoder, venv.observation_space, **arguments)
            if views is None
            else ViewEncoder(encoder, venv.observation_space, views, **arguments)
        )
        super().__init__(venv, observation_space=encode.space)
        self._encode = encode

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder; its `name`, `sha256` and `card` say what the features are."""
        return self._encode.encoder

    def encode(self, frames: NDArray[np.uint8]) -> FeatureArray:
        """Encode observations (B, ...) uint8 as the wrapped environment gives them: (B, *observation_space.shape) float16."""
        return self._encode(frames)

    def reset(self) -> FeatureArray:
        """Reset the environments and encode their first observations: (n_envs, *observation_space.shape) float16."""
        return self._encode(_frames(self.venv.reset()))

    def step_wait(self) -> tuple[FeatureArray, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Collect the step's results, with observations and each `terminal_observation` encoded."""
        observations, rewards, dones, infos = self.venv.step_wait()
        frames = _frames(observations)
        ended = [i for i in np.flatnonzero(dones).tolist() if "terminal_observation" in infos[i]]
        # After a lost life the game goes on from the very frames that ended the episode: encoding them once is enough.
        final = [i for i in ended if not np.array_equal(infos[i]["terminal_observation"], frames[i])]
        features, final_features = self._encode.with_finals(frames, [infos[i]["terminal_observation"] for i in final])
        for i in ended:
            infos[i]["terminal_observation"] = features[i]
        for i, row in zip(final, final_features, strict=True):
            infos[i]["terminal_observation"] = row
        return features, rewards, dones, infos

    def __getstate__(self) -> dict[str, Any]:
        """What pickle stores: all but what `VecEnvWrapper` keeps of its class, which cannot be pickled."""
        return {key: value for key, value in self.__dict__.items() if key != "class_attributes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what pickle stored."""
        import inspect

        self.__dict__.update(state, class_attributes=dict(inspect.getmembers(type(self))))


def _frames(observations: Any) -> NDArray[np.uint8]:
    """Observations of a Box space are an array, which SB3's types cannot say."""
    frames: NDArray[np.uint8] = observations
    return frames
