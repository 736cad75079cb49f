"""Cut an array into overlapping tiles, and say how much each tile counts where.

Prediction in memory, prediction of arrays larger than memory and export checks all use
this file, so they agree about borders. It knows about sizes only: no images, no models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import ceil

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Span:
    r"""One tile along one axis.

        read    |--------------------|
        weight   0 0 / 1 1 1 1 1 \ 0 0      zero over the context, then a ramp, then one

    At the border of the array there is neither context nor ramp.
    """

    read: slice
    """Half-open index range in the whole array, in elements."""

    weight: NDArray[np.float32]
    """One number per element read; over all spans of an axis they sum to one everywhere."""


Tile = tuple[Span, ...]
"""One span per spatial axis, in the axis order of the array."""


def cut(
    shape: Sequence[int],
    tile: Sequence[int],
    *,
    overlap: Sequence[int],
    context: Sequence[int] | None = None,
    align: Sequence[int] | None = None,
) -> list[Tile]:
    """Cut an array of `shape` into overlapping tiles.

    Args:
        shape: spatial size of the array, (y, x) or (z, y, x), in elements.
        tile: size to read per tile, same axes; an axis not longer than its tile is read whole.
        overlap: least number of elements that neighbouring tiles share, per axis.
        context: elements at each inner border that are read but count nothing; at most half the
            overlap. With the receptive field of a network as context, tiles give exactly what one
            pass over the whole array gives.
        align: starts are multiples of this; the total stride of a network, so that its pooling
            falls on the same elements in every tile.

    Returns:
        Tiles in C order, all of one size. Their weights sum to one on every element.

    Raises:
        ShapeError: where a tile cannot advance, or sizes are not multiples of `align`.

    Example:
        >>> len(cut((100, 100), (64, 64), overlap=(16, 16)))
        4
    """
    dims = len(shape)
    context = context or (0,) * dims
    align = align or (1,) * dims
    axes = (
        _cut_axis(length, size, shared, context=around, align=step)
        for length, size, shared, around, step in zip(shape, tile, overlap, context, align, strict=True)
    )
    return list(product(*axes))


def weight_of(tile: Tile) -> NDArray[np.float32]:
    """How much each element of a tile counts, in [0, 1], with the shape of the tile."""
    return reduce(np.multiply.outer, (span.weight for span in tile))


def _cut_axis(length: int, tile: int, overlap: int, *, context: int, align: int) -> list[Span]:
    if tile >= length:
        return [Span(slice(0, length), np.ones(length, np.float32))]
    if length % align or tile % align:
        raise ShapeError(
            f"an axis of {length} with tiles of {tile} cannot start on multiples of {align}",
            hint=f"pad the axis to {ceil(length / align) * align} and use tiles of {ceil(tile / align) * align}",
        )
    if 2 * context > overlap or overlap >= tile:
        raise ShapeError(
            f"tiles of {tile} cannot overlap by {overlap} with {context} elements of context on each side",
            hint=f"use an overlap from {2 * context} to {tile - 1}, or less context",
        )
    step = max((tile - overlap) // align, 1) * align
    count = ceil((length - tile) / step) + 1
    # Spread evenly, so that no two tiles overlap far more than the others.
    starts = [i * ((length - tile) // align) // (count - 1) * align for i in range(count)]
    raw = [_ramp(tile, overlap, context, inner_start=start > 0, inner_stop=start + tile < length) for start in starts]
    total = np.zeros(length)
    for start, weight in zip(starts, raw, strict=True):
        total[start : start + tile] += weight
    return [
        Span(slice(start, start + tile), (weight / total[start : start + tile]).astype(np.float32))
        for start, weight in zip(starts, raw, strict=True)
    ]


def _ramp(tile: int, overlap: int, context: int, *, inner_start: bool, inner_stop: bool) -> NDArray[np.float64]:
    rise = np.clip((np.arange(tile) + 0.5 - context) / max(overlap - 2 * context, 1), 0, 1)
    ones = np.ones(tile)
    return np.minimum(rise if inner_start else ones, rise[::-1] if inner_stop else ones)
