"""Pictures against pixels worked by hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from uvea.errors import ShapeError
from uvea.reports.panels import (
    CLASS_COLOURS,
    ERRORS,
    SIDE,
    Example,
    busiest_slice,
    class_colour,
    class_overlay,
    draw,
    error_kinds,
    error_overlay,
    to_rgb,
)


def decoded(uri):
    """The picture in a data URI."""
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_errors_by_hand():
    """Found is green, missed red, not there blue, background clear."""
    truth, prediction = np.array([[1, 1], [0, 0]]), np.array([[1, 0], [1, 0]])
    kinds = error_kinds(truth, prediction)
    np.testing.assert_array_equal(kinds, [[1, 2], [3, 0]])
    green, red, blue = list(ERRORS.values())[:3]
    drawn = error_overlay(kinds)
    assert [tuple(drawn[place][:3]) for place in ((0, 0), (0, 1), (1, 0))] == [green, red, blue]
    assert drawn[1, 1, 3] == 0
    for colour, channel in ((green, 1), (red, 0), (blue, 2)):
        assert int(np.argmax(colour)) == channel


def test_wrong_classes_and_ignored_pixels_are_their_own_kinds():
    """Class 2 for class 1 is neither missed nor false alarm; what was not annotated is no error."""
    truth, prediction = np.array([[1, 2, -1, -1]]), np.array([[2, 2, 1, 0]])
    np.testing.assert_array_equal(error_kinds(truth, prediction), [[4, 1, 5, 5]])
    assert list(ERRORS)[3:] == ["wrong class", "not annotated"]


def test_labels_have_a_solid_rim_on_clear_ground():
    """A 3×3 square: its eight border pixels are opaque, its centre is not, the rest is clear."""
    labels = np.zeros((5, 5), dtype=int)
    labels[1:4, 1:4] = 1
    drawn = class_overlay(labels)
    assert (drawn[labels == 0, 3] == 0).all()
    assert (drawn[..., 3] == 255).sum() == 8
    assert 0 < drawn[2, 2, 3] < 255
    assert tuple(drawn[2, 2, :3]) == CLASS_COLOURS[0]


def test_ten_classes_have_ten_colours():
    """More classes than the safe palette has still differ."""
    assert len({class_colour(number) for number in range(1, 11)}) == 10


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64, bool])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_image_becomes_a_picture(dtype, channels, rng):
    """From black to white, whatever the type and number of channels."""
    picture = to_rgb((rng.random((channels, 9, 8)) * 200).astype(dtype))
    assert picture.shape == (9, 8, 3)
    assert picture.dtype == np.uint8


def test_stretching_by_hand():
    """0, 500 and 1000 become black, middle gray and white, and a few hot pixels do not matter."""
    image = np.repeat(np.array([0, 500, 1000], dtype=np.uint16), 1000)
    image = np.append(image, [65535] * 5).reshape(1, 5, 601)
    values = np.unique(to_rgb(image))
    np.testing.assert_array_equal(values, [0, 128, 255])


@pytest.mark.parametrize("value", [0.0, 7.0, np.nan, np.inf])
def test_a_flat_image_is_flat(value):
    """No division by zero, no warning."""
    assert len(np.unique(to_rgb(np.full((1, 3, 4), value, dtype=np.float32)))) == 1


def test_two_channels_are_magenta_and_green():
    """The first alone is magenta, the second alone green."""
    picture = to_rgb(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    np.testing.assert_array_equal(picture, [[[255, 0, 255], [0, 255, 0]]])


def test_the_slice_with_most_foreground_is_shown():
    """Slice 2 has two pixels; without foreground it is the middle."""
    labels = np.zeros((4, 3, 3), dtype=int)
    labels[1, 0, 0] = labels[2, 0, 0] = labels[2, 1, 1] = 1
    assert busiest_slice(4, labels) == 2
    assert busiest_slice(4, np.zeros_like(labels)) == 2
    assert busiest_slice(5, None) == 2


def test_a_volume_is_shown_by_one_slice():
    """The note says which, counted from one."""
    labels = np.zeros((4, 6, 5), dtype=np.int16)
    labels[3] = 1
    made = draw(Example(name="v", image=np.zeros((1, 4, 6, 5)), truth=labels, prediction=labels), ["a", "b"])
    assert made.note == "4×6×5 voxels, slice 4 of 4"
    assert [panel.title for panel in made.panels] == ["Image", "Truth", "Prediction", "Error"]
    assert made.panels[1].alt == "Truth of v: b 100.0%"
    assert decoded(made.panels[3].overlay).getpixel((0, 0))[:3] == ERRORS["found (true positive)"]


def test_one_pixel_is_enough():
    """The smallest image has all panels."""
    pixel = np.ones((1, 1), dtype=int)
    made = draw(Example(name="p", image=pixel[None], truth=pixel, prediction=0 * pixel), [])
    assert (made.width, made.height, made.coarse) == (1, 1, True)
    assert decoded(made.panels[3].overlay).getpixel((0, 0))[:3] == ERRORS["missed (false negative)"]


@pytest.mark.parametrize("shape", [(1000, 500), (1, 5000), (SIDE, SIDE), (7, 3)])
def test_pictures_fit_and_are_never_enlarged(shape):
    """The longest side is at most SIDE, and all pictures of an example have one size."""
    labels = np.ones(shape, dtype=np.uint8)
    made = draw(Example(name="x", image=labels[None], truth=labels, prediction=labels), [])
    sizes = {decoded(made.base).size} | {decoded(p.overlay).size for p in made.panels if p.overlay}
    assert sizes == {(made.width, made.height)}
    assert max(made.width, made.height) == min(SIDE, max(shape))


def test_what_is_not_known_is_not_shown():
    """An image without truth has no error panel."""
    image = np.zeros((1, 4, 4))
    labels = np.zeros((4, 4), dtype=int)
    assert [p.title for p in draw(Example(name="x", image=image), []).panels] == ["Image"]
    made = draw(Example(name="x", image=image, prediction=labels), [])
    assert [p.title for p in made.panels] == ["Image", "Prediction"]


def test_labels_of_another_size_are_refused():
    """The message names the example and both sizes."""
    with pytest.raises(ShapeError, match="truth of 'x' is 4×5, its image 4×4"):
        draw(Example(name="x", image=np.zeros((1, 4, 4)), truth=np.zeros((4, 5), dtype=int)), [])
