"""Datasets to and from the Hugging Face hub, by Minari's own mechanism, whole or not at all."""

from __future__ import annotations

import difflib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import minari
from minari.storage.remotes import get_cloud_storage

from pretrainrl.dataset_cards import RecordingCard
from pretrainrl.errors import DatasetError, InputError, PretrainRLError
from pretrainrl.integrations.minari.card import render_card, render_index
from pretrainrl.integrations.minari.metadata import check_dataset, check_id, dataset_folder, datasets_root
from pretrainrl.integrations.minari.readable import dataset_files
from pretrainrl.integrations.minari.recordings import SUFFIX, write_recording
from pretrainrl.integrations.minari.write import create_namespaces, exists_error, move
from pretrainrl.optional import require
from pretrainrl.paths import absolute_folders, environment_variables, writable_folder
from pretrainrl.runs.lock import scratch_folder
from pretrainrl.weights import file_sha256

_CHECKSUMS = "SHA256SUMS"
_CARD = "README.md"


@absolute_folders()
def upload_dataset(name: str, *, remote: str | None = None, token: str | None = None) -> None:
    """Upload the local dataset `name` with its card and checksums, and renew the front page of its repository.

    The first part of the id is the repository: `pretrainrl/atari/pong-random-v0` goes to `<organization>/pretrainrl`, whose
    `namespace_metadata.json` lists it, so that plain Minari finds it.

    Args:
        name: Minari id.
        remote: Place, `hf://<organization or user>`; by default `MINARI_REMOTE`.
        token: Token of the hub; by default that of `hf auth login` or `HF_TOKEN`.

    Raises:
        InputError: The id or the remote has another form, or none is named.
        DatasetError: The dataset is damaged or lossy, is in the remote already, or does not arrive.
        MissingExtraError: huggingface_hub is not installed.
    """
    remote, (namespace, _) = _checked(remote), check_id(name)
    summary = check_dataset(name)
    create_namespaces(namespace)
    with (
        _copied(name) as root,
        environment_variables(MINARI_REMOTE=remote, MINARI_DATASETS_PATH=str(root)),
        _hub_errors(f"{name} was not uploaded to {remote}"),
    ):
        if name in minari.list_remote_datasets(prefix=name):
            raise DatasetError(f"{name} is in {remote} already, and what is published stays as it is; take another version")
        (root / name / _CARD).write_text(render_card(summary, remote), encoding="utf-8")
        (root / name / _CHECKSUMS).write_text(_checksums(root / name), encoding="utf-8")
        minari.upload_dataset(name, token)
        repository = name.split("/", 1)[0]
        datasets = minari.list_remote_datasets(prefix=f"{repository}/")
        if datasets.get(name) != summary.metadata:
            raise DatasetError("what the remote lists differs from what was sent; try again")
        require("huggingface_hub", "hub").HfApi(token=token).upload_file(
            path_or_fileobj=render_index(repository, datasets, remote).encode(),
            path_in_repo=_CARD,
            repo_id=f"{remote.removeprefix('hf://')}/{repository}",
            repo_type="dataset",
        )


def upload_recording(name: str, *, remote: str | None = None, token: str | None = None) -> RecordingCard:
    """Upload the recording of the local dataset `name` with its card instead of its frames, a thousandth of the bytes.

    Both go to the folder `recordings` of the dataset repository of `upload_dataset`. Whoever puts the card into an entry
    point of the group `pretrainrl.recordings`, or gives `build_dataset` the source that it names, has the dataset.

    Args:
        name: Minari id.
        remote: Place, `hf://<organization or user>`; by default `MINARI_REMOTE`.
        token: Token of the hub; by default that of `hf auth login` or `HF_TOKEN`.

    Returns:
        The card that was uploaded.

    Raises:
        InputError: The id or the remote has another form, or none is named.
        DatasetError: The dataset's play is not recorded, it is in the remote already, or it does not arrive.
        MissingExtraError: huggingface_hub is not installed.
    """
    remote = _checked(remote)
    check_id(name)
    repository, file = name.split("/", 1)[0], f"{name.rsplit('/', 1)[-1]}{SUFFIX}"
    repo_id, path = f"{remote.removeprefix('hf://')}/{repository}", f"recordings/{file}"
    with tempfile.TemporaryDirectory() as folder, _hub_errors(f"the recording of {name} was not uploaded to {remote}"):
        card = write_recording(name, Path(folder) / file)
        card = card.model_copy(update={"sources": (f"hf://datasets/{repo_id}/{path}@main",)})
        api = require("huggingface_hub", "hub").HfApi(token=token)
        api.create_repo(repo_id, repo_type="dataset", exist_ok=True)
        if api.file_exists(repo_id, path, repo_type="dataset"):
            raise DatasetError(f"{path} is in {repo_id} already, and what is published stays as it is; take another version")
        sent = {path: (Path(folder) / file).read_bytes(), f"recordings/{card.name}.toml": card.to_toml().encode()}
        for place, content in sent.items():
            api.upload_file(path_or_fileobj=content, path_in_repo=place, repo_id=repo_id, repo_type="dataset")
    return card


