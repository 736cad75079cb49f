"""TIFF and OME-TIFF, by tifffile and imagecodecs.

Axes come from OME metadata, an ImageJ description, or what tifffile wrote itself; pages
without any of these are slices. Pixel sizes come from the same places, else from the
resolution tags unless those look like a print resolution; where that leaves out how far
slices are apart, there is no pixel size. Palettes become colours, except
in ImageJ files, where they are for display only.
"""

import re
import struct
from collections.abc import Iterator
from itertools import islice
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

_JPEG2000 = (33003, 33004, 33005, 34712)
_RATIOS = {
    1: 1, 5: 4096, 7: 64 * 8 * 3, 8: DEFLATE_RATIO, 32773: 64, 32946: DEFLATE_RATIO, 34925: 2**13, 50000: 2**15,
    **dict.fromkeys((2, 3, 4, *_JPEG2000), float("inf")),
}  # fmt: skip
"""The compressions that are read, by their tag, and the most by which they shrink: none, LZW (a table of 4096 strings),
JPEG (a bit per block of 64), deflate, PackBits, LZMA, Zstandard (four bytes per block of 128 KiB); fax, JPEG 2000."""

MISSING_BYTES = 2**22
"""Strips and tiles may be left out for zeros; larger ones count as this, so that no file can be all zeros left out."""

MOST_PLANES = 10**6
"""Planes that OME metadata may speak of. They are counted in vain before it is seen that they are not there."""

LOOKED_AT = 16
"""Pages whose size is looked at for the largest one."""

_TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0])
"""Bytes per value of each TIFF data type, by its number."""

_COUNTS = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 32997, 32998)
"""Tags of sizes, places, numbers and kinds. With a width of -1, tifffile counts pages backwards and never ends."""

_UNSIGNED = (1, 3, 4, 16, 18)

Sizes = dict[str, tuple[float, str]]
"""Size of a pixel and its unit as the file spells it, by axis letter."""


