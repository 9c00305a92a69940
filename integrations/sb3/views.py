"""Several augmented views of each observation, encoded together with the plain one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Space
from numpy.typing import NDArray
from torch import Tensor

from pretrainrl.data.augment import augment
from pretrainrl.errors import InputError
from pretrainrl.integrations.gymnasium.feature_space import FeatureSpace
from pretrainrl.integrations.gymnasium.observation_encoder import ObservationEncoder


class FeatureViews(FeatureSpace):
    """Space of an observation's features seen in several ways, (1 + k, *features): first plain, then k times augmented.

    A type of its own, so that nothing else of that shape is taken for views.
    """

    def __init__(self, view: FeatureSpace, augmented: int) -> None:
        super().__init__((1 + augmented, *view.shape), view.dtype, view.encoder, view.sha256)


def one_view(space: Space[Any]) -> Space[Any]:
    """Space of what an agent reads at a time: of one view, or the space itself where there are none."""
    if not isinstance(space, FeatureViews):
        return space
    return FeatureSpace(space.shape[1:], space.dtype, space.encoder, space.sha256)


def plain_view(observations: Any, space: Space[Any]) -> Any:
    """The plain view (B, *features) of views (B, 1 + k, *features); observations of other spaces as they are."""
    return observations[:, 0] if isinstance(space, FeatureViews) else observations


def random_view(views: Tensor) -> Tensor:
    """One of the augmented views (B, *features) of views (B, 1 + k, *features), drawn for each sample."""
    chosen = torch.randint(1, views.shape[1], (len(views),), device=views.device)
    return views[torch.arange(len(views), device=views.device), chosen]


class ViewEncoder(ObservationEncoder):
    """An `ObservationEncoder` of frames and of augmented copies of them, in one batch.

    Shifts and intensities come from torch's global generator of the encoder's device.

    Args:
        encoder: name, run folder or card file, as `make_encoder` takes it.
        frame_space: space of one observation: uint8 stacks, channel-first or channel-last.
        views: augmented copies of each observation.
        **arguments: those of `ObservationEncoder`.

    Raises:
        InputError: for fewer views than one, and as `ObservationEncoder` does.
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
