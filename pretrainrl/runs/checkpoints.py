"""Checkpoints that are written whole or not at all, and checked before they are read."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pretrainrl.errors import InputError
from pretrainrl.paths import atomic_path

CHECKSUMS = "checksums.json"
_CHUNK = 1 << 20  # bytes that are read at a time


@contextmanager
def checked_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `target`, with the checksums of its files, or vanishes on any failure.

    Checksums cover the files directly in the folder. A folder within it may be a checked folder of its own, and be removed
    later.

    Raises:
        InputError: The folder cannot be written, for example because the disk is full.
    """
    with atomic_path(target) as temporary:
        temporary.mkdir()
        yield temporary
        facts = {path.name: _facts(path) for path in sorted(temporary.iterdir()) if path.is_file()}
        (temporary / CHECKSUMS).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def check_folder(folder: Path, remedy: str) -> None:
    """Check that every file of a checked folder is as it was written.

    Args:
        folder: Folder that `checked_folder` has made.
        remedy: Last words of the error, which say what to do.

    Raises:
        InputError: A file is missing, is truncated or has other bytes; the message names it.
    """
    try:
        expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        names = [name for name, facts in expected.items() if _facts(folder / name) != facts]
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder} is damaged ({error}); {remedy}") from error
    if names:
        raise InputError(f"{folder} is damaged ({', '.join(names)} is not what was written); {remedy}")


class Checkpoints:
    """The checkpoints of one run: folders `step_<number>` in `folder`.

    Args:
        folder: Folder of all checkpoints, made when the first is saved.
        keep: Number of the newest checkpoints that are kept.
    """

    def __init__(self, folder: Path, *, keep: int = 1) -> None:
        self.folder, self._keep = folder, keep

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Write the checkpoint of `step`, then remove those that are too old and what a killed process has left.

        Args:
            step: Number of the checkpoint, at least 0.
            write: Function that writes the files into the folder that it is given.

        Raises:
            InputError: The checkpoint cannot be written; those before are unchanged.
        """
        with checked_folder(self.folder / f"step_{step:010d}") as temporary:
            write(temporary)
        kept = self._paths()[-self._keep :]
        for old in self.folder.iterdir():
            if old not in kept:
                shutil.rmtree(old, ignore_errors=True)

    def latest(self) -> Path | None:
        """Return the folder of the newest checkpoint, or None where there is none.

        Raises:
            InputError: The checkpoint is damaged; the message says what to delete.
        """
        paths = self._paths()
        if not paths:
            return None
        before = paths[-2].name if len(paths) > 1 else "the beginning"
        check_folder(paths[-1], f"delete it to go on from {before}")
        return paths[-1]

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("step_*"))


def _facts(path: Path) -> dict[str, int]:
    """Size and checksum of a file."""
    size, checksum = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
    return {"bytes": size, "crc32": checksum}
