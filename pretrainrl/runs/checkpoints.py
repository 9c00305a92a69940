"""Files and checkpoints that are written whole or not at all, and checked byte by byte before they are used."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretrainrl.errors import InputError
from pretrainrl.paths import atomic_path, remove_leftovers

CHECKSUMS = "checksums.json"
_CHECKSUM = "checksum"  # key in a checked table
_NAME = re.compile(r"step_\d{10}")
_CHUNK = 1 << 20  # bytes that are read at a time


def checked_json(content: Mapping[str, Any], indent: int | None = 1) -> str:
    """Return a table as JSON with a checksum of its own, which `parse_checked` compares.

    Args:
        content: Table of JSON values with keys of type `str`.
        indent: Number of spaces before nested values; None for one line.
    """
    checksum = zlib.crc32(json.dumps(content, indent=indent).encode())
    return json.dumps({**content, _CHECKSUM: checksum}, indent=indent)


def parse_checked(text: str, indent: int | None = 1) -> dict[str, Any]:
    """Return the table that `checked_json` has written.

    Raises:
        ValueError: A character of `text` is not as it was written.
    """
    try:
        table = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(table, dict) or _CHECKSUM not in table:
        raise ValueError("it has no checksum")
    content = {key: value for key, value in table.items() if key != _CHECKSUM}
    if checked_json(content, indent) != text:
        raise ValueError("it has another checksum than when it was written")
    return content


def file_facts(path: Path) -> dict[str, int]:
    """Return size and checksum of a file, as `bytes` and `crc32`."""
    size, checksum = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
    return {"bytes": size, "crc32": checksum}


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
        facts = {path.name: file_facts(path) for path in sorted(temporary.iterdir()) if path.is_file()}
        (temporary / CHECKSUMS).write_text(checked_json(facts), encoding="utf-8")


def check_folder(folder: Path, remedy: str) -> None:
    """Check that every file of a checked folder is as it was written.

    Args:
        folder: Folder that `checked_folder` has made.
        remedy: Last words of the error, which say what to do.

    Raises:
        InputError: A file is missing, is truncated or has other bytes; the message names it.
    """
    try:
        expected = parse_checked((folder / CHECKSUMS).read_text(encoding="utf-8"))
        names = [name for name, facts in expected.items() if file_facts(folder / name) != facts]
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is damaged ({error}); {remedy}") from error
    if names:
        raise InputError(f"{folder} is damaged ({', '.join(names)} is not what was written); {remedy}")


class Checkpoints:
    """The checkpoints of one run: folders `step_<number>` in `folder`.

    Args:
        folder: Folder of all checkpoints, made when the first is saved.
        keep: Number of the newest checkpoints that are kept.
        files: Files of the run that grow with it. Each checkpoint has a copy of them, to which `restore` brings them back.
    """

    def __init__(self, folder: Path, *, keep: int = 1, files: Sequence[Path] = ()) -> None:
        self.folder, self._keep, self._files = folder, keep, files

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
            for file in self._files:
                if file.exists():
                    shutil.copyfile(file, temporary / file.name)
        for old in self._paths()[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        remove_leftovers(self.folder)

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

    def restore(self, checkpoint: Path | None) -> None:
        """Bring the run's files back to what they were at a checkpoint, or remove them where there is none.

        Args:
            checkpoint: Folder that `latest` has returned.
        """
        for file in self._files:
            if checkpoint is not None and (checkpoint / file.name).exists():
                with atomic_path(file) as temporary:
                    shutil.copyfile(checkpoint / file.name, temporary)
            else:
                file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step_*") if _NAME.fullmatch(path.name))
