"""What the actions of a recording mean, and the numbers that they have in the game's minimal action set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pretrainrl.errors import DatasetError
from pretrainrl.games import ALL_ACTIONS, all_minimal_actions


@dataclass(frozen=True)
class ActionSet:
    """The actions by which a recording of one game counts.

    Attributes:
        game: Slug of the game.
        meanings: ALE's name of each action, in the order of their numbers.
    """

    game: str
    meanings: tuple[str, ...]

    @classmethod
    def of(cls, game: str, count: int, meanings: Sequence[str] | None = None) -> ActionSet:
        """Find out what the `count` actions of a recording mean.

        Args:
            game: Slug of the game.
            count: Number of the recording's actions.
            meanings: Names of the actions, where the recording says them. Without names, as many actions as the minimal set
                has are that set, and 18 are ALE's full set.

        Raises:
            DatasetError: Nobody knows what the actions mean.
        """
        minimal = _minimal(game)
        if meanings is None:
            if count not in (len(minimal), len(ALL_ACTIONS)):
                raise DatasetError(
                    f"nobody knows what its {count} actions mean; {game} is played with {len(minimal)}, "
                    f"{', '.join(minimal)}, or with all {len(ALL_ACTIONS)}"
                )
            meanings = minimal if count == len(minimal) else ALL_ACTIONS
        if not len(meanings) == len(set(meanings)) == count or not set(meanings) <= set(ALL_ACTIONS):
            raise DatasetError(
                f"nobody knows what its {count} actions mean: it calls them {', '.join(map(str, meanings))}; ALE's are "
                f"{', '.join(ALL_ACTIONS)}"
            )
        return cls(game, tuple(meanings))

    @property
    def is_minimal(self) -> bool:
        """Whether the actions are those of the minimal set, in its order."""
        return self.meanings == _minimal(self.game)

    def to_minimal(self, actions: Any) -> npt.NDArray[np.int64]:
        """Return the numbers (T,) int64 that the actions (T,) have in the game's minimal action set.

        Raises:
            DatasetError: An action is not of this set, or not of the minimal one.
        """
        found, minimal = np.asarray(actions), _minimal(self.game)
        if found.dtype.kind not in "iu":
            raise DatasetError(f"its actions are {found.dtype} instead of integers")
        if (wrong := found[(found < 0) | (found >= len(self.meanings))]).size:
            raise DatasetError(f"it has the action {wrong.flat[0]}; its actions are 0..{len(self.meanings) - 1}")
        known = np.array([minimal.index(name) if name in minimal else -1 for name in self.meanings], np.int64)
        numbers: npt.NDArray[np.int64] = known[found]
        if (lacking := found[numbers < 0]).size:
            raise DatasetError(
                f"it has the action {self.meanings[int(lacking.flat[0])]}, and {self.game} is played with "
                f"{', '.join(minimal)} here; record it again with the minimal action set"
            )
        return numbers


def _minimal(game: str) -> tuple[str, ...]:
    return tuple(ALL_ACTIONS[action] for action in all_minimal_actions()[game])
