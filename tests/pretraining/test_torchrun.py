"""Pre-training in two processes, started as the documentation says, against pre-training in one."""

import re
import subprocess
import sys
from pathlib import Path

import pretrain_once
import torch

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.encoders import make_backbone

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SCRIPT = str(Path(pretrain_once.__file__))


def test_one_step_in_two_processes_equals_one_step_in_one(tmp_path: Path):
    cache, one, two = (tmp_path / name for name in ("cache", "one", "two"))
    FrameCache.build(collect_episodes("boxing", 40, n_envs=1), cache)
    pretrain_once.pretrain_once(cache, one, "atc")
    done = subprocess.run([*TORCHRUN, SCRIPT, cache, two, "atc"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    states = [torch.load(out / "checkpoints/step_0000000001/state.pt", weights_only=True) for out in (one, two)]
    moments = [list(state["optimizer"]["state"].values()) for state in states]
    assert len(moments[0]) == len(moments[1]) > 10
    for ours, theirs in zip(*moments, strict=True):  # gradients, clipped: Adam's first step keeps only their signs
        torch.testing.assert_close(ours["exp_avg"], theirs["exp_avg"], rtol=1e-4, atol=1e-8)
    start = torch.cat([p.flatten() for p in make_backbone("nature", seed=0).parameters()])
    ends = [torch.cat([v.flatten() for k, v in s["objective"].items() if k.startswith("backbone.")]) for s in states]
    assert (ends[0] - ends[1]).norm() < 1e-2 * (ends[0] - start).norm()


def test_a_signal_to_one_process_stops_both_after_the_same_step(tmp_path: Path):
    cache, out = tmp_path / "cache", tmp_path / "out"
    FrameCache.build(collect_episodes("boxing", 200, n_envs=1), cache)
    command: list[str | Path] = [*TORCHRUN, SCRIPT, cache, out, "curl", "40", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = re.findall(r"stopped at step (\d+) of 40; go on with --resume", done.stdout)
    assert len(steps) == 2 and len(set(steps)) == 1
    assert [path.name for path in (out / "checkpoints").iterdir()] == [f"step_{int(steps[0]):010d}"]


def test_however_many_signals_arrive_all_stop_after_the_same_step(tmp_path: Path):
    """As when a scheduler ends a job: every process is asked, torchrun passes its own signal on, and some come twice."""
    cache, out = tmp_path / "cache", tmp_path / "out"
    FrameCache.build(collect_episodes("boxing", 200, n_envs=1), cache)
    command: list[str | Path] = [*TORCHRUN, SCRIPT, cache, out, "curl", "4000", "5", "all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    steps = re.findall(r"stopped at step (\d+) of 4000; go on with --resume", done.stdout)
    assert len(steps) == 2 and len(set(steps)) == 1, done.stderr
    assert [path.name for path in (out / "checkpoints").iterdir()] == [f"step_{int(steps[0]):010d}"]
