"""Observations for probes, taken from Minari datasets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from pretrainrl.errors import InputError
from pretrainrl.integrations.minari.read import AtariDataset, open_dataset
from pretrainrl.probing import Samples, take_samples


def read_samples(names: Sequence[str], *, limit: int = 8000) -> list[Samples]:
    """Take up to `limit` observations of each game, evenly spread over the datasets `names`, for `pretrainrl.probing.probe`.

    Args:
        names: Minari ids; several may be of the same game.
        limit: of each game; an observation takes 28 kB of memory.

    Raises:
        InputError: when no dataset is named, or `limit` is not positive.
        DatasetError: as `open_dataset`.
    """
    if not names or limit < 1:
        raise InputError(f"name at least one dataset and a limit of at least 1, not {list(names)} and {limit}")
    by_game: dict[str, list[AtariDataset]] = {}
    for name in dict.fromkeys(names):
        dataset = open_dataset(name)
        by_game.setdefault(dataset.game, []).append(dataset)
    return [_of_one_game(datasets, limit) for datasets in by_game.values()]


def _of_one_game(datasets: Sequence[AtariDataset], limit: int) -> Samples:
    steps = sum(int(dataset.minari.total_steps) for dataset in datasets)
    return take_samples(chain.from_iterable(datasets), every=-(-steps // limit))
