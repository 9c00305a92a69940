"""Workers that were forked, as Gymnasium's `AsyncVectorEnv` makes them: threads of their parent are not in them."""

from __future__ import annotations

import multiprocessing
import os

import torch


def _forked_by_multiprocessing() -> bool:
    process = multiprocessing.current_process()
    method = getattr(process, "_start_method", None) or multiprocessing.get_start_method(allow_none=True)
    return multiprocessing.parent_process() is not None and method == "fork"


_process_with_threads = -1 if _forked_by_multiprocessing() else os.getpid()


def leave_parent_threads() -> None:
    """Let PyTorch compute in one thread if this process was forked; the second call does nothing.

    The threads of the process that it was forked from are not in it, and PyTorch would wait for them without end.
    """
    global _process_with_threads
    if _process_with_threads != os.getpid():
        torch.set_num_threads(1)
        _process_with_threads = os.getpid()
