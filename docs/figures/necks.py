"""The table of necks on frozen encoders, from what is kept in docs/learning/necks.csv. `make figures` writes it.

The scores themselves are made by `speed/learning/necks.py`. Runs that are missing have a line without a score, and the
text says how many there are.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from learning import OUT, table
from numpy.typing import NDArray

from pretrainrl import encoder_card
from pretrainrl.games import all_scores
from pretrainrl.integrations.sb3 import neck_policy_kwargs

RESAMPLES = 10_000
TITLES = {
    "bc": "Behavior cloning, accuracy on held-out episodes",
    "rainbow": "Rainbow, score between random play (0) and the reference agent (1)",
}
SHORT = {"bc": "Behavior cloning", "rainbow": "Rainbow"}
NOT_YET = "not yet"

Setting = tuple[str, ...]  # features, normalization, neck, embeddings
Strata = list[NDArray[np.float64]]  # of each encoder and game, the values of its seeds


@dataclass(frozen=True)
class Run:
    """A line of the file.

    Attributes:
        task: What learned, `bc` or `rainbow`.
        game: Slug of the game.
        encoder: Name of the encoder.
        setting: Features, normalization, neck and embeddings.
        value: Accuracy or normalized score; None where the run was not made.
        majority: Accuracy of the most frequent action; None but for clones.
    """

    task: str
    game: str
    encoder: str
    setting: Setting
    value: float | None
    majority: float | None


def read(path: Path) -> list[Run]:
    """Read all runs, in the order of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_run(row) for row in csv.DictReader(file)]


def _run(row: dict[str, str]) -> Run:
    score = float(row["score"]) if row["score"] else None
    if score is not None and row["task"] == "rainbow":
        score = all_scores()[row["game"]].normalize(score)
    setting = tuple(row[key] for key in ("features", "normalization", "neck", "embeddings"))
    majority = float(row["majority"]) if row["majority"] else None
    return Run(row["task"], row["game"], row["encoder"], setting, score, majority)


def strata(runs: Sequence[Run], encoders: Sequence[str]) -> Strata | None:
    """Values of each encoder and game; None while an encoder has no run of one of the games."""
    games = dict.fromkeys(run.game for run in runs)
    found = [
        np.array([run.value for run in runs if (run.encoder, run.game) == (encoder, game) and run.value is not None])
        for encoder in encoders
        for game in games
    ]
    return found if found and all(map(len, found)) else None


def mean_of(values: Strata) -> float:
    """Mean over games and encoders of the mean over seeds."""
    return float(np.mean([group.mean() for group in values]))


def interval(values: Strata) -> tuple[float, float]:
    """95 % stratified bootstrap interval of `mean_of`: seeds are drawn again within each game and encoder."""
    random = np.random.default_rng(0)
    draws = [group[random.integers(len(group), size=(RESAMPLES, len(group)))].mean(axis=1) for group in values]
    low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    return float(low), float(high)


def show(values: Strata, *, best: bool) -> str:
    """Mean and its interval; where some game has one seed only, there is none."""
    mean = f"**{mean_of(values):.3f}**" if best else f"{mean_of(values):.3f}"
    if min(map(len, values)) == 1:
        return f"{mean} (1 seed)"
    low, high = interval(values)
    return f"{mean} ({low:.3f} to {high:.3f})"


def column(runs: Sequence[Run], settings: Sequence[Setting], encoders: Sequence[str]) -> list[str]:
    """Cells of all settings for one encoder, or for the mean of several."""
    found = [strata([run for run in runs if run.setting == setting], encoders) for setting in settings]
    means = [-np.inf if values is None else round(mean_of(values), 3) for values in found]
    return [
        NOT_YET if values is None else show(values, best=mean == max(means)) for values, mean in zip(found, means, strict=True)
    ]


def default_setting() -> Setting:
    """What `policy_kwargs("siammae")` takes by default."""
    chosen = neck_policy_kwargs()["features_extractor_kwargs"]
    return (encoder_card("siammae").features, *(str(chosen[key]) for key in ("normalization", "neck", "embeddings")))


def describe(setting: Setting) -> list[str]:
    """Cells that say which neck it is."""
    features, normalization, neck, embeddings = setting
    sums = f", {embeddings} sums a channel" if embeddings != "1" else ""
    default = " (default)" if setting == default_setting() else ""
    return [f"`{neck}`{sums}{default}", features, "none" if normalization == "none" else f"`{normalization}`"]


def part(task: str, runs: Sequence[Run]) -> Iterator[str]:
    """Yield the paragraphs of one task."""
    made = [run for run in runs if run.value is not None]
    yield f"**{TITLES[task]}.** {count(runs)}"
    settings = list(dict.fromkeys(run.setting for run in runs))
    encoders = list(dict.fromkeys(run.encoder for run in runs))
    columns = [column(runs, settings, [encoder]) for encoder in encoders] + [column(runs, settings, encoders)]
    if all(cell == NOT_YET for cells in columns for cell in cells):
        return
    rows = [[*describe(setting), *cells] for setting, *cells in zip(settings, *columns, strict=True)]
    if task == "bc":
        rows.append(["the most frequent action", "", "", *[majority(made)] * len(columns)])
    yield table(["neck", "features", "normalization", *(f"`{name}`" for name in encoders), "all"], rows).rstrip()
    yield from winner(task, runs, settings, encoders)


def majority(made: Sequence[Run]) -> str:
    """Mean over games of the accuracy of the most frequent action."""
    games = dict.fromkeys(run.game for run in made)
    shares = [np.mean([run.majority for run in made if run.game == game and run.majority is not None]) for game in games]
    return f"{np.mean(shares):.3f}"


def count(runs: Sequence[Run]) -> str:
    """Say how many of the runs were made."""
    made = sum(run.value is not None for run in runs)
    if made == len(runs):
        return f"All {made} runs were made."
    if not made:
        return f"None of the {len(runs)} runs was made yet."
    return f"{made} of {len(runs)} runs were made so far. A neck has a number when it has runs of every game."


def winner(task: str, runs: Sequence[Run], settings: Sequence[Setting], encoders: Sequence[str]) -> Iterator[str]:
    """Yield the sentence that says which neck is best, of those with results for every encoder and game."""
    found = [(setting, strata([run for run in runs if run.setting == setting], encoders)) for setting in settings]
    ranked = sorted(((mean_of(values), setting) for setting, values in found if values is not None), reverse=True)
    if len(ranked) < 2:
        return
    (first, best), (second, next_best) = ranked[:2]
    of = "" if len(ranked) == len(settings) else f" of the {len(ranked)} necks that have runs of all encoders and games"
    yield (
        f"{SHORT[task]}: the highest mean over encoders{of}, {first:.3f}, is that of {_phrase(best)}. "
        f"The next is {second:.3f}, of {_phrase(next_best)}."
    )


def _phrase(setting: Setting) -> str:
    neck, features, normalization = describe(setting)
    return f"{neck.removesuffix(' (default)')} on {features} features with normalization {normalization}"


def text(path: Path) -> str:
    """What the page says of the results in a file."""
    runs = read(path)
    paragraphs = [each for task in TITLES for each in part(task, [run for run in runs if run.task == task])]
    return "\n\n".join(paragraphs) + "\n"


def main() -> None:
    """Write the table."""
    (OUT / "necks.md").write_text(text(OUT / "necks.csv"), encoding="utf-8")


if __name__ == "__main__":
    main()
