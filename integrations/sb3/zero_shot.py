"""Policies that play with what pre-training has learned, without fine-tuning, and that Stable-Baselines3 can evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete, Space
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from torch import Tensor

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import Game, find_game
from pretrainrl.objectives.cql import CQL
from pretrainrl.objectives.dt import DT, STEPS

if TYPE_CHECKING:
    from pretrainrl.pretraining.trained import TrainedObjective

State = tuple[NDArray[Any], ...]
Observation = dict[str, NDArray[Any]]
FRAMES, CHANNEL_LAST = (4, 84, 84), (84, 84, 4)


@runtime_checkable
class _Scores(Protocol):
    def action_scores(self, observations: Tensor, games: Tensor) -> Tensor:
        """Return the scores (B, num_actions) of all actions, of observations (B, 4, 84, 84) uint8 and games (B,)."""


class ZeroShotPolicy:
    """Plays one of the games that a run of `bc`, `cql_m`, `cql_d` or `dt` was pre-trained on.

    Made by `ZeroShotPolicy.load`. It has the `predict` of Stable-Baselines3's policies, and nothing to train. Objectives
    have 18 outputs for actions; those that the game has not are never chosen.

    Args:
        trained: Objective, as `load_objective` returns it.
        game: Name of one of its games, in any spelling.
        action_space: Space of the environment's actions: the game's minimal action set, or all 18.

    Raises:
        UnknownNameError: When the run has not seen the game.
        InputError: When the objective has learned no actions, or the action space is not the game's.
    """

    def __init__(self, trained: TrainedObjective, game: str, action_space: Space[Any]) -> None:
        found = find_game(game)
        if found.slug not in trained.games:
            raise UnknownNameError.of(f"game of this {trained.name} run", found.slug, trained.games)
        if not isinstance(trained.objective, (_Scores, DT)):
            raise InputError(f"{trained.name} has learned no actions, so it cannot play; bc, cql_m, cql_d and dt can")
        self.game = found
        self._objective = trained.objective
        self._index = trained.games.index(found.slug)
        self.action_space, self.device = action_space, next(trained.objective.parameters()).device
        self._actions = _environment_actions(found, action_space)

    @staticmethod
    def load(
        run: str | Path,
        game: str,
        action_space: Space[Any],
        *,
        target_return: float | None = None,
        device: str | torch.device = "auto",
    ) -> ZeroShotPolicy:
        """Load the policy of a finished run folder.

        Args:
            run: Run folder of a finished `pretrain`.
            game: Name of one of the games in its datasets, in any spelling.
            action_space: Space of the environment's actions.
            target_return: Return to ask for, of `dt` only; see `DecisionTransformerPolicy`.
            device: Device of the networks; `auto` takes an accelerator if there is one.

        Raises:
            InputError: When the folder has no finished run, the objective has learned no actions, the action space
                is not the game's, or a `target_return` for an objective that has no use for it.
            UnknownNameError: When the run has not seen the game.
            WeightsError: When the weights are damaged or do not fit.
        """
        from pretrainrl.pretraining.trained import load_objective  # brings Lightning, which nothing else here needs

        trained = load_objective(run, device)
        if isinstance(trained.objective, DT):
            return DecisionTransformerPolicy(trained, game, action_space, target_return=target_return)
        if target_return is not None:
            raise InputError(f"{trained.name} does not play for a return; target_return is for dt")
        return ZeroShotPolicy(trained, game, action_space)

    def predict(
        self,
        observation: NDArray[np.uint8] | dict[str, NDArray[Any]],
        state: State | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.int64], State | None]:
        """Choose actions.

        Args:
            observation: Observations (n, 4, 84, 84) or (n, 84, 84, 4) uint8, or one without the n; or what
                `VecRewardObservation` makes of it.
            state: State that the last call returned; None to begin.
            episode_start: Whether an episode begins, (n,) bool.
            deterministic: Whether to take the best action instead of one drawn from the policy. Values are always played
                greedily, as Stable-Baselines3's DQN does.

        Returns:
            (n,) actions, or a 0-d array for a single observation, and the state to give to the next call.
        """
        frames, rewards, single = _split(observation)
        if state is None:
            start = np.ones(len(frames), bool)
        else:
            start = np.zeros(len(frames), bool) if episode_start is None else np.asarray(episode_start, bool)
        with torch.inference_mode():
            choices, state = self._play(torch.from_numpy(frames).to(self.device), rewards, state, start, deterministic)
        actions = self._actions[choices]
        return (actions[0] if single else actions), state

    def _play(
        self, frames: Tensor, rewards: NDArray[Any] | None, state: State | None, start: NDArray[np.bool_], deterministic: bool
    ) -> tuple[NDArray[np.int64], State | None]:
        """Return the outputs chosen, (n,), and the next state."""
        assert isinstance(self._objective, _Scores)
        return self._choose(self._objective.action_scores(frames, self._games(frames)), deterministic), None

    def _games(self, frames: Tensor) -> Tensor:
        return torch.full((len(frames),), self._index, device=self.device)

    def _choose(self, scores: Tensor, deterministic: bool) -> NDArray[np.int64]:
        """Choose among the game's actions by their scores (n, num_actions)."""
        possible = scores[:, : len(self._actions)].float()
        greedy = deterministic or isinstance(self._objective, CQL)
        chosen = possible.argmax(1) if greedy else torch.multinomial(possible.softmax(1), 1).squeeze(1)
        choices: NDArray[np.int64] = chosen.cpu().numpy()
        return choices


