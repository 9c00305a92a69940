"""The local datasets: their ids, where they lie, what they hold, and whether Minari has lost any of it.

Nothing here imports Minari or torch. Minari loses data in three places without a word. Its default is to store images as JPEG.
`combine_datasets` makes a new dataset with that default, whatever the old ones were. And its arrow and parquet formats read
episodes in batches of 32,768 rows but take each batch for an episode, so that everything after a longer one is misplaced.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game
from pretrainrl.paths import resolve_path

NAMESPACE = "pretrainrl/atari"
# Stricter than Minari's own, which crashes on an id without a version.
_ID = re.compile(r"(?P<namespace>[\w-]+(?:/[\w-]+)*)/(?P<game>[A-Za-z0-9]+)-(?P<kind>[\w-]+)-v(?P<version>\d+)")


def dataset_id(game: str, kind: str = "random", version: int = 0) -> str:
    """Return the id of a dataset of `game`, e.g. `pretrainrl/atari/mspacman-random-v0`.

    Raises:
        UnknownNameError: No such game exists.
        InputError: `kind` or `version` do not make an id.
    """
    name = f"{NAMESPACE}/{find_game(game).slug}-{kind}-v{version}"
    check_id(name)
    return name


def check_id(name: str) -> tuple[str, str]:
    """Return the namespace and the game's slug of the id `name`.

    Raises:
        InputError: It is not of the form `<namespace>/<game>-<kind>-v<version>`.
        UnknownNameError: No such game exists.
    """
    match = _ID.fullmatch(name)
    if match is None or len(match["namespace"]) < 2:
        raise InputError(
            f"{name!r} is not a dataset id; ids look like {NAMESPACE}/<game>-<kind>-v<version>, "
            f"e.g. {NAMESPACE}/pong-random-v0"
        )
    return match["namespace"], find_game(match["game"]).slug


def datasets_root() -> Path:
    """Return the folder of the local datasets: `MINARI_DATASETS_PATH`, by default `~/.minari/datasets`.

    The folder is not created. Minari's own function creates it, and crashes where that is not allowed.
    """
    return resolve_path(os.environ.get("MINARI_DATASETS_PATH") or Path("~") / ".minari" / "datasets")


def local_folder(name: str) -> Path:
    """Return the folder of the local dataset `name`, whether or not it is there.

    Raises:
        InputError: The name leads out of the folder of the datasets.
    """
    if ".." in Path(name).parts or Path(name).is_absolute() or not name.isprintable():
        raise InputError(f"{name!r} is not a dataset id; ids look like {NAMESPACE}/<game>-<kind>-v<version>")
    return datasets_root() / name


def local_ids() -> list[str]:
    """Return the ids of the datasets under `datasets_root()`, sorted; `check_dataset` says whether they are whole."""
    root = datasets_root()
    folders = (folder.parent.relative_to(root) for folder in root.glob("**/data") if folder.is_dir())
    return sorted(folder.as_posix() for folder in folders if not any(part.startswith(".") for part in folder.parts))


def kind_of(name: str) -> str | None:
    """Return the kind in the id `name`, e.g. `dqn-replay`; None for an id of another form."""
    match = _ID.fullmatch(name)
    return match["kind"] if match is not None else None


LONGEST_ROWS = 32_767  # transitions of an episode, of which arrow and parquet read one observation more


@dataclass(frozen=True)
class Summary:
    """A dataset without defects, as far as its metadata tell.

    Attributes:
        id: Minari id.
        bytes: Size of its files.
        metadata: Metadata of the dataset as a whole, as they are in its file.
        episodes: Metadata of each episode, at least `total_steps` and `return`.
    """

    id: str
    bytes: int
    metadata: dict[str, Any]
    episodes: list[dict[str, Any]]

    @property
    def transitions(self) -> int:
        """Number of transitions of all episodes together."""
        return sum(int(episode["total_steps"]) for episode in self.episodes)

    @property
    def mean_return(self) -> float:
        """Mean return of the episodes, of rewards as they are stored."""
        return sum(float(episode["return"]) for episode in self.episodes) / max(1, len(self.episodes))


def check_dataset(name: str) -> Summary:
    """Check that the local dataset `name` is whole and stored without loss, without reading its frames.

    Raises:
        DatasetError: It is missing or damaged, does not hold single 84x84 frames, or was caught in one of Minari's traps; the
            message says what to do instead.
    """
    data = local_folder(name) / "data"
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
        name: Id of the dataset.
        data: Folder of its files.
        metadata: Metadata of the dataset, from its file.

    Raises:
        DatasetError: Minari has changed it; the message says what to do instead.
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
