"""What the commands of `import` have in common: one dataset after the other, with progress, interruption and resuming."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pretrainrl.cli.publishing import is_done, root_of_datasets
from pretrainrl.errors import InputError
from pretrainrl.progress import progress_bar

if TYPE_CHECKING:
    import minari

console = Console()

Games = Annotated[list[str], typer.Argument(help="Names in any spelling: pong, ms_pacman, MsPacman.")]
Steps = Annotated[int, typer.Option(min=1, help="Transitions from the start of each shard.")]
Kind = Annotated[str, typer.Option(help="Of the id pretrainrl/atari/<game>-<kind>-v<version>.")]
Version = Annotated[int, typer.Option(min=0, help="Of the id.")]
Out = Annotated[Path | None, typer.Option(help="Root of the datasets; default MINARI_DATASETS_PATH.")]
Resume = Annotated[bool, typer.Option("--resume", help="Skip the datasets that are there already.")]
Runs = Annotated[str, typer.Option(help="Numbers and ranges: 1,2 or 1-5.")]
Checkpoints = Annotated[str, typer.Option(help="Numbers and ranges, of each run.")]

_NOTICED = {
    "dropped_padding_rows": "padding rows left out",
    "starts_without_padding": "episodes start without padding",
    "nan_rewards": "rewards were NaN, now 0",
    "unclipped_rewards": "rewards are outside -1..1",
}


@dataclass(frozen=True)
class Import:
    """One dataset to be made.

    Attributes:
        name: its id.
        source: what it is made of, for people.
        transitions: as many as there will be at most.
        settings: what its metadata hold as `selection`.
        check: looks for damage as far as it can be seen without reading everything.
        publish: makes it; is given `progress`, to be called with the number of new transitions.
    """

    name: str
    source: str
    transitions: int
    settings: Mapping[str, Any]
    check: Callable[[], None]
    publish: Callable[..., minari.MinariDataset]


def one_each(
    shards: Mapping[str, Sequence[Any]],
    settings: Mapping[str, Any],
    kind: str,
    version: int,
    *,
    check: Callable[[Any], None],
    publish: Callable[..., minari.MinariDataset],
) -> list[Import]:
    """Return what is to be made of each game's shards.

    Args:
        shards: of each game's slug.
        settings: how they were chosen; `steps` are the transitions of each shard.
        kind: of the ids.
        version: of the ids.
        check: is given the shards of a game.
        publish: is given those, `steps`, and by name `kind`, `version`, `selection` and `progress`.
    """
    from pretrainrl.integrations.minari import dataset_id

    steps = settings["steps"]
    options = {"kind": kind, "version": version, "selection": dict(settings)}
    return [
        Import(
            name=dataset_id(slug, kind, version),
            source=f"{len(found)} shards",
            transitions=steps * len(found),
            settings=settings,
            check=partial(check, found),
            publish=partial(publish, found, steps, **options),
        )
        for slug, found in shards.items()
    ]


def import_all(imports: Sequence[Import], out: Path | None, resume: bool) -> None:
    """Make the datasets, each of them wholly or not at all, and say what became of them.

    Raises:
        InputError: when two would have the same id, or one is none.
        DatasetError: when one exists, with `resume` when it was made otherwise; or its source is damaged.
        InterruptedRunError: on SIGINT or SIGTERM.
    """
    from pretrainrl.integrations.minari.ids import datasets_root
    from pretrainrl.pretraining.interrupt import InterruptedRunError, stop_requests

    names = [made.name for made in imports]
    if len(set(names)) < len(names):
        raise InputError(f"several would be {max(names, key=names.count)}; import them one by one, with another --version")
    with root_of_datasets(out), stop_requests() as stop, progress_bar() as progress:
        done = [made.name for made in imports if is_done(made.name, "selection", made.settings, resume)]
        todo = [made for made in imports if made.name not in done]
        for made in todo:  # nothing is read for hours before the last one turns out to be damaged
            made.check()
        task = progress.add_task("", total=sum(made.transitions for made in todo), note="transitions")

        def advance(new: int) -> None:
            progress.advance(task, new)
            if stop.is_set():
                raise InterruptedRunError(
                    f"interrupted; {len(done)} of {len(imports)} datasets are complete, of the one under way nothing is kept; "
                    "go on with the same command and --resume"
                )

        for made in imports:
            if made not in todo:
                console.print(f"{made.name}  is there already", soft_wrap=True)
                continue
            progress.update(task, description=made.name.rsplit("/", 1)[-1])
            dataset = made.publish(progress=advance)
            done.append(made.name)
            facts = dataset.storage.metadata
            console.print(
                f"{made.name}  {dataset.total_steps:,} transitions of {made.source}, {len(dataset)} episodes, "
                f"{facts['dataset_size']:.1f} MB; {_noticed(facts)}",
                soft_wrap=True,
            )
        console.print(f"in {datasets_root()}", soft_wrap=True)


def numbers(option: str, text: str) -> list[int]:
    """Return the numbers of a list such as `1,2,5-7`, sorted.

    Raises:
        InputError: when it is none.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise InputError(f"{option} takes numbers and ranges such as 1,2 or 1-10, not {text!r}")
        found.update(range(first, last + 1))
    return sorted(found)


def _noticed(facts: Mapping[str, Any]) -> str:
    """Say what was noticed in reading."""
    return ", ".join(f"{facts[key]:,} {text}" for key, text in _NOTICED.items() if facts.get(key)) or "nothing unusual in them"
