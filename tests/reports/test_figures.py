"""Positions of lines, ticks and dots against values worked by hand."""

import math

import pytest

from uvea.reports.figures import (
    BOTTOM,
    BOX_FROM,
    HEIGHT,
    LEFT,
    MOST_DOTS,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Mean,
    draw_curve,
    draw_strip,
    nice_ticks,
)


def positions(line):
    """The points of a polyline as pairs of numbers."""
    return [tuple(float(part) for part in point.split(",")) for point in line.split()]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 0.93, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.81, 0.93, [0.8, 0.85, 0.9, 0.95]),
        (0, 4800, [0, 1000, 2000, 3000, 4000, 5000]),
        (3.0, 3.0, [3, 4, 5, 6]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low, high, ticks):
    """Steps of 1, 2 or 5, also for a range of nothing."""
    assert nice_ticks(low, high) == ticks


def test_ticks_inside_stay_inside():
    """For an axis that ends with its data."""
    assert nice_ticks(0, 4800, inside=True) == [0, 1000, 2000, 3000, 4000]


def test_a_curve_by_hand():
    """Dice 0 at the origin is bottom left; 1 at the last step is top right, and the best."""
    curve = draw_curve([0, 10], [0.0, 1.0], title="Dice", x_label="step", larger_is_better=True)
    assert positions(curve.line) == [(LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP)]
    assert (curve.best.x, curve.best.y, curve.best.text) == (WIDTH - RIGHT, TOP, "1.000")
    assert curve.description == "Dice: 0 at first, 1 at best, 1 at last, 2 points."


def test_points_without_a_number_are_left_out():
    """Validation is not done at every step, and a loss can be NaN."""
    curve = draw_curve([1, 2, None, 4, 5], [None, 0.5, 0.6, math.nan, 0.7], title="Dice", x_label="step")
    assert len(positions(curve.line)) == 2


@pytest.mark.parametrize("values", [[], [None, None], [math.inf, math.nan]])
def test_without_points_there_is_no_curve(values):
    """A training that was stopped at once has no history."""
    assert draw_curve(list(range(len(values))), values, title="Loss", x_label="step") is None


def test_a_single_point_is_a_dot():
    """A line of one point would not be seen."""
    curve = draw_curve([0], [0.0], title="Loss", x_label="step")
    assert len(curve.dots) == 1
    assert all(math.isfinite(tick.at) for tick in (*curve.x_ticks, *curve.y_ticks))


def test_many_points_are_smoothed_and_thinned_and_stay_in_the_frame():
    """A wild first value is cut off at the top, and the last point is kept."""
    losses = [1e6] + [1 / (1 + step) + 0.1 * (step % 2) for step in range(5000)]
    curve = draw_curve(range(5001), losses, title="Loss", x_label="step")
    for line in (curve.line, curve.faint_line):
        points = positions(line)
        assert len(points) <= MOST_POINTS + 1
        assert points[-1][0] == WIDTH - RIGHT
        assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in points)
    assert float(curve.y_ticks[-1].text) <= 2


def test_a_strip_by_hand():
    """Lowest value 0.5, so the axis runs from 0.4; the median of 0.5, 0.7 and 0.9 is in the middle."""
    strip = draw_strip({"cell": [("a", 0.5), ("b", 0.9), ("c", 0.7), ("d", math.nan)]}, quantity="Dice")
    (row,) = strip.rows
    assert [dot.text for dot in row.dots] == ["a: 0.500", "c: 0.700", "b: 0.900"]
    assert row.median == pytest.approx((strip.left + strip.right) / 2, abs=0.1)
    assert strip.description == "Dice. cell: 3 values from 0.500 to 0.900."


def test_a_strip_of_nothing_is_none():
    """Groups without a single number are no figure."""
    assert draw_strip({"cell": [("a", math.nan)]}, quantity="Dice") is None


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_strip_of_equal_values_is_drawn(value):
    """All perfect or all missed: dots inside the frame."""
    strip = draw_strip({"cell": [("a", value)]}, quantity="Dice")
    assert strip.left <= strip.rows[0].dots[0].x <= strip.right


def test_distances_have_an_axis_of_their_own():
    """From 0 to a round value; infinite ones are counted beside it."""
    strip = draw_strip({"cell": [("a", 3.0), ("b", 18.0), ("c", math.inf)]}, quantity="HD", share=False)
    (row,) = strip.rows
    assert [tick.text for tick in strip.x_ticks] == ["0", "5", "10", "15", "20"]
    assert row.dots[1].x == pytest.approx(strip.left + 0.9 * (strip.right - strip.left), abs=0.1)
    assert row.beyond == "1 at ∞"
    assert strip.description == "HD. cell: 2 values from 3 to 18 and 1 infinite."


def test_a_row_of_infinite_values_stays():
    """A class that is missed in every case is the worst of all; alone, it has an axis all the same."""
    strip = draw_strip({"cell": [("a", 3.0)], "wall": [("a", math.inf), ("b", math.inf)]}, quantity="HD", share=False)
    assert [(row.label, len(row.dots), row.median is None, row.beyond) for row in strip.rows] == [
        ("cell", 1, False, ""),
        ("wall", 0, True, "2 at ∞"),
    ]
    assert strip.description == "HD. cell: 1 values from 3 to 3; wall: 2 infinite."
    assert draw_strip({"wall": [("a", math.inf)]}, quantity="HD", share=False).rows[0].beyond == "1 at ∞"


def test_a_difference_may_be_negative():
    """The axis spans both sides of 0."""
    strip = draw_strip({"cell": [("a", -30.0), ("b", 10.0)]}, quantity="Difference", share=False)
    assert strip.left <= strip.rows[0].dots[0].x < strip.rows[0].dots[1].x <= strip.right


def test_the_mean_has_its_interval():
    """On an axis from 0.4 to 1, 0.7 is in the middle; an infinite mean is not drawn."""
    values = {"a": [("x", 0.5), ("y", 0.9)], "b": [("x", 0.5)]}
    means = {"a": Mean(value=0.7, low=0.6, high=0.8), "b": Mean(value=math.inf)}
    first, second = draw_strip(values, quantity="Dice", means=means).rows
    middle = first.mean.x
    assert middle == pytest.approx((draw_strip(values, quantity="Dice").left + 740) / 2, abs=0.1)
    assert middle - first.interval[0] == pytest.approx(first.interval[1] - middle, abs=0.2)
    assert second.mean is None


def test_quartiles_need_some_values():
    """Of eight values 0, 0.1 … 0.7 the quartiles are 0.175 and 0.525."""
    values = [(str(n), n / 10) for n in range(BOX_FROM)]
    strip = draw_strip({"a": values, "b": values[1:]}, quantity="Dice")
    places = [strip.left + share * (strip.right - strip.left) for share in (0.175, 0.525)]
    assert strip.rows[0].box == pytest.approx(places, abs=0.1)
    assert strip.rows[1].box is None


def test_very_many_values_are_thinned_but_for_the_ends():
    """A page of ten thousand cases stays small; the description still counts them all."""
    strip = draw_strip({"a": [(str(n), n / 10_000) for n in range(10_001)]}, quantity="Dice")
    dots = strip.rows[0].dots
    assert len(dots) == MOST_DOTS
    assert (dots[0].x, dots[-1].x) == (strip.left, strip.right)
    assert strip.thinned
    assert "10001 values" in strip.description
