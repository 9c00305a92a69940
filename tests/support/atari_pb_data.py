"""Writes files as Atari-PB's build leaves them, from logs of replay buffers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from dqn_shards import Log


def write_files(
    folder: Path, logs: Mapping[int, Sequence[Sequence[Log]]], *, steps: int = 10_000, n: int = 3, discount: str = "0.99"
) -> dict[str, Path]:
    """Write the six files; returns their paths by field.

    Args:
        folder: of the files.
        logs: of each game's number, by run and then checkpoint; of equal lengths.
        steps: for the files' names.
        n: of n-step returns: as many rows are marked as terminal before and at each end.
        discount: for the files' names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        name: np.stack([[[log[name] for log in run] for run in runs] for runs in logs.values()])
        for name in ("observation", "action", "reward", "terminal")
    }
    fields["observation"] = fields["observation"][:, :, :, :, None]
    ends = fields["terminal"].astype(bool)
    for _ in range(n - 1):
        ends[..., :-1] |= ends[..., 1:]
    fields["terminal"] = ends
    fields["rtg"] = fields["reward"].astype(np.float64)
    fields["game_id"] = np.zeros(ends.shape, np.int64) + np.array(list(logs))[:, None, None, None]
    paths = {}
    for name, array in fields.items():
        paths[name] = folder / f"{name}_{steps}{'' if name == 'observation' else f'_{n}_{discount}'}.hdf5"
        replace(paths[name], array)
    return paths


def replace(path: Path, array: np.ndarray, name: str = "data") -> None:
    """Write a file with one array."""
    with h5py.File(path, "w") as file:
        file[name] = array
