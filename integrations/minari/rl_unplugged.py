"""Episode records of RL Unplugged become a Minari dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import minari

from pretrainrl.data.sources.dqn_replay import PREPROCESSING, count_actions
from pretrainrl.data.sources.rl_unplugged import RecordFile, read_record_episodes
from pretrainrl.errors import InputError
from pretrainrl.integrations.minari.dqn_replay import SOURCE
from pretrainrl.integrations.minari.metadata import dataset_id
from pretrainrl.integrations.minari.write import write_dataset

RL_UNPLUGGED_SOURCE = {
    "dataset": "RL Unplugged, Atari, episodes in order",
    "url": "https://github.com/google-deepmind/deepmind-research/tree/master/rl_unplugged",
    "paper": "https://arxiv.org/abs/2006.13888",
    "rom_set": SOURCE["rom_set"],
}


def import_rl_unplugged(
    files: Sequence[RecordFile],
    steps: int = 10_000,
    *,
    kind: str = "rlu",
    version: int = 0,
    verify: bool = False,
    selection: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    overwrite: bool = False,
) -> minari.MinariDataset:
    """Publish the first `steps` transitions of every file as `pretrainrl/atari/<game>-<kind>-v<version>`.

    Rewards are the raw score, and every final observation is the true one.

    Args:
        files: of one game, from `find_records`.
        steps: transitions of each file.
        kind: of the id.
        version: of the id.
        verify: read every file to its end, which checks all checksums.
        selection: how the files were chosen, for the metadata.
        progress: called with the number of new transitions after each episode.
        overwrite: replace a dataset of the same id.

    Raises:
        InputError, DatasetError: as `read_record_episodes` and `write_dataset`.
    """
    games = sorted({file.game for file in files})
    if len(games) != 1:
        raise InputError(f"a dataset is made of records of one game, not of {games}")
    preprocessing = {**PREPROCESSING, "reward_clipping": "none"}
    return write_dataset(
        dataset_id(games[0], kind, version),
        read_record_episodes(files, steps, count_actions(games[0]), verify=verify, progress=progress),
        sticky_actions=0.25,
        algorithm="DQN, at several stages of its training",
        author="RL Unplugged: Gulcehre et al., 2020; DQN Replay Dataset: Agarwal, Schuurmans and Norouzi, 2020",
        metadata={
            "source": RL_UNPLUGGED_SOURCE,
            "selection": selection or {"steps": steps},
            "shards": [{"run": file.run, "checkpoint": file.checkpoint} for file in files],
            "checksums_verified": verify,
            "reward_clipping": preprocessing["reward_clipping"],
        },
        preprocessing=preprocessing,
        overwrite=overwrite,
    )
