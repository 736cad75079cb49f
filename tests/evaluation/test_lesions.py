"""Lesions are counted, hit and false as a person would count them on paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation.lesions import LesionScores, lesion_scores


def drawn(*rows):
    """A mask from rows of text, # for foreground."""
    return np.array([[letter == "#" for letter in row] for row in rows])


REFERENCE = drawn(
    "##.....#",
    "##......",
    ".....#..",
    "....#...",
)
PREDICTION = drawn(
    ".##....#",
    "........",
    "........",
    "##..##.#",
)


def test_a_case_worked_by_hand():
    """Three lesions, all hit; five predicted, of which the two in the lower corners touch nothing."""
    scores = lesion_scores(REFERENCE, PREDICTION)
    assert scores == LesionScores(reference=3, hit=3, predicted=5, false=2)
    assert (scores.recall, scores.precision) == (1.0, pytest.approx(3 / 5))
    assert scores.f1 == pytest.approx(2 * 3 / (2 * 3 + 0 + 2))


def test_with_face_connectivity_a_diagonal_is_two_lesions():
    """The slanted lesion falls apart, and only one of its two pixels is hit."""
    assert lesion_scores(REFERENCE, PREDICTION, connectivity="face") == LesionScores(
        reference=4, hit=3, predicted=5, false=2
    )


def test_full_connectivity_goes_through_the_corner_of_a_voxel():
    """Two voxels that share a corner only are one lesion of 26 neighbours, and two of 6."""
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert lesion_scores(mask, mask).reference == 1
    assert lesion_scores(mask, mask, connectivity="face").reference == 2


def test_one_predicted_lesion_that_covers_two_hits_both():
    """Precision counts it once, recall and F1 count two."""
    scores = lesion_scores(drawn("#.#..#"), drawn("###..."))
    assert scores == LesionScores(reference=3, hit=2, predicted=1, false=0)
    assert (scores.recall, scores.precision) == (pytest.approx(2 / 3), 1.0)
    assert scores.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))


@pytest.mark.parametrize(
    ("reference", "prediction", "recall", "precision", "f1"),
    [("..", "..", None, None, None), ("#.", "..", 0.0, None, 0.0), ("..", ".#", None, 0.0, 0.0)],
)
def test_what_is_undefined_is_none(reference, prediction, recall, precision, f1):
    """No lesions, no recall; none predicted, no precision; nothing missed and nothing false, no F1."""
    scores = lesion_scores(drawn(reference), drawn(prediction))
    assert (scores.recall, scores.precision, scores.f1) == (recall, precision, f1)


@given(arrays.arrays(bool, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6))))
@settings(max_examples=60, deadline=None)
def test_swapping_the_masks_swaps_what_is_missed_and_what_is_false(pair):
    """A lesion that the other mask does not touch is missed one way and false the other way."""
    there, back = lesion_scores(pair[0], pair[1]), lesion_scores(pair[1], pair[0])
    assert (there.reference, there.reference - there.hit) == (back.predicted, back.false)
    assert (there.predicted, there.false) == (back.reference, back.reference - back.hit)
    assert 0 <= there.hit <= there.reference and 0 <= there.false <= there.predicted
    padded = np.pad(pair, ((0, 0), (1, 2), (2, 1)))
    assert lesion_scores(padded[0], padded[1]) == there
    assert lesion_scores(pair[0].astype(np.uint8) * 255, pair[1].astype(np.int64)) == there


def test_masks_that_cannot_be_counted_are_refused():
    """Sizes, types and the connectivity are named."""
    mask = np.zeros((2, 3), bool)
    with pytest.raises(ShapeError, match="prediction is 3×2, its reference 2×3"):
        lesion_scores(mask, mask.T)
    with pytest.raises(DatasetError, match="prediction is of type float64"):
        lesion_scores(mask, mask.astype(float))
    with pytest.raises(DatasetError, match="no connectivity called '8'"):
        lesion_scores(mask, mask, connectivity="8")
