"""Folders of the package, and files that are written to a temporary name and then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pretrainrl.errors import InputError


def home() -> Path:
    """Return the folder of caches and downloads, `PRETRAINRL_HOME` or by default the platform's user cache folder."""
    import platformdirs

    return resolve_path(os.environ.get("PRETRAINRL_HOME") or platformdirs.user_cache_dir("pretrainrl", appauthor=False))


def registry_folder() -> Path:
    """Return the folder of the shipped cards and weights, `_cards` in an installed package and `registry/` in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / "_cards"
    return installed if installed.is_dir() else package.parent / "registry"


def resolve_path(path: str | Path) -> Path:
    """Return the absolute path that a user means, with `~` for a home.

    Raises:
        InputError: It is none: the user whose home it names is unknown, or it has a character that no path has.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{str(path)!r} is no path: {getattr(error, 'strerror', None) or error}") from error


def set_absolute_folders() -> None:
    """Make the folders in environment variables absolute, for this process and those that it starts.

    Raises:
        InputError: One is no path.
    """
    os.environ.update(_absolute_folders())


@contextmanager
def absolute_folders() -> Iterator[None]:
    """Make the folders in environment variables absolute for a while, as Minari knows neither `~` nor relative ones."""
    with environment_variables(**_absolute_folders()):
        yield


def _absolute_folders() -> dict[str, str]:
    defaults = {"PRETRAINRL_HOME": "", "MINARI_DATASETS_PATH": "~/.minari/datasets"}
    folders = {name: os.environ[name] or default for name, default in defaults.items() if name in os.environ}
    return {name: str(resolve_path(folder)) for name, folder in folders.items() if folder}


_LONGEST_NAME = 255 - 32  # bytes of a file's name, with room for what a temporary name adds
_LONGEST_PATH = 4096 - 512  # with room for what will be in a folder


def output_folder(path: str | Path) -> Path:
    """Return the absolute path of a folder that is going to be written to, and make nothing.

    Raises:
        InputError: It is a file or below one, it cannot be written to, or its name is too long.
    """
    path = resolve_path(path)
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts) or len(os.fsencode(path)) > _LONGEST_PATH:
        raise InputError(f"cannot write to {str(path)[:100]}...: the name is too long; choose another folder")
    there = next(folder for folder in (path, *path.parents) if folder.exists())
    if not there.is_dir():
        raise InputError(f"cannot write to {path}: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to {path}: {there} is not writable; choose another folder")
    return path


def output_file(path: str | Path) -> Path:
    """Return the absolute path of a file that is going to be written, and make nothing.

    Raises:
        InputError: It is a folder, its folder cannot be written to, or its name is too long.
    """
    path = resolve_path(path)
    output_folder(path.parent)
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise InputError(f"cannot write {str(path)[:100]}...: the name is too long; choose another one")
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file")
    return path


def writable_folder(folder: Path) -> Path:
    """Create `folder` if need be and return it.

    Raises:
        InputError: The folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{uuid.uuid4().hex[:8]}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    return folder


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def disk_full_reason(error: BaseException | None) -> str | None:
    """Return the system's words for a full disk, quota or file size if one of them caused `error`, else None."""
    while error is not None:
        # Rust's errors, as those of safetensors, are text.
        found = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        if number in _DISK_FULL:
            return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; it becomes `target` on success and vanishes on any failure.

    The caller creates a file or a folder at the yielded path. An existing file is replaced; an existing folder is not.

    Raises:
        InputError: The folder cannot be written to, or its disk is full.
    """
    writable_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        replace_durably(temporary, target)
    except Exception as error:
        if reason := disk_full_reason(error):
            raise InputError(f"cannot write {target}: {reason}; what was there before is unchanged") from error
        raise
    finally:
        remove_path(temporary)


_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def is_leftover(path: Path) -> bool:
    """Whether a file or folder has a temporary name that `atomic_path` gives."""
    return _LEFTOVER.fullmatch(path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes have left under temporary names in `folder`, in which nobody else may be writing."""
    for path in list(folder.rglob(".*.tmp")):
        if is_leftover(path):
            remove_path(path)


def remove_path(path: Path) -> None:
    """Remove a file, or a folder and all that is in it, as far as the system lets it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def replace_durably(source: Path, target: Path) -> None:
    """Rename a finished file or folder once all of it is on the disk, so that a machine that fails leaves no half of it."""
    for path in [*source.rglob("*"), source]:
        _sync(path)
    source.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Write what the system still holds of a file, or of a folder's entries, to the disk."""
    if path.is_symlink() or (path.is_dir() and os.name != "posix"):  # Windows does not open folders
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have nothing to do here
            raise
    finally:
        os.close(descriptor)


def save_with_torch(content: dict[str, Any], path: Path) -> None:
    """Call `torch.save` with an open file, because with a path it hides from `disk_full_reason` that the disk is full."""
    import torch

    with path.open("wb") as file:
        torch.save(content, file)


@contextmanager
def environment_variables(**values: str) -> Iterator[None]:
    """Set environment variables while the context lasts, for example those that name the package's and Minari's folders."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
