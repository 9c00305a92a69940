"""Stopping between two steps instead of inside one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pretrainrl.errors import PretrainRLError


class InterruptedRunError(PretrainRLError):
    """The run was asked to stop. What it had done is saved, and the message says how to go on."""


@contextmanager
def stop_requests(patience: float = 1.0) -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; a later one acts as usual.

    Only the main thread receives signals. In any other thread the event is never set.

    Args:
        patience: Seconds after the first signal in which further ones say nothing new: a terminal, a job scheduler and a
            launcher such as `torchrun` may all pass the same wish on to the same process.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    first: list[float] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, frame: object) -> None:
        requested.set()
        first.append(time.monotonic())
        if first[-1] - first[0] > patience:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield requested
    finally:
        restore()
