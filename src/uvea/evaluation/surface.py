"""How far the surfaces of two masks lie apart: Hausdorff and mean distances, normalised surface Dice.

Definition 3 of the metrics page is here, and beside it, with names that end in _surfel, the convention of
surface elements weighted by their area. It knows arrays, labels and a spacing: no files, no tables.

    masks -> border voxels, slab by slab -> nearest border voxel of the other mask -> scores

Nothing as large as the masks is made, except where many border voxels or far ones make a distance transform
cheaper than a tree (`_nearest`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from uvea.errors import DatasetError, ShapeError

SLAB_VOXELS = 2**20
"""Voxels whose border is found at a time, so that the work stays in the processor's cache."""

ROUNDING = 1e-9
"""Relative slack where a sum or a distance is compared with a limit: three steps of 0.1 are within 0.3."""

# Costs that choose between tree and transform, in µs on one core of 2026; only their ratios matter. A query looks
# at the targets that are hardly farther than the nearest one: few beside a surface, thousands at a sphere's centre.
BUILD_US = 0.2
QUERY_US = 0.7
CANDIDATE_US = 0.05
TRANSFORM_US = 0.16
LEAF_POINTS = 64
"""Of the tree. 64 builds and finds far points faster than 16, and near ones as fast (measured, 2D and 3D)."""

SAMPLE = 64
"""Queries from which the cost of all is estimated."""

MANY_POINTS = 10_000
"""From here on threads pay, and so does an estimate of the cost."""

Labels = NDArray[np.generic]
"""Whole numbers or bool, any number of axes."""

Distances = NDArray[np.float64]
"""(n,), in units of the spacing."""

Points = NDArray[np.int32]
"""(n, axes): indices of voxels or cells. int32, because masks of noise have as many borders as voxels."""


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
class _Surface:
    """Where one mask has its surface, and where the other one has it too."""

    points: Points
    shared: NDArray[np.bool_]
    """(n,): True where the distance is 0 because both surfaces have this point."""


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
    whole = _as_binary(mask, "mask")
    _checked(whole, whole, None)
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
    first, second = _as_binary(reference, "reference"), _as_binary(prediction, "prediction")
    steps = _checked(first, second, spacing)
    order = _axes_by_stride(first)
    first, second = first.transpose(order), second.transpose(order)
    borders = _borders(first, second, background=False)
    return _distances(*_surfaces_of(borders, 1, first.shape), steps[order], threads)


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
    first, second = _as_binary(reference, "reference"), _as_binary(prediction, "prediction")
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
    steps = _checked(reference, prediction, spacing)
    _refuse_tolerance(tolerance)
    order = _axes_by_stride(reference)
    first, second = reference.transpose(order), prediction.transpose(order)
    borders = _borders(first, second, background=0 in classes)
    return {
        label: _scores(*_distances(*_surfaces_of(borders, label, first.shape), steps[order], threads), tolerance)
        for label in classes
    }


def hd(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Hausdorff distance, in units of the spacing. Arguments, empty masks and errors as `surface_scores`."""
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd


def hd95(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """The larger directed 95th percentile, linear interpolation. Arguments and the rest as `surface_scores`."""
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd95


def assd(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Mean distance over both directions pooled. Arguments, empty masks and errors as `surface_scores`."""
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).assd


def masd(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Mean of the two directed mean distances. Arguments, empty masks and errors as `surface_scores`."""
    return surface_scores(reference, prediction, tolerance=0.0, spacing=spacing).masd


def nsd(reference: Labels, prediction: Labels, *, tolerance: float, spacing: Sequence[float] | None = None) -> float:
    """Share of border voxels within the tolerance, in [0, 1]. Arguments and the rest as `surface_scores`."""
    return surface_scores(reference, prediction, tolerance=tolerance, spacing=spacing).nsd


def surfel_scores(
    reference: Labels,
    prediction: Labels,
    *,
    tolerance: float,
    spacing: Sequence[float] | None = None,
    threads: int = -1,
) -> SurfaceScores:
    """The same scores by surface elements (surfels) and their area, instead of border voxels.

    A surfel is a cell between 2×2 (or 2×2×2) neighbouring voxels of which some are foreground and some are not;
    outside the array there is no foreground. Its area is that of the marching-cubes surface in it, in 2D the length
    of the marching-squares line. Distances run between cell centres; percentiles, means and NSD are weighted by area.
    The 95th percentile is the smallest distance that at least 95 % of the area does not exceed.

    Args:
        reference: (y, x) or (z, y, x), True or not 0 is foreground.
        prediction: same shape.
        tolerance: distance up to which a surfel counts as right, in the unit of the spacing.
        spacing: voxel size per array axis; None is 1 for all.
        threads: for large masks; -1 is one per core.

    Returns:
        Scores; those of empty masks by definition 2.

    Raises:
        ShapeError, DatasetError: as `surface_scores`; also for masks that are not 2D or 3D.

    Source: Nikolov et al., J Med Internet Res 2021;23(7):e26151, and the package surface-distance 0.1, with which
    the figures agree. It gives the two directed mean distances: `masd` is their mean, `assd` pools both by area.
    """
    first, second = _as_binary(reference, "reference"), _as_binary(prediction, "prediction")
    steps = _checked(first, second, spacing)
    _refuse_tolerance(tolerance)
    if first.ndim not in (2, 3):
        raise ShapeError(f"surfels need (y, x) or (z, y, x), got {first.ndim} axes", hint="use `surface_scores`")
    box = _joint_box(first, second)
    if box is None:
        return NOTHING_THERE
    codes = [_cell_codes(mask[box]) for mask in (first, second)]
    full = 2 ** (2**first.ndim) - 1
    cells = [(code > 0) & (code < full) for code in codes]
    if not (cells[0].any() and cells[1].any()):
        return ONE_MISSING
    both = cells[0] & cells[1]
    surfaces = [_Surface(points=np.argwhere(cell).astype(np.int32), shared=both[cell]) for cell in cells]
    there, back = _distances(surfaces[0], surfaces[1], steps, threads)
    areas = _surfel_areas(tuple(steps.tolist()))
    return _weighted_scores(
        (there, areas[codes[0][cells[0]]]), (back, areas[codes[1][cells[1]]]), tolerance * (1 + ROUNDING)
    )


def hd_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Hausdorff distance between surfels. Arguments, empty masks, errors and source as `surfel_scores`."""
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd


def hd95_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """The larger directed 95th percentile by area. Arguments and the rest as `surfel_scores`."""
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd95


def assd_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Mean distance by area over both directions pooled. Arguments and the rest as `surfel_scores`."""
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).assd


def masd_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Mean of the two directed means by area. Arguments and the rest as `surfel_scores`."""
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).masd


