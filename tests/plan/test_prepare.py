"""From an image as read to what the network sees: channels, spacing, numbers."""

import numpy as np
import pytest

from uvea.arrays.labels import classes_of
from uvea.errors import DatasetError, ImageError, ShapeError
from uvea.images import Image
from uvea.plan.prepare import encode_mask, encode_truth, grid_of, pixel_share, prepare_image, prepare_mask


def gray(*shape, axes="yx", **geometry) -> Image:
    """A seeded 8-bit image."""
    pixels = np.random.default_rng(0).integers(0, 200, (1, *shape), dtype=np.uint8)
    return Image(array=pixels, axes=axes, **geometry)


def test_an_image_keeps_its_size_and_gets_mean_zero(plan):
    """Where the plan resamples nothing and scales by the spread."""
    found = prepare_image(gray(30, 40), plan(), where="a.png")
    assert (found.shape, found.dtype) == ((1, 30, 40), np.float32)
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-5)


def test_gray_images_are_repeated_where_the_model_wants_colour(plan):
    """All three channels are equal."""
    found = prepare_image(gray(8, 9), plan(channels=3, colour=True), where="a.png")
    assert found.shape == (3, 8, 9)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


@pytest.mark.parametrize(("channels", "colour"), [(1, False), (3, True), (2, False)])
def test_other_numbers_of_channels_are_refused(plan, channels, colour):
    """A network has one number of inputs; nothing is dropped in silence."""
    image = Image(array=np.zeros((4, 8, 8), np.uint8), axes="yx")
    with pytest.raises(ShapeError, match=rf"a.tif has 4 channel.*trained on {channels}"):
        prepare_image(image, plan(channels=channels, colour=colour), where="a.tif")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused(plan, value):
    """With how many there are."""
    pixels = np.ones((1, 4, 5), np.float32)
    pixels[0, 1, 1:3] = value
    with pytest.raises(ImageError, match="a.npy has 2 pixels that are NaN or infinite"):
        prepare_image(Image(array=pixels, axes="yx"), plan(), where="a.npy")


def test_a_model_of_volumes_refuses_images_and_time(plan):
    """It says what it has been given, and how to name the axes."""
    volumes = plan(axes="zyx")
    for image in (gray(8, 9), gray(7, 8, 9, axes="tyx")):
        with pytest.raises(ShapeError, match=rf"a.tif has axes {image.axes} \(.*8×9\).*\n.*--axes zyx"):
            prepare_image(image, volumes, where="a.tif")


def test_a_model_of_images_takes_volumes_slice_by_slice(plan):
    """Nothing is resampled across slices."""
    made = plan({"spacing": "1,1"}, unit="um", spacing=(1.0, 1.0))
    volume = gray(5, 8, 10, axes="zyx", unit="um", spacing=(4.0, 0.5, 1.0))
    assert grid_of(volume, made) == (5, 4, 10)
    assert prepare_image(volume, made, where="a.tif").shape == (1, 5, 4, 10)


@pytest.mark.parametrize(
    ("spacing", "grid"),
    [((1.0, 1.0), (30, 40)), ((2.0, 0.5), (60, 20)), ((1.004, 1.0), (30, 40)), ((0.001, 1.0), (1, 40))],
)
def test_the_grid_follows_the_spacing(plan, spacing, grid):
    """30×40 pixels brought to 1 µm; a rounding in the header changes nothing, and an axis never vanishes."""
    made = plan({"spacing": "1,1"}, unit="um")
    image = gray(30, 40, unit="um", spacing=spacing)
    assert grid_of(image, made) == grid
    assert prepare_image(image, made, where="a.tif").shape == (1, *grid)


def test_images_in_another_unit_are_left_as_they_are(plan):
    """Pixels cannot be turned into micrometres; millimetres can."""
    assert grid_of(gray(30, 40), plan({"spacing": "2,2"}, unit="um")) == (30, 40)
    assert grid_of(gray(30, 40), plan({"spacing": "2,2"})) == (15, 20)  # pixels on both sides: every other one
    stack = gray(8, 40, 60, axes="zyx", spacing=(3.0, 0.5, 0.5))  # proportions, as in TIFF without a unit
    assert grid_of(stack, plan({"spacing": "6,1,1"}, axes="zyx")) == (8, 40, 60)
    assert grid_of(gray(30, 40, unit="mm", spacing=(0.001, 0.004)), plan({"spacing": "2,2"}, unit="um")) == (15, 80)


