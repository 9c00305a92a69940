"""Where files live, and how they are written: to a temporary name first, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pretrainrl.errors import InputError


def home() -> Path:
    """Folder of caches and downloads: `PRETRAINRL_HOME`, by default the platform's user cache folder."""
    import platformdirs

    return Path(os.environ.get("PRETRAINRL_HOME") or platformdirs.user_cache_dir("pretrainrl", appauthor=False))


def registry_folder() -> Path:
    """Folder of the shipped cards and weights: `_cards` in an installed package, else `registry/` of the clone."""
    package = Path(__file__).resolve().parent
    installed = package / "_cards"
    return installed if installed.is_dir() else package.parent / "registry"


def writable_folder(folder: Path) -> Path:
    """Create `folder` if need be and return it.

    Raises:
        InputError: when it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    return folder


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; it becomes `target` on success and vanishes on any failure.

    Works for files and for folders: create either at the path yielded. An existing file is replaced.
    """
    writable_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def environment_variables(**values: str) -> Iterator[None]:
    """Set environment variables for a while, as what is above reads them, and Minari its folder and its remote."""
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
