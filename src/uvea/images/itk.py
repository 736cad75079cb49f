"""NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), by SimpleITK.

The headers are read here first: SimpleITK allocates what they declare, and prints to the
terminal. The pixels of a MetaImage are read here too: SimpleITK 2.5 returns uninitialised
memory, without an error, for a damaged one, one without CompressedDataSize, or one with a
percent sign in the name of its data. Sizes are in millimetres unless the file says
otherwise, as everywhere in ITK.
"""

import zlib
from abc import abstractmethod
from collections.abc import Iterator
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


@dataclass(frozen=True)
class _Header:
    """What a header declares, and where the pixels are."""

    sizes: tuple[int, ...]
    dtype: str
    encoding: str
    """"raw", "zlib", "gzip", or another of NRRD that is left to SimpleITK."""

    data: Path | None
    """The file with the pixels; None if there are several (NRRD)."""

    start: int
    """Where they begin in it, in bytes."""

    unit: str | None


class _Itk(Format):
    """What the two families share: pixels and geometry as SimpleITK hands them over."""

    io: str

    @abstractmethod
    def header(self, path: Path) -> _Header:
        """Read the header alone; ValueError if it does not hold together."""

    @abstractmethod
    def pixels(self, header: _Header, reader: Any) -> NDArray[np.generic]:
        """The array, (…, z, y, x, c), by SimpleITK's reader or without it."""

    def read(self, path: Path) -> Stored:
        """Read one; several components per pixel, or a fourth axis, are channels."""
        header = self.header(path)
        stored = float("inf") if header.data is None else header.data.stat().st_size - header.start
        ratio = {"raw": 1, "gzip": DEFLATE_RATIO, "zlib": DEFLATE_RATIO}.get(header.encoding, float("inf"))
        check_size(path, header.sizes, header.dtype, most=max(stored, 0) * ratio)
        import SimpleITK

        library: Any = SimpleITK
        reader = library.ImageFileReader()
        reader.SetImageIO(self.io)
        reader.SetFileName(str(path))
        try:
            reader.ReadImageInformation()
            pixels = self.pixels(header, reader)
        except RuntimeError as error:
            # The last line of ITK's report says what is wrong, those before it where in its sources.
            raise ValueError(str(error).strip().rpartition("\n")[2].rpartition(": ")[2]) from error
        return _stored(pixels, reader, header.unit)

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
                if colon and not line.startswith("#"):
                    fields[key.strip().lower()] = value.removeprefix("=").strip()
            start = file.tell()
        for key in ("sizes", "type", "encoding"):
            if key not in fields:
                raise ValueError(f"its header has no {key}")
        kinds = {alias: kind for kind, aliases in _NRRD_TYPES.items() for alias in aliases}
        if fields["type"].lower() not in kinds:
            raise ImageError(f"{path} has values of type {fields['type']}", hint="save it with integer or real numbers")
        encoding = {"gz": "gzip"}.get(fields["encoding"].lower(), fields["encoding"].lower())
        data: Path | None = path
        if name := fields.get("data file", fields.get("datafile")):
            data, start = _detached(path, name), 0
        # A skip moves the start; -1 counts from the end, where only the size matters.
        skipped = fields.get("byte skip", fields.get("byteskip", "0"))
        start += max(int(skipped), 0)
        stated = fields.get("space units", "").replace('"', " ").split()
        return _Header(
            sizes=tuple(int(size) for size in fields["sizes"].split()),
            dtype=kinds[fields["type"].lower()],
            encoding=encoding,
            data=data,
            start=start,
            unit=fields.get("unit") or (stated[0] if stated else None),
        )

    def pixels(self, header: _Header, reader: Any) -> NDArray[np.generic]:
        """By SimpleITK, which notices when bytes are missing or a checksum is wrong."""
        import SimpleITK

        return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()))


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
                fields[key.strip()] = value.strip()
                if key.strip() == "ElementDataFile":
                    break
            start = file.tell()
        for key in ("NDims", "DimSize", "ElementType", "ElementDataFile"):
            if key not in fields:
                raise ValueError(f"its header has no {key}")
        kind = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
        if kind not in _META_TYPES:
            raise ImageError(f"{path} has values of type {kind}", hint="save it with integer or real numbers")
        sizes = tuple(int(size) for size in fields["DimSize"].split())
        if len(sizes) != int(fields["NDims"]):
            raise ValueError(f"its header has {len(sizes)} sizes for {fields['NDims']} dimensions")
        data: Path | None = path
        if fields["ElementDataFile"].upper() != "LOCAL":
            data, start = _detached(path, fields["ElementDataFile"]), 0
            if data is None:
                raise ImageError(
                    f"{path} says that its pixels are in several files: {fields['ElementDataFile']}",
                    hint="save it as .mha, in one file",
                )
        if fields.get("BinaryData", "True").lower() != "true":
            raise ImageError(f"{path} has its pixels as text", hint="save it in binary form")
        packed = fields.get("CompressedData", "False").lower() == "true"
        big = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))
        return _Header(
            sizes=(int(fields.get("ElementNumberOfChannels", "1")), *sizes),
            dtype=(">" if big.lower() == "true" else "<") + _META_TYPES[kind],
            encoding="zlib" if packed else "raw",
            data=data,
            start=start + max(int(fields.get("HeaderSize", "0")), 0),
            unit=fields.get("unit"),
        )

    def pixels(self, header: _Header, reader: Any) -> NDArray[np.generic]:
        """All bytes must be there, and the checksum of compressed ones must be right."""
        if header.data is None or tuple(reader.GetSize()) != header.sizes[1:]:
            raise ValueError("its header can be read in two ways")
        declared = prod(header.sizes) * np.dtype(header.dtype).itemsize
        with header.data.open("rb") as file:
            file.seek(header.start)
            content = _inflated(file, declared) if header.encoding == "zlib" else file.read(declared)
        if len(content) != declared:
            raise ValueError(f"it has {len(content)} bytes of pixels, not {declared}")
        array = np.frombuffer(content, header.dtype).reshape(header.sizes[::-1])
        return array[..., 0] if header.sizes[0] == 1 else array


