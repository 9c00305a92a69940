"""Tables of measurements: printed, and kept in the documentation if asked to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs" / "speed"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser that knows `--write`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--write", action="store_true", help="also keep the table in docs/speed/")
    return made


def report(name: str, rows: Sequence[Sequence[str]], remark: str, *, write: bool) -> None:
    """Print a Markdown table and where it is from; with `write`, keep both as `docs/speed/<name>.md`.

    Args:
        name: of the script.
        rows: the first is the header.
        remark: what a reader has to know about the numbers.
        write: whether to keep them.
    """
    table = [rows[0], ["---"] + ["--:"] * (len(rows[0]) - 1), *rows[1:]]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    machine = f"{os.cpu_count()} CPU cores, torch {version('torch').split('+')[0]}"
    text = "\n".join([*lines, "", f"{remark} {machine}. Made by `python speed/{name}.py --write`."]) + "\n"
    print(text)
    if write:
        DOCS.mkdir(exist_ok=True)
        (DOCS / f"{name}.md").write_text(text, encoding="utf-8")
