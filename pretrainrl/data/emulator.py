"""Atari games that are played exactly as told, so that what was played can be played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.games import Game

Frame = npt.NDArray[np.uint8]

FRAME_SKIP = 4
NOOP_MAX = 30
MAX_EPISODE_STEPS = 27_000


class Emulator:
    """One game without randomness: what happens is a function of the no-ops, the actions and their delays.

    Frames are 84x84 gray ones, the maximum of the last two raw frames of a step, area-resized: the preprocessing of ALE's
    vector environment. Every game begins from the very same state, whatever was played before.

    Args:
        game: Game to play.

    Attributes:
        num_actions: Size of the game's minimal action set, in which actions are counted.
    """

    def __init__(self, game: Game) -> None:
        import ale_py

        self._ale = ale = ale_py.ALEInterface()
        ale.setFloat("repeat_action_probability", 0.0)
        ale.setInt("random_seed", 0)
        ale.loadROM(game.rom_path)
        self._codes = [int(action.value) for action in ale.getMinimalActionSet()]
        self.num_actions = len(self._codes)
        self._screens = np.zeros((2, *ale.getScreenDims()), np.uint8)
        ale.reset_game()
        self._start = ale.cloneState()
        self._first_frame: Frame = self._frame_of(ale.getScreenGrayscale())
        self._frame = self._first_frame

    @property
    def lives(self) -> int:
        """Lives that are left; 0 in games without lives."""
        return int(self._ale.lives())

    @property
    def ram(self) -> npt.NDArray[np.uint8]:
        """Memory of the console, (128,) uint8."""
        return self._ale.getRAM()

    def restart(self, noops: int) -> Frame:
        """Begin a game, do nothing for `noops` raw frames, and return the frame (84, 84) uint8 that the player sees first."""
        # A state holds neither the screen nor all of the chips, and a reset leaves traces of the last game in some games.
        # One after the other they lead to the same state every time.
        self._ale.reset_game()
        self._ale.restoreState(self._start)
        self._played = _NOOP
        for _ in range(noops):
            self._ale.act(_NOOP)
            if self._ale.game_over():
                self._ale.reset_game()
        self._frame = self._frame_of(self._ale.getScreenGrayscale()) if noops else np.array(self._first_frame)
        return self._frame

    def is_played(self, action: int) -> bool:
        """Return whether `action` is what the joystick does already, so that its delay makes no difference."""
        return self._codes[action] == self._played

    def step(self, action: int, delay: int, *, watched: bool = True) -> tuple[Frame, float, bool]:
        """Play four raw frames.

        Args:
            action: Index into the minimal action set.
            delay: Number of raw frames, 0 to 4, for which the action before goes on.
            watched: Whether to draw a new frame, which takes a fifth of the time.

        Returns:
            The newest frame drawn (84, 84) uint8, the points, and whether the game is over.
        """
        act, code, points = self._ale.act, self._codes[action], 0.0
        for index in range(FRAME_SKIP):
            if index == delay:
                self._played = code
            points += act(self._played)  # does nothing once the game is over
            if watched and index >= FRAME_SKIP - 2:
                self._ale.getScreenGrayscale(self._screens[index - FRAME_SKIP])
        if watched:
            import cv2  # see StickyGame.step

            self._frame = self._frame_of(cv2.max(*self._screens))
        return self._frame, points, bool(self._ale.game_over())

    def _frame_of(self, screen: npt.NDArray[Any]) -> Frame:
        import cv2

        return cast(Frame, cv2.resize(screen, FRAME_SHAPE, interpolation=cv2.INTER_AREA))


_NOOP = 0  # of ALE's full set


@dataclass
class Play:
    """What one step of a `StickyGame` led to.

    Attributes:
        frame: Newest frame drawn, (84, 84) uint8.
        reward: Raw points.
        terminated: Whether the game is over.
        truncated: Whether the time of the game is up while it goes on.
    """

    frame: Frame
    reward: float
    terminated: bool
    truncated: bool


class StickyGame:
    """One game with sticky actions and a random number of no-ops at its start, all of which can be read and recorded.

    At every raw frame the game repeats, with a given probability, the action of the raw frame before (Machado et al.,
    2018, https://arxiv.org/abs/1709.06009). So an action comes into force after a number of raw frames, its delay.

    Args:
        game: Game to play.
        sticky_actions: Probability of a repetition at each raw frame, in [0, 1].
        noop_max: Bound of the number of no-ops at a game's start, which are 0 to `noop_max - 1`.
        max_episode_steps: Steps after which a game is truncated.

    Attributes:
        noops: Number of no-ops with which the game under way began.
        delay: Delay of the last action, 0 where it makes no difference.
        steps: Steps of the game under way.
    """

    def __init__(
        self,
        game: Game,
        *,
        sticky_actions: float = 0.25,
        noop_max: int = NOOP_MAX,
        max_episode_steps: int = MAX_EPISODE_STEPS,
    ) -> None:
        self.emulator = Emulator(game)
        self._sticky_actions, self._noop_max, self._max_steps = sticky_actions, noop_max, max_episode_steps
        self.noops = self.delay = self.steps = 0
        self.seed(None)

    def seed(self, seed: int | None) -> None:
        """Seed the no-ops and the repetitions; None draws a seed from the operating system."""
        self._rng = np.random.default_rng(seed)

    def restart(self) -> Frame:
        """Begin a game, and return the frame (84, 84) uint8 that the player sees first."""
        self.noops = int(self._rng.integers(self._noop_max)) if self._noop_max else 0
        self.steps = 0
        return self.emulator.restart(self.noops)

    def step(self, action: int, *, watched: bool = True) -> Play:
        """Play an action, an index into the minimal action set, for four raw frames; only a watched game draws a frame."""
        # After NumPy's comparisons or maxima ALE takes a tenth longer on some processors: mixed vector instructions cost time.
        repeated = [chance < self._sticky_actions for chance in self._rng.random(FRAME_SKIP).tolist()]
        self.delay = 0 if self.emulator.is_played(action) else [*repeated, False].index(False)
        frame, reward, over = self.emulator.step(action, self.delay, watched=watched)
        self.steps += 1
        return Play(frame, reward, over, not over and self.steps >= self._max_steps)


class AtariGames:
    """Several `StickyGame`s in step, called as `AtariVecEnv` calls ALE's vector environment.

    A game that has ended begins anew in the same step.

    Args:
        game: Game to play.
        n_envs: Number of games, at least 1.
        frame_stack: Frames of an observation, the oldest first; zeros stand before a game's first frame.
        **arguments: Further arguments of `StickyGame`.

    Attributes:
        single_observation_space: Space of one game's observation, `(frame_stack, 84, 84)` uint8.
        single_action_space: Space of the game's minimal action set.
        noops: Number of no-ops with which each game under way began, (n_envs,).
        delays: Delay of the last action in each game, (n_envs,) uint8.
        watched: Games of which someone sees the frames, (n_envs,) bool, all at first. The others keep their last one,
            which saves a fifth of the time where an agent reads memory.
        final_ram: Memory of the console when a game last ended, (n_envs, 128) uint8.
    """

    def __init__(self, game: Game, n_envs: int, *, frame_stack: int = 4, **arguments: Any) -> None:
        self.games = [StickyGame(game, **arguments) for _ in range(n_envs)]
        self.single_observation_space = Box(0, 255, (frame_stack, *FRAME_SHAPE), np.uint8)
        self.single_action_space = Discrete(self.games[0].emulator.num_actions)
        self._stacks = np.zeros((n_envs, *self.single_observation_space.shape), np.uint8)
        self.watched = np.ones(n_envs, np.bool_)
        self.noops = np.zeros(n_envs, np.int64)
        self.delays = np.zeros(n_envs, np.uint8)
        self.final_ram = np.zeros((n_envs, 128), np.uint8)

    @property
    def ram(self) -> npt.NDArray[np.uint8]:
        """Memory of the consoles, (n_envs, 128) uint8."""
        return np.stack([game.emulator.ram for game in self.games])

    def reset(self, seed: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Begin all games; those with a seed of at least 0 are seeded.

        Returns:
            Observations `(n_envs, frame_stack, 84, 84)` uint8, and `lives` (n_envs,).
        """
        for env, game in enumerate(self.games):
            if seed[env] >= 0:
                game.seed(int(seed[env]))
            self._begin(env)
        return self._stacks.copy(), {"lives": self._lives()}

    def send(self, actions: npt.NDArray[np.int64]) -> None:
        """Take the actions (n_envs,) that `recv` plays."""
        self._actions = actions.tolist()

    def recv(
        self,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, Any]]:
        """Play the actions.

        Returns:
            Observations, points, terminations, truncations, and a dictionary of `lives` and, where a game ended,
            `final_obs`: the observations `(n_envs, frame_stack, 84, 84)` with which the games ended.
        """
        plays = [
            game.step(action, watched=watched)
            for game, action, watched in zip(self.games, self._actions, self.watched.tolist(), strict=True)
        ]
        self.delays = np.array([game.delay for game in self.games], np.uint8)
        self._stacks[:, :-1] = self._stacks[:, 1:]
        self._stacks[:, -1] = [play.frame for play in plays]
        terminated = np.array([play.terminated for play in plays])
        truncated = np.array([play.truncated for play in plays])
        info: dict[str, Any] = {}
        if (over := np.flatnonzero(terminated | truncated)).size:
            info["final_obs"] = self._stacks.copy()
            for env in over.tolist():
                self.final_ram[env] = self.games[env].emulator.ram
                self._begin(env)
        info["lives"] = self._lives()
        return self._stacks.copy(), np.array([play.reward for play in plays], np.float32), terminated, truncated, info

    def close(self) -> None:
        """Do nothing: the games have neither threads nor files."""

    def _begin(self, env: int) -> None:
        self._stacks[env] = 0
        self._stacks[env, -1] = self.games[env].restart()
        self.noops[env] = self.games[env].noops

    def _lives(self) -> npt.NDArray[np.int64]:
        return np.array([game.emulator.lives for game in self.games])
