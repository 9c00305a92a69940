"""The caches of frames and features on this machine, and the choice of how the next frames are stored."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pretrainrl.data.cache_files import JOURNAL, MANIFEST, Codec, own_files, partial_folder, remove_files
from pretrainrl.data.frame_codec import FRAME_BYTES
from pretrainrl.paths import home
from pretrainrl.runs.lock import lock_path, locked

RAW_SHARE = 0.6  # of free memory that raw frames may take: beyond, a part of each batch would come from the disk


@dataclass(frozen=True)
class CacheInfo:
    """What is known of one cache without opening it.

    Attributes:
        folder: Folder of the cache, which does not exist before the cache is ready.
        state: State of the cache, `ready`, `unfinished` (the next run goes on with it) or `being built`.
        datasets: Minari ids of the datasets whose frames or features are in it.
        codec: Codec of the frames, `raw` or `lz4`; encoder and kind of features.
        frames: Number of frames, or of observations that have features; None while it is unfinished.
        bytes: Size of all its files.
        last_used: Time when it was last opened or written to.
    """

    folder: Path
    state: Literal["ready", "unfinished", "being built"]
    datasets: tuple[str, ...]
    codec: str
    frames: int | None
    bytes: int
    last_used: datetime

    @property
    def key(self) -> str:
        """Name of the cache's folder."""
        return self.folder.name

    def matches(self, pattern: str) -> bool:
        """Whether the key or one of the datasets fits a shell-style pattern."""
        return any(fnmatchcase(name, pattern) for name in (self.key, *self.datasets))


def caches_folder() -> Path:
    """Folder of the frame caches, `frames/` of `PRETRAINRL_HOME`."""
    return home() / "frames"


def features_folder() -> Path:
    """Folder of the feature caches, `features/` of `PRETRAINRL_HOME`."""
    return home() / "features"


def list_caches() -> list[CacheInfo]:
    """Return all caches, the one used last first; links, and what else lies beside caches, are none."""
    roots = caches_folder(), features_folder()
    ready = [folder for root in roots for folder in root.glob("[!.]*")]
    begun = [root / folder.name[1 : -len(".partial")] for root in roots for folder in root.glob(".*.partial")]
    infos = [_info(folder) for folder in {*ready, *begun}]
    return sorted((info for info in infos if info), key=lambda info: info.last_used, reverse=True)


def remove_cache(folder: Path) -> bool:
    """Remove the cache at `folder`, finished or not, unless a process is building it.

    Processes that read the cache keep what they have open. Files of somebody else in its folder stay.

    Returns:
        Whether the cache was removed.
    """
    with locked(lock_path(folder), wait=False) as free:
        if free:
            remove_locked(folder)
        return free


def remove_locked(folder: Path) -> None:
    """Remove the cache at `folder`, whose lock this process holds."""
    partial = partial_folder(folder)
    remove_files(partial)
    if folder.exists() and not partial.exists() and len(own_files(folder)) == len(list(folder.iterdir())):
        folder.replace(partial)  # at once, so that nobody opens a half of it
        remove_files(partial)
    else:
        remove_files(folder)


def default_codec(frames: int, folder: Path) -> Codec:
    """Choose how frames are stored.

    Args:
        frames: Number of frames of 84x84 bytes.
        folder: Folder of the caches, which need not exist.

    Returns:
        `raw` where the frames fit into 60 % of the free memory and on the disk of `folder`, else `lz4`.
    """
    size = frames * FRAME_BYTES
    while not folder.exists():
        folder = folder.parent
    return "raw" if size <= RAW_SHARE * free_memory() and size < shutil.disk_usage(folder).free else "lz4"


def free_memory() -> int:
    """Return the number of bytes that the page cache may take: what the system calls available, within a container's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    meminfo, container = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.exists():
        [available] = [line.split()[1] for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable")]
        limits.append(int(available) * 1024)
    if container.exists() and (limit := container.read_text().strip()).isdecimal():
        limits.append(int(limit))
    return min(limits)


def _info(folder: Path) -> CacheInfo | None:
    """Return what is known of the cache at `folder`, or None if it is none, or gone by now."""
    content = folder if own_files(folder) else partial_folder(folder)
    try:
        text = (content / (MANIFEST if content is folder else JOURNAL)).read_text()
        facts = _facts(text if content is folder else text.split("\n")[0])
    except (OSError, ValueError):
        facts = {}
    if content.is_symlink() or not _is_cache(content, folder.name, facts):
        return None
    try:
        files = [file.stat() for file in own_files(content)]
        used = content.stat().st_mtime if content is folder else max((file.st_mtime for file in files), default=0)
    except FileNotFoundError:
        return None
    return CacheInfo(
        folder=folder,
        state=_state(folder),
        datasets=tuple(map(str, facts.get("datasets", ()))),
        codec=str(facts.get("codec", "unknown")),
        frames=frames if isinstance(frames := facts.get("rows"), int) else None,
        bytes=sum(file.st_size for file in files),
        last_used=datetime.fromtimestamp(used),
    )


def _is_cache(content: Path, key: str, facts: dict[str, Any]) -> bool:
    """Whether a folder is a cache, by its manifest or, where that is damaged, by its name and files."""
    known = facts.keys() >= {"format", "codec", "datasets"}
    return known or (re.fullmatch("[0-9a-f]{16}", key) is not None and bool(own_files(content)))


def _facts(text: str) -> dict[str, Any]:
    """Return what a manifest or a journal says; nothing where it is damaged."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) and isinstance(facts.get("datasets", []), list) else {}


def _state(folder: Path) -> Literal["ready", "unfinished", "being built"]:
    if own_files(folder):
        return "ready"
    if lock_path(folder).exists():  # perhaps left by a process that was killed
        with locked(lock_path(folder), wait=False) as free:
            if not free:
                return "being built"
    return "unfinished"
