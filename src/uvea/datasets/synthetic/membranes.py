"""Neural tissue under an electron microscope: cells with dark membranes, and organelles that are as dark.

seeds -> warped Voronoi cells -> distance to the border -> mask; the same distance -> gray values
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from uvea.datasets.synthetic.texture import Field, photograph, smooth_field


def draw_membranes(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[Field, NDArray[np.bool_]]:
    """Draw one section.

    Args:
        rng: where the randomness comes from.
        size: (y, x) in pixels.

    Returns:
        Image (1, y, x), about 0 to 1, and (y, x): True in cells, False on membranes.
    """
    cell, border = _cells(rng, size)
    half_width = np.clip(2.4 + 0.6 * smooth_field(rng, size, 20), 1.4, 4.0)
    interior = border > half_width

    tone = rng.normal(0.66, 0.05, int(cell.max()) + 1).astype(np.float32)[cell]
    grain = (
        0.055 * smooth_field(rng, size, 1.6) + 0.035 * smooth_field(rng, size, 4) + 0.03 * smooth_field(rng, size, 30)
    )
    gray = tone + grain
    _add_organelles(rng, gray, border)
    # Where the section cuts a membrane at a slant, it is wide and pale.
    darkness = np.clip(0.46 + 0.09 * smooth_field(rng, size, 25), 0.24, 0.62)
    gray -= darkness * np.exp(-((border / (0.75 * half_width)) ** 2))

    gray = ndimage.gaussian_filter(gray, rng.uniform(0.7, 1.1), truncate=3)
    gray = np.asarray((gray - 0.5) * rng.uniform(0.85, 1.15) + 0.5 + rng.uniform(-0.06, 0.06), dtype=np.float32)
    return photograph(rng, gray, photons=rng.uniform(80, 250), read_noise=0.015)[None], interior


def _cells(rng: np.random.Generator, size: tuple[int, ...]) -> tuple[NDArray[np.intp], Field]:
    """Number of the cell at each pixel, and about the distance to its border in pixels."""
    margin = 40.0
    box = np.array(size) + 2 * margin
    spread = rng.uniform(32, 44)
    candidates = rng.uniform(-margin, np.array(size) + margin, (round(4 * box.prod() / spread**2), 2))
    # A seed keeps its own distance from the seeds before it: large cells lie beside bundles of small ones.
    room = spread * rng.choice([0.4, 0.7, 1.2], len(candidates), p=[0.2, 0.35, 0.45])
    seeds: list[int] = []
    for index, at in enumerate(candidates):
        apart = ((candidates[seeds] - at) ** 2).sum(1) if seeds else np.full(1, np.inf)
        if apart.min() > room[index] ** 2:
            seeds.append(index)
    points = candidates[seeds]

    # Every second pixel is searched, which is most of the time; the border is smooth enough to fill in.
    coarse = tuple(length // 2 + 1 for length in size)
    y, x = np.meshgrid(*(2 * np.arange(length, dtype=np.float32) for length in coarse), indexing="ij")
    bend = 0.16 * spread
    y = y + bend * smooth_field(rng, coarse, 0.4 * spread) + 0.2 * bend * smooth_field(rng, coarse, 0.12 * spread)
    x = x + bend * smooth_field(rng, coarse, 0.4 * spread) + 0.2 * bend * smooth_field(rng, coarse, 0.12 * spread)
    found = cKDTree(points).query(np.stack([y.ravel(), x.ravel()], 1), k=2)
    distance, nearest = np.asarray(found[0]), np.asarray(found[1])
    apart = np.linalg.norm(points[nearest[:, 0]] - points[nearest[:, 1]], axis=1)
    border = ((distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * apart)).reshape(coarse).astype(np.float32)
    border = _fill_in(_fill_in(border, 0), 1)[: size[0], : size[1]]
    # Bending stretched the distances; dividing by the slope makes them pixels again. The largest slope nearby,
    # because it is zero on the border itself, where the distance has its valley.
    slope = ndimage.gaussian_filter(ndimage.maximum_filter(np.hypot(*np.gradient(border)), 5), 3, truncate=2)
    border = border / np.clip(slope, 0.6, 2)
    cell = nearest[:, 0].reshape(coarse).repeat(2, 0).repeat(2, 1)[: size[0], : size[1]]
    return cell, border


def _fill_in(field: Field, axis: int) -> Field:
    """Put the mean of its two neighbours between any two values along an axis: n values become 2n - 1."""
    ahead = np.moveaxis(field, axis, 0)
    filled = np.empty((2 * len(ahead) - 1, *ahead.shape[1:]), dtype=np.float32)
    filled[::2] = ahead
    filled[1::2] = (ahead[:-1] + ahead[1:]) / 2
    return np.moveaxis(filled, 0, axis)


def _add_organelles(rng: np.random.Generator, gray: Field, border: Field) -> None:
    """Draw mitochondria and vesicles well inside the cells, in place."""
    roomy = np.argwhere(border > 8)
    for _ in range(round(border.size / 4000) if len(roomy) else 0):
        y, x = roomy[rng.integers(len(roomy))]
        room = float(border[y, x])
        _add_organelle(rng, gray, centre=(int(y), int(x)), radius=rng.uniform(0.45, 0.7) * min(room, 14))
    inside = np.argwhere(border > 5)
    for _ in range(round(border.size / 900) if len(inside) else 0):
        y, x = inside[rng.integers(len(inside))]
        _add_ring(gray, centre=(int(y), int(x)), radius=rng.uniform(1.6, 3.2), darkness=rng.uniform(0.1, 0.35))


def _add_organelle(rng: np.random.Generator, gray: Field, *, centre: tuple[int, int], radius: float) -> None:
    """A mitochondrion: a dark oval with a darker skin and folds inside."""
    window, y, x = _window(gray.shape, centre, 1.6 * radius)
    angle = rng.uniform(0, np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    reach = np.hypot(along / (1.35 * radius), across / (0.8 * radius))
    body = 1 / (1 + np.exp(10 * (reach - 1)))
    skin = np.exp(-(((reach - 1) / 0.15) ** 2))
    folds = 0.05 * np.sin(along * rng.uniform(1.1, 1.6) + 0.3 * across)
    gray[window] -= body * (rng.uniform(0.12, 0.25) + folds) + rng.uniform(0.05, 0.2) * skin


def _add_ring(gray: Field, *, centre: tuple[int, int], radius: float, darkness: float) -> None:
    """A vesicle: a small ring with a bright middle."""
    window, y, x = _window(gray.shape, centre, radius + 3)
    gray[window] -= darkness * np.exp(-((np.hypot(y, x) - radius) ** 2))


def _window(
    shape: tuple[int, ...], centre: tuple[int, int], reach: float
) -> tuple[tuple[slice, slice], NDArray[np.intp], NDArray[np.intp]]:
    """The part of an array around a centre, and the offsets from the centre, (y, 1) and (1, x)."""
    span = int(reach) + 1
    rows, columns = (slice(max(0, at - span), min(n, at + span + 1)) for at, n in zip(centre, shape, strict=True))
    y = np.arange(rows.start, rows.stop)[:, None] - centre[0]
    x = np.arange(columns.start, columns.stop)[None, :] - centre[1]
    return (rows, columns), y, x
