"""When an agent's standardizing necks get their statistics, and from which observations."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Dict
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor

from pretrainrl.encoders import Encoder
from pretrainrl.encoders.observation_spaces import FeatureKind, FeatureSpace, tensor_ready
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.encoding.card_statistics import MOST_OBSERVATIONS, read_statistics
from pretrainrl.integrations.sb3.encoding.extractor import PretrainedExtractor
from pretrainrl.integrations.sb3.encoding.necks import ExtractorWithNeck
from pretrainrl.integrations.sb3.encoding.observed import observed
from pretrainrl.integrations.sb3.encoding.vec_encode import one_view, plain_view
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer
from pretrainrl.networks.standardize import MIN_OBSERVATIONS

if TYPE_CHECKING:
    from pretrainrl.integrations.minari import AtariDataset

Batch = NDArray[Any] | Tensor | dict[str, Any]
Read = Callable[[NDArray[np.int64]], Any]

_BATCH = 256


def fit_standardization(model: BaseAlgorithm | BaseModel, source: Batch | Iterable[Batch] | str | AtariDataset) -> None:
    """Give an agent's necks the statistics by which they standardize features, in all of its networks.

    Without this call they are measured when training begins: by off-policy algorithms from the replay buffer, by on-policy
    ones from the first rollout, by `BehaviorCloning` from its demonstrations. From then on they are fixed.

    Args:
        model: Agent, or its policy.
        source: Observations (N, ...) as the policy gets them from its environment, N at least 32, or an iterable of such
            batches. Or, for an agent, a dataset of the game, open or by its Minari id, of which up to 10,000 observations are
            read. Or, for an agent, `"card"`: the statistics that the card of its encoder holds.

    Raises:
        InputError: When no neck of the agent standardizes, or its statistics were measured already; when observations are too
            few, not those of the policy, or have features that are not finite; or when the card holds no statistics, or those
            of other weights or features.
        DatasetError: When the dataset is missing or damaged.
        WeightsError: When the file of the card's statistics is missing or damaged.
    """
    policy = model.policy if isinstance(model, BaseAlgorithm) else model
    extractors = [each for each in _extractors(policy) if each.standardize is not None]
    if not extractors:
        raise InputError(f"no neck of this {type(model).__name__} standardizes features; see normalization='standardize'")
    if not any(each.lacks_statistics for each in extractors):
        raise InputError("the statistics of this agent's necks were measured already and stay what they are; make a new agent")
    if isinstance(source, str) or hasattr(source, "minari"):
        if not isinstance(model, BaseAlgorithm):
            raise InputError("a dataset or a card is for an agent, not for a policy, which does not know its environment")
        if source == "card":
            return _take_from_card(model)
        source = _of_dataset(model, source)
    return _fit(policy, _batches(source))


def fit_from_experience(algorithm: BaseAlgorithm) -> None:
    """Measure the statistics that an algorithm's necks lack from its replay or rollout buffer; do nothing if that is empty.

    Args:
        algorithm: Algorithm that is about to train. Up to 10,000 of its stored observations are read, evenly spaced.

    Raises:
        InputError: For fewer than 32 observations, or features that are not finite.
    """
    if not any(each.lacks_statistics for each in _extractors(algorithm.policy)):
        return
    stored = _stored(algorithm)
    if stored is None:
        return
    count, read = stored
    if count < MIN_OBSERVATIONS:
        name, waits = type(algorithm).__name__, hasattr(algorithm, "learning_starts")
        raise InputError(
            f"{name} begins to train on {count} observations, but its neck standardizes features by statistics of at least "
            f"{MIN_OBSERVATIONS}: raise {'learning_starts' if waits else 'n_steps or the number of environments'}, call "
            "fit_standardization(model, observations) before learn, or choose normalization='layer'"
        )
    _fit(algorithm.policy, (read(index) for index in evenly_spaced(count)))


def fit_for_caller(extractor: ExtractorWithNeck) -> None:
    """Call `fit_from_experience` for the algorithm that is about to train an extractor, if one of the callers is that.

    Nothing is done where the caller is no algorithm, or one that has stored nothing.
    """
    # Stable-Baselines3 gives extractors and policies no handle on their algorithm, and its callbacks are the user's to give.
    # What every algorithm calls between its first rollout and its first update is `policy.set_training_mode(True)`, which
    # comes here. Its classes are not ours to patch, so what is left is to look who called: until the statistics are measured,
    # not later.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, BaseAlgorithm) and extractor in _extractors(getattr(caller, "policy", None)):
            return fit_from_experience(caller)
        frame = frame.f_back
    return None


def evenly_spaced(count: int) -> Iterator[NDArray[np.int64]]:
    """Yield up to `MOST_OBSERVATIONS` of the numbers 0 to count - 1, evenly spaced, in batches."""
    chosen = np.linspace(0, count - 1, min(count, MOST_OBSERVATIONS)).round().astype(np.int64)
    for start in range(0, len(chosen), _BATCH):
        yield chosen[start : start + _BATCH]


def _extractors(policy: torch.nn.Module | None) -> list[ExtractorWithNeck]:
    """All extractors of a policy, each once, those of target networks included."""
    return [] if policy is None else [module for module in policy.modules() if isinstance(module, ExtractorWithNeck)]


def _fit(policy: BaseModel, batches: Iterable[Batch]) -> None:
    """Measure the statistics of one extractor from observations, and give them to all that read the same features."""
    first = next(each for each in _extractors(policy) if each.lacks_statistics)
    with torch.no_grad():
        first.fit_standardize(first.encode(_preprocessed(policy, first, batch)) for batch in batches)
    _share(policy, first)


def _take_from_card(model: BaseAlgorithm) -> None:
    """Give all extractors of the agent the statistics that the card of its encoder holds."""
    if model.get_env() is not None and observed(model).normalize is not None:
        raise InputError("the card's statistics are of raw features, but VecNormalize changes them; take norm_obs=False")
    first = next(each for each in _extractors(model.policy) if each.lacks_statistics)
    encoder, kind = _encoder_of(model, first)
    standardize = first.standardize
    assert standardize is not None
    standardize.set_statistics(*read_statistics(encoder, kind))
    _share(model.policy, first)


def _encoder_of(model: BaseAlgorithm, extractor: ExtractorWithNeck) -> tuple[Encoder, FeatureKind]:
    """Return the encoder, in the agent or in its environment, and the kind of features that the neck reads."""
    if isinstance(extractor, PretrainedExtractor):
        encoder = extractor.encoder_on(model.device)
        return encoder, "map" if extractor.reads_map else encoder.features
    wrapper, space = None if model.get_env() is None else observed(model).wrapper, extractor._observation_space
    if wrapper is None or not isinstance(space, FeatureSpace) or one_view(wrapper.observation_space) != space:
        raise InputError("neither the agent nor a VecEncodeObservation of its environment has an encoder with a card")
    return wrapper.encoder, space.source.kind


def _share(policy: BaseModel, first: ExtractorWithNeck) -> None:
    """Give the statistics of one extractor to all that read the same features and lack them."""
    for other in [each for each in _extractors(policy) if each.lacks_statistics]:
        same = first._observation_space == other._observation_space and type(first) is type(other)
        measured, empty = first.standardize, other.standardize
        assert measured is not None and empty is not None
        if same and measured.mean.shape == empty.mean.shape:
            empty.load_state_dict(measured.state_dict())


def _preprocessed(policy: BaseModel, extractor: ExtractorWithNeck, batch: Batch) -> Tensor:
    """What `extractor.encode` takes, of observations as a buffer has them.

    Raises:
        InputError: For observations that are not the policy's.
    """
    space = policy.observation_space
    if isinstance(space, Dict):
        # The extractor is a part of one that reads several entries.
        key = next((key for key, entry in space.items() if entry == extractor._observation_space), None)
        if key is None or not isinstance(batch, dict):
            raise InputError(f"no entry of the observations {space} is what the neck reads, {extractor._observation_space}")
        space, batch = space[key], batch[key]
    observations = torch.as_tensor(tensor_ready(batch) if isinstance(batch, np.ndarray) else batch, device=policy.device)
    if observations.shape[1:] != space.shape:
        raise InputError(f"expected observations (N, ...) of {space}, got shape {tuple(observations.shape)}")
    plain, of = plain_view(observations, space), one_view(space)
    preprocessed = preprocess_obs(plain, of, normalize_images=policy.normalize_images)
    assert isinstance(preprocessed, Tensor)
    return preprocessed


def _batches(observations: Any) -> Iterable[Batch]:
    """Cut an array, tensor or dictionary of them into batches; an iterable gives its own."""
    if isinstance(observations, dict):
        length = len(next(iter(observations.values())))
        return ({key: each[at : at + _BATCH] for key, each in observations.items()} for at in range(0, length, _BATCH))
    if isinstance(observations, np.ndarray | Tensor):
        return (observations[at : at + _BATCH] for at in range(0, len(observations), _BATCH))
    batches: Iterable[Batch] = observations
    return batches


def _stored(algorithm: BaseAlgorithm) -> tuple[int, Read] | None:
    """How many observations an algorithm has stored, and what reads those of some numbers as its policy is given them."""
    replay: BaseBuffer | None = getattr(algorithm, "replay_buffer", None)
    buffer: BaseBuffer | None = getattr(algorithm, "rollout_buffer", None) if replay is None else replay
    if buffer is None or buffer.size() == 0:
        return None
    read = _reader(buffer)
    # Rollouts hold what the policy saw; replay buffers, what the environment gave before `VecNormalize`.
    normalize = None if replay is None else algorithm.get_vec_normalize_env()
    if normalize is None:
        return buffer.size() * buffer.n_envs, read
    normalizing = normalize
    return buffer.size() * buffer.n_envs, lambda index: normalizing.normalize_obs(read(index))


def _reader(buffer: Any) -> Read:
    """What reads a buffer's observations by their numbers, row * n_envs + environment.

    Raises:
        InputError: For a buffer that has them in no known place.
    """
    if isinstance(buffer, CompactReplayBuffer):
        return buffer.observations_at
    arrays, shape = getattr(buffer, "observations", None), buffer.obs_shape
    if isinstance(arrays, dict):
        return lambda index: {key: array.reshape(-1, *shape[key])[index] for key, array in arrays.items()}
    if not isinstance(arrays, np.ndarray):
        raise InputError(
            f"a {type(buffer).__name__} has no array of observations to standardize features by; call "
            "fit_standardization(model, observations) before learn"
        )
    array: NDArray[Any] = arrays.reshape(-1, *shape)
    return lambda index: array[index]


def _of_dataset(model: BaseAlgorithm, dataset: Any) -> Iterator[NDArray[Any]]:
    from pretrainrl.integrations.minari import open_dataset
    from pretrainrl.integrations.sb3.replay.fill_replay_buffer import DatasetObservations

    recorded = DatasetObservations(model, open_dataset(dataset) if isinstance(dataset, str) else dataset)
    return (recorded.read(index) for index in evenly_spaced(len(recorded)))
