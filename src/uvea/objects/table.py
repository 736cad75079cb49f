"""Measure the objects of a label image: where they are, how large, how bright, of which class, how certain.

One column per measurement, one row per object. Writing the text to a file is left to the caller.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, prod

import numpy as np
from numpy.typing import NDArray

from uvea.cells import as_cell
from uvea.errors import ShapeError

Floats = NDArray[np.float64]

CHUNK = 1 << 24
"""Pixels that are measured at once: what is added up takes 8 bytes for each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Objects:
    """All objects of one image, n of them, by id."""

    ids: NDArray[np.int64]
    """(n,) ascending."""

    centroid: Floats
    """(n, d) mean position of the pixels' centres, in `unit`, array-axis order; the first pixel is at 0."""

    size: NDArray[np.int64]
    """(n,) pixels."""

    extent: Floats
    """(n,) area in `unit` squared, or volume in `unit` cubed."""

    diameter: Floats
    """(n,) of the circle or sphere of that extent, in `unit`."""

    at_border: NDArray[np.bool_]
    """(n,) whether the object touches the border of the image, so that part of it may be missing."""

    intensity: Floats
    """(n, channels) mean; no column without an image."""

    label: NDArray[np.int64]
    """(n,) class, from 1; 1 without probabilities."""

    score: Floats
    """(n,) mean over the pixels of the probability of that class, in [0, 1]; NaN without probabilities."""

    scored: bool
    """Whether there were probabilities; an image without objects tells it by nothing else."""

    axes: str
    unit: str


def measure(
    ids: NDArray[np.integer],
    *,
    image: NDArray[np.generic] | None = None,
    probabilities: NDArray[np.floating] | None = None,
    spacing: Sequence[float] | None = None,
    unit: str = "px",
) -> Objects:
    """Measure every object.

    Args:
        ids: (y, x) or (z, y, x); 0 is background, ids need not be dense. Negative ids are not annotated.
        image: (c, ...) intensities; None leaves them out.
        probabilities: (k, ...) per class, background first. The class of an object is the one with the largest sum
            over its pixels, background left out: the majority decides, weighed by certainty.
        spacing: size of a pixel, in `unit`, one per axis; None for 1.
        unit: "px", "um" or "mm".

    Returns:
        Objects; no rows for an image without objects.

    Raises:
        ShapeError: if the arrays are not of one size.
    """
    steps = np.asarray(spacing if spacing is not None else (1.0,) * ids.ndim, np.float64)
    if len(steps) != ids.ndim:
        raise ShapeError(
            f"spacing has {len(steps)} values for {ids.ndim} axes of ids", hint="give one value per axis, or none"
        )
    for what, array in (("image", image), ("class probabilities", probabilities)):
        if array is not None and array.shape[1:] != ids.shape:
            raise ShapeError(
                f"objects of {_size(ids.shape)} cannot be measured on {what} of {_size(array.shape[1:])}",
                hint="give arrays of the same image",
            )
    sums = _Sums(ids)
    size = sums.size
    extent = size * prod(steps.tolist())
    sphere = {2: 2 * np.sqrt(extent / pi), 3: np.cbrt(6 * extent / pi)}
    rows = np.arange(len(size))
    by_class = np.stack([sums.of(one) for one in probabilities[1:]], axis=1) if probabilities is not None else None
    label = np.ones(len(size), np.int64) if by_class is None else by_class.argmax(axis=1) + 1
    return Objects(
        ids=sums.ids,
        centroid=np.stack([sums.of_index(axis) for axis in range(ids.ndim)], axis=1) / size[:, None] * steps,
        size=size,
        extent=extent,
        diameter=sphere.get(ids.ndim, extent),
        at_border=sums.at_border(),
        intensity=np.stack([sums.of(channel) for channel in image], axis=1) / size[:, None]
        if image is not None
        else np.empty((len(size), 0)),
        label=label,
        score=np.full(len(size), np.nan) if by_class is None else by_class[rows, label - 1] / size,
        scored=by_class is not None,
        axes="zyx"[-ids.ndim :],
        unit=unit,
    )


