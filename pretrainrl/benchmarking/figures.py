"""Figures of a report: what is drawn where, for the page and for the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pretrainrl.benchmarking.aggregate import Estimate
from pretrainrl.benchmarking.analysis import Analysis, Correlation, Section
from pretrainrl.benchmarking.kinds import DATA, KINDS, encoder_kind, number, short_names
from pretrainrl.reports.charts import Chart, Dot, Line, dot_chart, line_chart, ticks
from pretrainrl.reports.pictures import IntervalPanel, IntervalRow

SPLITS = {"id": "known games", "near_ood": "similar games", "far_ood": "novel games"}
SPLIT_NAMES = {"id": "ID", "near_ood": "Near-OOD", "far_ood": "Far-OOD"}
TASKS = {"bc": "Behavior cloning", "rainbow": "Rainbow", "qrdqn": "QR-DQN", "zero_shot": "Zero-shot play", "probe": "Probe"}
_NAMES_OF_LINES = 118  # pixels


class Entrant(NamedTuple):
    """How an encoder or baseline is shown.

    Attributes:
        name: Name in results.
        label: Shorter name, if that is one encoder's only.
        kind: One of `KINDS`.
        style: CSS classes: of its kind, and of itself.
    """

    name: str
    label: str
    kind: str
    style: str


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of a column of intervals, in per cent of its width.

    Attributes:
        low: Value at the left end.
        high: Value at the right end.
    """

    low: float
    high: float

    @classmethod
    def of(cls, estimates: Iterable[Estimate]) -> Axis:
        """Make an axis that holds 0 and all intervals."""
        values = [value for one in estimates for value in (one.value, one.low, one.high) if math.isfinite(value)]
        low, high = min(0.0, *values), max(0.0, *values)
        margin = 0.03 * (high - low) or 0.5
        return cls(low - margin if low < 0 else low, high + margin)

    def at(self, value: float) -> float:
        """Return the place of a value."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    @property
    def zero(self) -> float:
        """Place of 0."""
        return self.at(0.0)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Places and texts of a few round numbers."""
        few = ticks(self.low, self.high, 2)
        return [(self.at(value), f"{value:g}") for value in (few if len(few) > 1 else ticks(self.low, self.high, 4))]


class Track(NamedTuple):
    """An interval on an axis, in per cent, with its words.

    Attributes:
        at: Place of the estimate.
        bar: Left end and width of the bar between 0 and the estimate.
        whisker: Left end and width of the interval; None where there is none.
        value: Estimate in words.
        interval: Interval in words.
        decided: Whether the interval leaves out 0.
    """

    at: float
    bar: tuple[float, float]
    whisker: tuple[float, float] | None
    value: str
    interval: str
    decided: bool


def track(one: Estimate, axis: Axis) -> Track:
    """Lay out an estimate."""
    at, zero = axis.at(one.value), axis.zero
    known = math.isfinite(one.low) and math.isfinite(one.high)
    whisker = (axis.at(one.low), round(axis.at(one.high) - axis.at(one.low), 2)) if known else None
    return Track(at, (min(at, zero), round(abs(at - zero), 2)), whisker, number(one.value), words(one), one.decided)


def words(one: Estimate) -> str:
    """Say an interval in words."""
    low, high = ("?" if math.isnan(end) else number(end) for end in (one.low, one.high))
    return "no interval from one seed" if low == high == "?" else f"{low} to {high}"


def entrants(analysis: Analysis) -> dict[str, Entrant]:
    """List all encoders and baselines that finished a cell, by kind and then by name."""
    names = sorted({result.encoder for result in analysis.done}, key=lambda name: (KINDS.index(encoder_kind(name)), name))
    labels = short_names(names)
    return {
        name: Entrant(name, labels[name], kind := encoder_kind(name), f"kind {kind_style(kind)} e-{number}")
        for number, name in enumerate(names)
    }


def kind_style(kind: str) -> str:
    """Return the CSS class of a kind."""
    return f"kind-{kind.replace(' ', '-')}"


Shown = Mapping[str, Entrant]


def sections_of(analysis: Analysis, task: str) -> dict[str, Section]:
    """Return what is said of a task, by split, in the suite's order."""
    return {split: analysis.sections[task, split] for split in analysis.suite.games if (task, split) in analysis.sections}


@dataclass(frozen=True)
class Group:
    """Rows of a panel that belong together.

    Attributes:
        kind: Kind of data; empty where the rows are of all kinds.
        style: CSS class of the kind.
        mean: Mean of the rows; None where there is none to show.
        rows: Encoders and their tracks.
    """

    kind: str
    style: str
    mean: Track | None
    rows: Sequence[tuple[Entrant, Track]]


