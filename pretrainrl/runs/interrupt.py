"""Stopping between two steps instead of inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pretrainrl.errors import PretrainRLError


class InterruptedRunError(PretrainRLError):
    """The run was asked to stop. What it had done is saved, and the message says how to go on."""


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; a second one acts as usual.

    Only the main thread receives signals. In any other thread the event is never set.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, frame: object) -> None:
        requested.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, on_signal)
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
