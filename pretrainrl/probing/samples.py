"""Observations of one game with the labels that probes predict from them, and their split by episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.encoders import Encoder
from pretrainrl.errors import DatasetError, InputError

STACK = 4  # frames of an observation
RAM_BYTES = 128


@dataclass(frozen=True, eq=False)
class Samples:
    """N observations of one game; each takes 28 kB of memory. A probe takes 12 bytes more for each of its features.

    Attributes:
        game: Name of the game, as in dataset ids.
        observations: Observations, `(N, 4, 84, 84)` uint8; frames before an episode's start are zero.
        actions: Actions taken after each observation, `(N,)` int64.
        reward_signs: Signs of the rewards that followed, `(N,)` int64 in -1..1.
        ram: Console's memory at each observation, `(N, 128)` uint8; None where the data lack it.
        episodes: Number of each observation's episode, `(N,)` int64.
        times: Time of each observation in its episode, `(N,)` int64.
    """

    game: str
    observations: Tensor
    actions: Tensor
    reward_signs: Tensor
    ram: Tensor | None
    episodes: Tensor
    times: Tensor

    def __len__(self) -> int:
        """Return the number of observations, N."""
        return len(self.actions)


def take_samples(episodes: Iterable[Episode], *, every: int = 1) -> Samples:
    """Take samples from `episodes`, which are read one at a time.

    Args:
        episodes: Episodes of one game.
        every: Distance between two observations that are taken; 1 takes all.

    Raises:
        DatasetError: When there are no episodes.
        InputError: When the episodes are of several games, or `every` is not positive.
    """
    if every < 1:
        raise InputError(f"every must be at least 1, not {every}")
    games: set[str] = set()
    parts: list[dict[str, npt.NDArray[Any]]] = []
    seen = 0
    for number, episode in enumerate(episodes):
        games.add(episode.game)
        times = np.arange(-seen % every, len(episode), every)
        seen += len(episode)
        parts.append(_part(episode, times, number))
    if not games:
        raise DatasetError("there are no episodes to take samples of")
    if len(games) > 1:
        raise InputError(f"samples are of one game, not of {', '.join(sorted(games))}")

    def joined(name: str) -> Tensor:
        arrays = [part.pop(name) for part in reversed(parts)]
        whole = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), arrays[0].dtype)
        begin = 0
        while arrays:  # each is freed when it has been copied, so that nothing is in memory twice
            array = arrays.pop()
            whole[begin : (begin := begin + len(array))] = array
        return torch.from_numpy(whole)

    return Samples(
        game=games.pop(),
        observations=joined("observations"),
        actions=joined("actions"),
        reward_signs=joined("reward_signs"),
        ram=joined("ram") if all("ram" in part for part in parts) else None,
        episodes=joined("episodes"),
        times=joined("times"),
    )


def _part(episode: Episode, times: npt.NDArray[np.int64], number: int) -> dict[str, npt.NDArray[Any]]:
    """Return the samples of one episode."""
    padded = np.concatenate([np.zeros((STACK - 1, *FRAME_SHAPE), np.uint8), episode.frames])
    part: dict[str, npt.NDArray[Any]] = {
        "observations": padded[times[:, None] + np.arange(STACK)],
        "actions": episode.actions[times],
        "reward_signs": np.sign(episode.rewards[times]).astype(np.int64),
        "episodes": np.full(len(times), number),
        "times": times,
    }
    ram = episode.infos.get("ram")
    if ram is not None and ram.shape == (len(episode) + 1, RAM_BYTES):
        part["ram"] = np.asarray(ram, np.uint8)[times]
    return part


TEST_SHARE = 0.25  # greatest share of the observations on the test side
BLOCKS = 8  # number of blocks of a lone episode; the third and the seventh are for the test
GAP = 32  # number of steps between a training and a test block of one episode


@dataclass(frozen=True, eq=False)
class Split:
    """Split of samples into a training and a test side.

    Attributes:
        train: Indices of the training side in ascending order, int64.
        test: Indices of the test side, which has other episodes, in ascending order, int64.
    """

    train: Tensor
    test: Tensor


def split_episodes(episodes: Tensor, times: Tensor, *, seed: int = 0) -> Split:
    """Split samples by episode.

    Episodes are drawn in random order for the test side as long as it holds at most a quarter of the samples; if no episode
    is short enough, the shortest is taken. A lone episode is cut into eight blocks of equal time instead, and 32 steps
    between the sides are left out.

    Args:
        episodes: Number of each sample's episode, `(N,)` int64.
        times: Time of each sample in its episode, `(N,)` int64.
        seed: Seed of the order.

    Raises:
        InputError: When there are too few samples for two sides.
    """
    numbers, inverse, counts = torch.unique(episodes, return_inverse=True, return_counts=True)
    if len(numbers) < 2:
        return _blocks(times)
    left = int(TEST_SHARE * len(episodes))
    chosen = []
    for number in np.random.default_rng(seed).permutation(len(numbers)).tolist():
        if counts[number] <= left:
            chosen.append(number)
            left -= int(counts[number])
    tested = torch.isin(inverse, torch.tensor(chosen or [int(counts.argmin())]))
    return Split((~tested).nonzero().flatten(), tested.nonzero().flatten())


def _blocks(times: Tensor) -> Split:
    """Split one episode by time."""
    if not len(times):
        raise InputError("there are no observations to split")
    first, length = int(times.min()), int(times.max() - times.min()) + 1
    position = (times - first) * BLOCKS / length

    def near_test(gap: float) -> Tensor:
        """Return whether each sample lies in a test block that is widened by `gap` blocks."""
        return ((position - 2.5).abs() < 0.5 + gap) | ((position - 6.5).abs() < 0.5 + gap)

    train, test = ~near_test(GAP * BLOCKS / length), near_test(0)
    if not train.any() or not test.any():
        raise InputError(
            f"one episode of {length} steps is too short to be split in time with {GAP} steps between the sides; "
            "collect more than one episode"
        )
    return Split(train.nonzero().flatten(), test.nonzero().flatten())


CLASSES = 8
LEAST_ENTROPY = 0.6  # nats; a byte with two classes has it when the rarer one holds 29 % of the observations


def ram_classes(ram: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Turn memory into labels, whose classes depend on the training side alone.

    A byte with up to 8 values on the training side has a class for each value; a byte with more values is cut into up to 8
    ranges that are about equally frequent. Bytes whose classes have an entropy below 0.6 nats hardly vary and are left out.

    Args:
        ram: Console's memory, (N, 128) uint8.
        train: Indices of the training side, int64.

    Returns:
        Labels, (N, P) int64, which are -1 for values that the training side lacks (of bytes with a class for each value);
        and the numbers of the bytes in ascending order, (P,) int64.
    """
    histogram = torch.stack([values.bincount(minlength=256) for values in ram[train].T])  # (128, 256)
    table = _value_classes(histogram)
    counts = torch.zeros(len(table), CLASSES + 1, dtype=torch.int64).scatter_add_(1, table + 1, histogram)[:, 1:]
    entropy = torch.special.entr(counts.double() / len(train)).sum(-1)
    probed = (entropy >= LEAST_ENTROPY).nonzero().flatten()
    return table[probed].gather(1, ram[:, probed].T.long()).T, probed


