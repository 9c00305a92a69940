"""Learning in segments, so that a run that was killed goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from pretrainrl.finetuning.config import FinetuneConfig
from pretrainrl.finetuning.evaluation import ALE_SEEDS, evaluate
from pretrainrl.finetuning.folder import BEST, FinetuneFolder
from pretrainrl.integrations.sb3.recording.learners import load_state, save_state, seed_all
from pretrainrl.runs.interrupt import InterruptedRunError

_PURPOSES = {"games": 2, "evaluation": 3}  # 1 is the agent's

Bar = Callable[[int, str], None]


class PeriodicTruncation(VecEnvWrapper):
    """Truncates the games under way after a number of steps, so that whoever steps them then resets them.

    ALE's games cannot be restored in the middle, so a segment of learning begins with new games.

    Args:
        venv: Games that are truncated.
        every: Number of steps of each game, at least 1.
    """

    keeps_observations = True

    def __init__(self, venv: VecEnv, every: int) -> None:
        super().__init__(venv)
        self._every, self._age = every, 0

    def reset(self) -> Any:
        """Begin new games."""
        self._age = 0
        return self.venv.reset()

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Return the step's results; all games end with a segment's last step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._age += 1
        if self._age == self._every:
            for env in np.flatnonzero(~dones).tolist():
                infos[env].update({"terminal_observation": observations[env], "TimeLimit.truncated": True})
            dones = np.ones_like(dones)
        return observations, rewards, dones, infos


class FinetuneSegments(BaseCallback):
    """Evaluates and saves an agent between its rollouts, or epochs, where all of its state is at rest.

    At a segment's start all random numbers and games are made anew from the seed and the segment's number, also in a run that
    nothing interrupts. So the saved state is parameters, optimizer, counters and replay buffer alone.

    Args:
        config: Configuration of the run.
        folder: Folder of the run, which is open.
        state: Folder of the state to begin with; None at the beginning.
        every: Steps of all games together, or epochs, in a segment.
        eval_env: Games for evaluations.
        bar: Function that is called with the position and a remark after every step.
        stop: Event that asks to stop.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        folder: FinetuneFolder,
        state: Path | None,
        every: int,
        eval_env: VecEnv,
        bar: Bar,
        stop: Event,
    ) -> None:
        super().__init__()
        self._config, self._folder, self._state, self._every = config, folder, state, every
        self._eval_env, self._bar, self._stop = eval_env, bar, stop
        self._segment, self._saved, self._evaluated = -1, 0, 0
        self._remark = ""

    @property
    def _position(self) -> int:
        """Number of steps of all games, or of epochs, so far."""
        return int(self.model._epoch if self._config.cloning else self.model.num_timesteps)  # type: ignore[attr-defined]

    def _on_training_start(self) -> None:
        if self._state is not None:
            load_state(self.model, self._state)
        self._saved = self._evaluated = self._position
        if self._folder.is_extended_now:
            self._extend()

    def _on_rollout_start(self) -> None:
        position, freq = self._position, self._config.eval_freq
        if position // freq > self._evaluated // freq:
            self._evaluate()
        segment = (position - self._folder.origin) // self._every
        if segment > self._segment:
            if self._segment >= 0:
                self._save()
            self._segment = segment
            self._begin()

    def _on_step(self) -> bool:
        for info in self.locals.get("infos", ()):
            if "episode" in info:
                self._folder.games.add(info["episode"]["r"], info["episode"]["l"])
        self._tick(self._remark)
        return True

    def _on_training_end(self) -> None:
        if self._position > self._saved:  # the last evaluation can take long
            self._save()
        self._evaluate()

    def _extend(self) -> None:
        """Take the end of a shorter run as the beginning of what is left: its last evaluation stays, and schedules change."""
        self._folder.origin = self._position
        model = self.model
        model._current_progress_remaining = 1 - model.num_timesteps / model._total_timesteps
        if self._position < self._config.length:  # else nothing is left to learn, and there is an evaluation at the end
            self._evaluate()  # the state was saved before the last evaluation, which comes out the same

    def _begin(self) -> None:
        """Seed everything and begin new games."""
        whole, rest = divmod(self._position, self._every)
        number = self._position << 32 if rest else whole  # a run may have ended, and be extended, between two checkpoints
        seed_all(self.model, self._config.seed, number)
        if self._config.cloning:
            return
        env: Any = self.training_env
        env.seed(self._number("games", number) % (ALE_SEEDS - env.num_envs))
        agent: Any = self.model
        agent._last_obs = env.reset()
        agent._last_episode_starts = np.ones(env.num_envs, np.bool_)

    def _save(self) -> None:
        self._folder.save_checkpoint(self._position, partial(save_state, self.model))
        self._saved = self._position

    def _evaluate(self) -> None:
        """Play whole games, write what they scored, and keep the agent if it is the best so far."""
        count, position = self._config.eval_episodes, self._position
        playing = partial(self._tick, f"playing {count} games")
        seed, epsilon = self._number("evaluation", position), self._config.epsilon
        scores, lengths = evaluate(self.model, self._eval_env, count, seed, playing, epsilon)
        if self._folder.evaluations.add(self.model.num_timesteps, scores, lengths):
            self._folder.save_agent(self.model, self._folder.path / BEST)
        self._evaluated = position
        self._remark = f"{np.mean(scores):.1f} points in the last {count} games"

    def _number(self, purpose: str, index: int) -> int:
        """Return a random number in 0..2**31 - 1 that the seed, a purpose and an index decide."""
        words = np.random.SeedSequence([self._config.seed, index, _PURPOSES[purpose]]).generate_state(1)
        return int(words[0]) % 2**31

    def _tick(self, remark: str) -> None:
        self._bar(self._position, remark)
        if self._stop.is_set():
            raise InterruptedRunError(
                f"interrupted; what was learned up to {self._saved:,} of {self._config.length:,} is kept"
            )
