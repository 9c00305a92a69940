"""What long commands show: text as it is, and the progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def plain_console(*, stderr: bool = False, quiet: bool = False, width: int | None = None) -> Console:
    """Return a console that prints text as it is: in what users name, such as a folder, nothing is markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, stderr=stderr, quiet=quiet, width=width)


def progress_bar(*, disable: bool = False) -> Progress:
    """Return a bar with count, a free text field `note`, time spent and time left.

    Tasks are added with `note=""`. The bar is drawn on standard error, so that output can be piped.

    Args:
        disable: Whether the bar is hidden.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=plain_console(stderr=True),
        disable=disable,
    )
