"""Charts: round marks, names that do not overlap, lines that keep to the drawing."""

import math
from itertools import combinations

import numpy as np
import pytest

from pretrainrl.reports.charts import Dot, Line, decades, dot_chart, label_places, line_chart, spread, ticks


def test_charts() -> None:
    assert (
        ticks(0, 24_000) == [0, 5_000, 10_000, 15_000, 20_000]
        and ticks(-3, 9) == [-2.5, 0, 2.5, 5, 7.5]
        and ticks(0, 0) == [0]
    )
    assert spread([10, 12, 80], 17) == pytest.approx([2.5, 19.5, 80])
    drawing = line_chart([Line("a", "one", [(0, -1), (10, 1)]), Line("level", "two", [(0, 0.5)])], "x", "y")
    rising, level = ([tuple(map(float, point.split(","))) for point in points.split()] for _, points in drawing.lines)
    assert rising[0] == (drawing.left, drawing.height - drawing.bottom) and rising[1][1] == drawing.top
    assert level[0][0] == rising[0][0] and level[1][0] == rising[1][0] and level[0][1] == level[1][1]
    assert [text for _, _, text in drawing.labels] == ["a", "level"]


def test_a_flat_line_can_be_drawn() -> None:
    assert line_chart([Line("a", "one", [(1, 0), (2, 0)])], "x", "y").lines


def test_marks_of_a_logarithmic_axis_are_given() -> None:
    drawing = line_chart(
        [Line("", "first", [(0, 0), (2, -3)])], "x", "y", x_marks=[(0, "1"), (2, "100")], y_marks=[(-3, "0.001")]
    )
    assert drawing.x_ticks == [(drawing.left, "1"), (drawing.width - drawing.right, "100")]
    assert drawing.y_ticks == [(drawing.height - drawing.bottom, "0.001")]


def test_dots_and_their_intervals_keep_to_the_drawing() -> None:
    dots = [Dot("a", "one", 10.0, -1.0, -2.0, 0.5), Dot("b", "two", 1_000.0, 3.0, math.nan, math.nan)]
    drawing = dot_chart(dots, "x", "y", logarithmic=True)
    first, second = drawing.dots
    assert first.x < second.x and first.low > first.y > first.high, "upward is less on a screen"
    assert second.low == second.high == second.y, "no interval is drawn of NaN"
    for dot in drawing.dots:
        assert drawing.left <= dot.x <= drawing.width - drawing.right
        assert all(drawing.top <= y <= drawing.height - drawing.bottom for y in (dot.y, dot.low, dot.high))
    assert [text for _, text in drawing.x_ticks] == ["10", "100", "1,000"]
    assert dot_chart([Dot("alone", "one", 0.0, 0.0, 0.0, 0.0)], "x", "y").dots


def test_names_of_dots_do_not_overlap_while_there_is_room() -> None:
    places = [(float(x), float(y)) for x, y in np.random.default_rng(0).uniform(80, 280, size=(12, 2))]
    names = [f"name{number}" for number in range(12)]
    boxes = []
    for (x, y, anchor), name in zip(label_places(places, names, 360), names, strict=True):
        left = x if anchor == "start" else x - 6.2 * len(name)
        boxes.append((left, y - 10, left + 6.2 * len(name), y + 2))
        assert left > 46 and left + 6.2 * len(name) <= 360
    assert not [1 for a, b in combinations(boxes, 2) if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]


def test_marks_of_short_logarithmic_axes() -> None:
    assert decades(1, 1_000) == [1, 10, 100, 1_000] and decades(40, 250) == [50, 100, 200]
    assert len(decades(58, 63)) > 1
