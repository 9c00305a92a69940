"""Windows under torchrun: processes share the data without talking about it."""

import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec

BATCH, STEPS = 6, 40

# What one process of two does: batches of its own stride, and the number of all that were read, by gloo.
SCRIPT = """
import json, os, sys, zlib
from pathlib import Path
import torch
import torch.distributed as dist
from pretrainrl.data import FrameCache, WindowSampler, WindowSpec

dist.init_process_group("gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()
folder, batch, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sampler = WindowSampler(
    FrameCache.open(folder / "cache"), WindowSpec(future=1, steps=1), batch, seed=5, rank=rank, world_size=world_size
)
seen = [
    zlib.crc32(frames.numpy().tobytes() + bytes([action]))
    for windows in sampler.batches(0, steps)
    for frames, action in zip(windows.frames, windows.actions[:, 0].tolist())
]
total = torch.tensor(len(seen))
dist.all_reduce(total)
(folder / f"rank{rank}.json").write_text(json.dumps({"seen": seen, "total": int(total)}))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_see_what_one_sees(tmp_path: Path) -> None:
    cache = FrameCache.build(collect_episodes("breakout", 300, n_envs=2, seed=1), tmp_path / "cache", codec="lz4")
    whole = WindowSampler(cache, WindowSpec(future=1, steps=1), 2 * BATCH, seed=5)
    assert whole.steps_per_epoch < STEPS  # into the second epoch
    expected = [
        [
            zlib.crc32(frames.numpy().tobytes() + bytes([action]))
            for frames, action in zip(batch.frames, batch.actions[:, 0].tolist(), strict=True)
        ]
        for batch in whole.batches(0, STEPS)
    ]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launch, str(script), str(tmp_path), str(BATCH), str(STEPS)], check=True, timeout=300, capture_output=True)
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [rank["total"] for rank in ranks] == [2 * BATCH * STEPS] * 2
    for step, both in enumerate(expected):
        parts = [rank["seen"][step * BATCH : (step + 1) * BATCH] for rank in ranks]
        assert parts == [both[0::2], both[1::2]]
    epoch = BATCH * whole.steps_per_epoch
    assert len(set(ranks[0]["seen"][:epoch])) > 0.9 * epoch  # real frames repeat themselves now and then
