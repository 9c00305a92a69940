"""Demonstrations for a policy: a dataset's observations, or their features by a frozen encoder, and the actions taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from pretrainrl.data.feature_cache import cached_features
from pretrainrl.data.frame_cache import read_ahead
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec
from pretrainrl.device import dtype_name
from pretrainrl.encoders import Encoder
from pretrainrl.encoders.observation_spaces import FeatureKind, FeatureSource, FeatureSpace
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.sb3.encoding.extractor import PretrainedExtractor
from pretrainrl.integrations.sb3.encoding.observed import Observed, observed
from pretrainrl.integrations.sb3.encoding.vec_encode import FeatureViews, one_view
from pretrainrl.integrations.sb3.envs.atari_vec_env import AtariVecEnv
from pretrainrl.integrations.sb3.replay.fill_replay_buffer import check_actions

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
    seen = check_environment(model)
    cache = cache_datasets([dataset.id], progress=progress)
    sampler = WindowSampler(cache, WindowSpec(steps=1, stack=seen.stack), 1)
    ends = cache.lengths.cumsum(0).tolist()
    episodes = [torch.arange(end - length, end) for end, length in zip(ends, cache.lengths.tolist(), strict=True)]
    chosen = tuple(episodes[index] for index in dataset.minari.episode_indices)  # not all, of one that was filtered
    _check_labels(model, dataset, int(cache.actions.max()))
    source = None if pixels else _frozen_encoder(model, seen)
    if source is None:

        def read_frames(numbers: Tensor) -> Batch:
            batch = sampler.read(numbers)
            return torch.from_numpy(seen.encode(batch.observation().numpy())), batch.actions[:, 0]

        return Demonstrations(chosen, read_frames, encoded=False)
    features = cached_features(cache, *source, dataset=dataset.id, fingerprint=dataset.fingerprint, progress=progress)
    spans = zip(cache.starts.tolist(), cache.lengths.tolist(), strict=True)
    rows = torch.cat([torch.arange(start, start + length) for start, length in spans])
    actions = cache.actions[rows].long()
    return Demonstrations(chosen, lambda numbers: (features[numbers], actions[numbers]), encoded=True)


def feature_source(model: BehaviorCloning | Rainbow) -> FeatureSource | None:
    """Return what the features that an agent's neck reads were made by; None where there is no frozen encoder.

    The encoder may be in the environment, where the observation space knows it, or in the policy.
    """
    space = one_view(model.observation_space)
    if isinstance(space, FeatureSpace):
        return space.source
    extractor = model.policy.q_net.features_extractor
    if isinstance(extractor, PretrainedExtractor) and extractor.frozen:
        encoder = extractor.encoder_on(model.device)
        kind: FeatureKind = "map" if extractor.reads_map else encoder.features
        return FeatureSource(encoder.name, encoder.sha256, kind, dtype_name(encoder.dtype))
    return None


def _frozen_encoder(model: BehaviorCloning, seen: Observed) -> tuple[Encoder, FeatureKind] | None:
    """Return the frozen encoder that all observations pass first, and the kind of its features; None if there is none."""
    source = feature_source(model)
    if source is None:
        return None
    if seen.wrapper is not None:
        return seen.wrapper.encoder, source.kind
    extractor = model.policy.q_net.features_extractor
    assert isinstance(extractor, PretrainedExtractor)
    return extractor.encoder_on(model.device), source.kind


def check_environment(model: BehaviorCloning, env: VecEnv | None = None) -> Observed:
    """Check that the agent can be shown a dataset as it sees its environment, or the one that it is to get, and return how.

    Raises:
        InputError: When it cannot, because of its observations or of a wrapper of its environment.
    """
    seen = observed(model, env)
    if seen.normalize is not None:
        raise InputError(
            "behavior cloning cannot learn in VecNormalize: it never plays, so nothing measures the statistics that it would "
            "see observations by; take norm_obs=False, and a neck that standardizes features, as neck_policy_kwargs makes it"
        )
    if isinstance(model.observation_space, FeatureViews):
        raise InputError("a clone learns from features without views: leave out VecEncodeObservation's views")
    if model.augment and seen.wrapper is not None:
        raise InputError("augment=True needs frames, but VecEncodeObservation has encoded them; see policy_kwargs")
    return seen


def _check_game(model: BehaviorCloning, dataset: AtariDataset) -> None:
    env = model.get_env()
    atari = None if env is None else env.unwrapped
    if isinstance(atari, AtariVecEnv) and atari.game.slug != dataset.game:
        raise InputError(f"the environment is {atari.game.slug}, but {dataset.id} is of {dataset.game}")
    check_actions(model, dataset)


def _check_labels(model: BehaviorCloning, dataset: AtariDataset, greatest: int) -> None:
    if greatest >= model.action_space.n:
        raise DatasetError(f"{dataset.id} has the action {greatest}, which is not in {model.action_space}")
