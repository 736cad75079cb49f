"""Changing sizes moves nothing and invents nothing."""

import numpy as np
import pytest

from uvea.arrays.resample import resample_image, resample_labels

SIZES = [
    ((12, 9), (12, 9)),
    ((12, 9), (24, 18)),
    ((12, 9), (6, 3)),
    ((12, 9), (5, 20)),
    ((1, 7), (4, 7)),
    ((7, 5), (1, 1)),
    ((6, 8, 10), (3, 8, 15)),
]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_constant_images_stay_constant(old, new):
    """Up to the outer edges: nothing comes in from outside."""
    found = resample_image(np.full((2, *old), 3.5, np.float32), new)
    assert (found.shape, found.dtype) == ((2, *new), np.float32)
    np.testing.assert_allclose(found, 3.5, rtol=1e-6)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_no_value_leaves_the_range_of_the_image(old, new, rng):
    """Linear, so nothing rings."""
    array = rng.random((1, *old)).astype(np.float32)
    found = resample_image(array, new)
    assert found.min() >= array.min() - 1e-6
    assert found.max() <= array.max() + 1e-6


def test_the_outer_edges_stay_where_they_are():
    """Pixel centres of a ramp lie at 0.5, 1.5 and on; of twice as many at 0.25, 0.75; of half as many at 1, 3."""
    ramp = (np.arange(16, dtype=np.float32) + 0.5)[None]
    inner = slice(4, -4)
    np.testing.assert_allclose(resample_image(ramp, (32,))[0, inner], (np.arange(32) + 0.5)[inner] / 2, rtol=1e-5)
    np.testing.assert_allclose(resample_image(ramp, (8,))[0, 2:-2], (np.arange(8) + 0.5)[2:-2] * 2, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 0.5])
def test_the_centre_of_a_thing_stays_in_its_place(factor):
    """As a share of the image; half a pixel of shift would be seen."""
    array = np.zeros((1, 24, 24), np.float32)
    array[0, 6:12, 12:18] = 1
    size = round(24 * factor)
    found = resample_image(array, (size, size))[0]
    centres = (np.arange(size) + 0.5) / size
    weights = found / found.sum()
    assert (weights.sum(1) * centres).sum() == pytest.approx(9 / 24, abs=0.002)
    assert (weights.sum(0) * centres).sum() == pytest.approx(15 / 24, abs=0.002)


def test_a_pattern_finer_than_the_new_pixels_becomes_gray():
    """A chessboard at a third of its size; without smoothing it would be a chessboard again."""
    board = np.indices((48, 48)).sum(0) % 2
    found = resample_image(board[None].astype(np.float32), (16, 16))
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], 0.5, atol=0.05)


def test_the_same_size_is_the_same_image(rng):
    """Not even rounded."""
    array = rng.random((3, 5, 6)).astype(np.float32)
    assert resample_image(array, (5, 6)) is array


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_labels_stay_labels(old, new, rng):
    """No value between two classes, and the ignored one is kept."""
    labels = rng.choice(np.array([-1, 0, 3, 7], np.int16), old)
    found = resample_labels(labels, new)
    assert (found.shape, found.dtype) == (new, np.int16)
    assert set(np.unique(found)) <= set(np.unique(labels))


def test_labels_by_hand():
    """Each new pixel takes the label at its centre."""
    labels = np.array([1, 2, 3], np.int16)
    assert resample_labels(labels, (6,)).tolist() == [1, 1, 2, 2, 3, 3]
    assert resample_labels(labels, (1,)).tolist() == [2]
    assert resample_labels(np.arange(6, dtype=np.int16), (3,)).tolist() == [1, 3, 5]


def test_labels_and_images_agree_on_where_things_are(rng):
    """A resampled image of a mask is above one half where the resampled mask is set, but for its rim."""
    mask = np.zeros((30, 30), np.int16)
    mask[7:19, 10:24] = 1
    for size in ((60, 60), (45, 75), (20, 15)):
        soft = resample_image(mask[None].astype(np.float32), size)[0]
        hard = resample_labels(mask, size)
        assert (hard[soft > 0.9] == 1).all()
        assert (hard[soft < 0.1] == 0).all()
