"""V_rand and V_info against the metrics page, scikit-image and hand-worked masks; thinning by what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from skimage.metrics import adapted_rand_error, contingency_table, variation_of_information

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation.membranes import NOTHING, THRESHOLDS, cells, mean_curve, rand_info, score_membranes, thin

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MASKS = arrays.arrays(bool, SHAPES)
PAIRS = arrays.arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3))


def ids(text):
    """A label image of one row, one digit per pixel."""
    return np.array([[int(digit) for digit in text]])


def picture(*rows):
    """A membrane mask, # for membrane."""
    return np.array([[pixel == "#" for pixel in line] for line in rows])


@pytest.mark.parametrize(
    ("truth", "segments", "split", "merge", "rand", "info"),
    [
        ("1122", "1111", 1, 0.5, 0.666667, 0),
        ("1111", "1122", 0.5, 1, 0.666667, 0),
        ("1122", "5599", 1, 1, 1, 1),
        ("011220", "111111", 1, 0.5, 0.666667, 0),
        ("1112", "1122", 0.6, 0.75, 0.666667, 0.343711),
    ],
)
def test_the_vectors_of_the_metrics_page(truth, segments, split, merge, rand, info):
    """Every column is reproduced to the printed digits."""
    found = rand_info(ids(truth), ids(segments))
    assert found.v_split == pytest.approx(split, abs=5e-7)
    assert found.v_merge == pytest.approx(merge, abs=5e-7)
    assert found.v_rand == pytest.approx(rand, abs=5e-7)
    assert found.v_info == pytest.approx(info, abs=5e-7)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_scores_equal_those_of_scikit_image(pair):
    """Its Rand error leaves out the pairs of a pixel with itself, its information is what is not shared."""
    truth, segments = pair[0], pair[1] + 1  # without 0: it would take membrane for one segment
    counted = truth > 0
    found = rand_info(truth, segments)
    if not counted.any():
        assert found == NOTHING
        return
    total = counted.sum()
    squares = [(np.unique(labels[counted], return_counts=True)[1] ** 2).sum() for labels in (truth, segments)]
    if min(squares) > total:
        pairs = found.v_split * squares[0]
        error, split, merge = adapted_rand_error(truth, segments)
        assert split == pytest.approx((pairs - total) / (squares[0] - total))
        assert merge == pytest.approx((pairs - total) / (squares[1] - total))
        assert 1 - error == pytest.approx(2 * (pairs - total) / (sum(squares) - 2 * total))
    assert found.v_merge * squares[1] == pytest.approx(found.v_split * squares[0])
    assert found.v_rand == pytest.approx(2 / (1 / found.v_split + 1 / found.v_merge))

    splits, merges = variation_of_information(truth, segments, ignore_labels=(0,))
    shares = [np.unique(labels[counted], return_counts=True)[1] / total for labels in (truth, segments)]
    of_truth, of_segments = (-(share * np.log2(share)).sum() for share in shares)
    assert found.v_info_split == pytest.approx(1 - splits / of_segments if of_segments > 0 else 1, abs=1e-9)
    assert found.v_info_merge == pytest.approx(1 - merges / of_truth if of_truth > 0 else 1, abs=1e-9)
    if of_truth + of_segments > 0:
        unexplained = (splits + merges) / (of_truth + of_segments)
        assert found.v_info == pytest.approx(1 - unexplained, abs=1e-9)


def test_a_thousand_random_label_images_score_as_their_contingency_table():
    """Definition 8 written out over the joint distribution that scikit-image counts, in 2D and 3D."""
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(1, 7, size=2 + seed % 2))
        truth = rng.integers(0, rng.integers(2, 6), shape)
        segments = np.where(rng.random(shape) < rng.choice([0, 0.5, 0.9]), truth, rng.integers(0, 5, shape)) + 1
        found = rand_info(truth, segments)
        if not truth.any():
            assert found == NOTHING
            continue
        joint = contingency_table(segments[truth > 0], truth[truth > 0], normalize=True).toarray()
        s, t = joint.sum(1), joint.sum(0)
        pairs = (joint**2).sum()
        of_s, of_t, of_both = (-(p[p > 0] * np.log(p[p > 0])).sum() for p in (s, t, joint))
        expected = [2 * pairs / ((s**2).sum() + (t**2).sum()), pairs / (t**2).sum(), pairs / (s**2).sum()]
        shared = of_s + of_t - of_both
        for part, whole in ((2 * shared, of_s + of_t), (shared, of_s), (shared, of_t)):
            expected.append(part / whole if whole > 1e-12 else 1)
        np.testing.assert_allclose(list(vars(found).values()), expected, rtol=0, atol=1e-9, err_msg=str(seed))


