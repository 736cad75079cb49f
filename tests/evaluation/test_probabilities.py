"""Histograms of probabilities against values worked by hand and against brute force over all pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation.probabilities import (
    BINS,
    add_up,
    auc,
    average_precision,
    best_threshold,
    count_confidences,
    count_probabilities,
    ece,
    nothing_counted,
    precision_recall,
    reliability,
    roc,
)

FOUR = count_probabilities(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.6, 0.1]))
"""Falling: positive, negative, positive, negative."""

PIXELS = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), min_size=1, max_size=30)
"""Whether a pixel is of the class, and its probability in fortieths, so that equal ones are common."""


def counted(pixels):
    """Counts of a list of PIXELS."""
    truth, steps = zip(*pixels)
    return count_probabilities(np.array(truth, dtype=np.uint8), np.array(steps) / 40)


def test_calibration_by_hand():
    """Two bins. Low: p .2 and .4, one positive, gap .2. High: p .8 twice, both positive, gap .2. ECE .2."""
    found = count_probabilities(np.array([0, 1, 1, 1]), np.array([0.2, 0.4, 0.8, 0.8]))
    low, high = reliability(found, bins=2)
    assert (low.low, low.high, low.n, low.observed) == (0.0, 0.5, 2, 0.5)
    assert low.predicted == pytest.approx(0.3)
    assert (high.low, high.high, high.n, high.observed) == (0.5, 1.0, 2, 1.0)
    assert high.predicted == pytest.approx(0.8)
    assert ece(found, bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)


def test_the_calibration_error_weighs_bins_by_pixels():
    """Three pixels of p = 0 without a positive, one of p = 1 that is wrong: 3/4 of no gap and 1/4 of a gap of one."""
    assert ece(count_probabilities(np.zeros(4, int), np.array([0.0, 0.0, 0.0, 1.0]))) == 0.25


def test_empty_bins_have_no_probability_and_no_share():
    """They are listed, so that a curve has its axis, with None."""
    entries = reliability(FOUR)
    assert len(entries) == 15
    assert [entry.n for entry in entries if entry.observed is None and entry.predicted is None] == [0] * 11
    assert sum(entry.n for entry in entries) == 4


@given(PIXELS)
@settings(max_examples=50, deadline=None)
def test_calibration_equals_the_plain_definition(pixels):
    """Mean probability is exact within a bin: it comes from sums, not from bin centres. Fortieths fit ten bins."""
    gaps = 0.0
    for place in range(10):
        inside = [(truth, step / 40) for truth, step in pixels if min(step // 4, 9) == place]
        gaps += abs(sum(truth - probability for truth, probability in inside))
    assert ece(counted(pixels), bins=10) == pytest.approx(gaps / len(pixels), abs=1e-12)


def test_roc_by_hand():
    """One positive, one negative, and so on: the curve goes up, right, up, right, and covers three quarters."""
    curve = roc(FOUR)
    assert curve.thresholds.tolist() == pytest.approx([np.inf, 0.9, 0.8, 0.6, 0.1])
    assert curve.true_positive_rate.tolist() == [0, 0.5, 0.5, 1, 1]
    assert curve.false_positive_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert auc(FOUR) == 0.75


def test_precision_and_recall_by_hand():
    """Precision 1/1, 1/2, 2/3, 2/4 at recall 1/2, 1/2, 1, 1: average precision 1/2·1 + 1/2·2/3."""
    curve = precision_recall(FOUR)
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert curve.recall.tolist() == [0.5, 0.5, 1, 1]
    assert average_precision(FOUR) == pytest.approx(5 / 6)


@given(PIXELS)
@settings(max_examples=50, deadline=None)
def test_the_area_is_the_chance_that_a_positive_ranks_above_a_negative(pixels):
    """All pairs counted one by one; a tie is one half."""
    pairs = [(a > b) + (a == b) / 2 for wanted, a in pixels if wanted for other, b in pixels if not other]
    expected = pytest.approx(sum(pairs) / len(pairs)) if pairs else None
    assert auc(counted(pixels)) == expected


@given(PIXELS)
@settings(max_examples=50, deadline=None)
def test_average_precision_and_the_best_thresholds_equal_a_search_over_every_step(pixels):
    """Each threshold is applied to the pixels themselves, p >= t."""
    found, positives = counted(pixels), sum(truth for truth, _ in pixels)
    negatives = len(pixels) - positives
    area, recall, dice, youden = 0.0, 0.0, [], []
    for step in range(40, -1, -1):
        tp = sum(truth for truth, value in pixels if value >= step)
        fp = sum(not truth for truth, value in pixels if value >= step)
        if positives and tp + fp:
            area += (tp / positives - recall) * tp / (tp + fp)
            recall = tp / positives
        dice.append(2 * tp / (tp + fp + positives) if positives else 0)
        youden.append(tp / positives - fp / negatives if positives and negatives else 0)
    if not positives:
        assert average_precision(found) is best_threshold(found) is None
        return
    assert average_precision(found) == pytest.approx(area)
    best = best_threshold(found)
    assert best.score == pytest.approx(max(dice))
    tp, fp = (sum(truth == kind for truth, value in pixels if value / 40 >= best.threshold) for kind in (True, False))
    assert 2 * tp / (tp + fp + positives) == pytest.approx(best.score)
    if negatives:
        assert best_threshold(found, metric="youden").score == pytest.approx(max(youden))


def test_the_best_threshold_by_hand():
    """At .6 both positives and one negative: Dice 4/5, Youden 1/2; just above .6 Dice is 1/2. .5 is as good as .6."""
    best = best_threshold(FOUR)
    assert (best.threshold, best.score) == (0.5, pytest.approx(0.8))
    best = best_threshold(FOUR, metric="youden")
    assert (best.threshold, best.score) == (0.5, 0.5)


def test_a_frequent_background_moves_dice_but_not_youden():
    """Nine more negatives at .6: predicting there costs Dice, so Dice asks for .9 and more; rates ask for less."""
    many = (
        FOUR
        + count_probabilities(np.zeros(9, int), np.full(9, 0.6))
        + count_probabilities(np.zeros(100, int), np.full(100, 0.05))
    )
    assert 0.8 < best_threshold(many).threshold <= 0.9
    assert best_threshold(many, metric="youden").threshold <= 0.6


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("border", [0.1, 0.3, 0.5, 0.6, 0.7, 0.9])
def test_a_probability_on_a_border_counts_as_at_or_above_it(dtype, border):
    """float32(0.7) is a little less than 0.7, and still predicted at the threshold 0.7; float16 is coarser."""
    found = count_probabilities(np.array([1]), np.array([border], dtype=dtype))
    tolerance = {"float16": 6, "float32": 0, "float64": 0}[dtype]
    assert abs(np.flatnonzero(found.positives)[0] - round(border * BINS)) <= tolerance


def test_zero_and_one_fall_into_the_first_and_the_last_bin():
    """Sigmoids saturate: both ends are common."""
    found = count_probabilities(np.array([0, 1]), np.array([0.0, 1.0], np.float32))
    assert (found.negatives[0], found.positives[BINS - 1]) == (1, 1)
    assert auc(found) == average_precision(found) == 1
    assert ece(found) == 0


def test_rounding_beyond_the_ends_is_clipped():
    """A softmax of 1.0005 counts as 1."""
    found = count_probabilities(np.array([0, 1]), np.array([-0.0005, 1.0005]))
    assert (found.negatives[0], found.positives[BINS - 1], ece(found)) == (1, 1, 0)


def test_images_add_up_to_one_large_image():
    """Counts of two halves, in any order, are the counts of the whole."""
    rng = np.random.default_rng(0)
    truth, given_ = rng.integers(0, 2, (6, 50)), rng.random((6, 50))
    parts = [count_probabilities(truth[part], given_[part]) for part in (slice(0, 2), slice(2, 6))]
    whole, total = count_probabilities(truth, given_), add_up(reversed(parts))
    np.testing.assert_array_equal(total.positives, whole.positives)
    np.testing.assert_array_equal(total.negatives, whole.negatives)
    assert (ece(total), auc(total)) == (pytest.approx(ece(whole)), auc(whole))


def test_an_image_larger_than_a_chunk_is_counted_whole(monkeypatch):
    """Seven pixels in chunks of three, one ignored and one outside the region, as in one chunk."""
    truth = np.array([1, 0, 1, -1, 0, 1, 0])
    given_ = np.array([[0.1] * 7, [0.9, 0.2, 0.7, 5.0, 0.4, 0.6, np.nan]])
    within = np.array([True] * 6 + [False])
    whole = count_probabilities(truth, given_, within=within)
    monkeypatch.setattr("uvea.evaluation.probabilities._CHUNK", 3)
    pieces = count_probabilities(truth, given_, within=within)
    np.testing.assert_array_equal(pieces.positives, whole.positives)
    np.testing.assert_array_equal(pieces.negatives, whole.negatives)
    assert (whole.n_positive, whole.n_negative) == (3, 2)


def test_maps_that_lie_in_memory_in_another_order_are_counted_pixel_by_pixel(rng):
    """Labels of one file in the order of Fortran, maps and region in that of C, and the other way round."""
    truth, given_, within = rng.integers(-1, 2, (4, 5)), rng.random((2, 4, 5)), rng.random((4, 5)) < 0.7
    given_ /= given_.sum(0)
    for count in (count_probabilities, count_confidences):
        plain = count(truth, given_, within=within)
        for labels, maps in ((np.asfortranarray(truth), given_), (truth, np.asfortranarray(given_))):
            turned = count(labels, maps, within=within)
            np.testing.assert_array_equal(turned.positives, plain.positives)
            np.testing.assert_array_equal(turned.negatives, plain.negatives)


def test_one_class_of_several_is_counted_against_the_rest():
    """Channel 2 against label 2, with both other labels as negatives; the map alone gives the same."""
    truth = np.array([[0, 1], [2, 2]])
    given_ = np.array([[[0.8, 0.1], [0.1, 0.1]], [[0.1, 0.6], [0.2, 0.7]], [[0.1, 0.3], [0.7, 0.2]]])
    found = count_probabilities(truth, given_, label=2)
    assert (found.n_positive, found.n_negative) == (2, 2)
    assert auc(found) == 0.75
    np.testing.assert_array_equal(count_probabilities(truth, given_[2], label=2).positives, found.positives)


def test_the_confidence_of_the_most_probable_class_by_hand():
    """Confidences .9 right, .7 wrong, .6 right; with two bins the upper one holds all: |2/3 - 2.2/3|."""
    truth = np.array([0, 0, 1, -1])
    given_ = np.array([[0.9, 0.3, 0.4, np.nan], [0.1, 0.7, 0.6, np.nan]])
    found = count_confidences(truth, given_)
    assert (found.n_positive, found.n_negative) == (2, 1)
    assert ece(found, bins=2) == pytest.approx(0.2 / 3)


def test_a_missing_class_leaves_undefined_measures_undefined():
    """Without positives nothing can be recalled; without negatives nothing can be ranked. No NaN."""
    negatives = count_probabilities(np.zeros(3, int), np.array([0.1, 0.2, 0.9]))
    assert [roc(negatives), auc(negatives), precision_recall(negatives), average_precision(negatives)] == [None] * 4
    assert [best_threshold(negatives, metric=metric) for metric in ("dice", "youden")] == [None] * 2
    assert ece(negatives) == pytest.approx(0.4)
    positives = count_probabilities(np.ones(3, int), np.array([0.1, 0.2, 0.9]))
    assert [roc(positives), auc(positives), best_threshold(positives, metric="youden")] == [None] * 3
    assert average_precision(positives) == 1
    assert best_threshold(positives).score == 1


def test_nothing_counted_gives_nothing():
    """An image that is ignored throughout, and no image at all."""
    for nothing in (nothing_counted(), add_up([]), count_probabilities(np.full(3, -1), np.full(3, np.nan))):
        assert (nothing.n_positive, nothing.n_negative) == (0, 0)
        assert [ece(nothing), auc(nothing), average_precision(nothing), best_threshold(nothing)] == [None] * 4


@pytest.mark.parametrize(("value", "said"), [(np.nan, "nan"), (1.002, "1.002"), (-0.5, "-0.5"), (255.0, "255")])
def test_what_is_no_probability_is_refused_by_value(value, said):
    """Logits, percentages and NaN are named, not clipped."""
    with pytest.raises(DatasetError, match=f"hold {said}, outside 0 to 1"):
        count_probabilities(np.array([0, 1]), np.array([0.5, value]))
    with pytest.raises(DatasetError, match=f"hold {said}, outside 0 to 1"):
        count_confidences(np.array([0, 1]), np.array([[0.5, 0.5], [0.5, value]]))


def test_maps_that_do_not_fit_are_refused_with_both_sizes():
    """Shapes, channels, types and bins: each error names the value."""
    truth = np.zeros((2, 3), int)
    with pytest.raises(ShapeError, match="probabilities are 2×2, their reference 2×3"):
        count_probabilities(truth, np.zeros((2, 2)))
    with pytest.raises(ShapeError, match="region to score is 3, the reference 2×3"):
        count_probabilities(truth, np.zeros((2, 3)), within=np.ones(3, bool))
    with pytest.raises(ShapeError, match="have 2 classes, there is none for label 2\n.*0 to 1"):
        count_probabilities(truth, np.zeros((2, 2, 3)), label=2)
    with pytest.raises(ShapeError, match="are 2×3, the shape of the reference"):
        count_confidences(truth, np.zeros((2, 3)))
    with pytest.raises(DatasetError, match="reference has label 7, there are probabilities of classes 0 to 1"):
        count_confidences(truth + 7, np.zeros((2, 2, 3)))
    with pytest.raises(DatasetError, match="of type uint8\n.*divide uint8 by 255"):
        count_probabilities(truth, np.zeros((2, 3), np.uint8))
    with pytest.raises(DatasetError, match="7 bins do not divide the 12000"):
        ece(FOUR, bins=7)
