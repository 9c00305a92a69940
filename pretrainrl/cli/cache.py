"""`cache`: unpacked frames, and features of frozen encoders, which can be made again at any time."""

from __future__ import annotations

from typing import Annotated

import typer

from pretrainrl.progress import plain_console

app = typer.Typer(help="Build, list and remove caches of frames and features.", no_args_is_help=True)
console = plain_console()


@app.command("build")
def build(
    datasets: Annotated[list[str], typer.Argument(help="Minari ids, all of which go into one cache.")],
    codec: Annotated[str | None, typer.Option(help="raw or lz4; default: raw if it fits into 60 % of free memory.")] = None,
) -> None:
    """Build the frame cache of DATASETS, as the first `pretrain` on them would, and go on with one that was begun."""
    from pretrainrl.data.caches import list_caches
    from pretrainrl.integrations.minari import cache_datasets

    folder = cache_datasets(datasets, codec=codec, progress=True).folder  # type: ignore[arg-type]  # is checked there
    [info] = [info for info in list_caches() if info.folder == folder]
    console.print(f"{folder}: {info.frames:,} frames, {info.codec}, {_size(info.bytes)}", soft_wrap=True)


@app.command("info")
def info() -> None:
    """List the caches of frames and features, the one used last first."""
    from rich.table import Table

    from pretrainrl.data.caches import list_caches
    from pretrainrl.paths import home

    caches = list_caches()
    if not caches:
        console.print(f"no caches in {home()}", soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "state", "frames", "codec", "size", "last used"):
        table.add_column(column, no_wrap=True)
    table.add_column("datasets", overflow="fold")
    for cache in caches:
        frames = f"{cache.frames:,}" if cache.frames else ""
        used = f"{cache.last_used:%Y-%m-%d %H:%M}"
        table.add_row(cache.key, cache.state, frames, cache.codec, _size(cache.bytes), used, "\n".join(cache.datasets))
    console.print(table)
    console.print(f"{_size(sum(cache.bytes for cache in caches))} in {home()}", soft_wrap=True)


@app.command("clear")
def clear(
    pattern: Annotated[str, typer.Argument(help="Shell-style pattern of keys or dataset ids.")] = "*",
) -> None:
    """Remove caches of frames and features, all of them by default; they are made again when needed."""
    from pretrainrl.data.caches import list_caches, remove_cache
    from pretrainrl.errors import UnknownNameError

    caches = list_caches()
    chosen = [cache for cache in caches if cache.matches(pattern)]
    if caches and not chosen:
        raise UnknownNameError.of("cache", pattern, {name for cache in caches for name in (cache.key, *cache.datasets)})
    freed = 0
    for cache in chosen:
        if remove_cache(cache.folder):
            freed += cache.bytes
            console.print(f"removed {cache.key}, {_size(cache.bytes)}: {', '.join(cache.datasets)}", soft_wrap=True)
        else:
            console.print(f"kept {cache.key}, which is being built", soft_wrap=True)
    console.print(f"{_size(freed)} freed")


def _size(count: int) -> str:
    """Bytes, in decimal units."""
    from rich.filesize import decimal

    return decimal(count)