def playable_games(run: str | Path) -> tuple[str, ...]:
    """Return the games that the objective of a finished run folder can play; none where it has learned no actions.

    Raises:
        WeightsError: The weights are damaged or do not fit.
    """
    from pretrainrl.pretraining.trained import FILE, load_objective  # brings Lightning, which nothing else here needs

    if not (Path(run) / FILE).is_file():
        return ()
    trained = load_objective(run)
    return trained.games if isinstance(trained.objective, (_Scores, DT)) else ()


class History(NamedTuple):
    """What a decision transformer remembers of n episodes: their last steps, oldest first, up to 8.

    Attributes:
        states: State tokens, (n, 8, width) float32.
        actions: Outputs chosen, (n, 8) int64.
        returns: Returns that were still to come at each step, (n, 8) float32.
        lengths: Numbers of steps remembered, (n,) int64.
    """

    states: NDArray[np.float32]
    actions: NDArray[np.int64]
    returns: NDArray[np.float32]
    lengths: NDArray[np.int64]

    @classmethod
    def empty(cls, n: int, width: int) -> History:
        """Return a history of `n` episodes that have not begun."""
        memory = np.zeros((n, STEPS, width), np.float32), np.zeros((n, STEPS), np.int64), np.zeros((n, STEPS), np.float32)
        return cls(*memory, np.zeros(n, np.int64))

    def with_room(self, start: NDArray[np.bool_]) -> History:
        """Copy with the episodes that `start` (n,) forgotten, and the oldest step of full histories dropped."""
        lengths = np.where(start, 0, self.lengths)
        full = lengths == STEPS
        copy = History(self.states.copy(), self.actions.copy(), self.returns.copy(), lengths - full)
        for part in (copy.states, copy.actions, copy.returns):
            part[full, :-1] = part[full, 1:]
        return copy