def nsd_surfel(
    reference: Labels, prediction: Labels, *, tolerance: float, spacing: Sequence[float] | None = None
) -> float:
    """Share of the area of both surfaces within the tolerance. Arguments and the rest as `surfel_scores`."""
    return surfel_scores(reference, prediction, tolerance=tolerance, spacing=spacing).nsd


def _axes_by_stride(mask: Labels) -> list[int]:
    """The axes in the order in which they lie in memory: volumes from NIfTI files have the last one outermost."""
    return sorted(range(mask.ndim), key=lambda axis: -abs(mask.strides[axis]))


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


def _surfaces_of(borders: tuple[_Borders, _Borders], label: int, shape: tuple[int, ...]) -> tuple[_Surface, _Surface]:
    def surface(side: _Borders) -> _Surface:
        chosen = side.label == label
        index = side.index[chosen]
        points = np.empty((len(index), len(shape)), np.int32)
        for axis, at in enumerate(np.unravel_index(index, shape)):
            points[:, axis] = at
        return _Surface(points=points, shared=side.shared[chosen])

    return surface(borders[0]), surface(borders[1])


def _distances(
    reference: _Surface, prediction: _Surface, spacing: NDArray[np.float64], threads: int
) -> tuple[Distances, Distances]:
    def directed(source: _Surface, target: _Surface) -> Distances:
        distances = np.zeros(len(source.points))
        if len(target.points) == 0:
            distances.fill(np.inf)
        elif not source.shared.all():
            distances[~source.shared] = _nearest(source.points[~source.shared], target.points, spacing, threads)
        return distances

    return directed(reference, prediction), directed(prediction, reference)


