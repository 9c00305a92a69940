"""Features of every observation of a dataset, computed once by a frozen encoder and kept on disk."""

from __future__ import annotations

import json
import os
import shutil
import zlib
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
    checked_array,
    own_files,
    partial_folder,
    put_in_place,
    read_manifest,
)
from pretrainrl.data.caches import features_folder, remove_locked
from pretrainrl.data.frame_cache import FrameCache, read_ahead
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec
from pretrainrl.device import dtype_name
from pretrainrl.encoders import Encoder
from pretrainrl.encoders.observation_spaces import FeatureKind
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.paths import writable_folder
from pretrainrl.progress import progress_bar
from pretrainrl.runs.checkpoints import checked_json, file_facts
from pretrainrl.runs.folder import fingerprint_of
from pretrainrl.runs.lock import lock_path, locked

FORMAT = 2
_BATCH = 256  # observations that are encoded together
_COMPARED = 8  # observations that are encoded again, to see whether the encoder's code is still what it was
_TOLERANCE = {torch.float32: 2e-3}  # of the largest value: kernels of other processors and float16 differ this much
_COARSE = 3e-2  # the same for other types


def cached_features(
    cache: FrameCache, encoder: Encoder, kind: FeatureKind, *, dataset: str, fingerprint: str, progress: bool = False
) -> Tensor:
    """Return the features of every observation in which an action was taken, encoding them the first time.

    They lie in `features/` of `PRETRAINRL_HOME` under a key made of the dataset's content, the encoder's weights, the kind of
    features and the type in which they are computed. A stopped run goes on where it was; while another process encodes, this
    one waits. Some observations are encoded again, and where their features differ, the encoder's code has changed: then all
    are.

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
    facts = {"format": FORMAT, "datasets": [dataset], "codec": codec, "rows": len(sampler), "shape": list(shape)}
    if own_files(folder) and _agree(features := _open(folder), sampler, encoder, kind):
        return features
    writable_folder(folder.parent)
    with locked(lock_path(folder)):
        if own_files(folder):  # of other code, unless another process was faster
            if _agree(features := _open(folder), sampler, encoder, kind):
                return features
            remove_locked(folder)
        _write(folder, facts, sampler, encoder, kind, progress)
    return _open(folder)


def _open(folder: Path) -> Tensor:
    try:
        facts = read_manifest(folder)
        features = checked_array(folder / FEATURES, "float16", (facts["rows"], *facts["shape"]), facts["files"][FEATURES])
    except (OSError, Damaged, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"the features in {folder} are damaged ({error}); delete that folder and run again") from error
    with suppress(OSError):  # of somebody else, perhaps
        os.utime(folder)  # when they were last used
    return as_tensor(features)


def _agree(features: Tensor, sampler: WindowSampler, encoder: Encoder, kind: FeatureKind) -> bool:
    """Whether the encoder gives what is there, in some of the observations from the first to the last."""
    rows = torch.linspace(0, len(features) - 1, min(_COMPARED, len(features))).long()
    found = torch.cat([torch.from_numpy(batch) for batch in _encode(sampler, encoder, kind, rows)]).float()
    expected = features[rows].float()
    tolerance = _TOLERANCE.get(encoder.dtype, _COARSE)
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())


def _write(
    folder: Path, facts: dict[str, Any], sampler: WindowSampler, encoder: Encoder, kind: FeatureKind, progress: bool
) -> None:
    """Write the features, going on with those that a stopped process has left; after an error there is nothing left."""
    partial = partial_folder(folder)
    partial.mkdir(exist_ok=True)
    try:
        done = _resume(partial, facts, sampler, encoder, kind)
        journal = (partial / JOURNAL).open("a", encoding="utf-8")
        with journal, (partial / FEATURES).open("ab") as file, progress_bar(disable=not progress) as bar:
            task = bar.add_task("features, observations", total=len(sampler), completed=done, note="")
            for features in _encode(sampler, encoder, kind, torch.arange(done, len(sampler))):
                file.write(features.data)
                journal.write(f"{zlib.crc32(features.data)}\n")
                file.flush()
                journal.flush()
                bar.advance(task, len(features))
            file.flush()
            os.fsync(file.fileno())
        files = {FEATURES: file_facts(partial / FEATURES)}
        (partial / MANIFEST).write_text(checked_json({**facts, "files": files}), encoding="utf-8")
        (partial / JOURNAL).unlink()
        put_in_place(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(f"cannot write the features {folder}: {error.strerror or error}") from error
    except Exception:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _resume(partial: Path, facts: dict[str, Any], sampler: WindowSampler, encoder: Encoder, kind: FeatureKind) -> int:
    """Cut the files to the batches that are as a stopped process has written them, and return the number of their rows.

    Only whole batches stay, so that the bytes do not depend on where a process was stopped; none where the encoder's code has
    changed. The journal has one line of facts, and one for each batch with its checksum.
    """
    header = json.dumps({**facts, "rows": None})
    try:
        found, *checksums = (partial / JOURNAL).read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, ValueError):
        found, checksums = "", []
    (partial / FEATURES).touch()
    shape = tuple(facts["shape"])
    size, done = _BATCH * 2 * int(np.prod(shape)), 0
    with (partial / FEATURES).open("rb") as file:
        while found == header and done < len(checksums):
            batch = file.read(size)
            if len(batch) < size or str(zlib.crc32(batch)) != checksums[done]:
                break
            done += 1
    if done:
        before = np.memmap(partial / FEATURES, np.float16, "r", shape=(done * _BATCH, *shape))
        done = done if _agree(as_tensor(before), sampler, encoder, kind) else 0
    os.truncate(partial / FEATURES, done * size)
    (partial / JOURNAL).write_text("".join(f"{line}\n" for line in (header, *checksums[:done])), encoding="utf-8")
    return done * _BATCH


def _encode(sampler: WindowSampler, encoder: Encoder, kind: FeatureKind, rows: Tensor) -> Iterator[NDArray[np.float16]]:
    """Yield the features of windows by their numbers `rows`, batch by batch."""
    limit = torch.finfo(torch.float16).max
    for batch in read_ahead(sampler.read, torch.split(rows, _BATCH)):
        observations = batch.observation().to(encoder.device)
        with torch.no_grad():
            features = encoder.feature_map(observations) if kind == "map" else encoder(observations)
        yield features.float().clamp(-limit, limit).half().contiguous().cpu().numpy()
