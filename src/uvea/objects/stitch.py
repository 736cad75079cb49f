"""Decode arrays larger than memory, block by block, to the very objects that decoding the whole would give.

    every block: its basins -> scratch file;  all blocks: one graph -> objects;  every block: scratch -> numbers

An object may cross any number of blocks. Its number depends neither on the size of the blocks nor on their order.
"""

import tempfile
from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from uvea.durable import reserve
from uvea.errors import OutputError, ShapeError
from uvea.objects.basins import Basins, Box, Cut, Floats, Ints, across, assemble, cut
from uvea.objects.decode import check_spacing, objects_of, surface_of
from uvea.plan.decoding import Decoding

BLOCK = {2: 2048, 3: 160}
"""Size of a block along each axis, in pixels, by number of axes: about four million pixels."""

Read = Callable[[Box], NDArray[np.floating]]
"""From a part of the array to its maps (3, ...), as `uvea.objects.decode.decode` takes them."""


class Target(Protocol):
    """What takes the objects: a numpy array, a memory map, or anything with chunks that can be assigned to."""

    def __setitem__(self, part: Box, ids: NDArray[np.integer], /) -> None:
        """Keep the ids of one part."""


def decode_blocks(
    read: Read,
    shape: Sequence[int],
    settings: Decoding,
    *,
    out: Target,
    spacing: Sequence[float] | None = None,
    block: Sequence[int] | None = None,
    order: Callable[[list[Box]], Sequence[Box]] = list,
    advance: Callable[[int, int], None] | None = None,
) -> int:
    """Decode an array of any size.

    Each part of the maps is read once, with one pixel around it. In memory are one block and the graph: up to 600
    bytes per basin. A file of four bytes per pixel lies in the folder of temporary files meanwhile.

    Args:
        read: called once per block.
        shape: (y, x) or (z, y, x), pixels.
        settings: see `Decoding`.
        out: takes the ids block by block; its type has to hold their number.
        spacing: as for `decode`.
        block: size of a block; None for `BLOCK`.
        order: the order in which blocks are read; it changes nothing.
        advance: called with (blocks done, all), twice per block.

    Returns:
        Number of objects.

    Raises:
        ShapeError: if maps are not of the size of their part, the block does not fit the axes, or the type of `out`
            does not hold the number of objects; nothing was written then.
        OutputError: if there is no room for the temporary file.
    """
    size = tuple(block or (BLOCK.get(len(shape), 1),) * len(shape))
    if len(size) != len(shape) or len(shape) not in BLOCK or min(size) < 1:
        raise ShapeError(
            f"blocks of {_times(size)} do not cut an array of {_times(shape)}",
            hint="give one block size per axis of (y, x) or (z, y, x)",
        )
    check_spacing(spacing, shape)
    if not prod(shape):
        return 0
    boxes = order(_boxes(shape, size))
    with tempfile.TemporaryFile(prefix="uvea-") as file:
        try:
            reserve(file.fileno(), prod(shape) * 4)
            scratch: NDArray[np.int32] = np.memmap(file, np.int32, mode="r+", shape=tuple(shape))
        except OSError as error:
            raise OutputError(
                f"{_times(shape)} pixels need a temporary file that cannot be written: {error.strerror or error}",
                hint="set TMPDIR to a folder with more room",
            ) from error
        pieces = _Pieces(shape, spacing or (1.0,) * len(shape), scratch)
        for done, core in enumerate(boxes):
            around = _grown(core, shape)
            maps = read(around)
            if maps.shape[1:] != tuple(part.stop - part.start for part in around):
                raise ShapeError(
                    f"maps of {_times(maps.shape[1:])} were read for a part of another size",
                    hint="let `read` return the part that it is asked for",
                )
            heights, foreground = surface_of(maps, settings)
            pieces.add(core, around, heights, foreground)
            if advance is not None:
                advance(done + 1, 2 * len(boxes))
        graph = pieces.graph()
        number = objects_of(graph, settings)
        count = int(number.max(initial=0))
        kind = getattr(out, "dtype", None)
        if isinstance(kind, np.dtype) and np.array(count).astype(kind) != count:
            raise ShapeError(
                f"{count} objects do not fit into an array of {kind}",
                hint="give an `out` of a larger type, such as uint32",
            )
        table = number[graph.node]
        for done, core in enumerate(boxes, start=len(boxes)):
            out[core] = table[scratch[core]]
            if advance is not None:
                advance(done + 1, 2 * len(boxes))
    return count


class _Pieces:
    """Collects blocks in any order; a face between two is dealt with when the second of them comes."""

    def __init__(self, shape: Sequence[int], spacing: Sequence[float], scratch: NDArray[np.int32]) -> None:
        self._shape, self._spacing, self._scratch = tuple(shape), spacing, scratch
        self._cuts: list[Cut] = []
        self._faces: list[tuple[Ints, Floats]] = []
        self._done: set[tuple[int, ...]] = set()
        self._nodes = 0

    def add(self, core: Box, around: Box, heights: NDArray[np.float32], foreground: NDArray[np.bool_]) -> None:
        nodes, heights, found = cut(
            heights, foreground, spacing=self._spacing, read=around, core=core, shape=self._shape
        )
        nodes += np.int32(self._nodes)
        self._scratch[core] = nodes
        self._nodes += len(found.size)
        if self._nodes > np.iinfo(np.int32).max:
            raise ShapeError(
                f"an array of {_times(self._shape)} has more than {np.iinfo(np.int32).max} maxima",
                hint="smooth the maps, or decode parts of the array",
            )
        self._cuts.append(found)
        inside = tuple(slice(c.start - a.start, c.stop - a.start) for c, a in zip(core, around, strict=True))
        for axis, part in enumerate(core):
            for edge, beyond in ((part.start, part.start - 1), (part.stop - 1, part.stop)):
                if (axis, edge, beyond, *_starts(core, axis)) in self._done:
                    own, other = (_at(core, axis, index) for index in (edge, beyond))
                    low = [heights[_at(inside, axis, index - around[axis].start)] for index in (edge, beyond)]
                    pairs = across(
                        self._scratch[own].astype(np.int64), self._scratch[other].astype(np.int64), (low[0], low[1])
                    )
                    self._faces.append(pairs)
                # The neighbour will look for this face from its side.
                self._done.add((axis, beyond, edge, *_starts(core, axis)))

    def graph(self) -> Basins:
        flat = self._scratch.reshape(-1)
        return assemble(self._cuts, self._faces, lambda places: flat[places])


def _boxes(shape: Sequence[int], size: Sequence[int]) -> list[Box]:
    axes = [
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, size, strict=True)
    ]
    return list(product(*axes))


def _grown(core: Box, shape: Sequence[int]) -> Box:
    return tuple(slice(max(0, c.start - 1), min(length, c.stop + 1)) for c, length in zip(core, shape, strict=True))


def _starts(core: Box, axis: int) -> tuple[int, ...]:
    return tuple(part.start for index, part in enumerate(core) if index != axis)


def _at(core: Box, axis: int, index: int) -> Box:
    return (*core[:axis], slice(index, index + 1), *core[axis + 1 :])


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
