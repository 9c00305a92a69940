"""`collect`: play games and publish what was seen as Minari datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pretrainrl.cli.publishing import is_done, root_of_datasets
from pretrainrl.progress import progress_bar

console = Console()


def collect(
    games: Annotated[list[str], typer.Argument(help="Names in any spelling: pong, ms_pacman, MsPacman.")],
    steps: Annotated[int, typer.Option(min=1, help="Transitions per game.")] = 20_000,
    num_envs: Annotated[int, typer.Option(min=1, help="Environments stepped together.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the policy and the environments.")] = 0,
    sticky_actions: Annotated[float, typer.Option(help="Chance that the game repeats the last action.")] = 0.25,
    repeat_probability: Annotated[float, typer.Option(help="Chance that the policy repeats its last action.")] = 0.75,
    ram: Annotated[bool, typer.Option("--ram", help="Also store the console's 128 bytes of memory.")] = False,
    kind: Annotated[str, typer.Option(help="Of the id pretrainrl/atari/<game>-<kind>-v<version>.")] = "random",
    version: Annotated[int, typer.Option(min=0, help="Of the id.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Root of the datasets; default MINARI_DATASETS_PATH.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip the games that are there already.")] = False,
) -> None:
    """Play GAMES at random and publish one lossless Minari dataset for each."""
    from pretrainrl.games import find_game

    slugs = list(dict.fromkeys(find_game(name).slug for name in games))  # before the imports, which take seconds

    from pretrainrl.integrations.minari import collect_dataset, dataset_id
    from pretrainrl.integrations.minari.ids import datasets_root
    from pretrainrl.pretraining.interrupt import InterruptedRunError, stop_requests

    settings: dict[str, Any] = {
        "steps": steps,
        "num_envs": num_envs,
        "seed": seed,
        "repeat_probability": repeat_probability,
        "sticky_actions": sticky_actions,
        "ram": ram,
    }
    with root_of_datasets(out), stop_requests() as stop, progress_bar() as progress:
        ids = [dataset_id(slug, kind, version) for slug in slugs]
        done = [name for name in ids if is_done(name, "collection", settings, resume)]
        task = progress.add_task("", total=steps * (len(ids) - len(done)), note="transitions")

        def advance(new: int) -> None:
            progress.advance(task, new)
            if stop.is_set():
                raise InterruptedRunError(
                    f"interrupted; {len(done)} of {len(ids)} datasets are complete, of the one under way nothing is kept; "
                    "go on with the same command and --resume"
                )

        for slug, name in zip(slugs, ids, strict=True):
            if name in done:
                console.print(f"{name}  is there already", soft_wrap=True)
                continue
            progress.update(task, description=slug)
            dataset = collect_dataset(slug, **settings, kind=kind, version=version, progress=advance)
            done.append(name)
            size = dataset.storage.metadata["dataset_size"]
            console.print(f"{name}  {steps:,} transitions, {len(dataset)} episodes, {size:.1f} MB", soft_wrap=True)
        console.print(f"in {datasets_root()}", soft_wrap=True)
