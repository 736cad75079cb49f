"""Calibration, ROC and precision-recall of probability maps, from two histograms.

Pixels are counted by their probability, once for the class and once for all others, so a thousand
large images need the memory of one: two histograms of 12,000 bins each, which add up. Every
measure is derived from them. They are exact for probabilities in steps of 1/12,000; those that
fall into one bin count as equal. 12,000 divides by 10, 15, 16, 20, 25, 30, 50 and 100, so bins of
those numbers have their exact borders here.

It knows arrays only: which map belongs to which mask, and how a file stores probabilities, is the
caller's matter.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation.overlap import IGNORE, flat

BINS = 12_000
"""Bins over [0, 1]: bin i holds the probabilities from i/BINS up to, not including, (i + 1)/BINS; the last holds 1."""

TOLERANCE = 1e-3
"""How far outside [0, 1] a probability may lie and still be taken for rounding, and clipped."""

# A border written as float32, such as 0.7, lies up to 3e-8 below it, or 0.0004 bins; it counts as on the border.
_NUDGE = 1e-3
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbabilityCounts:
    """Pixels by their probability. `+` adds two of them up."""

    positives: NDArray[np.int64]
    """(BINS,) pixels of the class; of confidences, pixels whose most probable class is right."""

    negatives: NDArray[np.int64]
    """(BINS,) all other counted pixels."""

    total_probability: NDArray[np.float64]
    """(BINS,) the probabilities of both, added up."""

    def __add__(self, other: "ProbabilityCounts") -> "ProbabilityCounts":
        return ProbabilityCounts(
            positives=self.positives + other.positives,
            negatives=self.negatives + other.negatives,
            total_probability=self.total_probability + other.total_probability,
        )

    @property
    def n_positive(self) -> int:
        """Pixels of the class."""
        return int(self.positives.sum())

    @property
    def n_negative(self) -> int:
        """All other counted pixels."""
        return int(self.negatives.sum())


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """One point of a reliability curve."""

    low: float
    high: float
    n: int
    """Pixels with a probability from `low` up to, not including, `high`."""

    predicted: float | None
    """Mean probability of those pixels; None where there are none."""

    observed: float | None
    """Share of them that are of the class (or, of confidences, right); None where there are none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RocCurve:
    """One point per threshold that changes something, from nothing predicted to everything."""

    thresholds: NDArray[np.float64]
    """(points,) falling; a pixel is predicted at or above it. The first is inf: nothing is predicted."""

    false_positive_rate: NDArray[np.float64]
    """(points,) FP / (FP + TN), rising from 0 to 1."""

    true_positive_rate: NDArray[np.float64]
    """(points,) TP / (TP + FN), rising from 0 to 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PrecisionRecallCurve:
    """One point per threshold that changes something, the highest that predicts anything first."""

    thresholds: NDArray[np.float64]
    """(points,) falling; a pixel is predicted at or above it."""

    precision: NDArray[np.float64]
    """(points,) TP / (TP + FP)."""

    recall: NDArray[np.float64]
    """(points,) TP / (TP + FN), rising to 1."""


@dataclass(frozen=True, kw_only=True)
class BestThreshold:
    """The threshold with the best score: predict where the probability is at or above it."""

    threshold: float
    score: float


def nothing_counted() -> ProbabilityCounts:
    """Counts of no pixel, to start adding from."""
    return ProbabilityCounts(
        positives=np.zeros(BINS, dtype=np.int64),
        negatives=np.zeros(BINS, dtype=np.int64),
        total_probability=np.zeros(BINS),
    )


def add_up(parts: Iterable[ProbabilityCounts]) -> ProbabilityCounts:
    """Add the counts of many images up, one at a time; no images give zeros."""
    return sum(parts, start=nothing_counted())


def count_probabilities(
    reference: NDArray[np.generic],
    probabilities: NDArray[np.generic],
    *,
    label: int = 1,
    ignore: int = IGNORE,
    within: NDArray[np.bool_] | None = None,
) -> ProbabilityCounts:
    """Count the pixels of one image by the probability of one class: that class against the rest.

    Args:
        reference: integer labels, or `ignore`; any shape.
        probabilities: floating-point, in [0, 1]; (k, …) for classes 0 to k - 1, or the shape of the
            reference for `label` alone. Free where a pixel does not count.
        label: the class to count.
        ignore: reference label of pixels that are not counted.
        within: True where pixels count, shape of the reference; None counts all.

    Returns:
        Counts; all zero where nothing is left to count.

    Raises:
        ShapeError: if the shapes do not belong together, or there is no channel for `label`.
        DatasetError: if a probability is NaN or outside [0, 1] by more than 0.001, or a type is wrong.

    Example:
        >>> found = count_probabilities(np.array([0, 1]), np.array([0.2, 0.9]))
        >>> found.n_positive, found.n_negative
        (1, 1)
    """
    _check(reference, probabilities, within)
    if probabilities.shape == reference.shape:
        of_class = probabilities
    elif 0 <= label < _channels(reference, probabilities):
        of_class = probabilities[label]
    else:
        raise ShapeError(
            f"the probabilities have {len(probabilities)} classes, there is none for label {label}",
            hint=f"give a label of 0 to {len(probabilities) - 1}",
        )
    wanted, given = flat(reference, of_class)
    region = None if within is None else flat(reference, within)[1]
    counted = nothing_counted()
    for part, kept in _chunks(wanted, ignore, region):
        _count(counted, wanted[part][kept] == label, given[part][kept])
    return counted


def count_confidences(
    reference: NDArray[np.generic],
    probabilities: NDArray[np.generic],
    *,
    ignore: int = IGNORE,
    within: NDArray[np.bool_] | None = None,
) -> ProbabilityCounts:
    """Count the pixels of one image by the probability of their most probable class: right against wrong.

    `ece` of these counts is the calibration error of Guo et al. over all classes together. Of classes that
    are equally probable the lowest label is the prediction.

    Args:
        reference: integer labels 0 to k - 1, or `ignore`; any shape.
        probabilities: floating-point, in [0, 1], (k, …).
        ignore: reference label of pixels that are not counted.
        within: True where pixels count, shape of the reference; None counts all.

    Returns:
        Counts, in which positive means right; all zero where nothing is left to count.

    Raises:
        ShapeError, DatasetError: as `count_probabilities`.
    """
    _check(reference, probabilities, within)
    channels = _channels(reference, probabilities)
    if not channels:
        raise ShapeError(
            f"the probabilities are {_size(probabilities.shape)}, the shape of the reference: there is one class",
            hint="give one channel per class, background first",
        )
    labels, *maps = flat(reference, *probabilities)
    region = None if within is None else flat(reference, within)[1]
    counted = nothing_counted()
    for part, kept in _chunks(labels, ignore, region):
        wanted, given = labels[part][kept], np.stack([one[part][kept] for one in maps])
        if wanted.size and (wanted.min() < 0 or wanted.max() >= channels):
            outside = wanted.min() if wanted.min() < 0 else wanted.max()
            raise DatasetError(
                f"the reference has label {outside}, there are probabilities of classes 0 to {channels - 1}",
                hint="give one channel per class, background first",
            )
        _refuse_outside(given)
        _count(counted, wanted == given.argmax(0), given.max(0))
    return counted


def reliability(counts: ProbabilityCounts, *, bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Mean probability against the share of positives, in bins of equal width.

    Args:
        counts: of `count_probabilities`, `count_confidences`, or many of them added up.
        bins: how many; a number that divides 12,000.

    Returns:
        One entry per bin, empty ones included, in rising order.

    Raises:
        DatasetError: if the bins do not divide 12,000.

    Source:
        Guo et al. 2017, On calibration of modern neural networks, section 2. Their bins are open below and
        closed above, ours closed below and open above.
    """
    if bins < 1 or BINS % bins:
        raise DatasetError(f"{bins} bins do not divide the {BINS} of the histogram", hint="use 10, 15, 20 or 100 bins")
    positives, negatives, total = (
        values.reshape(bins, -1).sum(1).tolist()
        for values in (counts.positives, counts.negatives, counts.total_probability)
    )
    return tuple(
        ReliabilityBin(
            low=place / bins,
            high=(place + 1) / bins,
            n=right + wrong,
            predicted=probability / (right + wrong) if right + wrong else None,
            observed=right / (right + wrong) if right + wrong else None,
        )
        for place, (right, wrong, probability) in enumerate(zip(positives, negatives, total, strict=True))
    )


