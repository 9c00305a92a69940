"""Observations of one game with everything that probes predict from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.errors import DatasetError, InputError

STACK = 4  # frames of an observation
RAM_BYTES = 128


@dataclass(frozen=True, eq=False)
class Samples:
    """N observations of one game; an observation takes 28 kB.

    Attributes:
        game: slug.
        observations: `(N, 4, 84, 84)` uint8, the frames before an episode's start zero.
        actions: `(N,)` int64, taken after each observation.
        reward_signs: `(N,)` int64 in -1..1, of the reward that followed.
        ram: `(N, 128)` uint8, the console's memory at each observation; None where the data lack it.
        episodes: `(N,)` int64, number of the episode each is from.
        times: `(N,)` int64, time in it.
    """

    game: str
    observations: Tensor
    actions: Tensor
    reward_signs: Tensor
    ram: Tensor | None
    episodes: Tensor
    times: Tensor

    def __len__(self) -> int:
        """Observations, N."""
        return len(self.actions)


def take_samples(episodes: Iterable[Episode], *, every: int = 1) -> Samples:
    """Take one in `every` observations of `episodes`, which are read one at a time.

    Raises:
        DatasetError: when there are no episodes.
        InputError: when they are of several games, or `every` is not positive.
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
        return torch.from_numpy(np.concatenate([part[name] for part in parts]))

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
    """What one episode adds."""
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
