"""Objects of any kind under any lamp: colours, sizes, shapes, crowds and cameras drawn at random.

A network that has learnt to part all of these has less to learn from the images of a user, as a robot that was trained
in many simulated worlds takes the real one for another of them (domain randomisation, Tobin et al. 2017,
arXiv:1703.06907). No image looks like a certain microscope's.
"""

from collections.abc import Callable
from math import ceil, cos, exp, log, pi, sin

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from uvea.datasets.synthetic.texture import Field, photograph, smooth_field

MOST = 500
"""Objects of an image."""


def draw_objects(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Field, NDArray[np.uint16]]:
    """Draw one field of view.

    Args:
        rng: where the randomness comes from.
        size: (y, x) in pixels.

    Returns:
        Image (3, y, x), 0 to 1, gray images with three equal channels, and ids (y, x): 0 background, 1 to n one object
        each, in one piece.
    """
    radius = exp(rng.uniform(log(3.5), log(max(4, min(36, *(length / 5 for length in size))))))
    ids, depth = _tiled(rng, size, radius) if rng.random() < 0.15 else _scattered(rng, size, radius)
    stain = _stain(rng, ids, depth, radius)
    camera = _CAMERAS[rng.choice(len(_CAMERAS), p=[0.5, 0.3, 0.12, 0.08])]
    light = camera(rng, stain, radius)
    away = [np.linspace(-1, 1, length, dtype=np.float32) for length in size]
    tilt = rng.uniform(-0.15, 0.15, 2)
    light = light * (1 + tilt[0] * away[0][:, None] + tilt[1] * away[1][None, :])
    light = np.clip(light, 0, 2) ** rng.uniform(0.7, 1.4)
    photons, read_noise = 10 ** rng.uniform(1.5, 3.3), 10 ** rng.uniform(-2.7, -1.5)
    if (light == light[:1]).all():
        light = light[:1]
    noisy = photograph(rng, light, photons=photons, read_noise=read_noise)
    if rng.random() < 0.3:  # compressed, or scaled up after it was taken
        noisy = ndimage.gaussian_filter(noisy, (0, 0.7, 0.7))
    return np.clip(np.broadcast_to(noisy, (3, *size)), 0, 1).astype(np.float32), ids


def _scattered(rng: np.random.Generator, size: tuple[int, ...], radius: float) -> tuple[NDArray[np.uint16], Field]:
    """Ids, and how deep each pixel lies in its object, 0 to 1; many objects touch or lie partly under others."""
    ids, depth = np.zeros(size, np.uint16), np.zeros(size, np.float32)
    wanted = min(MOST, max(2, round(rng.uniform(0.04, 0.7) * size[0] * size[1] / (pi * radius**2))))
    crowding, spread = rng.uniform(0, 0.9), rng.uniform(0.05, 0.45)
    thinnest = rng.choice([0.2, 0.45, 0.6, 0.75])
    bump = rng.choice([0.02, 0.05, 0.09])
    aligned = rng.uniform(0, pi) if rng.random() < 0.3 else None
    centres: list[tuple[float, float, float]] = []
    for _ in range(3 * wanted):
        long = min(radius * rng.lognormal(0, spread), min(size) / 2)
        if centres and rng.random() < crowding:
            near, angle = centres[rng.integers(len(centres))], rng.uniform(0, 2 * pi)
            reach = (near[2] + long) * rng.uniform(0.6, 1.05)
            y, x = near[0] + reach * sin(angle), near[1] + reach * cos(angle)
        else:
            y, x = float(rng.uniform(0, size[0])), float(rng.uniform(0, size[1]))
        turned = rng.uniform(0, pi) if aligned is None else aligned + rng.normal(0, 0.3)
        inside, deep, window = _outline(
            rng, size, (y, x), long=long, thin=rng.uniform(thinnest, 1), turned=turned, bump=bump
        )
        free = inside & (ids[window] == 0)
        if free.sum() < max(6, 0.6 * inside.sum()):
            continue
        if free.sum() < inside.sum():
            free = _largest(free)
        centres.append((y, x, long))
        ids[window][free], depth[window][free] = len(centres), deep[free]
        if len(centres) == wanted:
            break
    return ids, depth


