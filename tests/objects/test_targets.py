"""Targets of objects worked by hand, cut off, in pieces, touching, large and small."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import ShapeError
from uvea.objects.targets import targets


def disc(shape, centre, radius, *, steps=None):
    """True within a radius, edge pixels included."""
    steps = np.array(steps or (1,) * len(shape)).reshape(-1, *[1] * len(shape))
    away = (np.indices(shape) - np.array(centre).reshape(-1, *[1] * len(shape))) * steps
    return (away**2).sum(axis=0) <= radius**2


def test_a_row_of_five_pixels_by_hand():
    """Edges at 0.5, 1.5, 2.5 from the centres, the centre at 2, 1, 0: e / (e + c) is 1/5, 3/5 and 1."""
    foreground, border, centre = targets(np.array([[0, 7, 7, 7, 7, 7, 0]]))
    assert foreground.tolist() == [[0, 1, 1, 1, 1, 1, 0]]
    assert not border.any()
    np.testing.assert_allclose(centre, [[0, 0.2, 0.6, 1, 0.6, 0.2, 0]], atol=1e-6)


def test_a_disc_by_hand():
    """A disc of radius 3: from its centre e / (e + c) is 1, beside it √2 + 1/2 to the edge, then 1.5 and 0.5."""
    ids = disc((11, 11), (5, 5), 3).astype(int)
    foreground, border, centre = targets(ids)
    assert np.array_equal(foreground, ids) and not border.any()
    beside = (2**0.5 + 0.5) / (2**0.5 + 1.5)  # the last pixel on the way to the nearest edge is one down, one right
    np.testing.assert_allclose(centre[5, 5:10], [1, beside, 1.5 / 3.5, 0.5 / 3.5, 0], atol=1e-6)
    # Every way of turning and mirroring the disc is the same disc.
    for turned in (centre.T, centre[::-1], centre[:, ::-1]):
        np.testing.assert_allclose(centre, turned, atol=1e-6)


def test_small_and_large_objects_have_the_same_peak():
    """One pixel and a disc of radius 20 both reach 1, at one pixel each."""
    ids = np.where(disc((50, 60), (25, 25), 20), 1, 0)
    ids[5, 55] = 2
    centre = targets(ids)[2]
    assert np.argwhere(centre == 1).tolist() == [[5, 55], [25, 25]]


def test_a_long_object_has_one_peak():
    """The depth of a bar is the same all along; its centre map falls to both ends."""
    ids = np.zeros((9, 41), int)
    ids[3:6, 3:38] = 1
    row = targets(ids)[2][4, 3:38]
    assert (np.diff(row[:18]) > 0).all() and (np.diff(row[17:]) < 0).all()


def test_what_is_cut_off_is_no_edge():
    """Half a disc at the border of the crop has its centre there, and it is as deep as what is seen of it."""
    ids = disc((11, 9), (5, 0), 4).astype(int)
    centre = targets(ids)[2]
    assert centre.max() == 1
    assert centre[5, 0] > 0.5 and centre[5, 0] > centre[5, 4]
    everything = targets(np.full((6, 5), 3))
    assert (everything[0] == 1).all() and not everything[1].any() and (everything[2] == 1).all()


def test_pieces_of_one_object_are_objects_of_their_own():
    """Two pieces of one id have a peak each; pieces that meet at a corner are one."""
    ids = np.zeros((9, 20), int)
    ids[2:7, 2:7] = ids[2:7, 12:17] = 4
    assert np.argwhere(targets(ids)[2] == 1).tolist() == [[4, 4], [4, 14]]
    assert targets(np.array([[5, 0], [0, 5]]))[2].max() == 1
    assert (targets(np.array([[5, 0], [0, 5]]))[2] == 1).sum() == 1


def test_a_hole_is_an_edge():
    """Pixels beside a hole are as near to the edge as those at the outside."""
    ids = disc((21, 21), (10, 10), 9).astype(int)
    ids[10, 10] = 0
    foreground, _, centre = targets(ids)
    assert foreground[10, 10] == centre[10, 10] == 0
    assert centre[10, 11] < 0.3


def test_borders_are_as_wide_as_the_smaller_object_allows():
    """Two discs of radius 14 have three pixels on each side; one of radius 3 beside a large one has one."""
    large = np.where(disc((40, 62), (20, 15), 14), 1, 0) + np.where(disc((40, 62), (20, 44), 14), 2, 0)
    border = targets(large)[1]
    assert np.flatnonzero(border[20]).tolist() == [27, 28, 29, 30, 31, 32]
    unequal = np.where(disc((40, 62), (20, 15), 14), 1, 0) + np.where(disc((40, 62), (20, 33), 3), 2, 0)
    assert np.flatnonzero(targets(unequal)[1][20]).tolist() == [29, 30]


def test_a_narrow_gap_is_border_and_a_wide_one_is_not():
    """One pixel of background between two objects is to be told apart; eight are no trouble."""
    near, far = np.zeros((2, 12, 30), int)
    near[:, 2:10], near[:, 11:19] = 1, 2
    far[:, 2:10], far[:, 18:26] = 1, 2
    assert targets(near)[1][6, 10] == 1
    assert not targets(far)[1].any()


def test_pixels_that_were_not_annotated_are_no_edge_and_no_object():
    """An object beside IGNORE goes on for all we know."""
    ids = np.array([[0, 3, 3, 3, -1, -1, -1]])
    foreground, border, centre = targets(ids)
    assert foreground.tolist() == [[0, 1, 1, 1, 0, 0, 0]]
    assert not border.any()
    assert centre[0, 3] > centre[0, 1] and not centre[0, 4:].any()


def test_thick_slices_are_measured_in_their_unit():
    """In two slices of 5 every pixel has an edge 2.5 above or below, and in the plane the outline still shows."""
    ids = np.zeros((4, 21, 21), int)
    ids[1:3] = disc((21, 21), (10, 10), 7)
    centre = targets(ids, spacing=(5, 1, 1))[2]
    assert centre[1, 10, 10] == 1
    np.testing.assert_allclose(centre[1, 10, 17], 0.5 / 7.5, atol=1e-6)
    np.testing.assert_allclose(centre[2, 10, 10], 2.5 / 7.5, atol=1e-6)


def test_scaling_the_spacing_changes_nothing():
    """Targets are shares of each object's own size."""
    ids = np.where(disc((8, 20, 20), (4, 8, 8), 6, steps=(2, 1, 1)), 1, 0)
    ids[3:6, 12:18, 12:18] = 2
    np.testing.assert_allclose(targets(ids, spacing=(2, 1, 1)), targets(ids, spacing=(0.5, 0.25, 0.25)), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.int32,
        st.one_of(st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 6)] * 3)),
        elements=st.integers(-1, 4),
    )
)
def test_targets_of_any_ids_are_in_range_and_know_no_numbers(ids):
    """All in [0, 1], 0 off the objects but for borders, and the same for any other numbers of the objects."""
    found = targets(ids)
    assert np.isfinite(found).all() and found.min(initial=0) >= 0 and found.max(initial=0) <= 1
    assert np.array_equal(found[0], ids > 0)
    assert (found[2][ids > 0] > 0).all() and not found[2][ids <= 0].any()
    renumbered = np.array([0, 900, 3, 70_000, 1, -1])[ids]
    np.testing.assert_array_equal(targets(renumbered), found)


def test_a_crop_takes_milliseconds():
    """A crop of 256² with a hundred objects: 5 ms on a quiet machine; the limit leaves room for a busy one."""
    ids = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((25, 25), int))
    ids = np.pad(ids * np.kron(np.ones((10, 10), int), np.pad(np.ones((21, 21), int), 2)), 3)
    targets(ids)
    took = []
    for _ in range(5):
        start = time.process_time()
        targets(ids)
        took.append(time.process_time() - start)
    assert min(took) < 0.04


def test_a_spacing_that_does_not_fit_is_refused():
    """By both numbers."""
    with pytest.raises(ShapeError, match=r"spacing \(1, 1\) does not fit ids of 3 axes"):
        targets(np.zeros((2, 2, 2), int), spacing=(1, 1))
