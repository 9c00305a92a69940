"""Shards of the DQN Replay Dataset become a Minari dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import minari

from pretrainrl.data.sources.dqn_replay import PREPROCESSING, Findings, count_actions, read_episodes
from pretrainrl.data.sources.shard import Shard
from pretrainrl.errors import InputError
from pretrainrl.integrations.minari.metadata import dataset_id
from pretrainrl.integrations.minari.write import write_dataset

SOURCE = {
    "dataset": "DQN Replay Dataset",
    "url": "https://research.google/tools/datasets/dqn-replay/",
    "paper": "https://arxiv.org/abs/1907.04543",
    "rom_set": "that of atari-py<=0.2.5, not the one whose checksum is in rom_md5",
}


def import_dqn_replay(
    shards: Sequence[Shard],
    steps: int = 10_000,
    *,
    kind: str = "dqn-replay",
    version: int = 0,
    verify: bool = False,
    selection: dict[str, Any] | None = None,
    source: Mapping[str, Any] = SOURCE,
    progress: Callable[[int], None] | None = None,
    overwrite: bool = False,
) -> minari.MinariDataset:
    """Publish the first `steps` transitions of every shard as `pretrainrl/atari/<game>-<kind>-v<version>`.

    Rewards stay as they are stored, clipped to [-1, 1]; metadata `reward_clipping` says so. What else was noticed and
    changed is counted there as well.

    Args:
        shards: of one game, from `find_shards` or `find_atari_pb_shards`.
        steps: transitions of each shard.
        kind: of the id.
        version: of the id.
        verify: read every file to its end, which checks gzip's checksums.
        selection: how the shards were chosen, for the metadata.
        source: where they are from, for the metadata.
        progress: called with the number of new transitions after each episode.
        overwrite: replace a dataset of the same id.

    Raises:
        InputError, DatasetError: as `read_episodes` and `write_dataset`.
    """
    games = sorted({shard.game for shard in shards})
    if len(games) != 1:
        raise InputError(f"a dataset is made of shards of one game, not of {games}")
    findings = Findings()

    def facts() -> dict[str, Any]:
        return {
            "source": dict(source),
            "selection": selection or {"steps": steps},
            "shards": [{"run": shard.run, "checkpoint": shard.checkpoint} for shard in shards],
            "checksums_verified": verify,
            "reward_clipping": "unknown" if findings.unclipped_rewards else PREPROCESSING["reward_clipping"],
            **asdict(findings),
        }

    episodes = read_episodes(shards, steps, count_actions(games[0]), verify=verify, progress=progress, findings=findings)
    return write_dataset(
        dataset_id(games[0], kind, version),
        episodes,
        sticky_actions=0.25,
        algorithm="DQN, at several stages of its training",
        author="DQN Replay Dataset: Agarwal, Schuurmans and Norouzi, 2020",
        metadata=facts,
        preprocessing=PREPROCESSING,
        overwrite=overwrite,
    )
