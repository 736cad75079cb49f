"""Pictures for a page: an image, labels laid over it, and where a prediction is wrong.

Arrays in, files as data URIs out. Labels are drawn on transparent ground, so that one copy of the image serves all
panels of an example. Nothing here knows the page or reads files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uvea.errors import ShapeError
from uvea.reports.overlays import (
    ERRORS,
    OBJECT_COLOURS,
    SIDE,
    Colour,
    ObjectKind,
    class_overlay,
    error_kinds,
    error_overlay,
    object_overlay,
    to_rgb,
)
from uvea.reports.sheets import SLICE_SIDE, Sheet, picture, sheet_of

Number = TypeVar("Number", bound=np.generic)

COARSE = 192
"""Below this longest side the pixels of a picture are to be seen as squares."""


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Objects by number, 0 the background, and what became of each; the mappings may lack numbers."""

    reference: NDArray[np.integer]
    """(y, x) or (z, y, x) as the image."""

    prediction: NDArray[np.integer]
    """As `reference`."""

    reference_kinds: Mapping[int, ObjectKind]
    """Object to matched, missed, split or merged."""

    prediction_kinds: Mapping[int, ObjectKind]
    """Object to matched, false, split or merged."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image to show, with what is known about it."""

    name: str
    image: NDArray[np.generic] | None = None
    """(c, y, x) or (c, z, y, x), any real type, NaN allowed; without it labels are shown on black."""

    truth: NDArray[np.integer] | None = None
    """The reference: (y, x) or (z, y, x) as the image; negative where not annotated."""

    prediction: NDArray[np.integer] | None = None
    """As `truth`."""

    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Name to value; in a training report larger is better."""

    objects: Objects | None = None
    """Outlines to draw in place of the classes, where there are instances."""


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
    """Size of the image, and how many slices of a volume are shown."""

    scores: Mapping[str, float | None]
    base: str | None
    """Data URI of the image."""

    sheet: Sheet
    coarse: bool
    """Whether the image is so small that its pixels are to be seen as squares."""

    panels: tuple[Panel, ...]
    errors: frozenset[str] = frozenset()
    """Which of ERRORS occur."""

    object_kinds: frozenset[ObjectKind] = frozenset()

    @property
    def bytes(self) -> int:
        """Size of the pictures in the page."""
        return len(self.base or "") + sum(len(panel.overlay or "") for panel in self.panels)


def draw(example: Example, classes: Sequence[str]) -> Pictures:
    """Make the panels image, reference, prediction and error, as far as they are known.

    Args:
        example: a volume is thinned to some of its slices (see `sheet_of`); it opens at the one with the most
            foreground in the reference, or else in the prediction.
        classes: names for the alternative texts, background first.

    Raises:
        ShapeError: if there is nothing to show, or labels do not have the size of the image.
    """
    shape = _shape_of(example)
    truth, prediction = _labels_of(example)
    deep, bare, name = len(shape) == 3, example.image is None, example.name
    sheet = sheet_of(shape, truth if truth is not None else prediction)
    # Pictures are composed in the size of the image and then averaged down; very large ones are thinned first.
    stride = max(1, max(shape[-2:]) // (2 * SLICE_SIDE if deep else 8 * SIDE))

    def kept(array: NDArray[Number]) -> NDArray[Number]:
        """What is shown, with an axis of slices: (z, y, x) or (c, z, y, x)."""
        volume = array if deep else array[..., None, :, :]
        return volume[..., list(sheet.slices), ::stride, ::stride]

    coarse = max(sheet.width, sheet.height) < COARSE
    panels, base, errors = [], None, frozenset[str]()
    if example.image is not None:
        base = picture(to_rgb(kept(example.image)).__getitem__, sheet, lossy=deep and not coarse)
        panels.append(Panel("Image", f"Image {name}"))
    for word, labels in (("Reference", truth), ("Prediction", prediction)):
        ids, kinds = _objects_of(example, word)
        if ids is not None:
            panels.append(_object_panel(f"{word} of {name}", kept(ids), kinds, sheet=sheet, bare=bare))
        elif labels is not None:
            panels.append(_class_panel(f"{word} of {name}", kept(labels), classes, sheet=sheet, bare=bare))
    if truth is not None and prediction is not None:
        wrong = error_kinds(kept(truth), kept(prediction))
        panels.append(_error_panel(f"Error of {name}", wrong, sheet=sheet, bare=bare))
        errors = frozenset(word for kind, word in enumerate(ERRORS, start=1) if (wrong == kind).any())
    note = f"{_size(shape)} {'voxels' if deep else 'pixels'}"
    return Pictures(
        name=name,
        note=note + (f", {len(sheet.slices)} of its slices" if len(sheet.slices) < sheet.depth else ""),
        scores=example.scores,
        base=base,
        sheet=sheet,
        coarse=coarse,
        panels=tuple(panels),
        errors=errors,
        object_kinds=_kinds_of(example.objects),
    )


def error_legend(several: Sequence[Pictures]) -> list[tuple[str, Colour]]:
    """The first three kinds of pixel in the error panels, and the rare ones if they occur; empty without a panel."""
    if not any(panel.title == "Error" for pictures in several for panel in pictures.panels):
        return []
    found = frozenset[str]().union(*(pictures.errors for pictures in several))
    return [(name, colour) for place, (name, colour) in enumerate(ERRORS.items()) if place < 3 or name in found]


def object_legend(several: Sequence[Pictures]) -> list[tuple[str, Colour]]:
    """The outlines of objects that occur."""
    found = frozenset[ObjectKind]().union(*(pictures.object_kinds for pictures in several))
    return [(kind, colour) for kind, colour in OBJECT_COLOURS.items() if kind in found]


def _shape_of(example: Example) -> tuple[int, ...]:
    """Spatial size, (y, x) or (z, y, x), the same for all that is given."""
    image, objects = example.image, example.objects
    given = [] if image is None else [("image", image.shape[1:])]
    given += [] if example.truth is None else [("truth", example.truth.shape)]
    given += [] if example.prediction is None else [("prediction", example.prediction.shape)]
    if objects is not None:
        given += [("reference objects", objects.reference.shape), ("predicted objects", objects.prediction.shape)]
    if not given:
        raise ShapeError(f"{example.name!r} has no arrays", hint="give an image, a reference or a prediction")
    (first, shape), *others = given
    for word, other in others:
        if other != shape:
            raise ShapeError(
                f"{word} of {example.name!r} is {_size(other)}, its {first} {_size(shape)}",
                hint="give labels of the spatial size of the image",
            )
    if len(shape) not in (2, 3) or 0 in shape or (image is not None and image.shape[0] == 0):
        whole = shape if image is None else image.shape
        raise ShapeError(
            f"the {first} of {example.name!r} has the size {_size(whole)}",
            hint="give images (c, y, x) or (c, z, y, x) and labels (y, x) or (z, y, x)",
        )
    return shape


def _labels_of(example: Example) -> tuple[NDArray[np.integer] | None, NDArray[np.integer] | None]:
    """Reference and prediction; objects count as class 1."""
    truth, prediction = example.truth, example.prediction
    if example.objects is not None:
        truth = (example.objects.reference > 0).astype(np.uint8) if truth is None else truth
        prediction = (example.objects.prediction > 0).astype(np.uint8) if prediction is None else prediction
    return truth, prediction


def _objects_of(example: Example, word: str) -> tuple[NDArray[np.integer] | None, Mapping[int, ObjectKind]]:
    objects = example.objects
    if objects is None:
        return None, {}
    reference = word == "Reference"
    return (objects.reference, objects.reference_kinds) if reference else (objects.prediction, objects.prediction_kinds)


def _class_panel(what: str, labels: NDArray[np.integer], classes: Sequence[str], *, sheet: Sheet, bare: bool) -> Panel:
    """`bare`: without an image below, colours need not let it shine through."""
    overlay = picture(lambda z: class_overlay(labels[z], inside=200 if bare else 105), sheet)
    return Panel(what.split()[0], f"{what}: {_described(labels, classes)}", overlay)


def _object_panel(
    what: str, ids: NDArray[np.integer], kinds: Mapping[int, ObjectKind], *, sheet: Sheet, bare: bool
) -> Panel:
    counted = Counter(kinds.values())
    described = ", ".join(f"{counted[kind]} {kind}" for kind in OBJECT_COLOURS if counted[kind]) or "no objects"
    overlay = picture(lambda z: object_overlay(ids[z], kinds, inside=120 if bare else 70), sheet)
    return Panel(what.split()[0], f"{what}: {described}", overlay, dim=True)


def _error_panel(what: str, kinds: NDArray[np.uint8], *, sheet: Sheet, bare: bool) -> Panel:
    counts = [f"{word} {np.mean(kinds == kind):.1%}" for kind, word in enumerate(ERRORS, start=1)]
    overlay = picture(lambda z: error_overlay(kinds[z], right=200 if bare else 100), sheet)
    return Panel("Error", f"{what}: {', '.join(counts)}", overlay, dim=True)


def _kinds_of(objects: Objects | None) -> frozenset[ObjectKind]:
    if objects is None:
        return frozenset()
    return frozenset([*objects.reference_kinds.values(), *objects.prediction_kinds.values()])


def _described(labels: NDArray[np.integer], classes: Sequence[str]) -> str:
    """The share of each class."""
    counts: Counter[int] = Counter()
    for one in labels:
        counts.update(dict(zip(*(part.tolist() for part in np.unique(one, return_counts=True)), strict=True)))
    parts = [
        f"{classes[n] if n < len(classes) else f'class {n}'} {counts[n] / labels.size:.1%}"
        for n in sorted(counts)
        if n > 0
    ]
    return ", ".join(parts) or "background only"


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
