"""Recordings in others' formats, read as episodes.

Each format is one module with a function `find_sources`, which says what is there, and a subclass of `Source`, which reads it.
A new format adds such a module and a line in `FORMATS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pretrainrl.data.episode import Episode
from pretrainrl.errors import UnknownNameError

FORMATS = {
    "atari-pb": "pretrainrl.data.sources.atari_pb",
    "dqn-replay": "pretrainrl.data.sources.dqn_replay",
    "minari": "pretrainrl.data.sources.rgb",
    "rl-unplugged": "pretrainrl.data.sources.rl_unplugged",
}


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
