"""Cut training patches out of cached images.

Which patch comes at which step depends on the seed and the step alone, so a batch can be
drawn again and a resumed run sees what an unbroken run would have seen.
Shapes: images (c, ...), labels (...), batches (b, c, ...) and (b, ...).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import classes_of

IGNORE = -1
"""Label of pixels that are not annotated, and of the padding around images smaller than a patch."""

REMEMBERED = 20_000
"""Positions kept per case and class, from which foreground patches choose their centre."""


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """One prepared case: normalised, resampled, labels encoded. Arrays may be memory-mapped."""

    name: str
    image: NDArray[np.float32]
    """(c, ...) of any size."""

    labels: NDArray[np.integer]
    """(...), 0 to classes - 1 int16, or numbers of objects int32; IGNORE."""

    positions: tuple[NDArray[np.int64], ...]
    """For each foreground class, flat indices of some of its pixels; empty where the case has none."""


def remember_positions(labels: NDArray[np.integer], classes: int, *, seed: int = 0) -> tuple[NDArray[np.int64], ...]:
    """Choose pixels of every foreground class, at most `REMEMBERED` each, for `TrainingCase.positions`."""
    rng = np.random.default_rng(seed)
    found = []
    flat = classes_of(np.asarray(labels), classes).reshape(-1)
    for label in range(1, classes):
        where = np.flatnonzero(flat == label)
        if len(where) > REMEMBERED:
            where = rng.choice(where, REMEMBERED, replace=False)
        found.append(where)
    return tuple(found)


def sampler(
    cases: Sequence[TrainingCase], patch: Sequence[int], batch: int, *, foreground: float, seed: int
) -> Callable[[int], tuple[NDArray[np.float32], NDArray[np.integer]]]:
    """Make a function from a step number to a batch of patches.

    Every case is visited before any is visited again, and a large one more than once in a round: the square root
    of the number of patches that cover it, the middle between counting images and counting pixels. A share
    `foreground` of the patches contains a pixel of a foreground class, chosen evenly among the classes of the case;
    where the case whose turn it is has none, such as a slice above the organ, another case takes its place.
    Images smaller than the patch are continued by reflection, with IGNORE as label.

    Args:
        cases: at least one.
        patch: spatial size, pixels.
        batch: patches per step.
        foreground: share in [0, 1].
        seed: start of all randomness.

    Returns:
        step -> images (b, c, *patch) float32 and labels (b, *patch) of the type that those of the cases have.
    """
    choose = patches(cases, patch, batch, foreground=foreground, seed=seed)

    def draw(step: int) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
        images = np.empty((batch, len(cases[0].image), *patch), np.float32)
        labels = np.empty((batch, *patch), cases[0].labels.dtype)
        for i, (index, start) in enumerate(choose(step)):
            images[i], labels[i] = crop(cases[index].image, cases[index].labels, start, patch)
        return images, labels

    return draw


def patches(
    cases: Sequence[TrainingCase], patch: Sequence[int], batch: int, *, foreground: float, seed: int
) -> Callable[[int], list[tuple[int, list[int]]]]:
    """Make a function from a step number to the case of each patch and its first pixel, as `sampler` takes them."""
    turn = _turns(cases, patch, batch, seed=seed)
    filled = [index for index, case in enumerate(cases) if any(map(len, case.positions))]
    empty = set(range(len(cases))).difference(filled) if filled else set()

    def choose(step: int) -> list[tuple[int, list[int]]]:
        rng = np.random.default_rng((seed, 2, step))
        found = []
        for index in turn(step):
            near = rng.random() < foreground
            one = filled[rng.integers(len(filled))] if near and index in empty else index
            found.append((one, _start(cases[one], patch, rng, near_foreground=near)))
        return found

    return choose


def _turns(cases: Sequence[TrainingCase], patch: Sequence[int], batch: int, *, seed: int) -> Callable[[int], list[int]]:
    """Make a function from a step number to the case of each patch, as `sampler` takes them."""
    visits = [round(prod(ceil(n / p) for n, p in zip(case.labels.shape, patch, strict=True)) ** 0.5) for case in cases]
    # Where all are alike, once is enough.
    fewest = min(visits)
    visited = np.repeat(np.arange(len(cases)), [max(1, round(count / fewest)) for count in visits])

    @lru_cache(maxsize=2)
    def order(epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng((seed, 1, epoch)).permutation(visited)

    def turn(step: int) -> list[int]:
        places = (divmod(place, len(visited)) for place in range(step * batch, (step + 1) * batch))
        return [int(order(epoch)[index]) for epoch, index in places]

    return turn


def crop(
    image: NDArray[np.float32], labels: NDArray[np.integer], start: Sequence[int], patch: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """Take one patch whose first pixel is `start`, which may be negative; what lies outside is reflected, IGNORE."""
    inside, outside = [], []
    for first, size, length in zip(start, patch, labels.shape, strict=True):
        low, high = max(first, 0), min(first + size, length)
        inside.append(slice(low, high))
        outside.append((low - first, first + size - high))
    pixels = image[(slice(None), *inside)]
    known = labels[tuple(inside)]
    if any(before or after for before, after in outside):
        pixels = np.pad(pixels, ((0, 0), *outside), mode="symmetric")
        known = np.pad(known, outside, constant_values=IGNORE)
    return pixels, known


def _start(case: TrainingCase, patch: Sequence[int], rng: np.random.Generator, *, near_foreground: bool) -> list[int]:
    shape = case.labels.shape
    present = [where for where in case.positions if len(where)] if near_foreground else []
    if present:
        where = present[rng.integers(len(present))]
        pixel = np.unravel_index(int(where[rng.integers(len(where))]), shape)
        wanted = [int(at) - int(rng.integers(size)) for at, size in zip(pixel, patch, strict=True)]
    else:
        wanted = [
            int(rng.integers(min(0, n - size), max(0, n - size) + 1)) for n, size in zip(shape, patch, strict=True)
        ]
    # A patch never reaches further outside than the difference of the sizes makes it.
    return [
        min(max(first, min(0, n - size)), max(0, n - size)) for first, n, size in zip(wanted, shape, patch, strict=True)
    ]
