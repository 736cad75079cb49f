"""A scan of a body with two kinds of structure: organs, and small bright nodules in and around them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.datasets.synthetic.texture import Field, smooth_field

SPACING_MM = (2.5, 0.75, 0.75)
"""Slices are thicker than pixels are wide, as in most scans. Exact in float32, so that files keep it."""


def draw_blobs(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Field, NDArray[np.uint8]]:
    """Draw one volume.

    Args:
        rng: where the randomness comes from.
        size: (z, y, x) in voxels.

    Returns:
        Image (1, z, y, x), about 0 to 1, and classes (z, y, x): 0 the rest, 1 organs, 2 nodules.
    """
    extent = np.array(size) * SPACING_MM
    grid = np.meshgrid(
        *((np.arange(n, dtype=np.float32) + 0.5) * s for n, s in zip(size, SPACING_MM, strict=True)), indexing="ij"
    )
    reach = float(extent.min())

    def texture(scale_mm: float) -> Field:
        return smooth_field(rng, size, tuple(max(scale_mm / s, 1.0) for s in SPACING_MM))

    body = _depth(grid, centre=extent / 2, radii=extent * (0.9, *rng.uniform(0.4, 0.48, 2))) + 0.06 * texture(reach / 3)
    organs = [
        (extent * rng.uniform(0.32, 0.68, 3), reach * rng.uniform(0.13, 0.24, 3)) for _ in range(rng.integers(2, 4))
    ]
    nodules = [(extent * rng.uniform(0.25, 0.75, 3), _nodule_radii(rng, reach)) for _ in range(rng.integers(2, 4))]
    nodules += [(centre + radii * rng.uniform(-0.6, 0.6, 3), _nodule_radii(rng, reach)) for centre, radii in organs]
    organ = np.maximum.reduce([_depth(grid, centre=c, radii=r) for c, r in organs]) + 0.18 * texture(reach / 6)
    nodule = np.maximum.reduce([_depth(grid, centre=c, radii=r) for c, r in nodules]) + 0.10 * texture(reach / 10)
    classes = np.where(nodule > 0, 2, np.where(organ > 0, 1, 0)).astype(np.uint8)

    gray = np.full(size, 0.04, dtype=np.float32)
    gray = _cover(gray, body, 0.62 + 0.04 * texture(3))  # skin and fat, as bright as a nodule
    gray = _cover(gray, body - 0.12, 0.32 + 0.035 * texture(reach / 5) + 0.03 * texture(4))
    gray = _cover(gray, organ, rng.uniform(0.47, 0.56) + 0.03 * texture(5))
    gray = _cover(gray, nodule, rng.uniform(0.66, 0.76) + 0.04 * texture(3))
    gray *= 1 + 0.10 * texture(reach)  # receive coils are nearer to one side
    gray = ndimage.gaussian_filter(gray, (0.4, 0.7, 0.7), truncate=3)

    noise = np.float32(rng.uniform(0.02, 0.045)) * rng.standard_normal((2, *size), dtype=np.float32)
    # The magnitude of a complex signal: noise is Gaussian in tissue and never negative in air.
    return np.hypot(gray + noise[0], noise[1])[None], classes


def _nodule_radii(rng: np.random.Generator, reach: float) -> NDArray[np.float64]:
    return np.asarray(reach * rng.uniform(0.07, 0.12) * rng.uniform(0.8, 1.25, 3))


def _depth(grid: Sequence[Field], *, centre: NDArray[np.float64], radii: NDArray[np.float64]) -> Field:
    """1 at the centre of an ellipsoid, 0 on its surface, negative outside. All in millimetres."""
    squares = [((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)]
    return np.asarray(1 - np.sqrt(sum(squares)), dtype=np.float32)


def _cover(gray: Field, depth: NDArray[np.floating], value: NDArray[np.floating]) -> Field:
    """Put a structure over what is there; a voxel on its surface is half of each."""
    share = 1 / (1 + np.exp(np.clip(-40 * depth, -30, 30)))
    return np.asarray(gray + share * (value - gray), dtype=np.float32)
