"""Augmentation of observations by `augment=True`, as their spaces say what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from pretrainrl.data.augment import intensity, random_shift
from pretrainrl.integrations.sb3.encoding.vec_encode import FeatureViews, random_view

Space = spaces.Space[Any]


def can_augment(space: Space) -> bool:
    """Return whether there is something among the observations that `augment=True` changes."""
    entries = space.values() if isinstance(space, spaces.Dict) else [space]
    return isinstance(space, FeatureViews) or any(is_image_space(each) or is_feature_map(each) for each in entries)


def is_feature_map(space: Space) -> bool:
    """Return whether observations are feature maps (C, H, W): floats without bounds, which scaled images have."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or not np.issubdtype(space.dtype, np.floating):
        return False
    return not (space.bounded_below.any() or space.bounded_above.any())


def augment_stored(obs: PyTorchObs, space: Space) -> Any:
    """Change what is stored, each sample in its own way: images are shifted, and of views an augmented one is drawn."""
    if isinstance(space, FeatureViews):
        assert isinstance(obs, Tensor)
        return random_view(obs)

    def change(each: Tensor, of: Space) -> Tensor:
        return random_shift(each) if is_image_space(of) else each

    return map_entries(change, obs, space)


def augment_preprocessed(obs: PyTorchObs, space: Space) -> Any:
    """Change what is preprocessed, each sample in its own way: images vary in intensity, feature maps are shifted."""

    def change(each: Tensor, of: Space) -> Tensor:
        if is_image_space(of):
            return intensity(each)
        return random_shift(each, pad=1) if is_feature_map(of) else each

    return map_entries(change, obs, space)


def map_entries(change: Callable[[Tensor, Space], Tensor], obs: PyTorchObs, space: Space) -> Any:
    """Apply a function to observations, and to each entry of a dictionary of them."""
    if isinstance(obs, dict):
        assert isinstance(space, spaces.Dict)
        return {key: change(value, space[key]) for key, value in obs.items()}
    return change(obs, space)
