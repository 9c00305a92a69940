"""`collect`: play games and write what was seen as Minari datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pretrainrl.progress import plain_console

console = plain_console()


def collect(
    games: Annotated[list[str], typer.Argument(help="Names in any spelling: pong, ms_pacman, MsPacman.")],
    agent: Annotated[
        str,
        typer.Option(
            help="random; qrdqn or ppo, which learn from pixels, or ppo-ram, which learns from the console's memory and plays "
            "well in minutes: all their learning is logged; or the path of an agent saved by Stable-Baselines3."
        ),
    ] = "random",
    steps: Annotated[int, typer.Option(min=1, help="Transitions that the player experiences in each game.")] = 20_000,
    keep_every: Annotated[
        int,
        typer.Option(
            min=1, help="Of every N episodes one is kept, whole: about one in N of the transitions experienced is published."
        ),
    ] = 1,
    n_envs: Annotated[int, typer.Option(min=1, help="Environments stepped together.")] = 8,
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
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle",
            help="Load the pickles in a saved agent, which runs whatever their author wrote: only with files that you trust. "
            "Without, agents are loaded whose policy is one of Stable-Baselines3 or of this package.",
        ),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Games collected at the same time, each in a process of its own.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on: skip the games that are there, take up the one that was interrupted.")
    ] = False,
) -> None:
    """Play GAMES at random or by an agent and write one lossless Minari dataset for each."""
    import pretrainrl

    result = pretrainrl.collect(
        games,
        agent=agent,
        steps=steps,
        keep_every=keep_every,
        n_envs=n_envs,
        seed=seed,
        sticky_actions=sticky_actions,
        repeat_probability=repeat_probability,
        ram=ram,
        greedy=greedy,
        kind=kind,
        version=version,
        out=out,
        recording=recording,
        save_agent=save_agent,
        trust_pickle=trust_pickle,
        jobs=jobs,
        resume=resume,
    )
    console.print(f"in {result.folder}", soft_wrap=True)
