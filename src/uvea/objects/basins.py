"""Cut a map into basins, one around each local maximum, and say how high the passes between them are.

    pixels -> the steepest way up from each -> the maximum where it ends = its basin -> passes between basins

What is an object is decided on this graph, not on pixels, so that another threshold costs milliseconds. A large array
is cut block by block, and the blocks are put together to exactly the graph of the whole. Of the passes only a maximum
spanning forest is kept: it is all that a watershed needs. Neighbours share a face (4 in 2D, 6 in 3D).

Source: Cousty et al. 2009, Watershed cuts: minimum spanning forests and the drop of water principle.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Index = TypeVar("Index", np.int32, np.int64)
Box = tuple[slice, ...]
"""One half-open index range per axis, in the whole array."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """The nodes of one block, numbered from 0: first basins of the foreground, then pieces of the background."""

    peak: Floats
    """(n,) height of the maximum; -inf for background."""

    place: Ints
    """(n,) flat index, in the whole array, of that maximum; where it lies outside of the core, of the first pixel
    outside on the way to it. -1 for background."""

    leaves: Bools
    """(n,) whether `place` is outside of the core."""

    size: Ints
    """(n,) pixels of the core."""

    outer: Bools
    """(n,) whether a node touches the border of the whole array."""

    pairs: Ints
    """(e, 2) nodes that share a face, each pair once; never two of the background."""

    passes: Floats
    """(e,) the highest of the lower heights on both sides; -inf where one is background."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Basins:
    """The graph of a whole array. Basins come first, by `place`, then background."""

    node: Ints
    """(m,) node of each node of the blocks, these counted on from block to block."""

    peak: Floats
    """(n,) height of the maximum; -inf for background."""

    place: Ints
    """(n,) flat index of the maximum in the array; -1 for background."""

    size: Ints
    """(n,) pixels."""

    outer: Bools
    """(n,) whether the node touches the border of the array."""

    edges: Ints
    """(e, 2) pairs of basins: a maximum spanning forest, highest pass first."""

    passes: Floats
    """(e,) height of the highest way from one basin of each edge to the other."""

    shores: Ints
    """(s, 2) each piece of background with each basin that it touches."""

    @property
    def basins(self) -> int:
        """Nodes from here on are background."""
        return int((self.place >= 0).sum())


def cut(
    surface: NDArray[np.floating],
    foreground: Bools,
    *,
    spacing: Sequence[float],
    read: Box,
    core: Box,
    shape: Sequence[int],
) -> tuple[NDArray[np.int32], Floats, Cut]:
    """Cut one block of an array.

    Args:
        surface: heights of the pixels in `read`, finite.
        foreground: same shape; other pixels belong to no basin.
        spacing: pixel size, one per axis, any unit.
        read: the core and one pixel around it, as far as the array reaches.
        core: the pixels that are this block's own.
        shape: of the whole array.

    Returns:
        The node of every pixel of the core; the heights of the pixels in `read`, -inf where they are background; and
        the nodes. Of equal heights the later pixel in C order counts as the higher one, in every block alike.
    """
    # Steps to neighbours are differences of flat indices, so the order in memory must be C's.
    heights = np.ascontiguousarray(np.where(foreground, surface, -np.inf), np.float32)
    inside = _within(core, read)
    own = np.zeros(foreground.shape, np.bool_)
    own[inside] = foreground[inside]

    # Foreground pixels of the core are numbered in C order; each points to the number of the next one uphill.
    at = np.flatnonzero(own)
    number = np.full(foreground.size, -1, np.int32)
    number[at] = np.arange(len(at), dtype=np.int32)
    target = at + _steepest(heights, spacing).ravel()[at]
    parent = number[target]
    leaving = np.flatnonzero(parent < 0)
    parent[leaving] = leaving
    parent = roots_of(parent)
    roots = np.flatnonzero(parent == np.arange(len(parent), dtype=np.int32))

    basin_of = np.empty(len(parent), np.int32)
    basin_of[roots] = np.arange(len(roots), dtype=np.int32)
    found, pieces = ndimage.label(~foreground[inside])
    nodes = np.asarray(found, np.int32) + np.int32(len(roots) - 1)
    nodes[foreground[inside]] = basin_of[parent]

    count = len(roots) + pieces
    background = np.full(pieces, -1)
    places = _in_whole(target[roots], heights.shape, read, shape)
    pairs, passes = _touching(nodes, heights[inside])
    found_nodes = Cut(
        peak=np.concatenate([heights.reshape(-1)[target[roots]], np.full(pieces, -np.inf, np.float32)]),
        place=np.concatenate([places, background]),
        leaves=np.isin(np.arange(count), basin_of[leaving]),
        size=np.bincount(nodes.reshape(-1), minlength=count),
        outer=_outer(nodes, core, shape, count),
        pairs=pairs,
        passes=passes,
    )
    return nodes, heights, found_nodes


