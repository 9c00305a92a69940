"""Recordings in others' formats, read as episodes.

Each format is one module with a function `find_sources`, which says what is there, and a subclass of `Source`, which reads it.
A new format adds such a module and a line in `FORMATS`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pretrainrl.data.episode import Episode
from pretrainrl.data.sources.array_file import as_dataset_errors, open_file
from pretrainrl.errors import UnknownNameError

FORMATS = {
    "atari-pb": "pretrainrl.data.sources.atari_pb",
    "dqn-replay": "pretrainrl.data.sources.dqn_replay",
    "minari": "pretrainrl.data.sources.rgb",
    "rl-unplugged": "pretrainrl.data.sources.rl_unplugged",
}
_SAMPLE = 1 << 16  # bytes of a file that are looked at in three places


@dataclass(kw_only=True, eq=False)
class Source(ABC):
    """Recordings of one game, from which one dataset is made.

    Attributes:
        game: Slug of the game.
        kind: Kind of the dataset unless another one is asked for, e.g. `dqn-replay`.
        content: Description for people, e.g. `4 shards`.
        transitions: Greatest number of transitions that the recordings give.
        selection: Arguments by which the recordings were chosen, JSON values; the dataset keeps them.
        algorithm: Player, for people.
        author: Author of the recordings.
        preprocessing: Way of the frames from the screen to 84x84, and what was done to the rewards.
        sticky_actions: Probability with which the game repeated an action, in [0, 1].
        verify: Whether every file is read to its end, which checks what checksums there are.
    """

    game: str
    kind: str
    content: str
    transitions: int
    selection: Mapping[str, Any]
    algorithm: str
    author: str
    preprocessing: Mapping[str, Any]
    sticky_actions: float = 0.25
    verify: bool = False

    def files(self) -> Sequence[Path]:
        """Return the files that are read, by which `digest` tells the source from others; by default there are none."""
        return ()

    def digest(self) -> str:
        """Return 16 hexadecimal digits that stand for the content of the files, wherever they lie, without reading all of it.

        Their sizes, beginnings and ends tell files apart: gzip's checksum of everything is at the end.
        """
        digest = hashlib.sha256()
        for path in self.files():
            with as_dataset_errors(path), open_file(path) as file:
                size = path.stat().st_size
                digest.update(size.to_bytes(8, "little"))
                for start in (0, size // 2, max(0, size - _SAMPLE)):
                    file.seek(start)
                    digest.update(file.read(_SAMPLE))
        return digest.hexdigest()[:16]

    @abstractmethod
    def check(self) -> None:
        """Look for damage, as far as it can be seen without reading everything.

        Raises:
            DatasetError: A file is damaged or of another kind.
        """

    @abstractmethod
    def episodes(self) -> Iterator[Episode]:
        """Read the episodes, one at a time.

        Raises:
            DatasetError: A file is damaged, or holds what it should not.
        """

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Return further facts for the dataset's metadata, JSON values; they are complete once the episodes have been read."""


def find_sources(format: str, *place: Any, **selection: Any) -> list[Source]:
    """Find recordings in the format `format`.

    Args:
        format: `dqn-replay`, `atari-pb`, `rl-unplugged` or `minari`.
        *place: Positional arguments of the format's own `find_sources`: a folder and the games, or the ids of Minari datasets.
        **selection: Keyword arguments of the format's own `find_sources`, e.g. `runs`, `checkpoints` and `steps`.

    Returns:
        One source for each game or id, in the order in which they were asked for.

    Raises:
        UnknownNameError: There is no such format, or no such game.
        InputError: An argument is out of range.
        DatasetError: Recordings are missing or damaged; all that are missing are named.
    """
    if format not in FORMATS:
        raise UnknownNameError.of("format", format, FORMATS)
    found: list[Source] = import_module(FORMATS[format]).find_sources(*place, **selection)
    return found
