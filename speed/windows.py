"""How fast random windows are read: `WindowSampler` beside what others do with the same frames.

A window is the stack at t and the one three steps later, 7 frames, with three actions, rewards and terminations. One
process, everything in the page cache. All take turns, a few batches each, so that whatever else the machine does falls
on each.

- The ceiling is a bare `torch.index_select` of the same rows from the memory-mapped frames: one copy, nothing else.
- Atari-PB's way: a DataLoader over un-chunked HDF5 files, one per field, `(game, run, checkpoint, step, ...)`; a sample
  is two stacks of four frames and the small fields, each read for itself, and collated.
- TorchRL's way, where it is installed: a memory-mapped replay storage and its sampler of slices.
"""

from __future__ import annotations

import logging
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from support.frames import GAMES, default_folder, episodes
from support.report import parser, report
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretrainrl.data import FrameCache, Returns, WindowSampler, WindowSpec
from pretrainrl.data.frame_codec import CheckedFrames, RawFrames

SPEC = WindowSpec(future=3, steps=3)
STACK, FUTURE = 4, 3
FIELDS = {"observation": "uint8", "action": "uint8", "reward": "float32", "terminal": "bool"}

Batches = Iterator[Any]
Read = Callable[[int], Iterable[Any]]  # the next batches, as many as asked for


def prefetched(sampler: WindowSampler) -> Read:
    """Batches as a training loop gets them; each call starts and ends the thread that reads ahead."""
    done = 0

    def read(count: int) -> Batches:
        nonlocal done
        done += count
        return sampler.batches(done - count, done)

    return read


def going_on(batches: Batches) -> Read:
    """The next ones of what never ends."""
    return lambda count: islice(batches, count)


def bare(cache: FrameCache, sampler: WindowSampler) -> Batches:
    """Copies of the rows of each batch, which were worked out before."""
    assert isinstance(cache.frames, CheckedFrames) and isinstance(cache.frames.unchecked, RawFrames)
    frames = cache.frames.unchecked.tensor
    rows = [rows_of(cache, sampler, step) for step in range(min(50, sampler.steps_per_epoch))]
    return (frames.index_select(0, each) for each in cycle(rows))


def rows_of(cache: FrameCache, sampler: WindowSampler, step: int) -> Tensor:
    """Rows of one batch's frames in the cache, from where the windows of that step are."""
    windows = sampler._windows(step)
    episode = torch.searchsorted(sampler._ends, windows, right=True)
    now = cache.starts[episode] + windows - sampler._firsts[episode]
    rows = now.unsqueeze(1) + torch.arange(1 - STACK, FUTURE + 1)
    return torch.where(rows < cache.starts[episode].unsqueeze(1), 0, rows).flatten()


class PerSampleHdf5(Dataset[dict[str, Tensor]]):
    """Atari-PB's way: what one sample needs is read from each file when it is asked for.

    Args:
        folder: of the files, one per field.
    """

    def __init__(self, folder: Path) -> None:
        self._fields = {name: h5py.File(folder / f"{name}.hdf5")["data"] for name in FIELDS}
        self._shape = self._fields["action"].shape  # (game, run, checkpoint, step)
        self._starts = self._shape[-1] - STACK + 1 - FUTURE

    def __len__(self) -> int:
        return int(np.prod(self._shape[:-1])) * self._starts

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        shard, step = divmod(index, self._starts)
        place = np.unravel_index(shard, self._shape[:-1])
        item = {name: torch.tensor(field[(*place, slice(step, step + STACK))]) for name, field in self._fields.items()}
        later = slice(step + FUTURE, step + FUTURE + STACK)
        item["next_observation"] = torch.tensor(self._fields["observation"][(*place, later)])
        return item


def write_hdf5(cache: FrameCache, folder: Path, games: int, steps: int) -> None:
    """Write the transitions of a cache in Atari-PB's layout, episodes back to back."""
    if folder.exists():
        return
    rows = torch.cat([start + torch.arange(length) for start, length in zip(cache.starts, cache.lengths, strict=True)])
    rows = rows[: games * steps].view(games, 1, 1, steps)
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    arrays = {"action": cache.actions, "reward": cache.rewards, "terminal": cache.terminations}
    for name, dtype in FIELDS.items():
        with h5py.File(part / f"{name}.hdf5", "w") as file:
            shape = (*rows.shape, 1, 84, 84) if name == "observation" else rows.shape
            data = file.create_dataset("data", shape, dtype)
            for game in range(games):
                place = rows[game, 0, 0]
                values = cache.frames.read(place).unsqueeze(1) if name == "observation" else arrays[name][place]
                data[game, 0, 0] = values.numpy()
    part.rename(folder)


