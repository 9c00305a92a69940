"""`import`: what others recorded becomes Minari datasets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pretrainrl.cli.publishing import is_done, root_of_datasets
from pretrainrl.errors import InputError
from pretrainrl.progress import progress_bar

app = typer.Typer(help="Publish what others recorded as Minari datasets.", no_args_is_help=True)
console = Console()


@app.callback()
def _group() -> None:
    """Publish what others recorded as Minari datasets."""


@app.command("dqn-replay")
def dqn_replay(
    root: Annotated[Path, typer.Argument(help="Folder that holds one folder for each game.")],
    games: Annotated[list[str], typer.Argument(help="Names in any spelling: pong, ms_pacman, MsPacman.")],
    runs: Annotated[str, typer.Option(help="Numbers and ranges: 1,2 or 1-5.")] = "1,2",
    checkpoints: Annotated[str, typer.Option(help="Numbers and ranges, of each run.")] = "1-10",
    steps: Annotated[int, typer.Option(min=1, help="Transitions from the start of each shard.")] = 10_000,
    on_missing: Annotated[str, typer.Option(help="error, skip, or previous: the checkpoint before.")] = "error",
    verify: Annotated[bool, typer.Option("--verify", help="Read the files to their ends and check the checksums.")] = False,
    kind: Annotated[str, typer.Option(help="Of the id pretrainrl/atari/<game>-<kind>-v<version>.")] = "dqn-replay",
    version: Annotated[int, typer.Option(min=0, help="Of the id.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Root of the datasets; default MINARI_DATASETS_PATH.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip the games that are there already.")] = False,
) -> None:
    """Publish local shards of the DQN Replay Dataset, one lossless Minari dataset for each of GAMES."""
    selection: dict[str, Any] = {
        "runs": _numbers("--runs", runs),
        "checkpoints": _numbers("--checkpoints", checkpoints),
        "on_missing": on_missing,
    }
    from pretrainrl.data.dqn_replay_files import find_shards

    shards = find_shards(root, games, **selection)

    from pretrainrl.data.dqn_replay import check_shards
    from pretrainrl.integrations.minari import dataset_id, import_dqn_replay
    from pretrainrl.integrations.minari.ids import datasets_root
    from pretrainrl.pretraining.interrupt import InterruptedRunError, stop_requests

    settings = {**selection, "steps": steps}
    with root_of_datasets(out), stop_requests() as stop, progress_bar() as progress:
        ids = {slug: dataset_id(slug, kind, version) for slug in shards}
        done = [slug for slug, name in ids.items() if is_done(name, "selection", settings, resume)]
        todo = [slug for slug in shards if slug not in done]
        for slug in todo:  # nothing is read for hours before the last game turns out to be damaged
            check_shards(shards[slug])
        task = progress.add_task("", total=sum(steps * len(shards[slug]) for slug in todo), note="transitions")

        def advance(new: int) -> None:
            progress.advance(task, new)
            if stop.is_set():
                raise InterruptedRunError(
                    f"interrupted; {len(done)} of {len(ids)} datasets are complete, of the one under way nothing is kept; "
                    "go on with the same command and --resume"
                )

        for slug, name in ids.items():
            if slug not in todo:
                console.print(f"{name}  is there already", soft_wrap=True)
                continue
            progress.update(task, description=slug)
            dataset = import_dqn_replay(
                shards[slug], steps, kind=kind, version=version, verify=verify, selection=settings, progress=advance
            )
            done.append(slug)
            facts = dataset.storage.metadata
            console.print(
                f"{name}  {dataset.total_steps:,} transitions of {len(shards[slug])} shards, {len(dataset)} episodes, "
                f"{facts['dataset_size']:.1f} MB; {_noticed(facts)}",
                soft_wrap=True,
            )
        console.print(f"in {datasets_root()}", soft_wrap=True)


def _numbers(option: str, text: str) -> list[int]:
    """Return the numbers of a list such as `1,2,5-7`, sorted.

    Raises:
        InputError: when it is none.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise InputError(f"{option} takes numbers and ranges such as 1,2 or 1-10, not {text!r}")
        numbers.update(range(first, last + 1))
    return sorted(numbers)


def _noticed(facts: dict[str, Any]) -> str:
    """Say what was noticed in the shards."""
    words = {
        "dropped_padding_rows": "padding rows left out",
        "starts_without_padding": "episodes start without padding",
        "nan_rewards": "rewards were NaN, now 0",
        "unclipped_rewards": "rewards are outside -1..1",
    }
    return ", ".join(f"{facts[key]:,} {text}" for key, text in words.items() if facts[key]) or "nothing unusual in them"
