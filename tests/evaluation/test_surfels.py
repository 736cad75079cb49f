"""Surfels against lengths and areas worked by hand, and the properties that must hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import ShapeError
from uvea.evaluation import surfels
from uvea.evaluation.surfels import assd_surfel, hd95_surfel, hd_surfel, masd_surfel, nsd_surfel, surfel_scores


def box(shape, *ranges):
    """A mask of `shape` that is True inside the half-open index ranges."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*span) for span in ranges)] = True
    return mask


def values(scores):
    """The five numbers in a row."""
    return [scores.hd, scores.hd95, scores.assd, scores.masd, scores.nsd]


def test_surfels_of_one_pixel_worked_by_hand():
    """A pixel has four corner cells of half a diagonal each; the same two columns on, half of them are 1 away."""
    first, second = box((5, 9), (2, 3), (2, 3)), box((5, 9), (2, 3), (4, 5))
    scores = surfel_scores(first, second, spacing=(1, 1), tolerance=1)
    assert values(scores) == pytest.approx([2, 2, 1.5, 1.5, 0.5])
    assert surfels._surfel_areas((3.0, 4.0))[1] == 2.5


def test_surfels_weigh_by_length():
    """A bar of 1×3 against 1×2: lengths 2·√½ + 4·1 + 2·√½ and two less; one end lies one pixel off."""
    first, second = box((3, 9), (1, 2), (2, 5)), box((3, 9), (1, 2), (2, 4))
    corner = math.sqrt(0.5)
    lengths = 4 * corner + 4, 4 * corner + 2
    scores = surfel_scores(first, second, tolerance=0)
    assert scores.hd == 1
    assert scores.hd95 == 1
    assert scores.nsd == pytest.approx((lengths[0] - 2 * corner + lengths[1]) / sum(lengths))
    assert scores.assd == pytest.approx(2 * corner / sum(lengths))
    assert scores.masd == pytest.approx(2 * corner / lengths[0] / 2)


@pytest.mark.parametrize("area", [0.1, 0.3, 0.7, 1.0])
def test_the_percentile_by_area_does_not_hang_on_rounding(area):
    """Nineteen of twenty equal areas are 95 %, also where their binary sum falls a hair short."""
    distances = np.arange(20.0)[::-1]
    assert surfels._weighted_percentile(distances, np.full(20, area), 0.95) == 18
    assert surfels._weighted_percentile(distances, np.full(20, area), 0.96) == 19


def test_the_area_of_a_flat_surface_is_that_of_its_voxel_faces():
    """Cells with four corners on one side hold one face each; a single corner cuts off a triangle."""
    areas = surfels._surfel_areas((2.0, 3.0, 5.0))
    flat = {0b00001111: 15, 0b00110011: 10, 0b01010101: 6}
    for code, area in flat.items():
        assert areas[code] == areas[255 - code] == pytest.approx(area)
    assert areas[1] == areas[254] == pytest.approx(math.sqrt((3 * 5) ** 2 + (2 * 5) ** 2 + (2 * 3) ** 2) / 8)
    assert areas[0] == areas[255] == 0


def test_a_surface_has_one_area_seen_from_either_side():
    """A cell and its complement hold the same surface; two corners that do not touch cut off two triangles."""
    areas = surfels._surfel_areas((2.0, 3.0, 5.0))
    np.testing.assert_array_equal(areas, areas[::-1])
    for apart in (0b00001001, 0b00100001, 0b10000001):
        assert areas[apart] == pytest.approx(2 * areas[1])


def test_the_length_of_a_line_in_a_cell():
    """Between two rows it runs along them, between two columns down them; two corners are cut off one by one."""
    lengths = surfels._surfel_areas((3.0, 4.0))
    for code, length in {0b0011: 4, 0b0101: 3, 0b0001: 2.5, 0b1001: 5, 0b0111: 2.5, 0b1111: 0}.items():
        assert lengths[code] == lengths[15 - code] == length


MASKS = arrays.arrays(bool, st.tuples(st.just(2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))


@given(MASKS, st.floats(0, 5))
@settings(max_examples=40, deadline=None)
def test_surfels_keep_the_properties(pair, tolerance):
    """Swapping and padding change nothing; scaling scales; each metric alone is its part of the scores."""
    # One spacing here, so that its table of areas is made once and doubled once.
    spacing = (2.0, 1.0, 0.5)
    found = values(surfel_scores(pair[0], pair[1], spacing=spacing, tolerance=tolerance))
    assert values(surfel_scores(pair[1], pair[0], spacing=spacing, tolerance=tolerance)) == pytest.approx(found)
    padded = np.pad(pair, ((0, 0), (1, 2), (0, 1), (3, 0)))
    assert values(surfel_scores(padded[0], padded[1], spacing=spacing, tolerance=tolerance)) == pytest.approx(found)
    wide = surfel_scores(pair[0], pair[1], spacing=(4.0, 2.0, 1.0), tolerance=2 * tolerance)
    assert values(wide) == pytest.approx([2 * value for value in found[:4]] + found[4:])
    alone = [metric(pair[0], pair[1], spacing=spacing) for metric in (hd_surfel, hd95_surfel, assd_surfel, masd_surfel)]
    assert [*alone, nsd_surfel(pair[0], pair[1], spacing=spacing, tolerance=tolerance)] == found


def test_a_line_has_no_surfels():
    """Their areas are known in 2D and 3D only."""
    with pytest.raises(ShapeError, match="got 1 axes"):
        surfel_scores(np.zeros(3, bool), np.zeros(3, bool), tolerance=1)
