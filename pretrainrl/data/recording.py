r"""Recordings: all that has to be known of play to play it again, frame by frame, and nothing else.

The frames of a game are a function of its no-ops, its actions and their delays (see `Emulator`), so these are kept, in about
half a byte a transition. A recording is one file:

| bytes | content |
|---|---|
| 0 to 7 | `b"\x89PRLREC\n"` |
| 8 | version of the format, 1 |
| from 9 on | an xz stream with a CRC-64 |

The stream holds, one after the other, the length of the header as an unsigned 32-bit little-endian number, the header as
JSON in UTF-8, and one byte for each transition of all episodes: eight times the action's index plus its delay. The header
says `dataset_id`, `game`, `rom_md5`, `ale_py_version`, `content_sha256` (see `packing.py`), `algorithm`, `sticky_actions`,
`metadata` (of the dataset), and `episodes`: a list for each key of the episodes' metadata, with `transitions`, `noops`,
`ends_by` and `return` among them.
"""

from __future__ import annotations

import io
import itertools
import json
import lzma
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pretrainrl.data.emulator import FRAME_SKIP, MAX_EPISODE_STEPS, NOOP_MAX, Emulator
from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.errors import DatasetError
from pretrainrl.games import Game, find_game
from pretrainrl.paths import atomic_path

MAGIC, VERSION = b"\x89PRLREC\n", 1
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": lzma.PRESET_EXTREME | 6, "dict_size": 1 << 21, "lc": 4, "lp": 0, "pb": 0}]
_MOST_BYTES = 1 << 28  # of what a file unpacks to: a thousand hours of play, and no trap for the memory
_MOST_HEADER = 16 << 20  # bytes, a hundred of an episode
_ENDS = ("game_over", "time_out", "cut")


@dataclass(frozen=True, eq=False)
class RecordedEpisode:
    """How one episode was played.

    Attributes:
        actions: Indices into the game's minimal action set, (T,) uint8.
        delays: Raw frames for which the action before went on, (T,) uint8 in 0..4.
        metadata: Facts on the episode, `noops`, `ends_by` and `return` among them.
    """

    actions: npt.NDArray[np.uint8]
    delays: npt.NDArray[np.uint8]
    metadata: dict[str, Any]

    def __len__(self) -> int:
        """Transitions, T."""
        return len(self.actions)


