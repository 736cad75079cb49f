"""Places of lines against values worked by hand."""

import math

import pytest

from uvea.reports.figures import BOTTOM, LEFT, RIGHT, WIDTH
from uvea.reports.lines import HEIGHT, LINE_STYLES, TOP, Series, draw_lines

AXES = {"title": "ROC", "x_label": "false", "y_label": "true"}


def positions(line):
    """The points of a polyline as pairs of numbers."""
    return [tuple(float(part) for part in point.split(",")) for point in line.points.split()]


def test_corners_by_hand():
    """(0, 0) is bottom left, (1, 1) top right, and what lies outside is put on the edge."""
    figure = draw_lines([Series(name="a", x=[0, 1, 2], y=[0, 1, -3])], **AXES)
    bottom_left, top_right = (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP)
    assert positions(figure.lines[0]) == [bottom_left, top_right, (WIDTH - RIGHT, HEIGHT - BOTTOM)]


def test_an_axis_may_start_anywhere():
    """IoU thresholds run from 0.5 to 0.95."""
    figure = draw_lines([Series(name="a", x=[0.5, 0.95], y=[1, 0])], x_range=(0.5, 0.95), **AXES)
    assert [x for x, _ in positions(figure.lines[0])] == [LEFT, WIDTH - RIGHT]


def test_points_without_a_number_are_left_out():
    """An empty bin has no share of positives."""
    figure = draw_lines([Series(name="a", x=[0, 0.5, 1], y=[0.1, None, math.nan], sizes=[4, 0, 1])], **AXES)
    (line,) = figure.lines
    assert len(positions(line)) == len(line.dots) == 1


def test_the_area_of_a_dot_is_what_it_stands_for():
    """A quarter of the weight is half of the radius, beyond the smallest dot of 2."""
    figure = draw_lines([Series(name="a", x=[0, 1], y=[0, 1], sizes=[100, 25])], **AXES)
    assert [radius for _, radius in figure.lines[0].dots] == [8.0, 5.0]


def test_many_points_are_thinned_to_what_can_be_seen():
    """A ROC curve of 100,000 thresholds keeps its ends, and has no dots."""
    x = [i / 99_999 for i in range(100_000)]
    (line,) = draw_lines([Series(name="a", x=x, y=[math.sqrt(v) for v in x])], **AXES).lines
    points = positions(line)
    assert len(points) < 1000
    assert (points[0], points[-1]) == ((LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, TOP))
    assert line.dots == ()


def test_the_description_says_the_values():
    """A reader who cannot see the figure gets them all, if they are few."""
    figure = draw_lines([Series(name="a", x=[0.5, 0.75], y=[0.8, 0.25], note="mean 0.5")], **AXES)
    assert figure.description == "ROC. a, mean 0.5: 0.8 at 0.5, 0.25 at 0.75."


def test_styles_are_taken_in_turn():
    """More lines than styles begin anew."""
    figure = draw_lines([Series(name=str(n), x=[0], y=[0]) for n in range(LINE_STYLES + 1)], **AXES)
    assert [line.style for line in figure.lines] == [*range(LINE_STYLES), 0]


@pytest.mark.parametrize("y", [[], [None], [math.nan]])
def test_without_points_there_is_no_figure(y):
    """Probabilities were not given."""
    assert draw_lines([Series(name="a", x=[0.0] * len(y), y=y)], **AXES) is None
