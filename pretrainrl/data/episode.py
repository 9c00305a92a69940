"""One episode of one game: the unit that is collected, published and cached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pretrainrl.errors import InputError

FRAME_SHAPE = (84, 84)


@dataclass(frozen=True, eq=False)
class Episode:
    """An episode of T transitions, with every observation stored once.

    Transition t goes from `frames[t]` by `actions[t]` to `frames[t + 1]`; the last frame is the observation the
    episode ended on.

    Attributes:
        frames: `(T + 1, 84, 84)` uint8 in 0..255, single grey frames (no stack), T >= 1.
        actions: `(T,)` int64, indices into the game's minimal action set.
        rewards: `(T,)` float32, the raw score.
        terminations: `(T,)` bool, true where the game was over.
        truncations: `(T,)` bool, true where the episode was cut while the game went on.
        game: slug of the game, e.g. `mspacman`.
        infos: further arrays with a leading axis of T or T + 1, e.g. `ram` `(T + 1, 128)` uint8.
        metadata: facts on the episode as a whole: strings and numbers. With `final_observation` as `repeated` the last
            frame only repeats the one before, where the source lacks it.

    Raises:
        InputError: when an array has another shape or dtype.
    """

    frames: npt.NDArray[np.uint8]
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]
    terminations: npt.NDArray[np.bool_]
    truncations: npt.NDArray[np.bool_]
    game: str
    infos: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = len(self.actions)
        if steps < 1:
            raise InputError("an episode needs at least one transition")
        expected = {
            "frames": ((steps + 1, *FRAME_SHAPE), np.uint8),
            "actions": ((steps,), np.int64),
            "rewards": ((steps,), np.float32),
            "terminations": ((steps,), np.bool_),
            "truncations": ((steps,), np.bool_),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise InputError(
                    f"episode of {self.game!r}: {name} must be {shape} {np.dtype(dtype)}, not {array.shape} {array.dtype}"
                )

    def __len__(self) -> int:
        """Transitions, T."""
        return len(self.actions)

    @property
    def last_observed(self) -> int:
        """Time of the last frame that was really seen: T, or T - 1 where the final one is a repetition."""
        return len(self) - (self.metadata.get("final_observation") == "repeated")
