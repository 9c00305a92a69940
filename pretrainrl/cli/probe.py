"""`probe`: what an encoder's features tell, beside an untrained encoder's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from torch import Tensor

    from pretrainrl.encoders import Encoder
    from pretrainrl.probing import Probe, Samples

console = Console()


def probe(
    name: Annotated[str, typer.Argument(help="Name, run folder or card file.")],
    data: Annotated[list[str], typer.Option(help="Minari id; repeat for several games.")],
    weights: Annotated[str | None, typer.Option(help="Instead of the card's, as for make_encoder.")] = None,
    baseline: Annotated[str, typer.Option(help="Encoder to compare with, or none.")] = "random",
    observations: Annotated[int, typer.Option(min=1, help="Of each game, at most; one takes 28 kB of memory.")] = 8000,
    seed: Annotated[int, typer.Option(min=0, help="Of the split by episodes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Type of the encoders' computation: float32, bfloat16 or auto.")] = "float32",
    out: Annotated[Path | None, typer.Option(help="Folder for probe.json and a page of figures.")] = None,
) -> None:
    """Measure what the features of an encoder tell: RAM, actions, rewards, rank, dormant channels."""
    from pretrainrl.cards import find_card

    names = [name]  # looked up before the imports, which take seconds
    if baseline != "none" and find_card(baseline).name != find_card(name).name:
        names.append(baseline)
    if out is not None:
        from pretrainrl.optional import require

        require("jinja2", "plot")

    from pretrainrl.encoders import make_encoder
    from pretrainrl.integrations.minari import read_samples

    encoders = [
        make_encoder(each, weights=weights if number == 0 else None, device=device, dtype=dtype)
        for number, each in enumerate(names)
    ]
    samples = read_samples(data, limit=observations)
    probes = _measure(encoders, samples, seed)
    _show(probes)
    if out is not None:
        _write(out, name, probes, data, seed)


def _measure(encoders: Sequence[Encoder], samples: Sequence[Samples], seed: int) -> list[Probe]:
    """Probe each encoder under one progress bar."""
    from pretrainrl.probing import probe
    from pretrainrl.progress import progress_bar

    with progress_bar() as bar:
        task = bar.add_task("probe", total=len(encoders) * sum(map(len, samples)), note="")
        probes = []
        for encoder in encoders:
            bar.update(task, note=encoder.name)
            probes.append(probe(encoder, samples, seed=seed, progress=lambda new: bar.advance(task, new)))
    return probes


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
        table.add_row(f"[bold]{game.game}[/]" if several else f"[dim]{game.game}[/]", style="dim" if not several else None)
        for title, values, chance in rows([item.games[number].metrics for item in probes]) if several else ():
            table.add_row(f"  {title}", *values, chance)
        table.add_row(f"  [dim]{game.train:,} observations to fit, {game.test:,} to judge, of other episodes or times[/]")
    console.print(table)
    for game in probes[0].games:
        for note in game.notes:
            console.print(f"note: {game.game}: {note}", highlight=False, soft_wrap=True)
    for item in probes:
        for note in item.notes:
            console.print(f"[yellow]warning:[/] {item.encoder}: {note}", highlight=False, soft_wrap=True)


def _write(out: Path, name: str, probes: Sequence[Probe], data: Sequence[str], seed: int) -> None:
    """Write the numbers and the page."""
    from pretrainrl.paths import writable_folder
    from pretrainrl.probing.report import write_page, write_probes

    writable_folder(out)
    pictures, note = _reconstructions(Path(name), data, seed)
    write_probes(out, probes, data)
    page = write_page(out, probes, pictures, note)
    console.print(f"numbers in [bold]{out / 'probe.json'}[/], figures in [bold]{page}[/]", highlight=False, soft_wrap=True)


def _reconstructions(run: Path, data: Sequence[str], seed: int) -> tuple[Tensor | None, str]:
    """What a masked objective paints (n, 3, 84, 84), or None and why there is nothing."""
    from pretrainrl.integrations.minari import open_dataset
    from pretrainrl.pretraining.trained import FILE, load_objective
    from pretrainrl.probing.probes import reconstructions

    if not (run / FILE).is_file():
        return None, "Reconstructions need the run folder of a masked objective: an encoder alone has no painter."
    trained = load_objective(run)
    episodes = {dataset.game: next(iter(dataset)) for dataset in map(open_dataset, data)}
    pictures = reconstructions(trained.objective, trained.games, list(episodes.values()), seed=seed)
    if pictures is None:
        return None, f"{trained.name} does not reconstruct, or was not trained on any of these games."
    return pictures, ""
