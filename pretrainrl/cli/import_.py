"""`import`: what others recorded becomes Minari datasets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pretrainrl.cli.datasets import is_done, root_of_datasets
from pretrainrl.errors import InputError
from pretrainrl.progress import progress_bar

if TYPE_CHECKING:
    import minari

app = typer.Typer(help="Publish what others recorded as Minari datasets.", no_args_is_help=True)

Root = Annotated[Path, typer.Argument(help="Folder that holds one folder for each game.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read the files to their ends and check the checksums.")]


@app.callback()
def _group() -> None:
    """Publish what others recorded as Minari datasets."""


@app.command("dqn-replay")
def dqn_replay(
    root: Root,
    games: Games,
    runs: Runs = "1,2",
    checkpoints: Checkpoints = "1-10",
    steps: Steps = 10_000,
    on_missing: Annotated[str, typer.Option(help="error, skip, or previous: the checkpoint before.")] = "error",
    verify: Verify = False,
    kind: Kind = "dqn-replay",
    version: Version = 0,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Publish local shards of the DQN Replay Dataset, one lossless Minari dataset for each of GAMES."""
    selection: dict[str, Any] = {**_selection(runs, checkpoints), "on_missing": on_missing}
    from pretrainrl.data.sources.dqn_replay_files import find_shards

    shards = find_shards(root, games, **selection)

    from pretrainrl.data.sources.dqn_replay import check_shards
    from pretrainrl.integrations.minari import import_dqn_replay

    write = partial(import_dqn_replay, verify=verify)
    settings = {**selection, "steps": steps}
    import_all(one_each(shards, settings, kind, version, check=check_shards, write=write), out, resume)


@app.command("atari-pb")
def atari_pb(
    folder: Annotated[Path, typer.Argument(help="Folder of observation_10000.hdf5 and the files beside it.")],
    games: Games,
    runs: Runs = "1,2",
    checkpoints: Checkpoints = "1-10",
    steps: Steps = 10_000,
    kind: Kind = "dqn-replay",
    version: Version = 0,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Publish Atari-PB's finished HDF5 files, one lossless Minari dataset for each of GAMES."""
    selection = _selection(runs, checkpoints)
    from pretrainrl.data.sources.atari_pb import find_atari_pb_shards

    shards = find_atari_pb_shards(folder, games, **selection)

    from pretrainrl.data.sources.dqn_replay import check_shards
    from pretrainrl.integrations.minari import import_atari_pb

    settings = {**selection, "steps": steps}
    import_all(one_each(shards, settings, kind, version, check=check_shards, write=import_atari_pb), out, resume)


@app.command("rl-unplugged")
def rl_unplugged(
    root: Root,
    games: Games,
    runs: Runs = "1,2",
    checkpoints: Checkpoints = "1-10",
    steps: Steps = 10_000,
    verify: Verify = False,
    kind: Kind = "rlu",
    version: Version = 0,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Publish local episode records of RL Unplugged's Atari part, one lossless Minari dataset for each of GAMES."""
    selection = _selection(runs, checkpoints)
    from pretrainrl.data.sources.rl_unplugged import check_records, find_records

    records = find_records(root, games, **selection)

    from pretrainrl.integrations.minari import import_rl_unplugged

    write = partial(import_rl_unplugged, verify=verify)
    settings = {**selection, "steps": steps}
    import_all(one_each(records, settings, kind, version, check=check_records, write=write), out, resume)


@app.command("minari")
def native(
    ids: Annotated[list[str], typer.Argument(help="Of native frames: atari/pong/expert-v0.")],
    kind: Annotated[str | None, typer.Option(help="Of the new id; default farama- and what the old one has.")] = None,
    version: Version = 0,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Convert Minari datasets of Atari games' native coloured frames to 84x84 grey ones, without further loss."""
    from pretrainrl.integrations.minari import dataset_id, import_rgb, open_native

    imports = []
    for source in map(open_native, dict.fromkeys(ids)):  # before --out: they are where Minari keeps them
        imports.append(
            Import(
                name=dataset_id(source.game, kind or source.kind, version),
                source=source.name,
                transitions=int(source.minari.total_steps),
                settings={"dataset": source.name},
                check=lambda: None,
                write=partial(import_rgb, source, kind=kind, version=version),
            )
        )
    import_all(imports, out, resume)


def _selection(runs: str, checkpoints: str) -> dict[str, list[int]]:
    return {"runs": numbers("--runs", runs), "checkpoints": numbers("--checkpoints", checkpoints)}


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
        write: makes it; is given `progress`, to be called with the number of new transitions.
    """

    name: str
    source: str
    transitions: int
    settings: Mapping[str, Any]
    check: Callable[[], None]
    write: Callable[..., minari.MinariDataset]


def one_each(
    shards: Mapping[str, Sequence[Any]],
    settings: Mapping[str, Any],
    kind: str,
    version: int,
    *,
    check: Callable[[Any], None],
    write: Callable[..., minari.MinariDataset],
) -> list[Import]:
    """Return what is to be made of each game's shards.

    Args:
        shards: of each game's slug.
        settings: how they were chosen; `steps` are the transitions of each shard.
        kind: of the ids.
        version: of the ids.
        check: is given the shards of a game.
        write: is given those, `steps`, and by name `kind`, `version`, `selection` and `progress`.
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
            write=partial(write, found, steps, **options),
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
    from pretrainrl.integrations.minari.metadata import datasets_root
    from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests

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
            dataset = made.write(progress=advance)
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
