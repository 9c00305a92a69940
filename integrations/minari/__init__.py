"""Minari datasets of Atari frames: written, read, imported, played again and shared."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pretrainrl.errors import MissingExtraError

if importlib.util.find_spec("minari") is None:
    raise MissingExtraError('datasets need Minari and Python 3.11 or newer; run: pip install "minari[hdf5]>=0.5.4"')

if TYPE_CHECKING:
    from pretrainrl.integrations.minari.collecting import collect_dataset as collect_dataset
    from pretrainrl.integrations.minari.importer import import_source as import_source
    from pretrainrl.integrations.minari.metadata import check_dataset as check_dataset
    from pretrainrl.integrations.minari.metadata import dataset_id as dataset_id
    from pretrainrl.integrations.minari.metadata import local_ids as local_ids
    from pretrainrl.integrations.minari.read import AtariDataset as AtariDataset
    from pretrainrl.integrations.minari.read import cache_datasets as cache_datasets
    from pretrainrl.integrations.minari.read import open_dataset as open_dataset
    from pretrainrl.integrations.minari.read import read_samples as read_samples
    from pretrainrl.integrations.minari.recordings import build_dataset as build_dataset
    from pretrainrl.integrations.minari.recordings import write_recording as write_recording
    from pretrainrl.integrations.minari.remote import download_dataset as download_dataset
    from pretrainrl.integrations.minari.remote import upload_dataset as upload_dataset
    from pretrainrl.integrations.minari.remote import upload_recording as upload_recording
    from pretrainrl.integrations.minari.write import write_dataset as write_dataset

# What each name is imported from, when it is first asked for (PEP 562): looking at datasets needs neither torch nor Minari.
_LAZY = {
    "AtariDataset": "read",
    "build_dataset": "recordings",
    "cache_datasets": "read",
    "check_dataset": "metadata",
    "collect_dataset": "collecting",
    "dataset_id": "metadata",
    "download_dataset": "remote",
    "import_source": "importer",
    "local_ids": "metadata",
    "open_dataset": "read",
    "read_samples": "read",
    "upload_dataset": "remote",
    "upload_recording": "remote",
    "write_dataset": "write",
    "write_recording": "recordings",
}

__all__ = [
    "AtariDataset",
    "build_dataset",
    "cache_datasets",
    "check_dataset",
    "collect_dataset",
    "dataset_id",
    "download_dataset",
    "import_source",
    "local_ids",
    "open_dataset",
    "read_samples",
    "upload_dataset",
    "upload_recording",
    "write_dataset",
    "write_recording",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
