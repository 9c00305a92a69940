"""`import`: recordings in others' formats become Minari datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pretrainrl.cli.datasets import root_of_datasets
from pretrainrl.errors import InputError
from pretrainrl.paths import resolve_path
from pretrainrl.progress import plain_console

if TYPE_CHECKING:
    import minari

    from pretrainrl.data.sources import Source

app = typer.Typer(help="Write what others recorded as Minari datasets.", no_args_is_help=True)
console = plain_console()

Root = Annotated[Path, typer.Argument(help="Folder that holds one folder for each game.")]
Games = Annotated[list[str], typer.Argument(help="Names in any spelling: pong, ms_pacman, MsPacman.")]
Runs = Annotated[str, typer.Option(help="Numbers and ranges: 1,2 or 1-5.")]
Checkpoints = Annotated[str, typer.Option(help="Numbers and ranges, of each run.")]
Steps = Annotated[int, typer.Option(min=1, help="Transitions from the start of each shard.")]
Verify = Annotated[bool, typer.Option("--verify", help="Read the files to their ends and check the checksums.")]
Kind = Annotated[str, typer.Option(help="Kind in the id pretrainrl/atari/<game>-<kind>-v<version>.")]
Version = Annotated[int, typer.Option(min=0, help="Version in the id.")]
Out = Annotated[Path | None, typer.Option(help="Root of the datasets; default MINARI_DATASETS_PATH.")]
Resume = Annotated[bool, typer.Option("--resume", help="Skip the datasets that are there already, made of the same files.")]

_NOTICED = {
    "dropped_padding_rows": "padding rows left out",
    "starts_without_padding": "episodes start without padding",
    "nan_rewards": "rewards were NaN, now 0",
    "unclipped_rewards": "rewards are outside -1..1",
}


@app.callback()
def _group() -> None:
    """Write what others recorded as Minari datasets."""


@app.command("dqn-replay")
def import_dqn_replay(
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
    """Write local shards of the DQN Replay Dataset, one lossless Minari dataset for each of GAMES."""
    from pretrainrl.data.sources import find_sources

    selection: dict[str, Any] = {**_numbers(runs, checkpoints), "steps": steps, "on_missing": on_missing, "verify": verify}
    _write(find_sources("dqn-replay", resolve_path(root), games, **selection), kind, version, out, resume)


@app.command("atari-pb")
def import_atari_pb(
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
    """Write Atari-PB's finished HDF5 files, one lossless Minari dataset for each of GAMES."""
    from pretrainrl.data.sources import find_sources

    selection = {**_numbers(runs, checkpoints), "steps": steps}
    _write(find_sources("atari-pb", resolve_path(folder), games, **selection), kind, version, out, resume)


@app.command("rl-unplugged")
def import_rl_unplugged(
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
    """Write local episode records of RL Unplugged's Atari part, one lossless Minari dataset for each of GAMES."""
    from pretrainrl.data.sources import find_sources

    selection = {**_numbers(runs, checkpoints), "steps": steps, "verify": verify}
    _write(find_sources("rl-unplugged", resolve_path(root), games, **selection), kind, version, out, resume)


@app.command("minari")
def import_rgb(
    ids: Annotated[list[str], typer.Argument(help="Ids of datasets of native frames: atari/pong/expert-v0.")],
    kind: Annotated[str | None, typer.Option(help="Kind in the new id; default farama- and what the old one has.")] = None,
    version: Version = 0,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Convert Minari datasets of Atari games' native colored frames to 84x84 grey ones, without further loss."""
    from pretrainrl.data.sources import find_sources

    _write(find_sources("minari", ids), kind, version, out, resume)  # found before --out: they are where Minari keeps them


def _write(sources: Sequence[Source], kind: str | None, version: int, out: Path | None, resume: bool) -> None:
    from pretrainrl.integrations.minari import import_source
    from pretrainrl.integrations.minari.metadata import datasets_root

    with root_of_datasets(out):
        import_source(sources, kind=kind, version=version, resume=resume, progress=True, report=_report)
        console.print(f"in {datasets_root()}", soft_wrap=True)


def _report(source: Source, dataset: minari.MinariDataset, is_new: bool) -> None:
    if not is_new:
        console.print(f"{dataset.id}  is there already", soft_wrap=True)
        return
    facts = dataset.storage.metadata
    console.print(
        f"{dataset.id}  {dataset.total_steps:,} transitions of {source.content}, {len(dataset)} episodes, "
        f"{facts['dataset_size']:.1f} MB; {_noticed(facts)}",
        soft_wrap=True,
    )


def _noticed(facts: Mapping[str, Any]) -> str:
    """Say what was noticed in reading."""
    return ", ".join(f"{facts[key]:,} {text}" for key, text in _NOTICED.items() if facts.get(key)) or "nothing unusual in them"


def _numbers(runs: str, checkpoints: str) -> dict[str, list[int]]:
    return {"runs": numbers("--runs", runs), "checkpoints": numbers("--checkpoints", checkpoints)}


def numbers(option: str, text: str) -> list[int]:
    """Return the numbers of a list such as `1,2,5-7`, sorted.

    Raises:
        InputError: The text is no such list.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise InputError(f"{option} takes numbers and ranges such as 1,2 or 1-10, not {text!r}")
        found.update(range(first, last + 1))
    return sorted(found)
