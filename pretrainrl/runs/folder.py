"""The folder of a long run: what was asked for, what is asked now, and who is working in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic

from pretrainrl.card_files import CardT
from pretrainrl.errors import CardError, InputError, PretrainRLError
from pretrainrl.paths import is_leftover, output_folder, remove_leftovers, writable_folder
from pretrainrl.runs.lock import exclusive

CONFIG, LOCK = "config.toml", ".lock"


class RunFolder(Generic[CardT]):
    """A folder for one run, which keeps the run's settings in `config.toml` and a lock while a process works in it.

    Args:
        path: Folder of the run.
        kind: Class of the card that holds the settings.
        resume: Whether the run may have begun.

    Attributes:
        path: Folder of the run.
        before: Settings of the run that has begun here; None where none has.

    Raises:
        InputError: The folder is not empty and `resume` is not set, or it holds something else.
    """

    def __init__(self, path: Path, kind: type[CardT], *, resume: bool) -> None:
        self.path = path
        self.before: CardT | None = None
        output_folder(path)
        if _is_occupied(path):
            if not resume:
                raise _occupied_error(path)
            try:
                self.before = kind.read(path / CONFIG)
            except CardError as error:
                raise InputError(f"{path} holds no run to go on with: {error}") from error

    def check(self, asked: CardT) -> None:
        """Check that the run that has begun here, if any, has the settings that are asked for now.

        Raises:
            InputError: Settings differ; the message names each of them, its old value and its new one.
        """
        if self.before is not None:
            remedy = "choose another folder with --out"
            require_same(self.compared(asked), self.compared(self.before), str(self.path), remedy)

    def compared(self, settings: CardT) -> Mapping[str, Any]:
        """Return what must be the same for a run to go on; by default all settings."""
        return settings.model_dump(mode="json")

    @contextmanager
    def opened(self, asked: CardT) -> Iterator[None]:
        """Make the folder, lock it for as long as the context lasts, and write the settings of a run that begins.

        Raises:
            InputError: The folder cannot be written to, or another process works in it.
        """
        with exclusive_folder(self.path):
            if self.before is None:
                if _is_occupied(self.path):  # another process was faster
                    raise _occupied_error(self.path)
                asked.write(self.path / CONFIG)
            yield


@contextmanager
def exclusive_folder(path: Path) -> Iterator[None]:
    """Make the folder of an output and hold its lock, so that no two processes write there at the same time.

    What killed processes have left under temporary names is removed first.

    Raises:
        InputError: The folder cannot be written to, or another process works in it; the message names that process.
    """
    with exclusive(writable_folder(path) / LOCK, str(path)):
        remove_leftovers(path)
        yield


def require_same(
    asked: Mapping[str, Any],
    before: Mapping[str, Any],
    what: str,
    remedy: str,
    error: type[PretrainRLError] = InputError,
) -> None:
    """Check that what was made with the settings `before` is what is asked for now.

    Args:
        asked: Settings that are asked for now. Tables in them are compared entry by entry.
        before: Settings of what is there.
        what: Subject of the error: a folder, a file or the id of a dataset.
        remedy: Last words of the error, which say what to do.
        error: Class of the error.

    Raises:
        PretrainRLError: Settings differ. It is an `error`, and names each of them, its old value and its new one.
    """
    new, old = _flat(asked), _flat(before)
    keys = [key for key in {**new, **old} if new.get(key) != old.get(key)]
    if keys:
        changes = "; ".join(f"{key} was {old.get(key)} and is now {new.get(key)}" for key in keys)
        raise error(f"{what} is of other settings: {changes}; {remedy}")


def fingerprint_of(*content: Any) -> str:
    """Return 16 hexadecimal digits that stand for `content`, JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a table of tables as one, with names such as `training.steps`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return flat


def _is_occupied(path: Path) -> bool:
    """Whether a folder holds anything but what a process that was killed at once may have left."""
    return path.exists() and any(entry.name != LOCK and not is_leftover(entry) for entry in path.iterdir())


def _occupied_error(path: Path) -> InputError:
    return InputError(f"{path} is not empty; go on with that run by --resume, or choose another folder with --out")
