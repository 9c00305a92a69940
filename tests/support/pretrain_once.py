"""One optimiser step of pre-training, to be started by torchrun: CACHE_FOLDER OUT_FOLDER OBJECTIVE."""

import sys
from pathlib import Path

import torch

from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.pretraining import PretrainConfig, run


def pretrain_once(cache: Path, out: Path, objective: str) -> None:
    torch.set_num_threads(1)
    config = PretrainConfig.of(
        objective,
        ("pretrainrl/atari/boxing-random-v0",),
        steps=1,
        batch_size=8,
        backbone="nature",
        model={"augmentation": False},  # drawn anew in every process
    )
    run(config, out, lambda: FrameCache.open(cache), device="cpu", progress=False)


if __name__ == "__main__":
    pretrain_once(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