@dataclass(frozen=True, eq=False)
class Recording:
    """How the episodes of one dataset were played.

    Attributes:
        dataset_id: Minari id of the dataset.
        game: Slug of the game.
        rom_md5: MD5 of the ROM image that was played.
        ale_py_version: Version of ale-py that played it.
        content_sha256: Fingerprint of the dataset's episodes, as `packing.content_sha256` computes it.
        algorithm: Player, for people.
        sticky_actions: Probability of sticky actions while it was recorded.
        metadata: Further facts on the dataset, JSON values.
        episodes: The episodes in the dataset's order.
    """

    dataset_id: str
    game: str
    rom_md5: str
    ale_py_version: str
    content_sha256: str
    algorithm: str
    sticky_actions: float
    metadata: dict[str, Any]
    episodes: Sequence[RecordedEpisode]

    @property
    def transitions(self) -> int:
        """Number of transitions of all episodes together."""
        return sum(map(len, self.episodes))

    @property
    def returns(self) -> list[float]:
        """Return of each episode."""
        return [float(episode.metadata["return"]) for episode in self.episodes]

    def write(self, path: Path) -> None:
        """Write the recording to `path`, whole or not at all.

        Raises:
            InputError: The file cannot be written.
        """
        keys = list(dict.fromkeys(key for episode in self.episodes for key in episode.metadata))
        columns = {key: [episode.metadata.get(key) for episode in self.episodes] for key in keys}
        header = {
            **{key: value for key, value in self.__dict__.items() if key != "episodes"},
            "episodes": {"transitions": [len(episode) for episode in self.episodes], **columns},
        }
        text = json.dumps(header, sort_keys=True).encode()
        steps = b"".join((episode.actions * 8 + episode.delays).tobytes() for episode in self.episodes)
        packed = lzma.compress(
            len(text).to_bytes(4, "little") + text + steps, lzma.FORMAT_XZ, lzma.CHECK_CRC64, filters=_FILTERS
        )
        with atomic_path(path) as temporary:
            temporary.write_bytes(MAGIC + bytes([VERSION]) + packed)

    @staticmethod
    def read(path: Path) -> Recording:
        """Read the recording in the file `path`.

        Raises:
            DatasetError: The file is missing, is no recording, is truncated or damaged, or is of a newer version.
        """
        try:
            with path.open("rb") if path.is_file() or not path.exists() else nullcontext(io.BytesIO()) as file:
                content = file.read(_MOST_BYTES)  # more is damage, and noticed
        except OSError as error:
            raise DatasetError(f"recording {path} cannot be read: {error.strerror or error}") from error
        return Recording.parse(content, str(path))

    @staticmethod
    def parse(content: bytes, path: str) -> Recording:
        """Return the recording in the bytes of the file `path`.

        Raises:
            DatasetError: The bytes are no recording, are truncated or damaged, or are of a newer version.
        """
        if content[: len(MAGIC)] != MAGIC:
            raise DatasetError(f"{path} is no recording; its first bytes are {content[:8]!r} instead of {MAGIC!r}")
        if content[len(MAGIC) : len(MAGIC) + 1] != bytes([VERSION]):
            raise DatasetError(
                f"{path} is a recording of version {content[len(MAGIC) :][:1].hex() or 'none'}; this pretrainrl reads version "
                f"{VERSION}; get a newer one"
            )
        try:
            return _parse(_unpack(content[len(MAGIC) + 1 :]))
        except Exception as error:  # of three parsers, for whatever the file holds
            raise DatasetError(f"recording {path} is truncated or damaged ({error}); get it again") from error

    def check_game(self) -> Game:
        """Return the game, when its ROM is the one that was recorded.

        Raises:
            UnknownNameError: The game is unknown.
            DatasetError: Its ROM is another one.
        """
        game = find_game(self.game)
        if game.rom_md5 != self.rom_md5:
            raise DatasetError(
                f"{self.game} was recorded with a ROM of MD5 {self.rom_md5}, and ale-py {_ale_py_version()} has one of "
                f"{game.rom_md5}; install ale-py {self.ale_py_version}"
            )
        return game

    def check_steps(self, num_actions: int) -> None:
        """Check the actions and their delays.

        Args:
            num_actions: Size of the game's minimal action set.

        Raises:
            DatasetError: An action or a delay is none of the game's.
        """
        for episode in self.episodes:
            if (action := episode.actions.max()) >= num_actions:
                raise DatasetError(f"the recording has action {action}, and {self.game} has the actions 0..{num_actions - 1}")
            if (delay := episode.delays.max()) > FRAME_SKIP:
                raise DatasetError(f"the recording has a delay of {delay} raw frames; a step has {FRAME_SKIP}")


