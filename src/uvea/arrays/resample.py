"""Change the size of images and label maps on the processor, with numpy and scipy.

Pixels are boxes: the outer edges of an array stay where they are, whatever its size.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Whole = TypeVar("Whole", bound=np.integer)


def resample_image(array: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Resize (c, ...) to the spatial size `shape`, linearly, smoothed first where it shrinks.

    The smoothing has the standard deviation (factor - 1) / 2 pixels per axis, which keeps
    detail finer than the new pixels from turning into false pattern.
    """
    if tuple(array.shape[1:]) == tuple(shape):
        return array
    factors = [new / old for new, old in zip(shape, array.shape[1:], strict=True)]
    sigma = [max(0.0, (1 / factor - 1) / 2) for factor in factors]
    result = np.empty((len(array), *shape), np.float32)
    for channel, plane in enumerate(array):
        smooth = ndimage.gaussian_filter(plane, sigma, mode="nearest") if any(sigma) else plane
        ndimage.zoom(smooth, factors, result[channel], order=1, mode="nearest", grid_mode=True)
    return result


def resample_labels(labels: NDArray[Whole], shape: Sequence[int]) -> NDArray[Whole]:
    """Resize a label map (...) to `shape`: each new pixel takes the label at its centre."""
    if tuple(labels.shape) == tuple(shape):
        return labels
    index = [
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(shape, labels.shape, strict=True)
    ]
    return labels[np.ix_(*index)]