def test_pixels_are_counted_at_the_spacing_of_the_plan_where_images_are_brought_to_it(plan):
    """One of 1×1 µm is four of 0.5×0.5; a hundredth of rounding, or another kind of unit, changes nothing."""
    fine = plan({"spacing": "0.5,0.5"}, unit="um")
    assert pixel_share("yx", (1.0, 1.0), "um", fine) == 4
    assert pixel_share("yx", (0.001, 0.00025), "mm", fine) == pytest.approx(1)
    assert pixel_share("yx", (0.504, 0.5), "um", fine) == 1
    assert pixel_share("yx", (1.0, 1.0), "px", fine) == pixel_share("yx", (9.0, 9.0), "um", plan(unit="um")) == 1
    assert pixel_share("zyx", (7.0, 1.0, 1.0), "um", fine) == 4  # slices stay as they are
    assert pixel_share("zyx", (3.0, 0.5, 0.5), "px", plan({"spacing": "3,1,1"}, axes="zyx")) == 2


def test_a_mask_lands_on_the_grid_of_its_image_and_stays_labels(plan):
    """Half the size: no value that was not there before."""
    made = plan({"spacing": "2,2"}, unit="um")
    image = gray(8, 8, unit="um", spacing=(1.0, 1.0))
    classes = (np.arange(8) > 3).astype(np.uint8) * np.ones((1, 8, 1), np.uint8)
    found = prepare_mask(Image(array=classes, axes="yx"), made, where="m.png", like=image)
    assert found.tolist() == [[0, 0, 1, 1]] * 4


def test_a_mask_of_another_size_is_refused(plan):
    """Both sizes are in the message."""
    with pytest.raises(ShapeError, match=r"m.png is 8×9, its image 8×8 \(yx\)"):
        prepare_mask(gray(8, 9), plan(), where="m.png", like=gray(8, 8))


def test_unknown_values_in_a_mask_are_refused_by_name(plan):
    """The plan knows 0 and 1."""
    mask = Image(array=np.full((1, 2, 2), 7, np.uint8), axes="yx")
    with pytest.raises(DatasetError, match=r"m.png.*7"):
        encode_mask(mask, plan().labels, where="m.png")


@pytest.mark.parametrize("size", [1e4, 1e30, 1e300])
def test_a_pixel_size_that_would_swell_an_image_is_refused_before_it_does(plan, size):
    """A header may say anything: 30×40 pixels of a kilometre are no image at one micrometre."""
    made = plan({"spacing": "1,1"}, unit="um")
    with pytest.raises(ImageError, match=r"30×40 pixels .* would become one of .*\n.*correct the pixel size"):
        prepare_image(gray(30, 40, unit="um", spacing=(size, size)), made, where="a.tif")


def test_objects_are_numbered_and_resampled_by_their_nearest_pixel(plan):
    """int32, on the grid that the image is prepared to."""
    made = plan({"spacing": "2,2"}, instances=True, unit="um", spacing=(1.0, 1.0))
    ids = np.zeros((1, 8, 8), np.uint16)
    ids[0, :4, :4], ids[0, 4:, 4:] = 700, 3
    image = Image(array=ids, axes="yx", spacing=(1.0, 1.0), unit="um")
    found = prepare_mask(image, made, where="m.png", like=image)
    assert found.dtype == np.int32 and found.shape == (4, 4)
    assert found.tolist() == [[700] * 2 + [0] * 2] * 2 + [[0] * 2 + [3] * 2] * 2


def test_an_object_has_another_number_in_each_frame(plan):
    """Also where the mask follows it; classes stay what they are."""
    ids = np.array([[[[0, 5, 5]], [[0, 5, 9]]]], np.uint16)
    found = encode_truth(Image(array=ids, axes="tyx"), plan(instances=True), where="m.tif")
    assert found.tolist() == [[[0, 5, 5]], [[0, 10, 14]]]
    shares = {"class_fraction": (0.8, 0.1, 0.1), "class_cases": (20, 20, 20)}
    made = plan({"task": "objects"}, names=("background", "a", "b"), **shares)
    classes = np.array([[[[0, 1, 2]], [[1, 0, 2]]]], np.uint8)
    found = encode_truth(Image(array=classes, axes="tyx"), made, where="m.tif")
    assert classes_of(found, 3).tolist() == classes[0].tolist()
    assert len(np.unique(found)) == 5
