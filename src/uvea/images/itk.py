"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd): read here, written by SimpleITK.

SimpleITK 2.5 is not given a file that may be damaged or hostile: it allocates what a header
declares, opens any file that a header names, prints to the terminal, and returns
uninitialised memory, without an error, for a damaged MetaImage. Geometry is understood as
ITK understands it, which the tests compare. Sizes are in millimetres unless the file says
otherwise, as everywhere in ITK.
"""

import re
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ImageError
from uvea.images.format import DEFLATE_RATIO, Format, Stored, check_size
from uvea.images.image import Image

_UNITS = {
    **dict.fromkeys(("mm", "millimeter", "millimeters"), ("mm", 1.0)),
    **dict.fromkeys(("um", "µm", "micron", "microns", "micrometer", "micrometers"), ("um", 1.0)),
    "nm": ("um", 1e-3),
    "cm": ("mm", 10.0),
    "m": ("mm", 1000.0),
}
"""Our unit, and how many of it, by the names that files use; other names count as px."""

_META_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4",
    "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip

_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip


_RATIOS = {"raw": 1, "gzip": DEFLATE_RATIO, "zlib": DEFLATE_RATIO}
"""The encodings that are read, and the most by which they shrink."""

_FLIPS = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1.0, -1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1.0, -1.0, 1.0)),
}
"""Signs that turn (x, y, z) of a space of NRRD into left, back, head; other spaces are taken as they are."""

_SPATIAL_KINDS = ("domain", "space", "time", "none", "???")
"""The kinds of a NRRD axis that are no channels; all others are, such as list, vector and RGB-color."""

_MOST_AXES = 16

Vector = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What a header declares, and where the pixels are. Axes as in the file: the fastest first."""

    sizes: tuple[int, ...]
    channel: int | None
    """Which of the axes holds channels."""

    dtype: str
    encoding: str
    data: Path
    """The file with the pixels."""

    start: int
    """Where they begin in it, in bytes; -1: so that they end with the file."""

    spacing: Vector
    """Per axis but channels."""

    directions: tuple[Vector, ...]
    """World (x, y, z) unit vector per axis but channels."""

    origin: Vector
    """World (x, y, z)."""

    unit: str | None
    oriented: bool
    """Whether it says the directions."""


