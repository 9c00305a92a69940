"""One process's share of playing a recording again.

What a process leaves are files, so whatever was finished before an interruption is not played twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pretrainrl.data.emulator import Emulator
from pretrainrl.data.packing import PackedEpisode
from pretrainrl.data.recording import Recording, replay


def episode_file(folder: Path, index: int) -> Path:
    """Return where episode `index` lies once it has been played."""
    return folder / f"episode-{index:06d}.npz"


def play_share(file: Path, folder: Path, shares: int, ram: bool, share: str, report: Callable[[int], None]) -> str:
    """Play the episodes of one share that are not in `folder` yet.

    Args:
        file: File of the recording.
        folder: Folder for the episodes that are played.
        shares: Number of shares.
        ram: Whether the console's memory is kept, too.
        share: Number of this share, from 0.
        report: Function that is called with the number of transitions of each episode.

    Returns:
        The number of this share.

    Raises:
        DatasetError: The recording is damaged, or its game is another here.
    """
    recording = Recording.read(file)
    emulator = Emulator(recording.check_game())
    recording.check_steps(emulator.num_actions)
    for index in deal([len(episode) for episode in recording.episodes], shares)[int(share)]:
        target = episode_file(folder, index)
        if not target.exists():
            PackedEpisode.of(replay(emulator, recording.game, recording.episodes[index], ram=ram)).write(target)
        report(len(recording.episodes[index]))
    return share


def deal(lengths: Sequence[int], shares: int) -> list[list[int]]:
    """Deal out episodes of these lengths so that all shares take about as long: the longest first, to whoever has least."""
    dealt: list[list[int]] = [[] for _ in range(shares)]
    totals = [0] * shares
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        least = totals.index(min(totals))
        dealt[least].append(index)
        totals[least] += lengths[index]
    return dealt