def replay(emulator: Emulator, game: str, recorded: RecordedEpisode, *, ram: bool = False) -> Episode:
    """Play a recorded episode again.

    Args:
        emulator: Emulator of the game.
        game: Slug of the game.
        recorded: Episode to play.
        ram: Whether the console's memory is kept, as `infos["ram"]` (T + 1, 128) uint8.

    Returns:
        The episode, as it was when it was recorded.

    Raises:
        DatasetError: The game is over earlier or later than it was.
    """
    steps = len(recorded)
    frames = np.empty((steps + 1, *FRAME_SHAPE), np.uint8)
    memory = np.empty((steps + 1, 128), np.uint8) if ram else None
    rewards, over = np.empty(steps, np.float32), False
    frames[0] = emulator.restart(int(recorded.metadata["noops"]))
    if memory is not None:
        memory[0] = emulator.ram
    for t, (action, delay) in enumerate(zip(recorded.actions.tolist(), recorded.delays.tolist(), strict=True)):
        if over:
            raise DatasetError(f"the game was over after {t} steps, and was played for {steps} when it was recorded")
        frames[t + 1], rewards[t], over = emulator.step(action, delay)
        if memory is not None:
            memory[t + 1] = emulator.ram
    if over != (recorded.metadata["ends_by"] == "game_over"):
        raise DatasetError(
            f"an episode ended by {recorded.metadata['ends_by']} when it was recorded; now the game is "
            f"{'over' if over else 'not over'} after its {steps} steps"
        )
    ends = np.zeros((2, steps), np.bool_)
    ends[0, -1], ends[1, -1] = over, not over
    infos: dict[str, npt.NDArray[Any]] = {"delays": recorded.delays}
    if memory is not None:
        infos["ram"] = memory
    return Episode(frames, recorded.actions.astype(np.int64), rewards, ends[0], ends[1], game, infos, dict(recorded.metadata))


def _ale_py_version() -> str:
    from importlib.metadata import version

    return version("ale-py")


def _unpack(stream: bytes) -> bytes:
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_BYTES)
    content = decompressor.decompress(stream, _MOST_BYTES)
    if not decompressor.eof:
        raise EOFError("it ends too early" if decompressor.needs_input else f"it unpacks to more than {_MOST_BYTES} bytes")
    if decompressor.unused_data:
        raise ValueError(f"{len(decompressor.unused_data)} bytes follow its end")
    return content


def _parse(content: bytes) -> Recording:
    size = int.from_bytes(content[:4], "little")
    if size > _MOST_HEADER:
        raise ValueError(f"a header of {size} bytes")
    header = json.loads(content[4 : 4 + size])
    for name in ("dataset_id", "game", "rom_md5", "ale_py_version", "content_sha256", "algorithm"):
        if not isinstance(header[name], str):
            raise ValueError(f"{name} is {header[name]!r}")
    if not 0 <= float(header["sticky_actions"]) <= 1 or not isinstance(header["metadata"], dict):
        raise ValueError(f"sticky_actions is {header['sticky_actions']!r} and metadata {header['metadata']!r}")
    if not isinstance(header["metadata"].get("collection", {}), dict):
        raise ValueError("its collection is no table")
    columns = header.pop("episodes")
    steps = np.frombuffer(content, np.uint8, offset=4 + size)
    lengths = columns.pop("transitions")
    _check(columns, lengths, len(steps))
    bounds = np.cumsum([0, *lengths])
    episodes = [
        RecordedEpisode(steps[start:end] // 8, steps[start:end] % 8, {key: column[index] for key, column in columns.items()})
        for index, (start, end) in enumerate(itertools.pairwise(bounds))
    ]
    return Recording(**header, episodes=episodes)


def _check(columns: dict[str, list[Any]], lengths: list[int], steps: int) -> None:
    """Check what `replay` relies on; `Recording.check_steps` checks the actions."""
    if not lengths or any(type(each) is not int or not 1 <= each <= MAX_EPISODE_STEPS for each in lengths):
        raise ValueError(f"episodes of {lengths[:3]} transitions")
    if sum(lengths) != steps:
        raise ValueError(f"{steps} transitions instead of {sum(lengths)}")
    if any(len(column) != len(lengths) for column in columns.values()):
        raise ValueError("facts on another number of episodes")
    if any(type(fact) not in (str, int, float, bool) for column in columns.values() for fact in column):
        raise ValueError("facts that are neither texts nor numbers")
    for noops, end, points in zip(columns["noops"], columns["ends_by"], columns["return"], strict=True):
        if type(noops) is not int or not 0 <= noops <= NOOP_MAX or end not in _ENDS or not _is_finite(points):
            raise ValueError(f"an episode of {noops!r} no-ops and return {points!r} that ends by {end!r}")


def _is_finite(value: Any) -> bool:
    return type(value) is float and math.isfinite(value)
