"""Blood vessels on the back of the eye: a colour photograph of a branching tree that gets thinner.

walk the tree -> centre line with radii -> nearest centre and its radius -> mask and colours
"""

from collections.abc import Iterator
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uvea.datasets.synthetic.texture import Field, smooth_field


def draw_vessels(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Field, NDArray[np.bool_]]:
    """Draw one photograph.

    Args:
        rng: where the randomness comes from.
        size: (y, x) in pixels; vessels and field of view grow with the shorter side.

    Returns:
        Image (3, y, x), red, green and blue, about 0 to 1, and (y, x): True on vessels.
    """
    scale = min(size) / 256
    view = 0.485 * min(size)
    y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) - (n - 1) / 2 for n in size), indexing="ij")
    side = rng.choice([-1.0, 1.0])
    disc = (rng.uniform(-0.12, 0.12) * view, side * rng.uniform(0.45, 0.6) * view)

    radius, strength = _tree(rng, size, disc=disc, view=view, scale=scale)
    distance, (row, column) = ndimage.distance_transform_edt(radius == 0, return_indices=True)
    near = radius[row, column]
    seen = np.hypot(y, x) < view
    mask = (distance <= near) & seen

    dark = np.clip(near + 0.5 - distance, 0, 1) * strength[row, column]
    dark *= 1 - 0.35 * np.exp(-((distance / np.maximum(0.35 * near, 0.1)) ** 2)) * (near > 1.5 * scale)
    shadow = ndimage.gaussian_filter(dark.astype(np.float32), 0.6 * scale, truncate=3)

    pale = np.exp(-((np.hypot(y - disc[0], x - disc[1]) / (0.17 * view)) ** 4))
    macula = np.exp(-(((y - disc[0]) ** 2 + (x + 0.25 * disc[1]) ** 2) / (2 * (0.2 * view) ** 2)))
    choroid = 0.025 * smooth_field(rng, size, 14 * scale) + 0.02 * smooth_field(rng, size, 4 * scale)
    glare = 1 + 0.15 * smooth_field(rng, size, 120 * scale)
    lamp = np.clip(glare * (1.05 - 0.35 * (y**2 + x**2) / view**2), 0.2, 1.5)
    tissue = lamp * (1 + choroid - 0.25 * macula)

    base = np.array([0.80, 0.42, 0.24]) * rng.uniform([0.9, 0.85, 0.7], [1.15, 1.1, 1.2])
    glow, absorbed = (0.25, 0.42, 0.38), (0.22, 0.5, 0.4)
    channels = [(base[c] * tissue + glow[c] * pale) * (1 - absorbed[c] * shadow) for c in range(3)]
    light = np.where(seen, np.stack(channels), 0.015).astype(np.float32)
    # A flash gives so much light that its counting noise is even: Gaussian noise will do.
    noise = np.float32(rng.uniform(0.012, 0.03)) * rng.standard_normal(light.shape, dtype=np.float32)
    return light + noise, mask


def _tree(
    rng: np.random.Generator, size: tuple[int, ...], *, disc: tuple[float, float], view: float, scale: float
) -> tuple[Field, Field]:
    """Centre lines as two images: the radius there, 0 elsewhere, and how dark the blood is."""
    radius = np.zeros(size, dtype=np.float32)
    strength = np.zeros(size, dtype=np.float32)
    middle = (size[0] - 1) / 2, (size[1] - 1) / 2
    towards = 0.0 if disc[1] < 0 else pi
    # Two arcades bend around the macula, each an artery and a vein; short ones leave to the other side.
    branches = [
        (*disc, towards + sign * rng.uniform(0.9, 1.5), -sign * 0.006 / scale, rng.uniform(2.0, 2.9) * scale, blood)
        for sign in (-1, 1)
        for blood in (0.65, 1.0)
    ]
    branches += [
        (*disc, towards + pi + rng.uniform(-1, 1), 0.0, rng.uniform(1.2, 1.9) * scale, blood) for blood in (0.65, 1.0)
    ]
    chances = _uniform(rng)
    while branches:
        y, x, heading, bend, thick, blood = branches.pop()
        swing = 0.0
        while thick > 0.5 * scale and y * y + x * x < view * view:
            at = round(y + middle[0]), round(x + middle[1])
            if not (0 <= at[0] < size[0] and 0 <= at[1] < size[1]):
                break
            radius[at] = max(radius[at], thick)
            strength[at] = blood * min(1.0, 0.45 + 0.4 * thick / scale)
            turn, chance, part = 0.05 * (next(chances) - 0.5), next(chances), next(chances)
            swing = 0.88 * swing + turn  # turns last for some steps: vessels meander, they do not shiver
            heading += swing / scale + bend
            y, x, thick = y + 0.8 * sin(heading), x + 0.8 * cos(heading), thick * (1 - 0.003 / scale)
            # The macula, at (disc y, -disc x / 4), feeds without visible vessels.
            if thick < 1.5 * scale and (y - disc[0]) ** 2 + (x + 0.25 * disc[1]) ** 2 < (0.17 * view) ** 2:
                break
            if chance < 0.034 / scale:
                away = (0.5 + 0.6 * part) * (1 if turn > 0 else -1)
                branches.append((y, x, heading + away, 0.0, thick * (0.4 + 0.35 * part), blood))
                heading -= 0.25 * away
                thick *= 0.95
    return radius, strength


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    """Endless random numbers in [0, 1), drawn in bulk because one at a time is ten times slower."""
    while True:
        yield from rng.random(4096).tolist()
