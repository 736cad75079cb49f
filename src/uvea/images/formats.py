"""The list of formats, and what a file name says about its format."""

from pathlib import Path

from uvea.errors import ImageError
from uvea.images.format import Format
from uvea.images.itk import MetaImage, Nrrd
from uvea.images.nifti import Nifti
from uvea.images.npy import Npy
from uvea.images.raster import Bmp, Jpeg, Png
from uvea.images.tiff import OmeTiff, Tiff

FORMATS: tuple[Format, ...] = (Png(), Jpeg(), Bmp(), Tiff(), OmeTiff(), Nifti(), Nrrd(), MetaImage(), Npy())

CONVERT_DICOM = "these are DICOM files: convert each series first, for example `dcm2niix -z y '{}'`"
"""A hint; what is missing is the folder of the files."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_SUFFIXES = sorted((suffix for family in FORMATS for suffix in family.suffixes), key=len, reverse=True)


def format_for(path: Path) -> Format:
    """Find the format of a file by its suffix.

    Raises:
        ImageError: if no format has that suffix.
    """
    suffix = suffix_of(path)
    for candidate in FORMATS:
        if suffix in candidate.suffixes:
            return candidate
    raise ImageError(
        f"{path} has a suffix that is no image format here: {suffix or 'none at all'}",
        hint=CONVERT_DICOM.format(path.parent)
        if is_dicom(path)
        else f"convert it to one of {', '.join(sorted(_SUFFIXES))}",
    )


def suffix_of(path: Path) -> str:
    """The suffix in lower case, with both parts of ".nii.gz" and ".ome.tif"; the last one if it is no image.

    Example:
        >>> suffix_of(Path("brain.v2.NII.GZ"))
        '.nii.gz'
    """
    name = path.name.lower()
    return next((s for s in _SUFFIXES if name.endswith(s) and name != s), Path(name).suffix)


def is_image(path: Path) -> bool:
    """Whether the name has the suffix of an image; the file is not opened. Hidden files are not images."""
    return not path.name.startswith(".") and suffix_of(path) in _SUFFIXES


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by its suffix, or where that is no image either, by its first bytes."""
    if suffix_of(path) in _DICOM_SUFFIXES:
        return True
    try:
        if is_image(path) or not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def stem_of(path: Path) -> str:
    """The file name without its folder and without `suffix_of`."""
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)]


def mask_suffix(path: Path) -> str:
    """Suffix for the mask of that image: its own, or .png where labels would be lost (JPEG) or cramped (BMP)."""
    suffix = suffix_of(path)
    return ".png" if suffix in (*Jpeg.suffixes, *Bmp.suffixes) else suffix