def ece(counts: ProbabilityCounts, *, bins: int = 15) -> float | None:
    """Expected calibration error: mean gap between probability and observed share, weighted by pixels.

    Of `count_probabilities` it is the error of one class against the rest; of `count_confidences`, that of Guo
    et al. The two differ, also for two classes. Empty bins weigh nothing.

    Args:
        counts: as `reliability`.
        bins: as `reliability`.

    Returns:
        In [0, 1], 0 is perfect; None where no pixel counts.

    Raises:
        DatasetError: as `reliability`.
    """
    gaps = [
        (entry.n, abs(entry.observed - entry.predicted))
        for entry in reliability(counts, bins=bins)
        if entry.observed is not None and entry.predicted is not None
    ]
    total = sum(n for n, _ in gaps)
    return sum(n * gap for n, gap in gaps) / total if total else None


def roc(counts: ProbabilityCounts) -> RocCurve | None:
    """True positive rate against false positive rate, over all thresholds.

    Returns:
        Curve from (0, 0) to (1, 1); None where there is no positive or no negative pixel.
    """
    if not counts.n_positive or not counts.n_negative:
        return None
    thresholds, tp, fp = _cumulated(counts)
    return RocCurve(
        thresholds=np.concatenate(([np.inf], thresholds)),
        false_positive_rate=np.concatenate(([0.0], fp / counts.n_negative)),
        true_positive_rate=np.concatenate(([0.0], tp / counts.n_positive)),
    )


