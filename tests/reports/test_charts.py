"""Charts: round marks, names that do not overlap, lines that keep to the drawing."""

import pytest

from pretrainrl.reports.charts import Line, line_chart, spread, ticks


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
