"""One episode of one game: the unit that is collected, written and cached."""

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

    Transition t goes from `frames[t]` by `actions[t]` to `frames[t + 1]`; the last frame is the observation on which the
    episode ended.

    Attributes:
        frames: Single grey frames (no stack), `(T + 1, 84, 84)` uint8 in 0..255, T >= 1.
        actions: Indices into the game's minimal action set, `(T,)` int64.
        rewards: Raw score, `(T,)` float32.
        terminations: Whether the game was over, `(T,)` bool.
        truncations: Whether the episode was cut while the game went on, `(T,)` bool.
        game: Slug of the game, e.g. `mspacman`.
        infos: Further arrays with a leading axis of T or T + 1, e.g. `ram` `(T + 1, 128)` uint8.
        metadata: Facts on the episode as a whole, strings and numbers. Where `final_observation` is `repeated`, the source
            lacks the last observation, and the last frame repeats the one before.

    Raises:
        InputError: An array has another shape or dtype, or there is no transition.
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
        """Number of transitions, T."""
        return len(self.actions)

    @property
    def last_observed(self) -> int:
        """Time of the last frame that was really seen: T, or T - 1 where the last frame is a repetition."""
        return len(self) - (self.metadata.get("final_observation") == "repeated")


class EpisodeRecorder:
    """The episode under way in one environment.

    Args:
        game: Slug of the game.
        env: Number of the environment.
        seed: Seed with which the environment was first reset.

    Attributes:
        kept: Whether the episode under way is recorded; otherwise nothing of it is held in memory.
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
        """Begin an episode.

        Args:
            frame: First frame, 7056 uint8 values in any shape.
            ram: Memory of the console, `(128,)` uint8, where it is recorded.
            noops: Number of no-ops before the first frame, for the metadata.
            kept: Whether the episode is recorded.
            **facts: Further facts for the metadata.
        """
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
        """Add a transition without the frame that it led to, which `observe` adds; `delay` is that of `Emulator.step`."""
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
