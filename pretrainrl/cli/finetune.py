"""`finetune`: an agent that learns a game on a frozen encoder."""

from __future__ import annotations

from pathlib import Path
from statistics import pstdev
from typing import Annotated

import typer

from pretrainrl.progress import plain_console
from pretrainrl.results import FinetuneResult

console = plain_console()


def finetune(
    algorithm: Annotated[str, typer.Argument(help="Name of an agent: rainbow, qrdqn, ppo or bc.")],
    game: Annotated[str, typer.Option(help="In any spelling: pong, ms_pacman, MsPacman.")],
    encoder: Annotated[str, typer.Option(help="Name, run folder or card file.")],
    preset: Annotated[str | None, typer.Option(help="Settings of the agent's card. Default: those it has for this.")] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="flat, pooled or map, encoded once; or pixels, encoded at every update. Default: the encoder's card's."
        ),
    ] = None,
    neck: Annotated[
        str, typer.Option(help="mlp, which standardizes features; on maps, spatial or Atari-PB's spatial_mlp.")
    ] = "mlp",
    end_to_end: Annotated[bool, typer.Option("--end-to-end", help="Train the encoder too, as a baseline.")] = False,
    weights: Annotated[str | None, typer.Option(help="Of the encoder, instead of the card's, as for make_encoder.")] = None,
    dataset: Annotated[str | None, typer.Option(help="bc: Minari id of what is imitated.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of all games together; default 50,000. With --resume, extends. Not of bc.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="bc: passes over the dataset; default 100.")] = None,
    n_envs: Annotated[int, typer.Option(min=1, help="Games played at the same time.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the agent and the games.")] = 0,
    eval_freq: Annotated[
        int | None, typer.Option(min=1, help="Steps between evaluations, default 10,000; of bc epochs, 10.")
    ] = None,
    eval_episodes: Annotated[int, typer.Option(min=1, help="Whole games in an evaluation.")] = 10,
    eval_epsilon: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of random actions in evaluations. Default: the agent's card's.")
    ] = None,
    max_episode_steps: Annotated[int, typer.Option(min=1, help="Steps of the agent after which a game is cut.")] = 27_000,
    sticky_actions: Annotated[float, typer.Option(min=0, max=1, help="Chance that the game repeats the last action.")] = 0.0,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints, which cut games, default 25,000; of bc epochs, 10.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of runs; default runs/finetune/<encoder>-<features>.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="What the encoder computes in: float32, bfloat16, or auto for what is fast here.")
    ] = "float32",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was interrupted, or to more steps.")
    ] = False,
) -> None:
    """Let ALGORITHM learn a game on a frozen encoder, and write files that Stable-Baselines3's zoo plots."""
    from pretrainrl.cards import find_card
    from pretrainrl.games import find_game

    find_game(game)  # before the imports, which take seconds
    find_card(encoder)

    import pretrainrl

    result = pretrainrl.finetune(
        algorithm,
        game,
        encoder,
        preset=preset,
        features=features,
        neck=neck,  # type: ignore[arg-type]  # checked with the other names
        end_to_end=end_to_end,
        weights=weights,
        dataset=dataset,
        steps=steps,
        epochs=epochs,
        n_envs=n_envs,
        seed=seed,
        eval_freq=eval_freq,
        eval_episodes=eval_episodes,
        eval_epsilon=eval_epsilon,
        max_episode_steps=max_episode_steps,
        sticky_actions=sticky_actions,
        checkpoint_every=checkpoint_every,
        out=out,
        device=device,
        dtype=dtype,
        resume=resume,
    )
    if dtype == "auto":
        console.print(f"the encoder computes in {result.dtype}")
    _show(result)


def _show(result: FinetuneResult) -> None:
    """Say what the agent scored at last, what was best, and where the files are."""
    last, best = result.evaluations[-1], result.best
    console.print(
        f"score {last.mean:.1f} ± {pstdev(last.scores):.1f} in {len(last.scores)} games after {last.timestep:,} steps; "
        f"best {best.mean:.1f} after {best.timestep:,}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"agent, scores and settings in {result.folder}", soft_wrap=True)
