"""Look at one pair of files, and score it: what happens to every case, in this thread or in a helper.

reference, prediction -> one grid -> classes -> counts, distances, objects, membranes, probabilities -> rows

Whatever goes wrong with a case is returned as its failure, never raised: it must not stop the others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uvea.arrays.labels import IGNORE, Key, LabelMap, colour_of, is_gray, way_to_whole_numbers
from uvea.datasets.measure import codes_of, count_values, pieces_of
from uvea.datasets.survey import read_mask
from uvea.errors import DatasetError, ShapeError, UveaError
from uvea.evaluation.instances import Overlaps, match, score_instances
from uvea.evaluation.membranes import THRESHOLDS, MembraneCurve, score_membranes
from uvea.evaluation.probabilities import ProbabilityCounts, count_probabilities
from uvea.evaluation.rows import instance_values, probability_values, score_case, with_values
from uvea.evaluation.table import CaseScore, Value
from uvea.images import Image, geometry_difference, read, suffix_of
from uvea.images.image import IN_MILLIMETRES, shear_degrees
from uvea.workflows.matching import Failure, Pair

FEW_VALUES = 4
"""Masks with fewer values than this are never taken for instances or for smoothed, so their pieces are not counted."""

VALUES_SHOWN = 8
"""Classes whose values a message lists."""

Kind = Literal["matched", "missed", "false", "split", "merged"]
"""What became of an object."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to look for in one case."""

    pair: Pair
    ignore: int | None = None
    """Value that is no class."""

    marks: bool = False
    """Whether the values of the prediction are asked for."""

    pieces: bool = True
    """Whether connected pieces are, which take most of the time."""

    axes: str | None = None
    """Of the masks, see `uvea.read`, as the next."""

    max_pixels: int | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What must be known of all cases before the first is scored."""

    case: str
    values: Mapping[Key, int] = field(default_factory=dict)
    """Pixels per value of the reference."""

    pieces: Mapping[Key, int] = field(default_factory=dict)
    """Connected pieces per value of the reference."""

    marks: tuple[Key, ...] = ()
    """Values of the prediction, where they were asked for."""

    unit: str = "px"
    axes: str = "yx"
    pixels: int = 0
    one_bit: bool = False
    """Whether the reference has one bit per pixel."""

    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is measured of each case, and how."""

    labels: LabelMap
    unit: str = "px"
    """Of volumes, distances and the tolerance; files in another physical unit are converted."""

    dims: int = 0
    """Spatial axes; 0 where they differ."""

    tolerance: float | None = None
    """None measures no distances."""

    instances: bool = False
    pieces: tuple[bool, bool] = (False, False)
    """Whether the connected pieces of the reference, and of the prediction, are its objects."""

    membranes: bool = False
    membrane_threshold: float = 0.5
    probabilities: bool = False
    threads: int = -1
    axes: str | None = None
    """Of the masks, overruling what files say."""

    max_pixels: int | None = None
    """Files that declare more are not read, see `uvea.read`."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came out for one case."""

    case: str
    rows: tuple[CaseScore, ...] = ()
    curve: MembraneCurve | None = None
    counts: Mapping[int, ProbabilityCounts] = field(default_factory=dict)
    """Probabilities by label, to be added up."""

    without_unit: bool = False
    """Whether volumes and distances are left out, because the file has no pixel size while others have one."""

    shear: float = 0.0
    """Degrees; where it is not 0, volumes and distances are left out, because axes are not at right angles."""

    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """The arrays of one case, on one grid."""

    reference: NDArray[np.int16]
    """Classes, IGNORE where the pixel does not count."""

    prediction: NDArray[np.int16]
    image: Image
    """The reference as it was read."""

    guess: Image | None
    within: NDArray[np.bool_] | None
    probabilities: NDArray[np.floating] | None
    """(classes, …)."""


