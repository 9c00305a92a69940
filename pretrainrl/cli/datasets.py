"""`datasets`: what is here, one dataset's card, and to and from the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(help="List the local datasets; show, upload or download one.")
console = Console()

Id = Annotated[str, typer.Argument(metavar="ID", help="Minari id, e.g. pretrainrl/atari/pong-random-v0.")]
Remote = Annotated[str | None, typer.Option(help="hf://<organisation>; default MINARI_REMOTE.")]


@app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context) -> None:
    """List the local datasets; show, upload or download one."""
    if context.invoked_subcommand is not None:
        return
    from rich.markup import escape
    from rich.table import Table

    from pretrainrl.errors import DatasetError
    from pretrainrl.integrations.minari.card import find_dataset_card
    from pretrainrl.integrations.minari.check import check_dataset
    from pretrainrl.integrations.minari.ids import datasets_root, local_ids

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    for column in ("MB", "transitions", "episodes", "mean return"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("card", no_wrap=True)
    problems = []
    for name in local_ids():
        try:
            found = check_dataset(name)
        except DatasetError as error:
            problems.append(str(error))
            continue
        card = find_dataset_card(name)
        numbers = f"{found.bytes / 1e6:.1f}", f"{found.transitions:,}", f"{len(found.episodes):,}", f"{found.mean_return:.2f}"
        table.add_row(name, *numbers, card.name if card else "")
    if table.row_count:
        Console(width=200).print(table)  # an id cut short on a narrow terminal could not be copied
    for problem in problems:
        console.print(f"[red]not usable[/]  {escape(problem)}", soft_wrap=True, highlight=False)
    if not table.row_count and not problems:
        console.print(f"there are no datasets in {datasets_root()}", soft_wrap=True)


@app.command("card")
def show_card(name: Id) -> None:
    """Print a local dataset's card as the hub shows it, in Markdown."""
    from pretrainrl.integrations.minari.card import render_card
    from pretrainrl.integrations.minari.check import check_dataset

    print(render_card(check_dataset(name)), end="")


@app.command("upload")
def upload(name: Id, remote: Remote = None) -> None:
    """Upload a local dataset with its card, under the account of `hf auth login` or HF_TOKEN."""
    from pretrainrl.integrations.minari import upload_dataset

    upload_dataset(name, remote=remote)
    console.print(f"uploaded {name}", soft_wrap=True)


@app.command("download")
def download(name: Id, remote: Remote = None) -> None:
    """Download a dataset, verify it, and put it among the local ones."""
    from pretrainrl.integrations.minari import download_dataset
    from pretrainrl.integrations.minari.ids import datasets_root

    download_dataset(name, remote=remote)
    console.print(f"{name} is in {datasets_root()}", soft_wrap=True)
