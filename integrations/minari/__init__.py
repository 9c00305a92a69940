"""Minari: datasets in and out."""

import importlib.util

from pretrainrl.errors import MissingExtraError

if importlib.util.find_spec("minari") is None:
    raise MissingExtraError('datasets need Minari and Python 3.11 or newer; run: pip install "minari[hdf5]>=0.5.4"')

from pretrainrl.integrations.minari.dqn_replay import import_dqn_replay
from pretrainrl.integrations.minari.ids import dataset_id, local_ids
from pretrainrl.integrations.minari.publish import collect_dataset, publish
from pretrainrl.integrations.minari.read import AtariDataset, cache_datasets, open_dataset

__all__ = [
    "AtariDataset",
    "cache_datasets",
    "collect_dataset",
    "dataset_id",
    "import_dqn_replay",
    "local_ids",
    "open_dataset",
    "publish",
]
