"""The slices of a volume side by side in one picture, of which a page shows a part.

One picture instead of one per slice: fewer and smaller files, and a slider only has to move it. An image is a sheet of
one slice. Arrays of colours in, PNG and JPEG files as data URIs out.
"""

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uvea.reports.overlays import SIDE

SLICE_SIDE = 256
"""Longest side of the picture of a slice."""

MOST_SLICES = 64
"""Slices that are kept of a volume."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Where the slices of a volume lie in its pictures, row by row; an image is a sheet of one slice."""

    width: int
    """Of one slice."""

    height: int
    slices: tuple[int, ...] = (0,)
    """Index of each in the volume."""

    start: int = 0
    """Place in `slices` of the one that is shown first."""

    depth: int = 1
    """Slices of the whole volume."""

    @property
    def rim(self) -> int:
        """Pixels around each slice that repeat its border, so that neighbours do not shine in when scaled."""
        return 1 if len(self.slices) > 1 else 0

    @property
    def columns(self) -> int:
        """Slices in a row: about as many as there are rows."""
        return math.ceil(math.sqrt(len(self.slices)))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole picture."""
        rows = math.ceil(len(self.slices) / self.columns)
        return self.columns * (self.width + 2 * self.rim), rows * (self.height + 2 * self.rim)

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Left and upper corner of each slice in the picture."""
        return tuple(
            (
                number % self.columns * (self.width + 2 * self.rim) + self.rim,
                number // self.columns * (self.height + 2 * self.rim) + self.rim,
            )
            for number in range(len(self.slices))
        )


def sheet_of(shape: tuple[int, ...], labels: NDArray[np.integer] | None) -> Sheet:
    """How an image (y, x) or a volume (z, y, x) is laid out.

    Of a volume, at most MOST_SLICES slices are kept; the first to be shown is the one with the most foreground in
    `labels`.
    """
    deep = len(shape) == 3
    height, width = _fitted(shape[-2:], SLICE_SIDE if deep else SIDE)
    if not deep:
        return Sheet(width=width, height=height)
    busiest = busiest_slice(shape[0], labels)
    slices = kept_slices(shape[0], busiest)
    return Sheet(width=width, height=height, slices=slices, start=slices.index(busiest), depth=shape[0])


def picture(slice_at: Callable[[int], NDArray[np.uint8]], sheet: Sheet, *, lossy: bool = False) -> str:
    """Slices, each (y, x, 3) or (y, x, 4), averaged down to fit and laid side by side, as a data URI.

    `slice_at` gives one by its place in `sheet.slices`. JPEG where `lossy`, otherwise PNG.
    """
    from PIL import Image

    whole = None
    for number, (left, top) in enumerate(sheet.places):
        made = Image.fromarray(slice_at(number))
        if made.size != (sheet.width, sheet.height):
            made = made.resize((sheet.width, sheet.height), Image.Resampling.BOX)
        pixels = np.pad(np.asarray(made), ((sheet.rim, sheet.rim), (sheet.rim, sheet.rim), (0, 0)), mode="edge")
        if whole is None:
            whole = np.zeros((*sheet.size[::-1], pixels.shape[-1]), np.uint8)
        top, left = top - sheet.rim, left - sheet.rim
        whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    assert whole is not None  # a sheet has a slice
    if whole.shape[-1] == 3 and (whole[..., :1] == whole).all():
        whole = whole[..., 0]
    file = io.BytesIO()
    if lossy:
        Image.fromarray(whole).save(file, format="JPEG", quality=82)
    else:
        Image.fromarray(whole).save(file, format="PNG", optimize=len(sheet.slices) == 1)
    kind = "jpeg" if lossy else "png"
    return f"data:image/{kind};base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width of the picture of an image (y, x): never larger than the image."""
    scale = min(1.0, side / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def kept_slices(depth: int, busiest: int, most: int = MOST_SLICES) -> tuple[int, ...]:
    """Indices of at most `most` slices, evenly apart from the first to the last; `busiest` is one of them.

    Example:
        >>> kept_slices(9, 3, most=5)
        (0, 3, 4, 6, 8)
    """
    if depth <= most:
        return tuple(range(depth))
    even = np.rint(np.linspace(0, depth - 1, most)).astype(int)
    even[np.argmin(np.abs(even - busiest))] = busiest
    return tuple(even.tolist())


def busiest_slice(depth: int, labels: NDArray[np.integer] | None) -> int:
    """Index of the slice with the most foreground; the middle one where there is none."""
    if labels is not None and (labels > 0).any():
        return int(np.argmax((labels > 0).sum(axis=(1, 2))))
    return depth // 2
