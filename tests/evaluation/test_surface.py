"""Surface distances against the values of the metrics page, brute force, and the properties that must hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation import nearest, surface
from uvea.evaluation.surface import (
    SurfaceScores,
    assd,
    border,
    hd,
    hd95,
    masd,
    nsd,
    surface_distances,
    surface_scores,
    surface_scores_by_class,
)
from uvea.evaluation.surfels import surfel_scores

PERFECT = SurfaceScores(hd=0.0, hd95=0.0, assd=0.0, masd=0.0, nsd=1.0)
MISSING = SurfaceScores(hd=math.inf, hd95=math.inf, assd=math.inf, masd=math.inf, nsd=0.0)


def box(shape, *ranges):
    """A mask of `shape` that is True inside the half-open index ranges."""
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*span) for span in ranges)] = True
    return mask


T1 = box((100, 100), (50, 51), (70, 71)), box((100, 100), (50, 51), (72, 73))
T2 = box((6, 6), (1, 3), (1, 3)), box((6, 6), (1, 4), (1, 3))
T3 = box((40, 40), (10, 20), (10, 20)), box((40, 40), (13, 23), (14, 24))
T5 = box((10, 10), (0, 4), (0, 4)), box((10, 10), (1, 3), (1, 3))
T5B = box((4, 4), (0, 4), (0, 4)), box((4, 4), (1, 3), (1, 3))
T6 = box((10,) * 3, (3, 6), (3, 6), (3, 6)), box((10,) * 3, (4, 7), (3, 6), (3, 6))
T8 = box((3, 130), (1, 2), (5, 24)), box((3, 130), (1, 2), (5, 24)) | box((3, 130), (1, 2), (123, 124))
T9 = box((9, 9), (2, 7), (2, 7)), box((9, 9), (2, 7), (2, 7)) & ~box((9, 9), (4, 5), (4, 5))
T10 = box((20, 20), (5, 15), (5, 15)), box((20, 20), (6, 14), (6, 14))
VECTORS = {
    "T1": (T1, (2, 1), (2, 2, 2, 2, 0, 1)),
    "T2": (T2, (2, 1), (2, 2, 0.4, 0.333333, 0.8, 1)),
    "T3": (T3, (1, 1), (5, 4.300015, 2.933492, 2.933492, 0.166667, 0.277778)),
    "T3b": (T3, (2, 1), (7.211103, 6.420467, 4.012656, 4.012656, 0.111111, 0.222222)),
    "T3c": (T3, (0.5, 3), (12.093387, 12.018208, 5.050230, 5.050230, 0.166667, 0.555556)),
    "T5": (T5, (1, 1), (1.414214, 1.414214, 1.103553, 1.069036, 0.75, 1)),
    "T5b": (T5B, (1, 1), (1.414214, 1.414214, 1.103553, 1.069036, 0.75, 1)),
    "T6": (T6, (5, 1, 1), (5, 5, 1.769231, 1.769231, 0.653846, 0.653846)),
    "T6b": (T6, (1, 1, 1), (1, 1, 0.384615, 0.384615, 1, 1)),
    "T8": (T8, (1, 1), (100, 5, 2.564103, 2.5, 0.974359, 0.974359)),
    "T9": (T9, (1, 1), (1, 1, 0.111111, 0.1, 1, 1)),
    "T10": (T10, (1, 1), (1.414214, 1.414214, 1.025888, 1.023012, 0.9375, 1)),
    "T10b": (T10, (3, 0.5), (3.041381, 3.041381, 1.471336, 1.411029, 0.5625, 0.6875)),
}
"""Masks, spacing, and HD, HD95, ASSD, MASD, NSD@1, NSD@2."""


@pytest.mark.parametrize("name", VECTORS)
def test_the_vectors_of_the_metrics_page(name):
    """Every distance column is reproduced to the printed digits."""
    (reference, prediction), spacing, expected = VECTORS[name]
    found = surface_scores(reference, prediction, spacing=spacing, tolerance=1)
    at_two = surface_scores(reference, prediction, spacing=spacing, tolerance=2).nsd
    assert (found.hd, found.hd95, found.assd, found.masd, found.nsd, at_two) == pytest.approx(expected, abs=5e-7)


def test_each_metric_alone_gives_its_part_of_the_scores():
    """The functions of one number agree with the record of all five."""
    whole = surface_scores(*T3, spacing=(2, 1), tolerance=1.5)
    alone = [metric(*T3, spacing=(2, 1)) for metric in (hd, hd95, assd, masd)]
    assert [*alone, nsd(*T3, spacing=(2, 1), tolerance=1.5)] == [
        whole.hd,
        whole.hd95,
        whole.assd,
        whole.masd,
        whole.nsd,
    ]


def brute_border(mask):
    """Foreground voxels of which a face neighbour is background or outside, voxel by voxel."""
    padded = np.pad(mask, 1)
    found = np.zeros(mask.shape, bool)
    for at in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = at + 1
                neighbour[axis] += step
                found[tuple(at)] |= not padded[tuple(neighbour)]
    return found


def brute_distances(reference, prediction, spacing):
    """From each border voxel to all of the other mask, in C order, both ways."""
    first, second = (np.argwhere(brute_border(mask)) * spacing for mask in (reference, prediction))
    table = np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=-1))
    return table.min(axis=1, initial=np.inf), table.min(axis=0, initial=np.inf)


def brute_scores(reference, prediction, spacing, tolerance):
    """Definitions 2 and 3 of the metrics page, word by word."""
    there, back = brute_distances(reference, prediction, spacing)
    if len(there) == len(back) == 0:
        return PERFECT
    if len(there) == 0 or len(back) == 0:
        return MISSING
    pooled = np.concatenate([there, back])
    return SurfaceScores(
        hd=pooled.max(),
        hd95=max(np.percentile(side, 95, method="linear") for side in (there, back)),
        assd=pooled.mean(),
        masd=(there.mean() + back.mean()) / 2,
        nsd=(pooled <= tolerance).mean(),
    )


def values(scores):
    """The five numbers in a row."""
    return [scores.hd, scores.hd95, scores.assd, scores.masd, scores.nsd]


def random_pair(seed):
    """Two masks of few or many voxels, touching the border, 1D to 3D, with their spacing and a tolerance."""
    random = np.random.default_rng(seed)
    shape = random.integers(1, (40, 12, 7)[seed % 3], size=seed % 3 + 1)
    masks = random.random((2, *shape)) < random.choice([0.02, 0.2, 0.5, 0.9, 1.0], size=(2, *[1] * len(shape)))
    spacing = random.uniform(0.2, 5, size=len(shape)) if seed % 2 else np.full(len(shape), 0.7)
    return masks[0], masks[1], spacing, float(random.uniform(0, 6))


@pytest.mark.parametrize("slab", [1, 2**20])
def test_random_masks_score_as_by_brute_force(slab, monkeypatch):
    """Distances and all five scores differ by less than 1e-9, slab by slab and in one piece."""
    monkeypatch.setattr(surface, "SLAB_VOXELS", slab)
    for seed in range(120):
        first, second, spacing, tolerance = random_pair(seed)
        found = surface_scores(first, second, spacing=spacing, tolerance=tolerance)
        expected = brute_scores(first, second, spacing, tolerance)
        np.testing.assert_allclose(values(found), values(expected), rtol=0, atol=1e-9, err_msg=f"seed {seed}")
        for side, wanted in zip(
            surface_distances(first, second, spacing=spacing), brute_distances(first, second, spacing)
        ):
            np.testing.assert_allclose(np.sort(side), np.sort(wanted), rtol=0, atol=1e-9, err_msg=f"seed {seed}")


MASKS = arrays.arrays(bool, st.tuples(st.just(2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))
SPACINGS = st.tuples(*[st.floats(0.1, 10)] * 3)


@given(MASKS, SPACINGS, st.floats(0, 5))
@settings(max_examples=80, deadline=None)
def test_the_properties_of_the_metrics_page(pair, spacing, tolerance):
    """Swapping changes nothing; scaling the spacing scales every distance; padding changes nothing."""
    found = values(surface_scores(pair[0], pair[1], spacing=spacing, tolerance=tolerance))
    assert values(surface_scores(pair[1], pair[0], spacing=spacing, tolerance=tolerance)) == pytest.approx(found)
    wide = surface_scores(pair[0], pair[1], spacing=[3 * step for step in spacing], tolerance=3 * tolerance)
    assert values(wide) == pytest.approx([3 * value for value in found[:4]] + found[4:])
    padded = np.pad(pair, ((0, 0), (1, 2), (0, 1), (3, 0)))
    assert values(surface_scores(padded[0], padded[1], spacing=spacing, tolerance=tolerance)) == pytest.approx(found)


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_a_border_is_what_its_definition_says(pair):
    """Voxel by voxel, also at the edge of the image and for masks of other types."""
    expected = brute_border(pair[0])
    np.testing.assert_array_equal(border(pair[0]), expected)
    np.testing.assert_array_equal(border(pair[0].astype(np.uint8) * 255), expected)
    np.testing.assert_array_equal(border(pair[0].T), expected.T)


@pytest.mark.parametrize("chosen", ["tree", "sampled tree", "transform by count", "transform by sample"])
def test_tree_and_transform_give_the_same(chosen, monkeypatch):
    """Whatever is thought to be cheaper, distances agree with brute force to 1e-9."""
    used = []
    transform = nearest._by_transform
    monkeypatch.setattr(nearest, "_by_transform", lambda *given: (used.append(1), transform(*given))[1])
    monkeypatch.setattr(nearest, "MANY_POINTS", 10**9 if chosen == "tree" else 0)
    monkeypatch.setattr(nearest, "SAMPLE", 1)
    monkeypatch.setattr(nearest, "BUILD_US", 1e9 if chosen == "transform by count" else 0.0)
    monkeypatch.setattr(nearest, "QUERY_US", 0.0)
    monkeypatch.setattr(nearest, "CANDIDATE_US", 1e9 if chosen == "transform by sample" else 0.0)
    for seed in range(60):
        first, second, spacing, _ = random_pair(seed)
        for side, wanted in zip(
            surface_distances(first, second, spacing=spacing), brute_distances(first, second, spacing)
        ):
            np.testing.assert_allclose(np.sort(side), np.sort(wanted), rtol=0, atol=1e-9, err_msg=f"seed {seed}")
    assert bool(used) == chosen.startswith("transform")


def test_a_shell_around_a_ball_goes_to_the_transform_and_two_like_balls_to_the_tree(monkeypatch):
    """The estimate sees that a sphere from inside has thousands of nearly nearest points."""
    used = []
    transform = nearest._by_transform
    monkeypatch.setattr(nearest, "_by_transform", lambda *given: (used.append(1), transform(*given))[1])
    monkeypatch.setattr(nearest, "TRANSFORM_US", 0.06)  # the shares of a larger volume, in a small one
    squares = sum((axis - 40) ** 2 for axis in np.ogrid[:81, :81, :81])
    small, large, larger = (squares <= radius**2 for radius in (22, 38, 39))
    inside = surface_scores(small, large, tolerance=1)
    assert used == [1, 1]
    assert inside.hd == pytest.approx(16, abs=1)
    assert surface_scores(large, larger, tolerance=1).hd < 2
    assert used == [1, 1]


def test_points_in_both_surfaces_are_at_distance_zero():
    """Eight border pixels each, of which the three of the shared column lie in both."""
    first, second = box((5, 7), (1, 4), (1, 4)), box((5, 7), (1, 4), (3, 6))
    there, back = surface_distances(first, second)
    assert sorted(there.tolist()) == sorted(back.tolist()) == [0, 0, 0, 1, 1, 2, 2, 2]


LABELS = arrays.arrays(np.int16, st.tuples(st.just(2), *[st.integers(1, 5)] * 3), elements=st.integers(-1, 3))


@given(LABELS)
@settings(max_examples=60, deadline=None)
def test_classes_in_one_pass_score_as_one_by_one(pair):
    """Also the background, labels that nobody asked for, and volumes that lie in memory the other way round."""
    found = surface_scores_by_class(pair[0], pair[1], classes=(2, 0, 1, 7), spacing=(3, 1, 0.5), tolerance=1)
    assert list(found) == [2, 0, 1, 7]
    turned = surface_scores_by_class(
        np.asfortranarray(pair[0]), pair[1], classes=(2, 0, 1, 7), spacing=(3, 1, 0.5), tolerance=1
    )
    for label, scores in found.items():
        alone = surface_scores(pair[0] == label, pair[1] == label, spacing=(3, 1, 0.5), tolerance=1)
        assert values(scores) == pytest.approx(values(alone))
        assert values(turned[label]) == pytest.approx(values(alone))
    assert found[7] == PERFECT


def test_masks_of_different_types_are_compared_by_value():
    """A bool reference and a uint8 prediction, as a file gives it."""
    assert surface_scores(T3[0], T3[1].astype(np.uint8) * 255, tolerance=1).hd == 5
    labels = [mask.astype(kind) * 2 for mask, kind in zip(T3, (np.uint8, np.int64))]
    assert surface_scores_by_class(*labels, classes=[2], tolerance=1)[2].hd == 5


@pytest.mark.parametrize("scores", [surface_scores, surfel_scores])
def test_empty_masks_follow_the_rules(scores):
    """Both empty is perfect; one empty is infinitely far and shares no surface."""
    empty, full = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    assert scores(empty, empty, tolerance=1) == PERFECT
    assert scores(full, empty, tolerance=1) == scores(empty, full, tolerance=1) == MISSING
    assert scores(full, full, tolerance=0) == PERFECT
    nothing = np.zeros((0, 4), bool)
    assert scores(nothing, nothing, tolerance=1) == PERFECT


def test_distances_of_one_empty_mask_are_infinite():
    """The eight border pixels of the other one have nowhere to go."""
    there, back = surface_distances(box((5, 5), (1, 4), (1, 4)), np.zeros((5, 5), bool))
    assert (len(back), there.tolist()) == (0, [math.inf] * 8)


def test_a_distance_equal_to_the_tolerance_is_within_it_whatever_the_rounding():
    """Three steps of 0.1 are 0.30000000000000004 in binary, and still no more than 0.3."""
    first, second = box((1, 9), (0, 1), (0, 1)), box((1, 9), (0, 1), (3, 4))
    assert hd(first, second, spacing=(1, 0.1)) > 0.3
    assert nsd(first, second, spacing=(1, 0.1), tolerance=0.3) == 1
    assert nsd(first, second, spacing=(1, 0.1), tolerance=0.2999) == 0


@pytest.mark.parametrize("scores", [surface_scores, surfel_scores])
@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"prediction": np.zeros((2, 3), bool)}, ShapeError, "prediction is 2×3, its reference 2×2"),
        ({"prediction": np.zeros((2, 2))}, DatasetError, "prediction is of type float64"),
        ({"spacing": (1, 1, 1)}, ShapeError, "spacing has 3 values for 2 axes"),
        ({"spacing": (1, 0)}, DatasetError, "spacing is 1×0"),
        ({"spacing": (1, math.nan)}, DatasetError, "spacing is 1×nan"),
        ({"tolerance": -1}, DatasetError, "tolerance is -1"),
        ({"tolerance": math.nan}, DatasetError, "tolerance is nan"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_value(scores, changed, error, text):
    """Sizes, types, spacing and tolerance are named."""
    given = {"prediction": np.ones((2, 2), bool), "spacing": (1, 1), "tolerance": 1, **changed}
    with pytest.raises(error, match=text):
        scores(np.ones((2, 2), bool), **given)


def test_labels_that_are_not_integers_are_refused():
    """Probabilities have no classes, and so no surface."""
    with pytest.raises(DatasetError, match="reference is of type float32"):
        surface_scores_by_class(np.zeros(3, np.float32), np.zeros(3, int), classes=[1], tolerance=1)
    with pytest.raises(ShapeError, match="single number"):
        border(np.bool_(True))


def test_lists_are_masks_too():
    """Two pixels in one row, two columns apart."""
    assert hd([[1, 0, 0]], [[0, 0, 1]]) == 2
