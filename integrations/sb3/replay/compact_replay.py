"""A replay buffer that holds each frame once, where Stable-Baselines3's holds it eight times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict, Space
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.replay.observation_store import ObservationStore, check_discrete, check_memory

Observations = NDArray[Any] | dict[str, NDArray[Any]]
_ARRAYS = ("actions", "rewards", "dones", "timeouts")
_PLACES = ("before", "after")  # of an observation store


class CompactReplayBuffer(ReplayBuffer):
    """Replay buffer of n-step transitions that stores each observation, and each frame of a stack, once.

    Returns end where episodes do: after a time-out (`TimeLimit.truncated`) they are bootstrapped, with the discount of the
    steps there were, from the true final observation. The same happens where an observation is not the one that followed the
    last step although no episode ended, as after a `reset` in between.

    Memory is allocated when the first transition is added, so an agent that only plays takes none, whatever its `buffer_size`.

    Args:
        buffer_size: Number of transitions, of all environments together.
        observation_space: Space of one environment's observations.
        action_space: Space of one environment's actions.
        device: Device of the samples; `auto` takes an accelerator if there is one.
        n_envs: Number of environments.
        optimize_memory_usage: Argument without effect, as memory is saved anyway.
        handle_timeout_termination: Whether time-outs are told from ends.
        n_steps: Number of rewards that are summed before bootstrapping, at least 1.
        gamma: Discount of each step.

    Raises:
        InputError: When `n_steps` is not positive, or a space is of numbers that do not count from 0 or make a table. When
            transitions are added, and by `check_size`: when the buffer is too small for `n_steps`, or too large for the free
            memory.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: Space[Any],
        action_space: Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
    ) -> None:
        check_discrete(observation_space, "observations")
        check_discrete(action_space, "actions")
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if n_steps < 1:
            raise InputError(f"n_steps must be at least 1, got {n_steps}")
        self.optimize_memory_usage, self.handle_timeout_termination = optimize_memory_usage, handle_timeout_termination
        self.n_steps, self.gamma = n_steps, gamma
        self.buffer_size, self._asked_size = max(buffer_size // n_envs, 1), buffer_size
        self._spaces: dict[str, Space[Any]] = (
            dict(observation_space.spaces) if isinstance(observation_space, Dict) else {"": observation_space}
        )
        self._powers = gamma ** np.arange(n_steps + 1, dtype=np.float32)
        self.reset()

    def check_size(self) -> None:
        """Check that there are places for transitions of n steps, and memory for all.

        Raises:
            InputError: When the buffer is too small for `n_steps`, or too large for the free memory.
        """
        needed = (self.n_steps + 1) * self.n_envs
        if self._asked_size < needed:
            raise InputError(
                f"the buffer must hold at least {needed} transitions, not {self._asked_size}: n_steps + 1 of each environment"
            )
        if not self._stores:
            what = f"a replay buffer of {self._asked_size:,} transitions"
            check_memory(self.bytes_per_transition() * self.buffer_size * self.n_envs, what, "lower buffer_size")

    def bytes_per_transition(self) -> float:
        """Return the bytes of memory that one transition takes."""
        observations = sum(ObservationStore.bytes_for(space) for space in self._spaces.values())
        return observations + self.action_dim * np.dtype(self.action_space.dtype).itemsize + 4 + 2

    def reset(self) -> None:
        """Forget everything, and free the memory."""
        super().reset()
        self._stores: dict[str, ObservationStore] = {}

    def _allocate(self) -> None:
        """Allocate memory, unless that was done."""
        if self._stores:
            return
        self.check_size()
        rows, n_envs = self.buffer_size, self.n_envs
        self._stores = {key: ObservationStore(space, rows, n_envs) for key, space in self._spaces.items()}
        self.actions = np.zeros((rows, n_envs, self.action_dim), self._maybe_cast_dtype(self.action_space.dtype))
        self.rewards = np.zeros((rows, n_envs), np.float32)
        self.dones = np.ones((rows, n_envs), np.bool_)
        self.timeouts = np.zeros((rows, n_envs), np.bool_)

    def add(
        self,
        obs: Observations,
        next_obs: Observations,
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Add a transition of every environment, the next in time.

        Args:
            obs: Observations before the step, (n_envs, ...).
            next_obs: Observations after it, (n_envs, ...); at an episode's end its final one.
            action: Actions, (n_envs,) or (n_envs, action dimensions).
            reward: Rewards, (n_envs,).
            done: Whether the episode ended, (n_envs,).
            infos: Infos of each environment.
        """
        self._allocate()
        row, newest = self.pos, self.pos - 1
        goes_on = np.ones(self.n_envs, np.bool_)
        for key, store in self._stores.items():
            before, after = (each[key] if isinstance(each, dict) else each for each in (obs, next_obs))
            goes_on &= store.write(row, before, after, self.full)
        self.timeouts[newest] |= ~goes_on & ~self.dones[newest]
        self.dones[newest] |= ~goes_on

        self.actions[row] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[row], self.dones[row], self.timeouts[row] = reward, done, False
        if self.handle_timeout_termination:
            self.timeouts[row] = self.dones[row] & [bool(info.get("TimeLimit.truncated", False)) for info in infos]
        self.pos = (row + 1) % self.buffer_size
        self.full |= self.pos == 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that it holds as arrays by name, without the room that was never used."""
        self._allocate()
        arrays = {name: getattr(self, name)[: self.size()] for name in _ARRAYS}
        for key, store in self._stores.items():
            arrays.update({f"observations{key}/{name}": array for name, array in store.arrays().items()})
        return {"position": np.array([self.pos, self.full]), **arrays}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over the `arrays` of a buffer of the same sizes, or of one for fewer transitions."""
        self._allocate()
        self.pos, self.full = int(arrays["position"][0]), bool(arrays["position"][1])
        for name in _ARRAYS:
            getattr(self, name)[: self.size()] = arrays[name]
        for key, store in self._stores.items():
            prefix = f"observations{key}/"
            store.restore({name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)})

    def save(self, file: Any) -> None:
        """Write what it holds, without pickle, to a path or file, `.npz`."""
        np.savez(file, **self.arrays())  # type: ignore[arg-type]  # no name of an array is one of savez's own arguments

    def load(self, file: Any) -> None:
        """Read what `save` of a buffer of the same sizes, or of one for fewer transitions, has written."""
        with np.load(file) as saved:
            self.restore(self._in_order(saved))

    def _in_order(self, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Return the arrays of a smaller, full buffer with the oldest step first, so that the next follows the newest."""
        (position, full), rows = arrays["position"].tolist(), len(arrays["rewards"])
        if not full or rows >= self.buffer_size:
            return arrays
        of_rows = {*_ARRAYS, "ready", "priorities", *(f"observations{key}/{n}" for key in self._spaces for n in _PLACES)}
        rolled = {
            name: np.roll(array, -position * (len(array) // rows), axis=0) if name in of_rows else array
            for name, array in arrays.items()
        }
        return {**rolled, "position": np.array([rows, False])}

    @property
    def is_ready(self) -> bool:
        """Whether there are transitions whose n steps are over."""
        return self.size() >= self.n_steps

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw transitions uniformly, but for the newest, whose n steps are not over.

        Before there are others, all are drawn, with the steps that there were: agents such as DQN do not wait.

        Raises:
            InputError: When nothing was added.
        """
        self._check_not_empty()
        count = self.size() - self.n_steps + 1 if self.is_ready else self.size()
        rows = np.random.randint(0, count, size=batch_size)
        return self._get_samples((rows + self.pos * self.full) % self.buffer_size, env)

    def _check_not_empty(self) -> None:
        if self.size() == 0:
            raise InputError("there is nothing to sample among 0 steps; raise learning_starts")

    def _get_samples(self, batch_inds: NDArray[np.int64], env: VecNormalize | None = None) -> ReplayBufferSamples:
        envs = np.random.randint(self.n_envs, size=len(batch_inds))
        return self.transitions(batch_inds * self.n_envs + envs, env)

    def transitions(self, index: NDArray[np.int64], env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Return the n-step transitions that begin at `index` (B,), row * n_envs + environment, for each.

        Observations are (B, ...), as many tensors as the space has entries; actions (B, action dimensions); rewards, dones
        (1.0 where there is nothing to bootstrap) and discounts (of the next observation's value) are (B, 1) float32.
        """
        steps = (index[:, None] + np.arange(self.n_steps) * self.n_envs) % self.dones.size
        newest = (self.pos - 1) % self.buffer_size  # after which nothing is known
        ends = self.dones.ravel()[steps] | (steps // self.n_envs == newest)
        ends[:, -1] = True
        last = ends.argmax(axis=1)
        final = steps[np.arange(len(index)), last]
        rewards = self._normalize_reward(self.rewards.ravel()[steps], env) * self._powers[:-1]
        rewards[np.arange(self.n_steps) > last[:, None]] = 0
        over = self.dones.ravel()[final] & ~self.timeouts.ravel()[final]
        return ReplayBufferSamples(
            observations=self._observations({key: store.before(index) for key, store in self._stores.items()}, env),
            actions=self._tensor(self.actions.reshape(-1, self.action_dim)[index]),
            next_observations=self._observations({key: store.after(final) for key, store in self._stores.items()}, env),
            dones=self._tensor(over[:, None].astype(np.float32)),
            rewards=self._tensor(rewards.sum(axis=1, keepdims=True)),
            discounts=self._tensor(self._powers[last + 1][:, None]),
        )

    @property
    def observations(self) -> Any:  # type: ignore[override]  # nobody writes into it
        """Observations before all steps, (rows, n_envs, ...), zeros where there was none; for Dict an array for each key.

        They are put together when they are asked for, and take as much memory as in Stable-Baselines3's own buffer.
        """
        self._allocate()
        index = np.arange(self.buffer_size * self.n_envs)
        read = {key: store.before(index) for key, store in self._stores.items()}
        shaped = {key: each.reshape(self.buffer_size, self.n_envs, *each.shape[1:]) for key, each in read.items()}
        return shaped if isinstance(self.observation_space, Dict) else shaped[""]

    def observations_at(self, index: NDArray[np.int64]) -> Observations:
        """Return the observations before the steps numbered `index`, (B,) int64 of row * n_envs + environment: (B, ...)."""
        read: dict[str, NDArray[Any]] = {key: store.before(index) for key, store in self._stores.items()}
        return read if isinstance(self.observation_space, Dict) else read[""]

    def _observations(self, read: dict[str, NDArray[Any]], env: VecNormalize | None) -> Any:
        if isinstance(self.observation_space, Dict):
            normal = self._normalize_obs(read, env)
            return {key: self._tensor(normal[key]) for key in read}
        return self._tensor(self._normalize_obs(read[""], env))

    def _tensor(self, array: Any) -> Tensor:
        # Reading has copied it already.
        return self.to_torch(array, copy=False)


def check_replay_buffer(agent: BaseAlgorithm) -> None:
    """Check an agent's replay buffer, if it is one of this package's, before the agent learns.

    Raises:
        InputError: When the buffer is too small for `n_steps`, too large for the free memory, or of another discount.
    """
    buffer, gamma = getattr(agent, "replay_buffer", None), getattr(agent, "gamma", None)
    if isinstance(buffer, CompactReplayBuffer):
        buffer.check_size()
        if buffer.gamma != gamma:
            raise InputError(f"the agent discounts by gamma={gamma}, but its replay buffer by gamma={buffer.gamma}")