@given(PAIRS)
@settings(max_examples=50, deadline=None)
def test_each_pixel_of_predicted_membrane_is_a_segment_of_its_own(pair):
    """Numbering those pixels one by one changes nothing."""
    truth, segments = pair[0], pair[1].astype(int)
    numbered = segments.copy()
    numbered[segments == 0] = 10 + np.arange((segments == 0).sum())
    expected, found = rand_info(truth, numbered), rand_info(truth, segments)
    if expected == NOTHING:
        assert found == NOTHING
    else:
        assert list(vars(found).values()) == pytest.approx(list(vars(expected).values()))


def test_predicted_membrane_inside_a_cell_worked_by_hand():
    """Four pixels in pieces of 2, 1 and 1: pairs 4 + 1 + 1 of 16 in the cell, of 6 in segments."""
    found = rand_info(ids("1111"), ids("2200"))
    assert (found.v_split, found.v_merge, found.v_rand) == (6 / 16, 1, 12 / 22)
    assert (found.v_info, found.v_info_split, found.v_info_merge) == (0, 0, 1)


@given(PAIRS)
@settings(max_examples=50, deadline=None)
def test_scores_stay_in_range_and_ids_do_not_matter(pair):
    """Rounding does not leave 0 to 1; huge ids in another order give the same."""
    found = rand_info(pair[0], pair[1])
    names = np.array([0, 2**32 - 1, 5, 2**31], dtype=np.uint32)
    renamed = rand_info(names[pair[0]], names[::-1][(pair[1] + 3) % 4 * (pair[1] > 0)] * (pair[1] > 0))
    if found == NOTHING:
        assert renamed == NOTHING
    else:
        assert all(0 <= value <= 1 for value in vars(found).values())
        assert list(vars(renamed).values()) == pytest.approx(list(vars(found).values()))
        assert set(vars(rand_info(pair[0], pair[0])).values()) == {1.0}


def test_a_truth_without_cells_has_no_scores():
    """There is no pixel to compare; outside the region to score there is none either."""
    assert rand_info(ids("000"), ids("121")) == NOTHING
    assert rand_info(ids("110"), ids("121"), within=ids("001") > 0) == NOTHING


def test_thick_membrane_becomes_the_line_in_its_middle():
    """Three pixels wide between two cells, up to the border of the image: one is left, and nothing leaks."""
    thick = picture("..###..", "..###..", "..###..")
    np.testing.assert_array_equal(thin(thick), picture("...#...", "...#...", "...#..."))
    np.testing.assert_array_equal(cells(thick), [[1, 1, 1, 0, 2, 2, 2]] * 3)


def test_membrane_that_separates_nothing_is_gone():
    """A spot inside a cell vanishes, and a loose end but for the pixel where both cells arrive at once."""
    mask = picture(
        ".....#....",
        ".#...#....",
        ".....####.",
        ".....#....",
    )
    expected = picture(
        ".....#....",
        ".....#....",
        "......#...",
        ".....#....",
    )
    np.testing.assert_array_equal(thin(mask), expected)
    assert not thin(picture("#..", "...")).any()


@pytest.mark.parametrize("membrane", [True, False])
def test_an_image_with_one_cell_or_none_is_one_cell(membrane):
    """Nothing keeps anything apart, so flooding leaves one segment, as in the challenge."""
    assert (cells(np.full((3, 4), membrane)) == 1).all()
    assert (cells(np.full((3, 4), membrane), thinned=False) == (0 if membrane else 1)).all()


@given(MASKS)
@settings(max_examples=150, deadline=None)
def test_thinning_keeps_every_cell_apart(membrane):
    """Cells only grow, into membrane only, stay in one piece each and never touch."""
    before, after = cells(membrane, thinned=False), cells(membrane)
    assert not (thin(membrane) & ~membrane).any()
    if before.max() < 2:
        return
    np.testing.assert_array_equal(after[before > 0], before[before > 0])
    assert ndimage.label(after > 0)[1] == before.max()
    padded = np.pad(after, 1)
    around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    assert ((around == after) | (around == 0) | (after == 0)).all()


TRUTH = picture("...#...", "...#...")
"""Two cells of six pixels, here as a mask of the membrane between them."""

PROBABILITY = np.array([[0, 0, 0.25, 0.75, 0.25, 0, 0], [0, 0, 0.25, 0.5, 0.25, 0, 0]])


def test_a_pixel_is_membrane_from_the_threshold_upwards():
    """The gap of .5 is closed up to .5; above, the cells are one, and V_rand is 2/3."""
    curve = score_membranes(~TRUTH, PROBABILITY, fixed=0.51)
    assert curve.thresholds == THRESHOLDS == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
    rand = [entry.v_rand for entry in curve.scores]
    assert rand[1:6] == [1] * 5
    assert [rand[0], *rand[6:]] == pytest.approx([2 / 3] * 6)
    assert (curve.best_threshold_rand, curve.best_threshold_info) == (0.1, 0.1)
    assert set(vars(curve.best).values()) == {1}
    assert (curve.fixed_threshold, curve.fixed.v_rand, curve.fixed.v_info) == (0.51, pytest.approx(2 / 3), 0)


