"""Surface scores against brute force and two independent packages, on 1,000 random pairs of masks.

The packages are the extra `oracles`: `pip install -c constraints.txt -e '.[test,oracles]'`. Without them, their
tests are skipped. Where one mask is empty the conventions differ on purpose, and the metrics page decides.
"""

import math
from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from uvea.evaluation.surface import SurfaceScores, surface_scores
from uvea.evaluation.surfels import surfel_scores

CASES = 1000
STYLES = ("noise", "blobs", "boxes", "touching", "full", "voxel", "empty")
ABSENT = "not installed: pip install -c constraints.txt -e '.[oracles]'"


def one_mask(style, shape, random):
    """A random mask in one of the styles."""
    if style == "noise":
        return random.random(shape) < random.uniform(0.05, 0.95)
    if style == "blobs":
        return ndimage.gaussian_filter(random.random(shape), random.uniform(0.7, 2)) > 0.5
    mask = np.zeros(shape, bool)
    if style == "full":
        mask[...] = True
    elif style == "voxel":
        mask[tuple(random.integers(shape))] = True
    elif style in ("boxes", "touching"):
        for _ in range(random.integers(1, 4)):
            ends = np.sort(random.integers(0, np.array(shape) + 1, size=(2, len(shape))), axis=0)
            if style == "touching":
                ends[0] = 0
            mask[tuple(slice(*span) for span in ends.T)] = True
    return mask


@cache
def cases():
    """Reference, prediction, spacing and tolerance of every case; the second mask is sometimes nearly the first."""
    made = []
    for seed in range(CASES):
        random = np.random.default_rng(seed)
        shape = tuple(random.integers(3, (24, 11)[seed % 2], size=seed % 2 + 2).tolist())
        reference = one_mask(STYLES[seed % len(STYLES)], shape, random)
        prediction = one_mask(STYLES[int(random.integers(len(STYLES)))], shape, random)
        if seed % 3 == 0:
            prediction = reference ^ (random.random(shape) < 0.05)
        step = float(random.uniform(0.3, 3))
        spacing = tuple(random.uniform(0.3, 4, size=len(shape)).tolist()) if seed % 4 < 2 else (step,) * len(shape)
        made.append((reference, prediction, spacing, float(random.uniform(0, 5))))
    return made


def expected_where_empty(reference, prediction):
    """The scores of definition 2, or None where neither mask is empty."""
    if reference.any() and prediction.any():
        return None
    if reference.any() or prediction.any():
        return SurfaceScores(hd=math.inf, hd95=math.inf, assd=math.inf, masd=math.inf, nsd=0.0)
    return SurfaceScores(hd=0.0, hd95=0.0, assd=0.0, masd=0.0, nsd=1.0)


def test_the_cases_cover_what_they_should():
    """2D and 3D, isotropic and not, and each kind of mask, empty and full ones too, at least ten times."""
    drawn = cases()
    assert len(drawn) == CASES
    counts = {
        "2D": sum(reference.ndim == 2 for reference, *_ in drawn),
        "3D": sum(reference.ndim == 3 for reference, *_ in drawn),
        "isotropic": sum(len(set(spacing)) == 1 for *_, spacing, _ in drawn),
        "anisotropic": sum(len(set(spacing)) > 1 for *_, spacing, _ in drawn),
        "one empty": sum(first.any() != second.any() for first, second, *_ in drawn),
        "both empty": sum(not first.any() and not second.any() for first, second, *_ in drawn),
        "full": sum(bool(first.all()) for first, *_ in drawn),
        "one voxel": sum(first.sum() == 1 for first, *_ in drawn),
        "touching": sum(bool(first[0].any()) and not first.all() for first, *_ in drawn),
        "apart": sum(not (first & second).any() for first, second, *_ in drawn),
    }
    assert {name: count for name, count in counts.items() if count < 10} == {}


