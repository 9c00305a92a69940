"""A recorded dataset becomes the experience of an off-policy agent."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game
from pretrainrl.integrations.sb3.encoding.observed import Encode, observed
from pretrainrl.integrations.sb3.envs.atari_vec_env import AtariVecEnv

if TYPE_CHECKING:
    from pretrainrl.integrations.minari import AtariDataset

Row = tuple[NDArray[Any], NDArray[Any], int, float, bool, dict[str, bool]]  # what `ReplayBuffer.add` takes, of one environment
_BATCH = 256  # stacks that are encoded together


def fill_replay_buffer(model: BaseAlgorithm, dataset: str | AtariDataset, *, clip_reward: bool | None = None) -> int:
    """Add a dataset's transitions to the replay buffer of an off-policy agent, until it is full.

    They are what the agent would have stored had it played these games in `AtariVecEnv`: stacks that begin with zero
    frames, or their features where it sees the world through `VecEncodeObservation`; the true next observation at an
    episode's end; truncations as time-outs. One difference is that datasets do not record lost lives, which end no episode
    here. Observations and rewards are stored before `VecNormalize`, which normalizes what is sampled. Transitions keep their
    order. With several environments, each one's column gets a part of the dataset of its own,
    cut where it must be, so n-step returns stay within episodes.

    A buffer with `optimize_memory_usage=True` has no place for time-outs: SB3 takes them for ends of the game there.

    Args:
        model: Agent of DQN, QRDQN or any other off-policy algorithm, on stacked frames or on features of them.
        dataset: Dataset, by its Minari id or open.
        clip_reward: Whether to store the sign of rewards instead of the rewards. By default what the agent's `AtariVecEnv`
            does; True if it has none.

    Returns:
        Transitions added: all of the dataset's, but for fewer than one for each environment, or as many as there was room.

    Raises:
        InputError: When the agent has no replay buffer or a full one, or its observations or actions are not the dataset's.
        DatasetError: When the dataset is missing or damaged.
    """
    if isinstance(dataset, str):
        from pretrainrl.integrations.minari import open_dataset

        dataset = open_dataset(dataset)
    buffer = _replay_buffer(model)
    check_actions(model, dataset)
    seen = observed(model)
    if clip_reward is None:
        atari = _atari_of(model)
        clip_reward = True if atari is None else atari.clip_reward
    source = _Source(dataset, seen.stack, seen.encode, clip_reward)
    rows = min(buffer.buffer_size - buffer.pos, source.steps // buffer.n_envs)
    if rows == 0:
        raise InputError(f"{dataset.id} has {source.steps} transitions, fewer than the agent's {buffer.n_envs} environments")
    _end_episodes(buffer)
    columns = [source.part(column * rows, rows) for column in range(buffer.n_envs)]
    for row in zip(*columns, strict=True):
        obs, next_obs, actions, rewards, dones, infos = zip(*row, strict=True)
        buffer.add(np.stack(obs), np.stack(next_obs), np.array(actions), np.array(rewards), np.array(dones), list(infos))
    return rows * buffer.n_envs


class _Source:
    """A dataset's transitions, one after the other, as an agent's environment would give them."""

    def __init__(self, dataset: AtariDataset, stack: int, encode: Encode, clip_reward: bool) -> None:
        self._dataset, self._stack, self._encode, self._clip_reward = dataset, stack, encode, clip_reward
        facts = dataset.minari.storage.get_episode_metadata(dataset.minari.episode_indices)
        self._ends = np.cumsum([int(each["total_steps"]) for each in facts])
        self.steps = int(self._ends[-1]) if len(self._ends) else 0

    def part(self, first: int, count: int) -> Iterator[Row]:
        """Yield `count` transitions from the one numbered `first` on; where that cuts an episode, it is truncated."""
        index = int(np.searchsorted(self._ends, first, side="right"))
        start = first - int(self._ends[index - 1]) if index else first
        for episode in self._dataset.after(index):
            stop = min(len(episode), start + count)
            yield from self._transitions(episode, start, stop)
            count -= stop - start
            start = 0
            if count == 0:
                return
        raise DatasetError(f"{self._dataset.id} has {count} transitions fewer than its metadata say")

    def _transitions(self, episode: Episode, start: int, stop: int) -> Iterator[Row]:
        rewards = np.sign(episode.rewards) if self._clip_reward else episode.rewards
        observations = self._observations(episode, start, stop)
        for t, (obs, next_obs) in enumerate(pairwise(observations), start):
            over = bool(episode.terminations[t])
            cut = not over and t == stop - 1
            yield obs, next_obs, int(episode.actions[t]), float(rewards[t]), over or cut, {"TimeLimit.truncated": cut}

    def _observations(self, episode: Episode, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Yield the observations at times `start` to `stop`, each made once."""
        before = np.zeros((self._stack - 1, *FRAME_SHAPE), np.uint8)
        frames = np.concatenate([before, episode.frames])
        for low in range(start, stop + 1, _BATCH):
            times = np.arange(low, min(low + _BATCH, stop + 1))
            yield from self._encode(frames[times[:, None] + np.arange(self._stack)])


