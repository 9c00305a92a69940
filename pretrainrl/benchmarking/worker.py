"""A process that computes one cell: its description comes on standard input, its result goes to standard output."""

from __future__ import annotations

import json
import sys

from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.compute import run_cell
from pretrainrl.runs.interrupt import InterruptedRunError


def main(limit: int) -> int:
    """Compute the cell; what others print goes to standard error.

    Args:
        limit: Number of bytes that the process may take; beyond, it fails rather than bring the machine to a stop.
    """
    from pretrainrl.games import silence_emulator
    from pretrainrl.malloc import keep_freed_memory

    _limit_memory(limit)
    keep_freed_memory()
    silence_emulator()
    output, sys.stdout = sys.stdout, sys.stderr
    try:
        result = run_cell(CellSpec.parse(json.load(sys.stdin), "a cell"))
    except InterruptedRunError:
        return 130
    print(result.model_dump_json(), file=output)
    return 0


def _limit_memory(limit: int) -> None:
    """Bound the process's own memory, where the system can; files that are mapped do not count."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
