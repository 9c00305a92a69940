"""Prioritized experience replay (Schaul et al., https://arxiv.org/abs/1511.05952) for Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Space
from numpy.typing import NDArray
from stable_baselines3.common.type_aliases import TensorDict
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer, Observations

_LEAST = 1e-6  # of priorities: without it, what had no error once would never be replayed again


class PrioritizedReplayBufferSamples(NamedTuple):
    """What `PrioritizedReplayBuffer` gives: the fields of SB3's `ReplayBufferSamples`, and two more.

    Attributes:
        observations: Observations, (B, ...), or one such tensor for each key.
        actions: Actions, (B, action dimensions).
        next_observations: Observations n steps later, or the final ones of episodes that end before.
        dones: Ends, (B, 1) float32, 1 where there is nothing to bootstrap.
        rewards: Discounted sums of n rewards, (B, 1) float32.
        discounts: Discounts of the next observations' values, (B, 1) float32.
        weights: Weights of the losses, (B, 1) float32 in [0, 1]; the largest is 1.
        indices: Places of the transitions, (B,) int64, for `update_priorities`.
    """

    observations: Tensor | TensorDict
    actions: Tensor
    next_observations: Tensor | TensorDict
    dones: Tensor
    rewards: Tensor
    discounts: Tensor
    weights: Tensor
    indices: NDArray[np.int64]


class PrioritizedReplayBuffer(CompactReplayBuffer):
    """Replay that draws transitions in proportion to their priority to the power of `alpha`.

    New transitions have the largest priority there was, at first 1, from when their n steps are over. Priorities are a
    millionth at least, so what was learned without an error is seldom drawn, but not never. A batch has one transition from
    each of its parts of equal mass. Agents that know nothing of weights, such as DQN and QRDQN, can use it too: without
    `update_priorities` all transitions are equally likely.

    Memory is allocated when the first transition is added, so an agent that only plays takes none, whatever its `buffer_size`.

    Args:
        buffer_size: Number of transitions, of all environments together.
        observation_space: Space of one environment's observations; a stack of frames (stack, height, width) uint8 takes the
            room of one.
        action_space: Space of one environment's actions.
        device: Device of the samples; `auto` takes an accelerator if there is one.
        n_envs: Number of environments.
        optimize_memory_usage: Argument without effect, as memory is saved anyway.
        handle_timeout_termination: Whether time-outs are told from ends.
        n_steps: Number of rewards that are summed before bootstrapping, at least 1.
        gamma: Discount of each step.
        alpha: Exponent of priorities, at least 0; 0 is uniform replay.

    Raises:
        InputError: When `alpha` is negative or `n_steps` not positive. When transitions are added, and by `check_size`: when
            the buffer is too small for `n_steps`, or too large for the free memory.
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
        alpha: float = 0.5,
    ) -> None:
        if not alpha >= 0:
            raise InputError(f"alpha must be at least 0, got {alpha}")
        self.alpha = alpha
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
            n_steps=n_steps,
            gamma=gamma,
        )

    def bytes_per_transition(self) -> float:
        """Return the bytes of memory that one transition takes."""
        return super().bytes_per_transition() + SumTree.bytes_for(1) + 1

    def reset(self) -> None:
        """Forget everything, and free the memory."""
        super().reset()
        self._largest = 1.0

    def _allocate(self) -> None:
        if self._stores:
            return
        super()._allocate()
        self._tree = SumTree(self.buffer_size * self.n_envs)
        self._ready = np.zeros((self.buffer_size, self.n_envs), np.bool_)  # n steps are over, or the episode is

    def add(
        self,
        obs: Observations,
        next_obs: Observations,
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Add a transition of every environment, the next in time, as `CompactReplayBuffer.add`."""
        row, envs = self.pos, np.arange(self.n_envs)
        super().add(obs, next_obs, action, reward, done, infos)
        self._ready[row] = False
        self._tree.set(row * self.n_envs + envs, 0.0)
        # An end makes all that lead to it ready; otherwise it is the turn of those that began n steps ago.
        ages = np.arange(min(self.n_steps, self.size()))
        rows = (row - ages) % self.buffer_size
        fresh = (self.dones[row] | (ages[:, None] == self.n_steps - 1)) & ~self._ready[rows]
        self._ready[rows] |= fresh
        self._tree.set((rows[:, None] * self.n_envs + envs)[fresh], self._mass(self._largest))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all that it holds as arrays by name, without the room that was never used."""
        arrays = super().arrays()
        own = {"ready": self._ready[: self.size()], "largest": np.array(self._largest)}
        return {**arrays, **own, "priorities": self._tree.get(self._places())}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over the `arrays` of a buffer of the same sizes, or of one for fewer transitions."""
        super().restore(arrays)
        self._ready[: self.size()] = arrays["ready"]
        self._largest = float(arrays["largest"])
        self._tree.set(self._places(), arrays["priorities"])

    def _places(self) -> NDArray[np.int64]:
        """Return the numbers of the transitions that are stored."""
        return np.arange(self.size() * self.n_envs)

    @property
    def is_ready(self) -> bool:
        """Whether there are transitions whose n steps are over, or their episode is."""
        return bool(self._stores) and self._tree.total > 0

    def sample(  # type: ignore[override]
        self, batch_size: int, env: VecNormalize | None = None, *, beta: float = 0.4
    ) -> PrioritizedReplayBufferSamples:
        """Draw transitions by priority.

        Before any is ready, all are drawn alike, with the steps that there were: agents such as DQN do not wait.

        Args:
            batch_size: Number of transitions.
            env: Environment whose statistics normalize observations and rewards; None for none.
            beta: Degree to which the weights make up for the priorities: 0 not at all, 1 wholly.

        Returns:
            Them, with weights `(1 / probability) ** beta`, divided by the batch's largest.

        Raises:
            InputError: When nothing was added.
        """
        self._check_not_empty()
        if self.is_ready:
            indices, masses = self._tree.draw(batch_size)
        else:
            indices, masses = np.random.randint(0, self.size() * self.n_envs, size=batch_size), np.ones(batch_size)
        weights = (masses.min() / masses) ** beta
        return PrioritizedReplayBufferSamples(
            *self.transitions(indices, env),  # type: ignore[arg-type]
            weights=self._tensor(weights.astype(np.float32)[:, None]),
            indices=indices,
        )

    def update_priorities(self, indices: NDArray[np.int64] | Tensor, priorities: NDArray[Any] | Tensor) -> None:
        """Give transitions new priorities.

        Args:
            indices: Indices (B,), from `sample`. Of equal ones the last counts. What was overwritten since is left out until
                its successor's n steps are over.
            priorities: Priorities, (B,) or (B, 1), usually losses, finite and at least 0.

        Raises:
            InputError: When a priority is negative or not finite, or there is not one for each index.
        """
        index, new = _array(indices, np.int64), _array(priorities, np.float64)
        if index.shape != new.shape:
            raise InputError(f"expected a priority for each index, got {len(new)} for {len(index)}")
        if len(new) == 0:
            return
        largest = float(new.max())
        if not (new.min() >= 0 and largest < np.inf):
            raise InputError("priorities must be finite and at least 0; has the loss diverged?")
        self._largest = max(self._largest, largest)
        self._tree.set(index, np.where(self._ready.ravel()[index], self._mass(new), 0.0))

    def _mass(self, priority: Any) -> Any:
        """Return the share of the draws that priorities stand for, positive and finite whatever `alpha` is."""
        return np.exp(np.clip(self.alpha * np.log(np.maximum(priority, _LEAST)), -200, 200))


def _array(values: Any, dtype: Any) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype).reshape(-1)


_FAN_OUT = 16  # children of a node: few levels, for numpy is slow to call and fast once it runs
_TOP = 512  # so many sums are scanned rather than summed up once more


class SumTree:
    """Non-negative priorities with their sums over blocks of 16, over blocks of those blocks, and so on.

    A batch goes down the tree together, one level at a time. A level's sums are always made anew from the level below and
    never changed by differences, so they do not drift, and an index that is given twice does no harm.

    Args:
        size: Number of priorities; all are zero at first.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._levels: list[NDArray[np.float64]] = []  # the priorities first
        while not self._levels or size > _TOP:
            blocks = -(-size // _FAN_OUT)
            self._levels.append(np.zeros((blocks, _FAN_OUT)))
            size = blocks
        self._top = np.zeros(size)

    @staticmethod
    def bytes_for(size: int) -> float:
        """Return about how many bytes of memory a tree of `size` priorities takes."""
        return size * 8 * (1 + 2 / _FAN_OUT)

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._top.sum())

    def get(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the priorities at `indices`, of the same shape."""
        return self._levels[0].ravel()[indices]

    def set(self, indices: NDArray[np.int64], priorities: NDArray[np.float64] | float) -> None:
        """Change the priorities at `indices` (B,) to `priorities` (B,) or to one for all; of equal indices the last counts."""
        self._levels[0].ravel()[indices] = priorities
        for level, above in zip(self._levels, [*self._levels[1:], self._top], strict=True):
            indices = indices // _FAN_OUT
            above.ravel()[indices] = np.add.reduce(level[indices], axis=1)

    def draw(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Draw one index from each of `count` parts of equal mass, with numpy's global generator.

        Returns:
            Indices (count,), of positive priority each, and their priorities (count,).

        Raises:
            ValueError: When all priorities are zero.
        """
        bounds = np.add.accumulate(self._top)
        if not bounds[-1] > 0:
            raise ValueError("all priorities are zero")
        masses = (np.arange(count) + np.random.random_sample(count)) * (bounds[-1] / count)
        # Rounding must not carry a mass beyond the last positive priority, here and below.
        np.minimum(masses, np.nextafter(bounds[-1], 0), out=masses)
        indices = bounds.searchsorted(masses, side="right")
        masses -= np.where(indices > 0, bounds[indices - 1], 0.0)
        for level in reversed(self._levels):
            # The children of all nodes in one row: one search finds the child of each.
            bounds = np.zeros(count * _FAN_OUT + 1)
            np.add.accumulate(level.take(indices, axis=0).ravel(), out=bounds[1:])
            masses += bounds[:-1:_FAN_OUT]
            np.minimum(masses, np.nextafter(bounds[_FAN_OUT::_FAN_OUT], 0), out=masses)
            places = bounds[1:].searchsorted(masses, side="right")
            masses -= bounds[places]
            indices = indices[places // _FAN_OUT] * _FAN_OUT + places % _FAN_OUT
        return indices, self.get(indices)
