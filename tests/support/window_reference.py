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
        cut = spec.cut or (spec.bootstraps and bool(episode.terminations[-1]))
        last = len(episode) - (episode.metadata.get("final_observation") == "repeated")
        for t in range(len(episode) + 1):
            whole = t + spec.steps <= len(episode) and t + spec.future <= last
            if not (t < len(episode) if cut else whole):
                break
            frames = np.zeros((spec.stack + spec.future, 84, 84), np.uint8)
            valid = np.zeros(spec.stack + spec.future, np.bool_)
            for row, time in enumerate(range(t - spec.stack + 1, t + spec.future + 1)):
                if 0 <= time <= last:
                    frames[row], valid[row] = episode.frames[time], True
            times = range(t, t + spec.steps)
            taken = np.array([time < len(episode) for time in times], np.bool_)
            actions = np.array([episode.actions[time] if time < len(episode) else 0 for time in times], np.int64)
            rewards = np.array([episode.rewards[time] if time < len(episode) else 0 for time in times], np.float32)
            over = np.array([time >= len(episode) or episode.terminations[time] for time in times], np.bool_)
            game = ("boxing", "pong").index(episode.game) if len({e.game for e in episodes}) == 2 else 0
            sums = [return_from(episode, time, spec.returns) for time in times] if spec.returns else []
            parts = (frames, actions, rewards, over, game, valid, taken)
            windows.append((*parts, np.array(sums, np.float32)))
    return windows


def key(window: tuple[np.ndarray, ...]) -> bytes:
    """All of a window that is exact, in order that windows can be matched; returns are sums, and rounded."""
    return b"|".join(np.asarray(part).tobytes() for part in window[:7])


def rows(batch: Batch) -> list[tuple[np.ndarray, ...]]:
    read = (batch.frames, batch.actions, batch.rewards, batch.terminations, batch.games, batch.valid, batch.taken)
    tensors = (*read, batch.returns)
    return [tuple(tensor[i].numpy() for tensor in tensors) for i in range(len(batch.games))]
