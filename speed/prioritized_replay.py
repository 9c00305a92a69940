"""Prioritized replay: drawing a batch of 32 and changing its priorities, with 100,000 transitions.

- `SumTree`, which does either for the whole batch at once, beside the sum tree that most implementations have: a binary one
  in an array, in which a recursive function goes down, and another one up, for each transition.
- `PrioritizedReplayBuffer` as an agent uses it, `sample` and `update_priorities`: of vectors and of stacks of Atari frames.

One thread. The trees take turns; of each the fastest turn counts, which what else the machine does slows down least.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from support.report import parser, report

from pretrainrl.integrations.sb3.replay.prioritized_replay import PrioritizedReplayBuffer, SumTree

BATCH, ENVS, CALLS = 32, 8, 20


class RecursiveTree:
    """A binary sum tree, one priority at a time.

    Args:
        size: how many priorities.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.nodes = np.zeros(2 * size - 1)  # the priorities are the last

    def _propagate(self, node: int, change: float) -> None:
        parent = (node - 1) // 2
        self.nodes[parent] += change
        if parent > 0:
            self._propagate(parent, change)

    def _retrieve(self, node: int, mass: float) -> int:
        left = 2 * node + 1
        if left >= len(self.nodes):
            return node
        if mass <= self.nodes[left]:
            return self._retrieve(left, mass)
        return self._retrieve(left + 1, mass - self.nodes[left])

    def set(self, index: int, priority: float) -> None:
        """Change one priority."""
        node = index + self.size - 1
        change = priority - self.nodes[node]
        self.nodes[node] = priority
        self._propagate(node, change)

    def draw(self, count: int) -> list[tuple[int, float]]:
        """Indices and priorities, one from each of `count` parts of equal mass."""
        part = self.nodes[0] / count
        nodes = [self._retrieve(0, np.random.uniform(part * k, part * (k + 1))) for k in range(count)]
        return [(node - self.size + 1, self.nodes[node]) for node in nodes]


def trees(size: int) -> dict[str, Callable[[NDArray[np.float64]], object]]:
    """Functions that draw a batch and give it new priorities."""
    fast, slow, all_of_them = SumTree(size), RecursiveTree(size), np.random.rand(size)
    fast.set(np.arange(size), all_of_them)
    for index, priority in enumerate(all_of_them.tolist()):
        slow.set(index, priority)

    def vectorised(priorities: NDArray[np.float64]) -> None:
        fast.set(fast.draw(BATCH)[0], priorities)

    def recursive(priorities: NDArray[np.float64]) -> None:
        for (index, _), priority in zip(slow.draw(BATCH), priorities.tolist(), strict=True):
            slow.set(index, priority)

    return {"recursive sum tree": recursive, "`SumTree`": vectorised}


def buffer(size: int, space: Box, n_steps: int) -> Callable[[NDArray[np.float64]], object]:
    """Return what samples and updates a full buffer of such observations."""
    replay = PrioritizedReplayBuffer(size, space, Discrete(6), "cpu", ENVS, n_steps=n_steps)
    obs = np.zeros((ENVS, *space.shape), space.dtype)
    for _ in range(size // ENVS):
        new = np.random.randint(0, 256, (ENVS, 1, *space.shape[1:])).astype(space.dtype)
        following = np.concatenate([obs[:, 1:], new], axis=1)
        replay.add(obs, following, np.zeros(ENVS, np.int64), np.ones(ENVS), np.zeros(ENVS, np.bool_), [{}] * ENVS)
        obs = following

    def use(priorities: NDArray[np.float64]) -> None:
        replay.update_priorities(replay.sample(BATCH).indices, priorities)

    return use


def microseconds(use: Callable[[NDArray[np.float64]], object]) -> float:
    """Time of a call, mean of some."""
    priorities = np.random.rand(CALLS, BATCH)
    began = time.perf_counter()
    for each in priorities:
        use(each)
    return (time.perf_counter() - began) / CALLS * 1e6


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, default=100_000, help="transitions; those of frames take 7 kB each")
    arguments.add_argument("--turns", type=int, default=200)
    args = arguments.parse_args()
    torch.set_num_threads(1)
    ways = trees(args.size)
    ways["`PrioritizedReplayBuffer` of vectors, 1 step"] = buffer(args.size, Box(0, 255, (8,)), 1)
    ways["`PrioritizedReplayBuffer` of vectors, 10 steps"] = buffer(args.size, Box(0, 255, (8,)), 10)
    frames = Box(0, 255, (4, 84, 84), np.uint8)
    ways["`PrioritizedReplayBuffer` of Atari frames, 10 steps"] = buffer(args.size, frames, 10)
    turns = [{name: microseconds(use) for name, use in ways.items()} for _ in range(args.turns)]
    best = {name: min(turn[name] for turn in turns) for name in ways}
    rows = [["sample and update of 32", "microseconds", "faster by"]]
    for name in ways:
        faster = f"**{best['recursive sum tree'] / best[name]:.1f}x**" if "tree" in name.lower() else ""
        rows.append([name, f"{best[name]:,.0f}", faster])
    remark = f"{args.size:,} transitions; the best of {args.turns} turns of {CALLS} calls; one thread."
    report("prioritized_replay", rows, remark, write=args.write)


if __name__ == "__main__":
    main()