def across(lower: NDArray[np.int64], upper: NDArray[np.int64], heights: tuple[Floats, Floats]) -> tuple[Ints, Floats]:
    """Pairs of nodes and their passes across a face between two blocks.

    Args:
        lower: node of each pixel on one side, counted through all blocks.
        upper: the same across the face.
        heights: of the pixels on both sides.
    """
    return _unique(lower.reshape(-1), upper.reshape(-1), np.minimum(*heights).reshape(-1))


def assemble(
    blocks: Sequence[Cut], faces: Sequence[tuple[Ints, Floats]], node_at: Callable[[Ints], NDArray[np.integer]]
) -> Basins:
    """Put blocks together to the graph of the whole array.

    Args:
        blocks: in any order; their nodes are counted on from one to the next.
        faces: of `across`, one per face between two blocks.
        node_at: flat indices of pixels in the whole array to their nodes, counted on.

    Returns:
        Basins, the same whatever the blocks and their order.
    """
    counts = [len(block.size) for block in blocks]
    total, starts = sum(counts), np.cumsum([0, *counts[:-1]])
    place, peak = np.concatenate([block.place for block in blocks]), np.concatenate([block.peak for block in blocks])
    within = [block.pairs + start for block, start in zip(blocks, starts, strict=True)]
    pairs = np.concatenate([*within, *(face for face, _ in faces)])
    passes = np.concatenate([*(block.passes for block in blocks), *(heights for _, heights in faces)])

    # A basin that leaves its block goes on in the next one; pieces of background that meet at a face are one.
    onwards = np.arange(total)
    leaving = np.flatnonzero(np.concatenate([block.leaves for block in blocks]))
    if len(leaving):
        onwards[leaving] = node_at(place[leaving])
    parent = roots_of(onwards)
    dry = place < 0
    meeting = pairs[dry[pairs].all(axis=1)]
    if len(meeting):
        graph = coo_array((np.ones(len(meeting), np.int8), (meeting[:, 0], meeting[:, 1])), shape=(total, total))
        _, group = connected_components(graph, directed=False)
        first = np.full(group.max() + 1, total)
        np.minimum.at(first, group[dry], np.flatnonzero(dry))
        parent[dry] = first[group[dry]]

    roots = np.flatnonzero(parent == np.arange(total))
    ordered = roots[np.lexsort((roots, place[roots], dry[roots]))]
    number = np.empty(total, np.int64)
    number[ordered] = np.arange(len(ordered))
    node = number[parent]
    ends, heights = _unique(node[pairs[:, 0]], node[pairs[:, 1]], passes)
    wet = ~dry[ordered]
    both = wet[ends].all(axis=1)
    edges, kept = _spanning_forest(ends[both], heights[both], int(wet.sum()))
    outer = np.zeros(len(ordered), np.bool_)
    outer[node[np.concatenate([block.outer for block in blocks])]] = True
    sizes = np.bincount(node, weights=np.concatenate([block.size for block in blocks]), minlength=len(ordered))
    return Basins(
        node=node,
        peak=peak[ordered],
        place=place[ordered],
        size=sizes.astype(np.int64),
        outer=outer,
        edges=edges,
        passes=kept,
        # Basins are numbered before the background, so in each pair the background comes second.
        shores=ends[wet[ends[:, 0]] & ~wet[ends[:, 1]]][:, ::-1],
    )


def basins_of(
    surface: NDArray[np.floating], foreground: Bools, *, spacing: Sequence[float] | None = None
) -> tuple[NDArray[np.int32], Basins]:
    """Cut an array that fits in memory: an index into `Basins.node` for every pixel, and the graph. See `cut`."""
    whole = tuple(slice(0, length) for length in foreground.shape)
    steps = spacing or (1.0,) * foreground.ndim
    nodes, _, found = cut(surface, foreground, spacing=steps, read=whole, core=whole, shape=foreground.shape)
    return nodes, assemble([found], [], lambda places: places)


