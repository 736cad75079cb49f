"""From the maps of a network to objects: one number per object, and the search for the settings that do it best.

    foreground, border, centre -> heights -> basins -> joined where no valley parts them -> objects

Basins are joined along the highest passes first, as water would fill them, so that what remains is a watershed of the
peaks that a valley parts. Holes are filled and small objects left out on the same graph: pixels are touched twice, to
find the basins and to write the numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from uvea.errors import ShapeError
from uvea.objects.basins import Basins, basins_of, roots_of
from uvea.plan.decoding import Decoding

MAPS = ("foreground", "border", "centre")
"""Channels of the maps, in this order; each in [0, 1]."""

Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of the search."""

    settings: Decoding
    score: float


def decode(maps: NDArray[np.floating], settings: Decoding, *, spacing: Sequence[float] | None = None) -> Ids:
    """Turn maps into objects.

    Args:
        maps: (3, y, x) or (3, z, y, x), see `MAPS`; any float type, finite.
        settings: see `Decoding`.
        spacing: pixel size, one per axis, any unit; None for 1. In thick slices the way up is steeper within a slice.

    Returns:
        (...) int32: 0 background, 1 to n one object each, by the place of their highest pixel. Every object is
        connected by faces of its pixels.

    Raises:
        ShapeError: if there are not three maps, or the spacing does not fit their axes.
    """
    heights, foreground = surface_of(maps, settings)
    check_spacing(spacing, foreground.shape)
    nodes, graph = basins_of(heights, foreground, spacing=spacing)
    return objects_of(graph, settings)[graph.node][nodes]


