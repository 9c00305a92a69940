"""`datasets`: what is here, one dataset's card, and to and from the Hugging Face hub."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from pretrainrl.arguments import MAX_PROCESSES, check_counts
from pretrainrl.paths import environment_variables, output_folder
from pretrainrl.progress import plain_console

app = typer.Typer(help="List the datasets; show, build, upload or download one.")
console = plain_console()

Id = Annotated[str, typer.Argument(metavar="ID", help="Minari id, e.g. pretrainrl/atari/pong-random-v0.")]
Remote = Annotated[str | None, typer.Option(help="hf://<organization>; default MINARI_REMOTE.")]


@app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context) -> None:
    """List the datasets that are here and those that can be built from recordings; show, build, upload or download one."""
    if context.invoked_subcommand is not None:
        return
    from rich.filesize import decimal
    from rich.table import Table

    from pretrainrl.dataset_cards import RECORDINGS
    from pretrainrl.errors import DatasetError
    from pretrainrl.integrations.minari.card import find_dataset_card
    from pretrainrl.integrations.minari.metadata import NAMESPACE, check_dataset, datasets_root, local_ids

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    for column in ("size", "transitions", "episodes", "mean return"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("card", no_wrap=True)
    problems = []
    local = local_ids()
    for name in local:
        try:
            found = check_dataset(name)
        except DatasetError as error:
            problems.append(str(error))
            continue
        card = find_dataset_card(name)
        numbers = decimal(found.bytes), f"{found.transitions:,}", f"{len(found.episodes):,}", f"{found.mean_return:.2f}"
        table.add_row(name, *numbers, card.name if card else "")
    for recorded in RECORDINGS.items():
        if (name := f"{NAMESPACE}/{recorded.name}") not in local:
            mean = f"{recorded.returns.mean:.2f}" if recorded.returns else ""
            episodes = f"{recorded.returns.episodes:,}" if recorded.returns else ""
            size = decimal(recorded.bytes)
            table.add_row(name, size, f"{recorded.transitions:,}", episodes, mean, "a recording, built when it is needed")
    if table.row_count:
        plain_console(width=200).print(table)  # an id cut short on a narrow terminal could not be copied
    for problem in problems:
        console.print(f"not usable  {problem}", soft_wrap=True)
    if not table.row_count and not problems:
        console.print(f"there are no datasets in {datasets_root()}", soft_wrap=True)


@app.command("build")
def build(
    patterns: Annotated[
        list[str],
        typer.Argument(
            metavar="PATTERN…",
            help="Ids or parts of them with wildcards, e.g. 'pong-*' or '*-expert-v0'; or a recording's file, a path or hf://...",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Root of the datasets; default MINARI_DATASETS_PATH.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default one for each core.")] = None,
) -> None:
    """Play recordings again and write what is seen as Minari datasets; those that are here already are skipped."""
    from pretrainrl.games import silence_emulator
    from pretrainrl.integrations.minari.metadata import datasets_root
    from pretrainrl.integrations.minari.recordings import build_dataset, is_built, matching_recordings

    check_counts(MAX_PROCESSES, jobs=jobs)
    silence_emulator()
    with root_of_datasets(out):
        for source, name in matching_recordings(patterns).items():
            if is_built(source, name):
                console.print(f"{name}  is there already", soft_wrap=True)
                continue
            dataset = build_dataset(source, jobs=jobs, progress=True)
            size = dataset.storage.metadata["dataset_size"]
            console.print(
                f"{name}  {dataset.total_steps:,} transitions, {len(dataset)} episodes, {size:.1f} MB", soft_wrap=True
            )
        console.print(f"in {datasets_root()}", soft_wrap=True)


@app.command("card")
def show_card(name: Id) -> None:
    """Print a local dataset's card as the hub shows it, in Markdown; of one that is not built yet, its recording's card."""
    from pretrainrl.dataset_cards import RECORDINGS
    from pretrainrl.integrations.minari.card import render_card
    from pretrainrl.integrations.minari.metadata import check_dataset, dataset_folder
    from pretrainrl.integrations.minari.recordings import is_recorded

    if is_recorded(name) and not dataset_folder(name).exists():
        print(RECORDINGS.get(name.rsplit("/", 1)[-1]).to_toml(), end="")
        return
    print(render_card(check_dataset(name)), end="")


@app.command("upload")
def upload(
    name: Id,
    remote: Remote = None,
    recording: Annotated[
        bool, typer.Option("--recording", help="Upload how it was played, a thousandth of the bytes, instead of its frames.")
    ] = False,
) -> None:
    """Upload a local dataset with its card, under the account of `hf auth login` or HF_TOKEN."""
    from pretrainrl.integrations.minari import upload_dataset, upload_recording

    if recording:
        card = upload_recording(name, remote=remote)
        console.print(f"uploaded {card.sources[0]}", soft_wrap=True)
        return
    upload_dataset(name, remote=remote)
    console.print(f"uploaded {name}", soft_wrap=True)


@app.command("download")
def download(name: Id, remote: Remote = None) -> None:
    """Download a dataset, verify it, and put it among the local ones."""
    from pretrainrl.integrations.minari import download_dataset
    from pretrainrl.integrations.minari.metadata import datasets_root

    download_dataset(name, remote=remote)
    console.print(f"{name} is in {datasets_root()}", soft_wrap=True)


def root_of_datasets(out: str | Path | None) -> AbstractContextManager[None]:
    """Make `out`, or what `MINARI_DATASETS_PATH` says, the root of Minari's datasets for a while, as an absolute path.

    Raises:
        InputError: It cannot be written to.
    """
    from pretrainrl.integrations.minari.metadata import datasets_root

    return environment_variables(MINARI_DATASETS_PATH=str(output_folder(datasets_root() if out is None else out)))
