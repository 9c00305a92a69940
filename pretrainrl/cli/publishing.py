"""What the commands that publish datasets have in common."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pretrainrl.errors import DatasetError
from pretrainrl.paths import environment_variables


def is_done(name: str, key: str, settings: Mapping[str, Any], resume: bool) -> bool:
    """Whether the dataset `name` is there, made with the same settings, which its metadata hold under `key`.

    Raises:
        DatasetError: when it is there without `resume`, or was made with other settings.
    """
    from pretrainrl.integrations.minari import open_dataset
    from pretrainrl.integrations.minari.ids import datasets_root
    from pretrainrl.integrations.minari.publishing import exists_error

    if not (datasets_root() / name).exists():
        return False
    if not resume:
        raise exists_error(name)
    made = open_dataset(name).metadata.get(key, {})
    different = [f"{key} {made.get(key)} instead of {value}" for key, value in settings.items() if made.get(key) != value]
    if different:
        raise DatasetError(f"{name} exists with {', '.join(different)}; choose another --version")
    return True


def root_of_datasets(out: Path | None) -> AbstractContextManager[None]:
    """Make `out` the root of Minari's datasets for a while, if it is given."""
    return nullcontext() if out is None else environment_variables(MINARI_DATASETS_PATH=str(out))
