"""How fast a frozen ResNet-50 encodes observations, beside the same network run the ordinary way.

The ordinary way is eager PyTorch in float32 with contiguous (NCHW) tensors, as torchvision's models run by default. Weights
and input, 8 observations of 4x84x84 uint8, are the same. All variants take turns, so that whatever else the machine does
falls on each. The ceiling is what a product of two 2048x2048 matrices reaches in the same turns.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
from support.report import parser, report
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import pretrainrl
from pretrainrl.device import has_native_bf16

BATCH = 8
SIZE = 2048

Work = Callable[[], Tensor]


def variants(frames: Tensor) -> tuple[dict[str, Work], int]:
    """What is compared, by name, and the floating-point operations of one call of each."""
    exact = pretrainrl.make_encoder("random.resnet50")
    fast = pretrainrl.make_encoder("random.resnet50", dtype=torch.bfloat16)
    eager = copy.deepcopy(exact.backbone).to(memory_format=torch.contiguous_format)
    with FlopCounterMode(display=False) as counter:
        eager(frames.float() / 255)
    works: dict[str, Work] = {
        "eager float32 NCHW": lambda: eager(frames.float() / 255),
        "make_encoder(...), float32": lambda: exact.feature_map(frames),
        "make_encoder(..., dtype=torch.bfloat16)": lambda: fast.feature_map(frames),
    }
    return works, counter.get_total_flops()


def products() -> dict[str, Work]:
    """Matrix products, by dtype."""
    a, b = torch.randn(2, SIZE, SIZE)
    a16, b16 = a.bfloat16(), b.bfloat16()
    return {"float32": lambda: a @ b, "bfloat16": lambda: a16 @ b16}


def seconds(work: Work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(works: dict[str, Work], turns: int) -> dict[str, list[float]]:
    """Seconds of every turn of each, after two turns that do not count."""
    for work in works.values():
        work(), work()
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(turns)]
    return {name: [turn[name] for turn in rounds] for name in works}


@torch.no_grad()
def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--turns", type=int, default=15)
    args = arguments.parse_args()
    frames = torch.randint(0, 256, (BATCH, 4, 84, 84), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    encoders, flops = variants(frames)
    spent = measure({**encoders, **products()}, args.turns)
    ceiling = {dtype: 2 * SIZE**3 / statistics.median(spent[dtype]) for dtype in products()}
    base = spent["eager float32 NCHW"]
    rows = [["ResNet-50, 8 observations", "ms", "observations/s", "GFLOP/s", "of the ceiling", "speed-up"]]
    for name in encoders:
        median = statistics.median(spent[name])
        dtype = "bfloat16" if "bfloat16" in name else "float32"
        ratio = statistics.median(ordinary / own for ordinary, own in zip(base, spent[name], strict=True))
        rows.append(
            [
                f"`{name}`" if "make" in name else name,
                f"{1000 * median:.0f}",
                f"{BATCH / median:.0f}",
                f"{flops / median / 1e9:.0f}",
                f"{flops / median / ceiling[dtype]:.0%} of {ceiling[dtype] / 1e9:.0f} in {dtype}",
                f"**{ratio:.1f}x**",
            ]
        )
    native = "" if has_native_bf16("cpu") else " This processor emulates bfloat16."
    remark = f"Medians of {args.turns} turns; {flops / BATCH / 1e9:.1f} GFLOP an observation.{native}"
    report("encoder_forward", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
