"""`collect`: play games and write what was seen as Minari datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pretrainrl.cli.datasets import is_done, root_of_datasets
from pretrainrl.errors import InputError, PretrainRLError
from pretrainrl.paths import writable_folder

console = Console()


def collect(
    games: Annotated[list[str], typer.Argument(help="Names in any spelling: pong, ms_pacman, MsPacman.")],
    agent: Annotated[
        str,
        typer.Option(
            help="random; qrdqn or ppo, which learn from pixels, or ppo-ram, which learns from the console's memory and plays "
            "well in minutes: all their learning is logged; or the path of an agent saved by Stable-Baselines3, which is "
            "unpickled: use only files that you trust."
        ),
    ] = "random",
    steps: Annotated[int, typer.Option(min=1, help="Transitions that the player experiences in each game.")] = 20_000,
    keep_every: Annotated[
        int,
        typer.Option(
            min=1, help="Of every N episodes one is kept, whole: about one in N of the transitions experienced is published."
        ),
    ] = 1,
    num_envs: Annotated[int, typer.Option(min=1, help="Environments stepped together.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the player and the environments.")] = 0,
    sticky_actions: Annotated[float, typer.Option(help="Chance that the game repeats the last action.")] = 0.25,
    repeat_probability: Annotated[
        float | None, typer.Option(help="Chance that the random player repeats its last action; default 0.75.")
    ] = None,
    ram: Annotated[bool, typer.Option("--ram", help="Also store the console's 128 bytes of memory; random only.")] = False,
    greedy: Annotated[
        bool,
        typer.Option("--greedy", help="A saved agent takes the action that it thinks best rather than one that it draws."),
    ] = False,
    kind: Annotated[
        str | None, typer.Option(help="Of the id pretrainrl/atari/<game>-<kind>-v<version>; default the player's.")
    ] = None,
    version: Annotated[int, typer.Option(min=0, help="Of the id.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Root of the datasets; default MINARI_DATASETS_PATH.")] = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            help="Folder for a recording of each dataset, or for one game its file: with a card, all that it takes to play it "
            "again, frame by frame."
        ),
    ] = None,
    save_agent: Annotated[
        Path | None, typer.Option(help="Folder where an agent that has learned a game is saved as <game>.zip.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Games collected at the same time, each in a process of its own.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on: skip the games that are there, take up the one that was interrupted.")
    ] = False,
) -> None:
    """Play GAMES at random or by an agent and write one lossless Minari dataset for each."""
    from pretrainrl.games import find_game

    slugs = list(dict.fromkeys(find_game(name).slug for name in games))  # before the imports, which take seconds

    from pretrainrl.integrations.minari import dataset_id, write_recording
    from pretrainrl.integrations.minari.collecting import check_agent_for, collection_settings, default_kind
    from pretrainrl.integrations.minari.metadata import datasets_root

    own: dict[str, Any] = {
        "agent": agent,
        "steps": steps,
        "num_envs": num_envs,
        "seed": seed,
        "sticky_actions": sticky_actions,
        "keep_every": keep_every,
        "repeat_probability": repeat_probability,
        "ram": ram,
        "greedy": greedy,
    }
    settings = collection_settings(**own)
    kind = kind or default_kind(agent)
    with root_of_datasets(out):
        ids = {slug: dataset_id(slug, kind, version) for slug in slugs}
        done = [slug for slug, name in ids.items() if is_done(name, "collection", settings, resume)]
        for slug in done:
            console.print(f"{ids[slug]}  is there already", soft_wrap=True)
        todo = [slug for slug in slugs if slug not in done]
        check_agent_for(agent, todo)
        files = _recording_files(recording, ids)
        work = partial(_collect_one, {**own, "kind": kind, "version": version, "resume": resume}, save_agent)
        _collect_all(work, todo, jobs, steps, ids)
        for slug, file in files.items():
            card = write_recording(ids[slug], file)
            console.print(f"{file}  {card.bytes:,} bytes, {card.bytes / card.transitions:.2f} a transition", soft_wrap=True)
        console.print(f"in {datasets_root()}", soft_wrap=True)


def _recording_files(recording: Path | None, ids: Mapping[str, str]) -> dict[str, Path]:
    """Return the file of each game's recording, none where none is wanted; what cannot be written to is refused now."""
    if recording is None:
        return {}
    from pretrainrl.integrations.minari.recordings import SUFFIX

    recording = recording.expanduser().resolve()
    if recording.suffix != SUFFIX:
        files = {slug: recording / f"{name.rsplit('/', 1)[-1]}{SUFFIX}" for slug, name in ids.items()}
    elif len(ids) == 1:
        files = dict.fromkeys(ids, recording)
    else:
        raise InputError(f"{recording} is one file, and {len(ids)} games are to be recorded; name a folder")
    for file in files.values():
        writable_folder(file.parent)
    return files


def _collect_all(
    work: Callable[[str, Callable[[int], None]], str], todo: list[str], jobs: int, steps: int, ids: Mapping[str, str]
) -> None:
    """Collect the games `todo` under one bar, which names those under way."""
    from pretrainrl.runs.interrupt import InterruptedRunError
    from pretrainrl.runs.pool import show_jobs

    complete = len(ids) - len(todo)

    def finished(slug: str, result: str) -> None:
        nonlocal complete
        complete += 1
        console.print(result, soft_wrap=True)

    try:
        show_jobs(work, todo, jobs, total=steps * len(todo), unit="transitions", finished=finished)
    except InterruptedRunError as error:
        raise InterruptedRunError(
            f"interrupted; {complete} of {len(ids)} datasets are complete, and of an agent's all but the last minutes is "
            "kept; go on with the same command and --resume"
        ) from error
    except PretrainRLError as error:
        if len(ids) == 1:
            raise
        raise type(error)(f"{error} ({complete} of {len(ids)} datasets are complete; --resume goes on)") from error


def _collect_one(own: dict[str, Any], agents: Path | None, slug: str, report: Callable[[int], None]) -> str:
    """Collect one game; returns what to say of it."""
    from pretrainrl.integrations.minari import collect_dataset

    dataset = collect_dataset(slug, progress=report, save_agent=agents and agents / f"{slug}.zip", **own)
    size = dataset.storage.metadata["dataset_size"]
    return f"{dataset.id}  {dataset.total_steps:,} transitions, {len(dataset)} episodes, {size:.1f} MB"
