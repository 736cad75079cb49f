"""Counts, Dice and IoU against the values of the metrics page, and the properties that must hold."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation import overlap
from uvea.evaluation.overlap import counts, dice, flag, iou, precision, recall, specificity
from uvea.evaluation.rows import score_case


def box(shape, *ranges):
    """A mask of `shape` that is 1 inside the half-open index ranges."""
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(*span) for span in ranges)] = 1
    return mask


T3 = box((40, 40), (10, 20), (10, 20)), box((40, 40), (13, 23), (14, 24))
T6 = box((10,) * 3, (3, 6), (3, 6), (3, 6)), box((10,) * 3, (4, 7), (3, 6), (3, 6))
VECTORS = {
    "T1": (box((100, 100), (50, 51), (70, 71)), box((100, 100), (50, 51), (72, 73)), (0, 1, 1), 0, 0),
    "T2": (box((6, 6), (1, 3), (1, 3)), box((6, 6), (1, 4), (1, 3)), (4, 2, 0), 0.8, 0.666667),
    "T3": (*T3, (42, 58, 58), 0.42, 0.265823),
    "T5": (box((10, 10), (0, 4), (0, 4)), box((10, 10), (1, 3), (1, 3)), (4, 0, 12), 0.4, 0.25),
    "T5b": (box((4, 4), (0, 4), (0, 4)), box((4, 4), (1, 3), (1, 3)), (4, 0, 12), 0.4, 0.25),
    "T6": (*T6, (18, 9, 9), 0.666667, 0.5),
    "T8": (
        box((3, 130), (1, 2), (5, 24)),
        box((3, 130), (1, 2), (5, 24)) + box((3, 130), (1, 2), (123, 124)),
        (19, 1, 0),
        0.974359,
        0.95,
    ),
    "T9": (
        box((9, 9), (2, 7), (2, 7)),
        box((9, 9), (2, 7), (2, 7)) - box((9, 9), (4, 5), (4, 5)),
        (24, 0, 1),
        0.979592,
        0.96,
    ),
    "T10": (box((20, 20), (5, 15), (5, 15)), box((20, 20), (6, 14), (6, 14)), (64, 0, 36), 0.780488, 0.64),
}
"""Reference, prediction, TP/FP/FN, Dice, IoU. The spacing variants (T3b, T3c, T6b, T10b) have the same overlap."""


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_the_metrics_page(name):
    """Every overlap column is reproduced to the printed digits."""
    reference, prediction, expected, expected_dice, expected_iou = VECTORS[name]
    _, row = score_case(name, reference, prediction, names=("background", "object"))
    assert (row["tp"], row["fp"], row["fn"]) == expected
    assert row["dice"] == pytest.approx(expected_dice, abs=5e-7)
    assert row["iou"] == pytest.approx(expected_iou, abs=5e-7)
    assert row.flag == ""


MASKS = arrays.arrays(np.int8, st.tuples(st.just(2), st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 2))


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_dice_follows_from_iou_and_swapping_swaps_the_errors(pair):
    """Dice = 2 IoU / (1 + IoU); swapping the masks swaps FP and FN and nothing else."""
    there, back = counts(pair[0], pair[1], classes=3), counts(pair[1], pair[0], classes=3)
    np.testing.assert_array_equal((there.tp, there.fp, there.fn, there.tn), (back.tp, back.fn, back.fp, back.tn))
    overlap = iou(there.tp, there.fp, there.fn)
    np.testing.assert_allclose(dice(there.tp, there.fp, there.fn), 2 * overlap / (1 + overlap), atol=1e-12)
    assert ((there.tp + there.fp + there.fn + there.tn) == pair[0].size).all()


@given(MASKS, st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_padding_with_background_changes_no_foreground_score(pair, width):
    """More background adds true negatives only."""
    padded = np.pad(pair, ((0, 0), (width, width), (width, width)))
    before, after = (
        score_case("a", *masks, names=("0", "1", "2"), spacing=(2, 1), tolerance=1) for masks in (pair, padded)
    )
    for row, other in zip(before[1:], after[1:]):
        changed = {name for name in row.values if row[name] != pytest.approx(other[name])}
        assert changed <= {"tn", "specificity"}


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_counts_equal_the_plain_definition(pair):
    """The joint histogram gives what counting class by class gives."""
    found = counts(pair[0], pair[1], classes=3)
    for label in range(3):
        wanted, given_ = pair[0] == label, pair[1] == label
        assert found.tp[label] == (wanted & given_).sum()
        assert found.fp[label] == (~wanted & given_).sum()
        assert found.fn[label] == (wanted & ~given_).sum()


def test_ignored_pixels_and_pixels_outside_the_region_count_nowhere():
    """Five pixels, one ignored, one outside: three are counted, whatever lies under the others."""
    reference = np.array([1, 1, 0, -1, 1])
    prediction = np.array([1, 0, 1, 99, 1])
    within = np.array([True, True, True, True, False])
    found = counts(reference, prediction, classes=2, within=within)
    assert (found.tp[1], found.fp[1], found.fn[1], found.tn[1]) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    ("reference", "prediction", "score", "expected"),
    [([0, 0], [0, 0], 1.0, "both_empty"), ([0, 1], [0, 0], 0.0, "missed"), ([0, 0], [0, 1], 0.0, "false_alarm")],
)
def test_empty_masks_follow_the_rules(reference, prediction, score, expected):
    """Both empty is perfect, one empty is zero, and each has its flag."""
    row = score_case("a", np.array(reference), np.array(prediction), names=("background", "cell"))[1]
    assert (row["dice"], row["iou"], row.flag) == (score, score, expected)


def test_nothing_left_to_count_is_both_empty():
    """An image that is ignored throughout has no counts and no error."""
    rows = score_case("a", np.full((2, 2), -1), np.ones((2, 2), int), names=("background", "cell"))
    assert [(row["dice"], row.flag) for row in rows] == [(1.0, "both_empty")] * 2


def test_shares_are_undefined_where_there_is_nothing_to_divide_by():
    """8 TP, 2 FP, 4 FN, 6 TN by hand; and an empty prediction, an empty reference, a full reference."""
    assert (precision(8, 2), recall(8, 4), specificity(6, 2)) == (0.8, 8 / 12, 0.75)
    assert (precision(0, 0), recall(0, 0), specificity(0, 0)) == (None, None, None)
    assert (precision(0, 3), recall(0, 3), specificity(0, 3)) == (0.0, 0.0, 0.0)


def test_counting_in_parts_changes_nothing(monkeypatch, rng):
    """A large volume is counted piece by piece: the last piece is shorter, and some are ignored."""
    reference, prediction = rng.integers(-1, 3, (7, 11)), rng.integers(0, 3, (7, 11))
    within = rng.random((7, 11)) < 0.8
    whole = counts(reference, prediction, classes=3, within=within)
    monkeypatch.setattr(overlap, "PART", 10)
    parts = counts(reference, prediction, classes=3, within=within)
    np.testing.assert_array_equal((whole.tp, whole.fp, whole.fn, whole.tn), (parts.tp, parts.fp, parts.fn, parts.tn))


@pytest.mark.parametrize("order", ["C", "F"])
def test_counting_needs_no_copy_of_a_volume(order, monkeypatch):
    """In whichever order it lies in memory: that of nibabel is not that of others."""
    monkeypatch.setattr(overlap, "PART", 1000)
    masks = [np.asarray(np.ones((2, 50, 4000), np.uint8), order=order) for _ in range(2)]
    tracemalloc.start()
    try:
        assert counts(*masks, classes=2, within=masks[0].view(bool)).tp[1] == 400_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_masks_that_lie_in_memory_in_different_orders_are_counted_pixel_by_pixel(rng):
    """A file read by one library against one read by another, and a region that is turned around."""
    reference, prediction = rng.integers(-1, 3, (4, 5, 6)), rng.integers(0, 3, (4, 5, 6))
    within = rng.random((4, 5, 6)) < 0.7
    plain = counts(reference, prediction, classes=3, within=within)
    turned = counts(np.asfortranarray(reference), prediction, classes=3, within=within[::-1].copy()[::-1])
    np.testing.assert_array_equal((plain.tp, plain.fp, plain.fn), (turned.tp, turned.fp, turned.fn))


def test_counts_of_many_classes_in_small_types_do_not_overflow():
    """Label 200 of uint8 times 201 classes needs a wider type."""
    found = counts(np.array([200, 200], np.uint8), np.array([200, 3], np.uint8), classes=201)
    assert (found.tp[200], found.fn[200], found.fp[3]) == (1, 1, 1)
    assert found.tp.dtype == np.int64


def test_counts_larger_than_32_bits_give_the_right_ratio():
    """Pooled counts of large volumes exceed two thousand million."""
    assert dice(3 * 10**10, 10**10, 10**10) == pytest.approx(0.75)


def test_flag_of_an_ordinary_pair_is_empty():
    """No overlap at all is zero, not missed: the prediction is there, in the wrong place."""
    assert flag(0, 1, 1) == ""


def test_different_shapes_are_refused_with_both_sizes():
    """The message names the two sizes."""
    with pytest.raises(ShapeError, match="prediction is 2×3, its reference 2×2"):
        counts(np.zeros((2, 2), int), np.zeros((2, 3), int), classes=2)


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_outside_the_classes_is_refused_by_value(label):
    """An unknown label never wraps around into another class."""
    with pytest.raises(DatasetError, match=f"the prediction has label {label}, there are classes 0 to 1"):
        counts(np.array([0, 1]), np.array([0, label]), classes=2)


def test_labels_that_are_not_integers_are_refused():
    """Probabilities are no labels."""
    with pytest.raises(DatasetError, match="prediction is of type float64"):
        counts(np.array([0, 1]), np.array([0.0, 0.7]), classes=2)
