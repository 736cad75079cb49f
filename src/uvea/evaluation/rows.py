"""Score one case: put the metrics of its masks into rows of the table.

masks -> counts -> volumes -> distances and lesions, class by class -> rows

Each metric is computed in its own file; here is only which are computed for what, and under which name
their results stand in a row.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.evaluation.instances import THRESHOLDS, InstanceScores
from uvea.evaluation.lesions import LesionScores, lesion_scores
from uvea.evaluation.membranes import MembraneScores
from uvea.evaluation.overlap import IGNORE, counts, dice, flag, iou, precision, recall, specificity
from uvea.evaluation.probabilities import ProbabilityCounts, auc, average_precision, ece
from uvea.evaluation.surface import SurfaceScores, surface_scores_by_class
from uvea.evaluation.table import CaseScore, Value

Box = tuple[slice, ...]


def score_case(
    name: str,
    reference: NDArray[np.integer],
    prediction: NDArray[np.integer],
    *,
    names: Sequence[str],
    ignore: int = IGNORE,
    within: NDArray[np.bool_] | None = None,
    group: str | None = None,
    spacing: Sequence[float] | None = None,
    tolerance: float | None = None,
    threads: int = -1,
) -> list[CaseScore]:
    """Score one case: a row per class, background first.

    Args:
        name: of the case, for the rows.
        reference: integer labels 0 to len(names) - 1, or `ignore`; (y, x) or (z, y, x).
        prediction: integer labels, same shape.
        names: of the classes, background first.
        ignore: reference label of pixels that are not counted. For distances and lesions, whatever does not count
            is background in both masks.
        within: True where pixels count, same shape; None counts all.
        group: patient or stack of the case, where there is one.
        spacing: size of a pixel along each axis; None leaves volumes and distances out.
        tolerance: of the surface Dice, in the unit of the spacing; None leaves distances and lesions out, which
            take most of the time. The background has neither.
        threads: for the distances of large masks; -1 is one per core.

    Returns:
        len(names) rows, in class order.

    Raises:
        ShapeError, DatasetError: as `counts`.
    """
    found = counts(reference, prediction, classes=len(names), ignore=ignore, within=within)
    rows = [
        CaseScore(
            case=name,
            group=group,
            label=label,
            class_name=class_name,
            flag=flag(tp, fp, fn),
            values=overlap_values(tp, fp, fn, tn=tn) | _volumes(tp, fp, fn, spacing=spacing),
        )
        for label, (class_name, tp, fp, fn, tn) in enumerate(
            zip(names, *(column.tolist() for column in (found.tp, found.fp, found.fn, found.tn)), strict=True)
        )
    ]
    if tolerance is None or spacing is None:
        return rows
    left_out = reference == ignore
    if within is not None:
        left_out |= within == 0
    if left_out.any():
        reference, prediction = np.where(left_out, 0, reference), np.where(left_out, 0, prediction)
    surfaces = surface_scores_by_class(
        reference, prediction, classes=range(1, len(names)), tolerance=tolerance, spacing=spacing, threads=threads
    )
    for label, box in enumerate(_boxes(reference, prediction, classes=len(names)), start=1):
        lesions = lesion_scores(reference[box] == label, prediction[box] == label)
        rows[label] = with_values(rows[label], surface_values(surfaces[label]) | lesion_values(lesions))
    return rows


def with_values(row: CaseScore, values: dict[str, Value]) -> CaseScore:
    """The row with more metrics, behind those that it has."""
    return CaseScore(
        case=row.case,
        group=row.group,
        label=row.label,
        class_name=row.class_name,
        flag=row.flag,
        values={**row.values, **values},
    )


def overlap_values(tp: int, fp: int, fn: int, *, tn: int) -> dict[str, Value]:
    """The metrics that follow from counts."""
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "dice": float(dice(tp, fp, fn)),
        "iou": float(iou(tp, fp, fn)),
        "precision": precision(tp, fp),
        "recall": recall(tp, fn),
        "specificity": specificity(tn, fp),
    }


def surface_values(found: SurfaceScores) -> dict[str, Value]:
    """The metrics of borders."""
    return {"hd": found.hd, "hd95": found.hd95, "assd": found.assd, "masd": found.masd, "nsd": found.nsd}


def lesion_values(found: LesionScores) -> dict[str, Value]:
    """The metrics of connected components."""
    return {
        "lesions": found.reference,
        "lesions_hit": found.hit,
        "lesions_predicted": found.predicted,
        "lesions_false": found.false,
        "lesion_recall": found.recall,
        "lesion_precision": found.precision,
        "lesion_f1": found.f1,
    }


def instance_values(found: InstanceScores) -> dict[str, Value]:
    """The metrics of objects."""
    return {
        "objects": found.n_reference,
        "objects_predicted": found.n_predicted,
        **{f"ap_{round(100 * threshold)}": found.ap(threshold) for threshold in THRESHOLDS},
        "mean_ap": found.mean_ap,
        "f1": found.f1,
        "pq": found.pq,
        "seg": found.seg,
        "splits": found.splits,
        "merges": found.merges,
    }


def membrane_values(fixed: MembraneScores, best: MembraneScores) -> dict[str, Value]:
    """The metrics of membranes, at the fixed threshold and at the best."""
    return {
        f"{name}{suffix}": value
        for suffix, found in (("", fixed), ("_best", best))
        for name, value in (
            ("v_rand", found.v_rand),
            ("v_rand_split", found.v_split),
            ("v_rand_merge", found.v_merge),
            ("v_info", found.v_info),
            ("v_info_split", found.v_info_split),
            ("v_info_merge", found.v_info_merge),
        )
    }


def probability_values(found: ProbabilityCounts) -> dict[str, Value]:
    """The metrics of the probabilities of a class."""
    return {"ece": ece(found), "auc": auc(found), "average_precision": average_precision(found)}


def _volumes(tp: int, fp: int, fn: int, *, spacing: Sequence[float] | None) -> dict[str, Value]:
    if spacing is None:
        return {}
    pixel = float(np.prod(np.asarray(spacing, dtype=np.float64)))
    return {
        "volume_reference": (tp + fn) * pixel,
        "volume_prediction": (tp + fp) * pixel,
        "volume_difference": (fp - fn) * pixel,
    }


def _boxes(reference: NDArray[np.integer], prediction: NDArray[np.integer], *, classes: int) -> list[Box]:
    """The smallest box around both masks of each foreground class; where both are empty, the first pixel.

    Components need no more than that, and a volume is large beside its lesions.
    """
    found = [ndimage.find_objects(mask, max_label=classes - 1) for mask in (reference, prediction)]
    return [_around(*pair, dims=reference.ndim) for pair in zip(*found, strict=True)]


def _around(first: Box | None, second: Box | None, *, dims: int) -> Box:
    known = [box for box in (first, second) if box is not None]
    if not known:
        return (slice(0, 1),) * dims
    return tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*known, strict=True)
    )
