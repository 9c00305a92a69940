"""What probes are fitted on and what they are judged by: no episode is on both sides.

Neighbouring frames are nearly the same, so a random split would let a probe answer from memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pretrainrl.errors import InputError

TEST_SHARE = 0.25  # of the observations, at most
BLOCKS = 8  # that a lone episode is cut into; the third and the seventh are for the test
GAP = 32  # steps left out between a training and a test block of one episode


@dataclass(frozen=True, eq=False)
class Split:
    """Two sets of samples.

    Attributes:
        train: indices, int64, ascending.
        test: indices, int64, ascending, of other episodes.
    """

    train: Tensor
    test: Tensor


def split_episodes(episodes: Tensor, times: Tensor, *, seed: int = 0) -> Split:
    """Split samples by episode.

    Episodes in random order go to the test side as long as it holds at most a quarter of the samples; where none fits, the
    shortest does. A lone episode is cut into eight blocks of equal time instead, with 32 steps between the sides left out.

    Args:
        episodes: `(N,)` int64, number of each sample's episode.
        times: `(N,)` int64, its time in it.
        seed: of the order.

    Raises:
        InputError: when there are too few samples for two sides.
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
    """Cut one episode in time."""
    if not len(times):
        raise InputError("there are no observations to split")
    first, length = int(times.min()), int(times.max() - times.min()) + 1
    position = (times - first) * BLOCKS / length

    def near_test(gap: float) -> Tensor:
        """Whether each sample lies in a test block, widened by `gap` blocks."""
        return ((position - 2.5).abs() < 0.5 + gap) | ((position - 6.5).abs() < 0.5 + gap)

    train, test = ~near_test(GAP * BLOCKS / length), near_test(0)
    if not train.any() or not test.any():
        raise InputError(
            f"one episode of {length} steps is too short to be split in time with {GAP} steps between the sides; "
            "collect more than one episode"
        )
    return Split(train.nonzero().flatten(), test.nonzero().flatten())
