"""The DQN Replay Dataset, in files of its own: four layouts are in circulation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pretrainrl.data.episode import Episode
from pretrainrl.data.sources import Source
from pretrainrl.data.sources.array_file import ArrayFile, read_number
from pretrainrl.data.sources.shard import ARRAYS, KINDS, Findings, Shard, check_shards, read_episodes
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game, slug_of
from pretrainrl.paths import resolve_path

ON_MISSING = ("error", "skip", "previous")
ORIGIN = {
    "dataset": "DQN Replay Dataset",
    "url": "https://research.google/tools/datasets/dqn-replay/",
    "paper": "https://arxiv.org/abs/1907.04543",
    "rom_set": "that of atari-py<=0.2.5, not the one whose checksum is in rom_md5",
}
PREPROCESSING: dict[str, Any] = {
    "frame_skip": 4,
    "max_pool": "last 2 raw frames",
    "grayscale": True,
    "resize": "84x84 area",
    "noop_max": 0,
    "fire_reset": False,
    "life_loss": "the episode continues",
    "reward_clipping": "[-1, 1], in the source",
}

_COUNT = "add_count"
_FURTHEST_BACK = 2  # checkpoints: 50 -> 49 -> 48

# The dataset's own; d4rl-atari's and d3rlpy's; Atari-PB's; SGI's, which has one run only. In the first, counts have no prefix.
_WITH_RUN = ("{run}/replay_logs/{store}{name}_ckpt.{checkpoint}", "{run}/{checkpoint}/{name}", "{name}_{run}_{checkpoint}")
_WITHOUT_RUN = "{name}_{checkpoint}"
_SUFFIXES = (".gz", ".npy")


def find_sources(
    root: str | Path,
    games: Sequence[str],
    *,
    runs: Sequence[int] = (1, 2),
    checkpoints: Sequence[int] = range(1, 11),
    steps: int = 10_000,
    on_missing: str = "error",
    verify: bool = False,
) -> list[Source]:
    """Find local shards of the DQN Replay Dataset.

    Args:
        root: Folder with one folder for each game, whose name may be spelled in any way.
        games: Games, in any spelling.
        runs: Numbers of the agents of each game.
        checkpoints: Numbers of the shards of each run, 0 to 50 in the original.
        steps: Number of transitions from the start of each shard, at least 1.
        on_missing: Way to deal with an incomplete shard: `error`, `skip` it, or take a `previous` checkpoint.
        verify: Whether every file is read to its end, which checks the checksums of gzip.

    Raises:
        UnknownNameError, InputError, DatasetError: As in `find_shards`.
    """
    shards = find_shards(resolve_path(root), games, runs, checkpoints, on_missing)
    selection = {"runs": sorted(set(runs)), "checkpoints": sorted(set(checkpoints)), "on_missing": on_missing, "steps": steps}
    return [ShardSource.of(found, selection, ORIGIN, verify=verify) for found in shards.values()]


@dataclass(kw_only=True, eq=False)
class ShardSource(Source):
    """Shards of one game, in whatever files.

    Attributes:
        shards: Shards, by run and then checkpoint.
        steps: Number of transitions from the start of each shard.
        origin: Place where the shards are from, for the metadata.
        findings: What was noticed in reading the episodes.
    """

    shards: Sequence[Shard]
    steps: int
    origin: Mapping[str, str]
    findings: Findings = field(default_factory=Findings)

    @classmethod
    def of(
        cls, shards: Sequence[Shard], selection: Mapping[str, Any], origin: Mapping[str, str], *, verify: bool = False
    ) -> ShardSource:
        """Make a source of the shards of one game; `selection` holds the number of `steps` of each."""
        return cls(
            game=shards[0].game,
            kind="dqn-replay",
            content=f"{len(shards)} shards",
            transitions=selection["steps"] * len(shards),
            selection=selection,
            algorithm="DQN, at several stages of its training",
            author="DQN Replay Dataset: Agarwal, Schuurmans and Norouzi, 2020",
            preprocessing=PREPROCESSING,
            shards=shards,
            steps=selection["steps"],
            origin=origin,
            verify=verify,
        )

    def files(self) -> Sequence[Path]:
        """Return the files of all shards."""
        return list(dict.fromkeys(path for shard in self.shards for path in shard.files()))

    def check(self) -> None:
        """Check the headers of all files."""
        check_shards(self.shards)

    def episodes(self) -> Iterator[Episode]:
        """Read the episodes, one at a time, and count what is noticed."""
        self.findings = Findings()
        num_actions = len(find_game(self.game).minimal_actions)
        return read_episodes(self.shards, self.steps, num_actions, verify=self.verify, findings=self.findings)

    def metadata(self) -> dict[str, Any]:
        """Return where the shards are from and what was noticed; rewards stay as they are stored, and this says how."""
        return {
            "source": dict(self.origin),
            "shards": [{"run": shard.run, "checkpoint": shard.checkpoint} for shard in self.shards],
            "checksums_verified": self.verify,
            "reward_clipping": "unknown" if self.findings.unclipped_rewards else PREPROCESSING["reward_clipping"],
            **asdict(self.findings),
        }


@dataclass(frozen=True)
class ShardFiles(Shard):
    """A shard in files of its own.

    Attributes:
        game, run, checkpoint: Those of `Shard`.
        arrays: Path of each of `ARRAYS`.
        add_count: Path of the file that says how many transitions had been written; None where there is none.
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

    def files(self) -> Sequence[Path]:
        """Return the file of each of `ARRAYS`."""
        return list(self.arrays.values())

    def count(self) -> int | None:
        """Return the number of transitions that had been written when the shard was; None where no file says it."""
        return None if self.add_count is None else read_number(self.add_count)


