"""Episodes from RL Unplugged's Atari records, `atari_episodes_ordered`: the DQN Replay Dataset once more, by episodes.

The episodes are in the order of time, with rewards that were not clipped and the observations on which they really ended.
Frames are PNG.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.sources import Source
from pretrainrl.data.sources.dqn_replay import ORIGIN, PREPROCESSING, folders_of_games, the_only
from pretrainrl.data.sources.shard import TIME_OUT
from pretrainrl.data.sources.tfrecord import Feature, check_start, parse_example, read_records
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game
from pretrainrl.paths import resolve_path

RL_UNPLUGGED_ORIGIN = {
    "dataset": "RL Unplugged, Atari, episodes in order",
    "url": "https://github.com/google-deepmind/deepmind-research/tree/master/rl_unplugged",
    "paper": "https://arxiv.org/abs/2006.13888",
    "rom_set": ORIGIN["rom_set"],
}
_PNG = b"\x89PNG\r\n\x1a\n"
_KINDS = {"observations": "bytes", "actions": "int64", "unclipped_rewards": "float32", "discounts": "float32"}


@dataclass(frozen=True)
class RecordFile:
    """The episodes that began within one million steps of an agent.

    Attributes:
        game: Slug of the game.
        run: Number of the agent, which tells the agents of a game apart; 1..5 in the original.
        checkpoint: Number of the agent's million steps; 0..49 in the original.
        path: Path of the file.
    """

    game: str
    run: int
    checkpoint: int
    path: Path


def find_sources(
    root: str | Path,
    games: Sequence[str],
    *,
    runs: Sequence[int] = (1, 2),
    checkpoints: Sequence[int] = range(1, 11),
    steps: int = 10_000,
    verify: bool = False,
) -> list[Source]:
    """Find local records of RL Unplugged.

    Args:
        root: Folder with one folder for each game, whose name may be spelled in any way.
        games: Games, in any spelling.
        runs: Numbers of the agents of each game.
        checkpoints: Numbers of the files of each run, from 0.
        steps: Number of transitions of each file, at least 1.
        verify: Whether every file is read to its end, which checks all checksums.

    Raises:
        UnknownNameError, InputError, DatasetError: As in `find_records`.
    """
    selection = {"runs": sorted(set(runs)), "checkpoints": sorted(set(checkpoints)), "steps": steps}
    return [
        RLUnpluggedSource(
            game=game,
            kind="rlu",
            content=f"{len(files)} shards",
            transitions=steps * len(files),
            selection=selection,
            algorithm="DQN, at several stages of its training",
            author="RL Unplugged: Gulcehre et al., 2020; DQN Replay Dataset: Agarwal, Schuurmans and Norouzi, 2020",
            preprocessing={**PREPROCESSING, "reward_clipping": "none"},
            records=files,
            steps=steps,
            verify=verify,
        )
        for game, files in find_records(resolve_path(root), games, runs, checkpoints).items()
    ]


@dataclass(kw_only=True, eq=False)
class RLUnpluggedSource(Source):
    """Files of records of one game.

    Attributes:
        records: Files, by run and then checkpoint.
        steps: Number of transitions of each file.
    """

    records: Sequence[RecordFile]
    steps: int

    def files(self) -> Sequence[Path]:
        """Return the files of records."""
        return [file.path for file in self.records]

    def check(self) -> None:
        """Check the starts of all files."""
        check_records(self.records)

    def episodes(self) -> Iterator[Episode]:
        """Read the episodes, one at a time."""
        num_actions = len(find_game(self.game).minimal_actions)
        return read_record_episodes(self.records, self.steps, num_actions, verify=self.verify)

    def metadata(self) -> dict[str, Any]:
        """Return where the files are from."""
        return {
            "source": RL_UNPLUGGED_ORIGIN,
            "shards": [{"run": file.run, "checkpoint": file.checkpoint} for file in self.records],
            "checksums_verified": self.verify,
            "reward_clipping": self.preprocessing["reward_clipping"],
        }


def find_records(
    root: Path, games: Sequence[str], runs: Sequence[int], checkpoints: Sequence[int]
) -> dict[str, list[RecordFile]]:
    """Find the files `<Game>/run_<run>-<checkpoint>-of-<files>` of every game, run and checkpoint.

    Args:
        root: Folder with one folder for each game, whose name may be spelled in any way.
        games: Games, in any spelling that `find_game` knows.
        runs: Numbers of the agents of each game.
        checkpoints: Numbers of the files of each run, as in their names, from 0.

    Returns:
        The files of each game's slug, by run and then checkpoint.

    Raises:
        UnknownNameError: A game does not exist.
        InputError: There is no run or no checkpoint.
        DatasetError: Files are missing, all of which are named.
    """
    if not runs or not checkpoints:
        raise InputError(f"import needs runs and checkpoints, not {list(runs)} and {list(checkpoints)}")
    files: dict[str, list[RecordFile]] = {}
    missing: list[str] = []
    for slug, folders in folders_of_games(root, games).items():
        files[slug] = []
        for run in sorted(set(runs)):
            for checkpoint in sorted(set(checkpoints)):
                name = f"run_{run}-{checkpoint:05d}-of-"
                found = [path for folder in folders for path in folder.glob(f"{name}[0-9][0-9][0-9][0-9][0-9]")]
                if path := the_only(found, f"run {run}, checkpoint {checkpoint} of {slug}"):
                    files[slug].append(RecordFile(slug, run, checkpoint, path))
                else:
                    missing.append(str((folders[0] / f"{name}00050").relative_to(root)))
    if missing:
        raise DatasetError(f"missing under {root}: {', '.join(missing)}")
    return files


def check_records(files: Sequence[RecordFile]) -> None:
    """Check the starts of all of `files`.

    Raises:
        DatasetError: One is no file of records.
        MissingExtraError: google-crc32c is not installed.
    """
    for file in files:
        check_start(file.path)


def read_record_episodes(
    files: Sequence[RecordFile],
    steps: int,
    num_actions: int,
    *,
    verify: bool = False,
) -> Iterator[Episode]:
    """Read the first `steps` transitions of every file, one episode at a time and no further than needed.

    Memory is bounded by one record and one episode. A file with fewer transitions gives what it has.

    Args:
        files: Files of one game.
        steps: Number of transitions of each file, at least 1.
        num_actions: Size of the game's minimal action set.
        verify: Whether every file is read to its end, which checks all checksums.

    Returns:
        An iterator of episodes. Their metadata: `run`, `checkpoint`, `episode` (its number in the source),
        `starts_at_reset` (true), `ends_by` (`game_over`, `time_out` or `cut`), `final_observation` (`true`) and
        `return`.

    Raises:
        InputError: `steps` is not positive.
        DatasetError: A file is damaged or holds what it should not.
    """
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    return _read(files, steps, num_actions, verify)


def _read(files: Sequence[RecordFile], steps: int, num_actions: int, verify: bool) -> Iterator[Episode]:
    for file in files:
        left = steps
        for number, record in enumerate(read_records(file.path)):
            if left > 0:
                try:
                    episode = _episode(parse_example(record), file, left, num_actions)
                except ValueError as error:
                    raise DatasetError(f"{file.path} holds no episode in record {number}: {error}") from error
                if episode is not None:
                    yield episode
                    left -= len(episode)
            if left <= 0 and not verify:
                break


def _episode(features: Mapping[str, Feature], file: RecordFile, limit: int, num_actions: int) -> Episode | None:
    """Make an episode of at most `limit` transitions; None if there is not one transition.

    The last step has an observation only. Where the game was over, the records are made so; where it was not, nobody knows
    what the last action led to.

    Raises:
        ValueError: The features are not those of an episode.
    """
    steps = _lists(features)
    images, discounts = steps["observations"], steps["discounts"]
    whole = len(images) - 1
    length = min(whole, limit)
    if length < 1:
        return None
    actions = steps["actions"][:length]
    if len(wrong := np.flatnonzero((actions < 0) | (actions >= num_actions))):
        raise ValueError(f"action {actions[wrong[0]]} at step {wrong[0]:,}; it must be in 0..{num_actions - 1}")
    rewards = steps["unclipped_rewards"][:length]
    if not np.isfinite(rewards).all():
        raise ValueError("rewards that are no finite numbers")
    ends_by = "cut" if length < whole else "time_out" if whole >= TIME_OUT else "cut" if discounts[-1] else "game_over"
    last = np.arange(length) == length - 1
    return Episode(
        frames=np.stack([_decode(image, step) for step, image in enumerate(images[: length + 1])]),
        actions=actions,
        rewards=rewards,
        terminations=last & (ends_by == "game_over"),
        truncations=last & (ends_by != "game_over"),
        game=file.game,
        metadata={
            "run": file.run,
            "checkpoint": file.checkpoint,
            **_number(features),
            "starts_at_reset": True,
            "ends_by": ends_by,
            "final_observation": "true",
            "return": float(rewards.sum()),
        },
    )


def _lists(features: Mapping[str, Feature]) -> dict[str, Any]:
    """Return the lists of an episode, which must be there, of their types and of one length."""
    if lacking := [name for name in _KINDS if name not in features]:
        raise ValueError(f"no {', '.join(lacking)}; it holds {', '.join(sorted(features)) or 'nothing'}")
    for name in _KINDS:
        values = features[name]
        kind = str(values.dtype) if isinstance(values, np.ndarray) else "bytes"
        if kind != _KINDS[name]:
            raise ValueError(f"{name} are {kind} instead of {_KINDS[name]}")
    lengths = {name: len(features[name]) for name in _KINDS}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lists of different lengths: {', '.join(f'{name} {length:,}' for name, length in lengths.items())}")
    return {name: features[name] for name in _KINDS}


def _number(features: Mapping[str, Feature]) -> dict[str, int]:
    """Return the episode's number in the source, if it is there."""
    numbers = features.get("episode_idx")
    return {"episode": int(numbers[0])} if isinstance(numbers, np.ndarray) and len(numbers) == 1 else {}


def _decode(image: memoryview, step: int) -> npt.NDArray[np.uint8]:
    if image[:8] != _PNG or len(image) < 24:
        raise ValueError(f"no image at step {step:,}; it begins with {bytes(image[:8])!r}")
    width, height = struct.unpack(">II", image[16:24])
    if (height, width) != FRAME_SHAPE:  # before there is memory made for so many
        raise ValueError(f"an image of shape {(height, width)} at step {step:,} instead of {FRAME_SHAPE} uint8")
    try:
        frame = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        frame = None
    if frame is None:
        raise ValueError(f"a damaged image at step {step:,}")
    if frame.shape != FRAME_SHAPE or frame.dtype != np.uint8:
        raise ValueError(f"an image of shape {frame.shape} and {frame.dtype} at step {step:,} instead of {FRAME_SHAPE} uint8")
    return frame.astype(np.uint8, copy=False)
