"""Predict an image that is larger than the network's patch.

    ranges of the image -> batches of tiles -> networks -> blend -> bands of probabilities, top to bottom

A band is given out as soon as no tile to come can change it, so that the probabilities of all classes exist for
a few rows at a time only, whatever the size of the image. Nothing here opens files or knows about normalisation
and spacing.

Shapes: image (c, ...), tiles (b, c, ...), probabilities (k, ...) with k classes.
Shares are probabilities without what follows from the rest: (1, ...) of the second class where there are two,
else the same. A network may give maps behind its classes, which are probabilities of their own; then shares are all of
them, (k + maps, ...).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from uvea.arrays.tiles import Tile, cut, weight_of
from uvea.errors import is_out_of_memory

Network = Callable[[Tensor], Tensor]
"""(b, c, ...) float32 to (b, k, ...) logits of the same spatial size; k = 1 means one sigmoid."""

Range = tuple[slice, ...]
"""Where a tile lies; its first entry is a slice of one element where networks see slices of a volume."""

Read = Callable[[Sequence[Range]], Tensor]
"""Ranges to tiles (b, c, ...) float32 on the device; a range may end beyond the image, whose edge then goes on."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """How an image is cut, and how often it is looked at."""

    tile: tuple[int, ...]
    """Largest spatial size given to a network."""

    overlap: tuple[int, ...]
    """Least overlap of neighbouring tiles, pixels, per axis."""

    stride: tuple[int, ...]
    """Total stride of the network per axis; tiles start and end on multiples of it."""

    context: tuple[int, ...] | None = None
    """Pixels at inner tile borders that count nothing, see `uvea.arrays.tiles.cut`; at most half of what is shared, and
    None stands for a quarter of it."""

    least: bool = True
    """Whether tiles are made smaller where that takes no more of them. Not where networks look at all of a tile."""

    mirror_axes: tuple[int, ...] = ()
    """Spatial axes of the network (0 is the first after the channel) to mirror along; the mean over all
    combinations counts."""

    def tiles(self, shape: Sequence[int]) -> list[Tile]:
        """The tiles of an image of spatial size `shape`, padded to whole strides."""
        whole = tuple(ceil(n / s) * s for n, s in zip(shape, self.stride, strict=True))
        size = self.size(shape)
        shared = [_shared(*four) for four in zip(self.overlap, self.stride, size, whole, strict=True)]
        wanted = self.context or tuple(length // 4 for length in shared)
        context = [min(some, length // 2) for some, length in zip(wanted, shared, strict=True)]
        return cut(whole, size, overlap=shared, context=context, align=self.stride)

    def size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The size that all tiles of an image of spatial size `shape` have."""
        axes = zip(self.tile, self.overlap, self.stride, shape, strict=True)
        return tuple(_size(*four, least=self.least) for four in axes)

    @property
    def flips(self) -> tuple[tuple[int, ...], ...]:
        """Combinations of axes to mirror along, the image as it is first."""
        found: list[tuple[int, ...]] = [()]
        for axis in self.mirror_axes:
            found += [(*flip, axis) for flip in found]
        return tuple(found)


@dataclass
class Batch:
    """How many tiles a network gets at once. It shrinks where memory turns out to be short, and stays so."""

    tiles: int
    """Read together, mirrored copies not counted."""

    tell: Callable[[str], None] = field(default=lambda text: None)
    """Told when it shrinks."""

    most: int | None = None
    """Per call of a network, mirrored copies counted; None: all that were read together, with their copies."""


class TileTooLarge(Exception):
    """A single tile does not fit in memory; with the error of the library as its cause."""


@dataclass(frozen=True, eq=False)
class Band:
    """Shares of all pixels of some rows: final, and valid until the next band is asked for."""

    index: int
    """Which slice, where networks see slices of a volume; else 0."""

    rows: slice
    """Along the first axis that networks see."""

    shares: Tensor
    """(k, rows, ...) float32, or (1, rows, ...) of the second of two classes."""


