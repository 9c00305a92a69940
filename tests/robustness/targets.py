"""All targets by name."""

from targets_cards import CARDS, WEIGHTS_FILES
from targets_command_line import COMMAND_LINE
from targets_datasets import DATASETS, RECORDINGS
from targets_runs import CACHES, FINETUNING, PRETRAINING, RESULTS
from targets_sources import HDF5, RECORDS, SHARDS

_ALL = (
    CARDS,
    WEIGHTS_FILES,
    SHARDS,
    RECORDS,
    HDF5,
    DATASETS,
    RECORDINGS,
    CACHES,
    PRETRAINING,
    FINETUNING,
    RESULTS,
    COMMAND_LINE,
)
TARGETS = {target.name: target for target in _ALL}
