"""How the process treats memory that was freed."""

from __future__ import annotations

import ctypes
import sys

# Parameters of GNU's malloc.h. Blocks below the second number of bytes come from the heap, whose end is returned when more
# than the first is free.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE = 2**30
_LARGEST_OF_OLD = 2**25  # the most that versions before 2.35 take as the first number


def keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed, for the tensors of the next step.

    GNU's library gives them back to the system, which hands out zeroed pages again a moment later: on a CPU, a tenth to a
    third of a training step is spent on that. With this call the process stays as large as it ever was. It has no effect on
    other C libraries. The command line and worker processes call it; no function of this package does, because it concerns
    the whole process.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE) or mallopt(_MMAP_THRESHOLD, _LARGEST_OF_OLD)
        mallopt(_TRIM_THRESHOLD, _LARGE)
