"""TIFF and OME-TIFF, by tifffile and imagecodecs.

Axes come from OME metadata, an ImageJ description, or what tifffile wrote itself; pages
without any of these are slices. Pixel sizes come from the same places, else from the
resolution tags unless those look like a print resolution. Palettes become colours, except
in ImageJ files, where they are for display only.
"""

import re
import struct
from collections.abc import Iterator
from math import isfinite, prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ImageError
from uvea.images.format import DEFLATE_RATIO, Format, Stored, cannot_hold, check_size, largest_bytes
from uvea.images.image import Image

_UM = {
    "nm": 1e-3, "nanometer": 1e-3, "å": 1e-4, "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0,
    "micrometer": 1.0, "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "centimeter": 1e4, "m": 1e6, "inch": 25400.0,
    "in": 25400.0,
}  # fmt: skip
"""Micrometres in a unit, by the names that OME and ImageJ use."""

_PRINT_DPI = (1, 72, 75, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 400, 600, 1200)
"""Resolutions that image editors and cameras fill in without knowing the object."""

_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
_IMAGEJ_BYTES = 2**31
"""ImageJ has no BigTIFF; stay clear of the 4 GiB at which offsets overflow."""

_OME_TYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")

_RATIOS = {1: 1, 8: DEFLATE_RATIO, 32946: DEFLATE_RATIO, 32773: 64, 5: 4096, 7: 64 * 8 * 3}
"""The most by which a compression shrinks, by its tag: none, deflate twice, PackBits, LZW (a table of 4096
strings), JPEG (a bit per block of 64)."""

_TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0])
"""Bytes per value of each TIFF data type, by its number."""

Sizes = dict[str, tuple[float, str]]
"""Size of a pixel and its unit as the file spells it, by axis letter."""


class _AnyTiff(Format):
    """What both names share: the metadata say what a file is, not its name."""

    def read(self, path: Path) -> Stored:
        """Read the one image in the file; pyramid levels but the first, and thumbnails, are left aside."""
        import tifffile

        _check_pages(path)
        with tifffile.TiffFile(path) as file:
            series = _only_series(path, file)
            _check_series(path, series)
            array = np.asarray(series.asarray())
            array, axes = _named(array, series.axes.lower())
            array, axes = _true_colours(array, axes, series.keyframe, imagej=bool(file.is_imagej))
            spacing, unit = _spacing(axes, file, series.keyframe)
        return Stored(array=array, axes=axes, spacing=spacing, unit=unit)


class Tiff(_AnyTiff):
    """TIFF of every common kind. Writes files that ImageJ opens where it has the type."""

    name = "TIFF"
    suffixes = (".tif", ".tiff")

    def write(self, path: Path, image: Image) -> None:
        """Write one, deflate-compressed; pixel size and unit are kept, origin and direction are not."""
        import tifffile

        array, axes = _pages(image)
        options: dict[str, Any] = {
            "compression": "deflate",
            "photometric": "rgb" if axes.endswith("S") else "minisblack",
        }
        sizes = dict(zip(image.axes.upper(), image.spacing, strict=True))
        if str(array.dtype) in _IMAGEJ_TYPES and array.nbytes < _IMAGEJ_BYTES:
            metadata: dict[str, Any] = {"axes": axes, "unit": {"px": "pixel"}.get(image.unit, image.unit)}
            if "Z" in sizes:
                metadata["spacing"] = sizes["Z"]
            resolution = (1 / sizes["X"], 1 / sizes["Y"])
            tifffile.imwrite(path, array, imagej=True, metadata=metadata, resolution=resolution, **options)
        else:
            metadata = {"axes": axes, **_physical_sizes(image)}
            big = array.nbytes > _IMAGEJ_BYTES
            tifffile.imwrite(path, array, metadata=metadata, bigtiff=big, **options)


