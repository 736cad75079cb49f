"""Objects are counted exactly: hand-worked masks, the metrics page, and brute force over every matching."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import DatasetError, PlanError, ShapeError
from uvea.evaluation.instances import THRESHOLDS, InstanceScores, match, overlaps, pool, score_instances

MASKS = arrays.arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 4))
"""Pairs of small masks with up to four objects each, which touch, overlap and fall apart."""


def row(text):
    """A mask of one row, one digit per pixel."""
    return np.array([[int(digit) for digit in text]])


def score(reference, prediction):
    """The scores of two masks of one row."""
    return score_instances(row(reference), row(prediction))


def counted(tp, fp, fn):
    """Scores of an image with the same matches at every threshold."""
    return InstanceScores(
        n_reference=tp + fn,
        n_predicted=tp + fp,
        tp=(tp,) * len(THRESHOLDS),
        iou_sum=0.8 * tp,
        seg_sum=0.8 * tp,
        splits=fp,
        merges=fn,
    )


def best_matching(found, threshold):
    """Most pairs, and the largest sum of IoU with as many, by trying every choice."""
    pairs = list(zip(found.reference_index, found.prediction_index, found.iou))

    def best(index, rows, columns):
        if index == len(pairs):
            return 0, 0.0
        without = best(index + 1, rows, columns)
        r, c, iou = pairs[index]
        if iou < threshold - 1e-12 or r in rows or c in columns:
            return without
        count, total = best(index + 1, rows | {r}, columns | {c})
        return max(without, (count + 1, total + iou))

    return best(0, frozenset(), frozenset())


def test_overlaps_of_a_case_worked_by_hand():
    """Object 5 has two pixels in 3 and one outside; object 9 meets nothing; 8 lies on background."""
    found = overlaps(row("5550990"), row("3300008"))
    assert found.reference_ids.tolist() == [5, 9]
    assert found.prediction_ids.tolist() == [3, 8]
    assert found.reference_sizes.tolist() == [3, 2]
    assert found.prediction_sizes.tolist() == [2, 1]
    assert (found.reference_index.tolist(), found.prediction_index.tolist()) == ([0], [0])
    assert (found.intersections.tolist(), found.unions.tolist()) == ([2], [3])


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_overlaps_equal_counting_pair_by_pair(pair):
    """Runs of equal pixels, added up, give what comparing two masks per pair gives."""
    found = overlaps(pair[0], pair[1])
    assert found.reference_ids.tolist() == sorted(set(pair[0].ravel().tolist()) - {0})
    np.testing.assert_array_equal(found.reference_sizes, [(pair[0] == r).sum() for r in found.reference_ids])
    np.testing.assert_array_equal(found.prediction_sizes, [(pair[1] == p).sum() for p in found.prediction_ids])
    shared = np.zeros((len(found.reference_ids), len(found.prediction_ids)), dtype=int)
    shared[found.reference_index, found.prediction_index] = found.intersections
    for i, r in enumerate(found.reference_ids):
        for j, p in enumerate(found.prediction_ids):
            assert shared[i, j] == ((pair[0] == r) & (pair[1] == p)).sum()
    assert (found.intersections > 0).all()


def test_masks_that_lie_in_memory_in_different_orders_are_compared_pixel_by_pixel(rng):
    """A volume as nibabel gives it against one in the order of C, inside a region: the same objects and overlaps."""
    reference, prediction = rng.integers(0, 4, (2, 4, 5, 6))
    within = rng.random((4, 5, 6)) < 0.7
    plain = overlaps(reference, prediction, within=within)
    for masks in ((np.asfortranarray(reference), prediction), (reference, np.asfortranarray(prediction))):
        for region in (within, np.asfortranarray(within)):
            np.testing.assert_array_equal(overlaps(*masks, within=region).intersections, plain.intersections)


@given(MASKS, st.sampled_from([0.05, 0.1, 0.25, 1 / 3, 0.5, 0.55, 0.75, 1.0]))
@settings(max_examples=150, deadline=None)
def test_no_other_matching_has_more_pairs_or_as_many_with_more_iou(pair, threshold):
    """Brute force over all choices, also below 0.5 where candidates compete."""
    found = overlaps(pair[0], pair[1])
    chosen = match(found, threshold)
    assert len(set(found.reference_index[chosen])) == len(set(found.prediction_index[chosen])) == len(chosen)
    count, total = best_matching(found, threshold)
    assert len(chosen) == count
    assert found.iou[chosen].sum() == pytest.approx(total)


def test_two_poor_pairs_win_over_one_good_pair():
    """Object 1 fits prediction 1 best (5/7), but only with 2 (1/6) can object 2 have prediction 1 (1/8)."""
    found = overlaps(row("111111222"), row("211111100"))
    pairs = sorted(zip(found.reference_index.tolist(), found.prediction_index.tolist(), found.iou.tolist()))
    assert pairs == [(0, 0, 5 / 7), (0, 1, 1 / 6), (1, 0, 1 / 8)]
    assert found.iou[match(found, 0.1)].tolist() == [1 / 6, 1 / 8]
    assert found.iou[match(found, 0.2)].tolist() == [5 / 7]


def test_a_subset_of_half_the_pixels_is_a_match_at_one_half():
    """The example of the metrics page: ten pixels and five of them have an IoU of exactly .5."""
    found = score("1111111111", "1111100000")
    assert found.ap(0.5) == 1
    assert found.ap(0.55) == 0
    assert score("1111111111", "1111000000").ap(0.5) == 0


@pytest.mark.parametrize("position", range(len(THRESHOLDS)))
def test_an_iou_on_the_threshold_is_a_match_whatever_rounding_does(position):
    """k of 20 pixels match at k / 20 and not at the next threshold; 7 / 10 in floats is not 14 / 20 in all ways."""
    k = position + 10
    found = score_instances(np.ones((20, 3), int), np.repeat(np.arange(20) < k, 3).reshape(20, 3).astype(int))
    assert found.tp == (1,) * (position + 1) + (0,) * (len(THRESHOLDS) - position - 1)


@pytest.mark.parametrize("prediction", ["1122", "2211", "7733"])
def test_an_object_cut_in_exact_halves_is_matched_once(prediction):
    """Either half has an IoU of .5: one match, one false positive, and the same PQ whichever is taken."""
    found = score("1111", prediction)
    assert (found.tp[0], found.n_predicted) == (1, 2)
    assert found.ap(0.5) == 0.5
    assert found.f1 == pytest.approx(2 / 3)
    assert found.pq == pytest.approx(0.5 / 1.5)
    assert (found.splits, found.merges) == (1, 0)


def test_every_score_of_a_case_worked_by_hand():
    """IoU 3/4 and 1/2 and a miss: at .5 two matches, one false negative, one false positive; PQ 1.25 / 3."""
    found = score("1111022220330000", "1110022000000444")
    assert (found.n_reference, found.n_predicted) == (3, 3)
    assert found.tp == (2, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    assert found.ap(0.5) == 2 / 4
    assert found.ap(0.75) == 1 / 5
    assert found.mean_ap == pytest.approx((2 / 4 + 5 * 1 / 5) / 10)
    assert found.f1 == pytest.approx(4 / 6)
    assert found.pq == pytest.approx(1.25 / 3)
    assert found.seg == pytest.approx(0.75 / 3)  # two of four pixels are not more than half


def test_seg_counts_no_false_positive():
    """The Cell Tracking Challenge scores the reference objects only."""
    assert score("1100", "1133").seg == score("1100", "1100").seg == 1
    assert score("1110", "0110").seg == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("whole", "parts", "found"),
    [("1111110", "1122330", 1), ("1111110", "0112222", 1), ("0111110", "1100220", 0), ("1111000", "1111222", 0)],
)
def test_splits_and_merges_need_two_parts_with_more_than_half_of_each_inside(whole, parts, found):
    """Three pieces of one object are one split; a piece of which only half lies inside is none; nor is a neighbour."""
    split, merged = score(whole, parts), score(parts, whole)
    assert (split.splits, split.merges) == (found, 0)
    assert (merged.splits, merged.merges) == (0, found)


@given(MASKS, st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_scores_do_not_depend_on_the_ids(pair, seed):
    """Other ids, in another order and as large as uint32 holds, give the same scores to the last bit."""
    rng = np.random.default_rng(seed)
    names = np.concatenate([[0], rng.permutation(2**32 - 1 - np.arange(4) * rng.integers(1, 2**29))]).astype(np.uint32)
    other = np.concatenate([[0], rng.permutation([1, 3, 2**31, 2**63])]).astype(np.uint64)
    assert score_instances(names[pair[0]], other[pair[1]]) == score_instances(pair[0], pair[1])


def test_the_order_of_the_ids_does_not_change_the_last_digit():
    """Forty objects with forty different IoU, added up in twenty orders."""
    size = 40 + np.arange(40)
    reference = np.repeat(np.arange(1, 41), size)
    inside = np.concatenate([np.arange(n) < 30 for n in size])
    sums = set()
    for seed in range(20):
        names = np.concatenate([[0], 1 + np.random.default_rng(seed).permutation(40)])
        found = score_instances(names[reference], reference * inside)
        sums.add((found.iou_sum, found.seg_sum))
    assert len(sums) == 1


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_swapping_the_masks_swaps_the_errors(pair):
    """Matches stay; reference and predicted objects, and splits and merges, change places."""
    there, back = score_instances(pair[0], pair[1]), score_instances(pair[1], pair[0])
    assert (there.tp, there.iou_sum, there.mean_ap, there.pq) == (back.tp, back.iou_sum, back.mean_ap, back.pq)
    assert (there.n_reference, there.splits) == (back.n_predicted, back.merges)


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_a_mask_agrees_with_itself(pair):
    """Every score is 1; only SEG of nothing is undefined."""
    found = score_instances(pair[0], pair[0])
    assert (found.mean_ap, found.f1, found.pq, found.splits, found.merges) == (1, 1, 1, 0, 0)
    assert found.seg == (1 if pair[0].any() else None)


def test_empty_masks_follow_the_rules():
    """Both empty is 1, one empty is 0; SEG has no mean without reference objects."""
    both, missed, alarm = score("000", "000"), score("110", "000"), score("000", "011")
    assert [entry.mean_ap for entry in (both, missed, alarm)] == [1, 0, 0]
    assert [entry.f1 for entry in (both, missed, alarm)] == [1, 0, 0]
    assert [entry.pq for entry in (both, missed, alarm)] == [1, 0, 0]
    assert [entry.seg for entry in (both, missed, alarm)] == [None, 0, None]
    assert score_instances(np.zeros((0, 4), int), np.zeros((0, 4), int)) == both


def test_only_the_region_to_score_counts():
    """Outside lie an ignored pixel and half of an object: inside, everything agrees."""
    reference, prediction = row("1111").astype(int), row("1122")
    reference[0, 3] = -1
    found = score_instances(reference, prediction, within=np.array([[True, True, False, False]]))
    assert (found.n_reference, found.n_predicted, found.pq) == (1, 1, 1)


def test_the_pooling_example_of_the_metrics_page():
    """TP/FP/FN 1/0/0 and 1/1/2: AP per image averages .625, pooled .4."""
    summary = pool([counted(1, 0, 0), counted(1, 1, 2)])
    assert summary.ap_per_image == (0.625,) * 10
    assert summary.mean_ap_per_image == pytest.approx(0.625)
    assert [summary.pooled.ap(threshold) for threshold in THRESHOLDS] == [0.4] * 10
    assert (summary.images, summary.pooled.n_reference, summary.pooled.n_predicted) == (2, 4, 3)
    assert (summary.pooled.splits, summary.pooled.merges) == (1, 2)
    assert summary.pooled.f1 == pytest.approx(4 / 7)
    assert summary.f1_per_image == pytest.approx((1 + 2 / 5) / 2)
    assert summary.pooled.pq == pytest.approx(1.6 / 3.5)
    assert summary.pq_per_image == pytest.approx((0.8 + 0.8 / 2.5) / 2)
    assert summary.pooled.seg == pytest.approx(1.6 / 4)
    assert summary.seg_per_image == pytest.approx((0.8 + 0.8 / 3) / 2)


def test_an_image_without_objects_lifts_the_mean_per_image_only():
    """It is right by rule, adds no object to the pool, and has no SEG."""
    summary = pool([counted(1, 1, 2), counted(0, 0, 0)])
    assert summary.ap_per_image[0] == pytest.approx((0.25 + 1) / 2)
    assert summary.pooled.ap(0.5) == 0.25
    assert summary.seg_per_image == pytest.approx(0.8 / 3)
    assert pool([counted(0, 0, 0)]).seg_per_image is None
    assert pool([counted(1, 0, 0), counted(0, 0, 2)]).seg_per_image == pytest.approx((0.8 + 0) / 2)


def test_masks_that_cannot_be_compared_are_refused():
    """Shapes, types and negative ids are named with their values."""
    with pytest.raises(ShapeError, match="prediction is 1×2, its reference 1×3"):
        overlaps(row("100"), row("10"))
    with pytest.raises(DatasetError, match="prediction is of type float64"):
        overlaps(row("100"), row("100") / 2)
    with pytest.raises(DatasetError, match=r"reference has the object id -1\n.*--ignore-value -1"):
        overlaps(-row("100"), row("100"))
    with pytest.raises(DatasetError, match="no image"):
        pool([])


@pytest.mark.parametrize("threshold", [0, -0.5, 1.1, float("nan")])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    """At 0 every pair would match, above 1 none could."""
    with pytest.raises(PlanError, match="cannot be matched at an IoU of"):
        match(overlaps(row("1"), row("1")), threshold)


def test_ap_is_given_at_counted_thresholds_only():
    """Nothing is interpolated."""
    with pytest.raises(PlanError, match=r"IoU of 0.6666\n.*0.5, 0.55"):
        score("1", "1").ap(0.6666)
