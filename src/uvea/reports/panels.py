"""Pictures for a page: an image, labels laid over it, and where a prediction is wrong.

Arrays in, PNG files as data URIs out. Labels are drawn on transparent ground, so that one copy of the image
serves all panels of an example. Nothing here knows the page or reads files.
"""

import base64
import colorsys
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ShapeError

Colour = tuple[int, int, int]

SIDE = 384
"""Longest side of a picture, in its pixels."""

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


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image to show, with what is known about it."""

    name: str
    image: NDArray[np.generic]
    """(c, y, x) or (c, z, y, x), any real type, NaN allowed."""

    truth: NDArray[np.integer] | None = None
    """(y, x) or (z, y, x) as the image; negative where not annotated."""

    prediction: NDArray[np.integer] | None = None
    """As `truth`."""

    scores: Mapping[str, float] = field(default_factory=dict)
    """Name to value; larger is better."""


@dataclass(frozen=True)
class Panel:
    """One picture of an example."""

    title: str
    alt: str
    overlay: str | None = None
    """Data URI of what lies over the image."""

    dim: bool = False
    """Whether the image is darkened below it."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """All pictures of one example, of one size."""

    name: str
    note: str
    """Size of the image, and which slice of a volume is shown."""

    scores: Mapping[str, float]
    base: str
    """Data URI of the image."""

    width: int
    height: int
    coarse: bool
    """Whether the image is so small that its pixels are to be seen as squares."""

    panels: tuple[Panel, ...]


def draw(example: Example, classes: Sequence[str]) -> Pictures:
    """Make the panels image, truth, prediction and error, as far as they are known.

    Args:
        example: a volume is shown by its slice with the most foreground in the truth (see `busiest_slice`).
        classes: names for the alternative texts, background first.

    Raises:
        ShapeError: if truth or prediction do not have the size of the image.
    """
    image, truth, prediction = example.image, example.truth, example.prediction
    for labels, word in ((truth, "truth"), (prediction, "prediction")):
        if labels is not None and labels.shape != image.shape[1:]:
            raise ShapeError(
                f"{word} of {example.name!r} is {_size(labels.shape)}, its image {_size(image.shape[1:])}",
                hint="give labels of the spatial size of the image",
            )
    if image.ndim not in (3, 4) or 0 in image.shape:
        raise ShapeError(
            f"the image of {example.name!r} has the size {_size(image.shape)}", hint="give (c, y, x) or (c, z, y, x)"
        )
    note = f"{_size(image.shape[1:])} {'voxels' if image.ndim == 4 else 'pixels'}"
    if image.ndim == 4:
        z = busiest_slice(image.shape[1], truth if truth is not None else prediction)
        note += f", slice {z + 1} of {image.shape[1]}"
        image = image[:, z]
        truth, prediction = (None if labels is None else labels[z] for labels in (truth, prediction))

    # Pictures are composed in the size of the image and then averaged down; very large ones are thinned first.
    stride = max(1, max(image.shape[1:]) // (8 * SIDE))
    image = image[:, ::stride, ::stride]
    truth, prediction = (None if labels is None else labels[::stride, ::stride] for labels in (truth, prediction))

    panels = [Panel("Image", f"Image {example.name}")]
    for labels, word in ((truth, "Truth"), (prediction, "Prediction")):
        if labels is not None:
            alt = f"{word} of {example.name}: {_described(labels, classes)}"
            panels.append(Panel(word, alt, _png(class_overlay(labels))))
    if truth is not None and prediction is not None:
        kinds = error_kinds(truth, prediction)
        counts = [f"{name} {np.mean(kinds == kind):.1%}" for kind, name in enumerate(ERRORS, start=1)]
        alt = f"Error of {example.name}: {', '.join(counts)}"
        panels.append(Panel("Error", alt, _png(error_overlay(kinds)), dim=True))
    height, width = _fitted(image.shape[1:])
    return Pictures(
        name=example.name,
        note=note,
        scores=example.scores,
        base=_png(to_rgb(image)),
        width=width,
        height=height,
        coarse=max(width, height) < SIDE // 2,
        panels=tuple(panels),
    )


def busiest_slice(depth: int, labels: NDArray[np.integer] | None) -> int:
    """Index of the slice with the most foreground; the middle one where there is none."""
    if labels is not None and (labels > 0).any():
        return int(np.argmax((labels > 0).sum(axis=(1, 2))))
    return depth // 2


def class_colour(number: int) -> Colour:
    """Colour of a class, from 1; after the seven safe ones, hues that are far apart."""
    if number <= len(CLASS_COLOURS):
        return CLASS_COLOURS[number - 1]
    # Steps of the golden ratio never come close to an earlier hue.
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def to_rgb(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Any image as a picture, (c, y, x) to (y, x, 3), from its 0.5th to its 99.5th percentile.

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


def error_overlay(kinds: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours for `error_kinds`, (y, x) to (y, x, 4); what is right lies lighter on the image than what is wrong."""
    alphas = (100, 240, 240, 240, 120)
    table = np.array([(0, 0, 0, 0), *((*rgb, a) for rgb, a in zip(ERRORS.values(), alphas, strict=True))], np.uint8)
    drawn: NDArray[np.uint8] = table[kinds]
    return drawn


def class_overlay(labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Colours for labels, (y, x) to (y, x, 4): half-transparent, with a solid rim; background is clear."""
    highest = max(int(labels.max()), 0)
    table = np.array([(*IGNORED, 150), (0, 0, 0, 0), *((*class_colour(n), 105) for n in range(1, highest + 1))])
    drawn: NDArray[np.uint8] = table[np.maximum(labels.astype(np.intp), -1) + 1].astype(np.uint8)
    drawn[_rim(labels) & (labels > 0), 3] = 255
    return drawn


def _rim(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Pixels close to one of another class: as thick as one pixel of the final picture."""
    rim = np.zeros(labels.shape, dtype=bool)
    for distance in range(1, max(1, round(max(labels.shape) / SIDE)) + 1):
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


def _fitted(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the picture of an image (y, x): never larger than the image."""
    scale = min(1.0, SIDE / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _png(picture: NDArray[np.uint8]) -> str:
    """(y, x, 3) or (y, x, 4) as a data URI, averaged down to fit."""
    from PIL import Image

    if picture.shape[-1] == 3 and (picture[..., :1] == picture).all():
        made = Image.fromarray(picture[..., 0])
    else:
        made = Image.fromarray(picture)
    height, width = _fitted(picture.shape[:2])
    if made.size != (width, height):
        made = made.resize((width, height), Image.Resampling.BOX)
    file = io.BytesIO()
    made.save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _described(labels: NDArray[np.integer], classes: Sequence[str]) -> str:
    found = [number for number in np.unique(labels).tolist() if number > 0]
    parts = [f"{classes[n] if n < len(classes) else f'class {n}'} {np.mean(labels == n):.1%}" for n in found]
    return ", ".join(parts) or "background only"


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
