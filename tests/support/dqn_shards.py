"""Writes shards of the DQN Replay Dataset as they are in circulation, from episodes or numbered frames."""

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pretrainrl.data.episode import Episode

Log = dict[str, npt.NDArray[np.generic]]

LAYOUTS = {
    "original": "{run}/replay_logs/$store$_{name}_ckpt.{checkpoint}",
    "d4rl-atari": "{run}/{checkpoint}/{name}",
    "atari-pb": "{name}_{run}_{checkpoint}",
    "sgi": "{name}_{checkpoint}",
}


def log_of(episodes: Sequence[Episode], padding: int = 3) -> Log:
    """What the replay buffer of a DQN agent holds after `episodes`; the final observations are not in it."""
    rows: dict[str, list[npt.NDArray[np.generic]]] = {"observation": [], "action": [], "reward": [], "terminal": []}
    for episode in episodes:
        empty = np.zeros(padding, np.uint8)
        rows["observation"] += [np.zeros((padding, 84, 84), np.uint8), episode.frames[:-1]]
        rows["action"] += [empty, episode.actions]
        rows["reward"] += [empty, np.clip(episode.rewards, -1, 1)]
        rows["terminal"] += [empty, np.arange(len(episode)) == len(episode) - 1]
    dtypes = {"observation": np.uint8, "action": np.int32, "reward": np.float32, "terminal": np.uint8}
    return {name: np.concatenate(parts).astype(dtypes[name]) for name, parts in rows.items()}


def numbered(lengths: Sequence[int], number: int = 0) -> list[Episode]:
    """Episodes of Pong whose frames and actions tell which they are."""
    episodes = []
    for index, steps in enumerate(lengths, number):
        frames = np.zeros((steps + 1, 84, 84), np.uint8)
        frames[:, 0, 0], frames[:, 0, 1] = index + 1, np.arange(steps + 1) % 250 + 1
        rewards = np.arange(steps) % 3 - 1
        ends = np.arange(steps) == steps - 1
        episodes.append(Episode(frames, np.arange(steps) % 6, rewards.astype(np.float32), ends, ~ends & ends, "pong"))
    return episodes


def write_shard(
    root: Path,
    log: Log,
    *,
    game: str = "Pong",
    run: int = 1,
    checkpoint: int = 1,
    layout: str = "original",
    suffix: str = ".gz",
    add_count: int | None = None,
) -> dict[str, Path]:
    """Write the four files of a shard, and with `add_count` a fifth; returns their paths by array."""
    paths = {}
    counted: Log = log if add_count is None else {**log, "add_count": np.array(add_count)}
    for name, array in counted.items():
        place = LAYOUTS[layout].format(run=run, name=name, checkpoint=checkpoint) + suffix
        path = root / game / (place.replace("$store$_", "") if name == "add_count" else place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(npy(array), 1) if suffix == ".gz" else npy(array))
        paths[name] = path
    return paths


def npy(array: npt.NDArray[np.generic]) -> bytes:
    """Content of a `.npy` file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
