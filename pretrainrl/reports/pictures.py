"""Pictures for papers and posts: the same numbers as on a page, as a PNG on white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pretrainrl.optional import require
from pretrainrl.paths import atomic_path

COLORS = {
    "image": "#7c690b",
    "video": "#0a6c8f",
    "demonstration": "#347a26",
    "trajectory": "#c2337a",
    "other": "#5b4fc4",
    "untrained": "#6b6862",
    "end to end": "#b65a12",
}
_INK, _QUIET, _RULE = "#22211f", "#6b6862", "#e4e0d8"


class IntervalRow(NamedTuple):
    """One estimate with its interval; NaN ends are not drawn."""

    label: str
    kind: str
    value: float
    low: float
    high: float


class IntervalPanel(NamedTuple):
    """Estimates below each other, under a title."""

    title: str
    rows: Sequence[IntervalRow]


def write_intervals(path: Path, panels: Sequence[Sequence[IntervalPanel]], x_label: str) -> Path:
    """Draw rows of panels of intervals as a PNG.

    Args:
        path: File of the picture, which is returned.
        panels: Panels, row by row.
        x_label: Name of all horizontal axes.

    Raises:
        MissingExtraError: The extra `plot` is not installed.
        InputError: The file cannot be written.
    """
    require("matplotlib", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(map(len, panels))
    heights = [1.1 + 0.21 * max(len(panel.rows) for panel in row) for row in panels]
    figure = Figure(figsize=(3.9 * columns + 0.3, sum(heights) + 0.5), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes_row, row in zip(grid, panels, strict=True):
        for number, axes in enumerate(axes_row):
            if number < len(row):
                _draw(axes, row[number])
                axes.set_xlabel(x_label, fontsize=7.5, color=_QUIET)
            else:
                axes.set_axis_off()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _draw(axes: Any, panel: IntervalPanel) -> None:
    for number, row in enumerate(panel.rows):
        color = COLORS[row.kind]
        axes.barh(number, row.value, height=0.62, color=color, alpha=0.28, linewidth=0)
        if math.isfinite(row.low) and math.isfinite(row.high):
            axes.plot([row.low, row.high], [number, number], color=color, linewidth=1.6)
        axes.plot([row.value], [number], "o", color=color, markersize=3.6)
    axes.axvline(0, color=_QUIET, linewidth=0.8)
    axes.set_title(panel.title, fontsize=9, loc="left", color=_INK, fontweight="bold")
    axes.set_yticks(range(len(panel.rows)), [row.label for row in panel.rows], fontsize=7.5)
    for tick, row in zip(axes.get_yticklabels(), panel.rows, strict=True):
        tick.set_color(COLORS[row.kind])
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=7, colors=_QUIET, length=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
