"""Where the shards of the DQN Replay Dataset lie: three layouts are in circulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pretrainrl.data.sources.array_file import ArrayFile, read_number
from pretrainrl.data.sources.shard import ARRAYS, KINDS, Shard
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game

_COUNT = "add_count"
ON_MISSING = ("error", "skip", "previous")
_FURTHEST_BACK = 2  # checkpoints: 50 -> 49 -> 48

# The dataset's own; Atari-PB's; SGI's, which has one run only. In the first the count has no prefix.
_WITH_RUN = ("{run}/replay_logs/{store}{name}_ckpt.{checkpoint}", "{name}_{run}_{checkpoint}")
_WITHOUT_RUN = "{name}_{checkpoint}"
_SUFFIXES = (".gz", ".npy")


@dataclass(frozen=True)
class ShardFiles(Shard):
    """A shard in files of its own.

    Attributes:
        game, run, checkpoint: as `Shard`'s.
        arrays: path of each of `ARRAYS`.
        add_count: path of the file that says how many transitions had been written, if it is there.
    """

    arrays: dict[str, Path]
    add_count: Path | None

    def open(self) -> dict[str, ArrayFile]:
        """Open each of `ARRAYS`."""
        with ExitStack() as opened:
            arrays: dict[str, ArrayFile] = {}
            for name, path in self.arrays.items():
                arrays[name] = ArrayFile(path, *KINDS[name])
                opened.callback(arrays[name].close)
            opened.pop_all()
        return arrays

    def count(self) -> int | None:
        """Return how many transitions had been written when the shard was, if a file says so."""
        return None if self.add_count is None else read_number(self.add_count)


def folders_of_games(root: Path, games: Sequence[str]) -> dict[str, Path]:
    """Return the folder of each game under `root`, there under any spelling, by slug.

    A game that has none gets the path where it would be.

    Raises:
        UnknownNameError: when a game does not exist.
        DatasetError: when `root` is no folder.
    """
    found = [find_game(game) for game in games]
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}")
    folders = {path.name.replace("_", "").replace("-", "").lower(): path for path in sorted(root.iterdir()) if path.is_dir()}
    return {game.slug: folders.get(game.slug, root / game.env_id.removeprefix("ALE/").removesuffix("-v5")) for game in found}


def find_shards(
    root: Path, games: Sequence[str], runs: Sequence[int], checkpoints: Sequence[int], on_missing: str = "error"
) -> dict[str, list[ShardFiles]]:
    """Find the shards of every game, run and checkpoint, in any of the three layouts.

    Args:
        root: folder with one folder for each game, under any spelling of its name.
        games: any spelling that `find_game` knows.
        runs: of each game. Files without a run in their name are those of the one run that is asked for.
        checkpoints: of each run.
        on_missing: what to do about an incomplete shard: `error`, `skip` it, or take the `previous` checkpoint or the
            one before, if that is complete and not taken already.

    Returns:
        The shards of each game's slug, by run and then checkpoint.

    Raises:
        UnknownNameError: when a game does not exist.
        InputError: when an argument is none of those.
        DatasetError: when files are missing, all of which it names, or nothing is left of a game.
    """
    if not runs or not checkpoints or min(*runs, *checkpoints) < 0 or on_missing not in ON_MISSING:
        raise InputError(
            f"import needs runs and checkpoints from 0 on and on_missing one of {', '.join(ON_MISSING)}, "
            f"not {list(runs)}, {list(checkpoints)} and {on_missing!r}"
        )
    folders = folders_of_games(root, games)
    shards: dict[str, list[ShardFiles]] = {slug: [] for slug in folders}
    missing: list[str] = []
    for slug, folder in folders.items():
        finder = _Finder(slug, folder, single_run=len(set(runs)) == 1)
        for run in sorted(set(runs)):
            found, lacking = finder.find(run, sorted(set(checkpoints)), back=on_missing == "previous")
            shards[slug] += found
            missing += [str(name.relative_to(root)) for name in lacking]
    if missing and on_missing != "skip":
        hint = "" if on_missing == "previous" else "; --on-missing skip or previous goes on without them"
        raise DatasetError(f"missing under {root}: {', '.join(missing)}{hint}")
    if empty := [slug for slug in folders if not shards[slug]]:
        raise DatasetError(f"there is no complete shard of {', '.join(empty)} under {root}")
    return shards


@dataclass(frozen=True)
class _Finder:
    """Looks for the shards of one game."""

    game: str
    folder: Path
    single_run: bool

    def find(self, run: int, checkpoints: Sequence[int], back: bool) -> tuple[list[ShardFiles], list[Path]]:
        """Return the shards of `run` and the names of the files that are missing, arrays of one shard in braces."""
        complete = {number: shard for number in checkpoints if (shard := self._shard(run, number))}
        missing = []
        for number in checkpoints:
            if number in complete:
                continue
            earlier = range(number - 1, max(number - _FURTHEST_BACK, 0) - 1, -1) if back else ()
            candidates = ((other, self._shard(run, other)) for other in earlier if other not in complete)
            other, shard = next(((other, shard) for other, shard in candidates if shard), (number, None))
            if shard is None:
                missing.append(self._missing(run, number))
            else:
                complete[other] = shard
        return [complete[number] for number in sorted(complete)], missing

    def _shard(self, run: int, checkpoint: int) -> ShardFiles | None:
        for layout in self._layouts():
            arrays = {name: path for name in ARRAYS if (path := self._file(layout, name, run, checkpoint))}
            if len(arrays) == len(ARRAYS):
                return ShardFiles(self.game, run, checkpoint, arrays, self._file(layout, _COUNT, run, checkpoint))
        return None

    def _missing(self, run: int, checkpoint: int) -> Path:
        """Name what is missing in the layout of which most is there, the original one if nothing is."""

        def lacking(layout: str) -> list[str]:
            return [name for name in ARRAYS if not self._file(layout, name, run, checkpoint)]

        layout = min(self._layouts(), key=lambda layout: len(lacking(layout)))
        names = lacking(layout)
        return self._path(layout, names[0] if len(names) == 1 else "{" + ",".join(names) + "}", run, checkpoint, ".gz")

    def _layouts(self) -> Iterator[str]:
        yield from _WITH_RUN
        if self.single_run:
            yield _WITHOUT_RUN

    def _file(self, layout: str, name: str, run: int, checkpoint: int) -> Path | None:
        paths = (self._path(layout, name, run, checkpoint, suffix) for suffix in _SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

    def _path(self, layout: str, name: str, run: int, checkpoint: int, suffix: str) -> Path:
        store = "" if name == _COUNT else "$store$_"
        return self.folder / (layout.format(store=store, name=name, run=run, checkpoint=checkpoint) + suffix)
