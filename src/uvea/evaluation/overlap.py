"""Count where two masks agree, and turn the counts into Dice, IoU, precision, recall and specificity.

It knows labels 0 to n - 1 only: no files, no mask values, no geometry. Whoever calls it has
made sure that both masks lie on one grid. Definitions 1 and 2 of the metrics page are here.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uvea.errors import DatasetError, ShapeError

IGNORE = -1
"""Reference label of pixels that were not annotated; they are counted nowhere."""

Flag = Literal["", "both_empty", "missed", "false_alarm"]
"""Whether a class is empty in both masks, in the prediction only, or in the reference only."""

PART = 1 << 22
"""Pixels counted at once: a volume of a thousand million needs no more memory than this many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Pixels per class, each (classes,) int64. The four of one class add up to all counted pixels."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    fn: NDArray[np.int64]
    tn: NDArray[np.int64]


def counts(
    reference: NDArray[np.generic],
    prediction: NDArray[np.generic],
    *,
    classes: int,
    ignore: int = IGNORE,
    within: NDArray[np.bool_] | None = None,
) -> Counts:
    """Count agreement per class, from one joint histogram of both masks.

    Args:
        reference: integer labels 0 to classes - 1, or `ignore`; any shape.
        prediction: integer labels 0 to classes - 1, same shape; free where the reference is ignored.
        classes: number of classes, background included.
        ignore: reference label of pixels that are not counted.
        within: True where pixels count, same shape, such as a field of view; None counts all.

    Returns:
        Counts; all zero where nothing is left to count.

    Raises:
        ShapeError: if the shapes differ.
        DatasetError: if a mask is not integer or holds a label outside the classes.

    Example:
        >>> counts(np.array([0, 1, 1]), np.array([1, 1, 0]), classes=2).tp.tolist()
        [0, 1]
    """
    for what, other in (("prediction", prediction), ("region to score", within)):
        if other is not None and other.shape != reference.shape:
            raise ShapeError(
                f"the {what} is {_size(other.shape)}, its reference {_size(reference.shape)}",
                hint="give two masks of the same image",
            )
    for what, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype.kind not in "biu":
            raise DatasetError(f"the {what} is of type {mask.dtype}", hint="give whole numbers as labels")

    joint = np.zeros(classes**2, dtype=np.int64)
    # In parts, because bincount needs eight bytes per pixel, and the product of two labels a wide type.
    truth, guess = flat(reference, prediction)
    inside = None if within is None else flat(reference, within)[1]
    for start in range(0, truth.size, PART):
        part = slice(start, start + PART)
        kept = truth[part] != ignore
        if inside is not None:
            kept &= inside[part].astype(bool)
        wanted = truth[part][kept].astype(np.int64)
        given = guess[part][kept].astype(np.int64)
        _refuse_outside(wanted, "reference", classes)
        _refuse_outside(given, "prediction", classes)
        joint += np.bincount(wanted * classes + given, minlength=classes**2)
    table = joint.reshape(classes, classes)
    tp = np.diagonal(table).copy()
    fp = table.sum(0) - tp
    fn = table.sum(1) - tp
    return Counts(tp=tp, fp=fp, fn=fn, tn=table.sum() - tp - fp - fn)


def dice(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> NDArray[np.float64]:
    """2TP / (2TP + FP + FN), in [0, 1]; 1 where both masks are empty. Any shapes that broadcast.

    Source: Dice, Ecology 26 (1945).
    """
    return _ratio(2 * _int64(tp), _int64(fp) + _int64(fn))


def iou(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike) -> NDArray[np.float64]:
    """TP / (TP + FP + FN), in [0, 1]; 1 where both masks are empty. Any shapes that broadcast.

    Source: Jaccard, New Phytologist 11 (1912).
    """
    return _ratio(_int64(tp), _int64(fp) + _int64(fn))


def precision(tp: int, fp: int) -> float | None:
    """TP / (TP + FP), in [0, 1]: how much of the prediction is right; None where the prediction is empty."""
    return _share(tp, fp)


def recall(tp: int, fn: int) -> float | None:
    """TP / (TP + FN), in [0, 1]: how much of the reference is found; None where the reference is empty."""
    return _share(tp, fn)


def specificity(tn: int, fp: int) -> float | None:
    """TN / (TN + FP), in [0, 1]: how much of the rest is left alone; None where the reference fills the image."""
    return _share(tn, fp)


def flag(tp: int, fp: int, fn: int) -> Flag:
    """Say which of the two masks is empty, "" for neither."""
    if tp + fn == 0:
        return "both_empty" if fp == 0 else "false_alarm"
    return "missed" if tp + fp == 0 else ""


def axes_by_stride(array: NDArray[Any]) -> list[int]:
    """The axes in the order in which they lie in memory: in volumes as nibabel gives them the last one is outermost."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def flat(first: NDArray[Any], *others: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Arrays of one shape as one axis each, in the order in which the first lies in memory: without a copy of it."""
    order = axes_by_stride(first)
    return tuple(array.transpose(order).reshape(-1) for array in (first, *others))


def _int64(counted: ArrayLike) -> NDArray[np.int64]:
    return np.asarray(counted, dtype=np.int64)


def _ratio(agreed: NDArray[np.int64], wrong: NDArray[np.int64]) -> NDArray[np.float64]:
    total = agreed + wrong
    return np.asarray(np.where(total == 0, 1.0, agreed / np.maximum(total, 1)), dtype=np.float64)


def _share(right: int, wrong: int) -> float | None:
    return right / (right + wrong) if right + wrong else None


def _refuse_outside(labels: NDArray[np.int64], what: str, classes: int) -> None:
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        outside = sorted(set(np.unique(labels).tolist()) - set(range(classes)))
        raise DatasetError(
            f"the {what} has label {outside[0]}, there are classes 0 to {classes - 1}",
            hint="check that both masks use the same labels",
        )


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
