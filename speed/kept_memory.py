"""Processor time of training steps with and without `pretrainrl.malloc.keep_freed_memory`, on one core.

Without it, GNU's C library gives large tensors back to the system after each step, and is handed zeroed pages anew. Each step
is measured in processes of its own, which take turns; what the system spends on pages is a part of their time.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from support.report import parser, report

STEPS = {"curl": "`pretrain curl`, 128 windows, `impala`", "rainbow": "Rainbow's update, NatureCNN, batch 32"}


def pretraining_step() -> Callable[[int], object]:
    """One step of pre-training."""
    from support.pretraining import make_cache, make_run

    from pretrainrl.device import has_native_bf16

    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder))
        precision = "bf16-mixed" if has_native_bf16("cpu") else "32-true"
        run = make_run(cache, "curl", preset="nano", batch_size=128, precision=precision)
        batches = [run.sampler.batch(step) for step in range(4)]
    return lambda step: run.step(step, batches[step % 4])


def update() -> Callable[[int], object]:
    """One update of an agent."""
    from pretrainrl.integrations.sb3 import AtariVecEnv, Rainbow

    agent = Rainbow("CnnPolicy", AtariVecEnv("pong", 8, seed=0), buffer_size=5_000, learning_starts=400, seed=0, device="cpu")
    agent.learn(480)
    return lambda step: agent.train(1, 32)


def measure(name: str, keep: bool, steps: int) -> float:
    """Milliseconds of processor time that a step takes, in this process."""
    import torch

    from pretrainrl.malloc import keep_freed_memory

    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    step = pretraining_step() if name == "curl" else update()
    for number in range(5):
        step(number)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for number in range(steps):
        step(number)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return 1_000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / steps


def in_another_process(name: str, keep: bool, steps: int) -> float:
    """`measure`, in a new process."""
    command = [sys.executable, __file__, "--one", name, "keep" if keep else "return", "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()[-1])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--one", nargs=2)
    args = arguments.parse_args()
    if args.one:
        print(measure(args.one[0], args.one[1] == "keep", args.steps))
        return
    rows = [["processor time of a step", "given back, ms", "kept, ms", "speed-up"]]
    for name, title in STEPS.items():
        turns = [[in_another_process(name, keep, args.steps) for keep in (False, True)] for _ in range(args.turns)]
        without, kept = (statistics.median(column) for column in zip(*turns, strict=True))
        ratio = statistics.median(first / second for first, second in turns)
        rows.append([title, f"{without:.0f}", f"{kept:.0f}", f"**{ratio:.2f}x**"])
    report("kept_memory", rows, f"Medians of {args.turns} turns, one core.", write=args.write)


if __name__ == "__main__":
    main()
