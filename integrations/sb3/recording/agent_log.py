"""An agent learns or plays a game, and what it experiences is kept segment by segment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.agent_cards import AGENTS, agent_names
from pretrainrl.cards import is_path
from pretrainrl.data.episode import Episode
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.sb3.agents import rollout_steps
from pretrainrl.integrations.sb3.agents import save_agent as write_agent
from pretrainrl.integrations.sb3.envs.atari_vec_env import RecordedAtariVecEnv
from pretrainrl.integrations.sb3.recording.experience_log import ExperienceLog
from pretrainrl.integrations.sb3.recording.learners import (
    ROLLOUT,
    learner_preset,
    load_state,
    make_learner,
    save_state,
    seed_all,
)
from pretrainrl.integrations.sb3.recording.ram_agent import RAM_SPACE, VecRamObservation
from pretrainrl.integrations.sb3.recording.saved_agent import algorithm_of, check_agent, load_agent
from pretrainrl.paths import resolve_path
from pretrainrl.weights import file_sha256

# Steps of each game: longer than most games, which are cut at a segment's end, and a few minutes of an agent's time.
SEGMENT_STEPS = 40 * ROLLOUT


class Store(Protocol):
    """A place for finished segments, which keeps each whole or not at all."""

    def latest(self) -> tuple[int, int, Path] | None:
        """Return the number of segments, of episodes begun in them, and the folder of the agent's state; None at first."""

    def add(self, episodes: list[Episode], begun: int, save_state: Callable[[Path], None]) -> None:
        """Keep the next segment's episodes, the number of episodes begun so far, and the state that `save_state` writes."""


@dataclass(frozen=True)
class Player:
    """An agent that is to play, and to learn unless it was saved.

    Attributes:
        name: Name of an agent that learns, or of a saved agent's file.
        kind: Default for the kind in a dataset's id.
        algorithm: Description of the algorithm, for people.
        path: Path of a saved agent; None for one that learns.
        trust_pickle: Whether a saved agent's pickles are loaded.
    """

    name: str
    kind: str
    algorithm: str
    path: Path | None = None
    trust_pickle: bool = False

    def settings(self, steps: int, n_envs: int) -> dict[str, Any]:
        """Return what decides about the agent's actions, as JSON values."""
        if self.path is None:
            return {"agent": self.name, "learning": learner_preset(self.name, steps, n_envs).flat()}
        return {"agent": self.name, "agent_sha256": file_sha256(self.path)}


def find_agent(name: str, *, trust_pickle: bool = False) -> Player:
    """Return the agent of that name: one that learns, or else one saved by Stable-Baselines3.

    Args:
        name: Registered name; or a path, which has a separator or ends in `.zip`.
        trust_pickle: Whether a saved agent's pickles are loaded, which runs code.

    Raises:
        UnknownNameError: The name is neither; the message has the nearest names.
        InputError: The file is no such agent.
    """
    if name in (learners := agent_names("collect")):
        card = AGENTS.get(name)
        source = "the console's memory" if card.observes == "memory" else "pixels"
        return Player(name, name, f"{card.title} while it learned the game from {source}")
    if not is_path(name, ".zip"):
        AGENTS.get(name) if name in AGENTS else None  # whose plugin may be broken
        names = ["random", *learners]
        raise UnknownNameError(f"{UnknownNameError.of('agent', name, names)}; or the path of a saved agent")
    path = resolve_path(name)
    path = path if path.exists() or path.suffix == ".zip" else path.with_name(path.name + ".zip")
    algorithm = algorithm_of(path)
    source = "pretrainrl" if algorithm.__module__.startswith("pretrainrl.") else "Stable-Baselines3"
    return Player(path.name, "agent", f"{algorithm.__name__} of {source}, as saved in {path.name}", path, trust_pickle)


def check_games(agent: Player, games: list[str]) -> None:
    """Check that a saved agent can play `games`; one that learns can play any.

    Raises:
        InputError: The agent cannot be loaded, or expects other observations or actions.
    """
    if agent.path is None:
        return
    saved = load_agent(agent.path, trust_pickle=agent.trust_pickle)
    for game in games:
        env = RecordedAtariVecEnv(game, 1)
        check_agent(saved, agent.path, _as_seen_by(saved, env), env.game.slug)
        env.close()


