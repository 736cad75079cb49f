"""How far the surfaces of two masks lie apart: Hausdorff and mean distances, normalised surface Dice.

Definition 3 of the metrics page is here. The other common convention, of surface elements weighted by their area, is
in `surfels.py`. It knows arrays, labels and a spacing: no files, no tables.

    masks -> border voxels, slab by slab -> nearest border voxel of the other mask -> scores

Nothing as large as the masks is made, except where many border voxels or far ones make a distance transform
cheaper than a tree (`nearest.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvea.errors import DatasetError, ShapeError
from uvea.evaluation.nearest import Distances, Surface, distances
from uvea.evaluation.overlap import axes_by_stride

SLAB_VOXELS = 2**20
"""Voxels whose border is found at a time, so that the work stays in the processor's cache."""

ROUNDING = 1e-9
"""Relative slack where a sum or a distance is compared with a limit: three steps of 0.1 are within 0.3."""

Labels = NDArray[np.generic]
"""Whole numbers or bool, any number of axes."""


@dataclass(frozen=True, kw_only=True)
class SurfaceScores:
    """Agreement of two surfaces. Both masks empty: distances 0, NSD 1. One empty: distances inf, NSD 0."""

    hd: float
    """Hausdorff distance: the larger of the two directed maxima."""

    hd95: float
    """The larger of the two directed 95th percentiles."""

    assd: float
    """Average symmetric surface distance: the mean over both directions pooled."""

    masd: float
    """Mean average surface distance: the mean of the two directed means."""

    nsd: float
    """Normalised surface Dice: the share of both surfaces within the tolerance, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Borders:
    """Border voxels of all classes of one mask."""

    index: NDArray[np.int64]
    """(n,): place in the flat array, ascending."""

    label: Labels
    """(n,)"""

    shared: NDArray[np.bool_]
    """(n,): True where the other mask has the same label here, and a border too."""


NOTHING_THERE = SurfaceScores(hd=0.0, hd95=0.0, assd=0.0, masd=0.0, nsd=1.0)
ONE_MISSING = SurfaceScores(hd=np.inf, hd95=np.inf, assd=np.inf, masd=np.inf, nsd=0.0)


def border(mask: Labels) -> NDArray[np.bool_]:
    """Border voxels: foreground with a face neighbour that is background or outside the array.

    Args:
        mask: (…), True or not 0 is foreground; one axis or more.

    Returns:
        Same shape; all False for an empty mask.

    Raises:
        DatasetError: if the mask holds floats.

    Example:
        >>> int(border(np.ones((3, 3), bool)).sum())
        8
    """
    whole = as_binary(mask, "mask")
    checked(whole, whole, None)
    return _border_of(whole, 0, whole.shape[0], background=False)


def surface_distances(
    reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None, threads: int = -1
) -> tuple[Distances, Distances]:
    """Distance from every border voxel of one mask to the nearest border voxel of the other.

    Args:
        reference: (…), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis, in the unit of the result; None is 1 for all.
        threads: for large masks; -1 is one per core.

    Returns:
        Reference to prediction and prediction to reference, one value per border voxel, in no set order.
        A mask without foreground has no values, and the other's are all inf.

    Raises:
        ShapeError: if the shapes differ, or the spacing has another number of values than there are axes.
        DatasetError: if a mask holds floats, or the spacing is not positive.
    """
    first, second = as_binary(reference, "reference"), as_binary(prediction, "prediction")
    steps = checked(first, second, spacing)
    order = axes_by_stride(first)
    first, second = first.transpose(order), second.transpose(order)
    borders = _borders(first, second, background=False)
    return distances(*_surfaces_of(borders, 1, first.shape), steps[order], threads)


def surface_scores(
    reference: Labels,
    prediction: Labels,
    *,
    tolerance: float,
    spacing: Sequence[float] | None = None,
    threads: int = -1,
) -> SurfaceScores:
    """All distances between the surfaces of two masks, for the work of one.

    Args:
        reference: (…), True or not 0 is foreground.
        prediction: same shape.
        tolerance: distance up to which a border voxel counts as right, in the unit of the spacing.
        spacing: voxel size per array axis; None is 1 for all.
        threads: for large masks; -1 is one per core.

    Returns:
        Scores by definition 3; those of empty masks by definition 2.

    Raises:
        ShapeError, DatasetError: as `surface_distances`; also for a tolerance below 0.

    Example:
        >>> here, there = np.zeros((2, 9), bool), np.zeros((2, 9), bool)
        >>> here[0, 2] = there[0, 5] = True
        >>> surface_scores(here, there, tolerance=2.0).hd
        3.0
    """
    first, second = as_binary(reference, "reference"), as_binary(prediction, "prediction")
    scores = surface_scores_by_class(first, second, classes=(1,), tolerance=tolerance, spacing=spacing, threads=threads)
    return scores[1]


def surface_scores_by_class(
    reference: Labels,
    prediction: Labels,
    *,
    classes: Sequence[int],
    tolerance: float,
    spacing: Sequence[float] | None = None,
    threads: int = -1,
) -> dict[int, SurfaceScores]:
    """`surface_scores` of several classes, for which the borders are looked for only once.

    Args:
        reference: (…) whole numbers.
        prediction: same shape.
        classes: labels to score, 0 too where it is a class of its own. Every other label is background.
        tolerance: distance up to which a border voxel counts as right, in the unit of the spacing.
        spacing: voxel size per array axis; None is 1 for all.
        threads: for large masks; -1 is one per core.

    Returns:
        Scores per label, in the order of `classes`.

    Raises:
        ShapeError, DatasetError: as `surface_scores`.
    """
    reference, prediction = np.asarray(reference), np.asarray(prediction)
    steps = checked(reference, prediction, spacing)
    refuse_tolerance(tolerance)
    order = axes_by_stride(reference)
    first, second = reference.transpose(order), prediction.transpose(order)
    borders = _borders(first, second, background=0 in classes)
    return {
        label: _scores(*distances(*_surfaces_of(borders, label, first.shape), steps[order], threads), tolerance)
        for label in classes
    }


def hd(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Hausdorff distance: the largest distance from a border voxel of one mask to the border of the other.

    Args:
        reference: (…), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surface_scores`.

    Source: Huttenlocher et al., IEEE TPAMI 1993;15(9):850.
    """
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd


