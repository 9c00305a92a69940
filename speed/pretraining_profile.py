"""Where the time of a pre-training step goes, for every objective: 64 windows, `impala`, the `nano` preset.

All that is not the loss, its gradients, or the optimiser's step counts as overhead: waiting for frames, moving them, seeding,
clipping, momentum copies, logging.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.pretraining import make_cache, make_run
from support.report import parser, report

import pretrainrl
from pretrainrl.data import FrameCache
from pretrainrl.device import has_native_bf16
from pretrainrl.pretraining.loop import LOG_EVERY

BATCH = 64


class Stopwatch:
    """Adds up the seconds that functions take."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, with its time added up under `name`."""
        self.spent[name] = 0.0

        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent[name] += time.perf_counter() - began

        return call


def profile(cache: FrameCache, objective: str, steps: int, warm_up: int = 3) -> list[str]:
    """Measure one objective; returns a row of the table."""
    precision = "bf16-mixed" if has_native_bf16("cpu") else "32-true"
    run = make_run(cache, objective, preset="nano", batch_size=BATCH, precision=precision)
    watch = Stopwatch()
    run._module = watch.timed("loss", run._module)  # type: ignore[assignment]
    run.fabric.backward = watch.timed("gradients", run.fabric.backward)  # type: ignore[method-assign]
    run._optimizer.step = watch.timed("optimiser", run._optimizer.step)  # type: ignore[method-assign]
    began = 0.0
    for step, batch in enumerate(run.sampler.batches(0, steps + warm_up)):
        if step == warm_up:
            watch.spent = dict.fromkeys(watch.spent, 0.0)
            began = time.perf_counter()
        metrics = run.step(step, batch.to("cpu"))
        if step % LOG_EVERY == 0:
            _ = {name: value.item() for name, value in metrics.items()}
    total = time.perf_counter() - began
    overhead = 1 - sum(watch.spent.values()) / total
    shares = [f"{watch.spent[name] / total:.0%}" for name in ("loss", "gradients", "optimiser")]
    return [f"`{objective}`", f"{1000 * total / steps:.0f}", *shares, f"**{overhead:.1%}**"]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=20)
    args = arguments.parse_args()
    rows = [["64 windows, `impala`", "ms a step", "loss", "gradients", "optimiser", "overhead"]]
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder))
        rows += [profile(cache, objective, args.steps) for objective in pretrainrl.list_objectives()]
    report("pretraining_profile", rows, f"Mean of {args.steps} steps.", write=args.write)


if __name__ == "__main__":
    main()