def test_without_thinning_thick_membrane_costs():
    """At .2 the line is three pixels wide, two of them over cells: pieces of 4, 1 and 1 in each cell of 6."""
    curve = score_membranes(~TRUTH, PROBABILITY, thresholds=(0.2,), thinned=False)
    assert curve.best.v_split == pytest.approx((16 + 1 + 1) / 36)
    assert curve.best.v_merge == 1
    assert score_membranes(~TRUTH, PROBABILITY, thresholds=(0.2,)).best.v_split == 1


def test_a_mask_and_the_ids_of_its_parts_are_the_same_truth():
    """0 and one other value is a mask, be it 1, 255 or True; several values are ids, which may touch."""
    expected = score_membranes(cells(TRUTH, thinned=False), PROBABILITY)
    for mask in (~TRUTH, (~TRUTH).astype(np.uint8), (~TRUTH * 255).astype(np.uint8)):
        assert score_membranes(mask, PROBABILITY) == expected
    touching = np.array([[1, 1, 1, 2, 2, 2, 2]] * 2)
    assert score_membranes(touching, np.zeros(touching.shape)).fixed.v_merge == pytest.approx((36 + 64) / 14**2)


def test_a_stack_is_the_mean_over_its_slices():
    """Cells are not joined from slice to slice, and a slice without cells does not count."""
    empty = np.zeros(TRUTH.shape, bool)
    flat = np.full(TRUTH.shape, 0.3)
    stack = score_membranes(np.stack([~TRUTH, ~TRUTH, empty]), np.stack([PROBABILITY, flat, flat]))
    single = [score_membranes(~TRUTH, PROBABILITY), score_membranes(~TRUTH, flat)]
    assert stack.images == 2
    assert stack.fixed.v_rand == pytest.approx((1 + 2 / 3) / 2)
    assert stack == mean_curve(single)
    assert mean_curve([stack, score_membranes(~TRUTH, flat)]).fixed.v_rand == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_the_best_threshold_is_that_of_the_whole_set():
    """One image is right below .5 only, the other from .4 on: together both are right at .4 only."""
    first = np.where(TRUTH, 0.45, 0.0)
    second = np.where(TRUTH, 0.9, 0.0) + np.array([[0, 0.35, 0, 0, 0, 0, 0]] * 2)
    curves = [score_membranes(~TRUTH, probability) for probability in (first, second)]
    assert [curve.best_threshold_rand for curve in curves] == [0.1, 0.4]
    assert curves[0].best.v_rand == curves[1].best.v_rand == 1
    together = mean_curve(curves)
    assert (together.best_threshold_rand, together.best.v_rand) == (0.4, 1)
    assert together.fixed.v_rand == pytest.approx((2 / 3 + 1) / 2)
    assert curves[0].at(rand=0.5, info=0.4).v_rand == pytest.approx(2 / 3)
    assert curves[0].at(rand=0.5, info=0.4).v_info == 1


def test_images_without_cells_have_a_curve_without_scores():
    """They can be averaged with others, and alone give nothing."""
    curve = score_membranes(np.zeros((2, 3), bool), np.full((2, 3), 0.5))
    assert (curve.images, curve.best, curve.fixed, curve.best_threshold_rand) == (0, NOTHING, NOTHING, None)
    assert mean_curve([curve, curve]) == curve


def test_only_the_region_to_score_counts():
    """Where the cells run together lies outside; an ignored label outside is no cell and no error."""
    open_below = np.where(np.array([[True], [False]]), PROBABILITY, 0.0)
    within = np.array([[True] * 7, [False] * 7])
    assert score_membranes(~TRUTH, open_below, thresholds=(0.5,), within=within).fixed.v_rand == pytest.approx(2 / 3)
    reference = np.where(within, ~TRUTH, -1)
    assert score_membranes(reference, PROBABILITY, thresholds=(0.5,), within=within).fixed.v_rand == 1


@pytest.mark.parametrize(
    "probability", [np.full((2, 7), 255, np.uint8), np.full((2, 7), 1.5), np.full((2, 7), np.nan), -PROBABILITY]
)
def test_what_is_no_probability_is_refused(probability):
    """Bytes, logits and NaN would give a curve that means nothing."""
    with pytest.raises(DatasetError, match="not numbers from 0 to 1"):
        score_membranes(~TRUTH, probability)


def test_shapes_and_thresholds_that_do_not_agree_are_refused():
    """A curve is a mean only over the same thresholds."""
    with pytest.raises(ShapeError, match=r"shape \(2, 7\), its reference \(1, 2, 7\)"):
        score_membranes(~TRUTH[None], PROBABILITY)
    curve = score_membranes(~TRUTH, PROBABILITY)
    for curves in ([], [curve, score_membranes(~TRUTH, PROBABILITY, fixed=0.4)]):
        with pytest.raises(DatasetError, match="not scored at one set of thresholds"):
            mean_curve(curves)
