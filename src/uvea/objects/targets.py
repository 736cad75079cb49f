"""What a network is to learn about objects: foreground, touching border, centre. Computed from ids after augmentation.

    ids      1 1 1 1 2 2 2 0          border  another object is near: here the network learns to part them
    border   . . . x x . . .          centre  1 at the centre of an object, 0 at its edge: one peak for each
    centre   - = - . - = - .

All is measured against each object's own size, so that small and large ones are learnt alike. What lies outside of the
crop is not known and is no edge: an object that is cut off has its centre in what is seen of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.errors import ShapeError

WIDEST = 3
"""Half width of the border between two large objects, in pixels of the finest axis."""

SHARE = 0.25
"""Half width of the border of smaller objects, as a share of how deep they are; at least one pixel."""

TOWARDS_MEAN = 0.3
"""How much distance from the mean position counts against distance to the edge where the centre is chosen."""

Floats = NDArray[np.float32]
Pieces = NDArray[np.int32]


def targets(ids: NDArray[np.integer], *, spacing: Sequence[float] | None = None) -> Floats:
    """The three maps that `uvea.objects.decode` turns back into objects.

    Pieces of an object that do not touch, not even at a corner, are taken for objects of their own, as they look.

    Args:
        ids: (y, x) or (z, y, x); 0 is background, each larger value an object, IGNORE (-1) not annotated.
        spacing: pixel size, one per axis, any unit; None for 1.

    Returns:
        (3, ...) float32 in [0, 1]:
        foreground, 1 on objects;
        border, 1 where another object is so near that the network has to be told, on the objects and between them;
        centre, e / (e + c) with e the distance to the edge of the object and c that to its centre, a deep pixel near
        its mean position. It has one peak also where an object is long or bent, where the distance to the edge alone
        has several, and needs no division by the size.
        Pixels that are not annotated are 0 in all three, and no object ends at them.

    Raises:
        ShapeError: if the spacing does not fit the axes.
    """
    steps = tuple(spacing) if spacing is not None else (1.0,) * ids.ndim
    if len(steps) != ids.ndim or ids.ndim not in (2, 3) or min(steps) <= 0:
        raise ShapeError(
            f"spacing {steps} does not fit ids of {ids.ndim} axes",
            hint="give ids as (y, x) or (z, y, x), and a spacing above zero for each axis, or none",
        )
    maps = np.zeros((3, *ids.shape), np.float32)
    pieces, count = _pieces(ids)
    if not count:
        return maps
    distance = _distance_to_edge(np.where(ids < 0, np.int32(-1), pieces), steps)
    at = np.flatnonzero(pieces)
    owner = pieces.reshape(-1)[at]
    # Numbers of 16 bits are sorted by radix, several times as fast.
    order = np.argsort(owner.astype(np.uint16) if count <= 0xFFFF else owner, kind="stable")
    at, owner = at[order], owner[order]
    first = np.searchsorted(owner, np.arange(1, count + 1))
    edge = distance.reshape(-1)[at]
    maps[0].reshape(-1)[at] = 1
    _draw_borders(maps[1], pieces, np.maximum.reduceat(edge, first), steps)
    if np.isfinite(edge[0]):
        index = np.unravel_index(at, ids.shape)
        position = [axis.astype(np.float32) * np.float32(step) for axis, step in zip(index, steps, strict=True)]
        maps[2].reshape(-1)[at] = edge / (edge + _distance_to_centre(position, edge, owner - 1, first))
    else:
        # One object is all that is seen.
        maps[2].reshape(-1)[at] = 1
    return maps


def _pieces(ids: NDArray[np.integer]) -> tuple[Pieces, int]:
    """Objects numbered anew, 1 to n, pieces apart."""
    from skimage.measure import label

    found, count = label(np.maximum(ids, 0), background=0, return_num=True, connectivity=ids.ndim)  # type: ignore[no-untyped-call]
    return found.astype(np.int32, copy=False), int(count)


def _distance_to_edge(pieces: Pieces, steps: Sequence[float]) -> Floats:
    """From the centre of each pixel to the nearest edge between two values; inf where there is none. -1 is no value.

    An edge lies half a pixel beyond the centre of the last pixel. Axes of one spacing share a transform; where
    spacings differ, the nearest edge across each of them is taken: a slice that ends above and below has its whole
    area beside an edge, and would know nothing of its outline otherwise.
    """
    nearest = np.full(pieces.shape, np.inf, np.float32)
    for step in sorted(set(steps)):
        last = np.zeros(pieces.shape, np.bool_)
        for axis in (axis for axis, other in enumerate(steps) if other == step):
            lower, upper = _sides(pieces.ndim, axis)
            edge = (pieces[lower] != pieces[upper]) & (pieces[lower] >= 0) & (pieces[upper] >= 0)
            last[lower] |= edge
            last[upper] |= edge
        if last.any():
            distance = ndimage.distance_transform_edt(~last, sampling=steps)
            np.minimum(nearest, distance + step / 2, out=nearest, casting="same_kind")
    return nearest


def _distance_to_centre(
    position: Sequence[Floats], edge: Floats, row: NDArray[np.integer], first: NDArray[np.integer]
) -> Floats:
    """From each pixel to the centre of its piece. Pixels are sorted by `row`, the piece; `first` is where each begins.

    The centre is a pixel: the mean position can lie outside of a bent piece, and the deepest pixel of a long one can be
    at either end of it.
    """
    size = np.diff(first, append=len(row))
    means = [np.add.reduceat(axis, first) / size for axis in position]
    off = np.sqrt(sum((axis - mean[row]) ** 2 for axis, mean in zip(position, means, strict=True)))
    merit = edge - TOWARDS_MEAN * off
    best = np.flatnonzero(merit == np.maximum.reduceat(merit, first)[row])
    # Of several equally good pixels the first one.
    centre = best[np.searchsorted(row[best], np.arange(len(first)))]
    return np.asarray(np.sqrt(sum((axis - axis[centre][row]) ** 2 for axis in position)), np.float32)


def _draw_borders(border: Floats, pieces: Pieces, deepest: Floats, steps: Sequence[float]) -> None:
    """Set 1 wherever two objects that both deserve it lie within the half width; between two, the smaller decides.

    `deepest` (n,) is the largest distance to the edge in each piece.
    """
    finest = min(steps)
    width = np.zeros(len(deepest) + 1)
    width[1:] = np.clip(np.rint(SHARE * deepest / finest), 1, WIDEST)
    none = np.int32(len(width))
    for half in range(1, int(width.max()) + 1):
        shown = (width >= half)[pieces]
        reach = [int(half * finest / step) for step in steps]
        highest = _spread(np.where(shown, pieces, np.int32(0)), reach, np.maximum)
        lowest = _spread(np.where(shown, pieces, none), reach, np.minimum)
        border[lowest < highest] = 1


def _spread(values: Pieces, reach: Sequence[int], choose: np.ufunc) -> Pieces:
    """The largest or smallest value in a box of `reach` pixels to each side."""
    for axis, length in enumerate(reach):
        lower, upper = _sides(values.ndim, axis)
        for _ in range(length):
            wider = values.copy()
            choose(wider[lower], values[upper], out=wider[lower])
            choose(wider[upper], values[lower], out=wider[upper])
            values = wider
    return values


def _sides(dims: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """All pixels but the last along an axis, and all but the first."""
    before, after = (slice(None),) * axis, (slice(None),) * (dims - axis - 1)
    return (*before, slice(None, -1), *after), (*before, slice(1, None), *after)
