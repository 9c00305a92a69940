"""Hidden folders in which something large is made before it is moved to its place, and which a killed process leaves."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder `<prefix><random>` in `parent`; it is removed at the end, whatever happens.

    Those of earlier processes that were killed are removed first. One belongs to a living process as long as that
    holds the lock on the file `lock` in it, which the system lets go of when the process ends, however it ends.

    Args:
        parent: an existing folder, on the file system of what is made.
        prefix: starts with a dot, so that nothing takes the folder for a result.
    """
    for stale in parent.glob(f"{prefix}*"):
        _remove_if_abandoned(stale)
    # The lock is held before the folder has the name that others look for.
    fresh = Path(tempfile.mkdtemp(prefix=f".new{prefix}", dir=parent))
    with (fresh / "lock").open("w") as lock:
        try_lock(lock)
        folder = fresh.rename(parent / fresh.name.removeprefix(".new"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(folder: Path) -> None:
    with suppress(OSError), (folder / "lock").open("r+") as lock:  # without a lock it is not one of ours
        if try_lock(lock):
            shutil.rmtree(folder, ignore_errors=True)


def try_lock(file: IO[str]) -> bool:
    """Lock `file` until it is closed, if nobody else has; never on Windows, where nothing is therefore removed."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
