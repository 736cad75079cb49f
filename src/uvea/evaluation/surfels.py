"""Surface scores by surfels: surface elements between the voxels, weighted by their area.

The other common convention beside the border voxels of `surface.py`, under names that end in _surfel. The record of
scores, what empty masks give and what is refused are those of that file.

    masks -> cells between the voxels -> distances between cells, and their areas -> scores
"""

import math
from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ShapeError
from uvea.evaluation.nearest import Distances, Surface, distances
from uvea.evaluation.surface import (
    NOTHING_THERE,
    ONE_MISSING,
    ROUNDING,
    Labels,
    SurfaceScores,
    as_binary,
    checked,
    refuse_tolerance,
)


def surfel_scores(
    reference: Labels,
    prediction: Labels,
    *,
    tolerance: float,
    spacing: Sequence[float] | None = None,
    threads: int = -1,
) -> SurfaceScores:
    """The scores of `surface_scores` by surface elements (surfels) and their area, instead of border voxels.

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
    first, second = as_binary(reference, "reference"), as_binary(prediction, "prediction")
    steps = checked(first, second, spacing)
    refuse_tolerance(tolerance)
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
    surfaces = [Surface(points=np.argwhere(cell).astype(np.int32), shared=both[cell]) for cell in cells]
    there, back = distances(surfaces[0], surfaces[1], steps, threads)
    areas = _surfel_areas(tuple(steps.tolist()))
    return _weighted_scores(
        (there, areas[codes[0][cells[0]]]), (back, areas[codes[1][cells[1]]]), tolerance * (1 + ROUNDING)
    )


def hd_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Hausdorff distance between surfels: the largest distance from one to the nearest of the other mask.

    Args:
        reference: (y, x) or (z, y, x), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surfel_scores`.

    Source: as `surfel_scores`.
    """
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd


def hd95_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """The larger directed distance that at least 95 % of the area does not exceed.

    Args:
        reference: (y, x) or (z, y, x), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surfel_scores`.

    Source: as `surfel_scores`.
    """
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).hd95


def assd_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Average symmetric surface distance: the mean over the surfels of both masks, weighted by area.

    Args:
        reference: (y, x) or (z, y, x), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surfel_scores`.

    Source: as `surfel_scores`.
    """
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).assd


def masd_surfel(reference: Labels, prediction: Labels, *, spacing: Sequence[float] | None = None) -> float:
    """Mean of the two directed mean distances, each weighted by area.

    Args:
        reference: (y, x) or (z, y, x), True or not 0 is foreground.
        prediction: same shape.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In the unit of the spacing, 0 or more. Both masks empty: 0; exactly one: inf.

    Raises:
        ShapeError, DatasetError: as `surfel_scores`.

    Source: as `surfel_scores`.
    """
    return surfel_scores(reference, prediction, tolerance=0.0, spacing=spacing).masd


def nsd_surfel(
    reference: Labels, prediction: Labels, *, tolerance: float, spacing: Sequence[float] | None = None
) -> float:
    """Surface Dice: the share of the area of both surfaces within the tolerance of the other surface.

    Args:
        reference: (y, x) or (z, y, x), True or not 0 is foreground.
        prediction: same shape.
        tolerance: distance up to which a surfel counts as right, in the unit of the spacing.
        spacing: voxel size per array axis; None is 1 for all.

    Returns:
        In [0, 1]. Both masks empty: 1; exactly one: 0.

    Raises:
        ShapeError, DatasetError: as `surfel_scores`.

    Source: as `surfel_scores`.
    """
    return surfel_scores(reference, prediction, tolerance=tolerance, spacing=spacing).nsd


def _weighted_scores(
    there: tuple[Distances, Distances], back: tuple[Distances, Distances], limit: float
) -> SurfaceScores:
    """The scores of two surfaces from their distances and areas; neither is empty."""
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
