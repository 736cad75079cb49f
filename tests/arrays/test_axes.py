"""Axes are named, checked and brought into one order."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvea.arrays.axes import arrange, check_axes
from uvea.errors import ShapeError

LENGTHS = {"c": 2, "z": 3, "y": 4, "x": 5}


@pytest.mark.parametrize("axes", ["".join(order) for n in (2, 3, 4) for order in permutations("czyx", n)])
def test_every_order_arranges_to_the_same_array(axes):
    """A value that encodes its own place ends up in its place, whatever the order in the file."""
    if not {"y", "x"} <= set(axes):
        return
    grids = dict(zip(axes, np.indices([LENGTHS[letter] for letter in axes])))
    code = sum(grids[letter] * 10**power for power, letter in enumerate("xyzc") if letter in grids)
    array, spatial = arrange(code, axes)
    assert spatial == ("zyx" if "z" in axes else "yx")
    wanted = ("c" if "c" in axes else "") + spatial
    expected = np.indices([LENGTHS[letter] for letter in wanted])
    expected = sum(expected[i] * 10 ** "xyzc".index(letter) for i, letter in enumerate(wanted))
    np.testing.assert_array_equal(array, expected if "c" in axes else expected[None])


def test_slices_and_times_of_one_are_dropped():
    """A volume of one slice is a 2D image; one time point is none."""
    array, spatial = arrange(np.zeros((1, 2, 1, 4, 5)), "tczyx")
    assert (array.shape, spatial) == ((2, 4, 5), "yx")


def test_a_time_series_is_not_a_volume():
    """Time keeps its name, so that nothing convolves over it by mistake."""
    array, spatial = arrange(np.zeros((4, 5, 6)), "yxt")
    assert (array.shape, spatial) == ((1, 6, 4, 5), "tyx")


def test_time_and_slices_together_are_refused_with_both_counts():
    """The user must choose what to split by."""
    with pytest.raises(ShapeError, match=r"time \(7\) and slices \(3\)\n.*one file per time point"):
        arrange(np.zeros((7, 3, 4, 5)), "tzyx")


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ("zyq", "mean nothing: q"),
        ("yyx", "name y more than once"),
        ("yx", "name 2 axes, the array has 3 \\(3×4×5\\)"),
        ("czy", "have no x"),
        ("", "have no y and no x"),
    ],
)
def test_wrong_axes_are_refused_with_an_example_that_fits(axes, problem):
    """Each fault has its own sentence, and the hint can be typed."""
    with pytest.raises(ShapeError, match=rf"{problem}\n.*--axes zyx"):
        check_axes(axes, (3, 4, 5))


@settings(max_examples=60, derandomize=True)
@given(st.text(max_size=6), st.lists(st.integers(1, 3), max_size=5))
def test_any_text_is_either_good_axes_or_a_shape_error(axes, shape):
    """No other error, and what passes can be arranged or is refused as time with slices."""
    try:
        good = check_axes(axes, tuple(shape))
        array, spatial = arrange(np.zeros(shape), good)
    except ShapeError as error:
        assert "\n" not in error.problem and "\n" not in error.hint
    else:
        assert array.ndim == len(spatial) + 1
