"""How far the points of one surface lie from those of another, by a tree or by a distance transform.

It knows points on a grid and a spacing: not how a surface is found, nor what becomes of the distances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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

Distances = NDArray[np.float64]
"""(n,), in units of the spacing."""

Points = NDArray[np.int32]
"""(n, axes): indices of voxels or cells. int32, because masks of noise have as many borders as voxels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Points of the surface of one mask, and which of them the surface of the other one has too."""

    points: Points
    """(n, axes)"""

    shared: NDArray[np.bool_]
    """(n,): True where the distance is 0 because both surfaces have this point."""


def distances(
    reference: Surface, prediction: Surface, spacing: NDArray[np.float64], threads: int
) -> tuple[Distances, Distances]:
    """Distance from each point of one surface to the nearest one of the other, both ways.

    Args:
        reference: one surface.
        prediction: the other.
        spacing: (axes,), size of a step along each axis.
        threads: for many points; -1 is one per core.

    Returns:
        Reference to prediction and prediction to reference, in the order of the points; all inf where the other
        surface has none.
    """

    def directed(source: Surface, target: Surface) -> Distances:
        found = np.zeros(len(source.points))
        if len(target.points) == 0:
            found.fill(np.inf)
        elif not source.shared.all():
            found[~source.shared] = _nearest(source.points[~source.shared], target.points, spacing, threads)
        return found

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