class DatasetObservations:
    """A dataset's observations as an agent's environment would give them, by their numbers.

    Args:
        model: Agent on stacked frames or on features of them.
        dataset: Dataset that is open, of which some episodes may have been chosen.

    Raises:
        InputError: When the agent's observations are not the dataset's.
        DatasetError: When the dataset is damaged.
    """

    def __init__(self, model: BaseAlgorithm, dataset: AtariDataset) -> None:
        from pretrainrl.integrations.minari import cache_datasets

        self._seen = observed(model)
        cache = cache_datasets([dataset.id])
        self._sampler = WindowSampler(cache, WindowSpec(steps=1, stack=self._seen.stack), 1)
        ends = cache.lengths.cumsum(0).tolist()
        lengths = cache.lengths.tolist()
        chosen = dataset.minari.episode_indices
        self._numbers = np.concatenate([np.arange(ends[each] - lengths[each], ends[each]) for each in chosen])

    def __len__(self) -> int:
        """Return the number of observations in which an action was taken."""
        return len(self._numbers)

    def read(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the observations with the numbers `index`, (B,) int64 from 0: (B, ...) as the environment gives them."""
        stacks = self._sampler.read(torch.from_numpy(self._numbers[index])).observation()
        encoded, normalize = self._seen.encode(stacks.numpy()), self._seen.normalize
        return encoded if normalize is None else np.asarray(normalize.normalize_obs(encoded))


def _replay_buffer(model: BaseAlgorithm) -> ReplayBuffer:
    buffer = getattr(model, "replay_buffer", None)
    if not isinstance(buffer, ReplayBuffer):
        raise InputError(f"{type(model).__name__} has no replay buffer; off-policy agents such as DQN and QRDQN have one")
    if buffer.full:
        raise InputError(f"the replay buffer is full: it holds {buffer.buffer_size * buffer.n_envs} transitions already")
    return buffer


def _atari_of(model: BaseAlgorithm) -> AtariVecEnv | None:
    """Return the innermost environment of an agent if it is an `AtariVecEnv`."""
    env = model.get_env()
    innermost = None if env is None else env.unwrapped
    return innermost if isinstance(innermost, AtariVecEnv) else None


def check_actions(model: BaseAlgorithm, dataset: AtariDataset) -> None:
    """Check that the agent's actions are the game's minimal set, by which datasets count, as far as its environment can tell.

    Raises:
        InputError: When they are not.
    """
    atari = _atari_of(model)
    ours, theirs = model.action_space, Discrete(dataset.num_actions)
    if not isinstance(ours, Discrete) or (ours.n, ours.start) != (theirs.n, theirs.start):
        raise InputError(f"the agent's actions are {ours}, those of {dataset.id} are {theirs}")
    recorded = find_game(dataset.game).action_meanings
    if atari is not None and recorded != atari.get_action_meanings():
        raise InputError(
            f"the agent's actions mean {', '.join(atari.get_action_meanings())}, those of {dataset.id} {', '.join(recorded)}"
        )


def _end_episodes(buffer: ReplayBuffer) -> None:
    """Truncate the episodes under way, because what is added next does not go on with them."""
    if buffer.pos == 0:
        return
    newest = buffer.pos - 1
    if getattr(buffer, "handle_timeout_termination", False):
        buffer.timeouts[newest] = np.where(buffer.dones[newest], buffer.timeouts[newest], 1)
    buffer.dones[newest] = 1
