"""What a file format must offer, and what it hands over.

To add a format: write one class in its own file in this folder, add it to `FORMATS` in
`formats.py`, and add one line to `tests/images/test_formats.py`. Nothing else changes.

World coordinates are those of ITK and DICOM in every format: x grows to the patient's
left, y to the back, z to the head (LPS). NIfTI files, which say right and front, are
converted where they are read and written, so the same volume has the same geometry
whatever file it came in.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from uvea.errors import ImageError
from uvea.images.image import Image

MAX_PIXELS = 2**31
"""No image may declare more, unless the user says so: 46,000 × 46,000 or 1,290 × 1,290 × 1,290. Channels count."""

LIMIT_BYTES = 64 * 2**30
"""No image may declare more than this, or than the memory of the machine, whatever the user says."""

LEAST_SPAN = 1e-4
"""How far the axes of an image must be from lying in one plane; a shear by 45 degrees leaves 0.5."""

DEFLATE_RATIO = 1032
"""The most that deflate (PNG, gzip, zip) can shrink data: a file that declares more is damaged or hostile.

Source: https://zlib.net/zlib_tech.html, "Maximum Compression Factor".
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """An image as its file holds it: axes in the order of the file, not yet arranged."""

    array: NDArray[np.generic]
    """Any number of axes; native byte order."""

    axes: str
    """What the file says, one letter of c, t, z, y, x per axis; another letter: the file does not say."""

    spacing: tuple[float, ...] = ()
    """Per axis of the array, 1.0 for those without a size in space; empty: the file has none."""

    unit: str = "px"
    """"mm", "um" or "px"."""

    origin: tuple[float, ...] = ()
    """World position of the first pixel, (z, y, x) or (y, x); empty: the file has none."""

    directions: tuple[tuple[float, ...], ...] = ()
    """World unit vector per axis of the array; empty, or zeros for an axis that is not in space."""

    oriented: bool = True
    """As in `Image`; without directions, of no meaning."""

    depth_unknown: bool = False
    """As in `Image`."""

    header: object = None
    """As in `Image`."""

    def __post_init__(self) -> None:
        if not all(0 < size < float("inf") for size in self.spacing):
            raise ValueError(f"its pixel size {self.spacing} is impossible")
        if not np.isfinite([*self.origin, *chain(*self.directions)]).all():
            raise ValueError("its position in space is not finite")
        vectors = [vector for vector in self.directions if any(vector)]
        # The smallest singular value of unit vectors: 1 for right angles, 0 where they lie in a plane.
        if vectors and np.linalg.svd(np.array(vectors), compute_uv=False).min() < LEAST_SPAN:
            raise ValueError("its directions lie in one plane and flatten the image")


class Format(ABC):
    """One family of files. Stateless: a format is a pair of functions with a name."""

    name: str
    suffixes: tuple[str, ...]

    @abstractmethod
    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read a whole image, refusing a declared size that is too large or cannot be true before decoding it."""

    @abstractmethod
    def write(self, path: Path, image: Image) -> None:
        """Write an image so that `read` gives its values back; `path` does not exist yet.

        Raises:
            ImageError: if the format cannot hold it, with a suffix that can.
        """


def check_size(
    path: Path, shape: Sequence[int], dtype: DTypeLike, *, max_pixels: int, most: float = float("inf")
) -> None:
    """Refuse an image before it is decoded, by what its header declares.

    Args:
        path: for the message.
        shape: declared size of the array, channels included.
        dtype: declared type.
        max_pixels: the most that the user allows.
        most: the largest number of bytes that the rest of the file can hold.

    Raises:
        ImageError: if there are no pixels, more than a limit, or more than the file can hold.
    """
    size = "×".join(map(str, shape))
    if not shape or min(shape) < 1:  # the product of two negative sizes would look like a size
        raise ImageError(f"{path} has no pixels ({size})", hint="write the file again, or leave it out")
    declared = f"{size} {np.dtype(dtype)}"
    count = prod(int(length) for length in shape)
    needed = count * np.dtype(dtype).itemsize
    if needed > most:
        raise ImageError(
            f"{path} declares {declared}, {readable(needed)}, more than the file can hold; it is truncated or damaged",
            hint="copy the file again from where it came from, or leave it out",
        )
    if count > max_pixels:
        raise ImageError(
            f"{path} declares {declared}, {count} pixels with all channels; the limit is {max_pixels}",
            hint=f"check that the file is what it should be; if it is, --max-pixels {count}, or cut or downscale it",
        )
    if needed > largest_bytes():
        raise ImageError(
            f"{path} declares {declared}, {readable(needed)}; the limit is {readable(largest_bytes())}",
            hint="check that the file is what it should be, and cut or downscale it if it is",
        )


def largest_bytes() -> int:
    """The largest image that may be read, in bytes: the limit, or the machine's memory if that is less."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return LIMIT_BYTES
    return min(LIMIT_BYTES, memory) if memory > 0 else LIMIT_BYTES


def readable(count: int) -> str:
    """A number of bytes for people: "3.0 GiB"."""
    if count < 1024:
        return f"{count} bytes"
    power = min((count.bit_length() - 1) // 10, 4)
    return f"{count / 1024**power:.1f} {('', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def cannot_hold(path: Path, image: Image, *, name: str, instead: str) -> ImageError:
    """The error for an image that a format has no room for; `instead` is a suffix that has."""
    return ImageError(
        f"{path} cannot hold {image.channels} channels of {image.array.dtype} with axes {image.axes} as {name}",
        hint=f"write it as {instead}",
    )
