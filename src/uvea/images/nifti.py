"""NIfTI, .nii and .nii.gz, by nibabel: it reads the header; the pixels are read here, and not a byte beyond them.

Array axes are nibabel's in reverse: (x, y, z, c) there is (c, z, y, x) here. A fourth axis
is channels. The affine is taken as nibabel reports it (sform before qform) and turned from
right-front-up to left-back-up, see `format.py`. Sizes are in millimetres where the file
does not say. Other programs may prefer the qform, and take lengths as they stand: as long as the
geometry of an image is that of its file, both forms, the units and the version are written back.
"""

import gzip
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uvea.images.format import DEFLATE_RATIO, Format, Stored, check_size
from uvea.images.image import Image

_MM = {"meter": 1000.0, "mm": 1.0, "unknown": 1.0}
"""Millimetres in NIfTI's units; micrometres stay micrometres."""

_PIXELS = b"unit px"
"""Description that says: no physical size. NIfTI has no word for it."""

EXTENSION_BYTES = 2**26
"""The most that may lie between the header and the pixels."""

TAIL_BYTES = 2**24
"""The most that may follow the pixels in a compressed file."""

_FORMS = (
    "pixdim", "qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "sform_code",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
"""The fields that say where pixels lie, and in which units."""

_NOBODY = logging.Logger("nobody", level=logging.CRITICAL + 1)
"""Hears what nibabel mends in a header, which it would print: what matters is raised."""

_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class _Header:
    """Where a file says that its pixels lie, in its own fields, and what nibabel makes of them."""

    version: int
    dims: int
    """Axes without channels: a slice of a volume may have two or three."""

    fields: Mapping[str, NDArray[np.generic]]
    affine: NDArray[np.float64]
    """In `unit`."""

    unit: str

    def holds(self, affine: NDArray[np.float64], image: Image) -> bool:
        """Whether an image still lies where its file said. How thick an ordinary 2D image is, only its file knows."""
        flat = self.dims == 2 and image.axes == "yx" and image.plane is None
        columns = [0, 1, 3] if flat else [0, 1, 2, 3]
        return self.unit == image.unit and np.allclose(self.affine[:, columns], affine[:, columns])


class Nifti(Format):
    """NIfTI-1 and NIfTI-2 with one or more channels; RGB too."""

    name = "NIfTI"
    suffixes = (".nii", ".nii.gz")

    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read one. Integers stay what they are unless the file scales them: then float32."""
        packed = path.name.lower().endswith(".gz")
        with gzip.open(path) if packed else path.open("rb") as stream:
            stored = _read(path, stream, packed=packed, max_pixels=max_pixels)
            if packed and sum(len(stream.read(2**20)) for _ in range(TAIL_BYTES // 2**20)) >= TAIL_BYTES:
                raise ValueError("it goes on long after its last pixel")  # else gzip has compared its checksum
        return stored

    def write(self, path: Path, image: Image) -> None:
        """Write one; bool becomes uint8 and float16 float32, as NIfTI has neither."""
        import nibabel

        library: Any = nibabel
        array = image.array
        kind = np.uint8 if array.dtype.kind == "b" else np.float32 if array.dtype == np.float16 else array.dtype
        array = array.astype(kind)
        affine = _affine(image)
        known = image.header
        header = known if isinstance(known, _Header) and known.holds(affine, image) else None
        flat = image.plane is None or (header is not None and header.dims == 2)
        if image.axes == "yx" and (image.channels > 1 or not flat):
            array = array[:, np.newaxis]
        array = array.T if image.channels > 1 else array[0].T
        # NIfTI-1 counts in 16 bits.
        first = max(array.shape) <= 32767 and (header is None or header.version == 1)
        # Without an affine nibabel leaves those of the header alone.
        file = (library.Nifti1Image if first else library.Nifti2Image)(array, None, dtype=array.dtype)
        file.header.set_slope_inter(1, 0)
        if image.unit == "px":
            file.header["descrip"] = _PIXELS
        if header is None:
            file.header.set_xyzt_units({"mm": "mm", "um": "micron", "px": "unknown"}[image.unit])
            _set_forms(file, affine)
        else:
            for name, value in header.fields.items():
                file.header[name] = value
        library.save(file, path)


def _set_forms(file: Any, affine: NDArray[np.float64]) -> None:
    file.set_sform(affine, code=1)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / sizes
    # A quaternion cannot shear; without the code readers take the sform.
    file.set_qform(affine, code=int(np.allclose(axes.T @ axes, np.eye(3), atol=1e-5)))


def _read(path: Path, stream: Any, *, packed: bool, max_pixels: int) -> Stored:
    """Read header and pixels. Extensions between them are skipped: their lengths may lie."""
    import nibabel
    from nibabel.volumeutils import apply_read_scaling

    library: Any = nibabel
    length = stream.read(4)
    versions = {348: library.Nifti1Header, 540: library.Nifti2Header}
    version = versions.get(int.from_bytes(length, "little")) or versions.get(int.from_bytes(length, "big"))
    if version is None:
        raise ValueError("it does not start like NIfTI")
    start = length + stream.read(version.template_dtype.itemsize - 4)
    _refuse_sizes(version(start, check=False))
    header = version.from_fileobj(BytesIO(start + bytes(4)), check=False)  # zeros: no extensions
    header.check_fix(logger=_NOBODY, error_level=40)
    if not header["magic"].item().startswith(b"n+"):
        raise ValueError("its pixels are in another file")
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    if not 2 <= len(shape) <= 5:
        raise ValueError(f"an array of {len(shape)} axes is no image")
    offset = int(header.get_data_offset())
    if not len(start) <= offset <= len(start) + EXTENSION_BYTES:
        raise ValueError(f"its pixels start at byte {offset}")
    size = path.stat().st_size
    check_size(path, shape, dtype, max_pixels=max_pixels, most=size * DEFLATE_RATIO if packed else size - offset)
    stream.read(offset - len(start))
    array = _filled(stream, shape, dtype)
    slope, intercept = header.get_slope_inter()
    if (slope, intercept) not in ((1, 0), (None, None)):
        array = apply_read_scaling(array, slope, intercept).astype(np.float32)
    if array.dtype.names and set(array.dtype.names) in ({"R", "G", "B"}, {"R", "G", "B", "A"}):
        array = np.stack([array[colour] for colour in array.dtype.names], axis=-1)
        channels = True
    else:
        channels = array.ndim > 3
    return _stored(array, channels, header)


def _refuse_sizes(header: Any) -> None:
    """Refuse pixel sizes that nibabel would mend in silence, where they say where pixels lie: no sform does."""
    axes = min(max(int(header["dim"][0]), 0), 3)
    sizes = [float(size) for size in header["pixdim"][1 : 1 + axes]]
    if header["sform_code"] <= 0 and not all(0 < size < float("inf") for size in sizes):
        raise ValueError(f"its pixel size is {' × '.join(f'{size:g}' for size in sizes)}")


def _filled(stream: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array with the next bytes of a stream, first axis fastest."""
    array = np.empty(shape[::-1], dtype)
    room = memoryview(array.reshape(-1).view(np.uint8).data)
    done = 0
    while done < len(room):
        count = stream.readinto(room[done : done + 2**24])
        if not count:
            raise ValueError(f"it has {done} of {len(room)} bytes of pixels")
        done += count
    return array.T


def _stored(array: NDArray[np.generic], channels: bool, header: Any) -> Stored:
    """Reverse the axes, fold all beyond the third into channels, and say where they lie."""
    dims = min(array.ndim - channels, 3)
    if channels:
        array = array.reshape(*array.shape[:dims], -1)
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all():
        raise ValueError("its affine is not finite")
    unit = header.get_xyzt_units()[0]
    factor, unit = (1.0, "um") if unit == "micron" else (_MM[unit], "mm")
    if header["descrip"].item() == _PIXELS:
        unit = "px"
    matrix = (_LPS @ affine[:3, :3] * factor)[::-1, ::-1]  # rows: world (z, y, x); columns: array (z, y, x)
    origin = (_LPS @ affine[:3, 3] * factor)[::-1]
    origin, matrix = origin + 0.0, matrix + 0.0  # no negative zeros
    sizes = np.linalg.norm(matrix, axis=0)
    if not (sizes > 0).all():
        raise ValueError("its affine flattens an axis")
    vectors = (matrix / sizes).T
    if dims == 2 and np.allclose(vectors[0], (1, 0, 0)) and origin[0] == 0:  # an ordinary 2D image
        sizes, vectors, origin = sizes[1:], vectors[1:, 1:], origin[1:]
    elif dims == 2:
        array = array[:, :, np.newaxis]
    spatial = "zyx"[-len(sizes) :]
    kept = _Header(
        version=1 if int(header["sizeof_hdr"]) == 348 else 2,
        dims=dims,
        fields={name: header[name].copy() for name in _FORMS},
        affine=np.diag([factor, factor, factor, 1.0]) @ affine,
        unit=unit,
    )
    nowhere = [0.0] * len(origin)
    return Stored(
        array=array.T,
        axes="c" * channels + spatial,
        spacing=(*[1.0] * channels, *sizes.tolist()),
        unit=unit,
        origin=tuple(origin.tolist()),
        oriented=bool(header["qform_code"] > 0 or header["sform_code"] > 0),
        directions=tuple(map(tuple, [*[nowhere] * channels, *vectors.tolist()])),
        header=kept,
    )


def _affine(image: Image) -> NDArray[np.float64]:
    """The 4×4 matrix from nibabel's indices (x, y, z) to right, front, up."""
    spacing, origin, direction = image.spacing, image.origin, image.direction
    matrix, offset = np.eye(3), np.zeros(3)
    if image.plane is not None:
        plane = image.plane
        matrix, offset = np.array(plane.direction) * (plane.thickness, *spacing), np.array(plane.origin)
    else:
        matrix[-len(spacing) :, -len(spacing) :] = np.array(direction) * spacing
        offset[-len(spacing) :] = origin
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ matrix[::-1, ::-1]
    affine[:3, 3] = _LPS @ offset[::-1]
    return affine
