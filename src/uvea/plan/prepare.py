"""Turn an image into what the network sees, as the plan says. Training and prediction share it.

channels -> resample to the plan's spacing -> normalise
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import LARGEST_ID, LabelMap
from uvea.arrays.normalize import normalize
from uvea.arrays.resample import resample_image, resample_labels
from uvea.datasets.survey import CaseFacts
from uvea.errors import DatasetError, ImageError, ShapeError
from uvea.images.format import MAX_PIXELS
from uvea.images.image import IN_MILLIMETRES, Image
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


def prepare_mask(mask: Image, plan: Plan, *, where: str, like: Image) -> NDArray[np.integer]:
    """What `encode_truth` makes of a mask, on the grid that `like`, its image, is prepared to; (...)."""
    if mask.shape != like.shape:
        raise ShapeError(
            f"{where} is {_times(mask.shape)}, its image {_times(like.shape)} ({like.axes})",
            hint="check that both were exported from the same file",
        )
    return resample_labels(encode_truth(mask, plan, where=where), grid_of(like, plan))


def encode_truth(mask: Image, plan: Plan, *, where: str) -> NDArray[np.integer]:
    """What a network is to find, on the mask's own grid (...): classes int16, or numbers of objects int32.

    In a time series an object has another number in each frame: nothing is followed through time.

    Raises:
        DatasetError: as `LabelMap.encode_objects`, or if that makes too many numbers.
    """
    if plan.task == "semantic":
        return encode_mask(mask, plan.labels, where=where)
    if mask.axes[0] != "t":
        return plan.labels.encode_objects(mask.array, where=where)
    frames = [plan.labels.encode_objects(mask.array[:, frame], where=where) for frame in range(mask.shape[0])]
    before, kinds = 0, plan.classes - 1
    for ids in frames:
        highest = int(ids.max(initial=0))
        ids[ids > 0] += before
        # The class of an object follows from its number, see `classes_of`.
        before += -(-highest // kinds) * kinds
    if before > LARGEST_ID:
        raise DatasetError(
            f"{where} has more than {LARGEST_ID} numbers of objects in all its frames", hint="cut it into shorter parts"
        )
    return np.stack(frames)


def encode_mask(mask: Image, labels: LabelMap, *, where: str) -> NDArray[np.int16]:
    """The classes of a mask on its own grid; (...) int16."""
    encoded: NDArray[np.int16] = labels.encode(mask.array, where=where)
    return encoded


def grid_of(image: Image | CaseFacts, plan: Plan) -> tuple[int, ...]:
    """Spatial size of an image at the plan's spacing; its own size where there is nothing to resample.

    A volume that is predicted slice by slice keeps its number of slices.

    Raises:
        ImageError: if the pixel size in the file would make an image of more than `MAX_PIXELS`.
    """
    steps = _resampled(image.axes, image.spacing, image.unit, plan)
    if plan.spacing is None or not steps:
        return image.shape
    last = len(image.shape) - len(steps)
    sizes = zip(image.shape[last:], steps, strict=True)
    real = [length if have == want else length * have / want for length, (have, want) in sizes]
    if not prod(max(length, 1) for length in real) * prod(image.shape[:last]) <= MAX_PIXELS:
        raise ImageError(
            f"an image of {_times(image.shape)} pixels of {_times(image.spacing)} {image.unit} would become one of "
            f"{'×'.join(f'{length:.3g}' for length in real)} at the {_times(plan.spacing)} {plan.unit} of the training",
            hint="correct the pixel size in the file, or downscale the image",
        )
    return (*image.shape[:last], *(max(1, round(length)) for length in real))


def pixel_share(axes: str, spacing: Sequence[float], unit: str, plan: Plan) -> float:
    """How many pixels of the plan's spacing a pixel of an image is; 1 where `grid_of` has nothing to resample."""
    return prod(have / want for have, want in _resampled(axes, spacing, unit, plan))


def _resampled(axes: str, spacing: Sequence[float], unit: str, plan: Plan) -> list[tuple[float, float]]:
    """Pixel sizes of an image, in the plan's unit, and of the plan, for the axes that are brought to it; or none."""
    if plan.spacing is None or (unit == "px") != (plan.unit == "px"):
        return []
    if plan.unit == "px":  # proportions: the shortest side is one
        factor = 1 / min(spacing[1 if axes.startswith("t") else 0 :])
    else:
        factor = IN_MILLIMETRES[unit] / IN_MILLIMETRES[plan.unit]
    steps = zip((factor * n for n in spacing[-plan.dims :]), plan.spacing, strict=True)
    # A hundredth of a pixel of rounding in a header is not worth a resampling.
    return [(want, want) if abs(have / want - 1) < 0.01 else (have, want) for have, want in steps]


def _times(shape: tuple[float, ...]) -> str:
    return "×".join(f"{length:.10g}" for length in shape)
