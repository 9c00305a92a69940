"""The local datasets: their ids, where they lie, what they hold, and whether it can be read.

Nothing here imports torch, or Minari if it can be helped. Minari loses data in three places without a word. Its default is to
store images as JPEG. `combine_datasets` makes a new dataset with that default, whatever the old ones were. And its arrow and
parquet formats read episodes in batches of 32,768 rows but take each batch for an episode, so that everything after a longer
one is misplaced.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pretrainrl.data.hdf5 import DamagedFileError
from pretrainrl.errors import DatasetError, InputError, PretrainRLError
from pretrainrl.games import find_game
from pretrainrl.integrations.minari.readable import MAIN_FILE, Readable, check_readable, dataset_files
from pretrainrl.paths import resolve_path
from pretrainrl.runs.lock import lock_path, locked

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


_ASIDE = ".replaced"


def dataset_folder(name: str) -> Path:
    """Return the folder of the local dataset `name`, which need not exist, and bring back what was set aside there.

    Raises:
        InputError: The name leads out of the folder of the datasets.
    """
    if ".." in Path(name).parts or Path(name).is_absolute() or not name.isprintable():
        raise InputError(f"{name!r} is not a dataset id; ids look like {NAMESPACE}/<game>-<kind>-v<version>")
    folder = datasets_root() / name
    restore(folder)
    return folder


def aside_of(folder: Path) -> Path:
    """Return the hidden folder to which a dataset is moved while another one takes its place."""
    return folder.with_name(f".{folder.name}{_ASIDE}")


def restore(folder: Path) -> None:
    """Bring back the dataset that a process set aside, if it was killed before another one was in its place."""
    aside = aside_of(folder)
    if aside.exists() and not folder.exists():
        with locked(lock_path(folder)):
            if aside.exists() and not folder.exists():
                aside.rename(folder)


def local_ids() -> list[str]:
    """Return the ids of the datasets under `datasets_root()`, sorted; `check_dataset` says whether they are whole."""
    root = datasets_root()
    for aside in root.glob(f"**/.*{_ASIDE}"):
        restore(aside.with_name(aside.name[1 : -len(_ASIDE)]))
    folders = (folder.parent.relative_to(root) for folder in root.glob("**/data") if folder.is_dir())
    return sorted(folder.as_posix() for folder in folders if not any(part.startswith(".") for part in folder.parts))


def kind_of(name: str) -> str | None:
    """Return the kind in the id `name`, e.g. `dqn-replay`; None for an id of another form."""
    match = _ID.fullmatch(name)
    return match["kind"] if match is not None else None


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
        return sum(episode["total_steps"] for episode in self.episodes)

    @property
    def mean_return(self) -> float:
        """Mean return of the episodes, of rewards as they are stored."""
        return float(sum(episode["return"] for episode in self.episodes)) / max(1, len(self.episodes))


def check_dataset(name: str) -> Summary:
    """Check that the local dataset `name` is whole and can be read, without reading the frames of what was written here.

    Raises:
        DatasetError: It is missing or damaged, or reading refuses it, for example because its frames have another shape, its
            actions other meanings, or Minari has changed them; the message says what to do instead.
    """
    data = dataset_folder(name) / "data"
    with read_errors(name):
        readable = check_readable(name, data)
        metadata = readable.metadata
        episodes = _EPISODES[metadata["data_format"]](data, readable)
        size = sum(path.stat().st_size for path in dataset_files(data))
        summary = Summary(name, size, metadata, episodes)
        found, promised = (len(episodes), summary.transitions), (metadata["total_episodes"], metadata["total_steps"])
        if found != promised:
            raise ValueError(f"{found[0]} episodes of {found[1]} transitions, not {promised[0]} of {promised[1]}")
    return summary


@contextmanager
def read_errors(name: str) -> Iterator[None]:
    """Turn what reading a dataset raises, of whatever kind, into a `DatasetError` that names it.

    It advises to delete the dataset only where it is certainly damaged, and not where another program may be writing it.
    """
    try:
        yield
    except DamagedFileError as error:
        path = datasets_root() / name
        raise DatasetError(
            f"dataset {name} cannot be read ({error}); if no program is writing it, delete {path} and collect or download it "
            "again"
        ) from error
    except PretrainRLError as error:
        if isinstance(error, DatasetError) and name in str(error):
            raise
        raise DatasetError(f"dataset {name} cannot be read ({error})") from error
    except MemoryError as error:
        raise DatasetError(f"dataset {name} cannot be read (an episode takes more memory than there is)") from error
    except Exception as error:  # of h5py, pyarrow and Minari, which have none of their own
        raise DatasetError(f"dataset {name} cannot be read ({error or type(error).__name__})") from error


def _hdf5_episodes(data: Path, readable: Readable) -> list[dict[str, Any]]:
    with h5py.File(data / MAIN_FILE, "r") as file:
        return [_facts(file[f"episode_{index}"], readable) for index in range(len(file))]


def _facts(group: h5py.Group, readable: Readable) -> dict[str, Any]:
    facts = {key: value.item() if isinstance(value, np.generic) else value for key, value in group.attrs.items()}
    if "return" not in facts:  # plain Minari, which may have appended this one, does not record it
        facts["return"] = group["rewards"][()].sum()
    facts = _numbers(facts)
    if "content_sha256" not in readable.metadata:  # of others
        steps = facts["total_steps"]
        expected = {"observations": (steps + 1, 84, 84), **dict.fromkeys(("actions", "rewards", *_ENDS), (steps,))}
        for key, shape in expected.items():
            if group[key].shape != shape:
                raise ValueError(f"{key} of {group.name} have the shape {group[key].shape} instead of {shape}")
        readable.actions.to_minimal(group["actions"][()])
    return facts


def _arrow_episodes(data: Path, readable: Readable) -> list[dict[str, Any]]:
    return [_numbers({"return": math.nan, **facts}) for facts in readable.arrow_episodes]


def _numbers(facts: dict[str, Any]) -> dict[str, Any]:
    """Return an episode's facts with its length and its return as numbers."""
    return {**facts, "total_steps": int(facts["total_steps"]), "return": float(facts["return"])}


_ENDS = ("terminations", "truncations")
_EPISODES: dict[str, Callable[[Path, Readable], list[dict[str, Any]]]] = {
    "hdf5": _hdf5_episodes,
    "arrow": _arrow_episodes,
    "parquet": _arrow_episodes,
}
