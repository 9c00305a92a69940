"""Sources of weights: verification, order, downloads that never leave half a file."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pretrainrl.errors import MissingExtraError, WeightsError
from pretrainrl.weights import file_sha256, locate, read_tensors


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.arange(6.0)}, path)
    return path


def test_sources_are_tried_in_order(weights: Path, tmp_path: Path):
    sources = [str(tmp_path / "absent"), "ftp:nowhere", str(weights)]
    assert locate(sources, file_sha256(weights), weights.stat().st_size) == weights


def test_every_failed_source_is_explained(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"absent: no such file; ftp:x: .*unknown scheme 'ftp'; expected bundled"):
        locate([str(tmp_path / "absent"), "ftp:x"], "0" * 64, 1)


def test_truncated_and_corrupted_files_are_refused(weights: Path):
    sha256, size = file_sha256(weights), weights.stat().st_size
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(WeightsError, match=rf"has {size - 1} bytes instead of {size}"):
        locate([str(weights)], sha256, size)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=f"instead of {sha256}"):
        locate([str(weights)], sha256, size)


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
    assert locate(source).read_bytes() == hub.content  # no sha256 given: the hub's own record is the standard
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert locate(source, sha256) == home / "weights" / f"{sha256}.safetensors"
    assert hub.downloads == 1


def test_a_damaged_download_leaves_nothing_behind(weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    hub = FakeHub(weights.read_bytes(), served=b"<html>quota exceeded</html>")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(WeightsError, match="instead of"):
        locate(["hf://someone/encoders/w.safetensors@main"], file_sha256(weights))
    assert list((home / "weights").iterdir()) == []


def test_a_missing_extra_names_the_pip_line(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r'pip install "pretrainrl\[hub\]"'):
        locate(["hf://someone/encoders/w.safetensors@main"], "0" * 64)
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize("location", ["hf://no-file@main", "hf://org/repo/file", "hf://org/repo@main"])
def test_malformed_hub_locations(location: str, home: Path):
    with pytest.raises(WeightsError, match="expected hf://<org>/<repo>/<file>@<revision>"):
        locate([location], "0" * 64)
