"""The border weights of the U-Net paper: pixels between close objects count more.

It sees one array of object numbers and knows nothing of losses, patches or files.

Source: Ronneberger, Fischer, Brox 2015, U-Net, equation 2.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.errors import ShapeError

LEAST = 1e-6
"""Border weights below this are 0, so that an object needs to be seen from its neighbourhood only."""


def border_weights(
    instances: NDArray[np.integer],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    balance: bool = False,
    spacing: tuple[float, ...] | None = None,
) -> NDArray[np.float32]:
    """How much each pixel should count: w_c + w0 * exp(-(d1 + d2)^2 / (2 sigma^2)).

        object 1 |<- d1 ->x<--- d2 --->| object 2

    d1 and d2 are the distances from a background pixel x to the nearest object and to the second nearest, measured
    between pixel centres. With fewer than two objects there is no border.

    Args:
        instances: (y, x) or (z, y, x); 0 is background, each larger value one object, smaller ones not annotated.
        w0: weight that is added at most, 0 or more.
        sigma: width of the border, in pixels, or in the unit of `spacing`.
        balance: whether w_c makes foreground and background count alike: half the number of annotated pixels,
            divided by the number of pixels of that side. Otherwise w_c is 1.
        spacing: pixel size, one per axis of `instances`; None for 1.

    Returns:
        The shape of `instances`; 0 where not annotated, w_c on objects.
    """
    spacing = spacing or (1.0,) * instances.ndim
    if len(spacing) != instances.ndim:
        raise ShapeError(
            f"spacing has {len(spacing)} values for {instances.ndim} axes of object numbers",
            hint="give one value per axis, or none for pixels",
        )
    background, objects = instances == 0, instances > 0
    weights: NDArray[np.float32] = (background | objects).astype(np.float32)
    if balance:
        annotated = int(weights.sum())
        for side in (background, objects):
            weights[side] = annotated / (2 * max(int(side.sum()), 1))
    reach = sigma * math.sqrt(2 * math.log(max(w0 / LEAST, 1.0)))
    nearest, second = _two_distances(instances, spacing, reach)
    weights[background] += border_weight(nearest + second, w0=w0, sigma=sigma)[background]
    return weights


def border_weight(total: NDArray[np.floating], *, w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    """The second term of the sum above, for d1 + d2 = `total`; 0 at infinity."""
    weights: NDArray[np.float32] = (w0 * np.exp(-(total**2) / (2 * sigma**2))).astype(np.float32)
    return weights


def _two_distances(
    instances: NDArray[np.integer], spacing: tuple[float, ...], reach: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance to the nearest and to the second nearest object; infinite, or too large, beyond `reach`."""
    ids, numbers = np.unique(np.maximum(instances, 0), return_inverse=True)
    numbers = numbers.reshape(instances.shape) + (0 if ids[:1] == 0 else 1)
    nearest = np.full(instances.shape, np.inf, dtype=np.float32)
    second = nearest.copy()
    margins = [math.ceil(reach / step) for step in spacing]
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        near = tuple(
            slice(max(side.start - margin, 0), side.stop + margin) for side, margin in zip(box, margins, strict=True)
        )
        distance = ndimage.distance_transform_edt(numbers[near] != number, sampling=spacing).astype(np.float32)
        second[near] = np.minimum(second[near], np.maximum(nearest[near], distance))
        nearest[near] = np.minimum(nearest[near], distance)
    return nearest, second
