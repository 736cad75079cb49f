"""From an image as read to a mask or class probabilities on its own grid.

source -> bands of probabilities, mean over networks -> back to the image's grid -> labels, band by band
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil, inf, prod
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from uvea.durable import reserve
from uvea.errors import OutputError, is_out_of_memory
from uvea.images.image import Image
from uvea.images.orientation import Turn
from uvea.inference.resize import Resizer
from uvea.inference.sliding_window import (
    Batch,
    Network,
    Range,
    TileTooLarge,
    Window,
    bands,
    labels_of,
    probabilities_of,
)
from uvea.inference.source import Source, source_of
from uvea.plan.memory import Network as Sizes
from uvea.plan.memory import prediction_bytes
from uvea.plan.plan import Plan

PIXELS_AT_ONCE = {"cpu": 2**19, "cuda": 2**22, "mps": 2**20}
"""Tiles are put together until they have about so many pixels: enough to keep all cores busy, see docs/log.md."""

SEEN_WHOLE = 4
"""Images of up to so many patches are one tile where norms look at what they are given."""

SPREAD = 8
"""Of larger ones they look at so many patches, or at a sixteenth of the image,"""

MOST_SPREAD = 64
"""but at no more than this."""

TOGETHER = {2: 8, 3: 4}
"""Patches that are looked at together, by number of axes."""

FINER = 4
"""Where patches do not cover an image, half of them are the most varied of so many times as many."""

STEPS = 0xFFFF
"""Where objects are told apart, probabilities have so many steps, as in files of 16 bits: these decode to the same."""

IN_MEMORY = 1 << 30
"""Bytes of the probabilities of an image that are kept in memory where objects are to be found in all of it."""

MEMORY_SHARE = 0.5
"""Share of the free memory that one call may be expected to take."""


@dataclass
class Fit:
    """What has turned out to fit in memory; all images of a model share it."""

    tile: tuple[int, ...] | None = None
    """None: the plan's."""

    tiles: int | None = None
    """Per call, mirrored copies counted; None: there was memory for as many as were tried."""

    patches: int | None = None
    """Looked at together to settle a network; None: as many as usual."""


Settle = Callable[[Iterable[Tensor]], Network]
"""Batches of patches of an image to a network that treats whatever it gets as a part of that image."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How and where networks run."""

    device: torch.device
    channels_last: bool
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    settler: Callable[[Network], Settle | None] = lambda network: None
    """How a network whose norms look at what they are given is settled on an image; None for one whose do not."""
    memory: int | None = None
    """Bytes of the processor that were free when networks were loaded; None: not known."""

    free: Callable[[], int] | None = None
    """Gives the bytes that are free on a GPU at the moment; None on a processor, where `memory` counts."""

    fit: Fit = field(default_factory=Fit, compare=False)

    said: set[object] = field(default_factory=set, compare=False)
    """What was told of already, so that it is told once for all images of a call."""

    def anew(self) -> Self:
        """The same, what fits included, for another call: it is told everything itself."""
        return replace(self, said=set())

    def say(self, what: object, text: str, tell: Callable[[str], None]) -> None:
        """Tell of something unless that was done before."""
        if what not in self.said:
            self.said.add(what)
            tell(text)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmented:
    """What was found in an image, on its own grid."""

    mask: NDArray[np.generic] | None
    """(1, ...) or (3, ...) with the values of the training masks; None if not asked for."""

    probabilities: NDArray[np.float32] | None
    """(k, ...) in [0, 1], those of the classes summing to one, then maps of objects, if there are any, all in `STEPS`
    then; None if not asked for."""

    classes: NDArray[np.int16] | None = None
    """(...) the class of each pixel, from 0; None if not asked for."""


def _nobody(text: str) -> None:
    """Tell nobody."""


