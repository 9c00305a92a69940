"""ale-py's native vector environment as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from pretrainrl.data.emulator import AtariGames
from pretrainrl.data.episode import FRAME_SHAPE
from pretrainrl.errors import InputError
from pretrainrl.games import find_game

# ALE takes non-negative 32-bit seeds; SB3 draws unsigned ones.
_SEEDS = 2**31 - 1


class AtariVecEnv(VecEnv):
    """Many copies of one Atari game, stepped by ALE's own threads, with SB3's Atari conventions.

    Observations are `(n_envs, frame_stack, 84, 84)` uint8, channel-first, oldest frame first, zero frames before an
    episode's start: gray, maximum of the last two skipped frames, area-resized. This is the preprocessing the encoders
    were pre-trained on, and no `VecFrameStack` or `VecTransposeImage` is needed. `info["episode"]` has the raw score
    `r`, the length `l` in agent steps and the time `t` of each whole game, so no `Monitor` is needed either:
    `evaluate_policy` and `EvalCallback` report unclipped scores of whole games. (`VecMonitor` would count lives and signs of
    rewards; `monitor` writes its file.)

    The defaults are those of data collection and training. To evaluate under the benchmark's protocol, pass
    `action_repeat_probability=0.0, terminal_on_life_loss=False`. Differences from SB3's `AtariWrapper`: sticky actions
    default to 0.25 rather than 0, 0 to `noop_max - 1` no-ops are played rather than 1 to `noop_max`, and FIRE is not
    pressed for the agent. A greedy agent that never learned to press FIRE can therefore idle until the time limit.

    Args:
        game: Name of the game, in any spelling: `pong`, `MsPacman`, `ALE/MsPacman-v5`, `MsPacmanNoFrameskip-v4`.
        n_envs: Number of copies, at least 1.
        seed: Seed of copy 0; copy i gets `seed + i`. By default one is drawn from NumPy's global generator, as
            `make_atari_env` does.
        noop_max: Bound of the number of no-ops at a game's start.
        frame_skip: Frames for which each action is repeated.
        frame_stack: Frames per observation.
        terminal_on_life_loss: Whether a lost life is `done`. The game goes on: the observation after it and its
            `terminal_observation` are the same.
        clip_reward: Whether rewards are replaced by their sign.
        action_repeat_probability: Probability, at each frame, that the previous action is played instead (sticky
            actions).
        use_fire_reset: Whether FIRE is pressed once at a game's start, where the game has such an action.
        full_action_space: Whether all 18 actions are offered instead of the game's minimal set.
        max_episode_steps: Agent steps after which a game is truncated.
        num_threads: Number of ALE's threads; 0 leaves the choice to ALE.
        monitor: File to which each whole game's raw score, length and time are written as SB3's `Monitor` does, for
            `load_results` and its plots: a path that ends with `monitor.csv`, a folder that gets a `monitor.csv`, or a path to
            which `.monitor.csv` is added. None for none. What is there is replaced.

    Raises:
        UnknownNameError: When the game is unknown.
        InputError: When a number is out of its range, or the file cannot be written.
    """

    render_mode = "rgb_array"

    def __init__(
        self,
        game: str,
        n_envs: int = 8,
        *,
        seed: int | None = None,
        noop_max: int = 30,
        frame_skip: int = 4,
        frame_stack: int = 4,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float = 0.25,
        use_fire_reset: bool = False,
        full_action_space: bool = False,
        max_episode_steps: int = 27_000,
        num_threads: int = 0,
        monitor: str | Path | None = None,
    ) -> None:
        _check_at_least(0, noop_max=noop_max, num_threads=num_threads)
        _check_at_least(1, n_envs=n_envs, frame_skip=frame_skip, frame_stack=frame_stack, max_episode_steps=max_episode_steps)
        if not 0 <= action_repeat_probability <= 1:
            raise InputError(f"action_repeat_probability must be in [0, 1], got {action_repeat_probability}")
        self.game = find_game(game)
        self.terminal_on_life_loss = terminal_on_life_loss
        self.clip_reward = clip_reward
        # The raw score and the moment a life is lost are needed here, so ALE must not clip, nor end episodes itself.
        self._games: Any = self._make_games(
            n_envs,
            num_threads=num_threads,
            max_num_frames_per_episode=max_episode_steps * frame_skip,
            repeat_action_probability=action_repeat_probability,
            full_action_space=full_action_space,
            autoreset_mode=AutoresetMode.SAME_STEP,
            stack_num=frame_stack,
            frameskip=frame_skip,
            noop_max=noop_max,
            episodic_life=False,
            life_loss_info=False,
            reward_clipping=False,
            use_fire_reset=use_fire_reset,
        )
        self.spec = EnvSpec(
            id=self.game.env_id,
            entry_point="ale_py.env:AtariEnv",
            kwargs={
                "game": self.game.rom,
                "frameskip": frame_skip,
                "repeat_action_probability": action_repeat_probability,
                "full_action_space": full_action_space,
                "max_num_frames_per_episode": max_episode_steps * frame_skip,
            },
        )
        self.action_space: Discrete
        super().__init__(n_envs, self._games.single_observation_space, self._games.single_action_space)
        self._observations = np.zeros((n_envs, frame_stack, *FRAME_SHAPE), np.uint8)  # black before the first reset
        self._start_time = time.time()
        self._monitor = None if monitor is None else self._open_monitor(Path(monitor))
        self.seed(seed)

    def _open_monitor(self, path: Path) -> ResultsWriter:
        header: dict[str, float | str] = {"t_start": self._start_time, "env_id": self.game.env_id}
        try:
            return ResultsWriter(str(path.expanduser()), header=header)
        except OSError as error:
            raise InputError(f"cannot write the monitor file {path}: {error.strerror or error}") from error

    def _make_games(self, n_envs: int, **arguments: Any) -> Any:
        """Make the games from the arguments of ALE's vector environment."""
        return AtariVectorEnv(self.game.rom, n_envs, **arguments)

    def reset(self) -> NDArray[np.uint8]:
        """Start a new game in every copy, with the seeds of the last `seed()` if there are any.

        Returns:
            Observations `(n_envs, frame_stack, 84, 84)` uint8.
        """
        seeds = np.array([-1 if seed is None else seed % _SEEDS for seed in self._seeds])
        observations: NDArray[np.uint8]
        observations, info = self._games.reset(seed=seeds)
        self._observations = observations
        self._lives = info["lives"]
        self._scores = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self.reset_infos = [{"lives": lives} for lives in self._lives.tolist()]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: NDArray[np.integer[Any]]) -> None:
        """Hand the actions to ALE's threads.

        Args:
            actions: Actions, `(n_envs,)` integers, indices into the action set.

        Raises:
            InputError: When there are too few or too many, one is out of range, or the games were never reset.
        """
        if not hasattr(self, "_lives"):
            raise InputError("reset() comes before the first step")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or not np.issubdtype(actions.dtype, np.integer):
            raise InputError(f"expected {self.num_envs} integer actions, got {actions.dtype} of shape {actions.shape}")
        # ALE itself waits for ever on an action it does not know.
        if actions.min() < 0 or actions.max() >= self.action_space.n:
            raise InputError(f"actions must be in 0..{self.action_space.n - 1}, got {actions.tolist()}")
        self._games.send(actions.astype(np.int64, copy=False))

    def step_wait(self) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Collect the step's results.

        Returns:
            Observations `(n_envs, frame_stack, 84, 84)` uint8, rewards `(n_envs,)` float32, dones `(n_envs,)` bool,
            and one info per copy: `lives`, `TimeLimit.truncated`, when done `terminal_observation`, and at a game's
            end `episode`.
        """
        observations, points, terminated, truncated, info = self._games.recv()
        game_over = terminated | truncated
        # After a game's end `lives` counts the next game's.
        life_lost = (info["lives"] < self._lives) & (info["lives"] > 0) & ~game_over
        dones = game_over | life_lost if self.terminal_on_life_loss else game_over
        self._observations, self._lives = observations, info["lives"]
        self._scores += points
        self._lengths += 1

        infos: list[dict[str, Any]] = [
            {"lives": lives, "TimeLimit.truncated": cut}
            for lives, cut in zip(self._lives.tolist(), truncated.tolist(), strict=True)
        ]
        for i in np.flatnonzero(dones).tolist():
            infos[i]["terminal_observation"] = info["final_obs"][i] if game_over[i] else observations[i]
            if game_over[i]:
                infos[i]["episode"] = self._finish_episode(i)
        rewards = (np.sign(points) if self.clip_reward else points).astype(np.float32)
        return observations, rewards, dones, infos

    def _finish_episode(self, i: int) -> dict[str, float]:
        """Return the summary of copy i's game, as `Monitor` would, and start counting anew."""
        seconds = round(time.time() - self._start_time, 6)
        episode = {"r": float(self._scores[i]), "l": int(self._lengths[i]), "t": seconds}
        self._scores[i], self._lengths[i] = 0.0, 0
        if self._monitor is not None:
            self._monitor.write_row(episode)
        return episode

    def close(self) -> None:
        """Close the games; a second call does nothing."""
        self._games.close()
        if self._monitor is not None:
            self._monitor.close()

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions, e.g. `["NOOP", "FIRE", "RIGHT", ...]`."""
        return [action.name for action in self._games.ale.get_action_set()]

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """Return the newest frame of every copy, `(84, 84, 3)` uint8, gray: ALE's vector environment renders nothing else."""
        return [np.repeat(frames[-1][:, :, None], 3, axis=2) for frames in self._observations]

    # The copies are not Python objects: they share their attributes and have no methods of their own.

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return the value of this object's attribute, once per copy asked for."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute for all copies.

        Raises:
            NotImplementedError: When fewer copies than all were asked for.
        """
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise NotImplementedError("the games share their attributes; set them for all of them (indices=None)")
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Return the result of `get_action_meanings`, once per copy asked for.

        Raises:
            NotImplementedError: When any other method was asked for.
        """
        if method_name != "get_action_meanings":
            raise NotImplementedError(f"the games have no method {method_name!r} of their own, only get_action_meanings")
        return [self.get_action_meanings(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Return True for `Monitor`, whose work is done here: SB3 then trusts `info["episode"]` more than `done`."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]


class RecordedAtariVecEnv(AtariVecEnv):
    """An `AtariVecEnv` whose games are played by `AtariGames`, so that no-ops and sticky actions can be recorded.

    It gives the same frames for the same play, in one thread, and draws random numbers from NumPy's generators.

    Args:
        game: Name of the game, in any spelling.
        n_envs: Number of copies, at least 1.
        seed: Seed of copy 0; copy i gets `seed + i`. By default one is drawn from NumPy's global generator.
        terminal_on_life_loss: Whether a lost life is `done`.
        clip_reward: Whether rewards are replaced by their sign.
        action_repeat_probability: Probability of a sticky action at each raw frame, in [0, 1].

    Attributes:
        games: The games, whose `noops` and `delays` are those of the last step.
    """

    games: AtariGames

    def __init__(
        self,
        game: str,
        n_envs: int = 8,
        *,
        seed: int | None = None,
        terminal_on_life_loss: bool = True,
        clip_reward: bool = True,
        action_repeat_probability: float = 0.25,
    ) -> None:
        super().__init__(
            game,
            n_envs,
            seed=seed,
            terminal_on_life_loss=terminal_on_life_loss,
            clip_reward=clip_reward,
            action_repeat_probability=action_repeat_probability,
        )

    def _make_games(self, n_envs: int, **arguments: Any) -> AtariGames:
        self.games = AtariGames(self.game, n_envs, sticky_actions=arguments["repeat_action_probability"])
        return self.games

    def get_action_meanings(self) -> list[str]:
        """Return the names of the actions."""
        return self.game.action_meanings


def _check_at_least(low: int, **values: int) -> None:
    for name, value in values.items():
        if value < low:
            raise InputError(f"{name} must be at least {low}, got {value}")
