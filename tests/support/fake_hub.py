"""The part of the Hugging Face hub's client that Minari and agents use, on a folder; and faults to order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from huggingface_hub.errors import EntryNotFoundError


class Repository(NamedTuple):
    """What `HfApi.list_datasets` gives for each."""

    id: str


class Commit(NamedTuple):
    """What `HfApi.upload_folder` gives."""

    oid: str


class FakeHub:
    """Stands for `HfApi` itself: calling it, as its constructor is called, gives it back.

    Attributes:
        store: folder of the repositories.
        fail_after: files that a download writes before the connection breaks.
        tokens: with which clients were made.
        commits: of models: their files at that time, by path.
    """

    def __init__(self, folder: Path) -> None:
        self.store, self._cache = folder / "hub", folder / "hub-cache"
        self.store.mkdir()
        self.fail_after: int | None = None
        self.tokens: list[str | None] = []
        self.commits: dict[str, dict[str, bytes]] = {}

    @classmethod
    def install(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
        """Put a hub in place of the real client."""
        hub = cls(folder)
        monkeypatch.setattr("huggingface_hub.HfApi", hub)
        monkeypatch.setattr("minari.storage.remotes.huggingface.HfApi", hub)
        return hub

    def __call__(self, token: str | None = None) -> FakeHub:
        self.tokens.append(token)
        return self

    def files(self) -> dict[str, bytes]:
        """Content of every file, by path."""
        return {path.relative_to(self.store).as_posix(): path.read_bytes() for path in self.store.rglob("*") if path.is_file()}

    def listed(self, repo_id: str) -> Any:
        """The repository's `namespace_metadata.json`."""
        return json.loads((self.store / repo_id / "namespace_metadata.json").read_text())

    def create_repo(self, repo_id: str, repo_type: str, exist_ok: bool, private: bool | None = None) -> None:
        assert repo_type in ("dataset", "model")
        (self.store / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(
        self,
        repo_id: str,
        folder_path: Path,
        repo_type: str,
        path_in_repo: str = "",
        commit_message: str | None = None,
        delete_patterns: str | None = None,
    ) -> Commit:
        for path in list((self.store / repo_id).glob(delete_patterns or "nothing")):
            path.unlink()
        shutil.copytree(folder_path, self.store / repo_id / path_in_repo, dirs_exist_ok=True)
        commit = Commit(f"{len(self.commits):040x}")
        self.commits[commit.oid] = self.files() if repo_type == "model" else {}
        return commit

    def upload_file(self, path_or_fileobj: Any, path_in_repo: str, repo_id: str, repo_type: str) -> None:
        content = path_or_fileobj if isinstance(path_or_fileobj, bytes) else Path(path_or_fileobj).read_bytes()
        target = self.store / repo_id / path_in_repo
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def file_exists(self, repo_id: str, filename: str, repo_type: str) -> bool:
        return (self.store / repo_id / filename).exists()

    def hf_hub_download(
        self,
        repo_id: str,
        filename: str,
        repo_type: str = "model",
        local_dir: Path | None = None,
        force_download: bool = False,
        revision: str | None = None,
        **_: Any,
    ) -> str:
        if revision not in (None, *self.commits):
            raise ConnectionError(f"no {revision} in {repo_id}")
        content = (self.files() if revision is None else self.commits[revision]).get(f"{repo_id}/{filename}")
        if content is None:
            raise EntryNotFoundError(f"{filename} is not in {repo_id}")
        target = (local_dir or self._cache / repo_id) / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return str(target)

    def list_datasets(self, author: str, dataset_name: str | None = None) -> Iterator[Repository]:
        for folder in sorted((self.store / author).glob("*")):
            if dataset_name is None or dataset_name in folder.name:
                yield Repository(f"{author}/{folder.name}")

    def snapshot_download(self, repo_id: str, allow_patterns: str, repo_type: str, local_dir: Path) -> None:
        root = self.store / repo_id
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        # The small files first, as it happens: what is half there then looks like a whole dataset to Minari.
        wanted = sorted((name for name in names if fnmatch(name, allow_patterns)), key=lambda name: name.endswith(".hdf5"))
        for number, name in enumerate(wanted):
            if number == self.fail_after:
                raise ConnectionError("the line is dead")
            self.hf_hub_download(repo_id, name, repo_type, local_dir)
