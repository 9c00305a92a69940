"""Whether a dataset can be read: what its metadata promise, and what its files can do to whoever reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py

from pretrainrl.data.actions import ActionSet
from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.data.hdf5 import DamagedFileError, check_hdf5
from pretrainrl.errors import DatasetError
from pretrainrl.games import ALL_ACTIONS, all_minimal_actions, slug_of

MAIN_FILE = "main_data.hdf5"
LONGEST_ROWS = 32_767  # transitions of an episode, of which arrow and parquet read one observation more
_METADATA = "metadata.json"
_MOST_METADATA = 64 << 20  # bytes; the bounds of native frames take one million
_FILES = re.compile(rf"{_METADATA}|{re.escape(MAIN_FILE)}|\d+/({_METADATA}|[^.][^/]*\.(arrow|parquet))")


@dataclass(frozen=True)
class Readable:
    """What is known of a dataset that can be read.

    Attributes:
        metadata: Metadata of the dataset as a whole, as they are in its file.
        actions: Actions by which the dataset counts.
        arrow_episodes: Metadata of each episode of a dataset in arrow's or parquet's format.
    """

    metadata: dict[str, Any]
    actions: ActionSet
    arrow_episodes: Sequence[dict[str, Any]] = field(default=())


def dataset_files(data: Path) -> list[Path]:
    """Return the files in a dataset's folder that are the dataset's own, sorted, without what file managers leave there."""
    return sorted(path for path in data.rglob("*") if path.is_file() and _FILES.fullmatch(path.relative_to(data).as_posix()))


def check_readable(name: str, data: Path) -> Readable:
    """Check that the dataset in the folder `data` can be read, before Minari opens it.

    Minari would make the environment of a dataset without spaces, which runs whatever code its metadata name.

    Raises:
        DamagedFileError: A file is missing or cut short.
        DatasetError: Reading refuses the dataset; the message says why.
        OSError: A file cannot be opened.
        KeyError, TypeError, ValueError: The metadata are not Minari's.
    """
    metadata = _read_json(data / _METADATA)
    if metadata["dataset_id"] != name:
        raise DatasetError(f"{name} says that it is {metadata['dataset_id']!r}; move it to the folder of that name")
    _check_version(metadata["minari_version"])
    space = json.loads(metadata["observation_space"])
    shape, dtype = tuple(space.get("shape", ())), space.get("dtype", space["type"])
    if shape != FRAME_SHAPE or dtype != "uint8" or space["type"] != "Box":
        raise DatasetError(
            f"{name} holds {dtype} observations of shape {shape}; what is needed are lossless uint8 frames of shape "
            f"{FRAME_SHAPE}, as `pretrainrl collect` makes them"
        )
    file_format = metadata["data_format"]
    if file_format not in ("hdf5", "arrow", "parquet"):
        raise DatasetError(f"{name} is stored as {file_format!r}; what is read is hdf5, arrow or parquet")
    _refuse_jpeg(name, metadata)
    spec = json.loads(metadata["env_spec"]) if metadata.get("env_spec") is not None else None
    game = _game_of(name, metadata, spec)
    actions = _actions_of(name, game, json.loads(metadata["action_space"]), metadata.get("action_meanings"), spec)
    if file_format != "hdf5":
        return Readable(metadata, actions, _arrow_episodes(name, data, file_format))
    check_hdf5(data / MAIN_FILE)
    if not actions.is_minimal:
        with h5py.File(data / MAIN_FILE, "r") as file:
            for group in file.values():
                actions.to_minimal(group["actions"][()])
    return Readable(metadata, actions)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DamagedFileError(f"{path.name} is missing")
    if path.stat().st_size > _MOST_METADATA:
        raise DatasetError(f"{path.name} has more than {_MOST_METADATA >> 20} MB")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path.name}: {error}") from error
    if not isinstance(found, dict):
        raise TypeError(f"{path.name} holds no table")
    return found


def _check_version(written: str) -> None:
    """Check that the installed Minari reads what the version `written` wrote; it is asked where that is not the same."""
    if written == version("minari"):
        return
    from minari import supported_dataset_versions

    if written not in supported_dataset_versions:
        raise DatasetError(f"Minari {written} wrote it, which the installed Minari {version('minari')} does not read")


def _refuse_jpeg(name: str, metadata: dict[str, Any]) -> None:
    if not metadata.get("jpeg_encoding", True):
        return
    if metadata.get("combined_datasets"):
        parts = ", ".join(metadata["combined_datasets"])
        raise DatasetError(
            f"{name} holds JPEG-encoded (lossy) frames: minari.combine_datasets re-encodes lossless ones; use its parts as "
            f"they are ({parts}), or join them with pretrainrl's write_dataset()"
        )
    raise DatasetError(
        f"{name} holds JPEG-encoded (lossy) observations, Minari's default; what is needed are lossless uint8 frames of "
        "shape (84, 84): record it again with jpeg_encoding=False, or with `pretrainrl collect` or write_dataset()"
    )


def _arrow_episodes(name: str, data: Path, file_format: str) -> list[dict[str, Any]]:
    folders = sorted((path for path in data.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    episodes = [_read_json(folder / _METADATA) for folder in folders]
    long = [index for index, facts in enumerate(episodes) if facts["total_steps"] > LONGEST_ROWS]
    if long:
        raise DatasetError(
            f"{name} is stored as {file_format}, in which Minari cuts episodes of more than {LONGEST_ROWS:,} transitions "
            f"(episode {long[0]}) and misplaces all that follow; record it again with data_format='hdf5'"
        )
    return episodes


def _game_of(name: str, metadata: dict[str, Any], spec: dict[str, Any] | None) -> str:
    """Return the slug of the game, as `write_dataset` recorded it, or else from the environment's id or the dataset's."""
    found = metadata.get("game") or (spec["id"] if spec else name.rsplit("/", 1)[-1].split("-")[0])
    game = slug_of(str(found))
    if game not in all_minimal_actions():
        raise DatasetError(f"{name} is of {found!r}, which is no game that ALE plays")
    return game


def _actions_of(
    name: str, game: str, space: dict[str, Any], meanings: Sequence[str] | None, spec: dict[str, Any] | None
) -> ActionSet:
    """Return the actions by which a dataset counts."""
    if space["type"] != "Discrete" or space.get("start", 0) != 0:
        shown = {key: value for key, value in space.items() if key not in ("low", "high")}
        raise DatasetError(f"{name} has the actions {shown}; what is needed is one of {game}'s actions, counted from 0")
    count, options = int(space["n"]), (spec or {}).get("kwargs", {})
    if meanings is None and options.get("full_action_space") and count != len(ALL_ACTIONS):
        raise DatasetError(f"nobody knows what the {count} actions of {name} mean: its environment has {len(ALL_ACTIONS)}")
    return ActionSet.of(game, count, meanings)
