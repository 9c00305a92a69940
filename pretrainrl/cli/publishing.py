"""What the commands that publish datasets have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretrainrl.errors import DatasetError


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


@contextmanager
def root_of_datasets(out: Path | None) -> Iterator[None]:
    """Make `out` the root of Minari's datasets for a while."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    if out is not None:
        os.environ["MINARI_DATASETS_PATH"] = str(out)
    try:
        yield
    finally:
        if before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before
        elif out is not None:
            del os.environ["MINARI_DATASETS_PATH"]
