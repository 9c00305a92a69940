"""One wish to stop may arrive as several signals; a later one means it."""

import os
import signal
import time

import pytest

from pretrainrl.runs.interrupt import stop_requests


def signal_me(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python handles it in between


@pytest.mark.parametrize("numbers", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_signals_of_one_moment_are_one_wish(numbers: tuple[int, ...]) -> None:
    with stop_requests(patience=60) as requested:
        assert not requested.is_set()
        for number in numbers:
            signal_me(number)
        assert requested.is_set()


def test_a_later_one_acts_as_usual() -> None:
    # Processes in the background of a shell may have inherited that Ctrl-C is ignored.
    ctrl_c, before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stop_requests(patience=0) as requested:
        signal_me(signal.SIGTERM)
        assert requested.is_set()
        signal_me(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    signal.signal(signal.SIGINT, ctrl_c)
