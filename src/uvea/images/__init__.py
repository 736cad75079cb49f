"""Files to arrays with their geometry, and back."""

from uvea.images.files import check_inside, check_max_pixels, geometry_difference, read, read_channels, write
from uvea.images.formats import (
    CONVERT_DICOM,
    FORMATS,
    format_for,
    is_dicom,
    is_image,
    mask_suffix,
    stem_of,
    suffix_of,
)
from uvea.images.image import Image, Plane

__all__ = [
    "CONVERT_DICOM",
    "FORMATS",
    "Image",
    "Plane",
    "check_inside",
    "check_max_pixels",
    "format_for",
    "geometry_difference",
    "is_dicom",
    "is_image",
    "mask_suffix",
    "read",
    "read_channels",
    "stem_of",
    "suffix_of",
    "write",
]
