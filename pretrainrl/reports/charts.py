"""Geometry of charts; the macro `chart` draws them as SVG, so that they follow the page's colors."""

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
        style: CSS classes, such as `first`, `second` or `level`.
        points: Places (x, y) in data units, x rising; one is enough for a level line.
    """

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Dot:
    """One dot of a chart, with its interval.

    Attributes:
        name: Text beside it.
        style: CSS classes.
        x: Place in data units.
        y: Height in data units.
        low: Lower end of the interval in `y`; NaN for none.
        high: Upper end of the interval in `y`; NaN for none.
    """

    name: str
    style: str
    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class PlacedDot:
    """A dot in pixels, and where its name stands: `anchor` is the SVG attribute."""

    x: float
    y: float
    low: float
    high: float
    style: str
    name: str
    text_x: float
    text_y: float
    anchor: str


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
        dots: Dots with their names.
        right: Margin on the right, where names of lines stand.
    """

    width: int
    height: int
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    lines: list[tuple[str, str]]
    labels: list[tuple[float, str, str]]
    x_label: str
    y_label: str
    dots: Sequence[PlacedDot] = ()
    right: int = RIGHT

    left, top, bottom = LEFT, TOP, BOTTOM


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    width: int = 760,
    height: int = 300,
    right: int = RIGHT,
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
        right: Margin on the right, where names of lines stand.
        x_marks: Marks (value, text) of the horizontal axis, instead of round numbers; for logarithmic axes.
        y_marks: Marks (value, text) of the vertical axis, instead of round numbers.
    """
    end = max(x for line in lines for x, _ in line.points) or 1.0
    ys = [0.0, *(y for line in lines for _, y in line.points)]
    low, high = min(ys), max(ys) if max(ys) > min(ys) else min(ys) + 1
    plot_width, plot_height = width - LEFT - right, height - TOP - BOTTOM

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
        right=right,
    )


def dot_chart(
    dots: Sequence[Dot], x_label: str, y_label: str, *, width: int = 360, height: int = 300, logarithmic: bool = False
) -> Chart:
    """Lay out dots in a drawing; both axes include 0, but for a logarithmic horizontal one.

    Args:
        dots: Dots, at least one.
        x_label: Name of the horizontal axis.
        y_label: Name of the vertical axis.
        width: Width of the drawing in pixels.
        height: Height of the drawing in pixels.
        logarithmic: Whether the horizontal axis is logarithmic; places are above 0 then.
    """
    right = 14
    xs = [math.log10(dot.x) if logarithmic else dot.x for dot in dots]
    ys = [0.0, *(y for dot in dots for y in (dot.y, dot.low, dot.high) if math.isfinite(y))]
    x_low, x_high = _widened(min(xs) if logarithmic else min(0.0, *xs), max(xs), 0.3 if logarithmic else 0.08)
    bottom, top = _widened(min(ys), max(ys), 0.04)

    def x_pixel(x: float) -> float:
        return round(LEFT + (width - LEFT - right) * (x - x_low) / (x_high - x_low), 1)

    def y_pixel(y: float) -> float:
        return round(TOP + (height - TOP - BOTTOM) * (top - y) / (top - bottom), 1)

    places = [(x_pixel(x), y_pixel(dot.y)) for x, dot in zip(xs, dots, strict=True)]
    texts = label_places(places, [dot.name for dot in dots], width)
    ends = [
        (y_pixel(dot.low), y_pixel(dot.high)) if math.isfinite(dot.low + dot.high) else (y_pixel(dot.y), y_pixel(dot.y))
        for dot in dots
    ]
    x_ticks = (
        [(x_pixel(math.log10(value)), f"{value:,g}") for value in decades(10**x_low, 10**x_high)]
        if logarithmic
        else [(x_pixel(value), f"{value:g}") for value in ticks(x_low, x_high, 4)]
    )
    return Chart(
        width,
        height,
        x_ticks,
        [(y_pixel(y), f"{y:g}") for y in ticks(bottom, top)],
        [],
        [],
        x_label,
        y_label,
        [
            PlacedDot(x, y, low, high, dot.style, dot.name, text_x, text_y, anchor)
            for (x, y), (low, high), dot, (text_x, text_y, anchor) in zip(places, ends, dots, texts, strict=True)
        ],
        right,
    )


def label_places(places: Sequence[Point], names: Sequence[str], width: int) -> list[tuple[float, float, str]]:
    """Find a place (x, y, anchor) for the name of each dot, where it hides no dot and no other name if there is one."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    found = []
    for (x, y), name in zip(places, names, strict=True):
        length = 6.2 * len(name)
        offers = [
            (x + side * 8, y + 4 + step, "start" if side > 0 else "end")
            for step in (0, -11, 11, -20, 20, -30, 30)
            for side in (1, -1)
        ]
        boxes = [
            ((at, up - 10, at + length, up + 2) if anchor == "start" else (at - length, up - 10, at, up + 2), (at, up, anchor))
            for at, up, anchor in offers
        ]
        inside = [(box, offer) for box, offer in boxes if box[0] > LEFT and box[2] <= width]
        free = [pair for pair in inside if not any(_overlap(pair[0], other) for other in taken)]
        box, offer = (free or inside or boxes)[0]
        taken.append(box)
        found.append(offer)
    return found


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    """Put a margin around a range, which may be empty."""
    margin = share * (high - low) or 0.5
    return low - (margin if low else 0.0), high + margin


def decades(low: float, high: float) -> list[float]:
    """Return round numbers between `low` and `high` for a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = list[float]()
    for steps in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        marks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(marks) > 1:
            break
    return marks if len(marks) > 1 else ticks(low, high, 3)


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
