"""Where the recorded outputs of the reference implementation lie, and the command line on them."""

import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parents[1] / "parity" / "data"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `pretrainrl` with these arguments in a process of its own."""
    return subprocess.run([sys.executable, "-m", "pretrainrl", *map(str, arguments)], capture_output=True, text=True)
