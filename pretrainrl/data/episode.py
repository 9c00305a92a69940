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


class EpisodeRecorder:
    """The episode under way in one environment.

    Args:
        game: slug.
        env: number of the environment.
        seed: with which it was first reset.

    Attributes:
        kept: whether the episode under way is recorded; of one that is not, nothing is held in memory.
    """

    def __init__(self, game: str, env: int, seed: int) -> None:
        self.game, self.env, self.seed = game, env, seed
        self._begun = 0

    @property
    def ended(self) -> bool:
        """Whether the game is over or its time is up."""
        return self._terminated or self._truncated

    @property
    def running(self) -> bool:
        """Whether the episode has transitions and may have more."""
        return self.steps > 0 and not self.ended

    def start(
        self,
        frame: npt.NDArray[np.uint8],
        ram: npt.NDArray[np.uint8] | None = None,
        *,
        noops: int,
        kept: bool = True,
        **facts: Any,
    ) -> None:
        """Begin an episode with its first frame, 7056 uint8 values in any shape; `noops` and `facts` go into its metadata."""
        self.kept, self.facts = kept, {"episode": self._begun, "noops": noops, **facts}
        self._begun += 1
        self.steps = 0
        self._frames: list[npt.NDArray[np.uint8]] = []
        self._ram: list[npt.NDArray[np.uint8]] = []
        self._actions: list[int] = []
        self._delays: list[int] = []
        self._rewards: list[float] = []
        self._terminated = self._truncated = False
        self.observe(frame, ram)

    def add(self, action: int, delay: int, reward: float, terminated: bool, truncated: bool) -> None:
        """Add a transition, but for the frame it led to, which `observe` adds; `delay` is that of `Emulator.step`."""
        self.steps += 1
        self._terminated, self._truncated = bool(terminated), bool(truncated)
        if self.kept:
            self._actions.append(action)
            self._delays.append(delay)
            self._rewards.append(reward)

    def observe(self, frame: npt.NDArray[np.uint8], ram: npt.NDArray[np.uint8] | None = None) -> None:
        """Add a frame, and the console's memory where it is recorded."""
        if not self.kept:
            return
        # Copies: a view would keep the whole batch of frames alive.
        self._frames.append(frame.reshape(FRAME_SHAPE).copy())
        if ram is not None:
            self._ram.append(ram.copy())

    def episode(self, *, cut: bool = False) -> Episode:
        """Return the episode, which has ended or is `cut` here: then its last transition is a truncation."""
        terminations, truncations = np.zeros(self.steps, np.bool_), np.zeros(self.steps, np.bool_)
        terminations[-1], truncations[-1] = self._terminated, not self._terminated
        rewards = np.asarray(self._rewards, np.float32)
        metadata = {
            "seed": self.seed,
            "env": self.env,
            **self.facts,
            "return": float(rewards.sum()),
            "ends_by": "cut" if cut else "game_over" if self._terminated else "time_out",
            "final_observation": "true",
        }
        infos = {"delays": np.asarray(self._delays, np.uint8)}
        if self._ram:
            infos["ram"] = np.stack(self._ram)
        actions = np.asarray(self._actions, np.int64)
        return Episode(np.stack(self._frames), actions, rewards, terminations, truncations, self.game, infos, metadata)
