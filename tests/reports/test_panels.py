"""Pictures against pixels worked by hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from uvea.errors import ShapeError
from uvea.reports.overlays import ERRORS, OBJECT_COLOURS
from uvea.reports.panels import Example, Objects, draw, error_legend, object_legend


def decoded(uri):
    """The picture in a data URI."""
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_volume_opens_at_its_fullest_slice():
    """All slices are there; the alternative text describes all of them."""
    labels = np.zeros((4, 6, 5), dtype=np.int16)
    labels[3] = 1
    made = draw(Example(name="v", image=np.zeros((1, 4, 6, 5)), truth=labels, prediction=labels), ["a", "b"])
    assert (made.note, made.sheet.slices, made.sheet.start) == ("4×6×5 voxels", (0, 1, 2, 3), 3)
    assert [panel.title for panel in made.panels] == ["Image", "Reference", "Prediction", "Error"]
    assert made.panels[1].alt == "Reference of v: b 25.0%"
    error = decoded(made.panels[3].overlay)
    assert error.size == made.sheet.size
    found = [error.getpixel(place) for place in made.sheet.places]
    assert [colour[3] > 0 for colour in found] == [False, False, False, True]
    assert found[3][:3] == ERRORS["found (true positive)"]


def test_a_deep_volume_is_thinned():
    """The note says how many slices are left, and the busiest is one of them."""
    labels = np.zeros((200, 3, 4), dtype=np.uint8)
    labels[123] = 1
    made = draw(Example(name="deep", truth=labels), [])
    assert made.note == "200×3×4 voxels, 64 of its slices"
    assert made.sheet.slices[made.sheet.start] == 123


def test_masks_alone_are_shown():
    """An evaluation often has no images."""
    labels = np.ones((4, 4), dtype=int)
    made = draw(Example(name="x", truth=labels, prediction=labels), ["background", "cell"])
    assert made.base is None
    assert [panel.title for panel in made.panels] == ["Reference", "Prediction", "Error"]


def test_objects_take_the_place_of_classes():
    """The alternative text counts them, and the legend has the kinds that occur."""
    ids = np.zeros((6, 6), dtype=np.int32)
    ids[:2, :2], ids[4:, 4:] = 1, 2
    objects = Objects(
        reference=ids, prediction=ids * 0, reference_kinds={1: "missed", 2: "missed"}, prediction_kinds={}
    )
    made = draw(Example(name="x", image=np.zeros((1, 6, 6)), objects=objects), [])
    assert [panel.alt for panel in made.panels[1:3]] == ["Reference of x: 2 missed", "Prediction of x: no objects"]
    assert object_legend([made]) == [("missed", OBJECT_COLOURS["missed"])]
    assert decoded(made.panels[1].overlay).getpixel((0, 0)) == (*OBJECT_COLOURS["missed"], 255)
    assert decoded(made.panels[3].overlay).getpixel((0, 0))[:3] == ERRORS["missed (false negative)"]


def test_the_legend_of_errors_names_rare_kinds_only_if_they_occur():
    """Two classes cannot be confused with each other where there is one."""
    one, other = np.array([[1, 0]]), np.array([[2, 0]])
    plain = draw(Example(name="x", truth=one, prediction=one), [])
    mixed = draw(Example(name="x", truth=one, prediction=other), [])
    assert [name for name, _ in error_legend([plain])] == list(ERRORS)[:3]
    assert [name for name, _ in error_legend([plain, mixed])] == list(ERRORS)[:4]
    assert error_legend([draw(Example(name="x", truth=one), [])]) == []


def test_one_pixel_is_enough():
    """The smallest image has all panels."""
    pixel = np.ones((1, 1), dtype=int)
    made = draw(Example(name="p", image=pixel[None], truth=pixel, prediction=0 * pixel), [])
    assert (made.sheet.width, made.sheet.height, made.coarse) == (1, 1, True)
    assert decoded(made.panels[3].overlay).getpixel((0, 0))[:3] == ERRORS["missed (false negative)"]


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


def test_an_example_without_arrays_is_refused():
    """There is nothing to draw."""
    with pytest.raises(ShapeError, match="'x' has no arrays"):
        draw(Example(name="x"), [])
