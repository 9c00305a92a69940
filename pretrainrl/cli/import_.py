"""`import`: what others recorded becomes Minari datasets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pretrainrl.cli.importing import (
    Checkpoints,
    Games,
    Import,
    Kind,
    Out,
    Resume,
    Runs,
    Steps,
    Version,
    import_all,
    numbers,
    one_each,
)

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
    from pretrainrl.data.dqn_replay_files import find_shards

    shards = find_shards(root, games, **selection)

    from pretrainrl.data.dqn_replay import check_shards
    from pretrainrl.integrations.minari import import_dqn_replay

    publish = partial(import_dqn_replay, verify=verify)
    settings = {**selection, "steps": steps}
    import_all(one_each(shards, settings, kind, version, check=check_shards, publish=publish), out, resume)


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
    from pretrainrl.data.atari_pb_files import find_shared_shards

    shards = find_shared_shards(folder, games, **selection)

    from pretrainrl.data.dqn_replay import check_shards
    from pretrainrl.integrations.minari import import_atari_pb

    settings = {**selection, "steps": steps}
    import_all(one_each(shards, settings, kind, version, check=check_shards, publish=import_atari_pb), out, resume)


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
    from pretrainrl.data.rl_unplugged import check_records, find_records

    records = find_records(root, games, **selection)

    from pretrainrl.integrations.minari import import_rl_unplugged

    publish = partial(import_rl_unplugged, verify=verify)
    settings = {**selection, "steps": steps}
    import_all(one_each(records, settings, kind, version, check=check_records, publish=publish), out, resume)


@app.command("minari")
def native(
    ids: Annotated[list[str], typer.Argument(help="Of native frames: atari/pong/expert-v0.")],
    kind: Annotated[str | None, typer.Option(help="Of the new id; default farama- and what the old one has.")] = None,
    version: Version = 0,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Convert Minari datasets of Atari games' native coloured frames to 84x84 grey ones, without further loss."""
    from pretrainrl.integrations.minari import dataset_id, import_native, open_native

    imports = []
    for source in map(open_native, dict.fromkeys(ids)):  # before --out: they are where Minari keeps them
        imports.append(
            Import(
                name=dataset_id(source.game, kind or source.kind, version),
                source=source.name,
                transitions=int(source.minari.total_steps),
                settings={"dataset": source.name},
                check=lambda: None,
                publish=partial(import_native, source, kind=kind, version=version),
            )
        )
    import_all(imports, out, resume)


def _selection(runs: str, checkpoints: str) -> dict[str, list[int]]:
    return {"runs": numbers("--runs", runs), "checkpoints": numbers("--checkpoints", checkpoints)}
