"""PNG, JPEG and BMP, by pillow; 16-bit colour PNG by imagecodecs, which pillow would cut to 8 bits.

Print resolutions in these files say nothing about the object and are not read: the unit
is always px. Photographs are turned the way their EXIF orientation says, as viewers do.
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ImageFile, ImageOps, JpegImagePlugin, PngImagePlugin
from PIL import Image as Pillow

from uvea.errors import ImageError
from uvea.images.format import DEFLATE_RATIO, Format, Stored, cannot_hold, check_size
from uvea.images.image import Image

_PNG_START = b"\x89PNG\r\n\x1a\n"

_PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT")
"""What a decoder is given: size, palette, pixels, alpha, orientation, and what tells an animation."""

_MOST_SCANS = 100


class Png(Format):
    """PNG: 1, 8 and 16 bit; gray, RGB, palette, with or without alpha. Writes 1 to 4 channels, 2D."""

    name = "PNG"
    suffixes = (".png",)

    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read one; 1 bit gives bool, 2 and 4 bit gray are scaled to 0 to 255 as PNG defines."""
        with path.open("rb") as file:
            head = file.read(26)
        if head[:8] != _PNG_START or len(head) < 26 or head[12:16] != b"IHDR":
            raise ValueError("it does not start like PNG")
        width, height, bits, colour = struct.unpack(">IIBB", head[16:26])
        samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
        most = path.stat().st_size * DEFLATE_RATIO * 8 / min(bits or 8, 8)
        kind = np.uint16 if bits == 16 else np.uint8
        check_size(path, (height, width, samples), kind, max_pixels=max_pixels, most=most)
        content = _known_chunks(path)
        if bits == 16 and samples > 1:
            import imagecodecs

            return _stored(imagecodecs.png_decode(content))
        with PngImagePlugin.PngImageFile(BytesIO(content)) as image:
            return _from_pillow(path, image)

    def write(self, path: Path, image: Image) -> None:
        """Write bool, uint8 and uint16; other integers where their values fit into 16 bits."""
        array = _narrowed(path, image, name="PNG", types=(np.bool_, np.uint8, np.uint16), channels=(1, 2, 3, 4))
        if array.ndim == 3 and array.shape[2] in (2, 4) and _opaque(array[..., -1]):
            # It would be taken for alpha and dropped when read back.
            raise cannot_hold(path, image, name="PNG", instead=".tif")
        if array.dtype == np.uint16:
            import imagecodecs

            path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(array)))
        else:
            Pillow.fromarray(array).save(path, format="PNG")


