"""Read and write images by file name: every fault of a file becomes one `ImageError`.

What the formats share is here: errors, the order of axes, geometry, safe replacement of
files. How a format looks inside is in its own file.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from numbers import Real
from pathlib import Path

import numpy as np

from uvea.arrays.axes import LETTERS, arrange, check_axes
from uvea.durable import sync
from uvea.errors import ImageError, OutputError, ShapeError, UveaError
from uvea.images.format import MAX_PIXELS, Stored
from uvea.images.formats import format_for, stem_of, suffix_of
from uvea.images.image import Image, Plane
from uvea.images.orientation import orientation_of, turn_between


def read(path: str | Path, *, axes: str | None = None, max_pixels: int | None = None) -> Image:
    """Read an image file, which may be damaged or hostile: what it declares is checked before it is decoded.

    Args:
        path: the file; its suffix says the format.
        axes: one letter of c, t, z, y, x per axis of the array in the file, in its order; overrules what
            the file says. Letters for axes that the file lacks may stand among its own. NIfTI, NRRD and
            MetaImage are seen as zyx, the reverse of nibabel's (x, y, z), so "xyz" is the wrong way round.
        max_pixels: files that declare more, counted over all channels and slices, are refused; None: `MAX_PIXELS`.

    Returns:
        The image with values and type as stored, channel first. Palettes become RGB, or one
        channel if all their colours are gray; an alpha channel that is opaque everywhere is dropped.

    Raises:
        ImageError: if the file is missing, damaged, not what its suffix says, or too large; if `max_pixels` is no
            whole number of 1 or more.
        ShapeError: if `axes` do not fit the array, or the array has both time and slices.
    """
    check_max_pixels(max_pixels)
    path = Path(path)
    family = format_for(path)
    _check_file(path)
    try:
        # Numbers of a header that are beyond a float are checked for, not warned of.
        with np.errstate(all="ignore"):
            stored = family.read(path, max_pixels=MAX_PIXELS if max_pixels is None else max_pixels)
    except UveaError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path} does not fit into memory", hint="cut or downscale it") from error
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise _unreadable(path, family.name, error) from error
    if stored.array.dtype.kind not in "biuf":
        raise ImageError(
            f"{path} has values of type {stored.array.dtype}, which are no intensities",
            hint="save it with integer or real numbers (for complex ones, the magnitude)",
        )
    if stored.array.size == 0:
        raise ImageError(f"{path} has no pixels", hint="write the file again, or leave it out")
    try:
        return _image_of(stored, axes)
    except ShapeError as error:
        raise ShapeError(f"{path}: {error.problem}", hint=error.hint) from error


def read_channels(paths: tuple[Path, ...], *, axes: str | None = None, max_pixels: int | None = None) -> Image:
    """Read one file per channel into one image; a single file may have several channels itself.

    The type is the smallest that holds those of all files; the geometry is that of the first. `max_pixels` is for
    each file.

    Raises:
        ImageError: as `read`, or if size or geometry differ between the files.
    """
    first, *others = (read(path, axes=axes, max_pixels=max_pixels) for path in paths)
    for path, image in zip(paths[1:], others, strict=True):
        if difference := geometry_difference(first, image):
            raise ImageError(
                f"{path} and {paths[0]} are channels of one image, but their {difference}",
                hint="resample the channels to one grid, or leave the case out",
            )
    if not others:
        return first
    return first.with_array(np.concatenate([image.array for image in (first, *others)]))


def geometry_difference(first: Image, second: Image, *, tolerance: float = 1e-3) -> str | None:
    """What differs between the grids of two images, in words with both values; None if nothing.

    "orientations differ" where that is all: one is the other with axes exchanged or turned over.

    Args:
        first: one image.
        second: another; its number of channels does not matter.
        tolerance: how far spacing, origin and direction may be apart, in pixels.
    """
    ways = orientation_of(first), orientation_of(second)
    turn = turn_between(ways[1], ways[0])
    if turn and geometry_difference(first, turn.image(second), tolerance=tolerance) is None:
        return f"orientations differ: {ways[0]} and {ways[1]}"
    if (first.axes, first.shape) != (second.axes, second.shape):
        sizes = ["×".join(map(str, image.shape)) + f" ({image.axes})" for image in (first, second)]
        return f"sizes differ: {sizes[0]} and {sizes[1]}"
    if "px" in (first.unit, second.unit) and first.unit != second.unit:
        return f"units differ: {first.unit} and {second.unit}"
    if first.unit != second.unit:
        first, second = _in_millimetres(first), _in_millimetres(second)
    allowed = tolerance * min(first.spacing)
    for name, room in (("spacing", allowed), ("origin", allowed), ("direction", tolerance)):
        values, other_values = getattr(first, name), getattr(second, name)
        if not np.allclose(values, other_values, rtol=0, atol=room):
            return f"{name}s differ: {_rounded(values)} and {_rounded(other_values)}"
    return _plane_difference(first.plane, second.plane, allowed=allowed, tolerance=tolerance)


def _plane_difference(first: Plane | None, second: Plane | None, *, allowed: float, tolerance: float) -> str | None:
    """What differs between the places of two single slices. Which side is up does not matter."""
    if first is None or second is None:
        return None
    if not np.allclose(first.origin, second.origin, rtol=0, atol=allowed):
        return f"origins differ: {_rounded(first.origin)} and {_rounded(second.origin)}"
    rows, other_rows = (np.array(plane.direction)[:, 1:] for plane in (first, second))
    if not np.allclose(rows, other_rows, rtol=0, atol=tolerance):
        return f"directions differ: {_rounded(rows)} and {_rounded(other_rows)}"
    return None


def _in_millimetres(image: Image) -> Image:
    if image.unit != "um":
        return image

    def shorter(lengths: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(length / 1000 for length in lengths)

    plane = image.plane
    if plane is not None:
        plane = replace(plane, thickness=plane.thickness / 1000, origin=shorter(plane.origin))
    return replace(image, spacing=shorter(image.spacing), origin=shorter(image.origin), plane=plane, unit="mm")


def write(path: str | Path, image: Image, *, overwrite: bool = False) -> None:
    """Write an image; the suffix says the format. Missing folders are made.

    The file appears under its name when it is complete, or not at all. Integers may come back in a narrower type with
    the same values where the format has no such type, bool as uint8 and float16 as float32; other values and numbers of
    channels that a format cannot hold are refused. JPEG changes values: never use it for masks.

    Of the geometry NIfTI, NRRD and MetaImage keep all; TIFF and OME-TIFF spacing and unit, but not the time between
    frames; PNG, JPEG, BMP and NumPy nothing. A time series stays one in TIFF and OME-TIFF. NIfTI, NRRD, MetaImage and
    NumPy have no time: there it is a volume, until it is read with `axes="tyx"`.

    Raises:
        OutputError: if the file exists and `overwrite` is false, or cannot be written.
        ImageError: if the format cannot hold the image.
    """
    path = Path(path)
    family = format_for(path)
    _refuse_existing(path, overwrite)
    scratch = draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder rather than a file name: headers that name their data file then name the final one.
        scratch = tempfile.mkdtemp(prefix=".writing-", dir=path.parent)
        # Some encoders add a suffix of their own to one in capitals.
        draft = Path(scratch) / (stem_of(path) + suffix_of(path))
        family.write(draft, image.with_array(np.asarray(image.array, image.array.dtype.newbyteorder("="))))
        finals = {file: path if file == draft else path.parent / file.name for file in Path(scratch).iterdir()}
        for final in finals.values():
            _refuse_existing(final, overwrite)
        for file in sorted(finals, key=lambda file: file == draft):  # data before the header that names them
            sync(file)
            os.replace(file, finals[file])
    except ImageError as error:
        raise ImageError(error.problem.replace(str(draft), str(path)), hint=error.hint) from error
    except UveaError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {_one_line(error)}",
            hint="check that the folder may be written to and that there is room on the disk",
        ) from error
    except Exception as error:  # encoders raise whatever they like
        other = ".npy" if suffix_of(path) in (".tif", ".tiff") else ".tif"
        raise ImageError(
            f"{path} cannot be written as {family.name}: {_one_line(error)}", hint=f"write it as {other}"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def check_max_pixels(max_pixels: object) -> None:
    """Refuse a limit that is no whole number of 1 or more; None is the usual one.

    Raises:
        ImageError: with the value.
    """
    if max_pixels is None:
        return
    number = isinstance(max_pixels, Real) and not isinstance(max_pixels, bool) and float(max_pixels)
    if not (number and number >= 1 and number.is_integer()):
        raise ImageError(f"max_pixels is {max_pixels!r}", hint="give a whole number of 1 or more, or leave it out")


def check_inside(folder: Path, targets: Iterable[Path]) -> None:
    """Refuse outputs that a link in the folder would lead out of it.

    Args:
        folder: of the outputs; may be a link itself, as you chose it, and need not exist.
        targets: files to write below it. A link under the name of a file is replaced, not followed.

    Raises:
        OutputError: naming the first.
    """
    home = folder.resolve()
    for parent, target in {target.parent: target for target in targets}.items():
        if not parent.resolve().is_relative_to(home):
            raise OutputError(
                f"{target} would be written to {parent.resolve()}, as there is a link in {folder}",
                hint="remove the link, or choose another --out",
            )


def _image_of(stored: Stored, axes: str | None) -> Image:
    letters = _letters(stored, axes)
    array, spatial = arrange(stored.array, letters)
    array = np.require(array, dtype=array.dtype.newbyteorder("="), requirements=["C", "W"])
    places = [letters.index(letter) for letter in spatial]
    spacing = tuple(stored.spacing[place] for place in places) if stored.spacing else ()
    unit, depth_unknown = stored.unit, stored.depth_unknown and "z" in spatial
    if depth_unknown:
        # No distance is made up: a pixel is one wide, and a slice is one deep.
        unit, spacing = "px", (1.0, spacing[1] / spacing[2], 1.0)
    if not stored.origin or not all(any(stored.directions[place]) for place in places):
        return Image(array=array, axes=spatial, spacing=spacing, unit=unit, depth_unknown=depth_unknown)
    columns = [stored.directions[place] for place in places]
    plane = None
    origin = stored.origin
    if len(origin) > len(places):  # one slice of a volume
        slice_places = [i for i, vector in enumerate(stored.directions) if any(vector) and i not in places]
        plane = Plane(
            thickness=stored.spacing[slice_places[0]],
            origin=origin,
            direction=_rows([stored.directions[slice_places[0]], *columns]),
        )
        columns = [vector[1:] for vector in columns]
        origin = origin[1:]
        if not np.allclose(np.linalg.norm(columns, axis=1), 1):  # not parallel to the world's rows and columns
            columns = [(1.0, 0.0), (0.0, 1.0)]
    return Image(
        array=array,
        axes=spatial,
        spacing=spacing,
        unit=unit,
        origin=origin,
        direction=_rows(columns),
        oriented=stored.oriented,
        plane=plane,
        depth_unknown=depth_unknown,
        header=stored.header,
    )


def _letters(stored: Stored, axes: str | None) -> str:
    """The axes of the array: those of the user before those of the file."""
    shape = stored.array.shape
    if axes is None:
        if set(stored.axes) <= set(LETTERS):
            return check_axes(stored.axes, shape)
        raise ShapeError(
            f"the file does not say what its {len(shape)} axes ({'×'.join(map(str, shape))}) are",
            hint=f"name them in this order, for example --axes {'tczyx'[-len(shape) :] if len(shape) > 3 else 'zyx'}",
        )
    named = axes.strip().lower()
    if len(named) > len(shape) and "".join(letter for letter in named if letter in stored.axes) == stored.axes:
        return stored.axes  # the rest has size 1: one slice, or one channel
    return check_axes(axes, shape)


def _rows(columns: list[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    return tuple(zip(*columns, strict=True))


def _rounded(values: object) -> str:
    return str(np.round(np.asarray(values, dtype=float), 4).tolist())


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist", hint="check the name and the folder") from None
    except (OSError, ValueError) as error:
        raise ImageError(
            f"{path} cannot be opened: {_one_line(error)}", hint="check its name and permissions"
        ) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{path} is a folder, not an image", hint="name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path} is no ordinary file", hint="copy the image to one")
    if status.st_size == 0:
        raise ImageError(f"{path} is empty", hint="copy the file again from where it came from, or leave it out")


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already", hint="choose another place, or give --overwrite (overwrite=True)")


_TIFF = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": ("PNG", (".png",)),
    b"\xff\xd8\xff": ("JPEG", (".jpg", ".jpeg")),
    b"BM": ("BMP", (".bmp",)),
    b"II*\0": ("TIFF", _TIFF),
    b"MM\0*": ("TIFF", _TIFF),
    b"II+\0": ("TIFF", _TIFF),
    b"MM\0+": ("TIFF", _TIFF),
    b"\x1f\x8b": ("gzip", (".nii.gz",)),
    b"\x5c\x01\0\0": ("NIfTI", (".nii",)),
    b"\0\0\x01\x5c": ("NIfTI", (".nii",)),
    b"NRRD000": ("NRRD", (".nrrd", ".nhdr")),
    b"ObjectType": ("MetaImage", (".mha", ".mhd")),
    b"\x93NUMPY": ("NumPy", (".npy",)),
}
"""First bytes of a file, what they mean, and the suffixes that go with them."""


def _unreadable(path: Path, name: str, error: Exception) -> ImageError:
    with path.open("rb") as file:
        head = file.read(16)
    found = next((meaning for magic, meaning in _MAGIC.items() if head.startswith(magic)), None)
    if found and suffix_of(path) not in found[1]:
        return ImageError(
            f"{path} is no {name} file: it starts like {found[0]}", hint=f"rename it to end in {found[1][0]}"
        )
    return ImageError(
        f"{path} cannot be read as {name}: {_one_line(error)}",
        hint="copy it again from where it came from, or leave it out: it is damaged, truncated or of another kind",
    )


def _one_line(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(said.split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
