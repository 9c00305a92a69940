"""What an agent experiences in Atari games, as episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnvWrapper

from pretrainrl.data.episode import Episode, EpisodeRecorder
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.envs.atari_vec_env import RecordedAtariVecEnv

_SEEDS = 2**31 - 1  # ALE takes non-negative 32-bit seeds


class ExperienceLog(VecEnvWrapper):
    """Records whole games, with raw scores and single frames, while the agent sees lost lives and clipped rewards.

    Time is cut into segments. At a segment's end all games are truncated, and at the next one's start they begin anew,
    with seeds that are a function of `seed` and the segment's number: what is logged from then on depends on nothing
    before but the agent. Of every `keep_every` episodes, in the order in which they begin, the first is kept.

    Args:
        venv: Games, with rewards that are not clipped.
        steps: Number of transitions to log, over all games together; steps beyond them are not logged.
        segment_steps: Number of steps of every game in a segment.
        seed: Seed of the games.
        keep_every: Number of episodes of which one is kept.
        watched: Whether the agent sees the frames of episodes that are not kept.
        progress: Function that is called with the number of new transitions after every step.

    Attributes:
        segment: Number of the segment under way, from 0.
        experienced: Number of transitions so far.
        begun_before: Number of episodes that had begun before the segment, kept or not.
        episodes: Kept episodes whose end was seen since the last call of `take`.

    Raises:
        InputError: A number is out of range, or rewards are clipped already.
    """

    def __init__(
        self,
        venv: RecordedAtariVecEnv,
        *,
        steps: int,
        segment_steps: int,
        seed: int = 0,
        keep_every: int = 1,
        watched: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        if min(steps, segment_steps, keep_every) < 1 or seed < 0:
            raise InputError(
                f"steps, segment_steps and keep_every must be at least 1 and seed 0, not {steps}, {segment_steps}, "
                f"{keep_every} and {seed}"
            )
        if venv.clip_reward:
            raise InputError("the log needs raw scores; make the environment with clip_reward=False")
        super().__init__(venv)
        self._game, self._games = venv.game.slug, venv.games
        self.steps, self.segment_steps, self.games_seed, self.keep_every = steps, segment_steps, seed, keep_every
        self._watched, self._progress = watched, progress
        self.episodes: list[Episode] = []
        self.go_to(0, 0)

    def go_to(self, segment: int, begun: int) -> None:
        """Go to a segment before which `begun` episodes have begun; `reset` starts it."""
        self.segment, self.begun_before = segment, begun
        self.experienced = min(segment * self.segment_steps * self.num_envs, self.steps)

    @property
    def finished(self) -> bool:
        """Whether all steps are logged."""
        return self.experienced >= self.steps

    @property
    def at_segment_start(self) -> bool:
        """Whether the segment has begun and no step of it is taken."""
        return self._age == 0

    def take(self) -> list[Episode]:
        """Return the episodes kept since the last call, and forget them."""
        taken, self.episodes = self.episodes, []
        return taken

    def reset(self) -> NDArray[np.uint8]:
        """Begin the segment: (n_envs, 4, 84, 84) uint8."""
        words = np.random.SeedSequence([self.games_seed, self.segment]).generate_state(1)
        first = int(words[0]) % (_SEEDS - self.num_envs)
        self.venv.seed(first)
        observations: NDArray[np.uint8] = self.venv.reset()  # type: ignore[assignment]
        self._age, self._begun = 0, self.begun_before
        self._recorders = [EpisodeRecorder(self._game, env, first + env) for env in range(self.num_envs)]
        for env in range(self.num_envs):
            self._begin(env, observations, self.experienced)
        return observations

    def step_async(self, actions: NDArray[np.integer[Any]]) -> None:
        """Give the actions to the games."""
        self._actions = np.asarray(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Log the step, and return its results with rewards clipped to their sign."""
        observations: NDArray[np.uint8]
        observations, rewards, dones, infos = self.venv.step_wait()  # type: ignore[assignment]
        logged = min(self.num_envs, self.steps - self.experienced)
        self._age += 1
        self.experienced += logged
        for env in range(logged):
            self._log(env, observations, float(rewards[env]), infos[env])
        if self._progress is not None:
            self._progress(logged)
        if self._age == self.segment_steps or self.finished:
            observations = self._end_segment(observations, dones, infos)
        return observations, np.sign(rewards), dones, infos

    def _begin(self, env: int, observations: NDArray[np.uint8], steps_before: int) -> None:
        kept = self._begun % self.keep_every == 0
        self._begun += 1
        self._games.watched[env] = kept or self._watched
        noops = int(self._games.noops[env])
        self._recorders[env].start(
            observations[env, -1], noops=noops, kept=kept, segment=self.segment, steps_before=steps_before
        )

    def _log(self, env: int, observations: NDArray[np.uint8], reward: float, info: dict[str, Any]) -> None:
        recorder = self._recorders[env]
        over, time_out = "episode" in info, bool(info["TimeLimit.truncated"])
        recorder.add(int(self._actions[env]), int(self._games.delays[env]), reward, over and not time_out, over and time_out)
        recorder.observe((info["terminal_observation"] if over else observations[env])[-1])
        if over:
            self._keep(recorder)
            self._begin(env, observations, self.experienced)

    def _keep(self, recorder: EpisodeRecorder, *, cut: bool = False) -> None:
        if recorder.kept:
            self.episodes.append(recorder.episode(cut=cut))

    def _end_segment(
        self, observations: NDArray[np.uint8], dones: NDArray[np.bool_], infos: list[dict[str, Any]]
    ) -> NDArray[np.uint8]:
        """Cut the games under way, tell the agent so, and begin the next segment."""
        for env, recorder in enumerate(self._recorders):
            if recorder.running:
                self._keep(recorder, cut=True)
            if not dones[env]:
                infos[env]["terminal_observation"] = observations[env]
                infos[env]["TimeLimit.truncated"] = True
        dones[:] = True
        self.segment, self.begun_before = self.segment + 1, self._begun
        return self.reset()
