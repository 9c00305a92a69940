"""What a local dataset holds, and whether Minari has lost any of it; imports neither Minari nor torch.

Minari loses data in three places without a word. Its default is to store images as JPEG. `combine_datasets` makes a new
dataset with that default, whatever the old ones were. And its arrow and parquet formats read episodes in batches of
32,768 rows but take each batch for an episode, so that all that follows a longer one is misplaced.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pretrainrl.errors import DatasetError
from pretrainrl.integrations.minari.metadata import datasets_root

LONGEST_ROWS = 32_767  # transitions of an episode, of which arrow and parquet read one observation more


@dataclass(frozen=True)
class Summary:
    """A dataset without defects, as far as its metadata tell.

    Attributes:
        id: Minari's id.
        bytes: of its files.
        metadata: of the dataset as a whole, as it is in its file.
        episodes: metadata of each episode, at least `total_steps` and `return`.
    """

    id: str
    bytes: int
    metadata: dict[str, Any]
    episodes: list[dict[str, Any]]

    @property
    def transitions(self) -> int:
        """In all episodes together."""
        return sum(int(episode["total_steps"]) for episode in self.episodes)

    @property
    def mean_return(self) -> float:
        """Over the episodes, of rewards as they are stored."""
        return sum(float(episode["return"]) for episode in self.episodes) / max(1, len(self.episodes))


def check_dataset(name: str) -> Summary:
    """Check that the local dataset `name` is whole and stored without loss, without reading its frames.

    Raises:
        DatasetError: when it is missing or damaged, does not hold single 84x84 frames, or was caught in one of Minari's
            traps; says what to do instead.
    """
    data = datasets_root() / name / "data"
    try:
        metadata = json.loads((data / "metadata.json").read_text(encoding="utf-8"))
        if metadata["dataset_id"] != name:
            raise DatasetError(f"{name} says that it is {metadata['dataset_id']!r}; move it to the folder of that name")
        shape = tuple(json.loads(metadata["observation_space"]).get("shape", ()))
        if shape != (84, 84):
            raise DatasetError(f"{name} holds observations of shape {shape}, not single frames of shape (84, 84)")
        refuse_lossy(name, data, metadata)
        episodes = _EPISODES[metadata["data_format"]](data)
        size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
        summary = Summary(name, size, metadata, episodes)
        found, promised = (len(episodes), summary.transitions), (metadata["total_episodes"], metadata["total_steps"])
        if found != promised:
            raise damaged(name, f"{found[0]} episodes of {found[1]} transitions, not {promised[0]} of {promised[1]}")
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise damaged(name, error) from error
    return summary


def refuse_lossy(name: str, data: Path, metadata: dict[str, Any]) -> None:
    """Refuse a dataset whose content Minari has changed.

    Args:
        name: its id.
        data: folder of its files.
        metadata: of the dataset, from its file.

    Raises:
        DatasetError: with what to do instead.
    """
    if metadata.get("jpeg_encoding", True) and metadata.get("combined_datasets"):
        parts = ", ".join(metadata["combined_datasets"])
        raise DatasetError(
            f"{name} holds JPEG-encoded (lossy) frames: minari.combine_datasets re-encodes lossless ones; delete it and "
            f"use its parts as they are ({parts}), or join them with pretrainrl's write_dataset()"
        )
    if metadata.get("jpeg_encoding", True):
        raise DatasetError(
            f"{name} holds JPEG-encoded (lossy) observations, Minari's default; what is needed are lossless uint8 frames of "
            "shape (84, 84): record it again with jpeg_encoding=False, or with `pretrainrl collect` or write_dataset()"
        )
    if metadata.get("data_format") in ("arrow", "parquet"):
        long = [index for index, facts in enumerate(_arrow_episodes(data)) if facts["total_steps"] > LONGEST_ROWS]
        if long:
            raise DatasetError(
                f"{name} is stored as {metadata['data_format']}, in which Minari cuts episodes of more than {LONGEST_ROWS:,} "
                f"transitions (episode {long[0]}) and misplaces all that follow; record it again with data_format='hdf5'"
            )


def damaged(name: str, reason: object) -> DatasetError:
    """Return the error for a dataset that cannot be read."""
    path = datasets_root() / name
    return DatasetError(f"dataset {name} cannot be read ({reason}); delete {path} and collect or download it again")


def _hdf5_episodes(data: Path) -> list[dict[str, Any]]:
    with h5py.File(data / "main_data.hdf5", "r") as file:
        return [_facts(file[f"episode_{index}"]) for index in range(len(file))]


def _facts(group: h5py.Group) -> dict[str, Any]:
    facts = {key: value.item() if isinstance(value, np.generic) else value for key, value in group.attrs.items()}
    if "return" not in facts:  # plain Minari, which may have appended this one, does not record it
        facts["return"] = float(group["rewards"][()].sum())
    return facts


def _arrow_episodes(data: Path) -> list[dict[str, Any]]:
    folders = sorted((path for path in data.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    return [{"return": math.nan, **json.loads((folder / "metadata.json").read_text())} for folder in folders]


_EPISODES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "hdf5": _hdf5_episodes,
    "arrow": _arrow_episodes,
    "parquet": _arrow_episodes,
}
