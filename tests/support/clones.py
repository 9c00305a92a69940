"""What tests of behaviour cloning look at: a dataset's observations made the slow way, and what was logged."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter, Logger

from pretrainrl.data.episode import Episode
from pretrainrl.integrations.minari import open_dataset


def cut(episode: Episode, length: int) -> list[Episode]:
    """An episode in pieces."""
    parts = []
    for start in range(0, len(episode) - length + 1, length):
        steps = slice(start, start + length)
        ends = np.arange(length) == length - 1
        arrays = (episode.actions[steps], episode.rewards[steps], np.zeros(length, bool), ends)
        parts.append(Episode(episode.frames[start : start + length + 1], *arrays, "pong"))
    return parts


def stacks(dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """All observations and actions of a dataset, made the slow way."""
    seen, actions = [], []
    for episode in open_dataset(dataset):
        frames = [np.zeros((84, 84), np.uint8)] * 3 + list(episode.frames)
        seen += [np.stack(frames[t : t + 4]) for t in range(len(episode))]
        actions += episode.actions.tolist()
    return np.stack(seen), np.array(actions)


class Log(KVWriter):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: Any, step: int = 0) -> None:
        self.rows.append({**key_values, "step": step})

    def close(self) -> None:
        pass


def log_of(model: BaseAlgorithm) -> list[dict[str, Any]]:
    log = Log()
    model.set_logger(Logger(None, [log]))
    return log.rows