def torchrl_ways(cache: FrameCache, folder: Path, batch_size: int) -> dict[str, Batches]:
    """TorchRL's ways: sampled slices of its storage for DQN-Replay, and of its general one; none if not installed."""
    try:
        from tensordict import TensorDict
        from torchrl.data import LazyMemmapStorage, SliceSampler, TensorDictReplayBuffer
        from torchrl.data.datasets.atari_dqn import _AtariStorage
    except ImportError:
        return {}
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    shutil.rmtree(folder, ignore_errors=True)
    starts, lengths = cache.starts.tolist(), cache.lengths.tolist()
    rows = torch.cat([torch.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)])
    observation, action, reward = cache.frames.read(rows), cache.actions[rows], cache.rewards[rows]
    ends = torch.zeros(len(rows), dtype=torch.bool)
    ends[cache.lengths.cumsum(0) - 1] = True
    data = {"observation": observation, "action": action, "next": {"reward": reward, "terminated": ends}}
    padded = torch.cat([observation, torch.zeros(1, 84, 84, dtype=torch.uint8)])  # as its importer writes them
    TensorDict({"data": {**data, "observation": padded}}).memmap_(folder / "atari" / "0", copy_existing=False)
    atari = _AtariStorage(folder / "atari")

    general = LazyMemmapStorage(len(rows), scratch_dir=str(folder / "general"))
    general.set(range(len(rows)), TensorDict(data, [len(rows)]))
    slices = {"slice_len": STACK + FUTURE, "cache_values": True, "strict_length": False}

    def sampled(storage: Any) -> Batches:
        buffer = TensorDictReplayBuffer(
            storage=storage,
            sampler=SliceSampler(trajectories=atari.episodes, **slices),
            batch_size=batch_size * (STACK + FUTURE),
            collate_fn=lambda batch: batch,
        )
        while True:
            yield buffer.sample()

    return {
        "TorchRL, storage of `AtariDQNExperienceReplay`, `SliceSampler`": sampled(atari),
        "TorchRL, `LazyMemmapStorage`, `SliceSampler`": sampled(general),
    }


def endless(make: Callable[[], Iterable[Any]]) -> Batches:
    """One epoch after the other."""
    while True:
        yield from make()


def rate(read: Read, count: int) -> float:
    """Batches a second."""
    began = time.perf_counter()
    for _ in read(count):
        pass
    return count / (time.perf_counter() - began)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=20_000, help="transitions of each game")
    arguments.add_argument("--games", type=int, default=8, help=f"at most {len(GAMES)}")
    arguments.add_argument("--batch-size", type=int, default=512)
    arguments.add_argument("--turns", type=int, default=15)
    arguments.add_argument("--folder", type=Path, default=default_folder(), help="where frames are kept between runs")
    args = arguments.parse_args()

    root = args.folder / f"windows-{args.games}x{args.steps}"
    raw = FrameCache.build(episodes(args.steps, args.games), root / "raw", codec="raw")
    lz4 = FrameCache.build(episodes(args.steps, args.games), root / "lz4", codec="lz4")
    write_hdf5(raw, root / "hdf5", args.games, args.steps)
    samplers = [WindowSampler(cache, SPEC, args.batch_size) for cache in (raw, lz4)]
    summed = WindowSampler(raw, WindowSpec(FUTURE, 3, STACK, Returns()), args.batch_size)
    hdf5 = PerSampleHdf5(root / "hdf5")
    hdf5_batches = endless(lambda: DataLoader(hdf5, args.batch_size, shuffle=True, drop_last=True))

    ways: dict[str, tuple[Read, int]] = {  # and batches a turn
        "bare `index_select`": (going_on(bare(raw, samplers[0])), 30),
        "`WindowSampler`, raw": (prefetched(samplers[0]), 30),
        "`WindowSampler`, raw, with returns-to-go": (prefetched(summed), 30),
        "`WindowSampler`, lz4": (prefetched(samplers[1]), 8),
        "DataLoader over HDF5, as in Atari-PB": (going_on(hdf5_batches), 1),
    }
    torchrl = torchrl_ways(raw, root / "torchrl", args.batch_size)
    ways |= {name: (going_on(batches), 1) for name, batches in torchrl.items()}
    for read, _ in ways.values():
        rate(read, 2)  # the page cache
    turns = [{name: rate(read, count) for name, (read, count) in ways.items()} for _ in range(args.turns)]
    rows = [["windows of 7 frames", "batches/s", "GB/s", "of the bare copy", "raw `WindowSampler` is faster by"]]
    for name in ways:
        speed = statistics.median(turn[name] for turn in turns)
        share = statistics.median(turn[name] / turn["bare `index_select`"] for turn in turns)
        faster = statistics.median(turn["`WindowSampler`, raw"] / turn[name] for turn in turns)
        volume = speed * args.batch_size * (STACK + FUTURE) * 84 * 84 / 1e9
        rows.append([name, f"{speed:.1f}", f"{volume:.2f}", f"{share:.0%}", f"**{faster:.1f}x**"])
    missing = "" if torchrl else " TorchRL was not installed."
    remark = (
        f"Medians of {args.turns} turns; batches of {args.batch_size}; {raw.num_transitions:,} transitions of "
        f"{args.games} games, {len(raw.frames) * 84 * 84 / 1e9:.1f} GB raw.{missing}"
    )
    report("windows", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