def surface_of(maps: NDArray[np.floating], settings: Decoding) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Heights whose peaks are objects, and the foreground; arguments as in `decode`.

    A border is taken off the centre map, down to -1: where a network takes the gap between two objects for a centre
    as well, it is still lower than both, and the map still says on which side a pixel is.
    """
    if maps.ndim not in (3, 4) or len(maps) != len(MAPS):
        raise ShapeError(
            f"maps of size {'×'.join(map(str, maps.shape))} cannot be decoded",
            hint=f"give {len(MAPS)} maps, {', '.join(MAPS)}, of 2 or 3 axes each",
        )
    return maps[2].astype(np.float32) - maps[1].astype(np.float32), maps[0] > settings.foreground


def check_spacing(spacing: Sequence[float] | None, shape: Sequence[int]) -> None:
    """Refuse a spacing that does not fit the axes of maps."""
    if spacing is not None and (len(spacing) != len(shape) or min(spacing) <= 0):
        raise ShapeError(
            f"spacing {tuple(spacing)} does not fit maps of {'×'.join(map(str, shape))}",
            hint="give a number above zero for each axis, or none",
        )


def objects_of(graph: Basins, settings: Decoding) -> Ids:
    """The object of every node of a graph, 0 for none; numbered by the place of the highest pixel."""
    count = graph.basins
    peak = graph.peak[:count].astype(np.float64)
    top, edges, passes = _climb(peak, graph.edges, graph.passes.astype(np.float64), settings)
    # Only tops are looped over: where maps are noisy, they are few of the basins.
    tops, top = np.unique(top, return_inverse=True)
    edges = np.searchsorted(tops, edges)
    groups = _Groups(peak[tops])
    apart = np.zeros(len(edges), np.bool_)
    for edge, ((first, second), height) in enumerate(zip(edges.tolist(), passes.tolist(), strict=True)):
        lower, higher = groups.ordered(first, second)
        if groups.weight[lower] < settings.least or groups.weight[lower] - height < settings.gap:
            groups.join(lower, higher)
        else:
            apart[edge] = True
    joined = groups.roots()
    kept = np.unique(joined)
    number = np.zeros(len(graph.peak), np.int32)

    if settings.min_size > 1:
        # What counts is the size that an object will have, with its holes.
        number[:count] = joined[top] + 1
        if settings.fill_holes:
            _fill_holes(number, graph)
        sizes = np.bincount(number, weights=graph.size, minlength=len(tops) + 1)[1:]
        groups = _Groups(sizes.astype(np.float64))
        for first, second in joined[edges[apart]].tolist():
            smaller, larger = groups.ordered(first, second)
            if smaller != larger and groups.weight[smaller] < settings.min_size:
                groups.weight[larger] += groups.weight[smaller]
                groups.join(smaller, larger)
        joined = groups.roots()[joined]
        kept = np.unique(joined)
        kept = kept[np.array(groups.weight)[kept] >= settings.min_size]

    of_group = np.zeros(len(tops), np.int32)
    of_group[kept] = np.arange(1, len(kept) + 1)
    number[:] = 0
    number[:count] = of_group[joined[top]]
    if settings.fill_holes:
        _fill_holes(number, graph)
    return number


def tune(
    cases: Sequence[NDArray[np.floating]],
    score: Callable[[Sequence[Ids]], float],
    *,
    start: Decoding | None = None,
    spacings: Sequence[Sequence[float] | None] | None = None,
    shares: Sequence[float] | None = None,
    foregrounds: Sequence[float] = (0.3, 0.4, 0.5, 0.6, 0.7),
    gaps: Sequence[float] = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    leasts: Sequence[float] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
    min_sizes: Sequence[int] = (0, 8, 16, 32, 64, 128),
) -> tuple[Decoding, tuple[Trial, ...]]:
    """Search for the settings with the highest score on validation cases.

    One setting is varied at a time, the others at the best so far: gap, foreground, min_size, least, and gap and
    foreground again. A setting is left only for a higher score, so of equals the first one stays.

    Args:
        cases: maps of each case, as for `decode`.
        score: of the objects of all cases, in their order; larger is better. Mean AP, as a rule.
        start: where the search starts; None for the defaults.
        spacings: that of each case, as for `decode`; None for 1.
        shares: how many pixels of those that min_size counts a pixel of each case is; None for 1.
        foregrounds: values to try; so are the next three.

    Returns:
        The best settings, and every trial in the order in which it was made.
    """
    best = start or Decoding()
    steps = spacings or [None] * len(cases)
    graphs: dict[float, list[tuple[NDArray[np.int32], Basins]]] = {}
    known: dict[Decoding, float] = {}

    def try_out(settings: Decoding) -> float:
        if settings not in known:
            if settings.foreground not in graphs:
                # Graphs of one foreground at a time: those of all would be as large as all maps together.
                graphs.clear()
                graphs[settings.foreground] = [
                    basins_of(*surface_of(maps, settings), spacing=spacing)
                    for maps, spacing in zip(cases, steps, strict=True)
                ]
            found = [
                objects_of(graph, settings.on(share))[graph.node][nodes]
                for (nodes, graph), share in zip(graphs[settings.foreground], shares or [1.0] * len(cases), strict=True)
            ]
            known[settings] = score(found)
        return known[settings]

    def gap(base: Decoding) -> list[Decoding]:
        return [replace(base, gap=value) for value in gaps]

    def foreground(base: Decoding) -> list[Decoding]:
        return [replace(base, foreground=value) for value in foregrounds]

    def min_size(base: Decoding) -> list[Decoding]:
        return [replace(base, min_size=value) for value in min_sizes]

    def least(base: Decoding) -> list[Decoding]:
        return [replace(base, least=value) for value in leasts]

    value = try_out(best)
    for change in (gap, foreground, min_size, least, gap, foreground):
        for settings in change(best):
            if try_out(settings) > value:
                best, value = settings, known[settings]
    return best, tuple(Trial(settings=settings, score=found) for settings, found in known.items())


class _Groups:
    """Nodes that were joined; a group is known by one of them, its root, and so is its weight."""

    def __init__(self, weight: NDArray[np.float64]) -> None:
        self.weight = weight.tolist()
        self._above = list(range(len(self.weight)))

    def ordered(self, first: int, second: int) -> tuple[int, int]:
        """The roots of the lighter and the heavier of two groups; of equals the earlier one is the heavier."""
        one, other = self._root(first), self._root(second)
        return (other, one) if (self.weight[one], -one) > (self.weight[other], -other) else (one, other)

    def join(self, lighter: int, heavier: int) -> None:
        self._above[lighter] = heavier

    def roots(self) -> NDArray[np.int64]:
        """That of every node."""
        return roots_of(np.array(self._above, np.int64))

    def _root(self, node: int) -> int:
        above = self._above
        while above[node] != node:
            above[node] = node = above[above[node]]
        return node


def _climb(
    peak: NDArray[np.float64], edges: NDArray[np.int64], passes: NDArray[np.float64], settings: Decoding
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Join at once all that noise has parted: the loop over what is left of the edges is then short.

    A basin whose highest pass leads to a higher one, and that is to be joined over it, is joined to it in whatever
    order the passes are taken: it is still alone when its highest pass comes up.

    Returns:
        The top of each basin, and the edges that are left, between tops, with their passes.
    """
    top = np.arange(len(peak))
    while len(edges):
        highest_pass = np.full(len(peak), -1)
        # Backwards, so that the first edge of a node is the one that stays.
        highest_pass[edges[::-1].reshape(-1)] = np.repeat(np.arange(len(edges))[::-1], 2)
        node = np.flatnonzero(highest_pass >= 0)
        edge = highest_pass[node]
        other = edges[edge].sum(axis=1) - node
        rises = (peak[other] > peak[node]) | ((peak[other] == peak[node]) & (other < node))
        joins = rises & ((peak[node] < settings.least) | (peak[node] - passes[edge] < settings.gap))
        if not joins.any():
            break
        above = np.arange(len(peak))
        above[node[joins]] = other[joins]
        above = roots_of(above)
        top, edges = above[top], above[edges]
        left = edges[:, 0] != edges[:, 1]
        edges, passes = edges[left], passes[left]
    return top, edges, passes


def _fill_holes(number: Ids, graph: Basins) -> None:
    """Give every piece of background with a single object around it to that object, dropped specks in it as well."""
    lines = np.concatenate((graph.shores, graph.edges))
    within = lines[(number[lines] == 0).all(axis=1)]  # background and specks that touch are one piece
    links = coo_array((np.ones(len(within), np.bool_), tuple(within.T)), shape=(len(number),) * 2)
    count, of_node = connected_components(links, directed=False)
    piece, owner = of_node[graph.shores[:, 0]], number[graph.shores[:, 1]]
    around = owner > 0
    lowest = np.full(count, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count, np.int32)
    np.minimum.at(lowest, piece[around], owner[around])
    np.maximum.at(highest, piece[around], owner[around])
    enclosed = lowest == highest
    enclosed[of_node[graph.outer]] = False
    inside = enclosed[of_node] & (number == 0)
    number[inside] = highest[of_node[inside]]
