"""Each kind of normalisation, worked by hand, and what holds for all of them."""

import numpy as np
import pytest

from uvea.arrays.normalize import Normalization, normalize

KINDS = [
    Normalization(kind="zscore"),
    Normalization(kind="nonzero"),
    Normalization(kind="percentile", low=1.0, high=99.0),
    Normalization(kind="clip", low=10.0, high=90.0, mean=50.0, std=20.0),
    Normalization(kind="none"),
]


def one(values, **how) -> list[float]:
    """The values of one channel, normalised."""
    return normalize(np.array([values]), [Normalization(**how)])[0].tolist()


def test_zscore_by_hand():
    """Mean 2, spread 1."""
    assert one([1, 3, 1, 3]) == [-1, 1, -1, 1]


def test_nonzero_leaves_the_empty_surround_out_of_mean_and_spread():
    """Of 1 and 3; zeros are moved along."""
    assert one([0, 0, 1, 3], kind="nonzero") == [-2, -2, -1, 1]


def test_nonzero_of_an_empty_image_is_zero():
    """There is nothing else to measure."""
    assert one([0, 0, 0], kind="nonzero") == [0, 0, 0]


def test_percentiles_become_minus_one_and_one_and_outliers_are_cut():
    """Here the 0th and the 50th: 0 and 10; 20 becomes 3, 1000 is cut to 4."""
    assert one([0, 5, 10, 20, 1000], kind="percentile", low=0, high=50) == [-1, 0, 1, 3, 4]


def test_an_image_that_is_black_up_to_a_few_pixels_still_shows_them():
    """Both percentiles are 0, so the whole range is taken."""
    found = one([0] * 99 + [50], kind="percentile", low=1, high=90)
    assert (found[0], found[-1]) == (-1, 1)


def test_clip_keeps_the_physical_scale():
    """The same value becomes the same number in every image."""
    how = {"kind": "clip", "low": -100, "high": 300, "mean": 100, "std": 50}
    assert one([-1000, -100, 100, 200, 3000], **how) == [-4, -4, 0, 2, 4]
    assert one([100, 200], **how) == [0, 2]


def test_none_only_changes_the_type():
    """Values as they are."""
    assert one([3, 250], kind="none") == [3, 250]


def test_channels_are_normalised_apart():
    """Each by its own scheme and its own numbers."""
    array = np.array([[1, 3], [10, 30]], np.uint16)
    found = normalize(array, [Normalization(), Normalization(kind="none")])
    assert found.tolist() == [[-1, 1], [10, 30]]


@pytest.mark.parametrize("how", KINDS, ids=lambda how: how.kind)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int32, np.float16, np.float64])
def test_every_type_becomes_finite_float32_and_the_input_stays(how, dtype, rng):
    """Integers do not wrap around."""
    array = (rng.random((2, 9, 7)) * 200).astype(dtype)
    before = array.copy()
    found = normalize(array, [how, how])
    assert (found.shape, found.dtype) == (array.shape, np.float32)
    assert np.isfinite(found).all()
    assert (array == before).all()


@pytest.mark.parametrize("kind", ["zscore", "nonzero", "percentile"])
@pytest.mark.parametrize("value", [0, 1, 255, 60000.123, -7.3, 1e-12, 1e12])
def test_constant_images_become_zeros(kind, value):
    """Rounding does not become noise."""
    found = normalize(np.full((1, 50, 60), value), [Normalization(kind=kind)])
    assert (found == 0).all()


def test_an_image_that_is_constant_up_to_rounding_becomes_zeros():
    """The last bit of half of the pixels differs; scaled up it would look like noise."""
    array = np.full((1, 4, 4), 1000, np.float32)
    array[0, :2] = np.nextafter(np.float32(1000), np.float32(2000))
    assert (normalize(array, [Normalization()]) == 0).all()


@pytest.mark.parametrize("kind", ["zscore", "percentile"])
def test_brightness_and_contrast_of_the_camera_do_not_matter(kind, rng):
    """Twice the gain and another offset give the same image."""
    array = rng.random((1, 40, 30))
    how = [Normalization(kind=kind, low=2, high=98)]
    np.testing.assert_allclose(normalize(array, how), normalize(array * 2 + 5, how), atol=1e-5)


@pytest.mark.parametrize("how", KINDS, ids=lambda how: how.kind)
def test_brighter_stays_brighter(how, rng):
    """No normalisation changes the order of pixels."""
    values = np.sort(rng.random((1, 100)) * 100)
    assert (np.diff(normalize(values, [how])) >= 0).all()


def test_large_images_are_measured_on_a_sample(rng):
    """More than a million pixels: mean and spread are right to a hundredth."""
    array = rng.normal(100, 15, (1, 1500, 1500)).astype(np.float32)
    found = normalize(array, [Normalization()])
    assert found.mean() == pytest.approx(0, abs=0.01)
    assert found.std() == pytest.approx(1, abs=0.01)
