"""Atari-PB's finished files become a Minari dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import minari

from pretrainrl.data.sources.atari_pb import AtariPBShard
from pretrainrl.integrations.minari.dqn_replay import SOURCE, import_dqn_replay

ATARI_PB_SOURCE = {
    **SOURCE,
    "by_way_of": "Atari-PB's HDF5 files, https://arxiv.org/abs/2406.06037",
    "run_and_checkpoint": "places in those files, counted from 1; the files do not name them",
}


def import_atari_pb(
    shards: Sequence[AtariPBShard],
    steps: int = 10_000,
    *,
    kind: str = "dqn-replay",
    version: int = 0,
    selection: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    overwrite: bool = False,
) -> minari.MinariDataset:
    """Publish the first `steps` transitions of every shard as `pretrainrl/atari/<game>-<kind>-v<version>`.

    What the files hold are rows of the DQN Replay Dataset, and they are read as such.

    Args:
        shards: of one game, from `find_atari_pb_shards`.
        steps: transitions of each shard; the last row only tells what the one before led to.
        kind: of the id.
        version: of the id.
        selection: how the shards were chosen, for the metadata.
        progress: called with the number of new transitions after each episode.
        overwrite: replace a dataset of the same id.

    Raises:
        InputError, DatasetError: as `import_dqn_replay`.
    """
    return import_dqn_replay(
        shards,
        steps,
        kind=kind,
        version=version,
        selection=selection,
        source=ATARI_PB_SOURCE,
        progress=progress,
        overwrite=overwrite,
    )