def log_agent(
    game: str,
    agent: Player,
    steps: int,
    store: Store,
    *,
    n_envs: int = 8,
    seed: int = 0,
    sticky_actions: float = 0.25,
    keep_every: int = 1,
    segment_steps: int = SEGMENT_STEPS,
    greedy: bool = False,
    save_agent: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Let an agent experience transitions of a game, and add the segments that the store does not hold yet.

    On a CPU, with the same number of threads, an interrupted and continued run adds what an uninterrupted one does.

    Args:
        game: Name of the game, in any spelling.
        agent: Agent that plays, and learns unless it was saved.
        steps: Number of transitions over all games together.
        store: Place of the segments.
        n_envs: Number of games played together.
        seed: Seed of the agent and the games.
        sticky_actions: Chance that the game repeats the action of the raw frame before, in [0, 1].
        keep_every: Number of episodes of which one is kept.
        segment_steps: Number of steps of every game in a segment, a multiple of 128 and of the agent's rollout.
        greedy: Whether a saved agent takes the action that it thinks best; by default it acts as it explores.
        save_agent: File to which Stable-Baselines3 saves the agent when it has learned.
        progress: Function that is called with the number of new transitions after every step.

    Raises:
        InputError: A number is out of range, or the agent does not fit the game.
    """
    if segment_steps % ROLLOUT:
        raise InputError(f"segment_steps must be a multiple of {ROLLOUT}, not {segment_steps}")
    preset = learner_preset(agent.name, steps, n_envs) if agent.path is None else None
    if preset is not None and segment_steps % (rollout := rollout_steps(AGENTS.get(agent.name), preset)):
        raise InputError(f"segment_steps must be a multiple of {rollout} for {agent.name}, not {segment_steps}")
    games = RecordedAtariVecEnv(game, n_envs, clip_reward=False, action_repeat_probability=sticky_actions)
    log = ExperienceLog(
        games,
        steps=steps,
        segment_steps=segment_steps,
        seed=seed,
        keep_every=keep_every,
        watched=agent.path is not None or AGENTS.get(agent.name).observes == "frames",
        progress=progress,
    )
    try:
        segments, begun, state = store.latest() or (0, 0, None)
        log.go_to(segments, begun)
        if progress is not None:
            progress(log.experienced)
        if agent.path is not None:
            saved = load_agent(agent.path, trust_pickle=agent.trust_pickle)
            check_agent(saved, agent.path, _as_seen_by(saved, games), games.game.slug)
            _play(saved, log, store, seed, greedy)
        elif preset is not None and not log.finished:
            learner = make_learner(agent.name, log, preset, seed)
            learner.learn(steps, callback=_Segments(log, store, state, seed))
            if save_agent is not None:
                write_agent(learner, save_agent)
    finally:
        log.close()


class _Segments(BaseCallback):
    """Hands out segments between two rollouts, where all of a learning agent's state is at rest."""

    def __init__(self, log: ExperienceLog, store: Store, state: Path | None, seed: int) -> None:
        super().__init__()
        self._log, self._store, self._state, self._seed = log, store, state, seed
        self._added = log.segment

    def _on_training_start(self) -> None:
        if self._state is not None:
            load_state(self.model, self._state)

    def _on_rollout_start(self) -> None:
        if self._log.at_segment_start:
            self._add(partial(save_state, self.model))
            seed_all(self.model, self._seed, self._log.segment)

    def _on_step(self) -> bool:
        return not self._log.finished

    def _on_training_end(self) -> None:
        self._add(_nothing)

    def _add(self, save: Callable[[Path], None]) -> None:
        if self._log.segment > self._added:
            self._store.add(self._log.take(), self._log.begun_before, save)
            self._added = self._log.segment


def _play(agent: BaseAlgorithm, log: ExperienceLog, store: Store, seed: int, greedy: bool) -> None:
    """Play with a lost life as an episode's end, as in learning."""
    env = _as_seen_by(agent, log)
    while not log.finished:
        observations: Any = env.reset()
        state, dones, segment = None, np.ones(log.num_envs, np.bool_), log.segment
        seed_all(agent, seed, segment)
        while log.segment == segment:
            actions, state = agent.predict(observations, state=state, episode_start=dones, deterministic=greedy)
            observations, _, dones, _ = env.step(actions)
        store.add(log.take(), log.begun_before, _nothing)


def _as_seen_by(agent: BaseAlgorithm, env: VecEnv) -> VecEnv:
    """Show an agent that reads the console's memory that, and others what there is."""
    return VecRamObservation(env) if agent.observation_space == RAM_SPACE else env


def _nothing(folder: Path) -> None:
    """Save no state: an agent that only plays has none, nor is one needed after the last segment."""
