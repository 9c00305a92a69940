"""`demo`: the whole path on real frames, ending in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pretrainrl.arguments import check_seed
from pretrainrl.games import find_game
from pretrainrl.paths import output_folder
from pretrainrl.progress import plain_console


def demo(
    fast: Annotated[bool, typer.Option("--fast", help="Within a minute: shows that it works, learns nothing.")] = False,
    game: Annotated[str, typer.Option(help="Game of which an expert's recording comes with the package.")] = "boxing",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the agents and the games.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of everything that the demo writes.")] = Path("demo"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the demo in --out.")] = False,
) -> None:
    """Play a recording again, let three agents learn from it for the same time, and write one page about them."""
    from pretrainrl.demo import run_demo

    minutes = "less than a minute" if fast else "up to five minutes"
    check_seed(seed)
    out = output_folder(out)
    find_game(game)
    plain_console(stderr=True).print(f"{minutes} on two CPU cores; everything is written to {out}", soft_wrap=True)
    page = run_demo(game, out, fast=fast, seed=seed, resume=resume)
    plain_console().print(f"open {page} in a browser", soft_wrap=True)