def auc(counts: ProbabilityCounts) -> float | None:
    """Area under the ROC curve, by trapezoids.

    It is the chance that a positive pixel has a higher probability than a negative one; those of one bin count
    one half.

    Returns:
        In [0, 1], 0.5 is guessing; None where there is no positive or no negative pixel.
    """
    curve = roc(counts)
    return None if curve is None else float(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate))


def precision_recall(counts: ProbabilityCounts) -> PrecisionRecallCurve | None:
    """Precision against recall, over all thresholds that predict at least one pixel.

    Returns:
        Curve; None where there is no positive pixel.
    """
    if not counts.n_positive:
        return None
    thresholds, tp, fp = _cumulated(counts)
    return PrecisionRecallCurve(thresholds=thresholds, precision=tp / (tp + fp), recall=tp / counts.n_positive)


def average_precision(counts: ProbabilityCounts) -> float | None:
    """Area under the precision-recall curve as a sum of steps: precision times the gain in recall.

    Between two thresholds precision is not interpolated: a straight line there would be too optimistic
    (Davis and Goadrich 2006). Not the AP of instances, which counts objects.

    Returns:
        In (0, 1]; the share of positives is guessing. None where there is no positive pixel.
    """
    curve = precision_recall(counts)
    return None if curve is None else float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


