"""Tiles must rebuild an array exactly, whatever the sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvea.arrays.tiles import cut, weight_of
from uvea.errors import ShapeError


@settings(deadline=None)
@given(
    blocks=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    align=st.sampled_from([1, 2, 4]),
    overlap=st.integers(0, 11),
    context=st.integers(0, 3),
)
def test_weights_sum_to_one_everywhere(blocks, align, overlap, context):
    """Stitching loses no pixel and counts none twice."""
    shape = tuple(n * align for n in blocks)
    total = np.zeros(shape)
    for tile in cut(
        shape, (12, 12), overlap=(max(overlap, 2 * context),) * 2, context=(context,) * 2, align=(align,) * 2
    ):
        total[tuple(span.read for span in tile)] += weight_of(tile)
    np.testing.assert_allclose(total, 1, atol=1e-6)


@settings(deadline=None)
@given(length=st.integers(13, 90), context=st.integers(0, 4))
def test_context_counts_nothing_except_at_the_border_of_the_array(length, context):
    """A pixel that counts is `context` away from the tile edge, unless the array ends there."""
    for (span,) in cut((length,), (12,), overlap=(8,), context=(context,)):
        counted = np.flatnonzero(span.weight)
        assert span.read.start == 0 or counted[0] >= context
        assert span.read.stop == length or counted[-1] < 12 - context


def test_a_case_worked_by_hand():
    """Ten elements, tiles of six, an overlap of two: starts 0 and 4, a ramp of a quarter and three quarters."""
    (first,), (second,) = cut((10,), (6,), overlap=(2,))
    assert (first.read, second.read) == (slice(0, 6), slice(4, 10))
    np.testing.assert_allclose(first.weight, [1, 1, 1, 1, 0.75, 0.25])
    np.testing.assert_allclose(second.weight, [0.25, 0.75, 1, 1, 1, 1])


def test_starts_are_multiples_of_the_alignment():
    """Pooling by 8 then falls on the same pixels in every tile."""
    tiles = cut((104,), (48,), overlap=(10,), align=(8,))
    assert all(span.read.start % 8 == 0 for (span,) in tiles)
    assert tiles[-1][0].read.stop == 104


def test_sizes_that_do_not_align_are_refused_with_sizes_that_do():
    """The message names what to pad to."""
    with pytest.raises(ShapeError, match=r"axis of 101 with tiles of 48 .*multiples of 8\n.*pad the axis to 104"):
        cut((101,), (48,), overlap=(8,), align=(8,))


def test_too_much_context_is_refused():
    """A context of 5 on both sides does not fit an overlap of 8."""
    with pytest.raises(ShapeError, match=r"overlap by 8 with 5"):
        cut((100,), (48,), overlap=(8,), context=(5,))
