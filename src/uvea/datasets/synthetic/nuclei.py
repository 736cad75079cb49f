"""Cell nuclei under a fluorescence microscope: bright, textured, touching but never overlapping."""

from math import ceil, cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.datasets.synthetic.texture import Field, photograph, smooth_field


def draw_nuclei(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Field, NDArray[np.uint16]]:
    """Draw one field of view.

    Args:
        rng: where the randomness comes from.
        size: (y, x) in pixels.

    Returns:
        Image (1, y, x), about 0 to 1, and ids (y, x): 0 background, 1 to n one nucleus each.
    """
    radius = rng.uniform(8, 13)
    ids, stain = _place(rng, size, radius)

    chromatin = 1 + 0.22 * smooth_field(rng, size, 3.5) + 0.10 * smooth_field(rng, size, 1.7)
    stain *= np.maximum(chromatin, 0.3)
    sharp = ndimage.gaussian_filter(stain, rng.uniform(0.7, 1.5), truncate=3)
    haze = ndimage.gaussian_filter(stain, radius, truncate=2.5)

    away = [np.linspace(-1, 1, length, dtype=np.float32) ** 2 for length in size]
    lamp = 1 - rng.uniform(0.05, 0.2) * (away[0][:, None] + away[1][None, :])
    floor = rng.uniform(0.03, 0.14) * np.maximum(1 + 0.3 * smooth_field(rng, size, max(size) / 2.5), 0.2)
    light = lamp * (sharp + rng.uniform(0.05, 0.2) * haze + floor)
    image = photograph(rng, light, photons=10 ** rng.uniform(1.6, 2.5), read_noise=rng.uniform(0.004, 0.015))
    return image[None], ids


def _place(rng: np.random.Generator, size: tuple[int, ...], radius: float) -> tuple[NDArray[np.uint16], Field]:
    """Ids and brightness of nuclei that share no pixel; every other one is put next to an earlier one."""
    ids = np.zeros(size, dtype=np.uint16)
    stain = np.zeros(size, dtype=np.float32)
    wanted = max(3, round(rng.uniform(0.15, 0.4) * size[0] * size[1] / (pi * radius**2)))
    brightness = rng.uniform(0.35, 0.75)
    centres: list[tuple[float, float]] = []
    for attempt in range(4 * wanted):
        y, x = float(rng.uniform(0, size[0])), float(rng.uniform(0, size[1]))
        if centres and attempt % 2:
            near, angle = centres[rng.integers(len(centres))], rng.uniform(0, 2 * pi)
            reach = radius * rng.uniform(1.6, 2.3)
            y, x = near[0] + reach * sin(angle), near[1] + reach * cos(angle)
        if _paint(rng, ids, stain, centre=(y, x), radius=radius, brightness=brightness, number=len(centres) + 1):
            centres.append((y, x))
        if len(centres) == wanted:
            break
    return ids, stain


def _paint(
    rng: np.random.Generator,
    ids: NDArray[np.uint16],
    stain: Field,
    *,
    centre: tuple[float, float],
    radius: float,
    brightness: float,
    number: int,
) -> bool:
    """Paint one nucleus into both arrays, unless it would cover another or hardly be seen."""
    dividing = rng.random() < 0.04  # condensed chromatin: small, long and bright
    long = radius * rng.lognormal(0, 0.16) * (0.8 if dividing else 1)
    short = long * (rng.uniform(0.35, 0.5) if dividing else rng.uniform(0.65, 1))
    angle, phases = rng.uniform(0, pi), rng.uniform(0, 2 * pi, 3)
    bumps = rng.uniform(0, 0.06, 3)

    reach = ceil(1.2 * long) + 1
    window = tuple(
        slice(max(0, int(at) - reach), max(0, min(length, int(at) + reach + 1)))
        for at, length in zip(centre, ids.shape, strict=True)
    )
    y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None] - centre[0]
    x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None, :] - centre[1]
    along, across = (cos(angle) * x + sin(angle) * y) / long, (cos(angle) * y - sin(angle) * x) / short
    turn = np.arctan2(across, along)
    outline = 1 + sum(bump * np.cos(k * turn + phase) for k, bump, phase in zip((2, 3, 4), bumps, phases, strict=True))
    depth = 1 - (along**2 + across**2) / outline**2
    inside = depth > 0
    if inside.sum() < 0.2 * radius**2 or ids[window][inside].any():
        return False

    glow = brightness * rng.lognormal(0, 0.25) * (1.7 if dividing else 1)
    bright = glow * np.maximum(depth, 0) ** 0.3
    for _ in range(0 if dividing else rng.integers(0, 4)):  # nucleoli take no stain
        at = rng.uniform(-0.5, 0.5, 2)
        bright *= 1 - 0.5 * np.exp(-((along - at[0]) ** 2 + (across - at[1]) ** 2) / rng.uniform(0.02, 0.05))
    ids[window][inside] = number
    stain[window][inside] = bright[inside]
    return True