@absolute_folders()
def download_dataset(name: str, *, remote: str | None = None) -> minari.MinariDataset:
    """Download the dataset `name` and return it as Minari loads it.

    It arrives in a hidden folder, is checked against its checksums, if it was uploaded with some, and then moved. A failure or
    an interruption leaves nothing.

    Args:
        name: Minari id.
        remote: Place, `hf://<organization or user>`; by default `MINARI_REMOTE`.

    Raises:
        InputError: The id or the remote has another form, none is named, or the folder cannot be written to.
        DatasetError: The id is taken here, is not in the remote (the nearest ids are named), or arrives damaged.
        MissingExtraError: huggingface_hub is not installed.
    """
    remote, (namespace, _) = _checked(remote), check_id(name)
    root = datasets_root()
    if dataset_folder(name).exists():
        raise exists_error(name)
    writable_folder(root)
    with scratch_folder(root, ".download-") as scratch:
        with (
            environment_variables(MINARI_REMOTE=remote, MINARI_DATASETS_PATH=str(scratch)),
            _hub_errors(f"{name} was not downloaded from {remote}"),
        ):
            there = list(get_cloud_storage().list_datasets(prefix=namespace))
            if name not in there:
                near = difflib.get_close_matches(name, there, n=3)
                raise DatasetError(
                    f"no dataset {name!r} in {remote}; "
                    + (f"did you mean {' or '.join(near)}?" if near else f"there: {', '.join(sorted(there)) or 'none'}")
                )
            minari.download_dataset(name)
            _verify(scratch / name)
            check_dataset(name)
        (scratch / name / _CHECKSUMS).unlink(missing_ok=True)  # it would be wrong as soon as someone appends
        create_namespaces(namespace)
        move(scratch / name, root / name)
    return minari.load_dataset(name)


def _checked(remote: str | None) -> str:
    remote = remote or os.environ.get("MINARI_REMOTE")
    if remote is None:
        raise InputError("say which remote: hf://<organization>, as an argument or in MINARI_REMOTE")
    if re.fullmatch(r"hf://[\w.-]+", remote) is None:
        raise InputError(f"a remote looks like hf://<organization>, not {remote!r}")
    require("huggingface_hub", "hub")
    return remote


@contextmanager
def _copied(name: str) -> Iterator[Path]:
    """Yield a root of datasets with the files of the dataset `name` and of its namespaces, linked rather than copied.

    What is added to it for the hub, a card and checksums, so replaces nothing that lies beside the dataset here.
    """
    root = datasets_root()
    with scratch_folder(root, ".upload-") as scratch:
        about = [each / "namespace_metadata.json" for each in (root / name).parents if each.is_relative_to(root)]
        for path in [*dataset_files(root / name / "data"), *filter(Path.is_file, about)]:
            copy = scratch / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, copy)
            except OSError:  # a file system without links
                shutil.copyfile(path, copy)
        yield scratch


def _checksums(folder: Path) -> str:
    """Return one line for each file, as `sha256sum` writes them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _CHECKSUMS)
    return "".join(f"{file_sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)


def _verify(folder: Path) -> None:
    sums = folder / _CHECKSUMS
    for line in sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []:
        digest, _, name = line.partition("  ")
        if not (folder / name).is_file() or file_sha256(folder / name) != digest:
            raise DatasetError(f"{name} is not what was uploaded; try again")


@contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    """Turn what the hub's client raises (its own errors, httpx's, the system's) into one line; keep Minari quiet."""
    try:
        with redirect_stdout(io.StringIO()):
            yield
    except PretrainRLError as error:
        raise DatasetError(f"{what}: {error}") from error
    except Exception as error:
        raise DatasetError(f"{what} ({type(error).__name__}: {error})") from error