def _nearest(queries: Points, targets: Points, spacing: NDArray[np.float64], threads: int) -> Distances:
    """Distance from each query to the nearest target, by whichever way costs less.

    A tree costs per point and needs memory for these only. It loses where the points are most of the volume, and
    where so many targets are about equally far that it has to look at them all: a sphere seen from inside.
    """
    low = np.minimum(queries.min(axis=0), targets.min(axis=0))
    high = np.maximum(queries.max(axis=0), targets.max(axis=0))
    transform_us = TRANSFORM_US * float(np.prod(high - low + 1.0))
    many = len(queries) + len(targets) > MANY_POINTS
    if many and BUILD_US * len(targets) + QUERY_US * len(queries) > transform_us:
        return _by_transform(queries - low, targets - low, spacing)
    from scipy.spatial import cKDTree

    tree = cKDTree(targets * spacing, leafsize=LEAF_POINTS, balanced_tree=False)
    places = queries * spacing
    if many and len(queries) > SAMPLE:
        sample = places[:: len(places) // SAMPLE]
        reach = tree.query(sample)[0] + 2 * float(np.prod(spacing)) ** (1 / len(spacing))
        candidates = float(np.mean(tree.query_ball_point(sample, reach, return_length=True)))
        if CANDIDATE_US * candidates * len(queries) > transform_us:
            return _by_transform(queries - low, targets - low, spacing)
    return np.asarray(tree.query(places, workers=threads if many else 1)[0], dtype=np.float64)


def _by_transform(queries: Points, targets: Points, spacing: NDArray[np.float64]) -> Distances:
    """`_nearest` by the exact Euclidean distance transform of the box from 0 to the last point."""
    from scipy.ndimage import distance_transform_edt

    free = np.ones(np.maximum(queries.max(axis=0), targets.max(axis=0)) + 1, np.bool_)
    free[tuple(targets.T)] = False
    # Only where the nearest target is: the distances themselves would take three float64 volumes more.
    nearest = distance_transform_edt(free, sampling=spacing, return_distances=False, return_indices=True)
    at = tuple(queries.T)
    steps = np.stack([nearest[axis][at] - at[axis] for axis in range(len(at))], axis=1) * spacing
    return np.asarray(np.sqrt((steps**2).sum(axis=1)), dtype=np.float64)


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


def _weighted_scores(
    there: tuple[Distances, Distances], back: tuple[Distances, Distances], limit: float
) -> SurfaceScores:
    """As `_scores`, for distances with their areas; neither is empty."""
    sides = (there, back)
    total = [float(area.sum()) for _, area in sides]
    moments = [float((distance * area).sum()) for distance, area in sides]
    within = [float(area[distance <= limit].sum()) for distance, area in sides]
    return SurfaceScores(
        hd=float(max(distance.max() for distance, _ in sides)),
        hd95=max(_weighted_percentile(distance, area, 0.95) for distance, area in sides),
        assd=sum(moments) / sum(total),
        masd=(moments[0] / total[0] + moments[1] / total[1]) / 2,
        nsd=sum(within) / sum(total),
    )


def _weighted_percentile(distances: Distances, areas: Distances, share: float) -> float:
    order = np.lexsort((areas, distances))
    reached = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order[min(int(np.searchsorted(reached, share * (1 - ROUNDING))), len(order) - 1)]])


def _joint_box(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box around the foreground of both masks; None where there is none."""
    box = []
    for axis in range(first.ndim):
        others = tuple(other for other in range(first.ndim) if other != axis)
        taken = np.flatnonzero(first.any(axis=others) | second.any(axis=others))
        if len(taken) == 0:
            return None
        box.append(slice(int(taken[0]), int(taken[-1]) + 1))
    return tuple(box)


def _cell_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Which corners of each cell are foreground, one bit per corner in C order; an axis has one cell more than voxels.

    Cell i lies between the voxels i - 1 and i.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([length + 1 for length in mask.shape], np.uint8)
    for bit, corner in enumerate(product((0, 1), repeat=mask.ndim)):
        part = padded[tuple(slice(at, at + length) for at, length in zip(corner, codes.shape, strict=True))]
        codes |= part << np.uint8(bit)
    return codes


@cache
def _surfel_areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Area of the surface in a cell by its code, (16,) lengths in 2D or (256,) areas in 3D."""
    areas = np.zeros(2 ** (2 ** len(spacing)))
    last = len(areas) - 1
    for code in range(1, last):
        # A cell and its complement have one surface. Where marching cubes draws two, that around the fewer
        # corners counts: the other way round, the table differs from the package's in 44 codes.
        fewer = code if code.bit_count() * 2 <= last.bit_length() else last - code
        corners = np.array([fewer >> bit & 1 for bit in range(last.bit_length())]).reshape((2,) * len(spacing))
        areas[code] = _length(corners, spacing) if len(spacing) == 2 else _area(corners, spacing)
    areas.flags.writeable = False
    return areas


def _length(corners: NDArray[np.int_], spacing: tuple[float, ...]) -> float:
    """Of the marching-squares line in a cell: a corner alone is cut off between the middles of its two edges."""
    if corners.sum() == 2 and corners[0, 0] != corners[1, 1]:
        return spacing[1] if corners[0, 0] == corners[0, 1] else spacing[0]
    diagonal = math.hypot(*spacing) / 2
    return diagonal * (2 if corners.sum() == 2 else 1)


def _area(corners: NDArray[np.int_], spacing: tuple[float, ...]) -> float:
    """Of the triangles of Lorensen and Cline's marching cubes in a cell, SIGGRAPH 1987."""
    from skimage.measure import marching_cubes

    cell = corners.astype(np.float32)
    vertices, faces, _, _ = marching_cubes(cell, 0.5, method="lorensen")  # type: ignore[no-untyped-call]
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) * spacing for corner in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def _as_binary(mask: Labels, what: str) -> NDArray[np.bool_]:
    if mask.dtype.kind not in "biu":
        raise DatasetError(f"the {what} is of type {mask.dtype}", hint="give a mask of whole numbers or True and False")
    return np.asarray(mask if mask.dtype.kind == "b" else mask != 0, dtype=np.bool_)


def _checked(reference: Labels, prediction: Labels, spacing: Sequence[float] | None) -> NDArray[np.float64]:
    """The spacing as an array, after both masks and it were found to fit together."""
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


def _refuse_tolerance(tolerance: float) -> None:
    if not tolerance >= 0:
        raise DatasetError(f"the tolerance is {tolerance:g}", hint="give a distance of 0 or more")


def _size(values: Sequence[float]) -> str:
    return "×".join(f"{value:g}" for value in values)