def look(question: Question) -> Look:
    """Read the values of a reference, and of its prediction where asked for."""
    pair = question.pair
    try:
        image = read_mask(pair.reference, axes=question.axes, max_pixels=question.max_pixels)
        # Of numbers of objects, also two classes are looked at: they may be no numbers.
        least = 3 if question.marks else FEW_VALUES
        values, pieces = _values_of(image, pair.reference, pieces_from=least if question.pieces else None)
        given: tuple[Key, ...] = ()
        if question.marks and pair.prediction is not None and pair.prediction != pair.probabilities:
            guess = read_mask(pair.prediction, axes=question.axes, max_pixels=question.max_pixels)
            marks, _ = _values_of(guess, pair.prediction, pieces_from=None)
            given = tuple(key for key in marks if not is_ignored(key, question.ignore))
        return Look(
            case=pair.case,
            values=values,
            pieces=pieces,
            marks=given,
            unit=image.unit,
            axes=image.axes,
            pixels=image.array.size,
            one_bit=image.array.dtype == np.bool_,
        )
    except Exception as error:  # one broken file must not cost the scores of all others
        return Look(case=pair.case, failure=_failure(pair, error))


def score(job: tuple[Pair, Measures]) -> Outcome:
    """Score one case."""
    pair, measures = job
    try:
        return _score(pair, measures)
    except Exception as error:  # as above
        return Outcome(case=pair.case, failure=_failure(pair, error))


def is_ignored(key: Key, ignore_value: int | None) -> bool:
    """Whether a mask value, gray or a colour, is the one that does not count."""
    return ignore_value is not None and key in (ignore_value, (ignore_value,) * 3)


def load(pair: Pair, measures: Measures) -> Loaded:
    """Read the files of a case and bring them to classes on one grid.

    Raises:
        UveaError: for a file that cannot be read, or that does not fit the reference.
    """
    opened = partial(read_mask, max_pixels=measures.max_pixels)
    image = opened(pair.reference, axes=measures.axes)
    reference = _reference_classes(image, pair.reference, measures.labels)
    within = None
    if pair.within is not None:
        within = _region(opened(pair.within, axes=measures.axes), pair.within, image, pair.reference)
    probabilities = None
    if pair.probabilities is not None:
        maps = read_beside(pair.probabilities, image, measures)
        probabilities = _probabilities(maps, pair.probabilities, image, pair.reference, classes=measures.labels.classes)
    guess = None
    if pair.prediction is None:
        prediction = np.zeros_like(reference)
    elif probabilities is not None and pair.prediction == pair.probabilities:
        # The most probable class; of equal ones the last, so that 0.5 is foreground.
        prediction = (len(probabilities) - 1 - probabilities[::-1].argmax(axis=0)).astype(np.int16)
    else:
        guess = opened(pair.prediction, axes=measures.axes)
        _refuse_other_grid((image, pair.reference), (guess, pair.prediction), "prediction")
        prediction = _classes(guess, pair.prediction, measures.labels)
        _refuse_ignored(prediction, reference, within, path=pair.prediction, ignore_value=measures.labels.ignore)
    return Loaded(
        reference=reference,
        prediction=prediction,
        image=image,
        guess=guess,
        within=within,
        probabilities=probabilities,
    )


def read_beside(path: Path, mask: Image, measures: Measures) -> Image:
    """Read the image or the probability map of a mask.

    As its file says and, where axes were given and the size is not that of the mask, with these, or with channels in
    front of these.
    """
    opened = partial(read, path, max_pixels=measures.max_pixels)
    if measures.axes is not None:
        for axes in (None, measures.axes, f"c{measures.axes}"):
            try:
                image = opened(axes=axes)
            except ShapeError:  # these axes are not those of the file
                continue
            if image.shape == mask.shape:
                return image
    return opened()


