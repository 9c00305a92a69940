"""Windows cut from episodes one frame after the other: slow, and plain enough to be right."""

from typing import Any

import numpy as np

from pretrainrl.data.episode import Episode
from pretrainrl.data.windows import Batch, Returns, WindowSpec


def numbered(lengths: list[int]) -> list[Episode]:
    """Episodes whose frames, actions and rewards tell which episode and time they are of."""
    episodes = []
    for number, steps in enumerate(lengths):
        frames = np.zeros((steps + 1, 84, 84), np.uint8)
        frames[:, 0, 0], frames[:, 83, 83] = number + 1, np.arange(steps + 1) + 1
        ends = np.arange(steps) == steps - 1
        times = np.arange(steps)
        rewards = (1000 * number + times).astype(np.float32)
        episodes.append(Episode(frames, times, rewards, ends, ~ends & False, ("pong", "boxing")[number % 2]))
    return episodes


def random_episodes(lengths: list[int], seed: int) -> list[Episode]:
    """Episodes of random content, with rewards that clipping to the sign changes, cut or lost at their ends."""
    rng = np.random.default_rng(seed)
    episodes = []
    for number, steps in enumerate(lengths):
        frames = rng.integers(256, size=(steps + 1, 84, 84), dtype=np.uint8)
        frames[:, 3:] = 7  # compressible, so that blocks differ in size
        ends, lost = np.arange(steps) == steps - 1, bool(rng.integers(2))
        rewards = rng.integers(-3, 4, steps).astype(np.float32) * np.float32(0.7)
        game = ("pong", "boxing")[number % 2]
        episodes.append(Episode(frames, rng.integers(18, size=steps), rewards, ends & lost, ends & (not lost), game))
    return episodes


def return_from(episode: Episode, time: int, returns: Returns) -> float:
    """One discounted sum, reward by reward."""
    total, factor = 0.0, 1.0
    for step in range(time, len(episode)):
        if returns.steps is not None and step - time >= returns.steps:
            break
        total += factor * float(np.sign(episode.rewards[step]))
        factor *= returns.discount
    return total


def reference(episodes: list[Episode], spec: WindowSpec) -> list[tuple[Any, ...]]:
    """All windows in order, one episode and one frame after the other."""
    windows = []
    for episode in episodes:
        for t in range(len(episode) + 1):
            if t + max(spec.future, spec.steps) > len(episode):
                break
            frames = np.zeros((spec.stack + spec.future, 84, 84), np.uint8)
            valid = np.zeros(spec.stack + spec.future, np.bool_)
            for row, time in enumerate(range(t - spec.stack + 1, t + spec.future + 1)):
                if time >= 0:
                    frames[row], valid[row] = episode.frames[time], True
            steps = slice(t, t + spec.steps)
            game = ("boxing", "pong").index(episode.game) if len({e.game for e in episodes}) == 2 else 0
            sums = [return_from(episode, t + step, spec.returns) for step in range(spec.steps)] if spec.returns else []
            parts = (frames, episode.actions[steps], episode.rewards[steps], episode.terminations[steps], game, valid)
            windows.append((*parts, np.array(sums, np.float32)))
    return windows


def key(window: tuple[np.ndarray, ...]) -> bytes:
    """All of a window that is exact, in order that windows can be matched; returns are sums, and rounded."""
    return b"|".join(np.asarray(part).tobytes() for part in window[:6])


def rows(batch: Batch) -> list[tuple[np.ndarray, ...]]:
    tensors = (batch.frames, batch.actions, batch.rewards, batch.terminations, batch.games, batch.valid, batch.returns)
    return [tuple(tensor[i].numpy() for tensor in tensors) for i in range(len(batch.games))]
