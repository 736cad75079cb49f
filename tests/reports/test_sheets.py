"""Slices lie where the page looks for them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from uvea.reports.overlays import SIDE
from uvea.reports.sheets import MOST_SLICES, SLICE_SIDE, busiest_slice, kept_slices, picture, sheet_of


def decoded(uri):
    """The picture in a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_slice_with_most_foreground_is_shown():
    """Slice 2 has two pixels; without foreground it is the middle."""
    labels = np.zeros((4, 3, 3), dtype=int)
    labels[1, 0, 0] = labels[2, 0, 0] = labels[2, 1, 1] = 1
    assert busiest_slice(4, labels) == 2
    assert busiest_slice(4, np.zeros_like(labels)) == 2
    assert busiest_slice(5, None) == 2


@pytest.mark.parametrize("depth", [1, 2, MOST_SLICES, MOST_SLICES + 1, 200, 5000])
def test_kept_slices_hold_the_busiest_the_first_and_the_last(depth):
    """Never more than can be shown, in order, none twice, no gap much larger than another."""
    for busiest in {0, depth // 3, depth - 1}:
        kept = kept_slices(depth, busiest)
        assert len(kept) == min(depth, MOST_SLICES)
        assert list(kept) == sorted(set(kept))
        assert busiest in kept
        assert kept[0] == 0 and kept[-1] == depth - 1
        assert max(np.diff(kept), default=0) <= 1.6 * depth / len(kept) + 1


def test_slices_lie_row_by_row():
    """Five slices of 4×3 with a rim of one: three in a row of cells of 5 by 6, two below."""
    sheet = sheet_of((5, 4, 3), None)
    assert (sheet.columns, sheet.size) == (3, (15, 12))
    assert sheet.places == ((1, 1), (6, 1), (11, 1), (1, 7), (6, 7))
    assert (sheet.start, sheet.depth) == (2, 5)


@pytest.mark.parametrize("lossy", [False, True])
def test_each_slice_is_found_at_its_place(lossy):
    """Slice n has the gray value 40·n, its rim included, so that nothing of a neighbour is seen."""
    sheet = sheet_of((5, 4, 3), None)
    whole = np.asarray(
        decoded(picture(lambda number: np.full((4, 3, 3), 40 * number, np.uint8), sheet, lossy=lossy)), dtype=int
    )
    for number, (left, top) in enumerate(sheet.places):
        cell = whole[top - 1 : top + 5, left - 1 : left + 4]
        assert np.abs(cell - 40 * number).max() <= (0 if not lossy else 60)
        assert abs(np.median(cell) - 40 * number) <= (0 if not lossy else 12)


@pytest.mark.parametrize("shape", [(1000, 500), (1, 5000), (SIDE, SIDE), (7, 3)])
def test_pictures_fit_and_are_never_enlarged(shape):
    """The longest side is at most SIDE, and the picture has the size that the sheet says."""
    sheet = sheet_of(shape, None)
    assert max(sheet.width, sheet.height) == min(SIDE, max(shape))
    assert decoded(picture(lambda _: np.zeros((*shape, 3), np.uint8), sheet)).size == (sheet.width, sheet.height)


def test_slices_are_smaller_than_images():
    """There are many of them."""
    assert sheet_of((2, 1000, 500), None).height == SLICE_SIDE
