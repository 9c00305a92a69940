"""HDF5 files of others, looked at by a process of its own before anything is read.

An HDF5 file can name other files whose content then comes back as its own: external links, external storage, virtual datasets.
It can promise terabytes, and a damaged one can crash its library or keep it busy forever. So another process, which may take
so much time and memory and no more, walks through the whole file and reads what is compressed. What it could read is read
again without fear; a file is looked at once, and again when its size or its time of change is another.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

from pretrainrl.errors import DatasetError
from pretrainrl.paths import home

MOST_BYTES = 4 << 30  # of an array that is read whole, and of memory for the process that looks
_RULES = 1  # number of the rules below, which a file that passed older ones has to pass, too
_BLOCK = 64 << 20  # bytes that are read at once
_SECONDS, _BYTES_A_SECOND = 60, 1 << 20  # time that a file may take: so long, and longer by its size
_PACKERS = (h5py.h5z.FILTER_DEFLATE, 32000)  # gzip and h5py's LZF; of two in a row nobody knows what they unpack to
_FILTERS = (*_PACKERS, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)


class DamagedFileError(DatasetError):
    """A file is not what was once written: it is cut short, or its bytes have changed."""


class _Refused(Exception):
    """A file holds what is never read."""


def check_hdf5(*paths: Path, whole: bool = True) -> None:
    """Check that HDF5 files can be read within bounds, and hold all that comes back when they are.

    Args:
        *paths: Files, which one process looks at.
        whole: Whether their arrays will be read whole, so that none may be larger than 4 GiB.

    Raises:
        DamagedFileError: A file is certainly damaged.
        DatasetError: A file cannot be opened now, for example because it is locked; or it refers to other files, holds
            references or objects linked twice, is compressed in an unknown way, or takes too much time or memory.
    """
    if missing := [path for path in paths if not path.is_file()]:
        raise DamagedFileError(f"{missing[0]} is missing")
    marks = {path: mark for path in paths if not (mark := _mark(path, whole)).exists()}
    if not marks:
        return
    seconds = _SECONDS + sum(path.stat().st_size for path in marks) / _BYTES_A_SECOND
    code = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from pretrainrl.data.hdf5 import main; main()"
    command = [sys.executable, "-I", "-c", code, json.dumps(sys.path), str(int(whole)), *map(str, marks)]
    names = " and ".join(map(str, marks))
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise DatasetError(f"HDF5 did not come to an end of {names} in {seconds:.0f} seconds") from None
    except OSError as error:  # the process did not start
        raise DatasetError(f"{names} cannot be looked at: {error.strerror or error}") from error
    if found.returncode:
        raise DatasetError(f"HDF5 fails at {names}: {(found.stderr.splitlines() or [_signal(found.returncode)])[-1]}")
    if found.stdout.strip():
        damaged, reason = json.loads(found.stdout)
        raise (DamagedFileError if damaged else DatasetError)(reason)
    for path, mark in marks.items():
        mark_checked(path, mark)


def mark_checked(path: Path, mark: Path | None = None) -> None:
    """Note that `path`, which was just written or looked at, has been checked."""
    mark = mark or _mark(path, True)
    with suppress(OSError):  # without the note it is looked at again
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _mark(path: Path, whole: bool) -> Path:
    facts = path.stat()
    key = repr((_RULES, whole, str(path.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ino))
    return home() / "checked" / hashlib.sha256(key.encode()).hexdigest()[:32]


def _signal(code: int) -> str:
    return f"it ends with signal {-code}" if code < 0 else f"it ends with {code}"


def main() -> None:
    """Look at the files that the arguments name, and print why one is not read as JSON, if there is a reason."""
    whole = sys.argv[2] == "1"
    with suppress(ImportError, ValueError, OSError):  # not everywhere
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for path in map(Path, sys.argv[3:]):
        if reason := _reason(path, whole):
            print(json.dumps((reason[0], f"{path}: {reason[1]}")))
            return


def _reason(path: Path, whole: bool) -> tuple[bool, str] | None:
    """Return whether a file is damaged and why it is not read; None where it is."""
    try:
        with h5py.File(path, "r") as file:
            for name, item in _objects(file):
                _check_attributes(name, item)
                if isinstance(item, h5py.Dataset):
                    _check_array(name, item, whole)
    except _Refused as error:
        return False, str(error)
    except MemoryError:
        return False, "it takes more memory than any dataset should"
    except OSError as error:
        if error.errno is not None:  # the system's: a lock, a right, a limit
            return False, f"it cannot be opened now ({error.strerror or error}); perhaps another program is writing it"
        return not any(words in str(error) for words in ("already open for", "memory allocation")), str(error)
    except Exception as error:  # h5py has no error of its own
        return True, str(error)
    return None


def _objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield all groups and arrays, each of which is linked once and within the file."""
    seen = {h5py.h5o.get_info(file.id).addr}
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    yield "/", file
    while waiting:
        parent, group = waiting.pop()
        for key in group:
            name = f"{parent}/{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise _Refused(f"{name} is a link, perhaps to another file, and links are never followed")
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                raise _Refused(f"{name} is linked twice, perhaps in a circle")
            seen.add(address)
            if not isinstance(item, (h5py.Group, h5py.Dataset)):
                raise _Refused(f"{name} is neither a group nor an array")
            yield name, item
            if isinstance(item, h5py.Group):
                waiting.append((name, item))


def _check_attributes(name: str, item: h5py.Group | h5py.Dataset) -> None:
    for key, value in item.attrs.items():
        if isinstance(value, (h5py.Empty, h5py.Reference, h5py.RegionReference)):
            raise _Refused(f"attribute {key} of {name} is {'empty' if isinstance(value, h5py.Empty) else 'a reference'}")


def _check_array(name: str, data: h5py.Dataset, whole: bool) -> None:
    made = data.id.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count():
        raise _Refused(f"{name} takes its values from another file, which is never read")
    if data.shape is None:
        raise _Refused(f"{name} is empty")
    if data.dtype.kind not in "biufSO" or (data.dtype.kind == "O" and not _is_text_or_bytes(data.dtype)):
        raise _Refused(f"{name} holds {data.dtype}; numbers, texts and bytes are read")
    size = math.prod(data.shape) * data.dtype.itemsize
    if whole and size > MOST_BYTES:
        raise _Refused(f"{name} is {size:,} bytes large, more than any episode's")
    filters = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
    if unknown := [each for each in filters if each not in _FILTERS]:
        raise _Refused(f"{name} is stored by HDF5's filter {unknown[0]}; gzip, LZF, shuffle and checksums are read")
    if sum(each in _PACKERS for each in filters) > 1:
        raise _Refused(f"{name} is compressed twice")
    if data.chunks or data.dtype.kind == "O":
        _read(data)


def _is_text_or_bytes(dtype: Any) -> bool:
    kind = h5py.check_vlen_dtype(dtype)
    return h5py.check_string_dtype(dtype) is not None or (kind is not None and getattr(kind, "kind", "") in "biuf")


def _read(data: h5py.Dataset) -> None:
    """Read an array as a whole, some rows at a time and no chunk twice."""
    if not data.shape:
        data[()]
        return
    rows, at_once = data.shape[0], data.chunks[0] if data.chunks else 1
    row_bytes = max(1, math.prod(data.shape[1:]) * data.dtype.itemsize)
    step = max(at_once, _BLOCK // row_bytes // at_once * at_once)
    for start in range(0, rows, step):
        data[start : start + step]
