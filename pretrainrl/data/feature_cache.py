"""Features of every observation of a dataset, computed once by a frozen encoder and kept on disk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pretrainrl.data.cache_files import (
    FEATURES,
    JOURNAL,
    MANIFEST,
    Damaged,
    as_tensor,
    map_array,
    own_files,
    partial_folder,
    put_in_place,
)
from pretrainrl.data.caches import features_folder
from pretrainrl.data.frame_cache import FrameCache, read_ahead
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec
from pretrainrl.device import dtype_name
from pretrainrl.encoders import Encoder
from pretrainrl.encoders.observation_spaces import FeatureKind
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.paths import writable_folder
from pretrainrl.progress import progress_bar
from pretrainrl.runs.folder import fingerprint_of
from pretrainrl.runs.lock import lock_path, locked

FORMAT = 1
_BATCH = 256  # observations that are encoded together


def cached_features(
    cache: FrameCache, encoder: Encoder, kind: FeatureKind, *, dataset: str, fingerprint: str, progress: bool = False
) -> Tensor:
    """Return the features of every observation in which an action was taken, encoding them the first time.

    They lie in `features/` of `PRETRAINRL_HOME` under a key made of the dataset's content, the encoder's weights, the kind of
    features and the type in which they are computed. A stopped run goes on where it was; while another process encodes, this
    one waits.

    Args:
        cache: Cache of the dataset's frames.
        encoder: Frozen encoder, which encodes on its device and in its dtype.
        kind: Kind of features: `flat` or `pooled`, which must be what `encoder` was made for, or `map` for the feature map.
        dataset: Name of the dataset, for the record.
        fingerprint: Digest of the dataset's content.
        progress: Whether to show a progress bar while encoding.

    Returns:
        (N, *features) float16 for the N transitions of `cache`, in their order, mapped into memory and read-only. Values that
        are too large for float16 are its largest.

    Raises:
        InputError: When the folder cannot be written to.
        DatasetError: When the features on disk are damaged; the message names what to delete.
    """
    sampler = WindowSampler(cache, WindowSpec(steps=1, stack=encoder.observation_space.shape[0]), 1)
    shape = encoder.feature_map_shape if kind == "map" else (encoder.features_dim,)
    folder = features_folder() / fingerprint_of(FORMAT, fingerprint, encoder.sha256, kind, str(encoder.dtype), *shape)
    codec = f"{encoder.name}, {kind} in {dtype_name(encoder.dtype)}"
    facts = {"format": FORMAT, "datasets": [dataset], "codec": codec, "rows": len(sampler), "shape": shape}
    if not own_files(folder):
        writable_folder(folder.parent)
        with locked(lock_path(folder)):
            if not own_files(folder):
                _write(folder, facts, sampler, encoder, kind, progress)
    return _open(folder)


def _open(folder: Path) -> Tensor:
    try:
        facts = json.loads((folder / MANIFEST).read_text())
        shape = (int(facts["rows"]), *facts["shape"])
        features = map_array(folder / FEATURES, "float16", shape, 2 * int(np.prod(shape)))
    except (OSError, Damaged, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"the features in {folder} are damaged ({error}); delete that folder and run again") from error
    with suppress(OSError):  # of somebody else, perhaps
        os.utime(folder)  # when they were last used
    return as_tensor(features)


def _write(
    folder: Path, facts: dict[str, Any], sampler: WindowSampler, encoder: Encoder, kind: FeatureKind, progress: bool
) -> None:
    """Write the features, going on with those that a stopped process has left; after an error there is nothing left."""
    partial = partial_folder(folder)
    partial.mkdir(exist_ok=True)
    row = 2 * int(np.prod(facts["shape"]))
    try:
        (partial / JOURNAL).write_text(json.dumps({**facts, "rows": None}))
        with (partial / FEATURES).open("ab") as file, progress_bar(disable=not progress) as bar:
            done = file.tell() // row // _BATCH * _BATCH  # whole batches, so that the bytes do not depend on where it stopped
            file.truncate(done * row)
            task = bar.add_task("features, observations", total=len(sampler), completed=done, note="")
            for features in _encode(sampler, encoder, kind, done):
                file.write(features.data)
                bar.advance(task, len(features))
            file.flush()
            os.fsync(file.fileno())
        (partial / MANIFEST).write_text(json.dumps(facts, indent=1))
        (partial / JOURNAL).unlink()
        put_in_place(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"cannot write the features {folder}: {error.strerror or error}") from error
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _encode(sampler: WindowSampler, encoder: Encoder, kind: FeatureKind, start: int) -> Iterator[NDArray[np.float16]]:
    """Yield the features of windows from number `start` on, batch by batch."""
    limit = torch.finfo(torch.float16).max
    for batch in read_ahead(sampler.read, torch.split(torch.arange(start, len(sampler)), _BATCH)):
        observations = batch.observation().to(encoder.device)
        with torch.no_grad():
            features = encoder.feature_map(observations) if kind == "map" else encoder(observations)
        yield features.float().clamp(-limit, limit).half().contiguous().cpu().numpy()