class _AnyTiff(Format):
    """What both names share: the metadata say what a file is, not its name."""

    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read the one image in the file; pyramid levels but the first, and thumbnails, are left aside."""
        import tifffile

        _check_pages(path)
        # Micro-Manager's own metadata name other files to open; what it writes is OME-TIFF as well.
        with tifffile.TiffFile(path, is_mmstack=False, is_ndtiff=False) as file:
            if file.is_ome:
                # tifffile makes a list of as many planes as the sizes there are larger than a page.
                largest = max(page.size for page in islice(file.pages, LOOKED_AT))
                _check_ome(path, file.ome_metadata or "", most=MOST_PLANES * max(largest, 1))
            series = _only_series(path, file)
            _check_series(path, series, max_pixels=max_pixels)
            array = np.asarray(series.asarray())
            array, axes = _named(array, series.axes.lower())
            if not (array.dtype == np.bool_ and _by_tifffile(file)):
                array, axes = _true_colours(array, axes, series.keyframe, imagej=bool(file.is_imagej))
            spacing, unit, depth_unknown = _spacing(axes, file, series.keyframe)
        return Stored(array=array, axes=axes, spacing=spacing, unit=unit, depth_unknown=depth_unknown)


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
            # All six, because a last axis of one pixel would be taken for samples, and the image for another one.
            lengths = dict(zip(axes, array.shape, strict=True))
            array = array.reshape([lengths.get(axis, 1) for axis in "TZCYXS"])
            metadata: dict[str, Any] = {"axes": "TZCYXS", "unit": {"px": "pixel"}.get(image.unit, image.unit)}
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
        pages = total = 0
        below: list[int] = []
        while offset or below:
            is_page = bool(offset)
            here = offset or below.pop()
            name = f"page {pages + 1}" if is_page else "a directory below a page"
            if here >= size or here in seen:
                problem = "leads in a circle" if here in seen else f"is at byte {here} of {size}"
                raise ValueError(f"it is truncated or damaged: {name} {problem}")
            seen.add(here)
            file.seek(here)
            (count,) = struct.unpack(counter, file.read(struct.calcsize(counter)))
            total += count * entry.itemsize
            if total > size:  # pages that lie over each other would be read again and again
                raise ValueError(f"it is damaged: {name} has {count} tags, more than there is room for")
            entries = np.frombuffer(file.read(count * entry.itemsize), entry)
            following = file.read(struct.calcsize(word))
            if is_page:
                (offset,) = struct.unpack(order + word, following)
                pages += 1
            lengths = _TYPE_BYTES[np.minimum(entries["type"], len(_TYPE_BYTES) - 1)] * entries["count"].astype(float)
            # Private tags beyond 32767 are not ours to judge.
            apart = (lengths > entry["offset"].itemsize) & (entries["tag"] < 32768)
            if (lengths + entries["offset"])[apart].max(initial=0) > size:
                raise ValueError(f"it is truncated or damaged: {name} has tags beyond the end of the file")
            if not np.isin(entries["type"][np.isin(entries["tag"], _COUNTS)], _UNSIGNED).all():
                raise ValueError(f"it is damaged: {name} has sizes that are no whole numbers from zero on")
            for row in entries[entries["tag"] == 330]:
                below += _offsets(file, row, order)
        if not pages:
            raise ValueError("it has no pages")


def _offsets(file: Any, row: Any, order: str) -> list[int]:
    """The places that a tag of directories below a page names; its values are known to lie in the file."""
    kind = {4: "u4", 13: "u4", 16: "u8", 18: "u8"}.get(int(row["type"]))
    if kind is None:
        raise ValueError(f"it is damaged: its directories below a page are numbers of type {row['type']}")
    dtype = np.dtype(order + kind)
    length = int(row["count"]) * dtype.itemsize
    if length <= row["offset"].itemsize:
        content = row["offset"].astype(row["offset"].dtype.newbyteorder(order)).tobytes()[:length]
    else:
        file.seek(int(row["offset"]))
        content = file.read(length)
    return [int(offset) for offset in np.frombuffer(content, dtype)]


def _check_ome(path: Path, xml: str, *, most: int) -> None:
    """Refuse metadata that name files outside of the folder, more planes than an image has, or more pixels than `most`.

    tifffile opens every file they name, and makes a list of as many planes as they say.
    """
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ValueError("its OME metadata define words of their own")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise ValueError(f"its OME metadata cannot be read: {error}") from None
    for element in root.iter():
        tag = element.tag.rpartition("}")[2]
        for key, value in element.attrib.items():
            name = key.rpartition("}")[2]
            if name == "FileName" and (
                value != Path(value).name or "\\" in value or (path.parent / value).is_symlink()
            ):
                raise ImageError(
                    f"{path} says that some of its pixels are outside of its folder, in {value[:100]}",
                    hint="put all files of the image into one folder, or save it whole to one file",
                )
            if name in ("PlaneCount", "NumPlanes", "IFD") and not 0 <= int(value) <= MOST_PLANES:
                raise ValueError(f"its OME metadata speak of {value[:20]} planes")
        if tag == "Pixels":
            sizes = [int(element.attrib[f"Size{axis}"]) for axis in "CZT"]
            if min(sizes) < 1 or prod(sizes) > MOST_PLANES:
                raise ValueError(f"its OME metadata speak of {'×'.join(map(str, sizes))[:40]} planes")
            sides = [int(element.attrib[f"Size{axis}"]) for axis in "XY"]
            if min(sides) < 1 or prod(sizes) * prod(sides) > most:
                raise ValueError(f"its OME metadata speak of planes of {'×'.join(map(str, sides))[:40]} pixels")
        if tag.startswith("ModuloAlong") and "Start" in element.attrib:
            start, end, step = (float(element.attrib.get(key, 1)) for key in ("Start", "End", "Step"))
            if not 0 <= (end - start) / step <= MOST_PLANES:
                raise ValueError(f"its OME metadata count from {start} to {end} by {step}")


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


def _check_series(path: Path, series: Any, *, max_pixels: int) -> None:
    """Refuse what cannot be true, page by page, before a byte is decoded."""
    page = series.keyframe
    if series.dtype is None or page.dtype is None:
        raise ValueError(f"its values have {page.bitspersample} bits of a kind that cannot be read")
    compression = int(page.compression)
    if compression not in _RATIOS:
        raise ImageError(
            f"{path} is compressed as {getattr(page.compression, 'name', compression)}, which is not read here",
            hint="save it with deflate, LZW or no compression",
        )
    check_size(path, series.shape, series.dtype, max_pixels=max_pixels)
    chunk = prod(page.chunks) * page.dtype.itemsize
    if chunk > largest_bytes() or chunk > max(2**28, 4 * page.size * page.dtype.itemsize):
        raise ImageError(
            f"{path} declares tiles of {'×'.join(map(str, page.chunks))} for an image of "
            f"{'×'.join(map(str, page.shape))}; it is damaged",
            hint="copy the file again from where it came from, or leave it out",
        )
    size = page.parent.filehandle.size
    if series.dataoffset is not None:  # all pages in one run of bytes, perhaps without tags of their own
        check_size(path, series.shape, series.dtype, max_pixels=max_pixels, most=size - series.dataoffset)
        return
    stored = zeros = 0
    for number, part in enumerate(series.pages):
        if part is None:
            raise ImageError(
                f"{path} declares {len(series.pages)} pages, and page {number + 1} is not there",
                hint="put all files of the image into one folder if it has several, or save it whole to one file",
            )
        if prod(page.chunked) > len(part.dataoffsets):
            raise ValueError(f"it declares {prod(page.chunked)} strips or tiles and has {len(part.dataoffsets)}")
        for offset, count in zip(part.dataoffsets, part.databytecounts, strict=False):
            if offset + count > part.parent.filehandle.size:
                raise ImageError(
                    f"{path} is truncated: it has pixels up to byte {offset + count} of {size}",
                    hint="copy the file again from where it came from, or leave it out",
                )
            if compression == 7 or compression in _JPEG2000:
                _check_chunk(part.parent.filehandle, int(offset), int(count), page)
            stored += int(count)
            zeros += 0 if count else min(chunk, MISSING_BYTES)  # a chunk without bytes is one of zeros
    ratio = _RATIOS[compression]
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    most = (stored * ratio + zeros) * 8 * page.dtype.itemsize / bits
    check_size(path, series.shape, series.dtype, max_pixels=max_pixels, most=most)


def _check_chunk(file: Any, offset: int, count: int, page: Any) -> None:
    """Refuse a JPEG or JPEG 2000 image whose own header says another size than the tile or strip that it is."""
    file.seek(offset)
    content = file.read(count)
    if not content:
        return
    rows, columns = _jpeg_size(content) if int(page.compression) == 7 else _jpeg2000_size(content)
    most = (page.tilelength, page.tilewidth) if page.is_tiled else (page.imagelength, page.imagewidth)
    if rows > most[0] + 15 or columns > most[1] + 15:  # some programs write whole blocks
        raise ValueError(f"a part of its pixels is {rows}×{columns}, larger than a strip or tile")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Rows and columns that a JPEG declares."""
    place = 2
    while place + 9 <= len(content) and content[place] == 0xFF:
        kind, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            rows, columns = struct.unpack_from(">HH", content, place + 5)
            return rows, columns
        place += 1 if kind == 0xFF else 2 + length
    raise ValueError("a part of its pixels is no JPEG")