def _outline(
    rng: np.random.Generator,
    size: tuple[int, ...],
    centre: tuple[float, float],
    *,
    long: float,
    thin: float,
    turned: float,
    bump: float,
) -> tuple[NDArray[np.bool_], Field, tuple[slice, ...]]:
    """A bent ellipse: where it is, how deep its pixels lie, and the window of the image that it is in."""
    reach = ceil(1.5 * long) + 1
    window = tuple(
        slice(min(length, max(0, int(at) - reach)), max(0, min(length, int(at) + reach + 1)))
        for at, length in zip(centre, size, strict=True)
    )
    y = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None] - centre[0]
    x = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None, :] - centre[1]
    along = (cos(turned) * x + sin(turned) * y) / long
    across = (cos(turned) * y - sin(turned) * x) / (long * thin) + rng.normal(0, 0.15) * (along**2 - 0.3)
    turn = np.arctan2(across, along)
    edge = 1 + sum(rng.normal(0, bump) * np.cos(k * turn + rng.uniform(0, 2 * pi)) for k in (2, 3, 4, 5))
    deep = 1 - (along**2 + across**2) / edge**2
    return deep > 0, deep.astype(np.float32), window


def _tiled(rng: np.random.Generator, size: tuple[int, ...], radius: float) -> tuple[NDArray[np.uint16], Field]:
    """As `_scattered`, for cells that fill the space between their neighbours, with gaps and missing ones."""
    count = min(MOST, max(4, round(size[0] * size[1] / (pi * radius**2))))
    seeds = rng.uniform(0, 1, (count, 2)) * size
    bend = radius * rng.uniform(0, 0.3)
    y, x = np.indices(size, dtype=np.float32) + bend * np.stack([smooth_field(rng, size, radius) for _ in size])
    near, order = map(np.asarray, cKDTree(seeds).query(np.stack([y, x], axis=-1), k=2))
    nearest, depth = order[..., 0], ((near[..., 1] - near[..., 0]) / radius).astype(np.float32)
    kept = rng.random(count) < rng.uniform(0.3, 1)
    there = kept[nearest] & (depth > rng.choice([0.0, 0.1, 0.25]))
    ids = np.zeros(size, np.uint16)
    number = 0
    for index, where in enumerate(ndimage.find_objects(np.where(there, nearest + 1, 0))):
        if where is None:
            continue
        inside = _largest(there[where] & (nearest[where] == index))
        if inside.sum() >= 6:
            number += 1
            ids[where][inside] = number
    return ids, np.where(ids > 0, np.minimum(depth, 1), 0).astype(np.float32)


