"""Experience of several environments, made up, and what a replay buffer must make of it, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space
from numpy.typing import NDArray

STACK = Box(0, 255, (4, 5, 6), np.uint8)
SPACES: dict[str, Space[Any]] = {
    "zero-padded stack": STACK,
    "repeating stack": STACK,
    "rgb stack": Box(0, 255, (12, 13, 14), np.uint8),
    "picture": Box(0, 255, (4, 5, 6), np.uint8),
    "features": Box(-1, 1, (7,), np.float16),
    "number": Discrete(9),
    "dict": Dict({"frames": STACK, "last": Box(-9, 9, (2,), np.float32)}),
}


@dataclass
class Step:
    """One step of all environments; `cut`: the next one goes on elsewhere, although no episode ended."""

    obs: Any
    next_obs: Any
    actions: NDArray[np.int64]
    rewards: NDArray[np.float32]
    dones: NDArray[np.bool_]
    timeouts: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    def arguments(self) -> tuple[Any, ...]:
        """Return what `ReplayBuffer.add` takes."""
        infos = [{"TimeLimit.truncated": bool(each)} for each in self.timeouts]
        return self.obs, self.next_obs, self.actions, self.rewards, self.dones, infos


class _Eye:
    """What one environment's agent sees."""

    def __init__(self, kind: str, space: Space[Any], rng: np.random.Generator) -> None:
        self.kind, self.space, self.rng = kind, space, rng
        self.start()

    def look(self) -> NDArray[Any]:
        if isinstance(self.space, Discrete):
            return self.rng.integers(9, size=())
        low, high = (0, 4) if self.space.dtype == np.uint8 else (-1, 2)  # few values: equal frames and zero ones happen
        return self.rng.integers(low, high, size=self.space.shape).astype(self.space.dtype)

    def start(self) -> None:
        new = self.look()
        if "stack" in self.kind:
            size = len(new) // 4
            new[:-size] = 0 if "zero" in self.kind else np.tile(new[-size:], (3, 1, 1))
        self.obs = new

    def go_on(self) -> None:
        new = self.look()
        if "stack" in self.kind:
            size = len(new) // 4
            new = np.concatenate([self.obs[size:], new[-size:]])
        self.obs = new


def experience(kind: str, n_envs: int, steps: int, ends: float, seed: int) -> list[Step]:
    """Play `steps` steps; in `ends` of them something ends, each in its way: game over, time-out, lost life, unseen reset."""
    rng = np.random.default_rng(seed)
    space = SPACES[kind]
    spaces: dict[str, Any] = dict(space.spaces) if isinstance(space, Dict) else {"": space}
    names = {key: "zero-padded stack" if key == "frames" else kind for key in spaces}
    eyes = [{key: _Eye(names[key], each, rng) for key, each in spaces.items()} for _ in range(n_envs)]

    def seen() -> Any:
        all_seen = {key: np.stack([eye[key].obs for eye in eyes]) for key in spaces}
        return all_seen if isinstance(space, Dict) else all_seen[""]

    log = []
    for _ in range(steps):
        obs = seen()
        for eye in eyes:
            for part in eye.values():
                part.go_on()
        next_obs = seen()
        event = np.where(rng.random(n_envs) < ends, rng.integers(1, 5, size=n_envs), 0)
        for env in np.flatnonzero((event > 0) & (event != 3)):
            for part in eyes[env].values():
                part.start()
        actions, rewards = rng.integers(3, size=n_envs), rng.normal(size=n_envs).astype(np.float32)
        done = (event > 0) & (event < 4)
        log.append(Step(obs, next_obs, actions, rewards, done, event == 2, event == 4))
    for now, after in pairwise(log):
        for env in np.flatnonzero(now.cut):
            now.cut[env] = not same(at(now.next_obs, int(env)), at(after.obs, int(env)))  # by chance it went on
    return log


def at(observations: Any, env: int) -> Any:
    """One environment's."""
    return {key: each[env] for key, each in observations.items()} if isinstance(observations, dict) else observations[env]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(same(one[key], other[key]) for key in one)
    return np.array_equal(np.asarray(one).reshape(-1), np.asarray(other).reshape(-1))


def is_ready(log: list[Step], t: int, env: int, n_steps: int) -> bool:
    """Whether n steps from `t` on are over, or an end was seen among them."""
    window = log[t : t + n_steps]
    return len(window) == n_steps or any(step.dones[env] for step in window)


def check(batch: Any, k: int, log: list[Step], t: int, env: int, n_steps: int, gamma: float) -> None:
    """Compare the k-th transition of a batch with the steps from `t` on."""
    total, discount = 0.0, 1.0
    for step in log[t : t + n_steps]:
        total += discount * float(step.rewards[env])
        discount *= gamma
        if step.dones[env] or (step.cut[env] and step is not log[-1]):
            break
    assert same(at(batch.observations, k), at(log[t].obs, env))
    assert same(at(batch.next_observations, k), at(step.next_obs, env))
    assert int(batch.actions[k]) == log[t].actions[env]
    assert abs(float(batch.rewards[k]) - total) < 1e-5
    assert abs(float(batch.discounts[k]) - discount) < 1e-6
    assert bool(batch.dones[k]) == bool(step.dones[env] and not step.timeouts[env])