def as_csv(objects: Objects, *, names: Sequence[str] = ()) -> str:
    """The table as text: a header with units, one line per object, six digits.

    The columns depend on what was given to `measure`, never on what was found.

    Args:
        objects: of `measure`.
        names: one per class, background first; left out, classes are written as numbers. One that a spreadsheet would
            calculate with has a "'" in front, as in scores.csv.
    """
    places = [f"{axis} [{objects.unit}]" for axis in objects.axes]
    sizes, others = _sizes(objects), _others(objects)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["id", "class", *places, "pixels", *sizes, "at border", *others])
    for row in range(len(objects.ids)):
        label = int(objects.label[row])
        lines.writerow(
            [
                int(objects.ids[row]),
                as_cell(names[label]) if names else label,
                *map(_digits, objects.centroid[row]),
                int(objects.size[row]),
                *(_digits(column[row]) for column in sizes.values()),
                "yes" if objects.at_border[row] else "no",
                *(_digits(column[row]) for column in others.values()),
            ]
        )
    return text.getvalue()


def measurements(objects: Objects) -> dict[int, dict[str, float]]:
    """What was measured, by id of the object and name of the column, with the digits of the table."""
    columns = _sizes(objects) | _others(objects)
    return {
        int(number): {name: float(_digits(column[row])) for name, column in columns.items()}
        for row, number in enumerate(objects.ids)
    }


def _sizes(objects: Objects) -> dict[str, Floats]:
    """Columns by name. The names are ASCII, because Excel takes a file without a mark for one of Windows."""
    dims, unit = len(objects.axes), objects.unit
    what = "area" if dims == 2 else "volume"
    return {f"{what} [{unit}^{dims}]": objects.extent, f"diameter [{unit}]": objects.diameter}


def _others(objects: Objects) -> dict[str, Floats]:
    """Columns that are there where an image or probabilities were."""
    means = {f"mean of channel {channel + 1}": column for channel, column in enumerate(objects.intensity.T)}
    return means | ({"score": objects.score} if objects.scored else {})


class _Sums:
    """Adds values up per object, in chunks of slices along the first axis, so that an image may be mapped from a file.

    Ids are taken as they are where they are dense, else by their position among those that occur.
    """

    def __init__(self, ids: NDArray[np.integer]) -> None:
        self._array = ids
        highest = int(ids.max(initial=0))
        step = max(1, CHUNK // max(1, prod(ids.shape[1:])))
        self._parts = [slice(start, start + step) for start in range(0, len(ids), step)]
        if highest > 4 * ids.size + 1_000:
            self.ids = np.unique(ids[ids > 0]).astype(np.int64)
            self._table: NDArray[np.int64] | None = None
        else:
            present = np.zeros(highest + 1, np.bool_)
            for part in self._parts:
                present[np.maximum(ids[part], 0)] = True
            present[0] = False
            self.ids = np.flatnonzero(present)
            self._table = np.zeros(highest + 1, np.int64)
            self._table[self.ids] = np.arange(1, len(self.ids) + 1)
        self.size = np.zeros(len(self.ids), np.int64)
        for part in self._parts:
            self.size += np.bincount(self._rows(part), minlength=len(self.ids) + 1)[1:]

    def _rows(self, part: slice) -> NDArray[np.int64]:
        """1 + the row of the object of each pixel of a part, 0 for background; flat."""
        ids = np.maximum(self._array[part], 0).reshape(-1)
        if self._table is not None:
            return np.asarray(self._table[ids])
        return np.where(ids > 0, np.searchsorted(self.ids, ids) + 1, 0)

    def of(self, values: NDArray[np.generic]) -> Floats:
        """Sum of values (...) over each object."""
        total = np.zeros(len(self.ids) + 1)
        for part in self._parts:
            total += np.bincount(self._rows(part), weights=values[part].reshape(-1), minlength=len(total))
        return total[1:]

    def of_index(self, axis: int) -> Floats:
        """Sum of the indices along one axis over each object."""
        total = np.zeros(len(self.ids) + 1)
        shape = self._array.shape
        for part in self._parts:
            index = np.arange(shape[axis])[part if axis == 0 else slice(None)].astype(np.float64)
            spread = index.reshape(-1, *[1] * (len(shape) - 1 - axis))
            weights = np.broadcast_to(spread, self._array[part].shape).reshape(-1)
            total += np.bincount(self._rows(part), weights=weights, minlength=len(total))
        return total[1:]

    def at_border(self) -> NDArray[np.bool_]:
        found: list[NDArray[np.integer]] = []
        for axis in range(self._array.ndim):
            found += [np.unique(self._array.take(index, axis=axis)) for index in (0, -1)] if self.size.size else []
        return np.isin(self.ids, np.concatenate(found)) if found else np.zeros(0, np.bool_)


def _digits(value: float) -> str:
    return f"{value:.6g}"


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