def segment(
    networks: Sequence[Network],
    image: Image,
    plan: Plan,
    *,
    engine: Engine,
    mirror: bool = False,
    where: str = "the image",
) -> Tensor:
    """Class probabilities of one image.

    Args:
        networks: in evaluation mode on the engine's device; the mean of all is returned.
        image: as read.
        plan: of the model.
        engine: see `Engine`.
        mirror: average over mirrored copies along the plan's `mirror_axes`.
        where: what to call the image in errors.

    Returns:
        (k, ...) float32 on the spatial grid of `image`, on the CPU.
    """
    found = segment_source(
        networks,
        source_of(image, plan, where=where),
        plan,
        shape=image.shape,
        engine=engine,
        mirror=mirror,
        mask=False,
        probabilities=True,
    )
    assert found.probabilities is not None
    return torch.from_numpy(found.probabilities)


def segment_prepared(
    networks: Sequence[Network],
    prepared: NDArray[np.float32],
    plan: Plan,
    *,
    engine: Engine,
    mirror: bool = False,
    tell: Callable[[str], None] = _nobody,
) -> Tensor:
    """Probabilities (k, ...) on the grid of a prepared image (c, ...); a volume under a 2D plan goes slice by slice."""
    found = segment_source(
        networks,
        Source(prepared, plan.dims),
        plan,
        shape=prepared.shape[1:],
        engine=engine,
        mirror=mirror,
        mask=False,
        probabilities=True,
        tell=tell,
    )
    assert found.probabilities is not None
    return torch.from_numpy(found.probabilities)


def classify_prepared(
    networks: Sequence[Network],
    prepared: NDArray[np.float32],
    plan: Plan,
    *,
    shape: Sequence[int],
    engine: Engine,
    tell: Callable[[str], None] = _nobody,
) -> NDArray[np.int16]:
    """Classes (...) of a prepared image (c, ...) on a grid of size `shape`, as `predict` finds them.

    Probabilities stay where networks run, and are never there for all of an image at once.
    """
    found = segment_source(
        networks,
        Source(prepared, plan.dims),
        plan,
        shape=shape,
        engine=engine,
        mask=False,
        classes=True,
        tell=tell,
    )
    assert found.classes is not None
    return found.classes


def segment_source(
    networks: Sequence[Network],
    source: Source,
    plan: Plan,
    *,
    shape: Sequence[int],
    engine: Engine,
    mirror: bool = False,
    mask: bool = True,
    probabilities: bool = False,
    classes: bool = False,
    tell: Callable[[str], None] = _nobody,
) -> Segmented:
    """Predict an image that is being read from a source.

    Beyond what is returned it needs memory for the tiles of a call and for the probabilities of the rows that
    one row of tiles covers.

    Args:
        networks: as in `segment`.
        source: gives the tiles.
        plan: of the model.
        shape: spatial size of the image itself, as it lies in its file, which the results get.
        engine: see `Engine`; what fits in memory is remembered in it, and what was said.
        mirror: as in `segment`.
        mask: whether the mask is wanted.
        probabilities: whether the probabilities are wanted.
        classes: whether the classes are wanted.
        tell: told where memory is short and what is done about it, and where mirroring does nothing.

    Raises:
        MemoryError: if not even the smallest tile fits, or the rows that tiles are put together in do not.
    """
    if mirror and not plan.mirror_axes:
        engine.say("mirror", "mirroring changes nothing: the plan of this model has no mirror_axes", tell)
    settlers = [engine.settler(network) for network in networks]
    turned = source.turn.per_axis(shape)
    before = engine.fit.tile, engine.fit.tiles
    # A small image is one tile, whatever the plan says: so its norms see all of it.
    small = any(settlers) and _is_small(source, plan)
    planned = source.shape if small else plan.tile
    while True:
        tile = engine.fit.tile or planned
        if small and engine.fit.tile is None and prod(source.shape) > prod(plan.tile):
            copies = 2 ** len(plan.mirror_axes) if mirror else 1
            tile = source.shape if _calls(plan, engine, source.shape) >= copies else plan.tile
        if _used(tile, source, plan) != _used(planned, source, plan):
            sizes = f"{_times(plan.tile)} to {_times(tile)}"
            said = f"there is no memory for a tile: its size goes from {sizes}; results differ a little at tile borders"
            if small:
                said = f"there is no memory for {_times(source.shape)} at once: tiles are {_times(tile)}"
            engine.say(("tile", small, tile), said, tell)
        try:
            found = _collect(
                _on_grid(
                    _bands(networks, settlers, source, plan, tile=tile, engine=engine, mirror=mirror, tell=tell),
                    source,
                    turned,
                ),
                plan,
                turned,
                mask=mask,
                probabilities=probabilities,
                classes=classes,
            )
            return _turned_back(found, source.turn)
        except TileTooLarge as error:
            used = _used(tile, source, plan)
            smaller = _smaller(tile, used, plan.stride)
            if engine.fit.tile is None and prod(plan.tile) < prod(used):
                smaller = plan.tile
            if smaller is None:
                engine.fit.tile, engine.fit.tiles = before
                raise MemoryError(str(error)) from None
            engine.fit.tile, engine.fit.tiles = smaller, 1
        except RuntimeError as error:
            # Beside the networks, memory is needed for the rows that tiles are put together in: as wide as the image.
            if not is_out_of_memory(error):
                raise
            raise MemoryError(str(error)) from None


