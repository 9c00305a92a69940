"""`demo`: the whole path on real frames, ending in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="About a minute: shows that it works, learns nothing.")] = False,
    games: Annotated[tuple[str, str], typer.Option(help="Both are pre-trained on; the agents play the first.")] = (
        "ms_pacman",
        "breakout",
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of collection, pre-training and agents.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of everything that the demo writes.")] = Path("demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the demo in --out.")] = False,
) -> None:
    """Collect frames of two games, pre-train on them, let two agents learn, and write one page about it."""
    from rich.console import Console

    from pretrainrl.demo import run_demo

    minutes = "about a minute" if fast else "some minutes"
    Console(stderr=True).print(f"{minutes} on two CPU cores; everything is written to {out}", highlight=False, soft_wrap=True)
    page = run_demo(games, out, fast=fast, seed=seed, resume=resume)
    Console().print(f"open [bold]{page}[/] in a browser", highlight=False, soft_wrap=True)