def test_border_voxels_agree_with_brute_force():
    """All five scores to 1e-9: borders by erosion, distances from all voxels to all, percentiles by sorting."""
    compared = 0
    for number, (reference, prediction, spacing, tolerance) in enumerate(cases()):
        scores = surface_scores(reference, prediction, spacing=spacing, tolerance=tolerance)
        empty = expected_where_empty(reference, prediction)
        if empty is not None:
            assert scores == empty, number
            continue
        borders = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing for mask in (reference, prediction)]
        table = cdist(*borders)
        sides = [np.sort(table.min(axis=1)), np.sort(table.min(axis=0))]
        pooled = np.concatenate(sides)
        expected = [
            pooled.max(),
            max(np.interp(0.95 * (len(side) - 1), np.arange(len(side)), side) for side in sides),
            pooled.mean(),
            (sides[0].mean() + sides[1].mean()) / 2,
            (pooled <= tolerance).mean(),
        ]
        ours = [scores.hd, scores.hd95, scores.assd, scores.masd, scores.nsd]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9, err_msg=str(number))
        compared += 1
    assert compared > CASES / 2


@pytest.mark.filterwarnings("ignore:monai.*deprecated since version:FutureWarning")
def test_border_voxels_agree_with_monai():
    """HD, HD95, ASSD and NSD by border voxels; MONAI calculates in float32."""
    metrics = pytest.importorskip("monai.metrics", reason=f"monai {ABSENT}")
    import torch

    compared = 0
    for number, (reference, prediction, spacing, tolerance) in enumerate(cases()):
        scores = surface_scores(reference, prediction, spacing=spacing, tolerance=tolerance)
        empty = expected_where_empty(reference, prediction)
        if empty is not None:
            assert scores == empty, number
            continue
        masks = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
        settings = {"include_background": True, "spacing": spacing}
        theirs = [
            metrics.compute_hausdorff_distance(*masks, **settings),
            metrics.compute_hausdorff_distance(*masks, percentile=95, **settings),
            metrics.compute_average_surface_distance(*masks, symmetric=True, **settings),
            metrics.compute_surface_dice(*masks, class_thresholds=[tolerance], **settings),
        ]
        ours = (scores.hd, scores.hd95, scores.assd, scores.nsd)
        # float32 also holds the place between two values of the percentile: 1e-5 of a voxel among a hundred.
        slack = [3e-6, 2e-5, 3e-6, 0]
        for name, our, their, part in zip(("hd", "hd95", "assd", "nsd"), ours, theirs, slack):
            assert our == pytest.approx(their.item(), abs=part * scores.hd + 1e-6), (number, name)
        compared += 1
    assert compared > CASES / 2


@pytest.mark.filterwarnings("ignore:Please import `.*` from the `scipy.ndimage` namespace:DeprecationWarning")
def test_surfels_agree_with_the_package_surface_distance():
    """All five scores by surfels and their areas, to 1e-6."""
    package = pytest.importorskip("surface_distance", reason=f"surface-distance {ABSENT}")
    compared = 0
    for number, (reference, prediction, spacing, tolerance) in enumerate(cases()):
        scores = surfel_scores(reference, prediction, spacing=spacing, tolerance=tolerance)
        empty = expected_where_empty(reference, prediction)
        if empty is not None:
            assert scores == empty, number
            continue
        found = package.compute_surface_distances(reference, prediction, spacing)
        distances = np.concatenate([found["distances_gt_to_pred"], found["distances_pred_to_gt"]])
        areas = np.concatenate([found["surfel_areas_gt"], found["surfel_areas_pred"]])
        theirs = [
            package.compute_robust_hausdorff(found, 100),
            # A hair below 95: where the area of symmetric shapes reaches it exactly, their rounding decides.
            package.compute_robust_hausdorff(found, 95 * (1 - 1e-9)),
            (distances * areas).sum() / areas.sum(),
            np.mean(package.compute_average_surface_distance(found)),
            package.compute_surface_dice_at_tolerance(found, tolerance),
        ]
        ours = [scores.hd, scores.hd95, scores.assd, scores.masd, scores.nsd]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6, err_msg=str(number))
        compared += 1
    assert compared > CASES / 2