@dataclass(frozen=True)
class Panel:
    """Intervals below each other on one axis.

    Attributes:
        split: Name of the split.
        axis: The axis.
        groups: Groups of rows.
        places: First and last place of each encoder in the ranking; empty where rows are not ranked.
    """

    split: str
    axis: Axis
    groups: Sequence[Group]
    places: Mapping[str, tuple[int, int] | None]


def by_kind(split: str, section: Section, shown: Shown) -> Panel:
    """Lay out the main figure of a split: for each kind its mean and its encoders."""
    iqm = {row.encoder: row.metrics["iqm"] for row in section.rows}
    means = {row.kind: row.iqm for row in section.kinds if row.kind in DATA}
    axis = Axis.of(iqm.values())
    groups = [
        Group(
            kind,
            kind_style(kind),
            track(means[kind], axis) if kind in means else None,
            [(one, track(iqm[name], axis)) for name, one in shown.items() if name in iqm and one.kind == kind],
        )
        for kind in KINDS
    ]
    return Panel(split, axis, [group for group in groups if group.rows], {})


def ranking(split: str, section: Section, shown: Shown) -> Panel:
    """Lay out the ranking of a split, the best first."""
    axis = Axis.of(row.metrics["iqm"] for row in section.rows)
    rows = [(shown[row.encoder], track(row.metrics["iqm"], axis)) for row in section.rows]
    return Panel(split, axis, [Group("", "", None, rows)], {row.encoder: row.places for row in section.rows})


def differences(split: str, section: Section, baseline: str, shown: Shown) -> Panel | None:
    """Lay out the differences of all encoders to a baseline, in the order of the ranking; None where it was not run."""
    found = {row.encoder: row.differences[baseline] for row in section.rows if baseline in row.differences}
    if not found:
        return None
    axis = Axis.of(found.values())
    return Panel(split, axis, [Group("", "", None, [(shown[name], track(one, axis)) for name, one in found.items()])], {})


def scatter(analysis: Analysis, one: Correlation, shown: Shown) -> Chart:
    """Draw the interquartile means of two tasks against each other."""
    first, second = (
        {row.encoder: row.metrics["iqm"] for row in analysis.sections[task, one.split].rows} for task in one.tasks
    )
    dots = [
        Dot(shown[name].label, shown[name].style, first[name].value, second[name].value, second[name].low, second[name].high)
        for name in one.encoders
    ]
    return dot_chart(dots, f"IQM, {title(one.tasks[0])}", f"IQM, {title(one.tasks[1])}")


def against_time(section: Section, shown: Shown) -> Chart:
    """Draw interquartile means over the wall-clock time of a cell."""
    dots = []
    for row in section.rows:
        iqm, one = row.metrics["iqm"], shown[row.encoder]
        dots.append(Dot(one.label, one.style, max(section.seconds[row.encoder], 1e-3), iqm.value, iqm.low, iqm.high))
    return dot_chart(dots, "seconds a cell, logarithmic", "IQM", logarithmic=True)


def profiles(section: Section, shown: Shown) -> Chart:
    """Draw the share of runs above each normalized score."""
    thresholds = section.thresholds.tolist()
    lines = [
        Line("", shown[name].style, list(zip(thresholds, np.round(shares, 4).tolist(), strict=True)))
        for name, (shares, _, _) in section.profiles.items()
    ]
    marks = [(value, f"{value:g}") for value in ticks(0, thresholds[-1], 4)]
    return line_chart(lines, "normalized score", "share of runs above it", width=360, height=260, right=14, x_marks=marks)


def curves(section: Section, shown: Shown, unit: str) -> Chart:
    """Draw the interquartile mean over steps or epochs."""
    lines = [Line(shown[name].label, shown[name].style, points) for name, points in section.curves.items()]
    return line_chart(lines, unit, "IQM", width=420, height=300, right=_NAMES_OF_LINES)


def panels(analysis: Analysis, shown: Shown) -> list[list[IntervalPanel]]:
    """Lay out the picture of the main figure: a row of panels for each task, a panel for each split."""
    found = []
    for task in analysis.suite.tasks:
        row = []
        for split, section in sections_of(analysis, task).items():
            iqm = {one.encoder: one.metrics["iqm"] for one in section.rows}
            rows = [
                IntervalRow(one.label, one.kind, iqm[name].value, iqm[name].low, iqm[name].high)
                for name, one in shown.items()
                if name in iqm
            ]
            row.append(IntervalPanel(f"{title(task)}, {SPLIT_NAMES[split]}", rows))
        if row:
            found.append(row)
    return found


def title(task: str) -> str:
    """Return the name of a task for people."""
    return TASKS.get(task, task)
