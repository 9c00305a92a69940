"""Dataset ids, and the datasets on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pretrainrl.errors import InputError
from pretrainrl.games import find_game

NAMESPACE = "pretrainrl/atari"
# Stricter than Minari's own, which crashes on an id without a version.
_ID = re.compile(r"(?P<namespace>[\w-]+(?:/[\w-]+)*)/(?P<game>[A-Za-z0-9]+)-(?P<kind>[\w-]+)-v(?P<version>\d+)")


def dataset_id(game: str, kind: str = "random", version: int = 0) -> str:
    """Return the id of a dataset of `game`, e.g. `pretrainrl/atari/mspacman-random-v0`.

    Raises:
        UnknownNameError: when no such game exists.
        InputError: when `kind` or `version` do not make an id.
    """
    name = f"{NAMESPACE}/{find_game(game).slug}-{kind}-v{version}"
    check_id(name)
    return name


def check_id(name: str) -> tuple[str, str]:
    """Return the namespace and the game's slug of the id `name`.

    Raises:
        InputError: when it is not of the form `<namespace>/<game>-<kind>-v<version>`.
        UnknownNameError: when no such game exists.
    """
    match = _ID.fullmatch(name)
    if match is None or len(match["namespace"]) < 2:
        raise InputError(
            f"{name!r} is not a dataset id; ids look like {NAMESPACE}/<game>-<kind>-v<version>, "
            f"e.g. {NAMESPACE}/pong-random-v0"
        )
    return match["namespace"], find_game(match["game"]).slug


def datasets_root() -> Path:
    """Folder of the local datasets: `MINARI_DATASETS_PATH`, by default `~/.minari/datasets`; not created.

    Minari's own function creates it, and crashes where that is not allowed.
    """
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root) if root is not None else Path.home() / ".minari" / "datasets"


def local_ids() -> list[str]:
    """Ids of the datasets under `datasets_root()`, sorted; whether they are whole is for `check_dataset` to say."""
    root = datasets_root()
    folders = (folder.parent.relative_to(root) for folder in root.glob("**/data") if folder.is_dir())
    return sorted(folder.as_posix() for folder in folders if not any(part.startswith(".") for part in folder.parts))


def kind_of(name: str) -> str | None:
    """Kind in the id `name`, e.g. `dqn-replay`; None for an id of another form."""
    match = _ID.fullmatch(name)
    return match["kind"] if match is not None else None
