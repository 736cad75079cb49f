"""Turn an image into what the network sees, as the plan says. Training and prediction share it.

channels -> resample to the plan's spacing -> normalise
"""

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import LabelMap
from uvea.arrays.normalize import normalize
from uvea.arrays.resample import resample_image, resample_labels
from uvea.errors import ImageError, ShapeError
from uvea.images.image import Image
from uvea.plan.plan import Plan


def prepare_image(image: Image, plan: Plan, *, where: str) -> NDArray[np.float32]:
    """The network's view of an image.

    Args:
        image: as read; gray where the plan wants colour is repeated.
        plan: what to do.
        where: named in errors.

    Returns:
        (c, ...) float32 with the spatial size of `grid_of(image, plan)`.

    Raises:
        ShapeError: for the wrong number of axes or channels.
        ImageError: for pixels that are NaN or infinite.
    """
    dims = len(image.axes)
    if dims < plan.dims or (plan.dims == 3 and image.axes != "zyx"):
        raise ShapeError(
            f"{where} has axes {image.axes} ({_times(image.shape)}), the model works on volumes (zyx)",
            hint="give volumes, or name the axes with --axes zyx",
        )
    array = image.array
    if image.channels == 1 and plan.colour:
        array = np.broadcast_to(array, (plan.channels, *image.shape))
    elif image.channels != plan.channels:
        raise ShapeError(
            f"{where} has {image.channels} channel(s), the model was trained on {plan.channels}",
            hint="give images like those of the training, or name the axes with --axes if channels were misread",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ImageError(
            f"{where} has {int((~np.isfinite(array)).sum())} pixels that are NaN or infinite",
            hint="replace them by numbers, for example with numpy.nan_to_num",
        )
    shape = grid_of(image, plan)
    if shape != image.shape:
        array = resample_image(array.astype(np.float32), shape)
    return normalize(array, plan.normalization)


def prepare_mask(mask: Image, plan: Plan, *, where: str, like: Image) -> NDArray[np.int16]:
    """The classes of a mask on the grid that `like`, its image, is prepared to; (...) int16."""
    if mask.shape != like.shape:
        raise ShapeError(
            f"{where} is {_times(mask.shape)}, its image {_times(like.shape)} ({like.axes})",
            hint="check that both were exported from the same file",
        )
    return resample_labels(encode_mask(mask, plan.labels, where=where), grid_of(like, plan))


def encode_mask(mask: Image, labels: LabelMap, *, where: str) -> NDArray[np.int16]:
    """The classes of a mask on its own grid; (...) int16."""
    encoded: NDArray[np.int16] = labels.encode(mask.array, where=where)
    return encoded


def grid_of(image: Image, plan: Plan) -> tuple[int, ...]:
    """Spatial size of an image at the plan's spacing; its own size where there is nothing to resample.

    A volume that is predicted slice by slice keeps its number of slices.
    """
    if plan.spacing is None or image.unit != plan.unit:
        return image.shape
    last = len(image.shape) - plan.dims
    sizes = zip(image.shape[last:], image.spacing[last:], plan.spacing, strict=True)
    # A hundredth of a pixel of rounding in a header is not worth a resampling.
    scaled = tuple(
        length if abs(have / want - 1) < 0.01 else max(1, round(length * have / want)) for length, have, want in sizes
    )
    return (*image.shape[:last], *scaled)


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
