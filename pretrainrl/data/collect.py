"""Episodes of real games, played by a random policy that repeats its last action."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Env, Wrapper
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from pretrainrl.data.episode import Episode
from pretrainrl.data.recorder import EpisodeRecorder
from pretrainrl.errors import InputError
from pretrainrl.games import Game, find_game

# Chosen over 0, .25, .5, .9 and .95 on eight games at 12,000 steps each: a purely random walk stays where it starts
# (Freeway and Enduro never score, Ms. Pac-Man scores half as much), while at .9 and above Breakout and Boxing, which
# want quick changes, lose a third of their points and Breakout shows a third fewer different frames.
REPEAT_PROBABILITY = 0.75

PREPROCESSING: dict[str, Any] = {
    "frame_skip": 4,
    "max_pool": "last 2 raw frames",
    "grayscale": True,
    "resize": "84x84 area",
    "noop_max": 30,
    "fire_reset": False,
    "life_loss": "the episode continues",
    "reward_clipping": "none",
}


def collect_episodes(
    game: str,
    steps: int,
    *,
    num_envs: int = 8,
    seed: int = 0,
    repeat_probability: float = REPEAT_PROBABILITY,
    sticky_actions: float = 0.25,
    ram: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Episode]:
    """Play `game` for exactly `steps` transitions and yield the episodes as they finish.

    Memory is bounded by the episodes under way, one per environment. The episodes still running at the end are cut:
    their last transition is a truncation and their last frame the observation it led to. The same arguments give the
    same episodes. With `ram` the games are stepped by single environments, whose preprocessing is the same but whose
    random numbers are not, so the same seed gives other episodes.

    Args:
        game: any spelling that `find_game` knows.
        steps: transitions over all environments together.
        num_envs: games played at the same time.
        seed: of the policy and of every environment.
        repeat_probability: chance that the policy repeats its last action, in [0, 1).
        sticky_actions: chance that the game itself repeats the action of the raw frame before, in [0, 1].
        ram: also store the console's 128 bytes of memory, as `infos["ram"]` `(T + 1, 128)` uint8.
        progress: called with the number of new transitions after every step.

    Returns:
        An iterator of episodes. Their metadata: `seed` (with which the environment was first reset), `env`,
        `episode` (how many the environment had finished before), `return`, `ends_by` (`game_over`, `time_out` or
        `cut`) and `final_observation` (`true`).

    Raises:
        UnknownNameError: when no such game exists.
        InputError: when a number is out of range.
    """
    found = find_game(game)
    if steps < 1 or num_envs < 1 or seed < 0:
        raise InputError(f"steps and num_envs must be at least 1 and seed 0, not {steps}, {num_envs} and {seed}")
    if not (0 <= repeat_probability < 1 and 0 <= sticky_actions <= 1):
        raise InputError(
            f"repeat_probability must be in [0, 1) and sticky_actions in [0, 1], not {repeat_probability} and {sticky_actions}"
        )
    make_envs = partial(_single_envs if ram else _native_envs, found, num_envs, sticky_actions)
    return _play(found, make_envs, steps, seed, repeat_probability, progress)


def _play(
    game: Game,
    make_envs: Callable[[], VectorEnv[Any, Any, Any]],
    steps: int,
    seed: int,
    repeat_probability: float,
    progress: Callable[[int], None] | None,
) -> Iterator[Episode]:
    """Step the environments, which reset in the step after an episode's end, and cut their stream into episodes."""
    envs = make_envs()
    rng = np.random.default_rng(seed)
    seeds = rng.integers(2**31 - 1, size=envs.num_envs)
    num_actions = int(envs.single_action_space.n)  # type: ignore[attr-defined]
    actions = rng.integers(num_actions, size=envs.num_envs)
    try:
        frames, infos = envs.reset(seed=_as_seeds(envs, seeds))
        recorders = [EpisodeRecorder(game.slug, env, int(seeds[env])) for env in range(envs.num_envs)]
        for env, recorder in enumerate(recorders):
            recorder.start(frames[env], _ram(infos, env))
        while steps > 0:
            repeated = rng.random(envs.num_envs) < repeat_probability
            actions = np.where(repeated, actions, rng.integers(num_actions, size=envs.num_envs))
            frames, rewards, terminations, truncations, infos = envs.step(actions)
            before = steps
            for env, recorder in enumerate(recorders):
                reset = recorder.ended  # the step after an episode's end only resets the game
                if reset:
                    recorder.start(frames[env], _ram(infos, env))
                elif steps > 0:
                    recorder.add(actions[env], rewards[env], terminations[env], truncations[env])
                    recorder.observe(frames[env], _ram(infos, env))
                    steps -= 1
                    if recorder.ended:
                        yield recorder.episode()
            if progress is not None:
                progress(before - steps)
        for recorder in recorders:
            if recorder.running:
                yield recorder.episode(cut=True)
    finally:
        envs.close()


def _ram(infos: dict[str, Any], env: int) -> npt.NDArray[np.uint8] | None:
    return infos["ram"][env] if "ram" in infos else None


def _native_envs(game: Game, num_envs: int, sticky_actions: float) -> VectorEnv[Any, Any, Any]:
    """ALE's own vector environment, single frames."""
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv(
        game.rom,
        num_envs,
        repeat_action_probability=sticky_actions,
        autoreset_mode=AutoresetMode.NEXT_STEP,
        stack_num=1,
        noop_max=PREPROCESSING["noop_max"],
        reward_clipping=False,
        use_fire_reset=False,
    )


def single_env(game: Game, sticky_actions: float, noop_max: int = PREPROCESSING["noop_max"]) -> Env[Any, Any]:
    """One environment through Gymnasium, with the preprocessing of the vector one: 84x84 grey frames, no stack.

    The one difference is the number of no-ops after a reset, 1..30 here and 0..29 there.
    """
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner on the terminal
    gymnasium.register_envs(ale_py)
    env = gymnasium.make(game.env_id, frameskip=1, repeat_action_probability=sticky_actions, disable_env_checker=True)
    return AtariPreprocessing(env, noop_max=noop_max, frame_skip=PREPROCESSING["frame_skip"])


def _single_envs(game: Game, num_envs: int, sticky_actions: float) -> VectorEnv[Any, Any, Any]:
    """Single environments in step, which give the RAM; ALE's vector environment does not."""
    return SyncVectorEnv(
        [lambda: _WithRam(single_env(game, sticky_actions))] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP
    )


class _WithRam(Wrapper[Any, Any, Any, Any]):
    """Adds the console's memory to `info`."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return observation, {**info, "ram": self._ram()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "ram": self._ram()}

    def _ram(self) -> npt.NDArray[np.uint8]:
        return self.env.unwrapped.ale.getRAM()  # type: ignore[attr-defined,no-any-return]


def _as_seeds(envs: VectorEnv[Any, Any, Any], seeds: npt.NDArray[np.int64]) -> Any:
    """Seeds in the type that `envs` takes: Gymnasium wants Python integers, ALE an array."""
    return seeds.tolist() if isinstance(envs, SyncVectorEnv) else seeds
