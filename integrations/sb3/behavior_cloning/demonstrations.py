"""Demonstrations for a policy: a dataset's observations, or their features by a frozen encoder, and the actions taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.data.feature_cache import cached_features
from pretrainrl.data.frame_cache import read_ahead
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec
from pretrainrl.encoders import Encoder
from pretrainrl.encoders.observation_spaces import FeatureKind, FeatureSpace
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.sb3.encoding.extractor import PretrainedExtractor
from pretrainrl.integrations.sb3.encoding.vec_encode import FeatureViews
from pretrainrl.integrations.sb3.envs.atari_vec_env import AtariVecEnv
from pretrainrl.integrations.sb3.replay.fill_replay_buffer import check_actions, encoding_wrapper

if TYPE_CHECKING:
    from pretrainrl.integrations.minari import AtariDataset
    from pretrainrl.integrations.sb3.behavior_cloning.behavior_cloning import BehaviorCloning
    from pretrainrl.integrations.sb3.rainbow import Rainbow

Batch = tuple[Tensor, Tensor]  # observations or features (B, ...), actions (B,) int64


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Transitions of some of a dataset's episodes.

    Attributes:
        episodes: Numbers of each episode's transitions in the dataset, (T,) int64.
        read: Function that returns observations or features, and actions, of the transitions with given numbers.
        encoded: Whether `read` returns features rather than observations.
    """

    episodes: tuple[Tensor, ...]
    read: Callable[[Tensor], Batch]
    encoded: bool

    def __len__(self) -> int:
        """Return the number of transitions."""
        return sum(map(len, self.episodes))

    def split(self, fraction: float, seed: int) -> tuple[Demonstrations, Demonstrations | None]:
        """Set about `fraction` of the episodes apart, but at least one; none where it is 0.

        Returns:
            The larger part and the one set apart.

        Raises:
            InputError: When there is no episode for each part.
        """
        if fraction == 0:
            return self, None
        count = max(1, round(fraction * len(self.episodes)))
        if count >= len(self.episodes):
            raise InputError(f"validation_fraction={fraction} leaves nothing to learn of {len(self.episodes)} episodes")
        order = np.random.default_rng(seed).permutation(len(self.episodes)).tolist()
        parts = [tuple(self.episodes[index] for index in sorted(part)) for part in (order[count:], order[:count])]
        return replace(self, episodes=parts[0]), replace(self, episodes=parts[1])

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield an epoch's batches, whose order depends on (seed, epoch) alone; the last, partial one is left out."""
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        numbers = torch.cat(self.episodes)[torch.from_numpy(order)]
        return read_ahead(self.read, [batch for batch in torch.split(numbers, batch_size) if len(batch) == batch_size])

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all transitions, in batches."""
        return read_ahead(self.read, torch.split(torch.cat(self.episodes), batch_size))


def open_demonstrations(model: BehaviorCloning, dataset: AtariDataset, *, pixels: bool, progress: bool) -> Demonstrations:
    """Open a dataset as `model` sees it.

    Args:
        model: Agent whose observations are frames or what `VecEncodeObservation` makes of them.
        dataset: Dataset, with all of its episodes or some.
        pixels: Whether to show frames, even where a frozen encoder is all that looks at them, because they will be augmented.
        progress: Whether to show progress bars where something has to be computed first.

    Raises:
        InputError: When the observations, the actions or the game are not the dataset's.
        DatasetError: When the dataset is damaged.
    """
    from pretrainrl.integrations.minari import cache_datasets

    _check_game(model, dataset)
    stack = _check_observations(model, pixels)
    cache = cache_datasets([dataset.id], progress=progress)
    sampler = WindowSampler(cache, WindowSpec(steps=1, stack=stack), 1)
    ends = cache.lengths.cumsum(0).tolist()
    episodes = [torch.arange(end - length, end) for end, length in zip(ends, cache.lengths.tolist(), strict=True)]
    chosen = tuple(episodes[index] for index in dataset.minari.episode_indices)  # not all, of one that was filtered
    _check_labels(model, dataset, int(cache.actions.max()))
    source = None if pixels else frozen_encoder(model)
    if source is None:

        def read_frames(numbers: Tensor) -> Batch:
            batch = sampler.read(numbers)
            return batch.observation(), batch.actions[:, 0]

        return Demonstrations(chosen, read_frames, encoded=False)
    features = cached_features(cache, *source, dataset=dataset.id, fingerprint=dataset.fingerprint, progress=progress)
    spans = zip(cache.starts.tolist(), cache.lengths.tolist(), strict=True)
    rows = torch.cat([torch.arange(start, start + length) for start, length in spans])
    actions = cache.actions[rows].long()
    return Demonstrations(chosen, lambda numbers: (features[numbers], actions[numbers]), encoded=True)


def frozen_encoder(model: BehaviorCloning | Rainbow) -> tuple[Encoder, FeatureKind] | None:
    """Return the frozen encoder that all observations pass first, and the kind of its features; None if there is none.

    It may be in the environment, where a `VecEncodeObservation` is the outermost to change observations, or in the policy.
    """
    wrapper, space = encoding_wrapper(model.get_env()), model.observation_space
    if wrapper is not None and isinstance(space, FeatureSpace) and wrapper.observation_space == space:
        return wrapper.encoder, space.source.kind
    extractor = model.policy.q_net.features_extractor
    if isinstance(extractor, PretrainedExtractor) and extractor.frozen:
        encoder = extractor.encoder_on(model.device)
        return encoder, "map" if extractor.reads_map else encoder.features
    return None


def _check_game(model: BehaviorCloning, dataset: AtariDataset) -> None:
    env = model.get_env()
    atari = None if env is None else env.unwrapped
    if isinstance(atari, AtariVecEnv) and atari.game.slug != dataset.game:
        raise InputError(f"the environment is {atari.game.slug}, but {dataset.id} is of {dataset.game}")
    check_actions(model, dataset)


def _check_observations(model: BehaviorCloning, pixels: bool) -> int:
    """Return how many frames an observation has."""
    space, wrapper = model.observation_space, encoding_wrapper(model.get_env())
    if wrapper is not None and space == wrapper.observation_space:
        if isinstance(space, FeatureViews):
            raise InputError("a clone learns from features without views: leave out VecEncodeObservation's views")
        if pixels:
            raise InputError("augment=True needs frames, but VecEncodeObservation has encoded them; see policy_kwargs")
        return int(wrapper.encoder.observation_space.shape[0])
    if isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[1:] == FRAME_SHAPE:
        return space.shape[0]
    raise InputError(
        f"observations are {space}; demonstrations are stacks of frames, (stack, 84, 84) uint8, or what an env in "
        "VecEncodeObservation makes of them"
    )


def _check_labels(model: BehaviorCloning, dataset: AtariDataset, greatest: int) -> None:
    if greatest >= model.action_space.n:
        raise DatasetError(f"{dataset.id} has the action {greatest}, which is not in {model.action_space}")
