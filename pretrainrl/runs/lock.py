"""Locks that end with the process that holds them, however it ends, and scratch folders that such locks guard."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pretrainrl.errors import InputError

_OWNER = "process "
_LONGEST = 200  # bytes of an owner, so that it covers the one before


def lock_path(folder: Path) -> Path:
    """Return the hidden file beside `folder` on which whoever makes or removes the folder holds a lock."""
    return folder.with_name(f".{folder.name.lstrip('.')}.lock")


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path`, which exists only while some process holds the lock.

    The system releases the lock when its process ends, so a killed process is no obstacle to the next.

    Args:
        path: Lock file, in an existing folder.
        wait: Whether to wait for a lock that is held. If not, the context yields False for such a lock.

    Yields:
        Whether the lock is held.
    """
    lock = FileLock(path, timeout=-1 if wait else 0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        free = False
    else:
        free = True
    ours = free and _write_owner(path)
    try:
        yield free
    finally:
        if ours:
            with suppress(OSError):  # Windows removes no open file; there, filelock removes it on release
                path.unlink()
        if free:
            lock.release()


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, or refuse at once.

    Args:
        path: Lock file, in an existing folder.
        what: Subject of the error, for example the path of a run folder.

    Raises:
        InputError: A living process holds the lock; the message names its id and its machine.
    """
    with locked(path, wait=False) as free:
        if not free:
            raise InputError(f"{what} is in use by {lock_owner(path)}; wait until it has ended, or end it")
        yield


def lock_owner(path: Path) -> str:
    """Return the words that name the process which holds the lock on the file `path`."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(1)
            owner = file.read(_LONGEST).decode(errors="replace").strip()
    except OSError:
        owner = ""
    return owner if owner.startswith(_OWNER) else "another process"


def _write_owner(path: Path) -> bool:
    """Name this process in its lock file, from the second byte on, because Windows locks the first one against reading, too.

    Returns:
        Whether the file is only a lock. Where the file system has no locks, it is a marker of filelock's own.
    """
    try:
        with path.open("r+b", buffering=0) as file:
            if sys.platform != "win32" and file.read(1) not in (b"", b"\0"):
                return False
            file.seek(1)
            file.write(f"{_OWNER}{os.getpid()} on {platform.node()}".ljust(_LONGEST).encode())
    except OSError:
        return False
    return True


def remove_scratch(parent: Path, prefix: str) -> None:
    """Remove the scratch folders of processes that were killed; those of living processes are locked, and stay."""
    for lock in parent.glob(f"{prefix}*.lock"):
        with locked(lock, wait=False) as free:
            if free:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    for folder in parent.glob(f"{prefix}{'[0-9a-f]' * 8}"):
        if folder.is_dir() and not lock_path(folder).exists():  # whoever removed it was stopped in the middle
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder `<prefix><random>` in `parent`, in which something large is made before it is moved to its place.

    The folder is removed at the end, whatever happens. Scratch folders of processes that were killed are removed first; those
    of living processes are locked and stay.

    Args:
        parent: Existing folder, on the file system of what is made.
        prefix: Beginning of the name. It starts with a dot, so that nothing takes the folder for a result.
    """
    remove_scratch(parent, prefix)
    folder = parent / f"{prefix}{uuid.uuid4().hex[:8]}"
    with locked(lock_path(folder)):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
