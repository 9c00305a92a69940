"""How fast a pre-training step with ResNet-50 is, beside the plain version of the same step.

Both take the step of `pretrain`: augmentation, loss, gradients, clipping, AdamW, momentum copies; 16 windows, the paper's
network sizes. The plain one computes in float32 on contiguous (NCHW) tensors, this package's in bfloat16 autocast on
channels-last ones. The two take turns. The ceiling is what a product of two 2048x2048 bfloat16 matrices reaches between them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from support.pretraining import make_cache, make_run
from support.report import parser, report
from torch.utils.flop_counter import FlopCounterMode

from pretrainrl.data import FrameCache
from pretrainrl.pretraining.loop import Pretraining

OBJECTIVES = ("bc", "curl", "siammae", "cql_d")
BATCH = 16
SIZE = 2048


def stepper(run: Pretraining) -> Callable[[], None]:
    """Return a function that takes one step, always with the same windows."""
    batch = run.sampler.batch(0)
    return lambda: void(run.step(0, batch))


def void(_: object) -> None:
    """Drop a result."""


def seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(cache: FrameCache, objective: str, turns: int) -> list[str]:
    """Measure one objective; returns a row of the table."""
    plain = make_run(cache, objective, preset="paper", batch_size=BATCH, precision="32-true")
    plain.objective.to(memory_format=torch.contiguous_format)
    own = make_run(cache, objective, preset="paper", batch_size=BATCH, precision="bf16-mixed")
    with FlopCounterMode(display=False) as counter:
        stepper(plain)()
    a, b = torch.randn(2, SIZE, SIZE, dtype=torch.bfloat16)
    works = {"plain": stepper(plain), "own": stepper(own), "product": lambda: void(a @ b)}
    for work in works.values():
        work()
    spent = {name: [0.0] * turns for name in works}
    for turn in range(turns):
        for name, work in works.items():
            spent[name][turn] = seconds(work)
    median = {name: statistics.median(times) for name, times in spent.items()}
    ratio = statistics.median(slow / fast for slow, fast in zip(spent["plain"], spent["own"], strict=True))
    reached, ceiling = counter.get_total_flops() / median["own"], 2 * SIZE**3 / median["product"]
    return [
        f"`{objective}`",
        f"{BATCH / median['plain']:.1f}",
        f"{BATCH / median['own']:.1f}",
        f"**{ratio:.1f}x**",
        f"{reached / 1e9:.0f}",
        f"{reached / ceiling:.0%} of {ceiling / 1e9:.0f}",
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--objectives", nargs="+", default=OBJECTIVES)
    args = arguments.parse_args()
    rows = [
        ["ResNet-50, 16 windows", "plain, windows/s", "`pretrain`, windows/s", "speed-up", "GFLOP/s", "of the bf16 ceiling"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder))
        rows += [compare(cache, objective, args.turns) for objective in args.objectives]
    report("pretraining_step", rows, f"Medians of {args.turns} turns.", write=args.write)


if __name__ == "__main__":
    main()