class _Itk(Format):
    """What the two families share: pixels and geometry by a header of text."""

    io: str

    @abstractmethod
    def header(self, path: Path) -> _Header:
        """Read the header alone; ValueError if it does not hold together."""

    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read one; several components per pixel, or a fourth axis, are channels."""
        header = self.header(path)
        stored = header.data.stat().st_size - max(header.start, 0)
        most = max(stored, 0) * _RATIOS.get(header.encoding, 1)
        check_size(path, header.sizes, header.dtype, max_pixels=max_pixels, most=most)
        if header.encoding not in _RATIOS:
            raise ImageError(
                f"{path} has its pixels as {header.encoding:.20}", hint="save it with encoding gzip or raw"
            )
        return _stored(_pixels(header), header)

    def write(self, path: Path, image: Image) -> None:
        """Write one, compressed; bool becomes uint8 and float16 float32, as ITK has neither."""
        import SimpleITK

        library: Any = SimpleITK
        array = image.array
        kind = np.uint8 if array.dtype.kind == "b" else np.float32 if array.dtype == np.float16 else array.dtype
        array = array.astype(kind)
        if image.plane is not None:
            array = array[:, np.newaxis]
        single = image.channels == 1
        pixels = array[0] if single else np.ascontiguousarray(np.moveaxis(array, 0, -1))
        file = library.GetImageFromArray(pixels, isVector=not single)
        spacing, origin, direction = image.spacing, image.origin, image.direction
        if image.plane is not None:
            spacing, origin = (image.plane.thickness, *spacing), image.plane.origin
            direction = image.plane.direction
        file.SetSpacing(spacing[::-1])
        file.SetOrigin(origin[::-1])
        file.SetDirection(np.array(direction)[::-1, ::-1].ravel().tolist())
        if image.unit != "mm":
            file.SetMetaData("unit", image.unit)
        writer = library.ImageFileWriter()
        writer.SetImageIO(self.io)
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.Execute(file)


class Nrrd(_Itk):
    """NRRD, attached or with a header of its own (.nhdr)."""

    name = "NRRD"
    suffixes = (".nrrd", ".nhdr")
    io = "NrrdImageIO"

    def header(self, path: Path) -> _Header:
        """Read the fields up to the first empty line."""
        fields: dict[str, str] = {}
        with path.open("rb") as file:
            if not file.readline(100).startswith(b"NRRD000"):
                raise ValueError("it does not start like NRRD")
            for line in _lines(file):
                if not line:
                    break
                key, colon, value = line.partition(":")
                if colon and not line.startswith("#") and not value.startswith("="):
                    _add(fields, key.strip().lower(), value.strip())
                elif colon and not line.startswith("#"):  # "key:=value", words of the user
                    fields[f"={key.strip()}"] = value.removeprefix("=").strip()
            start = file.tell()
        for key in ("sizes", "type", "encoding"):
            if key not in fields:
                raise ValueError(f"its header has no {key}")
        kinds = {alias: kind for kind, aliases in _NRRD_TYPES.items() for alias in aliases}
        if fields["type"].lower() not in kinds:
            raise ImageError(
                f"{path} has values of type {fields['type']:.40}", hint="save it with integer or real numbers"
            )
        encoding = fields["encoding"].lower()
        data = path
        if name := fields.get("data file", fields.get("datafile")):
            data, start = _detached(path, name), 0
        # A skip moves the start; -1 counts from the end.
        skipped = _integers(fields.get("byte skip", fields.get("byteskip", "0")))[0]
        if _integers(fields.get("line skip", fields.get("lineskip", "0")))[0]:
            raise ImageError(f"{path} has lines before its pixels that are to be skipped", hint="save it without them")
        if encoding == "raw" and skipped == -1:
            start = -1
        elif encoding == "raw" or not skipped:
            start += max(skipped, 0)
        else:
            raise ImageError(f"{path} has bytes before its packed pixels to be skipped", hint="save it without them")
        sizes = _integers(fields["sizes"])
        big = {"big": ">", "little": "<"}.get(fields.get("endian", "little").lower())
        if big is None:
            raise ValueError(f"its endian is {fields['endian']}")
        stated = fields.get("space units", "").replace('"', " ").split()
        channel, spacing, directions, origin = _nrrd_geometry(fields, sizes)
        return _Header(
            sizes=sizes,
            channel=channel,
            dtype=big + kinds[fields["type"].lower()],
            encoding={"gz": "gzip"}.get(encoding, encoding),
            data=data,
            start=start,
            spacing=spacing,
            directions=directions,
            origin=origin,
            unit=fields.get("=unit") or (stated[0] if stated else None),
            oriented="space directions" in fields,
        )


class MetaImage(_Itk):
    """MetaImage, in one file (.mha) or header and data apart (.mhd)."""

    name = "MetaImage"
    suffixes = (".mha", ".mhd")
    io = "MetaImageIO"

    def write(self, path: Path, image: Image) -> None:
        """As `_Itk.write`; ITK cannot read a header that names its data with a percent sign."""
        if path.suffix == ".mhd" and "%" in path.name:
            raise ImageError(f"{path} cannot be written: MetaImage takes % for a number", hint="write it as .mha")
        super().write(path, image)

    def header(self, path: Path) -> _Header:
        """Read the fields up to ElementDataFile, which is the last."""
        fields: dict[str, str] = {}
        with path.open("rb") as file:
            for line in _lines(file):
                key, equals, value = line.partition("=")
                if not equals:
                    raise ValueError("it does not start like MetaImage")
                _add(fields, key.strip(), value.strip())
                if key.strip() == "ElementDataFile":
                    break
            start = file.tell()
        for key in ("NDims", "DimSize", "ElementType", "ElementDataFile"):
            if key not in fields:
                raise ValueError(f"its header has no {key}")
        kind = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
        if kind not in _META_TYPES:
            raise ImageError(f"{path} has values of type {kind:.40}", hint="save it with integer or real numbers")
        sizes = _integers(fields["DimSize"])
        dims = len(sizes)
        if (dims,) != _integers(fields["NDims"]):
            raise ValueError(f"its header has {dims} sizes for {fields['NDims']} dimensions")
        data = path
        if fields["ElementDataFile"].upper() != "LOCAL":
            data, start = _detached(path, fields["ElementDataFile"]), 0
        if fields.get("BinaryData", "True").lower() != "true":
            raise ImageError(f"{path} has its pixels as text", hint="save it in binary form")
        packed = fields.get("CompressedData", "False").lower() == "true"
        big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
        skipped = _integers(fields.get("HeaderSize", "0"))[0]
        matrix = _numbers(_first(fields, "TransformMatrix", "Rotation", "Orientation"), dims * dims)
        channels = _integers(fields.get("ElementNumberOfChannels", "1"))
        return _Header(
            sizes=(*channels, *sizes),
            channel=0,
            dtype=(">" if big.lower() == "true" else "<") + _META_TYPES[kind],
            encoding="zlib" if packed else "raw",
            data=data,
            start=-1 if skipped == -1 and not packed else start + max(skipped, 0),
            spacing=_numbers(_first(fields, "ElementSpacing", "ElementSize"), dims) or (1.0,) * dims,
            directions=_grouped(matrix, dims) if matrix else _identity(dims),
            origin=_numbers(_first(fields, "Offset", "Position", "Origin"), dims) or (0.0,) * dims,
            unit=fields.get("unit"),
            oriented=bool(matrix),
        )


def _lines(file: Any) -> Iterator[str]:
    """Header lines, stripped; a line or a header of unlikely length ends them, as in a file of another kind."""
    for _ in range(10_000):
        line = file.readline(10_000)
        if not line or len(line) == 10_000:
            return
        yield line.decode("utf-8", errors="replace").strip()


def _add(fields: dict[str, str], key: str, value: str) -> None:
    if fields.setdefault(key, value) != value:
        raise ValueError(f"its header says {key} twice")


def _first(fields: dict[str, str], *keys: str) -> str:
    return next((fields[key] for key in keys if key in fields), "")


def _integers(text: str) -> tuple[int, ...]:
    """Whole numbers, one at least."""
    words = text.split()
    if not words or len(words) > _MOST_AXES or not all(re.fullmatch(r"[+-]?\d{1,18}", word) for word in words):
        raise ValueError(f"its header has {text[:40]!r} where whole numbers should be")
    return tuple(map(int, words))


def _numbers(text: str, count: int) -> Vector:
    """Numbers, `count` of them or none."""
    numbers = tuple(map(float, text.split()[: count + 1]))
    if numbers and len(numbers) != count:
        raise ValueError(f"its header has {text[:40]!r} where {count} numbers should be")
    return numbers


def _grouped(numbers: Vector, length: int) -> tuple[Vector, ...]:
    return tuple(numbers[i : i + length] for i in range(0, len(numbers), length))


def _identity(dims: int) -> tuple[Vector, ...]:
    return tuple(tuple(float(i == j) for j in range(dims)) for i in range(dims))


def _nrrd_geometry(
    fields: dict[str, str], sizes: tuple[int, ...]
) -> tuple[int | None, Vector, tuple[Vector, ...], Vector]:
    """The axis with channels, if there is one; spacing and direction of the others; the origin. As ITK has it."""
    count = len(sizes)
    if (count,) != _integers(fields.get("dimension", str(count))):
        raise ValueError(f"its header has {count} sizes for {fields['dimension']} dimensions")
    kinds = fields.get("kinds", "").lower().split() or ["???"] * count
    # "(1,0,0) (0, 1, 0) none": blanks may stand anywhere
    vectors = re.findall(r"none|\([^()]*\)", fields.get("space directions", "").lower())
    steps = fields.get("spacings", "").lower().split()
    for name, found in (("kinds", kinds), ("space directions", vectors), ("spacings", steps)):
        if found and len(found) != count:
            raise ValueError(f"its header has {len(found)} {name} for {count} axes")
    spatial = [i for i in range(count) if kinds[i] in _SPATIAL_KINDS and not (vectors and vectors[i] == "none")]
    apart = [i for i in range(count) if i not in spatial]
    if "complex" in kinds:
        raise ValueError("its values are complex; save the magnitude")
    if len(apart) > 1:
        raise ValueError(f"{len(apart)} of its axes are channels")
    dims = len(spatial)
    channel = apart[0] if apart else None
    if not vectors:
        named = [1.0 if not steps or steps[i] == "nan" else float(steps[i]) for i in spatial]
        return channel, tuple(named), _identity(dims), _origin(fields, dims)
    columns = [_numbers(vectors[i].strip("()").replace(",", " "), dims) for i in spatial]
    flips = _FLIPS.get(fields.get("space", "").lower(), (1.0,) * dims)[:dims]
    spacing = tuple(float(np.linalg.norm(column)) for column in columns)
    if not all(0 < size < float("inf") for size in spacing):
        raise ValueError("its directions flatten an axis")
    directions = tuple(
        tuple(sign * part / size for sign, part in zip(flips, column, strict=True))
        for column, size in zip(columns, spacing, strict=True)
    )
    origin = tuple(sign * part for sign, part in zip(flips, _origin(fields, dims), strict=True))
    return channel, spacing, directions, origin


def _origin(fields: dict[str, str], dims: int) -> Vector:
    return _numbers(fields.get("space origin", "").strip("() ").replace(",", " "), dims) or (0.0,) * dims


def _detached(path: Path, name: str) -> Path:
    """The data file that a header names: one file, below the folder of the header.

    Raises:
        ImageError: if it is several files, somewhere else, or not there.
    """
    data = path.parent / name
    try:
        there = data.is_file()
        homes = {path.parent.resolve(), path.resolve().parent}
        inside = any(data.resolve().is_relative_to(home) for home in homes)
    except (OSError, ValueError):  # no name that a file could have
        there = inside = False
    if not there and (name.split()[0].upper() == "LIST" or "%" in name):
        raise ImageError(
            f"{path} says that its pixels are in several files: {name[:100]}",
            hint="save it in one file, as .nrrd or .mha",
        )
    if Path(name).is_absolute() or "\\" in name or ".." in Path(name).parts or (there and not inside):
        raise ImageError(
            f"{path} says that its pixels are outside of its folder, in {name[:100]}",
            hint="put both into one folder, and name the file alone in the header",
        )
    if not there:
        raise ImageError(
            f"{path} says that its pixels are in {name[:100]}, which is not there",
            hint=f"copy {name[:100]} next to it: the header alone holds no image",
        )
    return data


def _pixels(header: _Header) -> NDArray[np.generic]:
    """The array, slowest axis first. All bytes must be there, and the checksum of compressed ones must be right."""
    declared = prod(header.sizes) * np.dtype(header.dtype).itemsize
    with header.data.open("rb") as file:
        file.seek(header.start if header.start >= 0 else max(header.data.stat().st_size - declared, 0))
        packed = header.encoding != "raw"
        array = np.frombuffer(_inflated(file, declared), np.uint8) if packed else np.fromfile(file, np.uint8, declared)
    if len(array) != declared:
        raise ValueError(f"expected {declared} bytes of pixels but found {len(array)}")
    return array.view(header.dtype).reshape(header.sizes[::-1])


def _inflated(file: Any, declared: int) -> bytearray:
    """Decompress zlib or gzip, one byte beyond `declared` at most."""
    stream, content = zlib.decompressobj(wbits=47), bytearray()
    packed = b""
    while not stream.eof and len(content) <= declared and (packed := packed or file.read(2**20)):
        content += stream.decompress(packed, min(declared + 1 - len(content), 2**24))
        packed = stream.unconsumed_tail
    if not stream.eof:
        raise ValueError(f"expected {declared} bytes of pixels but found {len(content)} that do not end there")
    return content


def _stored(array: NDArray[np.generic], header: _Header) -> Stored:
    """Put the pixels where the header says."""
    dims = len(header.spacing)
    spatial = {2: "yx", 3: "zyx", 4: "czyx"}.get(dims)
    if header.channel is not None:
        array = np.moveaxis(array, array.ndim - 1 - header.channel, -1)
        if array.shape[-1] == 1:
            array = array[..., 0]
    channels = "c" * (array.ndim > dims)
    if spatial is None or (channels and dims == 4):
        raise ValueError(f"an array of {array.ndim} axes is no image")
    in_space = min(dims, 3)
    known, factor = _UNITS.get((header.unit or "mm").lower(), ("px", 1.0))
    # From (x, y, z) to (z, y, x), both the axes and the parts of their vectors.
    vectors = np.array([vector[:in_space] for vector in header.directions[:in_space]])[::-1, ::-1]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError("its directions flatten an axis")
    nowhere = (0.0,) * in_space
    extra = dims - in_space
    return Stored(
        array=array,
        axes=spatial + channels,
        spacing=(*[1.0] * extra, *_scaled(header.spacing[:in_space], factor), *[1.0] * len(channels)),
        unit=known,
        origin=_scaled(header.origin[:in_space], factor),
        oriented=header.oriented,
        directions=(*[nowhere] * extra, *map(tuple, (vectors / lengths).tolist()), *[nowhere] * len(channels)),
    )


def _scaled(lengths: Sequence[float], factor: float) -> Vector:
    """In our unit, and in the order of our axes; no negative zeros."""
    return tuple(length * factor + 0.0 for length in lengths[::-1])
