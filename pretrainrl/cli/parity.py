"""`parity` and `convert`: the Atari-PB study's checkpoints beside this package."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pretrainrl.paths import output_file, output_folder, resolve_path
from pretrainrl.progress import plain_console

console = plain_console()


def parity(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file in the layout of the study's checkpoints.")],
    batch: Annotated[Path, typer.Argument(help="An .npz file: a batch, and what the reference computed for it.")],
    objective: Annotated[str | None, typer.Option(help="If neither the file's name nor its tensors tell.")] = None,
) -> None:
    """Compare an objective with the reference implementation; one JSON line, exit code 0 only if they agree."""
    from pretrainrl.parity import check_parity

    result = check_parity(resolve_path(checkpoint), resolve_path(batch), objective)
    print(json.dumps(asdict(result)))
    raise typer.Exit(0 if result.ok else 1)


def convert(
    source: Annotated[
        str, typer.Argument(help="A checkpoint of the study (.pth), or a ResNet-50 encoder: name or run folder.")
    ],
    out: Annotated[Path, typer.Argument(help="A folder for weights and card, or for an encoder a new .pth file.")],
    objective: Annotated[str | None, typer.Option(help="If neither the file's name nor its tensors tell.")] = None,
) -> None:
    """Turn a checkpoint of the study into safetensors and a card, or an encoder into a checkpoint."""
    from pretrainrl.parity.convert import export_checkpoint, import_checkpoint

    out = output_file(out) if out.suffix == ".pth" else output_folder(out)
    if out.suffix == ".pth":
        export_checkpoint(source, out)
    else:
        card = import_checkpoint(resolve_path(source), out, objective)
        console.print(
            f"{card.name}, feature map {card.feature_map_shape}; make_encoder({str(out)!r}) loads it", soft_wrap=True
        )
    console.print(f"in {out}", soft_wrap=True)
