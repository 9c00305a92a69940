"""`pretrain`: from datasets to an encoder in a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import pretrainrl
from pretrainrl.progress import plain_console

console = plain_console()


def pretrain(
    objective: Annotated[str, typer.Argument(help="curl, siammae, idm, ...")],
    dataset: Annotated[list[str], typer.Option(help="Minari id; repeat for several games.")],
    preset: Annotated[str, typer.Option(help="nano (CPU, impala) or paper (GPU, resnet50).")] = "nano",
    backbone: Annotated[str | None, typer.Option(help="Instead of the preset's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate, instead of the preset's.")] = None,
    name: Annotated[str | None, typer.Option(help="Of the encoder: objective.variant.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Encoder or run folder to begin from: its weights.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/<name>-seed<seed>.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, 32-true or bf16-mixed.")] = "auto",
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps.")] = 500,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Pre-train a backbone with one objective."""
    result = pretrainrl.pretrain(
        objective,
        dataset,
        preset=preset,
        backbone=backbone,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        name=name,
        from_=from_,
        out=out,
        seed=seed,
        device=device,
        precision=precision,
        checkpoint_every=checkpoint_every,
        resume=resume,
    )
    folder = result.folder
    console.print(f"encoder in {folder}; use it with pretrainrl.make_encoder({str(folder)!r})", soft_wrap=True)
