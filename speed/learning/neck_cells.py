"""Which necks are compared, on what: a list of runs that do not depend on each other. Imports no torch.

Nothing is chosen on games that test what encoders know of games they have not seen: `check_games` refuses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import all_scores, find_game

Task = Literal["bc", "rainbow"]
Features = Literal["flat", "pooled", "map"]

TASKS: tuple[Task, ...] = ("bc", "rainbow")
GAMES = ("breakout", "boxing", "freeway")
ENCODERS = ("random.impala", "atc", "siammae")
SEEDS = 3
STEPS = 25_000  # of Rainbow, all environments together
EMBEDDINGS = 8  # of the spatial neck with several weighted sums of each channel
_SPLITS = {"id": "ID", "near_ood": "Near-OOD", "far_ood": "Far-OOD"}


@dataclass(frozen=True)
class NeckSetting:
    """A neck, and the features that it reads.

    Attributes:
        features: Kind of features.
        normalization: Kind of normalization, `standardize`, `layer` or None.
        neck: Name of the neck.
        embeddings: Number of weighted sums of each channel, of `spatial` only.
    """

    features: Features
    normalization: Literal["standardize", "layer"] | None
    neck: Literal["mlp", "spatial", "spatial_mlp"]
    embeddings: int = 1

    @property
    def name(self) -> str:
        """Features, normalization and neck, e.g. `map-layer-spatial8`."""
        count = f"{self.embeddings}" if self.embeddings > 1 else ""
        return f"{self.features}-{self.normalization or 'none'}-{self.neck}{count}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `neck_policy_kwargs`."""
        return {"neck": self.neck, "normalization": self.normalization, "embeddings": self.embeddings}


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        task: What learns: `bc`, a clone of recorded play, or `rainbow`.
        game: Slug of the game.
        encoder: Name of the frozen encoder.
        setting: Neck and features.
        seed: Seed of all random numbers, the split of the episodes included.
    """

    task: Task
    game: str
    encoder: str
    setting: NeckSetting
    seed: int

    @property
    def name(self) -> str:
        """Name of the run, which is also where its result lies."""
        return f"{self.task}/{self.game}/{self.encoder}/{self.setting.name}/{self.seed}"

    def file(self, out: Path) -> Path:
        """File of the run's result, which is there when it has finished."""
        return out / f"{self.name}.json"


# What is most likely to be chosen comes first, because the runs are made in this order. `mlp` flattens maps, so on them it is
# what it is on flat features; `spatial_mlp` has a LayerNorm of its own.
SETTINGS = (
    NeckSetting("flat", "standardize", "mlp"),
    NeckSetting("flat", "layer", "mlp"),
    NeckSetting("map", "standardize", "spatial", EMBEDDINGS),
    NeckSetting("map", None, "spatial_mlp"),
    NeckSetting("map", "standardize", "spatial"),
    NeckSetting("pooled", "standardize", "mlp"),
    NeckSetting("flat", None, "mlp"),
    NeckSetting("map", "layer", "spatial", EMBEDDINGS),
    NeckSetting("map", "layer", "spatial"),
    NeckSetting("pooled", "layer", "mlp"),
    NeckSetting("map", None, "spatial", EMBEDDINGS),
    NeckSetting("map", None, "spatial"),
    NeckSetting("pooled", None, "mlp"),
)


def check_games(games: Sequence[str]) -> list[str]:
    """Return the slugs of games on which necks may be compared.

    Raises:
        InputError: For a game of a Near- or Far-OOD split, or of none.
        UnknownNameError: For a game that does not exist.
    """
    slugs = [find_game(name).slug for name in games]
    for slug in slugs:
        split = all_scores()[slug].split if slug in all_scores() else None
        if split != "id":
            where = f"{_SPLITS[split]} game, kept for tests" if split else "game of no split"
            raise InputError(f"{slug} is a {where}: necks are compared on ID games only, such as {', '.join(GAMES)}")
    return slugs


def select_cells(
    tasks: Sequence[str] = TASKS,
    games: Sequence[str] = GAMES,
    encoders: Sequence[str] = ENCODERS,
    necks: Sequence[str] = ("*",),
    seeds: int = SEEDS,
) -> list[Cell]:
    """List the runs of some tasks, games, encoders, necks (names or patterns such as `flat-*`) and the first seeds.

    All games and encoders of a neck come before the next neck, so that what was run until an interruption can be compared.

    Raises:
        InputError: For a game that is kept for tests.
        UnknownNameError: For a task, game or neck that does not exist.
    """
    for task in tasks:
        if task not in TASKS:
            raise UnknownNameError.of("task", task, TASKS)
    names = [setting.name for setting in SETTINGS]
    for pattern in necks:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnknownNameError.of("neck", pattern, names)
    settings = [setting for setting in SETTINGS if any(fnmatchcase(setting.name, pattern) for pattern in necks)]
    slugs = check_games(games)
    return [
        Cell(task, game, encoder, setting, seed)
        for task in TASKS
        if task in tasks
        for seed, setting, game, encoder in product(range(seeds), settings, slugs, encoders)
    ]
