"""What a shard of the DQN Replay Dataset is, whatever files it lies in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pretrainrl.data.episode import FRAME_SHAPE

# Shape of a row, and the NumPy types of which one is wanted.
KINDS: dict[str, tuple[tuple[int, ...], tuple[type[np.generic], ...]]] = {
    "observation": (FRAME_SHAPE, (np.uint8,)),
    "action": ((), (np.integer,)),
    "reward": ((), (np.floating, np.integer)),
    "terminal": ((), (np.bool_, np.integer)),
}
ARRAYS = tuple(KINDS)


class Rows(Protocol):
    """An array whose rows are read one after the other.

    Attributes:
        path: the file.
        rows: how many there are.
        dtype: of the array.
    """

    path: Path
    rows: int
    dtype: np.dtype[Any]

    def read(self, rows: int, /) -> npt.NDArray[Any]:
        """Read the next `rows` rows, `(rows, ...)`."""

    def read_into(self, out: npt.NDArray[Any], /) -> None:
        """Fill `out`, contiguous and of the array's dtype, with the next `len(out)` rows."""

    def verify(self) -> None:
        """Read on to the end and look for damage."""

    def close(self) -> None:
        """Close the file."""


@dataclass(frozen=True)
class Shard(ABC):
    """One million transitions of one agent, or the first of them, as four arrays of as many rows.

    Attributes:
        game: slug.
        run: tells the agents of a game apart; 1..5 in the original.
        checkpoint: which of an agent's millions; 0..50 in the original.
    """

    game: str
    run: int
    checkpoint: int

    @abstractmethod
    def open(self) -> Mapping[str, Rows]:
        """Open each of `ARRAYS`.

        Raises:
            DatasetError: when one is damaged or of another kind.
        """

    def count(self) -> int | None:
        """Return how many transitions had been written when the shard was; None if that is not known."""
        return None
