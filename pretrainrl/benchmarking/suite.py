"""Suites: which games, data, agents and budgets a benchmark has. A suite is one TOML file and runs no code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pretrainrl.agent_cards import AgentPreset, find_agent_card
from pretrainrl.cards import Card, Scalar, is_path
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import find_game
from pretrainrl.paths import resolve_path
from pretrainrl.registry import Registry

SPLITS = ("id", "near_ood", "far_ood")
Kind = Literal["finetune", "probe", "zero_shot"]


class Task(Card):
    """What is done with an encoder on each game.

    Attributes:
        kind: `finetune` lets an agent learn on the encoder; `probe` fits linear classifiers to its features; `zero_shot` lets
            the objective that trained it play, of run folders of `bc`, `cql_m`, `cql_d` and `dt` only.
        agent: Name of the agent's card; of `finetune` only, as are the next four.
        preset: Name of the settings on that card.
        features: Kind of features that the agent observes, as for `pretrainrl.finetune`.
        neck: Name of what is trained after the encoder.
        n_envs: Number of games played together.
        length: Budget: steps of all games together, or epochs of agents that learn from a dataset; of `probe`, the greatest
            number of observations. Nothing is learned in `zero_shot`, so it has none.
        dataset: Minari id with `{game}` in the game's place; None where nothing is learned from a dataset.
        metric: Metric of `probe` that counts as the score, as in a card's metrics.
        returns: Shares of the best return in the data that `dt` is asked for in `zero_shot`. The best share is played again.
        minutes: Minutes of one core that a cell with a frozen encoder took where the suite was written.
        end_to_end_minutes: Minutes of one core that a cell took whose encoder is trained.
    """

    kind: Kind = "finetune"
    agent: str | None = None
    preset: str | None = None
    features: str | None = None
    neck: Literal["mlp", "spatial", "spatial_mlp"] = "mlp"
    n_envs: int = Field(default=8, ge=1)
    length: int | None = Field(default=None, ge=1)
    dataset: str | None = None
    metric: str = "action_accuracy"
    returns: tuple[float, ...] = (0.25, 0.5, 1.0)
    minutes: float | None = Field(default=None, gt=0)
    end_to_end_minutes: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Task:
        if self.dataset is not None and "{game}" not in self.dataset:
            raise ValueError(f"a task's dataset must have {{game}} in its id, got {self.dataset!r}")
        wanted = {"finetune": ("agent", "preset", "length"), "probe": ("length", "dataset"), "zero_shot": ()}[self.kind]
        missing = [name for name in wanted if getattr(self, name) is None]
        if missing:
            raise ValueError(f"a task of kind {self.kind} needs {', '.join(missing)}")
        if self.kind == "finetune":
            _known(self._settings)
        return self

    def settings(self) -> dict[str, Scalar]:
        """Return all that a cell's result depends on but its budget; of an agent's preset the values, too, as a digest."""
        fields = self.model_dump(mode="json", exclude_none=True, exclude={"length", "minutes", "end_to_end_minutes"})
        table = {name: value if isinstance(value, Scalar) else json.dumps(value) for name, value in fields.items()}
        if self.kind == "finetune":
            values = json.dumps(self._settings().flat(), sort_keys=True)
            table["preset_sha256"] = hashlib.sha256(values.encode()).hexdigest()[:16]
        return table

    def _settings(self) -> AgentPreset:
        assert self.agent is not None and self.preset is not None
        return find_agent_card(self.agent, "finetune").preset(self.preset)


class Evaluation(Card):
    """How agents are evaluated when they have learned.

    Attributes:
        episodes: Number of whole games. They are spread over environments, and only the first of each environment count.
        max_episode_steps: Steps after which a game is cut.
        epsilon: Share of random actions among greedy ones; None for what the agent's card says.
        sticky_actions: Chance that the game repeats the last action, in learning and evaluation.
    """

    episodes: int = Field(ge=1)
    max_episode_steps: int = Field(ge=1)
    epsilon: float | None = Field(default=None, ge=0, le=1)
    sticky_actions: float = Field(default=0.0, ge=0, le=1)


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
    seeds: int = Field(ge=1, le=1000)
    dtype: Literal["float32", "bfloat16"] = "float32"
    backbone: str = Field(pattern=r"^\w+$")
    encoders: tuple[str, ...]

    @model_validator(mode="after")
    def _check(self) -> Suite:
        if unknown := [split for split in self.games if split not in SPLITS]:
            raise ValueError(f"splits are {', '.join(SPLITS)}, not {', '.join(unknown)}")
        if not self.tasks or not any(self.games.values()):
            raise ValueError("a suite has at least one game and one task")
        for name in self.tasks:
            if not re.fullmatch(r"[\w-]+", name):  # a folder of results is called after it
                raise ValueError(f"the name of a task has letters, digits, hyphens and underscores, got {name!r}")
        for game in (game for games in self.games.values() for game in games):
            _known(partial(find_game, game))
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
        name: Registered name, which is looked up first; or the path of a file, which ends in `.toml`.

    Raises:
        UnknownNameError: No suite has the name.
        CardError: The file cannot be read, or a field is wrong.
    """
    if isinstance(name, Path) or (name not in SUITES and is_path(name, ".toml")):
        return Suite.read(resolve_path(name))
    return SUITES.get(name)


def _known(find: Callable[[], object]) -> None:
    """Raise the error of a field, which names the file, where `find` finds no such name."""
    try:
        find()
    except UnknownNameError as error:
        raise ValueError(str(error)) from error