def _value_classes(histogram: Tensor) -> Tensor:
    """Return the class of each value of each byte, (B, 256) int64, given how often the values occur, (B, 256)."""
    occurs = histogram > 0
    rank = occurs.cumsum(1) - 1
    few = occurs.sum(1, keepdim=True) <= CLASSES
    below = histogram.cumsum(1) - histogram
    # The middle of a value's place among all observations in order, cut into equal parts.
    middle = (2 * below + histogram) * CLASSES // (2 * histogram.sum(1, keepdim=True))
    return torch.where(few, torch.where(occurs, rank, -1), middle.clamp(max=CLASSES - 1))


BATCH = 64


@dataclass(frozen=True, eq=False)
class Encoded:
    """Features of N observations, on the encoder's device.

    Attributes:
        features: Features, (N, D) float32.
        activity: Mean absolute value of each channel of the feature map, (C,) float64.
    """

    features: Tensor
    activity: Tensor


@torch.no_grad()
def encode(encoder: Encoder, samples: Samples, progress: Callable[[int], None] | None = None) -> Encoded:
    """Encode the observations in batches, and call `progress` with the size of each."""
    features = torch.empty(len(samples), encoder.features_dim, device=encoder.device)
    activity = torch.zeros(encoder.feature_map_shape[0], dtype=torch.float64, device=encoder.device)
    for batch, rows in zip(torch.split(samples.observations, BATCH), torch.split(features, BATCH), strict=True):
        maps = encoder.feature_map(batch.to(encoder.device))
        rows.copy_(encoder.pool(maps))
        activity += maps.abs().mean((2, 3), dtype=torch.float64).sum(0)
        if progress is not None:
            progress(len(batch))
    return Encoded(features, activity / len(samples))


@torch.no_grad()
def energy_maps(encoder: Encoder, observations: Tensor) -> Tensor:
    """Return the root mean square over channels of the feature maps of (n, 4, 84, 84) observations, (n, H, W) on the CPU."""
    maps: Tensor = encoder.feature_map(observations.to(encoder.device)).float()
    return maps.square().mean(1).sqrt().cpu()


def evenly(count: int, limit: int) -> Tensor:
    """Return up to `limit` evenly spread indices of 0..count - 1."""
    if count <= limit:
        return torch.arange(count)
    return torch.arange(limit) * count // limit