def _steepest(heights: Floats, spacing: Sequence[float]) -> NDArray[np.int32]:
    """From each pixel to the face neighbour up the steepest slope, as a difference of flat indices; 0 at a maximum."""
    slope = np.zeros(heights.shape, np.float32)
    step = np.zeros(heights.shape, np.int32)
    strides = [stride // heights.itemsize for stride in heights.strides]
    axes = range(heights.ndim)

    def offer(pixels: Box, neighbours: Box, axis: int, by: int) -> None:
        with np.errstate(invalid="ignore"):
            gain = heights[neighbours] - heights[pixels]
        gain /= np.float32(spacing[axis])
        # On level ground the way leads on to later pixels only, so that no way leads round in a circle.
        better = gain > slope[pixels] if by < 0 else gain >= slope[pixels]
        np.copyto(slope[pixels], gain, where=better)
        np.copyto(step[pixels], np.int32(by), where=better)

    for axis in axes:
        lower, upper = _sides(heights.ndim, axis)
        offer(upper, lower, axis, -strides[axis])
    for axis in reversed(axes):
        lower, upper = _sides(heights.ndim, axis)
        offer(lower, upper, axis, strides[axis])
    return step


def roots_of(parent: NDArray[Index]) -> NDArray[Index]:
    """Where the way from each index ends, by doubling its length until nothing moves."""
    while True:
        further = parent[parent]
        if np.array_equal(further, parent):
            return parent
        parent = further


def _touching(nodes: NDArray[np.int32], heights: Floats) -> tuple[Ints, Floats]:
    firsts, seconds, lows = [], [], []
    for axis in range(nodes.ndim):
        lower, upper = _sides(nodes.ndim, axis)
        border = nodes[lower] != nodes[upper]
        firsts.append(nodes[lower][border])
        seconds.append(nodes[upper][border])
        lows.append(np.minimum(heights[lower][border], heights[upper][border]))
    return _unique(np.concatenate(firsts), np.concatenate(seconds), np.concatenate(lows))


def _unique(first: NDArray[np.integer], second: NDArray[np.integer], height: Floats) -> tuple[Ints, Floats]:
    """Each unordered pair of different nodes once, smaller first, ascending, with its greatest height."""
    low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second).astype(np.int64)
    differ = low != high
    low, high, height = low[differ], high[differ], height[differ]
    if not len(low):
        return np.empty((0, 2), np.int64), np.empty(0, np.float32)
    columns = int(high.max()) + 1
    key = low * columns + high
    order = np.argsort(key)
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    pairs = np.stack(np.divmod(key[starts], columns), axis=1)
    return pairs, np.maximum.reduceat(height[order], starts)


def _spanning_forest(ends: Ints, heights: Floats, nodes: int) -> tuple[Ints, Floats]:
    if not len(ends):
        return ends, heights
    order = np.argsort(-heights, kind="stable")
    # Ranks in place of heights: scipy takes a weight of 0 for no edge, and ranks have no ties.
    ranks = np.arange(1, len(order) + 1)
    graph = coo_array((ranks, (ends[order, 0], ends[order, 1])), shape=(nodes, nodes))
    kept = order[np.sort(minimum_spanning_tree(graph.tocsr()).data).astype(np.int64) - 1]
    return ends[kept], heights[kept]


def _outer(nodes: NDArray[np.int32], core: Box, shape: Sequence[int], count: int) -> Bools:
    touching = np.zeros(count, np.bool_)
    for axis, (part, length) in enumerate(zip(core, shape, strict=True)):
        for index, at_border in ((0, part.start == 0), (-1, part.stop == length)):
            if at_border and nodes.size:
                touching[nodes.take(index, axis=axis)] = True
    return touching


def _in_whole(flat: NDArray[np.integer], size: Sequence[int], read: Box, shape: Sequence[int]) -> Ints:
    """Flat indices in the part that was read, as flat indices in the whole array."""
    index = np.unravel_index(flat, tuple(size))
    moved = tuple(at.astype(np.int64) + part.start for at, part in zip(index, read, strict=True))
    return np.asarray(np.ravel_multi_index(moved, tuple(shape)), np.int64)


def _within(core: Box, read: Box) -> Box:
    return tuple(slice(c.start - r.start, c.stop - r.start) for c, r in zip(core, read, strict=True))


def _sides(dims: int, axis: int) -> tuple[Box, Box]:
    """All pixels but the last along an axis, and all but the first."""
    everything = (slice(None),) * dims
    return (
        (*everything[:axis], slice(None, -1), *everything[axis + 1 :]),
        (*everything[:axis], slice(1, None), *everything[axis + 1 :]),
    )
