"""NumPy .npy files. Pickles are never opened.

The file knows no axes, so they follow from its shape:

    2 axes                            yx
    3 axes, the last of 3 or 4        yxc   a colour image
    3 axes, the first of 4 or less    cyx   a few channels
    3 axes otherwise                  zyx   a volume
    4 axes, the last of 3 or 4        zyxc  if the first is more than 4
    4 axes otherwise                  czyx
    5 axes                            tczyx

`--axes` overrules this. There is no pixel size; the unit is px.
"""

import re
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from uvea.errors import ImageError
from uvea.images.format import Format, Stored, cannot_hold, check_size
from uvea.images.image import Image

LONGEST_HEADER = 2**16
"""Bytes."""

_FIELDS = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[<>|=]?[biufc]\d{0,2})',"
    r"\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[\dL, ]{0,400})\),?\s*\}\s*"
)
"""The header of an array of numbers. numpy itself parses it as a Python literal, which deep nesting breaks."""


class Npy(Format):
    """One array of numbers."""

    name = "NumPy"
    suffixes = (".npy",)

    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read one; the axes follow from the shape as the head of this file says."""
        with path.open("rb") as file:
            shape, fortran, dtype = _header(path, file)
            check_size(path, shape, dtype, max_pixels=max_pixels, most=path.stat().st_size - file.tell())
            array = np.fromfile(file, dtype, prod(shape))
        array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
        if (axes := guess_axes(array.shape)) is None:
            raise ImageError(
                f"{path} has {array.ndim} axes ({'×'.join(map(str, array.shape))}), an image has 2 to 5",
                hint="save one image per file",
            )
        return Stored(array=array, axes=axes)

    def write(self, path: Path, image: Image) -> None:
        """Write one, in the simplest layout that reads back as it was."""
        whole = image.array if len(image.axes) == 3 else image.array[:, np.newaxis]
        layouts = (image.array[0], image.array, whole, whole[np.newaxis])
        wanted = "c" + image.axes.replace("t", "z")
        for array in layouts[image.channels > 1 :]:
            axes = guess_axes(array.shape) or ""
            if axes in (wanted, wanted[1:]) or (array.ndim > len(image.axes) + 1 and axes.endswith("czyx")):
                np.save(path, np.ascontiguousarray(array), allow_pickle=False)
                return
        raise cannot_hold(path, image, name="NumPy", instead=".tif")


def _header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether the first axis is the fastest, and type."""
    start = file.read(8)
    size = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4, b"\x93NUMPY\3\0": 4}.get(start)
    if size is None:
        raise ValueError("it does not start like NumPy")
    length = int.from_bytes(file.read(size), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header has {length} bytes")
    text = file.read(length).decode("latin-1")
    if "'|O'" in text or "'O'" in text:
        raise ImageError(f"{path} holds Python objects", hint="save it as an array of numbers")
    found = _FIELDS.fullmatch(text)
    if found is None:
        raise ValueError("its header is not that of an array of numbers")
    shape = tuple(int(length) for length in found["shape"].replace("L", "").replace(",", " ").split())
    return shape, found["fortran"] == "True", np.dtype(found["descr"])


def guess_axes(shape: tuple[int, ...]) -> str | None:
    """The axes that an array of this shape is taken to have; None for more than five or fewer than two.

    Example:
        >>> guess_axes((30, 64, 64)), guess_axes((3, 64, 64)), guess_axes((64, 64, 3))
        ('zyx', 'cyx', 'yxc')
    """
    colour_last = shape[-1] in (3, 4) if shape else False
    match len(shape):
        case 2:
            return "yx"
        case 3:
            return "yxc" if colour_last else "cyx" if shape[0] <= 4 else "zyx"
        case 4:
            return "zyxc" if colour_last and shape[0] > 4 else "czyx"
        case 5:
            return "tczyx"
    return None
