"""Weights: from a source to a verified local file, whose sha256 is checked whatever the source, and its tensors."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pretrainrl.errors import InputError, PretrainRLError, WeightsError
from pretrainrl.optional import require
from pretrainrl.paths import home, registry_folder, resolve_path, writable_folder

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


def locate(sources: Sequence[str], sha256: str | None = None, size: int | None = None) -> Path:
    """Return a local file from the first source that gives one with the right content.

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
            return _verified(_fetcher(source)(sha256), sha256, size)
        except (PretrainRLError, OSError) as error:
            failures.append(f"{source}: {error}")
    raise WeightsError("no usable weights; " + "; ".join(failures or ["no source is given"]))


def _fetcher(source: str) -> Callable[[str | None], Path]:
    scheme, separator, rest = source.partition(":")
    if not separator or len(scheme) == 1:  # one letter: a Windows drive
        return lambda sha256: resolve_path(source)
    if scheme == "atari-pb":
        return lambda sha256: resolve_path(rest)
    if scheme == "bundled":
        return lambda sha256: registry_folder() / rest
    if scheme == "hf":
        return lambda sha256: _download(rest.removeprefix("//"), sha256)
    if resolve_path(source).exists():
        return lambda sha256: resolve_path(source)
    raise InputError(
        f"unknown scheme {scheme!r}; expected bundled:<file>, a path, atari-pb:<path> or hf://<org>/<repo>/<file>@<revision>"
    )


def _verified(path: Path, sha256: str | None, size: int | None) -> Path:
    if not path.is_file():
        raise WeightsError("no such file")
    if size is not None and path.stat().st_size != size:
        raise WeightsError(f"{path.name} has {path.stat().st_size} bytes instead of {size}; fetch it again")
    if sha256 is not None and (actual := file_sha256(path)) != sha256:
        raise WeightsError(f"{path.name} has sha256 {actual} instead of {sha256}; fetch it again")
    return path


def _download(location: str, sha256: str | None) -> Path:
    """Fetch a file from the Hugging Face hub into the download folder, unless it is there already."""
    match = HF.fullmatch(location)
    if match is None:
        raise InputError("expected hf://<org>/<repo>/<file>@<revision>, with datasets/ before the organization of a dataset")
    suffix = Path(match["file"]).suffix
    if sha256 and (cached := home() / "weights" / f"{sha256}{suffix}").is_file():
        return cached
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
            fetched = Path(hub.hf_hub_download(**where, local_dir=Path(folder)))
            _verified(fetched, sha256, None).replace(target)
    except PretrainRLError:
        raise
    except Exception as error:  # the hub's client raises its own, httpx's and OS errors
        raise WeightsError(f"download failed ({type(error).__name__}: {error})") from error
    return target


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        WeightsError: When the file is something else or is cut short.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error


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