class Jpeg(Format):
    """JPEG: 8 bit gray and RGB, lossy both ways."""

    name = "JPEG"
    suffixes = (".jpg", ".jpeg")

    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read one; CMYK is converted to RGB."""
        with JpegImagePlugin.JpegImageFile(path) as image:
            # One bit per 8×8 block and component is a floor for both kinds of entropy coding; 64 samples in a bit.
            most = path.stat().st_size * 8 * 64 * 3
            shape = (image.height, image.width, len(image.getbands()))
            check_size(path, shape, np.uint8, max_pixels=max_pixels, most=most)
            _check_scans(path)
            return _from_pillow(path, image)

    def write(self, path: Path, image: Image) -> None:
        """Write 1 or 3 channels of uint8, quality 95."""
        array = _narrowed(path, image, name="JPEG", types=(np.uint8,), channels=(1, 3))
        Pillow.fromarray(array).save(path, format="JPEG", quality=95)


class Bmp(Format):
    """BMP: 1 and 8 bit gray, palette, RGB."""

    name = "BMP"
    suffixes = (".bmp",)

    def read(self, path: Path, *, max_pixels: int) -> Stored:
        """Read one."""
        with BmpImagePlugin.BmpImageFile(path) as image:
            # Run-length coding makes at most 255 pixels of 2 bytes; end-of-bitmap marks may leave more out.
            most = path.stat().st_size * 255
            shape = (image.height, image.width, len(image.getbands()))
            check_size(path, shape, np.uint8, max_pixels=max_pixels, most=most)
            return _from_pillow(path, image)

    def write(self, path: Path, image: Image) -> None:
        """Write 1 or 3 channels of bool or uint8."""
        array = _narrowed(path, image, name="BMP", types=(np.bool_, np.uint8), channels=(1, 3))
        Pillow.fromarray(array).save(path, format="BMP")


def _known_chunks(path: Path) -> bytes:
    """The file without the chunks that are not needed for its pixels.

    Compressed text and colour profiles, which can swell, and all that is unknown never reach a decoder. The chunks
    are followed to the end and the checksums that matter are compared: pillow looks at neither.
    """
    parts = [_PNG_START]
    with path.open("rb") as file:
        file.seek(len(_PNG_START))
        kind = b""
        while kind != b"IEND":
            head = file.read(8)
            length, kind = struct.unpack(">I4s", head.ljust(8, b"\0"))
            data, checksum = file.read(length), file.read(4)
            if len(head) < 8 or len(checksum) < 4:
                raise ValueError("it ends before its last part")
            (stated,) = struct.unpack(">I", checksum)
            if kind[:1].isupper() and zlib.crc32(kind + data) != stated:
                raise ValueError(f"the checksum of its part {kind!r} is wrong")
            # The last one counts for pillow, the first one for us.
            if (kind == b"IHDR") != (len(parts) == 1):
                raise ValueError("it does not say its size once, in its first part")
            if kind in _PNG_CHUNKS:
                parts += [head, data, checksum]
    return b"".join(parts)


def _check_scans(path: Path) -> None:
    """Refuse a JPEG that goes over its pixels again and again: each scan takes a few bytes and the time of an image."""
    scans = path.read_bytes().count(b"\xff\xda")  # inside of pixels, 255 is always followed by 0
    if scans > _MOST_SCANS:
        raise ValueError(f"it has {scans} scans of its pixels, a photograph has a dozen")


def _from_pillow(path: Path, image: ImageFile.ImageFile) -> Stored:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(
            f"{path} is an animation of {frames} frames", hint="save the frames as a TIFF stack or as single files"
        )
    image.load()
    turned: Pillow.Image = ImageOps.exif_transpose(image)
    transparent = "transparency" in turned.info
    if turned.mode in ("P", "PA"):
        palette = turned.palette
        colours = np.frombuffer(palette.tobytes() if palette else b"", np.uint8)
        colours = colours.reshape(-1, len(palette.mode) if palette else 3)[:, :3]
        array = np.asarray(turned.convert("RGBA" if transparent or turned.mode == "PA" else "RGB"))
        if (colours == colours[:, :1]).all():
            array = array[..., [0, *range(3, array.shape[2])]]
    elif turned.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX"):
        array = np.asarray(turned.convert("RGB"))
    elif transparent and turned.mode in ("RGB", "L"):
        array = np.asarray(turned.convert("RGBA" if turned.mode == "RGB" else "LA"))
    elif turned.mode in ("I", "I;16B", "I;16L"):
        array = np.asarray(turned).astype(np.uint16)
    elif turned.mode == "1":
        # pillow's True is a byte of 255, which a view of the array as numbers would show.
        array = np.asarray(turned).astype(np.uint8) != 0
    else:
        array = np.asarray(turned)
    return _stored(array)


def _stored(array: NDArray[np.generic]) -> Stored:
    if array.ndim == 3 and array.shape[2] in (2, 4) and _opaque(array[..., -1]):
        array = array[..., :-1]
    return Stored(array=array, axes="yxc" if array.ndim == 3 else "yx")


def _opaque(alpha: NDArray[np.generic]) -> bool:
    return bool(np.all(alpha == 2 ** (8 * alpha.dtype.itemsize) - 1))


def _narrowed(
    path: Path, image: Image, *, name: str, types: tuple[type[np.generic], ...], channels: tuple[int, ...]
) -> NDArray[np.generic]:
    """The array as (y, x) or (y, x, c), in the first of `types` that holds its values."""
    array = image.array
    if image.axes != "yx" or image.channels not in channels or array.dtype.kind not in "biu":
        raise cannot_hold(path, image, name=name, instead=".tif")
    if array.dtype not in types:
        fitting = [kind for kind in types if kind is not np.bool_ and _fits(array, kind)]
        if not fitting:
            raise ImageError(
                f"{path} cannot hold the values {array.min()} to {array.max()} of {array.dtype} as {name}",
                hint="write it as .tif",
            )
        array = array.astype(fitting[0])
    if array.dtype == np.bool_ and image.channels > 1:
        raise cannot_hold(path, image, name=name, instead=".tif")
    return np.ascontiguousarray(array[0] if image.channels == 1 else np.moveaxis(array, 0, -1))


def _fits(array: NDArray[np.generic], kind: type[np.generic]) -> bool:
    limits = np.iinfo(np.dtype(kind))
    return bool(array.min() >= limits.min and array.max() <= limits.max)
