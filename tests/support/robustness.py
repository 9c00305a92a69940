"""Runs the scripts of tests/robustness, a few trials each; `make fuzz` and `make kill` run them for minutes."""

import os
import subprocess
import sys
from pathlib import Path

SUPPORT = Path(__file__).parent


def run_script(name: str, *arguments: str) -> str:
    """Run a script that must find no fault; returns what it prints."""
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(SUPPORT.parent / "robustness" / name), "--minutes", "5", "--seed", "12", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
