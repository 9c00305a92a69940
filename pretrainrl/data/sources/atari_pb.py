"""The files in which Atari-PB keeps what it took from the DQN Replay Dataset, for those who still hold them.

There is one HDF5 file for each field, with one array, `data`, over games, runs, checkpoints and rows. Only the numbers in
`game_id` tell which games they are, and nothing tells which runs and checkpoints: these are taken as numbered from 1, as the
benchmark's are. A build that was interrupted leaves files that look complete and are zero where it did not get to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from pretrainrl.data.hdf5 import check_hdf5
from pretrainrl.data.sources import Source
from pretrainrl.data.sources.array_file import as_dataset_errors
from pretrainrl.data.sources.dqn_replay import ORIGIN, ShardSource
from pretrainrl.data.sources.shard import ARRAYS, KINDS, SHARD_ROWS, Shard
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game
from pretrainrl.paths import resolve_path

_NAMES = (
    "airraid alien amidar assault asterix asteroids atlantis bankheist battlezone beamrider berzerk bowling boxing "
    "breakout carnival centipede choppercommand crazyclimber demonattack doubledunk elevatoraction enduro fishingderby "
    "freeway frostbite gopher gravitar hero icehockey jamesbond journeyescape kangaroo krull kungfumaster "
    "montezumarevenge mspacman namethisgame phoenix pitfall pong pooyan privateeye qbert riverraid roadrunner robotank "
    "seaquest skiing solaris spaceinvaders stargunner tennis timepilot tutankham upndown venture videopinball wizardofwor "
    "yarsrevenge zaxxon"
)
GAMES = tuple(_NAMES.split())  # the place is the number in game_id
ATARI_PB_ORIGIN = {
    **ORIGIN,
    "by_way_of": "Atari-PB's HDF5 files, https://arxiv.org/abs/2406.06037",
    "run_and_checkpoint": "places in those files, counted from 1; the files do not name them",
}
_FIELDS = (*ARRAYS, "game_id")
_AXES = ("games", "runs", "checkpoints")
_PROBES = 16  # rows that are looked at to see whether a shard was written


def find_sources(
    folder: str | Path,
    games: Sequence[str],
    *,
    runs: Sequence[int] = (1, 2),
    checkpoints: Sequence[int] = range(1, 11),
    steps: int = 10_000,
) -> list[Source]:
    """Find shards in Atari-PB's finished files, which hold rows of the DQN Replay Dataset and are read as such.

    Args:
        folder: Folder of the files.
        games: Games, in any spelling.
        runs: Numbers of the agents of each game, from 1.
        checkpoints: Numbers of the shards of each run, from 1.
        steps: Number of transitions from the start of each shard, at least 1. The last row only tells what the one before led
            to.

    Raises:
        UnknownNameError, InputError, DatasetError: As in `find_atari_pb_shards`.
    """
    shards = find_atari_pb_shards(resolve_path(folder), games, runs, checkpoints)
    selection = {"runs": sorted(set(runs)), "checkpoints": sorted(set(checkpoints)), "steps": steps}
    return [ShardSource.of(found, selection, ATARI_PB_ORIGIN) for found in shards.values()]


@dataclass(frozen=True)
class AtariPBShard(Shard):
    """A shard in files that it shares with others.

    Attributes:
        game, run, checkpoint: Those of `Shard`.
        paths: Path of each of `ARRAYS`.
        place: Indices of the shard along the first three axes of the files.
    """

    paths: dict[str, Path]
    place: tuple[int, int, int]

    def files(self) -> Sequence[Path]:
        """Return the file of each of `ARRAYS`, which other shards share."""
        return list(self.paths.values())

    def open(self) -> Mapping[str, SharedRows]:
        """Open each of `ARRAYS`."""
        with ExitStack() as opened:
            arrays: dict[str, SharedRows] = {}
            for name, path in self.paths.items():
                arrays[name] = (_Terminals if name == "terminal" else SharedRows)(path, self.place, KINDS[name][0])
                opened.callback(arrays[name].close)
            for name in ("observation", "action"):
                if not arrays[name].written():
                    raise DatasetError(
                        f"{self.paths[name]} is zero for run {self.run} and checkpoint {self.checkpoint} of {self.game}: the "
                        "build that made it was interrupted before it got there; leave them out, or build the file again"
                    )
            opened.pop_all()
        return arrays


class SharedRows:
    """The rows of one shard in a file that it shares with others.

    Args:
        path: File of the array.
        place: Indices of the shard along the first three axes.
        row_shape: Shape of one row; the file may have further axes of size 1.

    Attributes:
        path: File of the array.
        rows: Number of rows of this shard.
        dtype: Type of the array.
        position: Number of rows read so far.

    Raises:
        DatasetError: The file cannot be read.
    """

    def __init__(self, path: Path, place: tuple[int, int, int], row_shape: tuple[int, ...]) -> None:
        self.path, self.position = path, 0
        self._place, self._row_shape = place, row_shape
        self._file, self._data = _open(path)
        self.rows, self.dtype = int(self._data.shape[3]), self._data.dtype

    def read(self, rows: int, /) -> npt.NDArray[Any]:
        """Read the next `rows` rows, `(rows, *row_shape)`."""
        out = np.empty((rows, *self._row_shape), self.dtype)
        self.read_into(out)
        return out

    def read_into(self, out: npt.NDArray[Any], /) -> None:
        """Fill `out`, contiguous and of the array's dtype, with the next `len(out)` rows.

        Raises:
            DatasetError: There are fewer rows, or they cannot be read.
        """
        stop = self.position + len(out)
        if stop > self.rows:
            raise DatasetError(f"{self.path} has {self.rows:,} rows for each shard; {stop:,} are needed")
        with as_dataset_errors(self.path, f" near row {self.position:,}"):
            if len(out):
                shape = (len(out), *self._data.shape[4:])
                self._data.read_direct(out.reshape(shape), self._at(slice(self.position, stop)))
        self.position = stop

    def written(self) -> bool:
        """Whether there is anything but zeros in this shard's rows; if they are large, a few are looked at."""
        step = max(1, self.rows // _PROBES) if self._row_shape else 1
        with as_dataset_errors(self.path):
            return bool(self._data[self._at(slice(None, None, step))].any())

    def verify(self) -> None:
        """Do nothing: the files hold no checksums."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _at(self, rows: slice) -> tuple[int | slice, ...]:
        return (*self._place, rows)


class _Terminals(SharedRows):
    """Ends of episodes. The n - 1 rows before each are marked as well, for n-step returns; here they are not."""

    def read_into(self, out: npt.NDArray[Any], /) -> None:
        super().read_into(out)
        with as_dataset_errors(self.path):
            after = self._data[self._at(slice(self.position, self.position + 1))].reshape(-1)  # empty at the end
        following = np.concatenate([out[1:], after])
        out[: len(following)][following != 0] = 0


def find_atari_pb_shards(
    folder: Path, games: Sequence[str], runs: Sequence[int], checkpoints: Sequence[int]
) -> dict[str, list[AtariPBShard]]:
    """Find the shards of every game, run and checkpoint in Atari-PB's finished files.

    Args:
        folder: Folder of the files `observation_10000.hdf5`, `action_10000_3_0.99.hdf5` and so on. Of several sets in it, the
            one with the most rows is taken.
        games: Games, in any spelling that `find_game` knows.
        runs: Numbers of the agents of each game, from 1 along the second axis.
        checkpoints: Numbers of the shards of each run, from 1 along the third axis.

    Returns:
        The shards of each game's slug, by run and then checkpoint.

    Raises:
        UnknownNameError: A game does not exist.
        InputError: A run or a checkpoint is below 1, or there is none.
        DatasetError: Files are missing, all of which are named; or their arrays are not what they should be, or hold no such
            game, run or checkpoint.
    """
    slugs = list(dict.fromkeys(find_game(game).slug for game in games))
    if not runs or not checkpoints or min(*runs, *checkpoints) < 1:
        raise InputError(f"runs and checkpoints are numbered from 1, not {list(runs)} and {list(checkpoints)}")
    paths = _files(folder)
    try:
        check_hdf5(*paths.values(), whole=False)
    except DatasetError as error:
        raise DatasetError(f"cannot read {error}") from error
    sizes = dict(zip(_AXES, _common_shape(paths), strict=True))
    for axis, numbers in (("runs", runs), ("checkpoints", checkpoints)):
        if max(numbers) > sizes[axis]:
            raise DatasetError(f"{paths['observation']} holds {axis} 1 to {sizes[axis]}, not {max(numbers)}")
    places = _places(paths["game_id"], slugs)
    arrays = {name: paths[name] for name in ARRAYS}
    return {
        slug: [
            AtariPBShard(slug, run, checkpoint, arrays, (places[slug], run - 1, checkpoint - 1))
            for run in sorted(set(runs))
            for checkpoint in sorted(set(checkpoints))
        ]
        for slug in slugs
    }


def _files(folder: Path) -> dict[str, Path]:
    """Choose one file for each field: of the set that is the most complete, then of the one with the most rows."""
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}")
    pattern = re.compile(r"(?:action|reward|terminal|game_id)_((\d+)_\d+_[\d.]+)\.hdf5")
    matches = [match for path in sorted(folder.iterdir()) if (match := pattern.fullmatch(path.name))]
    sets = [
        {name: folder / f"{name}_{rows if name == 'observation' else variant}.hdf5" for name in _FIELDS}
        for variant, rows in sorted({(match[1], match[2]) for match in matches}, key=lambda pair: (-int(pair[1]), pair[0]))
    ] or [{name: folder / f"{name}_10000{'' if name == 'observation' else '_<n>_<discount>'}.hdf5" for name in _FIELDS}]
    lacking = [[path.name for path in paths.values() if not path.is_file()] for paths in sets]
    best = min(range(len(sets)), key=lambda index: len(lacking[index]))
    if lacking[best]:
        raise DatasetError(f"missing in {folder}: {', '.join(lacking[best])}")
    return sets[best]


def _common_shape(paths: Mapping[str, Path]) -> tuple[int, ...]:
    """Check the arrays' shapes and types; return how many games, runs and checkpoints there are."""
    leading: dict[str, tuple[int, ...]] = {}
    for name, path in paths.items():
        row_shape, dtypes = KINDS.get(name, ((), (np.integer,)))
        file, data = _open(path)
        with file:
            shape, dtype = tuple(map(int, data.shape)), data.dtype
        if len(shape) < 4 or 0 in shape or tuple(size for size in shape[4:] if size != 1) != row_shape:
            expected = ", ".join(map(str, (*_AXES, "rows", *row_shape)))
            raise DatasetError(f"{path} holds an array of shape {shape} instead of ({expected})")
        if shape[0] > len(GAMES) or shape[3] > SHARD_ROWS:
            raise DatasetError(f"{path} says that it holds {shape[0]:,} games and {shape[3]:,} rows of each shard")
        if not any(np.issubdtype(dtype, wanted) for wanted in dtypes):
            raise DatasetError(f"{path} holds {dtype} instead of {' or '.join(wanted.__name__ for wanted in dtypes)}")
        leading[name] = shape[:4]
    if len(set(leading.values())) > 1:
        each = ", ".join(f"{paths[name].name} {shape}" for name, shape in leading.items())
        raise DatasetError(f"files in {paths['observation'].parent} differ in games, runs, checkpoints and rows: {each}")
    return leading["observation"][:3]


def _places(path: Path, slugs: Sequence[str]) -> dict[str, int]:
    """Return where each game is along the first axis."""
    file, data = _open(path)
    with file, as_dataset_errors(path):
        numbers = [int(number) for number in data[:, 0, 0, 0].reshape(-1)]
    if wrong := [number for number in numbers if not 0 <= number < len(GAMES)]:
        raise DatasetError(f"{path} holds {wrong[0]}; games have the numbers 0..{len(GAMES) - 1}")
    names = [GAMES[number] for number in numbers]
    for slug in slugs:
        if slug not in names:
            raise DatasetError(f"{path} does not hold {slug}; it holds {', '.join(sorted(set(names)))}")
        if names.count(slug) > 1:  # zero is both a game and what is not written
            raise DatasetError(f"{path} holds {slug} {names.count(slug)} times: the build that made it was interrupted")
    return {slug: names.index(slug) for slug in slugs}


def _open(path: Path) -> tuple[h5py.File, h5py.Dataset]:
    """Open a file and the array in it.

    Raises:
        DatasetError: It cannot be read or has no array `data`.
    """
    with as_dataset_errors(path):
        file = h5py.File(path, "r")
    data = file.get("data")
    if not isinstance(data, h5py.Dataset):
        names = ", ".join(file) or "nothing"
        file.close()
        raise DatasetError(f"{path} holds {names} instead of an array 'data'")
    return file, data
