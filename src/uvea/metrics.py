"""Every metric as a function of arrays, for those who read their files themselves.

    from uvea import metrics
    metrics.dice(reference, prediction)
    metrics.hd95(reference, prediction, spacing=(2.0, 0.5, 0.5))

The reference comes first, the prediction second, both on one grid. A mask is True, or not 0, where its class is: of a
label map give `labels == 2`. Axes are (y, x) or (z, y, x) as in the array, and spacing and results have one unit.
`score_case` computes what `uvea.evaluate` writes, for all classes of a label map at once. What a number means and
what empty masks give is in the docstrings and in `METRICS`; what is not defined is None, never NaN.
"""

import numpy as np
from numpy.typing import NDArray

from uvea.evaluation import overlap
from uvea.evaluation.compare import Comparison, compare
from uvea.evaluation.instances import InstanceScores, InstanceSummary, match, overlaps, pool, score_instances
from uvea.evaluation.intervals import Interval, bootstrap_difference, bootstrap_mean
from uvea.evaluation.lesions import LesionScores, lesion_scores
from uvea.evaluation.membranes import MembraneCurve, MembraneScores, mean_curve, rand_info, score_membranes, thin
from uvea.evaluation.overlap import Counts, counts
from uvea.evaluation.probabilities import (
    ProbabilityCounts,
    auc,
    average_precision,
    best_threshold,
    count_confidences,
    count_probabilities,
    ece,
    precision_recall,
    reliability,
    roc,
)
from uvea.evaluation.rows import score_case
from uvea.evaluation.summary import Summary, summarise
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
)
from uvea.evaluation.surfels import (
    assd_surfel,
    hd95_surfel,
    hd_surfel,
    masd_surfel,
    nsd_surfel,
    surfel_scores,
)
from uvea.evaluation.table import METRICS, CaseScore, Metric, read_csv, write_csv

__all__ = [
    "METRICS",
    "CaseScore",
    "Comparison",
    "Counts",
    "InstanceScores",
    "InstanceSummary",
    "Interval",
    "LesionScores",
    "MembraneCurve",
    "MembraneScores",
    "Metric",
    "ProbabilityCounts",
    "Summary",
    "SurfaceScores",
    "assd",
    "assd_surfel",
    "auc",
    "average_precision",
    "best_threshold",
    "bootstrap_difference",
    "bootstrap_mean",
    "border",
    "compare",
    "count_confidences",
    "count_probabilities",
    "counts",
    "dice",
    "ece",
    "hd",
    "hd95",
    "hd95_surfel",
    "hd_surfel",
    "iou",
    "lesion_scores",
    "masd",
    "masd_surfel",
    "match",
    "mean_curve",
    "nsd",
    "nsd_surfel",
    "overlaps",
    "pool",
    "precision",
    "precision_recall",
    "rand_info",
    "read_csv",
    "recall",
    "reliability",
    "roc",
    "score_case",
    "score_instances",
    "score_membranes",
    "specificity",
    "summarise",
    "surface_distances",
    "surface_scores",
    "surfel_scores",
    "thin",
    "write_csv",
]

Mask = NDArray[np.generic]
"""Whole numbers or bool, any shape; not 0 is foreground."""


def dice(reference: Mask, prediction: Mask, *, within: NDArray[np.bool_] | None = None) -> float:
    """2TP / (2TP + FP + FN), in [0, 1]; 1 where both masks are empty, 0 where one is.

    Args:
        reference: (…), not 0 is foreground.
        prediction: same shape.
        within: True where pixels count, same shape; None counts all.

    Raises:
        ShapeError: if the shapes differ.
        DatasetError: if a mask holds floats, or anything else but whole numbers and bool.

    Source: Dice, Ecology 26 (1945).

    Example:
        >>> dice(np.array([1, 1, 0]), np.array([1, 0, 0]))
        0.6666666666666666
    """
    tp, fp, fn, _ = _counts(reference, prediction, within)
    return float(overlap.dice(tp, fp, fn))


def iou(reference: Mask, prediction: Mask, *, within: NDArray[np.bool_] | None = None) -> float:
    """TP / (TP + FP + FN), in [0, 1]; empty masks, arguments and errors as `dice`.

    Source: Jaccard, New Phytologist 11 (1912).
    """
    tp, fp, fn, _ = _counts(reference, prediction, within)
    return float(overlap.iou(tp, fp, fn))


def precision(reference: Mask, prediction: Mask, *, within: NDArray[np.bool_] | None = None) -> float | None:
    """TP / (TP + FP), in [0, 1]; None for an empty prediction. Arguments and errors as `dice`."""
    tp, fp, _, _ = _counts(reference, prediction, within)
    return overlap.precision(tp, fp)


def recall(reference: Mask, prediction: Mask, *, within: NDArray[np.bool_] | None = None) -> float | None:
    """TP / (TP + FN), in [0, 1], also called sensitivity; None for an empty reference. The rest as `dice`."""
    tp, _, fn, _ = _counts(reference, prediction, within)
    return overlap.recall(tp, fn)


def specificity(reference: Mask, prediction: Mask, *, within: NDArray[np.bool_] | None = None) -> float | None:
    """TN / (TN + FP), in [0, 1]; None where the reference fills the image. The rest as `dice`."""
    _, fp, _, tn = _counts(reference, prediction, within)
    return overlap.specificity(tn, fp)


def _counts(reference: Mask, prediction: Mask, within: NDArray[np.bool_] | None) -> tuple[int, int, int, int]:
    arrays = (np.asarray(reference), np.asarray(prediction))
    # What is no mask goes on as it is, and is refused.
    masks = (mask != 0 if mask.dtype.kind in "biu" else mask for mask in arrays)
    found = counts(*masks, classes=2, within=None if within is None else np.asarray(within))
    tp, fp, fn, tn = (int(column[1]) for column in (found.tp, found.fp, found.fn, found.tn))
    return tp, fp, fn, tn