class OmeTiff(_AnyTiff):
    """OME-TIFF."""

    name = "OME-TIFF"
    suffixes = (".ome.tif", ".ome.tiff")

    def write(self, path: Path, image: Image) -> None:
        """As TIFF; float16 becomes float32, and 64-bit integers 32-bit if their values fit, as OME has neither."""
        import tifffile

        array, axes = _pages(image)
        if str(array.dtype) not in _OME_TYPES:
            narrow = _narrow_type(array)
            if narrow is None:
                raise cannot_hold(path, image, name="OME-TIFF", instead=".tif")
            array = array.astype(narrow)
        tifffile.imwrite(
            path,
            array,
            ome=True,
            metadata={"axes": axes, **_physical_sizes(image)},
            compression="deflate",
            photometric="rgb" if axes.endswith("S") else "minisblack",
            bigtiff=array.nbytes > _IMAGEJ_BYTES,
        )


def _pages(image: Image) -> tuple[NDArray[np.generic], str]:
    """The array in ImageJ's order, (t, z, c, y, x), or (…, y, x, s) for 8-bit colours."""
    array, axes = image.array, "C" + image.axes.upper()
    if image.channels == 1:
        return np.ascontiguousarray(array[0]), axes[1:]
    if image.channels == 3 and array.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(array, 0, -1)), axes[1:] + "S"
    return np.ascontiguousarray(np.moveaxis(array, 0, -3)), axes[1:-2] + "CYX"


def _narrow_type(array: NDArray[np.generic]) -> type[np.generic] | None:
    """The OME type that holds the values of an array whose own type OME lacks; None if there is none."""
    if array.dtype == np.float16:
        return np.float32
    if array.dtype.kind in "iu":
        for kind in (np.int32, np.uint32):
            if array.min() >= np.iinfo(kind).min and array.max() <= np.iinfo(kind).max:
                return kind
    return None


