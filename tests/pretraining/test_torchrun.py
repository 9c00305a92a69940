"""Pre-training in two processes, started as the documentation says, against pre-training in one."""

import subprocess
import sys
from pathlib import Path

import pretrain_once
import torch

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.encoders import make_backbone


def test_one_step_in_two_processes_equals_one_step_in_one(tmp_path: Path):
    cache, one, two = (tmp_path / name for name in ("cache", "one", "two"))
    FrameCache.build(collect_episodes("boxing", 40, num_envs=1), cache)
    pretrain_once.pretrain_once(cache, one, "atc")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = str(Path(pretrain_once.__file__))
    done = subprocess.run([*torchrun, script, cache, two, "atc"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    states = [torch.load(out / "checkpoints/step_0000000001/state.pt", weights_only=True) for out in (one, two)]
    moments = [list(state["optimizer"]["state"].values()) for state in states]
    assert len(moments[0]) == len(moments[1]) > 10
    for ours, theirs in zip(*moments, strict=True):  # gradients, clipped: Adam's first step keeps only their signs
        torch.testing.assert_close(ours["exp_avg"], theirs["exp_avg"], rtol=1e-4, atol=1e-8)
    start = torch.cat([p.flatten() for p in make_backbone("nature", seed=0).parameters()])
    ends = [torch.cat([v.flatten() for k, v in s["objective"].items() if k.startswith("backbone.")]) for s in states]
    assert (ends[0] - ends[1]).norm() < 1e-2 * (ends[0] - start).norm()
