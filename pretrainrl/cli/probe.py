"""`probe`: what an encoder's features tell, beside an untrained encoder's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pretrainrl.paths import resolve_path
from pretrainrl.progress import plain_console

if TYPE_CHECKING:
    from pretrainrl.probing import Probe

console = plain_console()


def probe(
    name: Annotated[str, typer.Argument(help="Name, run folder or card file.")],
    dataset: Annotated[list[str], typer.Option(help="Minari id; repeat for several games.")],
    weights: Annotated[str | None, typer.Option(help="Instead of the card's, as for make_encoder.")] = None,
    baseline: Annotated[str, typer.Option(help="Encoder to compare with, or none.")] = "random",
    observations: Annotated[
        int, typer.Option(min=1, help="Of each game, at most; one takes 28 kB, and 12 bytes for each feature.")
    ] = 8000,
    seed: Annotated[int, typer.Option(min=0, help="Of the split by episodes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Type of the encoders' computation: float32, bfloat16 or auto.")] = "float32",
    out: Annotated[Path | None, typer.Option(help="Folder for probe.json and a page of figures.")] = None,
) -> None:
    """Measure what the features of an encoder tell: RAM, actions, rewards, rank, dormant channels."""
    import pretrainrl

    result = pretrainrl.probe(
        name,
        dataset,
        weights=weights,
        baseline=baseline,
        observations=observations,
        seed=seed,
        device=device,
        dtype=dtype,
        out=out,
    )
    _show(result.probes)
    if out is not None:
        files = f"numbers in {resolve_path(out) / 'probe.json'}, figures in {result.page}"
        console.print(files, soft_wrap=True)


def _show(probes: Sequence[Probe]) -> None:
    """Print the table, of all games and of each, and what was left out."""
    from rich.table import Table

    from pretrainrl.probing.report import rows

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (("", "left"), *((item.encoder, "right") for item in probes), ("chance", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]  # a str that is one of rich's literals
    several = len(probes[0].games) > 1
    for title, values, chance in rows([item.metrics for item in probes]):
        table.add_row(title, *values, chance)
    for number, game in enumerate(probes[0].games):
        table.add_row(game.game, style="bold" if several else "dim")
        for title, values, chance in rows([item.games[number].metrics for item in probes]) if several else ():
            table.add_row(f"  {title}", *values, chance)
        table.add_row(f"  {game.train:,} observations to fit, {game.test:,} to judge, of other episodes or times", style="dim")
    console.print(table)
    for game in probes[0].games:
        for note in game.notes:
            console.print(f"note: {game.game}: {note}", soft_wrap=True)
    for item in probes:
        for note in item.notes:
            console.print(f"warning: {item.encoder}: {note}", soft_wrap=True)
