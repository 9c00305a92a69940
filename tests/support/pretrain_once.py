"""A few optimizer steps of pre-training, to be started by torchrun: CACHE_FOLDER OUT_FOLDER OBJECTIVE [STEPS STOP_AT].

With STOP_AT, the second process sends itself SIGINT when it reads that batch; each process prints why it stopped.
"""

import os
import signal
import sys
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


def stop_second_process(last: int) -> None:
    read = WindowSampler.batch

    def batch(self: WindowSampler, step: int) -> Batch:
        if step == last and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGINT)
        return read(self, step)

    WindowSampler.batch = batch  # type: ignore[method-assign]


if __name__ == "__main__":
    cache, out, objective, *rest = sys.argv[1:]
    if rest:
        stop_second_process(int(rest[1]))
    try:
        pretrain_once(Path(cache), Path(out), objective, *map(int, rest[:1]))
    except InterruptedRunError as error:
        print(error, flush=True)
