"""What a local dataset holds, and whether Minari has lost any of it; imports neither Minari nor torch.

Minari loses data in three places without a word. Its default is to store images as JPEG. `combine_datasets` makes a new
dataset with that default, whatever the old ones were. And its arrow and parquet formats read episodes in batches of
32,768 rows but take each batch for an episode, so that all that follows a longer one is misplaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py

from pretrainrl.errors import DatasetError
from pretrainrl.integrations.minari.ids import datasets_root

LONGEST_ROWS = 32_767  # transitions of an episode, of which arrow and parquet read one observation more


@dataclass(frozen=True)
class Summary:
    """A dataset without defects, as far as its metadata tell.

    Attributes:
        id: Minari's id.
        bytes: of its files.
        transitions: in it.
        episodes: in it.
        mean_return: over its episodes, of rewards as they are stored.
        metadata: of the dataset as a whole, as it is in its file.
    """

    id: str
    bytes: int
    transitions: int
    episodes: int
    mean_return: float
    metadata: dict[str, Any]


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
        steps, returns = [steps for steps, _ in episodes], [value for _, value in episodes]
        promised = metadata["total_episodes"], metadata["total_steps"]
        if (len(steps), sum(steps)) != promised:
            raise damaged(
                name, f"{len(steps)} episodes of {sum(steps)} transitions in place of {promised[0]} of {promised[1]}"
            )
        mean_return = sum(returns) / max(1, len(returns))
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise damaged(name, error) from error
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    return Summary(name, size, sum(steps), len(steps), mean_return, metadata)


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
            f"use its parts as they are ({parts}), or join them with pretrainrl's publish()"
        )
    if metadata.get("jpeg_encoding", True):
        raise DatasetError(
            f"{name} holds JPEG-encoded (lossy) observations, Minari's default; what is needed are lossless uint8 frames of "
            "shape (84, 84): record it again with jpeg_encoding=False, or with `pretrainrl collect` or publish()"
        )
    if metadata.get("data_format") in ("arrow", "parquet"):
        long = [index for index, (steps, _) in enumerate(_arrow_episodes(data)) if steps > LONGEST_ROWS]
        if long:
            raise DatasetError(
                f"{name} is stored as {metadata['data_format']}, in which Minari cuts episodes of more than {LONGEST_ROWS:,} "
                f"transitions (episode {long[0]}) and misplaces all that follow; record it again with data_format='hdf5'"
            )


def damaged(name: str, reason: object) -> DatasetError:
    """Return the error for a dataset that cannot be read."""
    path = datasets_root() / name
    return DatasetError(f"dataset {name} cannot be read ({reason}); delete {path} and collect or download it again")


def _hdf5_episodes(data: Path) -> list[tuple[int, float]]:
    """Length and return of every episode."""
    with h5py.File(data / "main_data.hdf5", "r") as file:
        groups = [file[f"episode_{index}"] for index in range(len(file))]
        return [(int(group.attrs["total_steps"]), _return_of(group)) for group in groups]


def _return_of(group: h5py.Group) -> float:
    # What plain Minari appended says nothing of its return.
    return float(group.attrs["return"]) if "return" in group.attrs else float(group["rewards"][()].sum())


def _arrow_episodes(data: Path) -> list[tuple[int, float]]:
    """Length and return of every episode; NaN where it is not said."""
    folders = sorted((path for path in data.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    facts = [cast("dict[str, Any]", json.loads((folder / "metadata.json").read_text())) for folder in folders]
    return [(int(each["total_steps"]), float(each.get("return", "nan"))) for each in facts]


_EPISODES: dict[str, Callable[[Path], list[tuple[int, float]]]] = {
    "hdf5": _hdf5_episodes,
    "arrow": _arrow_episodes,
    "parquet": _arrow_episodes,
}