def hd95(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """The larger of the two directed 95th percentiles of the distances between borders, linear interpolation.

    Args:
        reference: (…), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surface_scores`.

    Source: as in Menze et al., IEEE TMI 2015;34(10):1993 (BRATS).
    """
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd95


def assd(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Average symmetric surface distance: the mean over the border voxels of both masks, pooled.

    Args:
        reference: (…), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surface_scores`.

    Source: Heimann et al., IEEE TMI 2009;28(8):1251.
    """
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).assd


def masd(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Mean average surface distance: the mean of the two directed mean distances.

    Args:
        reference: (…), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surface_scores`.

    Source: Maier-Hein et al., Nature Methods 2024;21:195 (Metrics Reloaded).
    """
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).masd


def nsd(reference: Labels, prediction: Labels, *, tolerance: float, spacing: Sequence[float] | None = None) -> float:
    """Normalised surface Dice: the share of border voxels, both masks pooled, within the tolerance of the other border.

    Args:
        reference: (…), True or not 0 is foreground.
        prediction: same shape.
        tolerance: distance up to which a border voxel counts as right, in the unit of the spacing.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In [0, 1]. Both masks empty: 1; exactly one: 0.

    Raises:
        ShapeError, DatasetError: as `surface_scores`.

    Source: Nikolov et al., J Med Internet Res 2021;23(7):e26151 (there with surfels, see `nsd_surfel`).
    """
    return surface_scores(reference, prediction, tolerance=tolerance, spacing=spacing).nsd


def _borders(reference: Labels, prediction: Labels, *, background: bool) -> tuple[_Borders, _Borders]:
    """Border voxels of all classes of both masks; those of label 0 only with `background`.

    A voxel is on the border of its class where a face neighbour has another label, so one pass serves all classes.
    """
    masks = (reference, prediction)
    plane = int(np.prod(reference.shape[1:], dtype=np.int64))
    rows = max(1, SLAB_VOXELS // max(1, plane))
    found: tuple[list[_Borders], list[_Borders]] = ([], [])
    for start in range(0, reference.shape[0] if plane else 0, rows):
        stop = min(start + rows, reference.shape[0])
        edges = [_border_of(mask, start, stop, background=background) for mask in masks]
        both = edges[0] & edges[1]
        both &= reference[start:stop] == prediction[start:stop]
        for mask, edge, parts in zip(masks, edges, found, strict=True):
            index = np.flatnonzero(edge)
            label, shared = mask[start:stop].reshape(-1)[index], both.reshape(-1)[index]
            parts.append(_Borders(index=index + start * plane, label=label, shared=shared))
    first, second = (_joined(parts, mask.dtype) for parts, mask in zip(found, masks, strict=True))
    return first, second


def _joined(parts: Sequence[_Borders], kind: np.dtype[np.generic]) -> _Borders:
    return _Borders(
        index=np.concatenate([np.empty(0, np.int64), *(part.index for part in parts)]),
        label=np.concatenate([np.empty(0, kind), *(part.label for part in parts)]),
        shared=np.concatenate([np.empty(0, np.bool_), *(part.shared for part in parts)]),
    )


def _border_of(labels: Labels, start: int, stop: int, *, background: bool) -> NDArray[np.bool_]:
    """Border voxels among the rows from start to stop of the first axis."""
    part = labels[start:stop]
    edge = np.zeros(part.shape, np.bool_)
    if not background and not part.any():
        return edge
    for axis in range(part.ndim):
        before = (slice(None),) * axis
        low, high = (*before, slice(None, -1)), (*before, slice(1, None))
        differ = part[high] != part[low]
        edge[low] |= differ
        edge[high] |= differ
        if axis:
            edge[(*before, slice(None, 1))] = edge[(*before, slice(-1, None))] = True
    edge[:1] |= True if start == 0 else part[:1] != labels[start - 1 : start]
    edge[-1:] |= True if stop == labels.shape[0] else part[-1:] != labels[stop : stop + 1]
    if not background:
        edge &= part.astype(np.bool_, copy=False)
    return edge


def _surfaces_of(borders: tuple[_Borders, _Borders], label: int, shape: tuple[int, ...]) -> tuple[Surface, Surface]:
    def surface(side: _Borders) -> Surface:
        chosen = side.label == label
        index = side.index[chosen]
        points = np.empty((len(index), len(shape)), np.int32)
        for axis, at in enumerate(np.unravel_index(index, shape)):
            points[:, axis] = at
        return Surface(points=points, shared=side.shared[chosen])

    return surface(borders[0]), surface(borders[1])


def _scores(there: Distances, back: Distances, tolerance: float) -> SurfaceScores:
    if len(there) == 0 or len(back) == 0:
        return NOTHING_THERE if len(there) == len(back) else ONE_MISSING
    limit = tolerance * (1 + ROUNDING)
    n = len(there) + len(back)
    return SurfaceScores(
        hd=float(max(there.max(), back.max())),
        hd95=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd=float((there.sum() + back.sum()) / n),
        masd=float((there.mean() + back.mean()) / 2),
        nsd=float((np.count_nonzero(there <= limit) + np.count_nonzero(back <= limit)) / n),
    )


def as_binary(mask: Labels, what: str) -> NDArray[np.bool_]:
    """A mask as bool, without a copy where it is. Floats are a DatasetError that names `what` it is."""
    mask = np.asarray(mask)
    if mask.dtype.kind not in "biu":
        raise DatasetError(f"the {what} is of type {mask.dtype}", hint="give a mask of whole numbers or True and False")
    return np.asarray(mask if mask.dtype.kind == "b" else mask != 0, dtype=np.bool_)


def checked(reference: Labels, prediction: Labels, spacing: Sequence[float] | None) -> NDArray[np.float64]:
    """The spacing as an array, 1 for None, after both masks and it were found to fit together.

    Raises:
        ShapeError, DatasetError: as `surface_distances`.
    """
    for mask, what in ((reference, "reference"), (prediction, "prediction")):
        if mask.dtype.kind not in "biu":
            raise DatasetError(f"the {what} is of type {mask.dtype}", hint="give whole numbers as labels")
    if prediction.shape != reference.shape:
        raise ShapeError(
            f"the prediction is {_size(prediction.shape)}, its reference {_size(reference.shape)}",
            hint="give two masks of the same image",
        )
    if reference.ndim == 0:
        raise ShapeError("a single number has no surface", hint="give masks with one axis or more")
    steps = np.ones(reference.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if steps.shape != (reference.ndim,):
        raise ShapeError(
            f"the spacing has {steps.size} values for {reference.ndim} axes",
            hint="give one value per axis, in array order",
        )
    if not (np.isfinite(steps).all() and (steps > 0).all()):
        raise DatasetError(f"the spacing is {_size(tuple(steps))}", hint="give a positive voxel size for every axis")
    return steps


def refuse_tolerance(tolerance: float) -> None:
    """Raise DatasetError for a tolerance that is no distance."""
    if not tolerance >= 0:
        raise DatasetError(f"the tolerance is {tolerance:g}", hint="give a distance of 0 or more")


def _size(values: Sequence[float]) -> str:
    return "×".join(f"{value:g}" for value in values)