def _jpeg2000_size(content: bytes) -> tuple[int, int]:
    """Rows and columns that a JPEG 2000 declares."""
    place = content.find(b"\xff\x4f\xff\x51")
    if place < 0 or len(content) < place + 24:
        raise ValueError("a part of its pixels is no JPEG 2000")
    columns, rows, left, top = struct.unpack_from(">IIII", content, place + 8)
    return rows - top, columns - left


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


def _by_tifffile(file: Any) -> bool:
    """Whether tifffile wrote the file. It stores True as 1 and says of it, against the standard, that 0 is white."""
    software = str(getattr(file.pages[0].tags.get("Software"), "value", ""))
    described = (file.ome_metadata or "") if file.is_ome else ""
    return bool(file.is_shaped) or software.startswith("tifffile") or 'Creator="tifffile' in described


def _spacing(axes: str, file: Any, page: Any) -> tuple[tuple[float, ...], str, bool]:
    """Pixel size per axis and its unit: "um", or "mm" where the file counts in mm or more.

    The last is true where slices have pixels of a known size and an unknown distance, which is given as 1.
    """
    for sizes in _stated_sizes(file, page):
        known = {a: (v, u.strip().lower()) for a, (v, u) in sizes.items() if a in axes and isfinite(v) and v > 0}
        if "x" not in known and "y" not in known:
            continue
        known.setdefault("x", known.get("y", (1.0, "")))
        known.setdefault("y", known["x"])
        depth_unknown = "z" in axes and "z" not in known
        if any(unit not in _UM for _, unit in known.values()):
            # Numbers without a physical unit still give the proportions of a pixel.
            return tuple(known.get(axis, (1.0, ""))[0] for axis in axes), "px", False
        unit = "mm" if _UM[known["x"][1]] >= 1e3 else "um"
        scale = {"mm": 1e3, "um": 1.0}[unit]
        lengths = (known.get(axis, (1.0, "")) for axis in axes)
        return tuple(v * _UM[u] / scale if u else 1.0 for v, u in lengths), unit, depth_unknown
    return (), "px", False


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
        if sizes and isinstance(depth := described.get("spacing", 1.0), int | float):  # ImageJ leaves 1 out
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
