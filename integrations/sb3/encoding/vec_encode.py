"""Encode observations once, when they are made, instead of at every update."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from gymnasium.spaces import Space
from gymnasium.spaces.utils import flatdim
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize, is_vecenv_wrapped
from torch import Tensor

from pretrainrl.data.augment import augment
from pretrainrl.encoders import Encoder
from pretrainrl.encoders.observation_encoder import ObservationEncoder
from pretrainrl.encoders.observation_spaces import FeatureKind, FeatureSpace
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.replay.observation_store import check_discrete

FeatureArray = NDArray[np.floating[Any]]


class VecEncodeObservation(VecEnvWrapper):
    """Replaces frames by the features of a frozen encoder, so that agents are ordinary `MlpPolicy` ones.

    There is one forward pass a step, over the observations and those that ended an episode together; replay and rollout
    buffers hold features as float16. A replayed frame costs nothing, where an extractor would encode it again. What this
    rules out is training the encoder, and augmenting frames anew whenever they are replayed: `views` augments them once,
    when they are made.

    Args:
        venv: Environment with uint8 stacks of frames, (4, 84, 84) as `AtariVecEnv` gives or (84, 84, 4) as `VecFrameStack`.
        encoder: Name, run folder or card file, as `make_encoder` takes it.
        features: Kind of features: `flat`, `pooled`, or `map` for the feature map itself; the card's choice by default.
        views: Number k, at least 1, of randomly shifted and brightened copies of each observation, encoded with it in one
            batch; None for none. Observations are then `FeatureViews` (1 + k, *features), the plain one first, from which
            `Rainbow(augment=True)` learns.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        device: Device of the encoder; `auto` takes an accelerator if there is one.
        dtype: Type in which the encoder computes: `float32`, `bfloat16`, or `auto` for bfloat16 where the device has it in
            hardware. The observation space says which it is, and an agent is not loaded for features of the other.

    Raises:
        InputError: When observations, actions or arguments do not fit, or the environment is wrapped in this or in
            `VecNormalize` already.
        UnknownNameError: When the encoder is not registered.
        WeightsError: When its weights cannot be found, are damaged, or do not fit.
    """

    def __init__(
        self,
        venv: VecEnv,
        encoder: str | Path,
        *,
        features: FeatureKind | None = None,
        views: int | None = None,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "float32",
    ) -> None:
        if is_vecenv_wrapped(venv, VecEncodeObservation):
            raise InputError("the environment is wrapped in VecEncodeObservation already")
        if is_vecenv_wrapped(venv, VecNormalize):
            # Off-policy algorithms store what VecNormalize was given, wherever it is: frames where the agent sees features.
            raise InputError(
                "VecNormalize is below VecEncodeObservation: put it above, VecNormalize(VecEncodeObservation(venv))"
            )
        check_discrete(venv.action_space, "actions")
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
        """Return what pickle stores: all but what `VecEnvWrapper` keeps of its class, which cannot be pickled."""
        return {key: value for key, value in self.__dict__.items() if key != "class_attributes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what pickle stored."""
        import inspect

        self.__dict__.update(state, class_attributes=dict(inspect.getmembers(type(self))))


def _frames(observations: Any) -> NDArray[np.uint8]:
    """Return the observations, which are an array; SB3's types cannot say so."""
    frames: NDArray[np.uint8] = observations
    return frames


class FeatureViews(FeatureSpace):
    """Space of an observation's features seen in several ways, (1 + k, *features): first plain, then k times augmented.

    A type of its own, so that nothing else of that shape is taken for views.
    """

    def __init__(self, view: FeatureSpace, augmented: int) -> None:
        super().__init__((1 + augmented, *view.shape), view.dtype, view.source)


@flatdim.register(FeatureViews)
def _refuse_to_flatten(space: FeatureViews) -> NoReturn:
    # Stable-Baselines3's own extractors flatten what they are given, and would read all views as one observation.
    raise InputError(
        f"{space} holds several views of each observation: Rainbow(augment=True) learns from them, neck_policy_kwargs reads "
        "the plain one; for other extractors leave out VecEncodeObservation's views"
    )


def one_view(space: Space[Any]) -> Space[Any]:
    """Return the space of what an agent reads at a time: of one view, or the space itself where there are no views."""
    return FeatureSpace(space.shape[1:], space.dtype, space.source) if isinstance(space, FeatureViews) else space


def plain_view(observations: Any, space: Space[Any]) -> Any:
    """Return the plain view (B, *features) of views (B, 1 + k, *features), and observations of other spaces as they are."""
    return observations[:, 0] if isinstance(space, FeatureViews) else observations


def random_view(views: Tensor) -> Tensor:
    """Return one of the augmented views (B, 1 + k, *features) of each sample, drawn at random: (B, *features)."""
    chosen = torch.randint(1, views.shape[1], (len(views),), device=views.device)
    return views[torch.arange(len(views), device=views.device), chosen]


class ViewEncoder(ObservationEncoder):
    """An `ObservationEncoder` of frames and of augmented copies of them, in one batch.

    Shifts and intensities come from torch's global generator of the encoder's device.

    Args:
        encoder: Name, run folder or card file, as `make_encoder` takes it.
        frame_space: Space of one observation: uint8 stacks, channel-first or channel-last.
        views: Number of augmented copies of each observation, at least 1.
        **arguments: Further arguments of `ObservationEncoder`.

    Raises:
        InputError: When there are fewer views than one, or `ObservationEncoder` refuses its arguments.
    """

    space: FeatureViews

    def __init__(self, encoder: str | Path, frame_space: Space[Any], views: int, **arguments: Any) -> None:
        if not isinstance(views, int) or views < 1:
            raise InputError(f"views must be the number of augmented copies, at least 1, or None; got {views!r}")
        super().__init__(encoder, frame_space, **arguments)
        self._views = views
        self.space = FeatureViews(self.space, views)

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """Encode observations (B, ...) uint8, in one forward pass, as (B, 1 + views, *features) of the output's dtype."""
        stacks = self.stacks(frames)
        plain = stacks.float().div_(255)
        copies = augment(stacks.repeat_interleave(self._views, dim=0))
        batch = torch.cat([plain.unsqueeze(1), copies.view(len(stacks), self._views, *stacks.shape[1:])], dim=1)
        return self.encode_floats(batch.flatten(0, 1)).reshape(len(stacks), *self.space.shape)