def _largest(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest of its pieces."""
    pieces, count = ndimage.label(inside)
    return inside if count < 2 else pieces == np.bincount(pieces[inside]).argmax()


def _stain(rng: np.random.Generator, ids: NDArray[np.uint16], depth: Field, radius: float) -> Field:
    """How much stain each pixel holds, about 1 in objects and 0 outside."""
    glow = np.exp(rng.normal(0, rng.uniform(0.05, 0.6), int(ids.max()) + 1)).astype(np.float32)
    inner, kind = np.maximum(depth, 0), rng.random()
    if kind < 0.35:
        profile = np.ones_like(depth)
    elif kind < 0.85:  # a dome
        profile = inner ** np.float32(rng.uniform(0.15, 0.8))
    else:  # a rim
        profile = 1 - np.float32(rng.uniform(0.3, 0.8)) * np.minimum(2 * inner, 1)
    texture = 1 + rng.uniform(0, 0.35) * smooth_field(rng, ids.shape, max(radius / rng.uniform(1.5, 5), 1.5))
    stain = np.where(ids > 0, glow[ids] * profile * np.maximum(texture, 0.1), 0)
    if rng.random() < 0.5:  # a dark seam between neighbours
        seam = np.zeros(ids.shape, bool)
        for axis in range(ids.ndim):
            one, other = np.moveaxis(ids, axis, 0)[1:], np.moveaxis(ids, axis, 0)[:-1]
            np.moveaxis(seam, axis, 0)[1:] |= (one != other) & (one > 0) & (other > 0)
        stain = np.where(seam, stain * rng.uniform(0.1, 0.9), stain)
    return stain.astype(np.float32)


def _blurred(rng: np.random.Generator, stain: Field, radius: float) -> Field:
    return np.asarray(ndimage.gaussian_filter(stain, rng.uniform(0.3, min(2.0, 0.6 + radius / 8)), truncate=3))


def _fluorescence(rng: np.random.Generator, stain: Field, radius: float) -> Field:
    """Bright on dark, with haze, out-of-focus things and specks; a gray picture (1, y, x)."""
    size = stain.shape
    haze = rng.uniform(0, 0.35) * ndimage.gaussian_filter(stain, radius * rng.uniform(0.7, 1.5), truncate=2.5)
    floor = rng.uniform(0.01, 0.2) * np.maximum(1 + 0.4 * smooth_field(rng, size, max(size) / rng.uniform(2, 12)), 0.1)
    ghosts = rng.uniform(0, 0.25) * np.maximum(smooth_field(rng, size, radius * rng.uniform(0.7, 2)) - 1, 0)
    light = _blurred(rng, stain, radius) + haze + floor + ghosts
    for _ in range(rng.poisson(rng.choice([0, 0, 3, 12]))):
        y, x = (int(rng.integers(length)) for length in size)
        light[y : y + 2, x : x + 2] += rng.uniform(0.2, 1.5)
    return np.asarray(rng.uniform(0.15, 0.7) * light[None], np.float32)


def _stained(rng: np.random.Generator, stain: Field, radius: float) -> Field:
    """Dark on bright, by a stain and a counterstain that swallow light (Beer and Lambert); colours (3, y, x)."""
    size = stain.shape
    first, second = rng.uniform(0.2, 1.2, 3), rng.uniform(0.02, 0.7, 3)
    tissue = np.maximum(smooth_field(rng, size, radius * rng.uniform(0.8, 5)) + rng.uniform(-1, 1), 0)
    fibres = np.exp(-((smooth_field(rng, size, radius * rng.uniform(0.7, 3)) / 0.15) ** 2))
    counter = rng.uniform(0, 0.9) * tissue + rng.uniform(0, 0.6) * fibres
    faint = rng.uniform(0, 0.3) * np.maximum(smooth_field(rng, size, radius) - 0.8, 0)
    sharp = _blurred(rng, stain, radius) + faint
    counter = ndimage.gaussian_filter(counter * (1 - rng.uniform(0, 1) * np.minimum(stain, 1)), 0.7)
    density = first[:, None, None] * sharp + second[:, None, None] * counter
    return np.asarray(rng.uniform(0.6, 1, 3)[:, None, None] * np.exp(-density), np.float32)


def _dark(rng: np.random.Generator, stain: Field, radius: float) -> Field:
    """Dark on bright, without colour."""
    return np.asarray(_stained(rng, stain, radius).mean(0, keepdims=True))


def _halo(rng: np.random.Generator, stain: Field, radius: float) -> Field:
    """Edges bright and dark on gray, as in phase contrast."""
    near, far = _blurred(rng, stain, radius), ndimage.gaussian_filter(stain, rng.uniform(1.5, 3.5), truncate=3)
    ground = 0.5 + 0.05 * smooth_field(rng, stain.shape, max(stain.shape) / 4)
    light = ground + rng.choice([-1, 1]) * rng.uniform(0.2, 0.6) * (near - far) + rng.uniform(-0.2, 0.2) * near
    return np.asarray(light[None], np.float32)


_CAMERAS: tuple[Callable[[np.random.Generator, Field, float], Field], ...] = (_fluorescence, _stained, _dark, _halo)
