"""Geometry of line charts; the macro `chart` draws them as SVG, so that they follow the page's colors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

LEFT, RIGHT, TOP, BOTTOM = 46, 132, 14, 36  # margins in pixels; names of lines stand on the right
LABEL_HEIGHT = 17


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Text at its right end; none if empty.
        style: CSS class: `first`, `second` or `level`.
        points: Places (x, y) in data units, x rising; one is enough for a level line.
    """

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Chart:
    """A chart in pixels.

    Attributes:
        width: Width of the drawing.
        height: Height of the drawing.
        x_ticks: Marks (x, text) of the horizontal axis.
        y_ticks: Marks (y, text) of the vertical axis.
        lines: Lines (CSS class, SVG points).
        labels: Names (y, CSS class, text) of lines, none over another.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
    """

    width: int
    height: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[str, str]]
    labels: list[tuple[float, str, str]]
    x_label: str
    y_label: str

    left, right, top, bottom = LEFT, RIGHT, TOP, BOTTOM


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    width: int = 760,
    height: int = 300,
    x_marks: Sequence[tuple[float, str]] | None = None,
    y_marks: Sequence[tuple[float, str]] | None = None,
) -> Chart:
    """Lay out lines in a drawing; both axes include 0.

    Args:
        lines: Lines, the last of which is drawn above the others.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        width: Width of the drawing in pixels.
        height: Height of the drawing in pixels.
        x_marks: Marks (value, text) of the horizontal axis, instead of round numbers; for logarithmic axes.
        y_marks: Marks (value, text) of the vertical axis, instead of round numbers.
    """
    end = max(x for line in lines for x, _ in line.points) or 1.0
    ys = [0.0, *(y for line in lines for _, y in line.points)]
    low, high = min(ys), max(ys) if max(ys) > min(ys) else min(ys) + 1
    plot_width, plot_height = width - LEFT - RIGHT, height - TOP - BOTTOM

    def x_pixel(x: float) -> float:
        return round(LEFT + plot_width * x / end, 1)

    def y_pixel(y: float) -> float:
        return round(TOP + plot_height * (high - y) / (high - low), 1)

    def pixels(line: Line) -> str:
        points = line.points if len(line.points) > 1 else [(0, line.points[0][1]), (end, line.points[0][1])]
        return " ".join(f"{x_pixel(x)},{y_pixel(y)}" for x, y in points)

    named = [line for line in lines if line.name]
    heights = spread([y_pixel(line.points[-1][1]) for line in named], LABEL_HEIGHT)
    return Chart(
        width,
        height,
        [(x_pixel(x), text) for x, text in x_marks or [(x, f"{x:,.0f}") for x in ticks(0, end)]],
        [(y_pixel(y), text) for y, text in y_marks or [(y, f"{y:g}") for y in ticks(low, high)]],
        [(line.style, pixels(line)) for line in lines],
        [(y, line.style, line.name) for y, line in zip(heights, named, strict=True)],
        x_label,
        y_label,
    )


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers that cover `low` to `high` in about `count` steps."""
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / count))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if span / (m * magnitude) <= count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move `places` apart until neighbours are `gap` from each other, keeping their order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for _ in range(100):
        for below, above in pairwise(order):
            overlap = gap - (moved[above] - moved[below])
            if overlap > 1e-6:
                moved[below] -= overlap / 2
                moved[above] += overlap / 2
    return moved
