"""How long the package takes to import, and the command line to answer: whole processes, from start to exit."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from support.report import parser, report

LISTING = "import sys; from pretrainrl.cli import main; sys.argv = ['pretrainrl', 'encoders']; main()"
COMMANDS = {
    "`python -c pass`": ["-c", "pass"],
    "`import pretrainrl`": ["-c", "import pretrainrl"],
    "`pretrainrl encoders`": ["-m", "pretrainrl", "encoders"],
    "`import torch`, for comparison": ["-c", "import torch"],
}
TARGETS = {"`import pretrainrl`": 0.2, "`pretrainrl encoders`": 0.6}
HEAVY = ("torch", "torchvision", "gymnasium", "stable_baselines3", "minari")


def run(arguments: Sequence[str]) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


def seconds(arguments: Sequence[str]) -> float:
    began = time.perf_counter()
    run(arguments)
    return time.perf_counter() - began


def imported(statement: str) -> list[str]:
    """Which of the heavy packages `statement` imports."""
    script = f"try:\n    {statement}\nexcept SystemExit:\n    pass\nimport sys; print('modules:', *sys.modules)"
    modules = run(["-c", script]).rsplit("modules:", 1)[1].split()
    return [name for name in HEAVY if name in modules]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--turns", type=int, default=9)
    args = arguments.parse_args()
    for command in COMMANDS.values():
        run(command)  # compiled files and disk caches
    turns = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(args.turns)]
    heavy = {"`import pretrainrl`": imported("import pretrainrl"), "`pretrainrl encoders`": imported(LISTING)}
    rows = [["process", "seconds", "target", "heavy packages imported"]]
    for name in COMMANDS:
        target = f"at most {TARGETS[name]}" if name in TARGETS else ""
        packages = ", ".join(heavy[name]) or "none" if name in heavy else ""
        rows.append([name, f"{statistics.median(turn[name] for turn in turns):.2f}", target, packages])
    remark = f"Medians of {args.turns} runs. Heavy packages: {', '.join(HEAVY)}."
    report("startup", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
