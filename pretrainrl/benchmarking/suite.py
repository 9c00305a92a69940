"""Suites: which games, data, agents and budgets a benchmark has. A suite is one TOML file and runs no code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pretrainrl.cards import Card
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import find_game
from pretrainrl.registry import Registry

SPLITS = ("id", "near_ood", "far_ood")
Kind = Literal["imitation", "online", "zero_shot", "probe"]


class Task(Card):
    """What is done with an encoder on each game.

    Attributes:
        agent: Name of the agent's card.
        preset: Name of the settings on that card.
        length: Steps of all games together, or epochs of agents that learn from a dataset; the budget.
        dataset: Minari id with `{game}` in the game's place; None where the agent learns by playing.
    """

    agent: str
    preset: str
    length: int = Field(ge=1)
    dataset: str | None = None


class Evaluation(Card):
    """How agents are evaluated when they have learned: without sticky actions, greedy or drawn as the agent's card says.

    Attributes:
        episodes: Number of whole games. They are spread over environments, and only the first of each environment count.
        max_episode_steps: Steps after which a game is cut.
    """

    episodes: int = Field(ge=1)
    max_episode_steps: int = Field(ge=1)


class Suite(Card):
    """A benchmark's protocol.

    Attributes:
        name: Name, in lower case with hyphens.
        version: Number that grows when results before and after cannot be compared.
        title: Title for people.
        summary: Sentence on what the suite is for.
        games: Games of each split: `id` (known in pre-training), `near_ood` (similar ones), `far_ood` (novel ones).
        tasks: What is done with each encoder, by name.
        evaluation: How agents are evaluated.
        seeds: Number of seeds, which are 0, 1, ...
        dtype: Type that encoders compute in.
        backbone: Backbone of the baselines: untrained and frozen, and trained end to end.
        encoders: Encoders that are compared by default.
    """

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    version: int = Field(ge=1)
    title: str
    summary: str
    games: dict[str, tuple[str, ...]]
    tasks: dict[str, Task]
    evaluation: Evaluation
    seeds: int = Field(ge=1)
    dtype: Literal["float32", "bfloat16"] = "float32"
    backbone: str
    encoders: tuple[str, ...]

    @model_validator(mode="after")
    def _check(self) -> Suite:
        if unknown := [split for split in self.games if split not in SPLITS]:
            raise ValueError(f"splits are {', '.join(SPLITS)}, not {', '.join(unknown)}")
        if not self.tasks or not any(self.games.values()):
            raise ValueError("a suite has at least one game and one task")
        for name, task in self.tasks.items():
            if task.dataset is not None and "{game}" not in task.dataset:
                raise ValueError(f"the dataset of task {name} must have {{game}} in its id, got {task.dataset!r}")
        return self

    @property
    def splits(self) -> dict[str, str]:
        """Split of each game, which is one lower-case word, in the suite's order."""
        return {find_game(game).slug: split for split, games in self.games.items() for game in games}

    def select(
        self, tasks: Sequence[str] | None = None, games: Sequence[str] | None = None, seeds: int | None = None
    ) -> Iterator[tuple[str, str, int]]:
        """Yield task, game and seed of every cell of one encoder, all games of a seed before the next seed.

        Raises:
            UnknownNameError: The suite has no such task or game.
            InputError: The number of seeds is less than 1.
        """
        chosen = list(self.tasks) if tasks is None else list(tasks)
        for task in chosen:
            if task not in self.tasks:
                raise UnknownNameError.of(f"task of {self.name}", task, self.tasks)
        splits = self.splits
        slugs = list(splits) if games is None else [find_game(game).slug for game in games]
        for slug in slugs:
            if slug not in splits:
                raise UnknownNameError.of(f"game of {self.name}", slug, splits)
        count = self.seeds if seeds is None else seeds
        if count < 1:
            raise InputError(f"seeds must be at least 1, got {count}")
        for seed in range(count):
            for task in chosen:
                for slug in slugs:
                    yield task, slug, seed


SUITES: Registry[Suite] = Registry("suite", Suite.read, group="pretrainrl.suites")


def find_suite(name: str | Path) -> Suite:
    """Return a registered suite, or read one from a TOML file.

    Args:
        name: Registered name; or the path of a file, which ends in `.toml`.

    Raises:
        UnknownNameError: No suite has the name.
        CardError: The file cannot be read, or a field is wrong.
    """
    if isinstance(name, Path) or name.endswith(".toml"):
        return Suite.read(Path(name).expanduser())
    return SUITES.get(name)
