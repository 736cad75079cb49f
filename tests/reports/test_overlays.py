"""Colours against pixels worked by hand."""

import numpy as np
import pytest
from skimage.color import rgb2lab

from uvea.reports.overlays import (
    CLASS_COLOURS,
    ERRORS,
    IGNORED,
    OBJECT_COLOURS,
    class_colour,
    class_overlay,
    error_kinds,
    error_overlay,
    object_overlay,
    to_rgb,
)


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


def test_thirty_classes_can_be_told_apart():
    """The first seven stay; none of thirty is nearer to another, or to gray, than two of the seven are in CIELAB."""
    assert tuple(class_colour(number) for number in range(1, 8)) == CLASS_COLOURS
    colours = np.array([IGNORED, *(class_colour(number) for number in range(1, 31))], np.uint8)
    for places, least in ((colours.astype(float), 30), (rgb2lab(colours), 26)):
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
        assert apart[~np.eye(31, dtype=bool)].min() > least


def test_any_number_of_classes_has_colours():
    """Beyond those that there are, they are used again."""
    assert all(len(class_colour(number)) == 3 for number in (31, 500, 70_000))


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


def test_a_volume_becomes_pictures_of_one_range():
    """A dark slice stays dark beside a bright one."""
    volume = np.stack([np.zeros((4, 4)), np.full((4, 4), 10.0)])[None]
    pictures = to_rgb(volume)
    assert pictures.shape == (2, 4, 4, 3)
    assert (pictures[0].max(), pictures[1].min()) == (0, 255)


def test_objects_are_outlined_by_what_became_of_them():
    """Matched green, split yellow, gray where it is not known; two that touch have two outlines, inside is faint."""
    ids = np.zeros((9, 14), dtype=np.uint32)
    ids[1:8, 0:7], ids[1:8, 7:14] = 70000, 5
    drawn = object_overlay(ids, {70000: "matched"})
    assert tuple(drawn[4, 6]) == (*OBJECT_COLOURS["matched"], 255)
    assert tuple(drawn[4, 7]) == (*IGNORED, 255)
    assert tuple(drawn[4, 3, :3]) == OBJECT_COLOURS["matched"]
    assert drawn[4, 3, 3] < 255
    assert drawn[0, 0, 3] == 0


def test_without_an_image_below_colours_are_stronger():
    """The opacity is a choice of the caller."""
    labels = np.zeros((5, 5), dtype=int)
    labels[1:4, 1:4] = 1
    assert class_overlay(labels, inside=200)[2, 2, 3] == 200
    assert error_overlay(error_kinds(labels, labels), right=200)[2, 2, 3] == 200