def objects_of(loaded: Loaded, measures: Measures) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Object numbers of reference and prediction, 0 for the background and for what does not count.

    In time series each frame has objects of its own.
    """
    counted, timed = _counted(loaded), loaded.image.axes[0] == "t"
    found = []
    for image, labels, pieces in (
        (loaded.image, loaded.reference, measures.pieces[0]),
        (loaded.guess, loaded.prediction, measures.pieces[1] or loaded.guess is None),
    ):
        values = labels if image is None else codes_of(image.array, "")[0]
        numbers = np.where(labels > 0, values, 0).astype(np.int64)
        if pieces or image is None or timed:
            numbers = _numbered(numbers, pieces=pieces or image is None, timed=timed)
        found.append(np.where(counted, numbers, 0))
    return found[0], found[1]


def _numbered(values: NDArray[np.int64], *, pieces: bool, timed: bool) -> NDArray[np.int64]:
    """Other numbers for the same values (...) in each frame, or for their connected pieces; corners connect."""
    from skimage.measure import label

    frames = values if timed else values[None]
    numbers = np.zeros_like(frames)
    last = 0
    for frame, number in zip(frames, numbers, strict=True):
        inside = frame != 0
        one = label(frame, background=0) if pieces else frame  # type: ignore[no-untyped-call]
        number[inside] = one[inside] + last
        last = max(last, int(number.max()))
    return numbers.reshape(values.shape)


def kinds_of(found: Overlaps) -> tuple[dict[int, Kind], dict[int, Kind]]:
    """What became of each object, by number: matched, missed, split or merged; and of each predicted one."""
    matched = match(found, 0.5)
    reference: dict[int, Kind] = dict.fromkeys(found.reference_ids.tolist(), "missed")
    prediction: dict[int, Kind] = dict.fromkeys(found.prediction_ids.tolist(), "false")
    reference |= dict.fromkeys(found.reference_ids[found.reference_index[matched]].tolist(), "matched")
    prediction |= dict.fromkeys(found.prediction_ids[found.prediction_index[matched]].tolist(), "matched")
    sides: tuple[tuple[dict[int, Kind], dict[int, Kind], Any, Any, Any, Kind], ...] = (
        (reference, prediction, found.prediction_sizes, found.reference_index, found.prediction_index, "split"),
        (prediction, reference, found.reference_sizes, found.prediction_index, found.reference_index, "merged"),
    )
    # As splits and merges are counted: several objects have more than half of their pixels in one.
    for ids, others, sizes, mine, theirs, kind in sides:
        inside = 2 * found.intersections > sizes[theirs]
        several = np.bincount(mine[inside], minlength=len(ids)) > 1
        place, partner = mine[inside], theirs[inside]
        names = list(ids), list(others)
        for one, other in zip(place.tolist(), partner.tolist(), strict=True):
            if several[one]:
                ids[names[0][one]] = kind
                others[names[1][other]] = kind
    return reference, prediction


def _score(pair: Pair, measures: Measures) -> Outcome:
    loaded = load(pair, measures)
    shear = shear_degrees(loaded.image.direction)
    spacing = None if shear else _spacing(loaded.image, measures.unit)
    rows = score_case(
        pair.case,
        loaded.reference,
        loaded.prediction,
        names=measures.labels.names,
        within=loaded.within,
        group=pair.group,
        spacing=spacing,
        tolerance=measures.tolerance,
        threads=measures.threads,
    )
    more: dict[str, Value] = {}
    if measures.instances:
        more |= instance_values(score_instances(*objects_of(loaded, measures)))
    curve = _membranes(loaded, measures) if measures.membranes else None
    counts: dict[int, ProbabilityCounts] = {}
    if loaded.probabilities is not None and measures.probabilities:
        counts = {
            label: count_probabilities(
                loaded.reference, loaded.probabilities, label=label, ignore=IGNORE, within=loaded.within
            )
            for label in range(1, measures.labels.classes)
        }
    rows[1] = with_values(rows[1], more)
    without_unit = spacing is None and not shear
    return Outcome(case=pair.case, rows=tuple(rows), curve=curve, counts=counts, without_unit=without_unit, shear=shear)


def with_probabilities(rows: tuple[CaseScore, ...], counts: Mapping[int, ProbabilityCounts]) -> tuple[CaseScore, ...]:
    """The rows with the metrics of their probabilities."""
    return tuple(
        with_values(row, probability_values(counts[row.label])) if row.label in counts else row for row in rows
    )


def _membranes(loaded: Loaded, measures: Measures) -> MembraneCurve:
    thresholds, fixed = THRESHOLDS, measures.membrane_threshold
    if loaded.probabilities is None:
        membrane = (loaded.prediction <= 0).astype(np.float32)
        thresholds, fixed = (0.5,), 0.5  # a mask is the same at every one, but at 0, where all is membrane
    else:
        membrane = np.clip(loaded.probabilities[0].astype(np.float32), 0, 1)
    cells = np.where(loaded.reference > 0, 1, 0)
    if measures.labels.kind == "instances" and not measures.pieces[0]:
        cells = objects_of(loaded, measures)[0]
    return score_membranes(cells, membrane, thresholds=thresholds, fixed=fixed, within=_counted(loaded))


def _counted(loaded: Loaded) -> NDArray[np.bool_]:
    counted: NDArray[np.bool_] = loaded.reference != IGNORE
    return counted if loaded.within is None else counted & loaded.within


def _spacing(image: Image, unit: str) -> tuple[float, ...] | None:
    """Size of a pixel in the unit of all; None where there is none, or where an axis is time."""
    if image.axes.startswith("t") or (image.unit == "px") != (unit == "px"):
        return None
    factor = 1.0 if image.unit == unit else IN_MILLIMETRES[image.unit] / IN_MILLIMETRES[unit]
    return tuple(length * factor for length in image.spacing)


def _values_of(image: Image, path: Path, *, pieces_from: int | None) -> tuple[dict[Key, int], dict[Key, int]]:
    """Pixels of each value of a mask and, where there are at least so many values, its connected pieces."""
    codes, coloured = codes_of(image.array, str(path))
    if codes.dtype.kind == "f":
        broken = codes[codes != np.rint(codes)]  # NaN too; infinity is caught by the bound
        if broken.size or np.abs(codes).max(initial=0) > 2**53:
            worst = broken.flat[0] if broken.size else np.abs(codes).max()
            raise DatasetError(
                f"{path} has a value that is no label: {worst:.8g}",
                hint=way_to_whole_numbers(worst),
            )
        codes = codes.astype(np.int64)

    def by_key(counts: Mapping[Any, int]) -> dict[Key, int]:
        return {colour_of(value) if coloured else value: count for value, count in counts.items()}

    found, counted = count_values(codes)
    pixels = by_key(dict(zip(found.tolist(), counted.tolist(), strict=True)))
    if pieces_from is None or len(found) < pieces_from:
        return pixels, {}
    return pixels, by_key(pieces_of(codes, timed=image.axes[0] == "t")[0])


def _reference_classes(image: Image, path: Path, labels: LabelMap) -> NDArray[np.int16]:
    try:
        return labels.encode(image.array, where=str(path))
    except DatasetError as error:
        unknown = _unknown(image, labels)
        if not unknown:
            raise
        raise DatasetError(
            error.problem,
            hint=f"name all classes: {_named(labels, unknown)}; or leave its pixels out: --ignore-value {unknown[0]}",
        ) from error


def _classes(image: Image, path: Path, labels: LabelMap) -> NDArray[np.int16]:
    if image.array.dtype.kind == "f":
        broken = image.array[~np.isfinite(image.array) | (image.array != np.rint(image.array))]
        if broken.size:
            raise DatasetError(
                f"{path} has a value that is no label: {broken.flat[0]:.8g}",
                hint="threshold probability maps first, or score them with --probabilities",
            )
    try:
        return labels.encode(image.array, where=str(path))
    except DatasetError as error:
        unknown = _unknown(image, labels)
        if not unknown:
            raise
        known = [str(value) for value in labels.values[:VALUES_SHOWN]]
        more = f" and {labels.classes - len(known)} more" if labels.classes > len(known) else ""
        raise DatasetError(
            f"{error.problem}; the references have {', '.join(known)}{more}",
            hint=_way_out(image, path, labels, unknown),
        ) from error


def _way_out(image: Image, path: Path, labels: LabelMap, unknown: Sequence[int]) -> str:
    """What is most likely meant by a prediction whose values the references do not know."""
    if suffix_of(path) in (".jpg", ".jpeg"):
        return "save masks as PNG or TIFF: JPEG changes values"
    if len(unknown) > FEW_VALUES or labels.classes > VALUES_SHOWN:
        return "if values number objects, add --instances; if they are probabilities, give them as --probabilities, too"
    naming = _named(labels, unknown)
    others = labels.values[1:]
    if len(others) == len(unknown) == 1 and not (image.array == others[0]).any():
        return f"write {others[0]} in place of {unknown[0]}; if {unknown[0]} is another class, name all: {naming}"
    return f"if it is a class that no reference has, name all classes: {naming}"


def _unknown(image: Image, labels: LabelMap) -> list[int]:
    """Values of a gray mask of whole numbers that are no class."""
    if labels.kind != "values" or not is_gray(image.array):
        return []
    known = {*labels.values, labels.ignore}
    return [int(value) for value in np.unique(image.array[0]).tolist() if value not in known]


def _named(labels: LabelMap, more: Sequence[int]) -> str:
    """The option that names all classes, and these."""
    known = [f"{value}={name}" for value, name in zip(labels.values, labels.names, strict=True)]
    return f"--labels {quote(','.join([*known, *(f'{value}=value {value}' for value in more)]))}"


def _region(image: Image, path: Path, truth: Image, truth_path: Path) -> NDArray[np.bool_]:
    _refuse_other_grid((truth, truth_path), (image, path), "region")
    if image.array.dtype.kind == "f" and np.isnan(image.array).any():
        raise DatasetError(f"{path} has NaN values", hint="save regions as whole numbers, 0 for what does not count")
    inside: NDArray[np.bool_] = (image.array != 0).any(axis=0)
    return inside


def _probabilities(image: Image, path: Path, truth: Image, truth_path: Path, *, classes: int) -> NDArray[np.floating]:
    """Probabilities (classes, …), from 0 to 1."""
    _refuse_other_grid((truth, truth_path), (image, path), "probability map")
    array = image.array
    found = array.astype(array.dtype if array.dtype == np.float64 else np.float32, copy=False)
    if array.dtype.kind in "iu":
        found = found / np.iinfo(array.dtype.name).max
    if len(found) == 1 and classes == 2:
        found = np.concatenate([1 - found, found])
    if len(found) != classes:
        raise ShapeError(
            f"{path} has {len(found)} channels, there are {classes} classes",
            hint="give one channel per class, background first; for two classes, the foreground alone will do",
        )
    low, high = float(found.min()), float(found.max())
    if math.isnan(low):
        raise DatasetError(f"{path} has NaN values, which are no probabilities", hint="give every pixel one, such as 0")
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise DatasetError(
            f"{path} has values from {low:g} to {high:g}, which are no probabilities",
            hint="give the output of softmax or sigmoid, from 0 to 1",
        )
    return found


def _refuse_other_grid(first: tuple[Image, Path], second: tuple[Image, Path], what: str) -> None:
    if difference := _grid_difference(first, second):
        turned = difference.startswith("orientations")
        way = "turn both one way, as with nibabel.as_closest_canonical" if turned else ""
        raise ShapeError(
            f"{first[1]} and its {what} {second[1]} cannot be compared, their {difference}",
            hint=way or f"check that both belong to one image; resample the {what} to the grid of the reference",
        )


def _grid_difference(first: tuple[Image, Path], second: tuple[Image, Path]) -> str | None:
    """What differs between two grids, as far as both files know where they are."""
    (one, one_path), (other, other_path) = first, second
    if one.shape != other.shape:
        difference = geometry_difference(one, other) or ""
        sizes = ["×".join(map(str, image.shape)) for image in (one, other)]
        turned = difference.startswith("orientations")
        return difference if turned else f"sizes differ: {sizes[0]} and {sizes[1]} ({one.axes})"
    if "px" in (one.unit, other.unit):
        return None
    if any("tif" in suffix_of(path) for path in (one_path, other_path)):
        # TIFF has a pixel size but no place in the world.
        plain = tuple(0.0 for _ in one.origin)
        one, other = (replace(image, origin=plain, direction=()) for image in (one, other))
    return geometry_difference(one, other)


def _refuse_ignored(
    guess: NDArray[np.int16],
    right: NDArray[np.int16],
    region: NDArray[np.bool_] | None,
    *,
    path: Path,
    ignore_value: int | None,
) -> None:
    """A prediction may leave out what the reference leaves out, and nothing else."""
    if ignore_value is None:
        return
    undecided = (guess == IGNORE) & (right != IGNORE)
    if region is not None:
        undecided &= region
    if undecided.any():
        raise DatasetError(
            f"{path} has the ignored value {ignore_value} in {int(undecided.sum())} pixels that its reference decides",
            hint="predict a class for every pixel",
        )


def _failure(pair: Pair, error: Exception) -> Failure:
    if isinstance(error, UveaError):
        return Failure(case=pair.case, kind=type(error), problem=error.problem, hint=error.hint)
    if isinstance(error, MemoryError):
        return Failure(
            case=pair.case,
            kind=DatasetError,
            problem=f"there is not enough memory to score {pair.prediction} against {pair.reference}",
            hint="add --workers 1, close other programs, or cut the image",
        )
    said = " ".join(str(error).split())
    return Failure(
        case=pair.case,
        kind=DatasetError,
        problem=f"scoring {pair.prediction} against {pair.reference} failed with {type(error).__name__}: {said}",
        hint="this is a fault of uvea: report it, with the two files if you can",
    )
