"""`report` and `leaderboard`: what a benchmark has found, as a page and as one table of everybody's results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from pretrainrl.progress import plain_console

if TYPE_CHECKING:
    from pretrainrl.benchmarking.leaderboard import LeaderboardResult

console = plain_console()
SUITE = "File of the suite, where it is not a registered one."


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of results, of pretrainrl benchmark.")],
    suite: Annotated[Path | None, typer.Option(help=SUITE)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write into; default FOLDER/report.")] = None,
) -> None:
    """Write a page of figures, a CSV of all cells and a PNG of the main figure on the results in FOLDER."""
    import pretrainrl

    result = pretrainrl.report(folder, suite=suite, out=out)
    for (task, split), text in result.advice.items():
        console.print(f"{task}, {split}: {text}")
    for what, path in (("page", result.page), ("cells", result.table), ("figure", result.figure)):
        console.print(f"{what}: {path}", soft_wrap=True)


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results, of pretrainrl benchmark.")],
    suite: Annotated[Path | None, typer.Option(help=SUITE)] = None,
    write_cards: Annotated[bool, typer.Option("--write-cards", help="Write the scores into encoders' cards.")] = False,
    out: Annotated[Path | None, typer.Option(help="CSV file for the table.")] = None,
) -> None:
    """Merge the results in FOLDERS into one table of encoders, with a place for each task and split that is complete."""
    import pretrainrl

    _show(pretrainrl.leaderboard(folders, suite=suite, write_cards=write_cards, out=out))


def _show(result: LeaderboardResult) -> None:
    table = Table(title=f"{result.suite} version {result.version}, {result.seeds} seeds", title_justify="left")
    table.add_column("encoder", no_wrap=True)
    for task, split in result.columns:
        table.add_column(f"{task}\n{split}", justify="right", no_wrap=True)
    table.add_column("mean place", justify="right")
    for row in result.rows:
        cells = list[Text]()
        for column in result.columns:
            one = row.scores.get(column)
            ends = "" if one is None or math.isnan(one.low) else f"\n{one.low:.3f} to {one.high:.3f}"
            value = "-" if one is None else f"{row.places[column]}. {one.value:.3f}"
            cells.append(Text(value).append(ends, "dim"))
        table.add_row(row.encoder, *cells, f"{row.mean_place:.1f}" if row.places else f"{row.missing:,} cells missing")
    console.print(table)
    if result.cards:
        console.print(f"cards written: {', '.join(result.cards)}", highlight=False, soft_wrap=True)