def _lines(file: Any) -> Iterator[str]:
    """Header lines, stripped; a line or a header of unlikely length ends them, as in a file of another kind."""
    for _ in range(10_000):
        line = file.readline(10_000)
        if not line or len(line) == 10_000:
            return
        yield line.decode("utf-8", errors="replace").strip()


def _detached(path: Path, name: str) -> Path | None:
    """The data file a header names; None for a list or a numbered pattern."""
    data = path.parent / name
    if not data.is_file():
        if name.split()[0].upper() == "LIST" or "%" in name:
            return None
        raise ImageError(
            f"{path} says that its pixels are in {name}, which is not there",
            hint=f"copy {name} next to it: the header alone holds no image",
        )
    return data


def _inflated(file: Any, declared: int) -> bytes:
    """Decompress zlib or gzip, one byte beyond `declared` at most."""
    stream, parts, found = zlib.decompressobj(wbits=47), [], 0
    packed = b""
    while not stream.eof and found <= declared and (packed := packed or file.read(2**20)):
        parts.append(stream.decompress(packed, declared + 1 - found))
        found += len(parts[-1])
        packed = stream.unconsumed_tail
    if not stream.eof:
        raise ValueError(f"its compressed pixels do not end after {declared} bytes")
    return b"".join(parts)


def _stored(array: NDArray[np.generic], reader: Any, unit: str | None) -> Stored:
    """Put the pixels where the header says; `reader` has read it."""
    dims: int = reader.GetDimension()
    channels = "c" * (array.ndim > dims)
    spatial = {2: "yx", 3: "zyx", 4: "czyx"}.get(dims)
    if spatial is None or (channels and dims == 4):
        raise ValueError(f"an array of {array.ndim} axes is no image")
    in_space = min(dims, 3)
    matrix = np.array(reader.GetDirection()).reshape(dims, dims)[:in_space, :in_space][::-1, ::-1]
    known, factor = _UNITS.get((unit or "mm").lower(), ("px", 1.0))
    spacing = [size * factor for size in reader.GetSpacing()[:in_space][::-1]]
    nowhere = (0.0,) * in_space
    lengths = np.linalg.norm(matrix, axis=0)
    if not (lengths > 0).all():
        raise ValueError("its directions flatten an axis")
    vectors = [tuple(column) for column in (matrix / lengths).T.tolist()]
    extra = dims - in_space
    return Stored(
        array=array,
        axes=spatial + channels,
        spacing=(*[1.0] * extra, *spacing, *[1.0] * len(channels)),
        unit=known,
        origin=tuple(value * factor for value in reader.GetOrigin()[:in_space][::-1]),
        directions=(*[nowhere] * extra, *vectors, *[nowhere] * len(channels)),
    )
