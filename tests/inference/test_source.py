"""A tile of an image must be what the whole image, prepared at once, has there."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from uvea.arrays.normalize import Normalization
from uvea.errors import ImageError
from uvea.images.image import Image
from uvea.inference import source as module
from uvea.inference.source import Source, source_of
from uvea.plan.fingerprint import Fingerprint
from uvea.plan.plan import Plan
from uvea.plan.prepare import prepare_image

CPU = torch.device("cpu")
KINDS = [
    Normalization(kind="zscore"),
    Normalization(kind="nonzero"),
    Normalization(kind="percentile", low=1, high=99),
    Normalization(kind="clip", low=-3, high=60, mean=20, std=7),
    Normalization(kind="none"),
]


def plan_for(how=KINDS[0], **changes):
    """What reading needs of a plan."""
    settings = {"dims": 2, "channels": 1, "colour": False, "spacing": None, "unit": "px", "patch": (8, 8)}
    settings["fingerprint"] = Fingerprint.unmeasured(channels=1, shape=(8, 8))
    count = changes.get("channels", 1)
    return Plan.model_construct(**{**settings, "normalization": (how,) * count, **changes})


@pytest.mark.parametrize("how", KINDS, ids=lambda how: how.kind)
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "uint32", "float32", "float64", "bool"])
def test_a_tile_is_normalised_as_the_whole_image_is(rng, how, dtype):
    """Every kind, every type of pixel; also where the statistics come from a part of the pixels."""
    array = (rng.integers(0, 250, (2, 1100, 1000)) // rng.integers(1, 90, (2, 1, 1))).astype(dtype)
    image, plan = Image(array=array, axes="yx"), plan_for(how, channels=2)
    whole = prepare_image(image, plan, where="a.tif")
    (tile,) = source_of(image, plan, where="a.tif").read([(slice(70, 90), slice(30, 65))], CPU)
    assert tile.dtype == torch.float32
    assert_allclose(tile.numpy(), whole[:, 70:90, 30:65], atol=2e-5 * np.abs(whole).max())


@pytest.mark.parametrize("how", KINDS[:3], ids=lambda how: how.kind)
def test_a_flat_channel_becomes_zeros(how):
    """Whatever its value."""
    image = Image(array=np.full((1, 9, 9), 77, np.uint8), axes="yx")
    assert not source_of(image, plan_for(how), where="a").read([(slice(0, 9), slice(0, 9))], CPU).any()


def test_beyond_the_end_the_last_row_goes_on():
    """As a network pads inside."""
    source = Source(np.arange(6, dtype=np.float32).reshape(1, 2, 3), 2)
    (tile,) = source.read([(slice(0, 4), slice(1, 5))], CPU)
    assert tile[0].tolist() == [[1, 2, 2, 2], [4, 5, 5, 5], [4, 5, 5, 5], [4, 5, 5, 5]]


def test_slices_of_a_volume_come_as_images():
    """The axis of the slices is left out; the batch is of slices and places as they were asked for."""
    volume = np.arange(24, dtype=np.float32).reshape(1, 4, 2, 3)
    source = Source(volume, 2)
    assert (source.shape, source.slices) == ((2, 3), 4)
    tiles = source.read([(slice(3, 4), slice(0, 2), slice(0, 2)), (slice(0, 1), slice(0, 2), slice(1, 3))], CPU)
    assert tiles.shape == (2, 1, 2, 2)
    assert tiles[0, 0].tolist() == [[18, 19], [21, 22]] and tiles[1, 0].tolist() == [[1, 2], [4, 5]]


def test_a_gray_image_is_repeated_for_a_colour_model(rng):
    """Measured once, not three times; nothing of the size of three channels is made."""
    array = rng.integers(0, 99, (1, 9, 9), dtype=np.uint8)
    source = source_of(Image(array=array, axes="yx"), plan_for(channels=3, colour=True), where="a")
    tiles = source.read([(slice(0, 9), slice(0, 9))], CPU)
    assert source.array.base is not None and source.array.strides[0] == 0
    assert torch.equal(tiles[0, 0], tiles[0, 2]) and tiles.std() > 0.9


def test_nan_in_any_block_is_found(rng, monkeypatch):
    """The image is looked at in blocks of rows; the last one counts as well."""
    monkeypatch.setattr(module, "BLOCK", 20)
    for row in (0, 4, 8):
        array = rng.random((2, 9, 9)).astype(np.float32)
        array[1, row, 3] = np.nan
        with pytest.raises(ImageError, match="a.tif has 1 pixels that are NaN"):
            source_of(Image(array=array, axes="yx"), plan_for(channels=2), where="a.tif")


def test_an_image_of_another_pixel_size_is_prepared_as_a_whole(rng):
    """The same numbers as in training."""
    image = Image(array=rng.random((1, 12, 16)), axes="yx", spacing=(0.5, 0.5), unit="mm")
    plan = plan_for(spacing=(1.0, 1.0), unit="mm")
    source = source_of(image, plan, where="a")
    assert source.shape == (6, 8)
    (tile,) = source.read([(slice(0, 6), slice(0, 8))], CPU)
    assert_allclose(tile.numpy(), prepare_image(image, plan, where="a"))
