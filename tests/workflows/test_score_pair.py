"""What happens to one case: its objects for the pictures, and faults that become failures."""

from dataclasses import replace

import numpy as np

from uvea.arrays.labels import LabelMap
from uvea.errors import ImageError
from uvea.evaluation.instances import overlaps
from uvea.images import Image, write
from uvea.workflows import evaluation_page
from uvea.workflows.matching import Pair
from uvea.workflows.score_pair import Measures, Question, kinds_of, load, look, read_beside, score

BINARY = LabelMap(kind="values", values=(0, 1))


def test_every_object_has_its_kind():
    """1 is found, 2 missed, 3 split into two halves, 4 and 5 merged; 9 is false."""
    reference = np.array([1, 1, 0, 2, 2, 0, 3, 3, 3, 3, 0, 4, 4, 5, 5, 0, 0])
    prediction = np.array([7, 7, 0, 0, 0, 0, 6, 6, 8, 8, 0, 2, 2, 2, 2, 0, 9])
    found, predicted = kinds_of(overlaps(reference, prediction))
    assert found == {1: "matched", 2: "missed", 3: "split", 4: "merged", 5: "merged"}
    assert predicted == {7: "matched", 6: "split", 8: "split", 2: "merged", 9: "false"}


def test_nothing_has_no_kinds():
    """Empty masks, and objects that never meet."""
    nothing = np.zeros(4, int)
    assert kinds_of(overlaps(nothing, nothing)) == ({}, {})
    assert kinds_of(overlaps(np.array([1, 0]), np.array([0, 1]))) == ({1: "missed"}, {1: "false"})


def test_a_file_that_cannot_be_read_is_a_failure_and_no_exception(tmp_path):
    """In both steps, with the kind of the error."""
    (tmp_path / "a.png").write_bytes(b"no image")
    pair = Pair(case="a", reference=tmp_path / "a.png", prediction=tmp_path / "a.png")
    for found in (look(Question(pair=pair)), score((pair, Measures(labels=BINARY)))):
        assert found.failure is not None and found.failure.kind is ImageError
        assert str(tmp_path / "a.png") in found.failure.problem


def test_probabilities_of_an_integer_type_run_to_its_largest_value(tmp_path):
    """8 bits: 255 is one; the second channel of a mask of two classes is the foreground."""
    write(tmp_path / "r.png", Image(array=np.array([[[0, 1]]], np.uint8), axes="yx"))
    write(tmp_path / "p.png", Image(array=np.array([[[51, 255]]], np.uint8), axes="yx"))
    pair = Pair(case="a", reference=tmp_path / "r.png", prediction=tmp_path / "p.png", probabilities=tmp_path / "p.png")
    loaded = load(pair, Measures(labels=BINARY))
    np.testing.assert_allclose(loaded.probabilities, [[[0.8, 0.0]], [[0.2, 1.0]]], atol=1e-6)
    assert loaded.prediction.tolist() == [[0, 1]]


def test_pieces_are_counted_only_where_asked_for(tmp_path):
    """They take most of the time, and nobody needs them where the user named all values."""
    write(tmp_path / "r.png", Image(array=np.array([[[0, 1, 0, 1, 2, 3]]], np.uint8), axes="yx"))
    pair = Pair(case="a", reference=tmp_path / "r.png", prediction=None)
    assert look(Question(pair=pair)).pieces == {1: 2, 2: 1, 3: 1}
    assert look(Question(pair=pair, pieces=False)).pieces == {}
    assert look(Question(pair=pair, pieces=False)).values == {0: 2, 1: 2, 2: 1, 3: 1}


def test_axes_of_the_masks_help_where_an_image_or_a_map_does_not_fit(tmp_path):
    """Three slices are taken for three channels otherwise; so do maps of two classes of it, with channels in front."""
    mask = Image(array=np.zeros((1, 3, 4, 5), np.uint8), axes="zyx")
    zyx, plain = (Measures(labels=BINARY, axes=axes) for axes in ("zyx", None))
    for name, shape in (("image", (3, 4, 5)), ("maps", (2, 3, 4, 5)), ("other", (4, 4, 5))):
        np.save(tmp_path / f"{name}.npy", np.zeros(shape, np.uint8))
    image, maps, other = (tmp_path / f"{name}.npy" for name in ("image", "maps", "other"))
    assert read_beside(image, mask, plain).array.shape == (3, 4, 5)
    assert read_beside(image, mask, zyx).array.shape == (1, 3, 4, 5)
    assert read_beside(maps, mask, zyx).array.shape == (2, 3, 4, 5)
    assert read_beside(other, mask, zyx).array.shape == read_beside(other, mask, plain).array.shape
    pair = Pair(case="a", reference=image, prediction=image, probabilities=maps, image=image)
    assert load(pair, zyx).probabilities.shape == (2, 3, 4, 5)
    assert evaluation_page._example(pair, zyx).image.shape == (1, 3, 4, 5)


def test_a_mask_has_no_threshold_of_membranes(tmp_path):
    """It is perfect at every one, also at 0, from which a map would be membrane everywhere."""
    cells = np.full((9, 9), 1, np.uint8)
    cells[4] = 0
    write(tmp_path / "m.png", Image(array=cells[None], axes="yx"))
    pair = Pair(case="m", reference=tmp_path / "m.png", prediction=tmp_path / "m.png")
    for threshold in (0.0, 0.5, 1.0):
        found = score((pair, Measures(labels=BINARY, membranes=True, membrane_threshold=threshold))).curve
        assert (found.fixed.v_rand, found.scores[0].v_info) == (1.0, 1.0)


def test_nearly_whole_numbers_are_scored_as_the_numbers_that_they_are(tmp_path):
    """As in a training; in the reference and in the prediction."""
    np.save(tmp_path / "m.npy", np.array([[0, 1.0000153]], np.float32))
    pair = Pair(case="m", reference=tmp_path / "m.npy", prediction=tmp_path / "m.npy")
    assert look(Question(pair=pair, marks=True)).values == {0: 1, 1: 1}
    found = load(pair, Measures(labels=BINARY))
    assert found.reference.tolist() == found.prediction.tolist() == [[0, 1]]


def test_values_that_are_no_probabilities_or_no_labels_are_named(tmp_path):
    """NaN in a map, infinity in a mask of floats."""
    write(tmp_path / "r.npy", Image(array=np.array([[[0, 1]]], np.uint8), axes="yx"))
    for name, value in (("soft", np.nan), ("mask", np.inf)):
        np.save(tmp_path / f"{name}.npy", np.array([[0.0, value]]))
    pair = Pair(case="a", reference=tmp_path / "r.npy", prediction=tmp_path / "r.npy")
    failed = score((replace(pair, probabilities=tmp_path / "soft.npy"), Measures(labels=BINARY))).failure
    assert failed is not None and failed.problem.endswith("soft.npy has NaN values, which are no probabilities")
    failed = score((replace(pair, prediction=tmp_path / "mask.npy"), Measures(labels=BINARY))).failure
    assert failed is not None and failed.problem.endswith("mask.npy has a value that is no label: inf")