def best_threshold(counts: ProbabilityCounts, *, metric: Literal["dice", "youden"] = "dice") -> BestThreshold | None:
    """Find the threshold with the best pooled score. Choose it on validation data, never on the data reported.

    Args:
        counts: as `reliability`.
        metric: "dice" 2TP / (2TP + FP + FN), or "youden" TPR - FPR, which leaves the class's frequency out.

    Returns:
        Threshold, a multiple of 1/12,000 in [0, 1), and its score. Of equally good ones, the nearest to 0.5.
        None where there is no positive pixel, or, for Youden, no negative one.
    """
    positive, negative = counts.n_positive, counts.n_negative
    if not positive or (metric == "youden" and not negative):
        return None
    tp = counts.positives[::-1].cumsum()[::-1]
    fp = counts.negatives[::-1].cumsum()[::-1]
    score = 2 * tp / (tp + fp + positive) if metric == "dice" else tp / positive - fp / negative
    best = score.max()
    # Scores that differ by rounding only are equal.
    equal = np.flatnonzero(score >= best - 1e-12)
    place = equal[np.abs(equal - BINS // 2).argmin()]
    return BestThreshold(threshold=float(place / BINS), score=float(score[place]))


def _cumulated(
    counts: ProbabilityCounts,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Thresholds of the bins that hold something, falling, with TP and FP at each."""
    filled = np.flatnonzero(counts.positives + counts.negatives)[::-1]
    return filled / BINS, counts.positives[filled].cumsum(), counts.negatives[filled].cumsum()


def _count(counted: ProbabilityCounts, positive: NDArray[np.bool_], probabilities: NDArray[np.generic]) -> None:
    """Add some pixels to `counted`, in place."""
    _refuse_outside(probabilities)
    given = np.clip(probabilities.astype(np.float64), 0, 1)
    bins = np.minimum((given * BINS + _NUDGE).astype(np.int64), BINS - 1)
    of_class = np.bincount(bins[positive], minlength=BINS)
    counted.positives[:] += of_class
    counted.negatives[:] += np.bincount(bins, minlength=BINS) - of_class
    counted.total_probability[:] += np.bincount(bins, weights=given, minlength=BINS)


def _chunks(
    wanted: NDArray[np.generic], ignore: int, region: NDArray[np.bool_] | None
) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Pieces of a flat image that bound the memory, with what counts in each."""
    for start in range(0, wanted.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        kept = np.asarray(wanted[part] != ignore)
        yield part, kept if region is None else kept & region[part].astype(bool)


def _check(
    reference: NDArray[np.generic], probabilities: NDArray[np.generic], within: NDArray[np.bool_] | None
) -> None:
    if probabilities.shape != reference.shape and probabilities.shape[1:] != reference.shape:
        raise ShapeError(
            f"the probabilities are {_size(probabilities.shape)}, their reference {_size(reference.shape)}",
            hint="give (classes, …) or one map of the shape of the reference",
        )
    if within is not None and within.shape != reference.shape:
        raise ShapeError(
            f"the region to score is {_size(within.shape)}, the reference {_size(reference.shape)}",
            hint="give two masks of the same image",
        )
    if reference.dtype.kind not in "biu":
        raise DatasetError(f"the reference is of type {reference.dtype}", hint="give whole numbers as labels")
    if probabilities.dtype.kind != "f":
        raise DatasetError(
            f"the probabilities are of type {probabilities.dtype}",
            hint="give floating-point numbers from 0 to 1: divide uint8 by 255, uint16 by 65535",
        )


def _channels(reference: NDArray[np.generic], probabilities: NDArray[np.generic]) -> int:
    """How many classes have a channel; 0 for one map without a channel axis."""
    return len(probabilities) if probabilities.ndim == reference.ndim + 1 else 0


def _refuse_outside(probabilities: NDArray[np.generic]) -> None:
    if not probabilities.size:
        return
    # A comparison with NaN is false, so NaN is refused, too.
    low, high = float(np.min(probabilities)), float(np.max(probabilities))
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        worst = low if not low >= -TOLERANCE else high
        raise DatasetError(
            f"the probabilities hold {worst:.6g}, outside 0 to 1",
            hint="give the output of softmax or sigmoid, without pixels that are NaN",
        )


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
