"""How fast a frozen ResNet-50 encodes observations, beside the same network run the ordinary way.

The ordinary way is eager PyTorch in float32 with contiguous (NCHW) tensors, as torchvision's models run by default. Weights
and input, observations of 4x84x84 uint8, are the same. Each variant has a process of its own, because those of `make_encoder`
keep freed memory, as the command line does. They take turns, so that whatever else the machine does falls on each. The
ceiling is what a product of two 2048x2048 matrices reaches in the same turns.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import torch
from support.report import parser, report
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import pretrainrl
from pretrainrl.device import has_native_bf16
from pretrainrl.encoders.factory import make_backbone
from pretrainrl.malloc import keep_freed_memory

BATCHES = (8, 1)
SIZE = 2048
PAUSE = 0.02  # seconds in which the threads of the process before come to rest

Work = Callable[[], object]


def observations(batch: int) -> Tensor:
    return torch.randint(0, 256, (batch, 4, 84, 84), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def ordinary(batch: int) -> Work:
    backbone, frames = make_backbone("resnet50").eval(), observations(batch)
    return lambda: backbone(frames.float() / 255)


def encoder(dtype: str, batch: int, *, prepared: bool = True) -> Work:
    keep_freed_memory()
    made, frames = pretrainrl.make_encoder("random.resnet50", dtype=dtype, prepared=prepared), observations(batch)
    return lambda: made.feature_map(frames)


def product(dtype: str) -> Work:
    a, b = torch.randn(2, SIZE, SIZE).to(getattr(torch, dtype))
    return lambda: a @ b


# By the name in the table: what makes it, and in which dtype it computes.
VARIANTS: dict[str, tuple[Callable[[int], Work], str]] = {
    "eager float32 NCHW": (ordinary, "float32"),
    "`make_encoder(..., prepared=False)`": (partial(encoder, "float32", prepared=False), "float32"),
    "`make_encoder(...)`": (partial(encoder, "float32"), "float32"),
    '`make_encoder(..., dtype="bfloat16", prepared=False)`': (partial(encoder, "bfloat16", prepared=False), "bfloat16"),
    '`make_encoder(..., dtype="bfloat16")`': (partial(encoder, "bfloat16"), "bfloat16"),
}
DTYPES = ("float32", "bfloat16")


@torch.no_grad()
def serve(make: Callable[[], Work], turns: Connection) -> None:
    """Do the work once for each request and answer with the seconds that it took."""
    work = make()
    while turns.recv():
        time.sleep(PAUSE)
        began = time.perf_counter()
        work()
        turns.send(time.perf_counter() - began)


def measure(makers: dict[str, Callable[[], Work]], turns: int) -> dict[str, list[float]]:
    """Seconds of every turn of each, after three turns that do not count."""
    context, ends = multiprocessing.get_context("fork"), {}
    for name, make in makers.items():
        ends[name], theirs = context.Pipe()
        context.Process(target=serve, args=(make, theirs), daemon=True).start()
    spent: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(3 + turns):
        for name, end in ends.items():
            end.send(True)
            spent[name].append(end.recv())
    for end in ends.values():
        end.send(False)
    return {name: seconds[3:] for name, seconds in spent.items()}


def rows_of(batch: int, spent: dict[str, list[float]], flops: int) -> list[list[str]]:
    """Rows of the table for one size of batch."""
    base, rows = spent[next(iter(VARIANTS))], []
    for name, (_, dtype) in VARIANTS.items():
        median = statistics.median(spent[name])
        rate, ceiling = batch * flops / median / 1e9, 2 * SIZE**3 / statistics.median(spent[dtype]) / 1e9
        ratio = statistics.median(ordinary / own for ordinary, own in zip(base, spent[name], strict=True))
        share = f"{rate / ceiling:.0%} of {ceiling:.0f} in {dtype}"
        rows.append(
            [str(batch), name, f"{1000 * median:.0f}", f"{batch / median:.0f}", f"{rate:.0f}", share, f"**{ratio:.2f}x**"]
        )
    return rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--turns", type=int, default=40)
    args = arguments.parse_args()
    rows = [["observations", "ResNet-50", "ms", "observations/s", "GFLOP/s", "of the ceiling", "speed-up"]]
    products = {dtype: partial(product, dtype) for dtype in DTYPES}
    # Before this process computes anything: a child of one whose threads have started would wait for them for ever.
    spent = {
        batch: measure({**{name: partial(make, batch) for name, (make, _) in VARIANTS.items()}, **products}, args.turns)
        for batch in BATCHES
    }
    with FlopCounterMode(display=False) as counter:
        ordinary(1)()
    for batch in BATCHES:
        rows += rows_of(batch, spent[batch], counter.get_total_flops())
    native = "" if has_native_bf16("cpu") else " This processor emulates bfloat16."
    remark = f"Medians of {args.turns} turns; {counter.get_total_flops() / 1e9:.1f} GFLOP an observation.{native}"
    report("encoder_forward", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
