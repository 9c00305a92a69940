"""Minari: datasets in and out."""

from pretrainrl.integrations.minari.ids import dataset_id, local_ids
from pretrainrl.integrations.minari.publish import collect_dataset, publish
from pretrainrl.integrations.minari.read import AtariDataset, cache_datasets, open_dataset

__all__ = ["AtariDataset", "cache_datasets", "collect_dataset", "dataset_id", "local_ids", "open_dataset", "publish"]
