"""Cell nuclei in a confocal stack: blurred along z, darker with depth, pressed against each other, none in another."""

from math import ceil, cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.datasets.synthetic.texture import Field, photograph, smooth_field

SPACING_UM = (1.0, 0.5, 0.5)
"""Slices are thicker than pixels are wide, as in most stacks. Exact in float32, so that files keep it."""

PRESSED = 0.12
"""Share of a nucleus that a neighbour may take away: it is flat where they touch."""


def draw_nuclei3d(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Field, NDArray[np.uint16]]:
    """Draw one stack.

    Args:
        rng: where the randomness comes from.
        size: (z, y, x) in voxels.

    Returns:
        Image (1, z, y, x), about 0 to 1, and ids (z, y, x): 0 background, 1 to n one nucleus each.
    """
    radius_um = rng.uniform(3.2, 4.4)
    ids, stain = _place(rng, size, radius_um)

    def texture(scale_um: float) -> Field:
        return smooth_field(rng, size, tuple(max(scale_um / step, 1.0) for step in SPACING_UM))

    stain *= np.maximum(1 + 0.2 * texture(1.6) + 0.1 * texture(0.8), 0.3)
    width = rng.uniform(0.25, 0.45)
    # A microscope blurs about three times as far along its axis as across it.
    sharp = ndimage.gaussian_filter(stain, (3 * width / SPACING_UM[0], width / SPACING_UM[1], width / SPACING_UM[2]))
    floor = rng.uniform(0.03, 0.08) * np.maximum(1 + 0.3 * texture(12), 0.2)
    fading = np.exp(-np.arange(size[0]) * SPACING_UM[0] / rng.uniform(60, 150)).astype(np.float32)
    light = fading.reshape(-1, 1, 1) * sharp + floor
    image = photograph(rng, light, photons=10 ** rng.uniform(1.7, 2.4), read_noise=rng.uniform(0.004, 0.012))
    return image[None], ids


def _place(rng: np.random.Generator, size: tuple[int, ...], radius_um: float) -> tuple[NDArray[np.uint16], Field]:
    """Ids and brightness; two of three nuclei are put next to an earlier one."""
    ids, stain = np.zeros(size, np.uint16), np.zeros(size, np.float32)
    extent = np.array(size) * SPACING_UM
    volume = 4 / 3 * pi * radius_um**3
    wanted = max(3, round(rng.uniform(0.15, 0.35) * extent.prod() / volume))
    brightness = rng.uniform(0.4, 0.75)
    centres: list[NDArray[np.float64]] = []
    for attempt in range(6 * wanted):
        centre = rng.uniform(0, 1, 3) * extent
        if centres and attempt % 3:
            away = rng.normal(size=3)
            centre = centres[rng.integers(len(centres))] + away / np.linalg.norm(away) * radius_um * rng.uniform(1.6, 2)
        glow = brightness * rng.lognormal(0, 0.2)
        if _paint(rng, ids, stain, centre=centre, radius_um=radius_um, glow=glow, number=len(centres) + 1):
            centres.append(centre)
        if len(centres) == wanted:
            break
    return ids, stain


def _paint(
    rng: np.random.Generator,
    ids: NDArray[np.uint16],
    stain: Field,
    *,
    centre: NDArray[np.float64],
    radius_um: float,
    glow: float,
    number: int,
) -> bool:
    """Paint one nucleus into both arrays, unless others would take too much of it or hardly anything is in sight."""
    radii = radius_um * rng.lognormal(0, 0.12, 3)
    angle = rng.uniform(0, pi)
    reach = [ceil(1.02 * radii.max() / step) + 1 for step in SPACING_UM]
    at = np.floor(centre / SPACING_UM).astype(int)
    window = tuple(
        slice(max(0, middle - far), max(0, min(length, middle + far + 1)))
        for middle, far, length in zip(at.tolist(), reach, ids.shape, strict=True)
    )
    z, y, x = (
        ((np.arange(part.start, part.stop) + 0.5) * step - middle).reshape([-1 if i == axis else 1 for i in range(3)])
        for axis, (part, step, middle) in enumerate(zip(window, SPACING_UM, centre.tolist(), strict=True))
    )
    along, across = cos(angle) * x + sin(angle) * y, cos(angle) * y - sin(angle) * x
    depth = 1 - np.sqrt((z / radii[0]) ** 2 + (across / radii[1]) ** 2 + (along / radii[2]) ** 2)
    inside = depth > 0
    whole = 4 / 3 * pi * radii.prod() / np.prod(SPACING_UM)
    free = inside & (ids[window] == 0)
    taken = inside.sum() - free.sum()
    if free.sum() < 0.25 * whole or taken > PRESSED * whole or ndimage.label(free)[1] != 1:
        return False
    ids[window][free] = number
    stain[window][free] = glow * depth[free] ** 0.25
    return True
