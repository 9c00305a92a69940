"""The progress bar that every long command shows."""

from __future__ import annotations

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar(*, disable: bool = False) -> Progress:
    """Return a bar with count, a free text field `note`, time spent and time left.

    Tasks are added with `note=""`. The bar is drawn on standard error, so that output can be piped.

    Args:
        disable: Whether the bar is hidden.
    """
    from rich.console import Console

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=disable,
    )
