"""A few optimizer steps of pre-training, to be started by torchrun: CACHE_FOLDER OUT_FOLDER OBJECTIVE [STEPS STOP_AT [all]].

With STOP_AT, the second process sends itself SIGINT when it reads that batch; with `all` behind it, both processes send
themselves SIGTERM twice, and one of them sends it to torchrun, too, which passes it on. Each prints why it stopped.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Batch
from pretrainrl.pretraining import PretrainConfig, run
from pretrainrl.runs.interrupt import InterruptedRunError


def pretrain_once(cache: Path, out: Path, objective: str, steps: int = 1) -> None:
    torch.set_num_threads(1)
    config = PretrainConfig.of(
        objective,
        ("pretrainrl/atari/boxing-random-v0",),
        steps=steps,
        batch_size=8,
        backbone="nature",
        model={"augmentation": False},  # drawn anew in every process
    )
    run(config, out, lambda: FrameCache.open(cache), device="cpu", progress=False)


def stop_at(last: int, everywhere: bool) -> None:
    read, second = WindowSampler.batch, os.environ["RANK"] == "1"

    def batch(self: WindowSampler, step: int) -> Batch:
        if step == last and everywhere:
            for receiver in (os.getpid(), *([os.getppid()] if second else []), os.getpid()):
                os.kill(receiver, signal.SIGTERM)
                time.sleep(0.05)
        elif step == last and second:
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, step)

    WindowSampler.batch = batch  # type: ignore[method-assign]


if __name__ == "__main__":
    cache, out, objective, *rest = sys.argv[1:]
    if rest:
        stop_at(int(rest[1]), everywhere=rest[2:] == ["all"])
    try:
        pretrain_once(Path(cache), Path(out), objective, *map(int, rest[:1]))
    except InterruptedRunError as error:
        print(error, flush=True)
