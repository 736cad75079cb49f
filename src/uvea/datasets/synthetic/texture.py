"""What the synthetic images share: smooth random fields, and a camera with noise."""

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""One value per pixel, (y, x) or (z, y, x)."""


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], scale: float | tuple[float, ...]) -> Field:
    """Random values that change over about `scale` pixels; mean 0, standard deviation about 1.

    A cubic B-spline over a grid of random numbers: unlike a Gaussian filter, its cost does not
    grow with the scale.

    Args:
        rng: where the randomness comes from.
        shape: spatial size of the field.
        scale: pixels between grid points, one for all axes or one per axis.

    Returns:
        float32 of `shape`.
    """
    scales = (scale,) * len(shape) if isinstance(scale, int | float) else scale
    weights = [_spline_weights(length, step) for length, step in zip(shape, scales, strict=True)]
    field = rng.standard_normal(tuple(matrix.shape[1] for matrix in weights), dtype=np.float32)
    for matrix in weights:
        # Contracts the first axis and appends the new one: after all axes the order is as before.
        field = np.tensordot(field, matrix, axes=(0, 1))
    # 151/315 is the mean of the sum of the squared weights over all positions between grid points.
    return np.asarray(field * np.float32((315 / 151) ** (len(shape) / 2)), dtype=np.float32)


def photograph(rng: np.random.Generator, light: Field, *, photons: float, read_noise: float) -> Field:
    """Add the noise of counting light and of reading it out.

    Args:
        rng: where the randomness comes from.
        light: expected brightness, at least 0; 1 is as bright as `photons` counts.
        photons: counts at brightness 1; fewer are noisier.
        read_noise: standard deviation of the electronics, in units of brightness.

    Returns:
        float32, same shape; may leave the range of `light` on both sides.
    """
    counted = rng.poisson(np.maximum(light, 0) * photons).astype(np.float32) / np.float32(photons)
    return counted + np.float32(read_noise) * rng.standard_normal(light.shape, dtype=np.float32)


def _spline_weights(length: int, step: float) -> Field:
    position = np.arange(length, dtype=np.float32) / np.float32(step)
    base = position.astype(int)
    t = position - base
    weights = np.zeros((length, int(base[-1]) + 4), dtype=np.float32)
    rows = np.arange(length)
    weights[rows, base] = (1 - t) ** 3 / 6
    weights[rows, base + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[rows, base + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[rows, base + 3] = t**3 / 6
    return weights
