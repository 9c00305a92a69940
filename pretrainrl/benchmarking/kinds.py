"""Kinds of data that encoders learn from: which is best on which games, what that advises, and what Atari-PB found."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pretrainrl.benchmarking.aggregate import (
    Estimate,
    Scores,
    corrected_level,
    draw_metric,
    interquartile_mean,
    interval,
)
from pretrainrl.benchmarking.cells import END_TO_END
from pretrainrl.benchmarking.table import Comparison
from pretrainrl.cards import ENCODERS, OBJECTIVES
from pretrainrl.paths import registry_folder

DATA = ("image", "video", "demonstration", "trajectory")
UNTRAINED, TRAINED_END_TO_END, OTHER = "untrained", "end to end", "other"
KINDS = (*DATA, OTHER, UNTRAINED, TRAINED_END_TO_END)
SITUATIONS = {"id": "identical task", "near_ood": "similar task", "far_ood": "unknown task"}

_PLURALS = {
    "image": "images",
    "video": "videos",
    "demonstration": "demonstrations",
    "trajectory": "trajectories",
    UNTRAINED: "untrained encoders",
}
_ATARI_PB = {
    "Random": "random",
    "E2E(RN50)": f"{END_TO_END}resnet50",
    "E2E(CNN3)": f"{END_TO_END}nature",
    "SPR+IDM": "spr_idm",
    "CQL-M": "cql_m",
    "CQL-D": "cql_d",
}
_ATARI_PB_SPLITS = {"ID": "id", "Near": "near_ood", "Far": "far_ood"}


def number(value: float) -> str:
    """Return a score with three digits after the point, and a minus that is as wide as a plus."""
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class KindRow:
    """What is said of the encoders of one kind on one split.

    Attributes:
        kind: One of `KINDS`.
        encoders: Names of the encoders.
        iqm: Mean of their interquartile means.
    """

    kind: str
    encoders: tuple[str, ...]
    iqm: Estimate


@dataclass(frozen=True)
class Advice:
    """Which kind of data is best for one task on one split, as far as the results decide it.

    Attributes:
        best: Kind with the greatest mean, or `untrained`.
        next: Kind whose difference to `best` is the least certain.
        lead: Difference of the two, with an interval that is wide enough for all kinds that were compared.
        decided: Whether `best` is ahead of every other kind, and of an untrained encoder if there is one.
        end_to_end: Difference of `best` to the suite's backbone trained end to end, if that was run.
        one_seed: Whether there is one seed, so that nothing is known of chance.
        untrained: Whether an untrained encoder was compared.
    """

    best: str
    next: str
    lead: Estimate
    decided: bool
    end_to_end: Estimate | None
    one_seed: bool
    untrained: bool

    @property
    def text(self) -> str:
        """Sentences for people."""
        best, other, undecided = _PLURALS[self.best], _PLURALS[self.next], "These results do not decide"
        if self.one_seed:
            return f"{undecided}: {best} are first, but one seed says nothing of chance."
        lead = f"{number(self.lead.value)} ({number(self.lead.low)} to {number(self.lead.high)})"
        if not self.decided:
            return f"{undecided}: {best} are first, but their lead over {other}, {lead}, may be chance."
        if self.best == UNTRAINED:
            return f"No kind of pre-training pays here: untrained encoders are ahead of all, of {other} by {lead}."
        known = "" if self.untrained else " No untrained encoder was compared."
        return f"Take an encoder trained on {best}: ahead of all other kinds, of {other} by {lead}.{known}"


def encoder_kind(name: str) -> str:
    """Return the kind of data that an encoder learned from, one of `KINDS`.

    Args:
        name: Name in results: of a registered encoder, a baseline, or a run folder that begins with its objective's name.
    """
    if name.startswith(END_TO_END):
        return TRAINED_END_TO_END
    name = name.split("@")[0]
    objective = ENCODERS.get(name).objective if name in ENCODERS.names() else name.split(".")[0]
    if objective == "random":
        return UNTRAINED
    return OBJECTIVES.get(objective).data if objective in OBJECTIVES.names() else OTHER


def summarize_kinds(comparison: Comparison, *, seed: int = 0) -> list[KindRow]:
    """Average the interquartile means of the encoders of each kind, in the order of `KINDS`, as Atari-PB does."""
    means, drawn, members = _kinds(comparison, seed)
    return [KindRow(kind, tuple(members[kind]), interval(means[kind], drawn[kind])) for kind in means]


def advise(comparison: Comparison, backbone: str, *, seed: int = 0) -> Advice | None:
    """Say which kind of data is best; None where encoders of fewer than two kinds are compared.

    An untrained encoder is one of the kinds: what is not better than no pre-training is not advised.

    Args:
        comparison: Scores on the same games and seeds.
        backbone: Backbone of the suite.
        seed: Seed of the bootstrap.
    """
    means, drawn, _ = _kinds(comparison, seed)
    kinds = [kind for kind in means if kind in (*DATA, UNTRAINED)]
    if len(kinds) < 2 or not set(kinds) & set(DATA):
        return None
    best = max(kinds, key=lambda kind: means[kind])
    level = corrected_level(len(kinds) - 1)
    leads = {kind: interval(means[best] - means[kind], drawn[best] - drawn[kind], level) for kind in kinds if kind != best}
    one_seed = len(comparison.seeds) == 1
    closest = min(leads, key=lambda kind: leads[kind].value if one_seed else leads[kind].low)
    end_to_end = None
    if (baseline := END_TO_END + backbone) in comparison.scores:
        scores = comparison.normalized(baseline)
        (samples,) = draw_metric({baseline: scores}, seed=seed).values()
        end_to_end = interval(means[best] - float(interquartile_mean(scores)), drawn[best] - samples)
    return Advice(best, closest, leads[closest], leads[closest].low > 0, end_to_end, one_seed, UNTRAINED in kinds)


def _kinds(comparison: Comparison, seed: int) -> tuple[dict[str, float], dict[str, Scores], dict[str, list[str]]]:
    """Return the mean, bootstrap samples of the mean, and the members of each kind."""
    normalized = {name: comparison.normalized(name) for name in comparison.scores}
    samples = draw_metric(normalized, seed=seed)
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name in normalized:
        found[encoder_kind(name)].append(name)
    members = {kind: names for kind, names in found.items() if names}
    means = {kind: float(np.mean([interquartile_mean(normalized[name]) for name in names])) for kind, names in members.items()}
    drawn = {kind: np.mean([samples[name] for name in names], axis=0) for kind, names in members.items()}
    return means, drawn, members


@cache
def atari_pb() -> dict[tuple[str, str, str], Estimate]:
    """Return Atari-PB's interquartile means, by name, split, and `BC` for offline learning or `RL` for online learning."""
    with (registry_folder() / "atari_pb.csv").open(newline="", encoding="utf-8") as file:
        return {
            (
                _ATARI_PB.get(row["algorithm"], row["algorithm"].lower()),
                _ATARI_PB_SPLITS[row["distribution"]],
                row["finetune"],
            ): Estimate(*(float(row[name] or math.nan) for name in ("iqm", "ci_lo", "ci_hi")))
            for row in csv.DictReader(file)
        }


def in_atari_pb(name: str, backbone: str) -> str:
    """Return the name of Atari-PB's counterpart of an encoder: the same objective, or the same baseline.

    Args:
        name: Name in results.
        backbone: Backbone of the suite, whose counterpart is Atari-PB's ResNet-50.
    """
    return f"{END_TO_END}resnet50" if name == END_TO_END + backbone else name if END_TO_END in name else name.split(".")[0]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Leave out what follows the first point of encoders' names, as far as they stay different."""
    shortened = [
        f"e2e {name.removeprefix(END_TO_END)}" if name.startswith(END_TO_END) else name.split(".")[0] for name in names
    ]
    return {name: short if shortened.count(short) == 1 else name for name, short in zip(names, shortened, strict=True)}