@torch.inference_mode()
def bands(
    networks: Sequence[Network],
    read: Read,
    shape: Sequence[int],
    *,
    window: Window,
    batch: Batch,
    slices: int | None = None,
    maps: int = 0,
) -> Iterator[Band]:
    """Predict an image band by band, in order.

    Args:
        networks: in evaluation mode, on the device of the tiles; the mean of all counts.
        read: gives the tiles.
        shape: spatial size that networks see, (y, x) or (z, y, x).
        window: how to cut it.
        batch: tiles per call of a network.
        slices: number of slices where the image has an axis in front of `shape`; tiles of several go
            into one batch.
        maps: channels of the networks, at the end, that are no classes: each is a sigmoid.

    Raises:
        TileTooLarge: if there is no memory for a single tile.
    """
    tiles = window.tiles(shape)
    weights = _Weights()
    places = list(product(range(slices or 1), tiles))
    blend: _Blend | None = None
    done = 0
    while some := places[done : done + batch.tiles]:
        ranges = [
            (*(() if slices is None else (slice(index, index + 1),)), *(span.read for span in tile))
            for index, tile in some
        ]
        found = _tried(networks, read, ranges, window.flips, batch, maps=maps)
        if found is None:
            continue
        done += len(some)
        for (index, tile), shares in zip(some, found, strict=True):
            if len(tiles) == 1:
                inside = shares[(slice(None), *(slice(0, n) for n in shape))]
                yield Band(index, slice(0, shape[0]), inside)
                continue
            if blend is None:
                blend = _Blend(shares, shape, tiles)
            if finished := blend.before(index, tile):
                yield finished
            blend.add(tile, shares, weights.of(tile, shares.device))
    if blend is not None and (finished := blend.rest()):
        yield finished


def predict(
    network: Network,
    image: Tensor,
    *,
    tile: Sequence[int],
    overlap: Sequence[int],
    context: Sequence[int] | None = None,
    stride: Sequence[int] | None = None,
    mirror_axes: Sequence[int] = (),
    batch: int = 1,
) -> Tensor:
    """Class probabilities of one image in memory, tile by tile.

    Args:
        network: see `Network`; already in evaluation mode, on the device of `image`.
        image: (c, y, x) or (c, z, y, x) float32, normalised and resampled.
        tile: see `Window`, as the next four.
        overlap: see there.
        context: see there.
        stride: see there; ones if not given.
        mirror_axes: see there.
        batch: tiles per call of the network.

    Returns:
        (k, ...) float32 on the device of `image`, in [0, 1], summing to one; k is 2 for a sigmoid network.
    """
    shape = tuple(image.shape[1:])
    window = Window(
        tile=tuple(tile),
        overlap=tuple(overlap),
        stride=tuple(stride or (1,) * len(shape)),
        context=None if context is None else tuple(context),
        mirror_axes=tuple(mirror_axes),
    )

    def read(ranges: Sequence[Range]) -> Tensor:
        return torch.stack([_cut(image, one) for one in ranges])

    result: Tensor | None = None
    for band in bands([network], read, shape, window=window, batch=Batch(batch)):
        found = probabilities_of(band.shares)
        if result is None:
            result = torch.empty((len(found), *shape), device=image.device)
        result[:, band.rows] = found
    assert result is not None
    return result


def probabilities_of(shares: Tensor) -> Tensor:
    """Shares to the probabilities of all classes, (k, ...)."""
    return torch.cat((1 - shares, shares)) if len(shares) == 1 else shares


def labels_of(probabilities: Tensor) -> NDArray[np.int16]:
    """The most probable class of every pixel; of equals the first.

    Args:
        probabilities: (k, ...), or shares.

    Returns:
        (...) int16.
    """
    labels = probabilities[0] > 0.5 if len(probabilities) == 1 else probabilities.argmax(0)
    array: NDArray[np.int16] = labels.to(torch.int16).cpu().numpy()
    return array