def folders_of_games(root: Path, games: Sequence[str]) -> dict[str, list[Path]]:
    """Return the folders of each game under `root`, by slug; their names may be spelled in any way, also in several.

    A game without a folder gets the path where it would be.

    Raises:
        UnknownNameError: A game does not exist.
        DatasetError: `root` is no folder.
    """
    found = [find_game(game) for game in games]
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}")
    folders: dict[str, dict[Path, Path]] = {}
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        folders.setdefault(slug_of(path.name), {}).setdefault(path.resolve(), path)  # a link to the other one is the same
    usual = {game.slug: root / game.env_id.removeprefix("ALE/").removesuffix("-v5") for game in found}
    return {slug: list(folders.get(slug, {}).values()) or [path] for slug, path in usual.items()}


def the_only(found: Sequence[Path], what: str) -> Path | None:
    """Return the only one of `found`; None where there is none.

    Raises:
        DatasetError: There are several, so that nobody knows which of them is meant.
    """
    if len(found) > 1:
        raise DatasetError(f"there are several of {what}: {' and '.join(map(str, found))}; leave one of them there")
    return found[0] if found else None


def find_shards(
    root: Path, games: Sequence[str], runs: Sequence[int], checkpoints: Sequence[int], on_missing: str = "error"
) -> dict[str, list[ShardFiles]]:
    """Find the shards of every game, run and checkpoint, in any of the four layouts.

    Args:
        root: Folder with one folder for each game, whose name may be spelled in any way.
        games: Games, in any spelling that `find_game` knows.
        runs: Numbers of the agents of each game. Files without a run in their name are those of the one run that is asked for.
        checkpoints: Numbers of the shards of each run.
        on_missing: Way to deal with an incomplete shard: `error`, `skip` it, or take the `previous` checkpoint or the one
            before, if that is complete and not taken already.

    Returns:
        The shards of each game's slug, by run and then checkpoint.

    Raises:
        UnknownNameError: A game does not exist.
        InputError: A run or a checkpoint is below 0, there is none, or `on_missing` is another word.
        DatasetError: Files are missing, all of which are named, or nothing is left of a game.
    """
    if not runs or not checkpoints or min(*runs, *checkpoints) < 0 or on_missing not in ON_MISSING:
        raise InputError(
            f"import needs runs and checkpoints from 0 on and on_missing one of {', '.join(ON_MISSING)}, "
            f"not {list(runs)}, {list(checkpoints)} and {on_missing!r}"
        )
    folders = folders_of_games(root, games)
    shards: dict[str, list[ShardFiles]] = {slug: [] for slug in folders}
    missing: list[str] = []
    for slug, of_game in folders.items():
        finder = _Finder(slug, of_game, single_run=len(set(runs)) == 1)
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
    folders: Sequence[Path]
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
            found = [folder for folder in self.folders if not self._lacking(folder, layout, run, checkpoint)]
            folder = the_only(found, f"run {run}, checkpoint {checkpoint} of {self.game}")
            if folder is not None:
                files = {name: self._file(folder, layout, name, run, checkpoint) for name in (*ARRAYS, _COUNT)}
                count = files.pop(_COUNT)
                return ShardFiles(self.game, run, checkpoint, {name: path for name, path in files.items() if path}, count)
        return None

    def _missing(self, run: int, checkpoint: int) -> Path:
        """Name what is missing in the folder and the layout of which most is there, the original one if nothing is."""
        places = [(folder, layout) for folder in self.folders for layout in self._layouts()]
        folder, layout = min(places, key=lambda place: len(self._lacking(place[0], place[1], run, checkpoint)))
        names = self._lacking(folder, layout, run, checkpoint)
        name = names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
        return _path(folder, layout, name, run, checkpoint, ".gz")

    def _lacking(self, folder: Path, layout: str, run: int, checkpoint: int) -> list[str]:
        return [name for name in ARRAYS if not self._file(folder, layout, name, run, checkpoint)]

    def _layouts(self) -> Iterator[str]:
        yield from _WITH_RUN
        if self.single_run:
            yield _WITHOUT_RUN

    def _file(self, folder: Path, layout: str, name: str, run: int, checkpoint: int) -> Path | None:
        paths = (_path(folder, layout, name, run, checkpoint, suffix) for suffix in _SUFFIXES)
        return next((path for path in paths if path.is_file()), None)


def _path(folder: Path, layout: str, name: str, run: int, checkpoint: int, suffix: str) -> Path:
    store = "" if name == _COUNT else "$store$_"
    return folder / (layout.format(store=store, name=name, run=run, checkpoint=checkpoint) + suffix)
