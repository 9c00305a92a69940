"""A process that plays its share of a recording's episodes again: `python -m pretrainrl.data.replay_worker`.

It is started as a command rather than by `multiprocessing`, which would run the user's script once more in every process. What
it leaves are files, so whatever was finished before an interruption is not played twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pretrainrl.data.emulator import Emulator
from pretrainrl.data.packing import PackedEpisode
from pretrainrl.data.recording import Recording, replay
from pretrainrl.errors import PretrainRLError


def episode_file(folder: Path, index: int) -> Path:
    """Return where episode `index` lies once it has been played."""
    return folder / f"episode-{index:06d}.npz"


def play_share(recording: Recording, folder: Path, share: int, shares: int, *, ram: bool = False) -> None:
    """Play the episodes of share `share` of `shares` that are not in `folder` yet; print the transitions of each."""
    emulator = Emulator(recording.check_game())
    parent = os.getppid()
    for index in deal([len(episode) for episode in recording.episodes], shares)[share]:
        if os.getppid() != parent:
            return  # whoever asked for the episodes is gone
        target = episode_file(folder, index)
        if not target.exists():
            PackedEpisode.of(replay(emulator, recording.game, recording.episodes[index], ram=ram)).write(target)
        print(len(recording.episodes[index]), flush=True)


def deal(lengths: Sequence[int], shares: int) -> list[list[int]]:
    """Deal out episodes of these lengths so that all shares take about as long: the longest first, to whoever has least."""
    dealt: list[list[int]] = [[] for _ in range(shares)]
    totals = [0] * shares
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        least = totals.index(min(totals))
        dealt[least].append(index)
        totals[least] += lengths[index]
    return dealt


def main(arguments: Sequence[str]) -> int:
    """Read RECORDING FOLDER SHARE SHARES frames|ram, and return the exit status."""
    path, folder, share, shares, kept = arguments
    try:
        play_share(Recording.read(Path(path)), Path(folder), int(share), int(shares), ram=kept == "ram")
    except (PretrainRLError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
