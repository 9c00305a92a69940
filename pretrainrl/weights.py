"""Weights: from a source to bytes, whose sha256 is checked whatever the source, and from these bytes to tensors."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pretrainrl.errors import InputError, PretrainRLError, WeightsError
from pretrainrl.optional import require
from pretrainrl.paths import atomic_path, home, registry_folder, resolve_path, writable_folder

if TYPE_CHECKING:
    from torch import Tensor

ATARI_PB = "atari-pb:"  # a checkpoint of Atari-PB, a pickle of which only tensors are read
ATARI_PB_URL = "https://github.com/dojeon-ai/Atari-PB"
HF = re.compile(r"(?P<datasets>datasets/)?(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+)@(?P<revision>[^@/]+)")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def resolve_source(source: str | Path) -> str:
    """Return weights that a user names with an absolute path in place of a relative one; `random` and `hf://...` stay.

    Raises:
        InputError: The path is none.
    """
    scheme, separator, rest = str(source).partition(":")
    if isinstance(source, str) and (source == "random" or (separator and scheme in ("bundled", "hf"))):
        return source
    return f"{ATARI_PB}{resolve_path(rest)}" if f"{scheme}:" == ATARI_PB else str(resolve_path(source))


@dataclass(frozen=True)
class FileContent:
    """A file as it was read once: whatever happens to the file since, these are the bytes that were checked.

    Attributes:
        path: Path of the file.
        content: Bytes of the file.
        sha256: Digest of the bytes, 64 hex digits.
    """

    path: Path
    content: bytes = field(repr=False)
    sha256: str


def fetch(sources: Sequence[str], sha256: str | None = None, size: int | None = None) -> FileContent:
    """Read a file from the first source that gives one with the right content; a download that was damaged is fetched again.

    Args:
        sources: Places, tried in order: `bundled:<file>`, a path, `atari-pb:<path>`, or `hf://<org>/<repo>/<file>@<revision>`.
        sha256: Digest that the file must have. A path may go without; a download never does: then the hub's own record of
            the file is what it is checked against.
        size: Size of the file in bytes, so that an error calls a truncated file by name.

    Raises:
        WeightsError: When no source works; the message gives the reason of each.
    """
    failures = []
    for source in sources:
        try:
            return _fetch(source, sha256, size)
        except (PretrainRLError, OSError) as error:
            failures.append(f"{source}: {error}")
    raise WeightsError("no usable weights; " + "; ".join(failures or ["no source is given"]))


def _fetch(source: str, sha256: str | None, size: int | None) -> FileContent:
    scheme, separator, rest = source.partition(":")
    if not separator or len(scheme) == 1:  # one letter: a Windows drive
        return _read(resolve_path(source), sha256, size)
    if scheme == "atari-pb":
        return _read(resolve_path(rest), sha256, size)
    if scheme == "bundled":
        return _read(registry_folder() / rest, sha256, size)
    if scheme == "hf":
        return _download(rest.removeprefix("//"), sha256, size)
    if resolve_path(source).exists():
        return _read(resolve_path(source), sha256, size)
    raise InputError(
        f"unknown scheme {scheme!r}; expected bundled:<file>, a path, atari-pb:<path> or hf://<org>/<repo>/<file>@<revision>"
    )


def _read(path: Path, sha256: str | None, size: int | None) -> FileContent:
    if not path.is_file():
        raise WeightsError("no such file")
    if size is not None and path.stat().st_size != size:
        raise WeightsError(f"{path.name} has {path.stat().st_size} bytes instead of {size}; fetch it again")
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256:
        raise WeightsError(f"{path.name} has sha256 {actual} instead of {sha256}; fetch it again")
    return FileContent(path, content, actual)


def _download(location: str, sha256: str | None, size: int | None) -> FileContent:
    """Fetch a file from the Hugging Face hub into the download folder, unless it is there already, and whole."""
    match = HF.fullmatch(location)
    if match is None:
        raise InputError("expected hf://<org>/<repo>/<file>@<revision>, with datasets/ before the organization of a dataset")
    suffix = Path(match["file"]).suffix
    if sha256:
        with suppress(WeightsError, OSError):
            return _read(home() / "weights" / f"{sha256}{suffix}", sha256, size)
    hub = require("huggingface_hub", "hub")
    kind = {"repo_type": "dataset"} if match["datasets"] else {}
    where = {"repo_id": match["repo"], "filename": match["file"], "revision": match["revision"], **kind}
    try:
        if sha256 is None:
            sha256 = hub.get_hf_file_metadata(hub.hf_hub_url(**where)).etag
            if not re.fullmatch("[0-9a-f]{64}", sha256 or ""):
                raise WeightsError("the hub has no sha256 of this file; download it and give its path")
        target = writable_folder(home() / "weights") / f"{sha256}{suffix}"
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            fetched = _read(Path(hub.hf_hub_download(**where, local_dir=Path(folder))), sha256, size)
        with atomic_path(target) as temporary:
            temporary.write_bytes(fetched.content)
    except PretrainRLError:
        raise
    except Exception as error:  # the hub's client raises its own, httpx's and OS errors
        raise WeightsError(f"download failed ({type(error).__name__}: {error})") from error
    return FileContent(target, fetched.content, fetched.sha256)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        WeightsError: When the file is something else or is cut short.
    """
    return parse_tensors(_read(path, None, None))


def parse_tensors(file: FileContent) -> dict[str, Tensor]:
    """Return the tensors in the bytes of a safetensors file.

    Raises:
        WeightsError: When the file is something else or is cut short.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(file.content)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{file.path} is not a readable safetensors file: {error}") from error


def parse_metadata(file: FileContent) -> dict[str, str]:
    """Return the metadata in the bytes of a safetensors file whose tensors have been read."""
    header = json.loads(file.content[8 : 8 + int.from_bytes(file.content[:8], "little")])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return metadata


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; equal tensors and metadata give equal bytes.

    The library alone writes metadata in random order.
    """
    from safetensors.torch import save

    content = save(dict(tensors))
    if metadata:
        size = int.from_bytes(content[:8], "little")
        header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(content[8 : 8 + size])}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    path.write_bytes(content)


def state_dict_errors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    """Return what is wrong with every tensor that is missing, unexpected, misshapen or not finite, sorted."""
    return sorted(_misfits(expected, tensors))


def _misfits(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    yield from (f"{key} is missing" for key in expected if key not in tensors)
    yield from (f"{key} is unexpected" for key in tensors if key not in expected)
    for key in expected.keys() & tensors.keys():
        if expected[key].shape != tensors[key].shape:
            yield f"{key} is {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        elif not tensors[key].isfinite().all():
            yield f"{key} has values that are not finite"