class DecisionTransformerPolicy(ZeroShotPolicy):
    """A decision transformer that plays for a return.

    It asks for `target_return` at an episode's start, and at each step for what is then left of it: the target less the
    signs of the rewards so far, as returns were counted in pre-training. It sees the last 8 steps: the states, the actions
    it chose in each, and the returns it asked for there. Observations come from an environment in `VecRewardObservation`.
    Atari-PB's code stores each action beside the observation that follows it, which is not how the transformer was trained.

    Args:
        trained: Objective `dt`, as `load_objective` returns it.
        game: See `ZeroShotPolicy`.
        action_space: See `ZeroShotPolicy`.
        target_return: Return to ask for, in signs of rewards; by default the best of an episode of this game in the data.
    """

    def __init__(
        self, trained: TrainedObjective, game: str, action_space: Space[Any], *, target_return: float | None = None
    ) -> None:
        super().__init__(trained, game, action_space)
        self.target_return = trained.best_returns[self._index] if target_return is None else target_return

    def _play(
        self, frames: Tensor, rewards: NDArray[Any] | None, state: State | None, start: NDArray[np.bool_], deterministic: bool
    ) -> tuple[NDArray[np.int64], State | None]:
        assert isinstance(self._objective, DT)
        if rewards is None:
            raise InputError("dt plays for a return and has to see rewards: wrap the environment in VecRewardObservation")
        if np.any(rewards % 1):
            raise InputError(
                f"dt has to see the game's rewards, whole numbers, got {rewards.tolist()}; leave out VecNormalize"
            )
        states = self._objective.states(frames, self._games(frames)).cpu().numpy()
        rows = np.arange(len(frames))
        last = History.empty(*states.shape) if state is None else History(*state)
        left = last.returns[rows, last.lengths - 1] - np.sign(rewards)
        history = last.with_room(start)
        now = history.lengths
        history.states[rows, now] = states
        history.returns[rows, now] = np.where(start, self.target_return, left)
        choices = self._choose(self._scores(history, self._games(frames))[rows, now], deterministic)
        history.actions[rows, now] = choices
        return choices, history._replace(lengths=now + 1)

    def _scores(self, history: History, games: Tensor) -> Tensor:
        """Return the scores at all steps, (n, T, num_actions) for the longest history's T; later steps do not count in any."""
        assert isinstance(self._objective, DT)
        longest = int(history.lengths.max()) + 1
        states, actions, returns = (
            torch.from_numpy(part[:, :longest]).to(self.device) for part in (history.states, history.actions, history.returns)
        )
        return self._objective.sequence_scores(states, actions, returns, games)


def _environment_actions(game: Game, space: Space[Any]) -> NDArray[np.int64]:
    """Return the environment's number of each of the game's actions, which are in the order of datasets."""
    minimal = game.minimal_actions
    if isinstance(space, Discrete) and space.start == 0 and space.n in (len(minimal), 18):
        return np.arange(len(minimal)) if space.n == len(minimal) else np.array(minimal)
    raise InputError(f"{game.rom} is played with {len(minimal)} actions, or all 18, not in {space}")


def _split(observation: NDArray[Any] | dict[str, NDArray[Any]]) -> tuple[NDArray[np.uint8], NDArray[Any] | None, bool]:
    """Return frames (n, 4, 84, 84), rewards (n,) if there are any, and whether it was a single observation."""
    rewards = None
    if isinstance(observation, dict):
        observation, rewards = observation["frames"], observation["reward"].reshape(-1)
    frames = np.asarray(observation)
    shape = frames.shape[-3:]
    if frames.dtype != np.uint8 or shape not in (FRAMES, CHANNEL_LAST) or frames.ndim not in (3, 4):
        raise InputError(f"expected frames (n, 4, 84, 84) uint8, got {frames.dtype} of shape {frames.shape}")
    if shape == CHANNEL_LAST:
        frames = np.moveaxis(frames, -1, -3)
    single = frames.ndim == 3
    return np.ascontiguousarray(frames[None] if single else frames), rewards, single


class VecRewardObservation(VecEnvWrapper):
    """Observations become `{"frames": observation, "reward": the reward of the step that led to it}`.

    Stable-Baselines3's `evaluate_policy` shows a policy observations alone. A decision transformer asks for the return that
    is still to come, so it has to see what has come in. The reward, (n_envs, 1) float32, is 0 after `reset`; after an
    episode's end it is still the one that the last episode ended with.

    Args:
        venv: Environment of any kind.
    """

    def __init__(self, venv: VecEnv) -> None:
        reward = Box(-np.inf, np.inf, (1,), np.float32)
        super().__init__(venv, observation_space=Dict({"frames": venv.observation_space, "reward": reward}))

    def reset(self) -> Observation:
        """Reset the environments."""
        return _join(self.venv.reset(), np.zeros(self.num_envs, np.float32))

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Collect the step's results; each `terminal_observation` is made of two as well."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for i in np.flatnonzero(dones).tolist():
            if "terminal_observation" in infos[i]:
                infos[i]["terminal_observation"] = _join(infos[i]["terminal_observation"], rewards[i])
        return _join(observations, rewards), rewards, dones, infos


def _join(frames: Any, reward: NDArray[np.float32]) -> Observation:
    return {"frames": frames, "reward": np.asarray(reward, np.float32)[..., None]}
