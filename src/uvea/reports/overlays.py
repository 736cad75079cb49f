"""Colours for pixels: images, classes, objects, and where a prediction is wrong.

Arrays in, arrays of 8-bit colours out. Classes and errors are drawn on transparent ground, to lie on an image.
"""

import colorsys
from collections.abc import Mapping
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SIDE = 384
"""Longest side of the picture of an image, in its pixels."""

Colour = tuple[int, int, int]

CLASS_COLOURS: tuple[Colour, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
"""Classes 1 to 7. Okabe and Ito 2008: told apart by colour-blind readers too."""

IGNORED: Colour = (128, 128, 128)

ERRORS: dict[str, Colour] = {
    "found (true positive)": (0, 178, 120),
    "missed (false negative)": (235, 62, 48),
    "not there (false positive)": (46, 120, 240),
    "wrong class": (240, 228, 66),
    "not annotated": IGNORED,
}
"""Kinds of pixel in the error panel, in the order of the numbers that `error_kinds` gives, from 1."""


ObjectKind = Literal["matched", "missed", "false", "split", "merged"]

OBJECT_COLOURS: dict[ObjectKind, Colour] = {
    "matched": (0, 178, 120),
    "missed": (235, 62, 48),
    "false": (46, 120, 240),
    "split": (240, 228, 66),
    "merged": (214, 110, 210),
}
"""Outlines of objects by what became of them."""


def class_colour(number: int) -> Colour:
    """Colour of a class, from 1; beyond some two hundred they are used again."""
    palette = _palette()
    return palette[(number - 1) % len(palette)]


@cache
def _palette() -> tuple[Colour, ...]:
    """The seven safe colours, then always the one that looks least like all before it and the gray of `IGNORED`.

    How different two colours look is their distance in CIELAB.
    """
    from skimage.color import rgb2lab

    shades = [(hue / 24, part, value) for hue in range(24) for part in (0.5, 0.75, 1.0) for value in (0.5, 0.75, 1.0)]
    mixed = np.rint(255 * np.array([colorsys.hsv_to_rgb(*shade) for shade in shades])).astype(np.uint8)
    colours = np.concatenate([np.array([*CLASS_COLOURS, IGNORED], np.uint8), mixed])
    places: NDArray[np.float64] = rgb2lab(colours)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    taken = list(range(len(CLASS_COLOURS) + 1))
    nearest = apart[:, taken].min(axis=1)
    while nearest.max() > 0:
        taken.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, apart[:, taken[-1]])
    del taken[len(CLASS_COLOURS)]
    return tuple((red, green, blue) for red, green, blue in colours[taken].tolist())


def to_rgb(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Any image as a picture, (c, …) to (…, 3), from its 0.5th to its 99.5th percentile.

    Three channels of 8 bit are a photograph and share one range. Two or three others are stretched each for
    itself; two are shown in magenta and green. Of any other number, the first channel is shown in gray.
    """
    if image.shape[0] == 3 and image.dtype == np.uint8:
        return np.moveaxis(_stretched(image), 0, -1)
    if image.shape[0] == 3:
        return np.stack([_stretched(channel) for channel in image], axis=-1)
    if image.shape[0] == 2:
        first, second = (_stretched(channel) for channel in image)
        return np.stack([first, second, first], axis=-1)
    return np.repeat(_stretched(image[0])[..., None], 3, axis=-1)


def error_kinds(truth: NDArray[np.integer], prediction: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Compare two label arrays pixel by pixel.

    Returns:
        The same shape; 0 where both are background, else 1 found, 2 missed, 3 not there, 4 foreground of another
        class, 5 not annotated: the order of `ERRORS`.
    """
    thing, guess = truth > 0, prediction > 0
    kinds = np.select(
        [truth < 0, thing & (truth == prediction), thing & guess, thing, guess], [5, 1, 4, 2, 3], default=0
    )
    return kinds.astype(np.uint8)


def error_overlay(kinds: NDArray[np.uint8], *, right: int = 100) -> NDArray[np.uint8]:
    """Colours for `error_kinds`, (y, x) to (y, x, 4).

    What is right has the opacity `right`, 0 to 255, so that it can lie lighter on the image than what is wrong.
    """
    alphas = (right, 240, 240, 240, 120)
    table = np.array([(0, 0, 0, 0), *((*rgb, a) for rgb, a in zip(ERRORS.values(), alphas, strict=True))], np.uint8)
    drawn: NDArray[np.uint8] = table[kinds]
    return drawn


def class_overlay(labels: NDArray[np.integer], *, inside: int = 105) -> NDArray[np.uint8]:
    """Colours for labels, (y, x) to (y, x, 4): of the opacity `inside`, with a solid rim; background is clear."""
    highest = max(int(labels.max()), 0)
    table = np.array([(*IGNORED, 150), (0, 0, 0, 0), *((*class_colour(n), inside) for n in range(1, highest + 1))])
    drawn: NDArray[np.uint8] = table[np.maximum(labels.astype(np.intp), -1) + 1].astype(np.uint8)
    drawn[_rim(labels) & (labels > 0), 3] = 255
    return drawn


def object_overlay(ids: NDArray[np.integer], kinds: Mapping[int, ObjectKind], *, inside: int = 70) -> NDArray[np.uint8]:
    """Colours for objects, (y, x) to (y, x, 4): a solid outline by what became of each, gray where that is unknown.

    Args:
        ids: 0 is the background, any other number an object.
        kinds: number to kind.
        inside: opacity within the outline, 0 to 255.
    """
    found, place = np.unique(ids, return_inverse=True)
    numbers = found.tolist()
    colours = [OBJECT_COLOURS[kinds[n]] if n in kinds else IGNORED for n in numbers]
    table = np.array([(*rgb, inside if n > 0 else 0) for rgb, n in zip(colours, numbers, strict=True)], np.uint8)
    drawn: NDArray[np.uint8] = table[place.reshape(ids.shape)]
    drawn[_rim(ids, thickness=2) & (ids > 0), 3] = 255
    return drawn


def _rim(labels: NDArray[np.integer], thickness: int = 1) -> NDArray[np.bool_]:
    """Pixels close to one of another class: as many as `thickness` pixels of the final picture."""
    rim = np.zeros(labels.shape, dtype=bool)
    for distance in range(1, thickness * max(1, round(max(labels.shape) / SIDE)) + 1):
        for axis in (0, 1):
            if labels.shape[axis] > distance:
                ahead, behind = [slice(None), slice(None)], [slice(None), slice(None)]
                ahead[axis], behind[axis] = slice(distance, None), slice(None, -distance)
                differ = labels[tuple(ahead)] != labels[tuple(behind)]
                rim[tuple(ahead)] |= differ
                rim[tuple(behind)] |= differ
    return rim


def _stretched(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    numbers = values.astype(np.float32)
    finite = np.isfinite(numbers)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(numbers[finite], (0.5, 99.5))
    if high <= low:  # a few bright pixels on a flat ground
        low, high = numbers[finite].min(), numbers[finite].max()
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    scaled = np.clip((np.where(finite, numbers, low) - low) / (high - low), 0, 1)
    picture: NDArray[np.uint8] = np.rint(scaled * 255).astype(np.uint8)
    return picture
