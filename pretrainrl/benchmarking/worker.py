"""A process that computes one cell: its description comes on standard input, its result goes to standard output."""

from __future__ import annotations

import json
import sys

from pretrainrl.benchmarking.cells import CellSpec, run_cell
from pretrainrl.runs.interrupt import InterruptedRunError


def main() -> int:
    """Compute the cell; what others print goes to standard error."""
    from pretrainrl.games import silence_emulator
    from pretrainrl.malloc import keep_freed_memory

    keep_freed_memory()
    silence_emulator()
    output, sys.stdout = sys.stdout, sys.stderr
    try:
        result = run_cell(CellSpec.parse(json.load(sys.stdin), "a cell"))
    except InterruptedRunError:
        return 130
    print(result.model_dump_json(), file=output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