class _Weights:
    """Weights of tiles as tensors; most tiles share theirs with others."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], Tensor] = {}

    def of(self, tile: Tile, device: torch.device) -> Tensor:
        key = tuple(hash(span.weight.tobytes()) for span in tile)
        if key not in self._kept:
            self._kept[key] = torch.from_numpy(np.ascontiguousarray(weight_of(tile))).to(device)
        return self._kept[key]


class _Blend:
    """Weighted sums over the rows that tiles to come may still change.

    The rows roll: those that are done are given out, the others move to the top.
    """

    def __init__(self, shares: Tensor, shape: Sequence[int], tiles: Sequence[Tile]) -> None:
        self._shape = tuple(shape)
        widths = (max(tile[axis].read.stop for tile in tiles) for axis in range(1, len(shape)))
        self._rows = torch.zeros((len(shares), shares.shape[1], *widths), device=shares.device)
        self._slice, self._start = 0, 0

    def before(self, index: int, tile: Tile) -> Band | None:
        """What is final once `tile` of slice `index` is reached."""
        start = tile[0].read.start
        if (index, start) == (self._slice, self._start):
            return None
        if index != self._slice:
            band = self.rest()
            self._moved = 0, index
        else:
            band = self._band(start - self._start)
            self._moved = start, index
        return band

    def rest(self) -> Band | None:
        """What is left of the slice."""
        return self._band(self._shape[0] - self._start)

    def add(self, tile: Tile, shares: Tensor, weight: Tensor) -> None:
        """Add the shares of a tile."""
        self._roll()
        place = (slice(None), slice(None), *(span.read for span in tile[1:]))
        self._rows[place].addcmul_(shares, weight)

    _moved: tuple[int, int] | None = None

    def _roll(self) -> None:
        """Move the rows that are left to the top; put off until the band that shows the others has been used."""
        if self._moved is None:
            return
        (start, index), self._moved = self._moved, None
        step = start - self._start
        height = self._rows.shape[1]
        kept = height - step if index == self._slice and step < height else 0
        if kept:
            # Through a copy, because both overlap where the step is short.
            self._rows[:, :kept] = self._rows[:, step:].clone()
        self._rows[:, kept:] = 0
        self._slice, self._start = index, start

    def _band(self, height: int) -> Band | None:
        height = min(height, self._shape[0] - self._start)
        if height <= 0:
            return None
        inside = (slice(None), slice(0, height), *(slice(0, n) for n in self._shape[1:]))
        return Band(self._slice, slice(self._start, self._start + height), self._rows[inside])


def _tried(
    networks: Sequence[Network],
    read: Read,
    ranges: Sequence[Range],
    flips: Sequence[tuple[int, ...]],
    batch: Batch,
    *,
    maps: int,
) -> Tensor | None:
    """Mean shares of tiles, (b, k, ...); where there is no memory for them, the batch shrinks and there are none."""
    try:
        return _mean(networks, read(ranges), flips, batch.most, maps=maps)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        problem = _one_line(error)
    # Outside of the handler, whose traceback keeps everything alive that did not fit.
    torch.cuda.empty_cache()  # does nothing where no GPU is used
    tried = len(ranges) * len(flips)
    if batch.most is not None:
        tried = min(tried, batch.most)
    if tried == 1:
        raise TileTooLarge(problem)
    batch.most = ceil(tried / 2)
    batch.tiles = max(1, batch.most // len(flips))
    batch.tell(f"there is no memory for {tried} tiles at once: {batch.most} from now on, with the same result")
    return None


def _mean(
    networks: Sequence[Network], tiles: Tensor, flips: Sequence[tuple[int, ...]], most: int | None, *, maps: int
) -> Tensor:
    """Mean shares of tiles over networks and mirrored copies, (b, k, ...); networks get `most` of these at once."""
    turned = [[axis + 2 for axis in flip] for flip in flips]
    copies = tiles if len(turned) == 1 else torch.cat([tiles.flip(axes) if axes else tiles for axes in turned])
    total: Tensor | None = None
    for network in networks:
        parts = [_shares(network(part), maps) for part in torch.split(copies, most or len(copies))]
        found = parts[0] if len(parts) == 1 else torch.cat(parts)
        for axes, part in zip(turned, found.chunk(len(turned)), strict=True):
            back = part.flip(axes) if axes else part
            total = back if total is None else total.add_(back)
    assert total is not None
    count = len(networks) * len(turned)
    return total.div_(count) if count > 1 else total


def _shares(logits: Tensor, maps: int) -> Tensor:
    """Logits (b, k + maps, ...) to shares; without maps, one logit and two give one share."""
    logits = logits.float()
    if maps:
        return torch.cat((logits[:, :-maps].softmax(1), logits[:, -maps:].sigmoid()), 1)
    if logits.shape[1] == 1:
        return logits.sigmoid()
    if logits.shape[1] == 2:
        return torch.sub(logits[:, 1:], logits[:, :1]).sigmoid_()
    return logits.softmax(1)


def _size(tile: int, overlap: int, step: int, length: int, *, least: bool) -> int:
    largest = ceil(tile / step) * step
    if length <= largest or not least:
        return min(largest, ceil(length / step) * step)
    shared = min(ceil(overlap / step) * step, largest - step)  # starts are whole steps apart
    count = ceil((length - shared) / (largest - shared))
    return min(largest, ceil((length + (count - 1) * shared) / count / step) * step)


def _shared(overlap: int, stride: int, tile: int, length: int) -> int:
    return overlap if tile >= length else min(overlap, tile - stride)


def _cut(image: Tensor, where: Range) -> Tensor:
    """A range of an image; beyond its end the last row of each axis goes on, as the network itself would pad."""
    piece = image[(slice(None), *where)]
    missing = [span.stop - span.start - have for span, have in zip(where, piece.shape[1:], strict=True)]
    if not any(missing):
        return piece
    return functional.pad(piece[None], [n for more in reversed(missing) for n in (0, more)], mode="replicate")[0]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
