"""The objects of one image: from what a network gives, how good they are, and what became of each.

classes and maps -> decode -> numbers, a class for each -> rows of the table of scores
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import IGNORE, classes_of
from uvea.evaluation import CaseScore, Summary, score_case
from uvea.evaluation.instances import InstanceScores, overlaps, pool, score_instances
from uvea.evaluation.rows import instance_values, with_values
from uvea.images.image import Image
from uvea.images.orientation import Turn, orientation_of, turn_between
from uvea.objects.decode import decode
from uvea.objects.stitch import decode_blocks
from uvea.objects.table import measure
from uvea.plan.decoding import Decoding
from uvea.plan.plan import Plan
from uvea.plan.prepare import pixel_share
from uvea.reports.panels import Objects
from uvea.workflows.score_pair import kinds_of

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)

WHOLE = 1 << 22
"""Pixels up to which an image is decoded at once, which takes some tens of bytes for each."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What decoding knows of an image."""

    axes: str
    """"yx", "zyx" or "tyx"."""

    spacing: tuple[float, ...]
    """One per axis, in `unit`."""

    unit: str = "px"
    """As that of an `Image`."""

    orientation: str = ""
    """How a volume lies, see `orientation_of`; empty where it is unknown, or the volume was turned already."""

    @classmethod
    def of(cls, image: Image) -> Self:
        """That of an image."""
        return cls(axes=image.axes, spacing=image.spacing, unit=image.unit, orientation=orientation_of(image))

    @property
    def timed(self) -> bool:
        """Whether the first axis is time, over which no object extends."""
        return self.axes[0] == "t"

    @property
    def of_objects(self) -> tuple[float, ...]:
        """Spacing along the axes that an object extends over: time is none of them."""
        return self.spacing[1:] if self.timed else self.spacing

    def turn(self, plan: Plan) -> Turn:
        """What brings the image to the orientation of the training."""
        return turn_between(self.orientation, plan.fingerprint.orientation)

    def turned(self, plan: Plan) -> Self:
        """The grid behind that."""
        return replace(self, spacing=self.turn(plan).per_axis(self.spacing), orientation="")

    def share(self, plan: Plan) -> float:
        """How many pixels of the plan's spacing a pixel is: sizes behind the network count these."""
        return pixel_share(self.axes, self.turned(plan).spacing, self.unit, plan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The objects of an image."""

    ids: Ids
    """(...) 0 background, 1 to n."""

    classes: NDArray[np.int16]
    """(n + 1,) class of each object, from 1; 0 for the background."""

    @property
    def labels(self) -> NDArray[np.int16]:
        """(...) class of each pixel: that of its object."""
        return self.classes[self.ids]


def find_objects(probabilities: Floats, settings: Decoding, *, classes: int, grid: Grid) -> Found:
    """Decode what a network gives.

    Args:
        probabilities: (k + 2, ...): those of the classes, border, centre.
        settings: see `Decoding`; sizes in pixels of this image.
        classes: k, background included.
        grid: of the image. The frames of a time series are decoded one by one, and numbered on.

    Returns:
        Found. The class of an object is the one with the largest sum of probabilities over it.
    """
    found = [_decoded(part, settings, classes, grid) for part in pictures(probabilities, grid)]
    if grid.timed:
        before = 0
        for frame in found:
            count = int(frame.max(initial=0))
            frame[frame > 0] += before
            before += count
        ids = np.stack(found)
    else:
        (ids,) = found
    count = int(ids.max(initial=0))
    of_object = np.ones(count + 1, np.int16)
    of_object[0] = 0
    if classes > 2 and count:
        of_object[1:] = measure(ids, probabilities=probabilities[:classes]).label
    return Found(ids=ids, classes=of_object)


def _decoded(probabilities: Floats, settings: Decoding, classes: int, grid: Grid) -> Ids:
    shape = probabilities.shape[1:]
    if prod(shape) <= WHOLE:
        return decode(maps_of(probabilities, classes), settings, spacing=grid.of_objects)
    # The same objects, with the maps of one block at a time.
    ids = np.empty(shape, np.int32)
    decode_blocks(
        lambda part: maps_of(probabilities[(slice(None), *part)], classes),
        shape,
        settings,
        out=ids,
        spacing=grid.of_objects,
    )
    return ids


def maps_of(probabilities: Floats, classes: int) -> Floats:
    """Foreground, border and centre (3, ...) of classes and maps (k + 2, ...)."""
    return np.concatenate((1 - probabilities[:1], probabilities[classes:]))


def pictures(array: NDArray[Number], grid: Grid) -> list[NDArray[Number]]:
    """The parts of an array (c, ...) in which objects are looked for: the frames of a time series, else the whole."""
    return [array[:, frame] for frame in range(array.shape[1])] if grid.timed else [array]


def mean_ap(truths: Sequence[NDArray[np.integer]], found: Sequence[NDArray[np.integer]]) -> float:
    """Mean AP of the objects of all images together; numbers from 1, IGNORE in the truth is left out."""
    return pool([_scored(*pair) for pair in zip(truths, found, strict=True)]).pooled.mean_ap


def pooled(summary: Summary, metric: str) -> float:
    """A score of the objects of all cases together, mean over the foreground classes."""
    found = summary.foreground[metric]
    return found.mean if found.pooled is None else found.pooled


def score_objects(
    name: str, truth: NDArray[np.integer], found: Found, *, names: Sequence[str], group: str | None = None
) -> list[CaseScore]:
    """Score one case: pixels as for classes, and in the rows of the foreground classes their objects.

    Args:
        name: of the case.
        truth: numbers of objects, as `LabelMap.encode_objects` gives them.
        found: on the same grid.
        names: of the classes, background first.
        group: patient or stack, where there is one.
    """
    wanted, given = classes_of(truth, len(names)), found.labels
    rows = score_case(name, wanted, given, names=names, group=group)
    for label in range(1, len(names)):
        reference, prediction = truth, found.ids
        if len(names) > 2:
            reference = np.where((wanted == label) | (wanted == IGNORE), truth, 0)
            prediction = np.where(given == label, found.ids, 0)
        rows[label] = with_values(rows[label], instance_values(_scored(reference, prediction)))
    return rows


def drawn(truth: NDArray[np.integer], ids: Ids) -> Objects:
    """Objects with what became of each, for a report."""
    known = truth != IGNORE
    reference, prediction = np.where(known, truth, 0), np.where(known, ids, 0)
    reference_kinds, prediction_kinds = kinds_of(overlaps(reference, prediction))
    return Objects(
        reference=reference,
        prediction=prediction,
        reference_kinds=reference_kinds,
        prediction_kinds=prediction_kinds,
    )


def _scored(reference: NDArray[np.integer], prediction: NDArray[np.integer]) -> InstanceScores:
    known = reference != IGNORE
    return score_instances(reference, prediction, within=None if known.all() else known)