def _physical_sizes(image: Image) -> dict[str, Any]:
    unit = {"um": "µm", "px": "pixel"}.get(image.unit, image.unit)
    found: dict[str, Any] = {}
    for letter, size in zip(image.axes.upper(), image.spacing, strict=True):
        if letter != "T":
            found |= {f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": unit}
    return found


def _check_pages(path: Path) -> None:
    """Follow the chain of pages to its end.

    tifffile takes a chain that leads out of the file for a shorter one, and a description
    outside of it for none: a truncated stack would be a stack of fewer slices, in pixels.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise ValueError("it does not start like TIFF")
        (version,) = struct.unpack(order + "H", head[2:4])
        if version not in (42, 43):
            raise ValueError(f"it is no TIFF: version {version}")
        big = version == 43
        word = "Q" if big else "I"
        counter = order + ("Q" if big else "H")
        entry = np.dtype([("tag", order + "u2"), ("type", order + "u2"), ("count", f"{order}u{8 if big else 4}")])
        entry = np.dtype([*entry.descr, ("offset", f"{order}u{8 if big else 4}")])
        (offset,) = struct.unpack_from(order + word, head, 8 if big else 4)
        seen: set[int] = set()
        while offset:
            if offset >= size or offset in seen:
                problem = "leads in a circle" if offset in seen else f"is at byte {offset} of {size}"
                raise ValueError(f"it is truncated or damaged: page {len(seen) + 1} {problem}")
            seen.add(offset)
            file.seek(offset)
            (count,) = struct.unpack(counter, file.read(struct.calcsize(counter)))
            entries = np.frombuffer(file.read(min(count, size) * entry.itemsize), entry)
            (offset,) = struct.unpack(order + word, file.read(struct.calcsize(word)))
            lengths = _TYPE_BYTES[np.minimum(entries["type"], len(_TYPE_BYTES) - 1)] * entries["count"].astype(float)
            # Private tags beyond 32767 are not ours to judge.
            apart = (lengths > entry["offset"].itemsize) & (entries["tag"] < 32768)
            if (lengths + entries["offset"])[apart].max(initial=0) > size:
                raise ValueError(f"it is truncated or damaged: page {len(seen)} has tags beyond the end of the file")
        if not seen:
            raise ValueError("it has no pages")


def _only_series(path: Path, file: Any) -> Any:
    series = list(file.series)
    if not series:
        raise ValueError("it has no image")
    aside = re.compile("thumbnail|label|macro|overview", re.IGNORECASE)
    images = [s for s in series if not (s.keyframe.is_reduced or aside.search(s.name))] or series[:1]
    if len(images) > 1:
        listed = ", ".join(
            f"{s.name or f'image {i}'} ({'×'.join(map(str, s.shape))} {s.axes.lower()})"
            for i, s in enumerate(images[:6])
        )
        more = f" and {len(images) - 6} more" if len(images) > 6 else ""
        raise ImageError(
            f"{path} holds {len(images)} images: {listed}{more}", hint="save each of them to a file of its own"
        )
    return images[0]


def _check_series(path: Path, series: Any) -> None:
    """Refuse what cannot be true, page by page, before a byte is decoded."""
    page = series.keyframe
    if series.dtype is None or page.dtype is None:
        raise ValueError(f"its values have {page.bitspersample} bits of a kind that cannot be read")
    check_size(path, series.shape, series.dtype)
    chunk = prod(page.chunks) * page.dtype.itemsize
    if chunk > largest_bytes() or chunk > max(2**28, 4 * page.size * page.dtype.itemsize):
        raise ImageError(
            f"{path} declares tiles of {'×'.join(map(str, page.chunks))} for an image of "
            f"{'×'.join(map(str, page.shape))}; it is damaged",
            hint="copy the file again from where it came from, or leave it out",
        )
    size = page.parent.filehandle.size
    if series.dataoffset is not None:  # all pages in one run of bytes, perhaps without tags of their own
        check_size(path, series.shape, series.dtype, most=size - series.dataoffset)
        return
    stored = 0
    for number, part in enumerate(series.pages):
        if part is None:
            raise ImageError(
                f"{path} declares {len(series.pages)} pages, and page {number + 1} is not there",
                hint="put all files of the image into one folder if it has several, or save it whole to one file",
            )
        for offset, count in zip(part.dataoffsets, part.databytecounts, strict=False):
            if offset + count > part.parent.filehandle.size:
                raise ImageError(
                    f"{path} is truncated: it has pixels up to byte {offset + count} of {size}",
                    hint="copy the file again from where it came from, or leave it out",
                )
            stored += int(count) or chunk  # a chunk without bytes is one of zeros
    ratio = _RATIOS.get(int(page.compression), float("inf"))
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    check_size(path, series.shape, series.dtype, most=stored * ratio * 8 * page.dtype.itemsize / bits)


def _named(array: NDArray[np.generic], axes: str) -> tuple[NDArray[np.generic], str]:
    """Give every axis one of our letters: samples join the channels, pages of no known kind are slices.

    Letters that remain unknown are left for the reader of `Stored` to refuse.
    """
    empty = tuple(i for i, letter in enumerate(axes) if array.shape[i] == 1 and letter not in "yx")
    array = array.squeeze(empty)
    axes = "".join(letter for i, letter in enumerate(axes) if i not in empty)
    unknown = [letter for letter in axes if letter not in "tczyxs"]
    if len(unknown) == 1 and unknown[0] in "qi" and "z" not in axes:
        axes = axes.replace(unknown[0], "z")
    if "c" in axes and "s" in axes:
        array = np.moveaxis(array, axes.index("s"), axes.index("c") + (axes.index("s") > axes.index("c")))
        at = axes.index("c")
        array = array.reshape(*array.shape[:at], -1, *array.shape[at + 2 :])
        axes = axes.replace("s", "")
    return array, axes.replace("s", "c")


def _true_colours(array: NDArray[np.generic], axes: str, page: Any, *, imagej: bool) -> tuple[NDArray[np.generic], str]:
    """Undo what is stored for display: palettes, white as zero, alpha that hides nothing."""
    photometric = getattr(page.photometric, "name", "")
    if photometric == "PALETTE" and page.colormap is not None and not imagej:
        colours = np.asarray(page.colormap)
        # 16 bits by the standard, yet some programs store 8.
        colours = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
        if (colours == colours[:1]).all():
            return colours[0][array], axes
        return colours[:, array], "c" + axes
    if photometric == "MINISWHITE" and not imagej and array.dtype.kind in "bu":
        bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
        return np.bitwise_xor(array, np.asarray(2**bits - 1, dtype=array.dtype)), axes
    if "c" in axes and page.extrasamples and array.dtype.kind == "u":
        samples = array.shape[axes.index("c")]
        colour = samples == 4 and photometric == "RGB"
        gray = samples == 2 and int(page.extrasamples[-1]) in (1, 2)
        alpha = array.take(-1, axis=axes.index("c"))
        if (colour or gray) and np.all(alpha == 2 ** (8 * alpha.dtype.itemsize) - 1):
            array = array.take(range(samples - 1), axis=axes.index("c"))
            if gray:
                return array.squeeze(axes.index("c")), axes.replace("c", "")
    return array, axes


def _spacing(axes: str, file: Any, page: Any) -> tuple[tuple[float, ...], str]:
    """Pixel size per axis and its unit: "um", or "mm" where the file counts in mm or more."""
    for sizes in _stated_sizes(file, page):
        known = {a: (v, u.strip().lower()) for a, (v, u) in sizes.items() if a in axes and isfinite(v) and v > 0}
        if "x" not in known and "y" not in known:
            continue
        known.setdefault("x", known.get("y", (1.0, "")))
        known.setdefault("y", known["x"])
        if any(unit not in _UM for _, unit in known.values()):
            # Numbers without a physical unit still give the proportions of a pixel.
            return tuple(known.get(axis, (1.0, ""))[0] for axis in axes), "px"
        unit = "mm" if _UM[known["x"][1]] >= 1e3 else "um"
        scale = {"mm": 1e3, "um": 1.0}[unit]
        return tuple(v * _UM[u] / scale if u else 1.0 for v, u in (known.get(a, (1.0, "")) for a in axes)), unit
    return (), "px"


def _stated_sizes(file: Any, page: Any) -> Iterator[Sizes]:
    """What each kind of metadata says, the most deliberate first."""
    if file.is_ome:
        yield _ome_sizes(file.ome_metadata or "")
    for described in file.shaped_metadata or ():
        yield _attribute_sizes(described)
    per_x, per_y = (_rational(page, tag) for tag in ("XResolution", "YResolution"))
    if file.is_imagej:
        described = file.imagej_metadata or {}
        unit = str(described.get("unit", "pixel")).replace("\\u00B5", "µ")
        sizes = {"x": (1 / per_x, unit), "y": (1 / per_y, unit)} if per_x and per_y else {}
        if sizes and isinstance(depth := described.get("spacing"), int | float):
            sizes["z"] = (abs(float(depth)), unit)
        yield sizes
        return
    unit = {2: "inch", 3: "cm"}.get(int(getattr(page.tags.get("ResolutionUnit"), "value", 1)), "")
    if per_x and per_y and unit:
        dpi = per_x * (2.54 if unit == "cm" else 1)
        if not any(abs(dpi - printed) < 0.02 * printed for printed in _PRINT_DPI) and per_x != 1:
            # In micrometres where a pixel is that small, so that it compares with OME and ImageJ files.
            scale, unit = (_UM[unit], "um") if _UM[unit] / per_x < 100 else (1.0, unit)
            yield {"x": (scale / per_x, unit), "y": (scale / per_y, unit)}


def _ome_sizes(xml: str) -> Sizes:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return {}
    pixels = next((element for element in root.iter() if element.tag.endswith("Pixels")), None)
    return {} if pixels is None else _attribute_sizes(dict(pixels.attrib))


def _attribute_sizes(attributes: dict[str, Any]) -> Sizes:
    sizes: Sizes = {}
    for axis in "xyz":
        try:
            size = float(attributes[f"PhysicalSize{axis.upper()}"])
        except (KeyError, TypeError, ValueError):
            continue
        sizes[axis] = (size, str(attributes.get(f"PhysicalSize{axis.upper()}Unit", "µm")))  # µm is OME's default
    return sizes


def _rational(page: Any, tag: str) -> float | None:
    value = getattr(page.tags.get(tag), "value", None)
    if isinstance(value, tuple) and len(value) == 2 and value[0] > 0 and value[1] > 0:
        return float(value[0] / value[1])
    return None
