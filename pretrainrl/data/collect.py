"""Episodes of real games, played by a random policy that repeats its last action."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import Env

from pretrainrl.data.emulator import FRAME_SKIP, NOOP_MAX, StickyGame
from pretrainrl.data.episode import Episode, EpisodeRecorder
from pretrainrl.errors import InputError
from pretrainrl.games import Game, find_game

# Chosen over 0, .25, .5, .9 and .95 on eight games at 12,000 steps each: a purely random walk stays where it starts
# (Freeway and Enduro never score, Ms. Pac-Man scores half as much), while at .9 and above Breakout and Boxing, which
# want quick changes, lose a third of their points and Breakout shows a third fewer different frames.
REPEAT_PROBABILITY = 0.75

PREPROCESSING: dict[str, Any] = {
    "frame_skip": FRAME_SKIP,
    "max_pool": "last 2 raw frames",
    "grayscale": True,
    "resize": "84x84 area",
    "noop_max": NOOP_MAX,
    "fire_reset": False,
    "life_loss": "the episode continues",
    "reward_clipping": "none",
}


def collect_episodes(
    game: str,
    steps: int,
    *,
    n_envs: int = 8,
    seed: int = 0,
    repeat_probability: float = REPEAT_PROBABILITY,
    sticky_actions: float = 0.25,
    ram: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Episode]:
    """Play `game` for exactly `steps` transitions and yield the episodes as they finish.

    Memory is bounded by the episodes under way, one for each environment. The episodes still running at the end are cut: their
    last transition is a truncation, and their last frame is the observation that it led to. The same arguments give the same
    episodes. What chance did, the no-ops at a game's start and the sticky actions, is recorded with each episode.

    Args:
        game: Game, in any spelling that `find_game` knows.
        steps: Number of transitions of all environments together, at least 1.
        n_envs: Number of games played at the same time, at least 1.
        seed: Seed of the policy and of every environment, at least 0.
        repeat_probability: Probability with which the policy repeats its last action, in [0, 1).
        sticky_actions: Probability with which the game itself repeats the action of the raw frame before, in [0, 1].
        ram: Whether the console's 128 bytes of memory are stored too, as `infos["ram"]` `(T + 1, 128)` uint8.
        progress: Function that is called with the number of new transitions after every step.

    Returns:
        An iterator of episodes. Their metadata: `seed` (with which the environment was first reset), `env`,
        `episode` (how many the environment had finished before), `noops`, `return`, `ends_by` (`game_over`, `time_out` or
        `cut`) and `final_observation` (`true`). Their `infos["delays"]` (T,) uint8 are the delays of `Emulator.step`.

    Raises:
        UnknownNameError: No such game exists.
        InputError: A number is out of range.
    """
    found = find_game(game)
    if steps < 1 or n_envs < 1 or seed < 0:
        raise InputError(f"steps and n_envs must be at least 1 and seed 0, not {steps}, {n_envs} and {seed}")
    if not (0 <= repeat_probability < 1 and 0 <= sticky_actions <= 1):
        raise InputError(
            f"repeat_probability must be in [0, 1) and sticky_actions in [0, 1], not {repeat_probability} and {sticky_actions}"
        )
    return _play(found, steps, n_envs, seed, repeat_probability, sticky_actions, ram, progress)


def _play(
    found: Game,
    steps: int,
    n_envs: int,
    seed: int,
    repeat_probability: float,
    sticky_actions: float,
    ram: bool,
    progress: Callable[[int], None] | None,
) -> Iterator[Episode]:
    """Step the games in turn, and cut each one's stream into episodes."""
    rng = np.random.default_rng(seed)
    seeds = rng.integers(2**31 - 1, size=n_envs).tolist()
    games = [StickyGame(found, sticky_actions=sticky_actions) for _ in range(n_envs)]
    recorders = [EpisodeRecorder(found.slug, env, seeds[env]) for env in range(n_envs)]
    num_actions = games[0].emulator.num_actions
    actions = rng.integers(num_actions, size=n_envs)

    def memory(game: StickyGame) -> npt.NDArray[np.uint8] | None:
        return game.emulator.ram if ram else None

    for game, recorder in zip(games, recorders, strict=True):
        game.seed(recorder.seed)
        recorder.start(game.restart(), memory(game), noops=game.noops)
    while steps > 0:
        repeated = rng.random(n_envs) < repeat_probability
        actions = np.where(repeated, actions, rng.integers(num_actions, size=n_envs))
        stepped = min(steps, n_envs)
        for game, recorder, action in zip(games[:stepped], recorders, actions.tolist(), strict=False):
            if recorder.ended:
                recorder.start(game.restart(), memory(game), noops=game.noops)
            play = game.step(action)
            recorder.add(action, game.delay, play.reward, play.terminated, play.truncated)
            recorder.observe(play.frame, memory(game))
            if recorder.ended:
                yield recorder.episode()
        steps -= stepped
        if progress is not None:
            progress(stepped)
    for recorder in recorders:
        if recorder.running:
            yield recorder.episode(cut=True)


def single_env(game: Game, sticky_actions: float, noop_max: int = NOOP_MAX) -> Env[Any, Any]:
    """Make one Gymnasium environment with the preprocessing of ALE's vector environment: 84x84 grey frames, no stack.

    The only difference is the number of no-ops after a reset, 1..30 here and 0..29 there.
    """
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)
    env = gymnasium.make(game.env_id, frameskip=1, repeat_action_probability=sticky_actions, disable_env_checker=True)
    return AtariPreprocessing(env, noop_max=noop_max, frame_skip=FRAME_SKIP)
