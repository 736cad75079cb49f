"""An image as networks see it, made tile by tile: nothing of its size is kept but the image itself.

image -> checked and measured once -> any range of it, normalised, on the device
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uvea.arrays.normalize import Scale, measure
from uvea.images.image import Image
from uvea.images.orientation import AS_IT_IS, Turn, orientation_of, turn_between
from uvea.inference.sliding_window import Range
from uvea.plan.plan import Plan
from uvea.plan.prepare import grid_of, prepare_image

BLOCK = 2**22
"""Numbers that are looked at in one go."""


class Source:
    """Gives tiles of an image; see `source_of`."""

    def __init__(
        self,
        array: NDArray[np.generic],
        dims: int,
        scales: Sequence[Scale] | None = None,
        turn: Turn = AS_IT_IS,
    ) -> None:
        """Take (c, ...) with `dims` spatial axes that networks see, perhaps behind one of slices.

        Args:
            array: any real dtype; without scales already prepared, float32.
            dims: 2 or 3.
            scales: one per channel.
            turn: what was done to the image, and has to be undone with what is found in it.
        """
        self.array, self.dims, self.turn = array, dims, turn
        self._scales = tuple(scales or ())

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial size that networks see."""
        return tuple(self.array.shape[-self.dims :])

    @property
    def slices(self) -> int | None:
        """Number of slices that go through networks one by one; None where there is no such axis."""
        return self.array.shape[1] if self.array.ndim - 1 > self.dims else None

    def slice(self, index: int) -> "Source":
        """One slice as a source of its own; the whole where there are none."""
        return self if self.slices is None else Source(self.array[:, index], self.dims, self._scales)

    def read(self, ranges: Sequence[Range], device: torch.device) -> Tensor:
        """Tiles (b, c, ...) float32, normalised; beyond the end of an axis its last row goes on."""
        pixels = np.stack([self._cut(one) for one in ranges])
        try:
            tiles = torch.from_numpy(pixels)
        except TypeError:  # a byte order or type that torch does not know
            tiles = torch.from_numpy(pixels.astype(np.float32))
        if device.type == "cuda":
            tiles = tiles.pin_memory().to(device, non_blocking=True)
        tiles = tiles.to(device, torch.float32)
        for channel, scale in enumerate(self._scales):
            _apply(scale, tiles[:, channel])
        return tiles

    def _cut(self, where: Range) -> NDArray[np.generic]:
        piece = self.array[(slice(None), *where)]
        missing = [span.stop - span.start - have for span, have in zip(where, piece.shape[1:], strict=True)]
        if any(missing):
            piece = np.pad(piece, [(0, 0), *((0, more) for more in missing)], mode="edge")
        return piece.reshape(len(piece), *piece.shape[-self.dims :])


def source_of(image: Image, plan: Plan, *, where: str) -> Source:
    """Check an image and measure what its normalisation needs.

    A volume is brought to the orientation of the training, where both are known. An image of another pixel size than
    the plan's is resampled, as a whole.

    Raises:
        ShapeError: for the wrong number of axes or channels.
        ImageError: for pixels that are NaN or infinite.
    """
    turn = turn_between(orientation_of(image), plan.fingerprint.orientation)
    image = turn.image(image)
    array = image.array
    as_planned = len(image.axes) >= plan.dims and not (plan.dims == 3 and image.axes != "zyx")
    if as_planned and image.channels == 1 and plan.colour:
        array = np.broadcast_to(array, (plan.channels, *image.shape))
    if not as_planned or len(array) != plan.channels or grid_of(image, plan) != image.shape or not _finite(image.array):
        # Resamples, or finds the words for what is wrong.
        return Source(prepare_image(image, plan, where=where), plan.dims, turn=turn)
    repeated = image.channels < plan.channels and len(set(plan.normalization)) == 1
    scales = [measure(*one) for one in zip(array[:1] if repeated else array, plan.normalization, strict=not repeated)]
    return Source(array, plan.dims, scales * plan.channels if repeated else scales, turn)


def _finite(array: NDArray[np.generic]) -> bool:
    if array.dtype.kind != "f":
        return True
    rows = max(1, BLOCK // max(prod(array.shape[2:]), 1))
    return all(
        bool(np.isfinite(channel[start : start + rows]).all())
        for channel in array
        for start in range(0, array.shape[1], rows)
    )


def _apply(scale: Scale, pixels: Tensor) -> None:
    if scale.factor == 0:
        pixels.zero_()
        return
    if scale.low > float("-inf") or scale.high < float("inf"):
        pixels.clamp_(scale.low, scale.high)
    if scale.shift:
        pixels.sub_(scale.shift)
    if scale.factor != 1:
        pixels.mul_(scale.factor)