def _used(tile: tuple[int, ...], source: Source, plan: Plan) -> tuple[int, ...]:
    """What of a tile is there in an image, in whole strides."""
    return tuple(Window(tile=tile, overlap=plan.overlap, stride=plan.stride).size(source.shape))


def _turned_back(found: Segmented, turn: Turn) -> Segmented:
    """As the image lies in its file."""
    if not turn:
        return found
    mask, shares, classes = found.mask, found.probabilities, found.classes
    return Segmented(
        mask=None if mask is None else turn.back(mask),
        probabilities=None if shares is None else turn.back(shares),
        classes=None if classes is None else turn.back(classes[None])[0],
    )


def in_steps(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of probabilities, rounded to what a file of 16 bits gives back, see `STEPS`."""
    found = np.multiply(probabilities, np.float32(STEPS))
    np.rint(found, out=found)
    return np.divide(found, np.float32(STEPS), out=found)


def to_grid(probabilities: Tensor, shape: Sequence[int]) -> Tensor:
    """Resize probabilities (k, ...) linearly to the spatial size `shape`."""
    if tuple(probabilities.shape[1:]) == tuple(shape):
        return probabilities
    mode = "bilinear" if probabilities.ndim == 3 else "trilinear"
    return functional.interpolate(probabilities[None], size=tuple(shape), mode=mode, align_corners=False)[0]


def _bands(
    networks: Sequence[Network],
    settlers: Sequence[Settle | None],
    source: Source,
    plan: Plan,
    *,
    tile: tuple[int, ...],
    engine: Engine,
    mirror: bool,
    tell: Callable[[str], None],
) -> Iterator[tuple[int, slice, Tensor]]:
    """Slice, rows and shares, on the source's own grid."""
    adaptive = any(settlers)
    window = Window(
        tile=tile,
        overlap=plan.overlap,
        stride=plan.stride,
        # Networks that came with their layers give what they gave where they come from: tiles do not mix.
        context=None if plan.graph is None else tuple(length // 2 for length in plan.overlap),
        mirror_axes=plan.mirror_axes if mirror else (),
        least=adaptive or plan.norm not in ("instance", "group"),
    )

    batch = Batch(_tiles_at_once(window, source.shape, plan, engine), tell, engine.fit.tiles)
    apart = adaptive and not (_is_small(source, plan) and len(window.tiles(source.shape)) == 1)
    # Slices are images of their own, each with its own statistics.
    for part, first in ((source.slice(i), i) for i in range(source.slices or 1)) if apart else ((source, 0),):
        used = networks
        if apart:
            used = [
                network if settler is None else _settled(settler, part, plan, engine, tell=tell)
                for network, settler in zip(networks, settlers, strict=True)
            ]
        runners = [_runner(network, plan.dims, engine) for network in used]

        def read(ranges: Sequence[Range], part: Source = part) -> Tensor:
            return part.read(ranges, engine.device)

        for band in bands(runners, read, part.shape, window=window, batch=batch, slices=part.slices, maps=plan.maps):
            engine.fit.tiles = batch.most
            yield first + band.index, band.rows, band.shares


def _is_small(source: Source, plan: Plan) -> bool:
    """Whether norms see an image at once."""
    return prod(source.shape) <= SEEN_WHOLE * prod(plan.patch)


def _settled(settle: Settle, source: Source, plan: Plan, engine: Engine, *, tell: Callable[[str], None]) -> Network:
    """A network that has seen patches from all over an image; fewer together where there is no memory for them."""
    usual = TOGETHER[plan.dims]
    size = _patch(source, plan, engine)
    together = max(1, int(min(_calls(plan, engine, size), engine.fit.patches or usual)))
    while True:
        if together < usual:
            engine.fit.patches = together
            said = f"there is no memory to look at an image: {together} of its patches at once; results differ a little"
            engine.say(("patches", together), said, tell)
        try:
            return settle(_spread(source, size, _layout(plan.dims, engine), engine.device, together=together))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            problem = " ".join(str(error).split())
        # Outside of the handler, whose traceback keeps everything alive that did not fit.
        if engine.device.type == "cuda":
            torch.cuda.empty_cache()
        if together == 1:
            raise TileTooLarge(problem)
        together //= 2


def _patch(source: Source, plan: Plan, engine: Engine) -> list[int]:
    """The size of the patches that an image is judged by: that of the training, where it fits."""
    most = zip(plan.patch, engine.fit.tile or plan.patch, source.shape, plan.stride, strict=True)
    return [min(patch, tile, ceil(n / step) * step) for patch, tile, n, step in most]


def _spread(
    source: Source, size: Sequence[int], layout: torch.memory_format, device: torch.device, *, together: int
) -> Iterator[Tensor]:
    """Patches of a size, spread over an image: batch by batch, each over all of it."""
    wanted = min(MOST_SPREAD, max(SPREAD, ceil(prod(source.shape) / prod(size) / 16)))
    places = _places(source.shape, size, wanted)
    finer = _places(source.shape, size, FINER * wanted)
    if len(finer) > len(places):
        # What is rare in an image must be seen as well: all of it would be judged by its background.
        varied = [float(source.read([place], torch.device("cpu")).var()) for place in finer]
        even = _places(source.shape, size, ceil(wanted / 2))
        best = sorted(range(len(finer)), key=lambda index: -varied[index])[: len(places) - len(even)]
        places = [*even, *(finer[index] for index in sorted(best))]
    batches = ceil(len(places) / together)
    for number in range(batches):
        yield source.read(places[number::batches], device).contiguous(memory_format=layout)


def _places(shape: Sequence[int], size: Sequence[int], wanted: int) -> list[tuple[slice, ...]]:
    """At least `wanted` places of patches, or as many as cover all: each in the middle of a share of the image."""
    counts = [1] * len(size)
    while prod(counts) < wanted:
        gaps = [n / s / count for n, s, count in zip(shape, size, counts, strict=True)]
        if max(gaps) <= 1:
            break
        counts[gaps.index(max(gaps))] += 1
    starts = [
        [min(max(round((i + 0.5) * n / count - s / 2), 0), max(n - s, 0)) for i in range(count)]
        for n, s, count in zip(shape, size, counts, strict=True)
    ]
    return [tuple(slice(a, a + s) for a, s in zip(at, size, strict=True)) for at in product(*starts)]


def _on_grid(
    found: Iterator[tuple[int, slice, Tensor]], source: Source, shape: Sequence[int]
) -> Iterator[tuple[int, slice, Tensor]]:
    """The same on the grid of the image."""
    wanted = tuple(shape[-source.dims :])
    if wanted == source.shape:
        yield from found
        return
    resizer, at = Resizer(source.shape[0], wanted), 0
    for index, _, shares in found:
        if index != at:
            resizer, at = Resizer(source.shape[0], wanted), index
        for rows, resized in resizer.add(shares):
            yield index, rows, resized


def _collect(
    found: Iterator[tuple[int, slice, Tensor]],
    plan: Plan,
    shape: Sequence[int],
    *,
    mask: bool,
    probabilities: bool,
    classes: bool,
) -> Segmented:
    in_slices = len(shape) > plan.dims
    whole_mask: NDArray[np.generic] | None = None
    whole: NDArray[np.float32] | None = None
    whole_classes = np.empty(shape, np.int16) if classes else None
    for index, rows, shares in found:
        place = (slice(None), index, rows) if in_slices else (slice(None), rows)
        if mask or whole_classes is not None:
            labels = labels_of(shares[: plan.classes])
        if whole_classes is not None:
            whole_classes[place[1:]] = labels
        if mask:
            values = plan.labels.decode(labels)
            if whole_mask is None:
                whole_mask = np.empty((len(values), *shape), values.dtype)
            whole_mask[place] = values
        if probabilities:
            maps = probabilities_of(shares)
            if whole is None:
                whole = _room((len(maps), *shape), on_disk=plan.maps > 0)
            whole[place] = in_steps(maps.cpu().numpy()) if plan.maps else maps.cpu().numpy()
    return Segmented(mask=whole_mask, probabilities=whole, classes=whole_classes)


def _room(shape: tuple[int, ...], *, on_disk: bool) -> NDArray[np.float32]:
    """An array to fill; where it is large and may be so, in a temporary file that goes with it."""
    if not on_disk or 4 * prod(shape) <= IN_MEMORY:
        return np.empty(shape, np.float32)
    try:
        with tempfile.TemporaryFile(prefix="uvea-") as file:
            reserve(file.fileno(), 4 * prod(shape))
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"{4 * prod(shape)} bytes of probabilities need a temporary file: {error.strerror or error}",
            hint="set TMPDIR to a folder with more room",
        ) from error


def _tiles_at_once(window: Window, shape: Sequence[int], plan: Plan, engine: Engine) -> int:
    """How many tiles go into one call: by pixels, and on a GPU by its free memory."""
    size, copies = window.size(shape), len(window.flips)
    if engine.fit.tiles is not None:
        return max(1, engine.fit.tiles // copies)
    fit = PIXELS_AT_ONCE.get(engine.device.type, PIXELS_AT_ONCE["cpu"]) // (prod(size) * copies)
    return max(1, int(min(fit, _calls(plan, engine, size) / copies)))


def _calls(plan: Plan, engine: Engine, size: Sequence[int]) -> float:
    """How many tiles of a size one call may be expected to have memory for."""
    free = engine.memory if engine.free is None else engine.free()
    if free is None:
        return inf
    sizes = Sizes(
        channels=plan.channels,
        classes=plan.outputs,
        width=plan.width,
        strides=plan.strides,
        kernels=plan.kernels,
        convs=plan.convs,
        residual=plan.block == "residual",
    )
    return MEMORY_SHARE * free / prediction_bytes(sizes, size)


def _smaller(tile: tuple[int, ...], used: Sequence[int], stride: Sequence[int]) -> tuple[int, ...] | None:
    """A tile of half the size along the axis where most of it was used, in whole strides; None if that is one."""
    axis = max(range(len(tile)), key=lambda axis: used[axis] / stride[axis])
    half = ceil(used[axis] / 2 / stride[axis]) * stride[axis]
    return None if half == used[axis] else (*tile[:axis], half, *tile[axis + 1 :])


def _times(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _layout(dims: int, engine: Engine) -> torch.memory_format:
    if not engine.channels_last:
        return torch.contiguous_format
    return {2: torch.channels_last, 3: torch.channels_last_3d}[dims]


def _runner(network: Network, dims: int, engine: Engine) -> Network:
    layout = _layout(dims, engine)

    def run(pieces: Tensor) -> Tensor:
        with engine.autocast():
            return network(pieces.contiguous(memory_format=layout))

    return run
