"""Importing the first 10,000 transitions of a shard of the DQN Replay Dataset, beside unpacking all of the shard.

The shard is made in the original layout, gzip at level 9: real frames of random play, repeated until there are enough
rows. No episode ends in it, so that the 10,000 transitions are one episode, which is what takes the most memory. The
whole shard is only unpacked, block by block, and thrown away; `numpy.load` would also need 7 GB of memory. Memory is the
peak of a process of its own that publishes the 10,000 transitions, less what it had after its imports.
"""

from __future__ import annotations

import argparse
import gzip
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from support.report import parser, report

from pretrainrl.data.collect import collect_episodes, single_env
from pretrainrl.data.sources.dqn_replay import ShardFiles, find_shards, find_sources
from pretrainrl.data.sources.shard import read_episodes
from pretrainrl.games import find_game
from pretrainrl.paths import atomic_path

GAME, STEPS, PLAYED, ACTIONS = "Breakout", 10_000, 20_000, 4
TARGET_RATIO, TARGET_MEMORY = 50, 200
_BLOCK = 1 << 20


def make_shard(folder: Path, rows: int) -> None:
    """Write a shard of `rows` rows, unless it is there."""
    files = folder / GAME / "1" / "replay_logs"
    if files.is_dir():
        return
    episodes = list(collect_episodes(GAME, min(rows, PLAYED), n_envs=4))
    played: dict[str, npt.NDArray[Any]] = {
        "observation": np.concatenate([episode.frames[:-1] for episode in episodes]),
        "action": np.concatenate([episode.actions for episode in episodes]).astype(np.int32),
        "reward": np.concatenate([np.clip(episode.rewards, -1, 1) for episode in episodes]),
    }
    played["terminal"] = np.zeros(len(played["action"]), np.uint8)
    with atomic_path(files) as temporary:
        temporary.mkdir()
        for name, array in played.items():
            with gzip.open(temporary / f"$store$_{name}_ckpt.1.gz", "wb", 9) as file:
                np.lib.format.write_array_header_1_0(
                    file,
                    {"descr": array.dtype.str, "fortran_order": False, "shape": (rows, *array.shape[1:])},
                )
                for part in parts(array, rows):
                    file.write(part)


def parts(array: npt.NDArray[Any], rows: int) -> Iterator[bytes]:
    """Yield three empty rows and then those of `array`, again and again, `rows` in all."""
    padding = np.zeros((3, *array.shape[1:]), array.dtype)
    yield padding[:rows].tobytes()
    rows -= 3
    while rows > 0:
        for start in range(0, min(rows, len(array)), 1000):
            yield array[start : min(start + 1000, rows)].tobytes()
        rows -= len(array)


def shard_of(folder: Path) -> list[ShardFiles]:
    return find_shards(folder, [GAME], [1], [1])[GAME.lower()]


def read_first(folder: Path) -> float:
    """Seconds for the transitions asked for."""
    began = time.perf_counter()
    for _ in read_episodes(shard_of(folder), STEPS, ACTIONS):
        pass
    return time.perf_counter() - began


def unpack_all(folder: Path) -> float:
    """Seconds for all rows of the four files, decoded and dropped."""
    began = time.perf_counter()
    for path in shard_of(folder)[0].arrays.values():
        with gzip.open(path) as file:
            while file.read(_BLOCK):
                pass
    return time.perf_counter() - began


def memory(folder: Path) -> float:
    """Peak memory in MB of a process that publishes the transitions asked for, less what it had before."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, __file__, "--write", str(folder)]
        environment = {**os.environ, "MINARI_DATASETS_PATH": root}
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(process.stdout.split()[-1])


def write_dataset(folder: Path) -> None:
    """Publish, and print how much memory that took, in MB."""
    from pretrainrl.integrations.minari import import_source

    single_env(find_game(GAME), 0.25).close()  # what is loaded with the first environment
    sources, before = find_sources(folder, [GAME], runs=[1], checkpoints=[1], steps=STEPS), peak()
    import_source(sources)
    print(peak() - before)


def peak() -> float:
    """The most memory that this process has had, in MB."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS, which counts bytes
    # On Linux, resource.getrusage starts with the peak of the process that started this one.
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1e3


def arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000, help="of the shard")
    made.add_argument("--folder", type=Path, help="where shards are kept; default in the system's temporary folder")
    made.add_argument("--turns", type=int, default=5)
    made.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    return made.parse_args()


def main() -> None:
    args = arguments()
    if args.write:
        write_dataset(args.write)
        return
    folder = (args.folder or Path(tempfile.gettempdir()) / "pretrainrl-benchmarks") / f"shard-{args.rows}"
    make_shard(folder, args.rows)
    read_first(folder)
    first = statistics.median(read_first(folder) for _ in range(args.turns))
    whole = unpack_all(folder)
    peak = memory(folder)
    rows = [
        ["", "measured", "target"],
        [f"import of {STEPS:,} rows", f"{first:.3f} s", ""],
        [f"unpacking all {args.rows:,} rows", f"{whole:.2f} s", ""],
        ["ratio", f"**{whole / first:.0f}x**", f"at least {TARGET_RATIO}x, of a million rows"],
        ["peak memory of the import", f"{peak:.0f} MB", f"at most {TARGET_MEMORY} MB"],
    ]
    size = shard_of(folder)[0].arrays["observation"].stat().st_size / args.rows
    remark = f"Median of {args.turns} imports; {size:.0f} bytes a frame in the shard; one episode of {STEPS:,} transitions."
    report("import_shard", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
