"""Compare two label images object by object: matches, AP, F1, PQ, SEG, splits and merges.

An object is all pixels with one id; 0 is background; ids need not be consecutive, and which id an
object has changes nothing. Everything follows from one sparse table of overlaps. This file knows
no files, no classes and no geometry. Definition 7 of the metrics page is here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import fsum
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from uvea.errors import DatasetError, PlanError, ShapeError
from uvea.evaluation.overlap import flat

THRESHOLDS = tuple(k / 20 for k in range(10, 20))
"""IoU at which objects are matched: 0.50, 0.55 … 0.95."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlaps:
    """The objects of two label images, and every pair that shares a pixel."""

    reference_ids: NDArray[np.generic]
    """Ids of the (r,) reference objects, ascending, without 0."""

    prediction_ids: NDArray[np.generic]
    """Ids of the (p,) predicted objects, ascending, without 0."""

    reference_sizes: NDArray[np.int64]
    """Pixels of each reference object, (r,)."""

    prediction_sizes: NDArray[np.int64]
    """Pixels of each predicted object, (p,)."""

    reference_index: NDArray[np.int64]
    """Per pair (k,): position of its reference object, 0 to r - 1."""

    prediction_index: NDArray[np.int64]
    """Per pair (k,): position of its predicted object, 0 to p - 1."""

    intersections: NDArray[np.int64]
    """Per pair (k,): pixels in both, at least 1."""

    @property
    def unions(self) -> NDArray[np.int64]:
        """Per pair (k,): pixels in either object."""
        sizes = self.reference_sizes[self.reference_index] + self.prediction_sizes[self.prediction_index]
        return sizes - self.intersections

    @property
    def iou(self) -> NDArray[np.float64]:
        """Per pair (k,): intersection over union, in (0, 1]."""
        return np.asarray(self.intersections / self.unions, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class InstanceScores:
    """The objects of one image, or of several images added up: counts, from which every score follows.

    Without any object in either mask, AP, F1 and PQ are 1; with objects in one of them only, they are 0.
    """

    n_reference: int
    n_predicted: int

    tp: tuple[int, ...]
    """Matched pairs at each of `THRESHOLDS`."""

    iou_sum: float
    """Sum of the IoU of the pairs matched at 0.5."""

    seg_sum: float
    """Sum over the reference objects of their SEG score."""

    splits: int
    """Reference objects to which two or more predictions belong: more than half of each lies inside.

    The mirror image of `merges`: swapping the masks swaps the two.
    """

    merges: int
    """Predicted objects to which two or more reference objects belong: more than half of each lies inside.

    The criterion is that of the Cell Tracking Challenge, where such an object needs splitting (Matula et al.
    2015, doi 10.1371/journal.pone.0144959). It adds up the splits needed; here each object counts once.
    """

    def ap(self, threshold: float) -> float:
        """TP / (TP + FP + FN) at one of `THRESHOLDS`, in [0, 1]; what the 2018 Data Science Bowl calls AP.

        It is not the area under a precision-recall curve, which detection benchmarks call AP.

        Raises:
            PlanError: if matches were not counted at this threshold.
        """
        if threshold not in THRESHOLDS:
            raise PlanError(
                f"no matches were counted at an IoU of {threshold}",
                hint=f"use one of {', '.join(map(str, THRESHOLDS))}",
            )
        tp = self.tp[THRESHOLDS.index(threshold)]
        return _or_one(tp, self.n_reference + self.n_predicted - tp)

    @property
    def mean_ap(self) -> float:
        """Mean of `ap` over the ten thresholds, in [0, 1]."""
        return fmean(map(self.ap, THRESHOLDS))

    @property
    def f1(self) -> float:
        """2TP / (2TP + FP + FN) at 0.5, in [0, 1]."""
        return _or_one(2 * self.tp[0], self.n_reference + self.n_predicted)

    @property
    def pq(self) -> float:
        """Panoptic quality, Σ IoU / (TP + FP/2 + FN/2) at 0.5, in [0, 1] (Kirillov et al. 2019, equation 1).

        The paper matches at IoU > 0.5; here a pair at exactly 0.5 is a match.
        """
        return _or_one(2 * self.iou_sum, self.n_reference + self.n_predicted)

    @property
    def seg(self) -> float | None:
        """SEG of the Cell Tracking Challenge, in [0, 1]; None without reference objects. False positives cost nothing.

        A reference object R scores its IoU with the prediction that covers more than half of it, else 0.
        """
        return self.seg_sum / self.n_reference if self.n_reference else None


@dataclass(frozen=True, kw_only=True)
class InstanceSummary:
    """The objects of many images, by both ways of averaging."""

    images: int

    pooled: InstanceScores
    """Counts of all images added up: every object weighs the same."""

    ap_per_image: tuple[float, ...]
    """At each of `THRESHOLDS`, the mean over images: every image weighs the same."""

    mean_ap_per_image: float
    f1_per_image: float
    pq_per_image: float

    seg_per_image: float | None
    """Mean over the images with reference objects; None without any."""


def overlaps(
    reference: NDArray[np.generic],
    prediction: NDArray[np.generic],
    *,
    within: NDArray[np.bool_] | None = None,
) -> Overlaps:
    """Find every object of two label images, and how far they overlap.

    Args:
        reference: integer ids, 0 for background, up to the largest of the type; any shape.
        prediction: integer ids, same shape; ids of the two need not agree.
        within: True where pixels count, same shape: objects are cut off at its border. None counts all.

    Returns:
        Overlaps; empty arrays for masks without objects.

    Raises:
        ShapeError: if the shapes differ.
        DatasetError: if a mask is not integer or an id is negative.

    Example:
        >>> overlaps(np.array([7, 7, 0]), np.array([0, 3, 3])).intersections.tolist()
        [1]
    """
    for what, other in (("prediction", prediction), ("region to score", within)):
        if other is not None and other.shape != reference.shape:
            raise ShapeError(
                f"the {what} is {_size(other.shape)}, its reference {_size(reference.shape)}",
                hint="give two masks of the same image",
            )
    for what, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype.kind not in "biu":
            raise DatasetError(f"the {what} is of type {mask.dtype}", hint="give whole numbers as object ids")
    first, second = flat(reference, prediction)
    region = None if within is None else flat(reference, within)[1]
    wanted, given, lengths = _runs(first, second, region)
    reference_ids, reference_position = _positions(wanted, "reference")
    prediction_ids, prediction_position = _positions(given, "prediction")

    # Position 0 is the background. Positions, not ids, are combined: ids near 2^32 would overflow the product.
    columns = len(prediction_ids) + 1
    pairs, pair = np.unique(reference_position * columns + prediction_position, return_inverse=True)
    shared = _add_up(pair, lengths, len(pairs))
    row, column = np.divmod(pairs, columns)
    inside = (row > 0) & (column > 0)
    return Overlaps(
        reference_ids=reference_ids,
        prediction_ids=prediction_ids,
        reference_sizes=_add_up(row, shared, len(reference_ids) + 1)[1:],
        prediction_sizes=_add_up(column, shared, columns)[1:],
        reference_index=row[inside] - 1,
        prediction_index=column[inside] - 1,
        intersections=shared[inside],
    )


def match(found: Overlaps, threshold: float) -> NDArray[np.int64]:
    """Match objects one to one at IoU ≥ `threshold`.

    As many pairs as possible are matched and, among the choices that match as many, those with the
    largest sum of IoU. The comparison is made with whole numbers, so that rounding decides nothing: two
    objects with an IoU of exactly 0.55 match at 0.55.

    Above 0.5 no object has two candidates. At 0.5 it has two only if they halve it exactly, both then have an
    IoU of 0.5, and the sum is the same whichever is taken. Below 0.5 the choice matters.

    Args:
        found: of `overlaps`.
        threshold: above 0, at most 1; read as the nearest fraction with a denominator up to 1000.

    Returns:
        Positions (m,) in the pairs of `found`, ascending.

    Raises:
        PlanError: if the threshold is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise PlanError(f"objects cannot be matched at an IoU of {threshold}", hint="give a value above 0 and up to 1")
    share = Fraction(threshold).limit_denominator(1000)
    candidates = np.flatnonzero(found.intersections * share.denominator >= found.unions * share.numerator)
    rows, columns = found.reference_index[candidates], found.prediction_index[candidates]
    sole = (np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1)
    chosen = [candidates[sole], *_assign(found, candidates[~sole])]
    return np.sort(np.concatenate(chosen))


def score_instances(
    reference: NDArray[np.generic],
    prediction: NDArray[np.generic],
    *,
    within: NDArray[np.bool_] | None = None,
) -> InstanceScores:
    """Score the objects of one image.

    Args:
        reference: integer ids, 0 for background; any shape, (y, x) or (z, y, x) as a rule.
        prediction: integer ids, same shape.
        within: True where pixels count, same shape; None counts all.

    Returns:
        InstanceScores.

    Raises:
        ShapeError, DatasetError: as `overlaps`.

    Example:
        >>> score_instances(np.array([7, 7, 0, 2]), np.array([1, 1, 0, 0])).ap(0.5)
        0.5
    """
    found = overlaps(reference, prediction, within=within)
    iou = found.iou
    in_reference = 2 * found.intersections > found.prediction_sizes[found.prediction_index]
    in_prediction = 2 * found.intersections > found.reference_sizes[found.reference_index]
    matches = [match(found, threshold) for threshold in THRESHOLDS]
    return InstanceScores(
        n_reference=len(found.reference_ids),
        n_predicted=len(found.prediction_ids),
        tp=tuple(map(len, matches)),
        # fsum: the order of the pairs follows the ids, and must not change the last digit.
        iou_sum=fsum(iou[matches[0]].tolist()),
        seg_sum=fsum(iou[in_prediction].tolist()),
        splits=int((np.bincount(found.reference_index[in_reference]) > 1).sum()),
        merges=int((np.bincount(found.prediction_index[in_prediction]) > 1).sum()),
    )


def pool(scores: Sequence[InstanceScores]) -> InstanceSummary:
    """Put the scores of many images together.

    Args:
        scores: of `score_instances`, one per image.

    Returns:
        InstanceSummary. An image without any object counts as 1 in the means per image, and adds nothing to the pool.

    Raises:
        DatasetError: if there is no image.
    """
    if not scores:
        raise DatasetError("there is no image to score objects in", hint="give at least one pair of masks")
    segs = [entry.seg for entry in scores if entry.seg is not None]
    return InstanceSummary(
        images=len(scores),
        pooled=InstanceScores(
            n_reference=sum(entry.n_reference for entry in scores),
            n_predicted=sum(entry.n_predicted for entry in scores),
            tp=tuple(map(sum, zip(*(entry.tp for entry in scores), strict=True))),
            iou_sum=fsum(entry.iou_sum for entry in scores),
            seg_sum=fsum(entry.seg_sum for entry in scores),
            splits=sum(entry.splits for entry in scores),
            merges=sum(entry.merges for entry in scores),
        ),
        ap_per_image=tuple(fmean(entry.ap(threshold) for entry in scores) for threshold in THRESHOLDS),
        mean_ap_per_image=fmean(entry.mean_ap for entry in scores),
        f1_per_image=fmean(entry.f1 for entry in scores),
        pq_per_image=fmean(entry.pq for entry in scores),
        seg_per_image=fmean(segs) if segs else None,
    )


def _runs(
    reference: NDArray[np.generic], prediction: NDArray[np.generic], within: NDArray[np.bool_] | None
) -> tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.int64]]:
    """Both ids and the length of every run of equal pixels that is not background in both.

    Sorting runs in place of pixels makes a 4096×4096 image with 20,000 objects several times faster.
    """
    if within is not None:
        reference, prediction = reference[within.astype(bool)], prediction[within.astype(bool)]
    changes = np.flatnonzero((reference[1:] != reference[:-1]) | (prediction[1:] != prediction[:-1])) + 1
    starts = np.concatenate([np.zeros(min(1, reference.size), dtype=np.int64), changes])
    lengths = np.diff(starts, append=reference.size)
    wanted, given = reference[starts], prediction[starts]
    covered = (wanted != 0) | (given != 0)
    return wanted[covered], given[covered], lengths[covered]


def _positions(ids: NDArray[np.generic], what: str) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
    """The ids other than 0, ascending, and for every run 1 + the position of its id, 0 for background."""
    known, position = np.unique(ids, return_inverse=True)
    if known.size and known[0] < 0:
        raise DatasetError(
            f"the {what} has the object id {known[0]}",
            hint="use 0 for background and ids from 1; if nobody annotated these pixels, name their value with "
            f"--ignore-value {known[0]}",
        )
    if known.size and known[0] == 0:
        return known[1:], position
    return known, position + 1


def _add_up(position: NDArray[np.int64], pixels: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Sum of `pixels` per position. The weights of bincount are float64, exact up to 2^53 pixels."""
    return np.bincount(position, weights=pixels, minlength=length).astype(np.int64)


def _assign(found: Overlaps, contested: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Choose among candidates that share objects, one connected group of objects at a time."""
    if not contested.size:
        return []
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, rows = np.unique(found.reference_index[contested], return_inverse=True)
    _, columns = np.unique(found.prediction_index[contested], return_inverse=True)
    nodes = rows.max() + columns.max() + 2
    edges = coo_array((np.ones(len(contested)), (rows, rows.max() + 1 + columns)), shape=(nodes, nodes))
    _, groups = connected_components(edges, directed=False)
    order = np.argsort(groups[rows], kind="stable")
    ends = np.flatnonzero(np.diff(groups[rows][order])) + 1
    iou = found.iou[contested]
    chosen = []
    for group in np.split(order, ends):
        _, row = np.unique(rows[group], return_inverse=True)
        _, column = np.unique(columns[group], return_inverse=True)
        candidate = np.full((row.max() + 1, column.max() + 1), -1, dtype=np.int64)
        candidate[row, column] = contested[group]
        # One more pair outweighs all IoU that a group can have, so the number of pairs comes first.
        weight = np.zeros(candidate.shape)
        weight[row, column] = min(candidate.shape) + 1 + iou[group]
        taken = candidate[linear_sum_assignment(weight, maximize=True)]
        chosen.append(taken[taken >= 0])
    return chosen


def _or_one(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 1.0


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
