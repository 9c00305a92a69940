"""Sources of weights: verification, order, downloads that never leave half a file."""

import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save, save_file

from pretrainrl.errors import MissingExtraError, WeightsError
from pretrainrl.weights import (
    fetch,
    file_sha256,
    parse_metadata,
    parse_tensors,
    read_tensors,
    save_tensors,
)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.arange(6.0)}, path)
    return path


def test_sources_are_tried_in_order(weights: Path, tmp_path: Path):
    sources = [str(tmp_path / "absent"), "ftp:nowhere", str(weights)]
    assert fetch(sources, file_sha256(weights), weights.stat().st_size).path == weights


def test_every_failed_source_is_explained(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"absent: no such file; ftp:x: .*unknown scheme 'ftp'; expected bundled"):
        fetch([str(tmp_path / "absent"), "ftp:x"], "0" * 64, 1)


def test_truncated_and_corrupted_files_are_refused(weights: Path):
    sha256, size = file_sha256(weights), weights.stat().st_size
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=rf"has {size - 1} bytes instead of {size}"):
        fetch([str(weights)], sha256, size)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=f"instead of {sha256}"):
        fetch([str(weights)], sha256, size)


def test_a_file_that_is_not_safetensors(tmp_path: Path):
    path = tmp_path / "page.safetensors"
    path.write_text("<html>403 Forbidden</html>")
    with pytest.raises(WeightsError, match="is not a readable safetensors file"):
        read_tensors(path)


class FakeHub(ModuleType):
    """The two calls of huggingface_hub that are used; counts downloads."""

    def __init__(self, content: bytes, served: bytes | None = None) -> None:
        super().__init__("huggingface_hub")
        self.content, self.served, self.downloads = content, served or content, 0

    def hf_hub_url(self, **where: str) -> str:
        return "/".join(where.values())

    def get_hf_file_metadata(self, url: str) -> SimpleNamespace:
        return SimpleNamespace(etag=hashlib.sha256(self.content).hexdigest())

    def hf_hub_download(self, *, local_dir: Path, filename: str, **where: Any) -> str:
        self.downloads += 1
        (local_dir / filename).write_bytes(self.served)
        return str(local_dir / filename)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_download_is_verified_kept_and_used_offline(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    hub = FakeHub(weights.read_bytes())
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    source = ["hf://someone/encoders/w.safetensors@main"]
    sha256 = file_sha256(weights)
    assert fetch(source).path.read_bytes() == hub.content  # no sha256 given: the hub's own record is the standard
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert fetch(source, sha256).path == home / "weights" / f"{sha256}.safetensors"
    assert hub.downloads == 1


def test_a_download_that_was_damaged_is_fetched_again(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    hub = FakeHub(weights.read_bytes())
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    source, sha256 = ["hf://someone/encoders/w.safetensors@main"], file_sha256(weights)
    kept = fetch(source, sha256).path
    for number, damage in enumerate((b"", hub.content[:-1], bytes(len(hub.content))), 2):
        kept.write_bytes(damage)
        assert fetch(source, sha256, len(hub.content)).content == kept.read_bytes() == hub.content
        assert hub.downloads == number
    kept.write_bytes(b"")
    hub.served = b"<html>quota exceeded</html>"
    with pytest.raises(WeightsError, match="instead of"):
        fetch(source, sha256)


def test_what_is_parsed_is_what_was_hashed(weights: Path):
    """A file that changes between the two is read once, so it does not matter."""
    content, sha256 = weights.read_bytes(), file_sha256(weights)
    file = fetch([str(weights)], sha256)
    weights.write_bytes(b"something else")
    assert file.sha256 == sha256 and file.content == content
    assert torch.equal(parse_tensors(file)["a"], load(content)["a"])


def test_equal_tensors_give_equal_bytes(tmp_path: Path):
    tensors = {"b": torch.arange(3.0), "a": torch.zeros(2, 2, dtype=torch.float16)}
    metadata = {name: name * 2 for name in "zyxabcdefg"}
    found = set()
    for number in range(4):
        order = sorted(metadata, reverse=bool(number % 2))
        save_tensors(tensors, tmp_path / "w", {name: metadata[name] for name in order})
        found.add((tmp_path / "w").read_bytes())
    assert len(found) == 1
    file = fetch([str(tmp_path / "w")])
    assert parse_metadata(file) == metadata
    with safe_open(tmp_path / "w", "pt") as opened:  # the library reads it alike
        assert opened.metadata() == metadata and all(torch.equal(opened.get_tensor(key), tensors[key]) for key in tensors)
    save_tensors(tensors, tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes() == save(tensors) and parse_metadata(fetch([str(tmp_path / "plain")])) == {}


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_downloads_have_the_mode_that_the_umask_leaves(mask: int, weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(weights.read_bytes()))
    before = os.umask(mask)
    try:
        path = fetch(["hf://someone/encoders/w.safetensors@main"], file_sha256(weights)).path
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_damaged_download_leaves_nothing_behind(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    hub = FakeHub(weights.read_bytes(), served=b"<html>quota exceeded</html>")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(WeightsError, match="instead of"):
        fetch(["hf://someone/encoders/w.safetensors@main"], file_sha256(weights))
    assert list((home / "weights").iterdir()) == []


def test_a_missing_extra_names_the_pip_line(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r'pip install "pretrainrl\[hub\]"'):
        fetch(["hf://someone/encoders/w.safetensors@main"], "0" * 64)
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize("location", ["hf://no-file@main", "hf://org/repo/file", "hf://org/repo@main"])
def test_malformed_hub_locations(location: str, home: Path):
    with pytest.raises(WeightsError, match="expected hf://<org>/<repo>/<file>@<revision>"):
        fetch([location], "0" * 64)
