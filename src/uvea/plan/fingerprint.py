"""What was measured of a dataset, in a form that decisions can be made on and a reader can check.

Made from the survey alone: no file is opened here. Tuples follow array-axis order.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict

from uvea.arrays.labels import Key, LabelMap
from uvea.datasets.check import in_colour
from uvea.datasets.measure import PERCENTS
from uvea.datasets.survey import CaseFacts, Survey
from uvea.errors import DatasetError
from uvea.images.image import IN_MILLIMETRES
from uvea.images.orientation import is_orientation

MIRRORED = 0.9
"""Share of the cases in which two classes must lie like mirror images to be taken for them."""

MIRROR_VOLUMES = 1.5
"""The larger of two mirror images has less than this times the pixels of the other."""

MIRROR_SLANT = 0.25
"""How far apart mirror images may be along the other axes, as a share of their distance from left to right."""


def _checked_orientation(text: str) -> str:
    if text and not is_orientation(text):
        raise ValueError(f"{text!r:.20} is no orientation, such as 'RAS'")
    return text


class Fingerprint(BaseModel):
    """Measured over the annotated cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cases: int
    axes: str
    """"yx", "zyx" or "tyx"."""

    channels: int
    colour: bool
    """The channels look like red, green and blue: three of them, 8 or 16 bit, in one file."""

    dtypes: tuple[str, ...]
    shape_min: tuple[int, ...]
    shape_median: tuple[int, ...]
    shape_max: tuple[int, ...]
    unit: str
    spacing_min: tuple[float, ...]
    spacing_median: tuple[float, ...]
    spacing_max: tuple[float, ...]

    minimum: float
    """Over all channels and cases."""

    maximum: float
    zeros: float
    """Median over the cases of the share of pixels near the darkest value: 0, 0.02 or 0.5, from the percentiles."""

    skew: float
    """Median over cases of (median - p2) / (p98 - p2) of the first channel: near 0 for bright things on black."""

    skew_spread: float = 0.0
    """Standard deviation of the same between the cases: large where images are of different kinds."""

    foreground_mean: tuple[float, ...]
    """Per channel, mean over cases; empty where there is no foreground."""

    foreground_std: tuple[float, ...]
    foreground_low: tuple[float, ...]
    """Per channel, mean over cases of the 0.5th percentile of the foreground."""

    foreground_high: tuple[float, ...]
    """The same of the 99.5th."""

    class_fraction: tuple[float, ...]
    """Share of the annotated pixels, per class."""

    class_cases: tuple[int, ...]
    """Number of cases that have the class."""

    object_size: float
    """Median size of a connected object, pixels."""

    thickness: float = 0.0
    """Median over cases of how wide the foreground is in a plane, or the rest where that is narrower, pixels: the width
    of lines, about the radius of discs; 0 where it is not known."""

    orientation: Annotated[str, AfterValidator(_checked_orientation)] = ""
    """To which volumes are brought whose files say how they lie, such as "RAS"; empty: they stay as they are stored."""

    left_right: bool
    """Two labels are named as the left and the right of one thing."""

    left_right_axis: int | None
    """Spatial axis that runs from the left to the right of a patient; None where unknown, or not in all cases one."""

    mirror_pairs: tuple[tuple[str, str], ...] = ()
    """Classes that lie like mirror images of each other on the left and the right of a patient."""

    @classmethod
    def unmeasured(cls, *, channels: int, shape: tuple[int, ...]) -> Self:
        """Of 2D images in pixels of which no more than channels and size (y, x) is known."""
        return cls(
            cases=0,
            axes="yx",
            channels=channels,
            colour=channels == 3,
            dtypes=(),
            shape_min=shape,
            shape_median=shape,
            shape_max=shape,
            unit="px",
            spacing_min=(1.0, 1.0),
            spacing_median=(1.0, 1.0),
            spacing_max=(1.0, 1.0),
            minimum=0.0,
            maximum=0.0,
            zeros=0.0,
            skew=0.0,
            foreground_mean=(),
            foreground_std=(),
            foreground_low=(),
            foreground_high=(),
            class_fraction=(),
            class_cases=(),
            object_size=0.0,
            left_right=False,
            left_right_axis=None,
        )


def _spacing_in(unit: str, fact: CaseFacts) -> tuple[float, ...]:
    """Pixel size of an image in a unit; in px, relative to its shortest side. Time stays as it is."""
    space = fact.spacing[1:] if fact.axes.startswith("t") else fact.spacing
    factor = 1 / min(space) if unit == "px" else IN_MILLIMETRES[fact.unit] / IN_MILLIMETRES[unit]
    return (*fact.spacing[: len(fact.spacing) - len(space)], *(length * factor for length in space))


def measure(survey: Survey) -> Fingerprint:
    """Sum up a survey.

    Raises:
        DatasetError: if no case has both an image and a mask that can be read.
    """
    facts = [fact for fact in survey.facts if fact.shape and fact.mask_values and not fact.problems]
    if not facts:
        raise DatasetError(
            "no image has a mask that can be read", hint="see `uvea check` for what was found and what is wrong with it"
        )
    axes = Counter(fact.axes for fact in facts).most_common(1)[0][0]
    facts = [fact for fact in facts if len(fact.axes) == len(axes)]
    channels = max(fact.channels for fact in facts)
    full = [fact for fact in facts if fact.channels == channels]
    shapes = np.array([fact.shape for fact in facts])
    units = Counter(fact.unit for fact in facts)
    # Where one file says no size, what all have in common is how many times larger a pixel is along one axis.
    unit = "px" if "px" in units else units.most_common(1)[0][0]
    spacings = np.array([_spacing_in(unit, fact) for fact in facts])
    with_foreground = [fact for fact in full if fact.foreground_mean]
    low, high = PERCENTS.index(0.5), PERCENTS.index(99.5)
    fraction, present = _class_shares(facts, survey.labels)
    return Fingerprint(
        cases=len(facts),
        axes=axes,
        channels=channels,
        colour=in_colour(full),
        dtypes=tuple(sorted({fact.dtype for fact in facts})),
        shape_min=_ints(shapes.min(0)),
        shape_median=_ints(np.median(shapes, axis=0)),
        shape_max=_ints(shapes.max(0)),
        unit=unit,
        spacing_min=_floats(spacings.min(0)),
        spacing_median=_floats(np.median(spacings, axis=0)),
        spacing_max=_floats(spacings.max(0)),
        minimum=min(min(fact.minimum) for fact in facts),
        maximum=max(max(fact.maximum) for fact in facts),
        zeros=float(np.median([_zeros(fact) for fact in facts])),
        skew=float(np.median([_skew(fact) for fact in facts])),
        skew_spread=_floats(np.array([np.std([_skew(fact) for fact in facts])]))[0],
        foreground_mean=_mean([fact.foreground_mean for fact in with_foreground]),
        foreground_std=_mean([fact.foreground_std for fact in with_foreground]),
        foreground_low=_mean([[channel[low] for channel in fact.foreground_percentiles] for fact in with_foreground]),
        foreground_high=_mean([[channel[high] for channel in fact.foreground_percentiles] for fact in with_foreground]),
        class_fraction=fraction,
        class_cases=present,
        object_size=float(np.median([fact.object_size for fact in facts if fact.objects] or [0.0])),
        # Of those that are not turned out of the planes in which it was measured: most are not.
        thickness=float(
            np.median([fact.thickness for fact in facts if fact.objects and not any(fact.turn.order[:1])] or [0.0])
        ),
        orientation=survey.orientation,
        left_right=_named_left_and_right(survey.labels.names),
        left_right_axis=_left_right_axis(facts),
        mirror_pairs=_mirror_pairs(facts, survey.labels),
    )


def _class_shares(facts: Sequence[CaseFacts], labels: LabelMap) -> tuple[tuple[float, ...], tuple[int, ...]]:
    keys = labels.colours if labels.kind == "colours" else labels.values
    pixels = np.zeros((len(facts), labels.classes))
    for row, fact in zip(pixels, facts, strict=True):
        for value, count in fact.mask_values.items():
            if value == labels.ignore:
                continue
            if labels.kind == "instances":
                row[0 if value == keys[0] else 1] += count
            elif value in keys:
                row[keys.index(value)] += count
    return _floats(pixels.sum(0) / max(pixels.sum(), 1)), _ints((pixels > 0).sum(0))


def _zeros(fact: CaseFacts) -> float:
    values = np.array(fact.percentiles).min(0)
    at_bottom = [share for share, value in zip((0.0, 0.02, 0.5), values[:3], strict=True) if value == 0]
    return max(at_bottom, default=0.0)


def _skew(fact: CaseFacts) -> float:
    p2, p50, p98 = (fact.percentiles[0][PERCENTS.index(p)] for p in (2.0, 50.0, 98.0))
    return (p50 - p2) / (p98 - p2) if p98 > p2 else 0.5


def _named_left_and_right(names: Sequence[str]) -> bool:
    plain = {" ".join(re.split(r"[^a-z0-9]+", name.lower())).strip() for name in names}
    for name in plain:
        for left, right in (("left", "right"), ("l", "r"), ("lh", "rh")):
            words = name.split()
            if left in words and " ".join(right if word == left else word for word in words) in plain:
                return True
    return False


def _left_right_axis(facts: Sequence[CaseFacts]) -> int | None:
    """The array axis closest to the world's x, which runs from right to left, if it is one for all cases."""
    if not all(fact.axes == "zyx" and fact.unit == "mm" for fact in facts):
        return None
    found = {_across(fact)[0] for fact in facts}
    return found.pop() if len(found) == 1 else None


def _across(fact: CaseFacts) -> tuple[int, float]:
    """Array axis that runs between the left and the right of a volume, and 1 or -1 for its sense."""
    along_x = np.array(fact.direction)[-1]
    axis = int(np.abs(along_x).argmax())
    return axis, float(np.sign(along_x[axis]))


def _mirror_pairs(facts: Sequence[CaseFacts], labels: LabelMap) -> tuple[tuple[str, str], ...]:
    """Names of classes that a mirror between left and right turns into each other, such as two kidneys.

    In MIRRORED of the cases that have both, at least: one is no more than MIRROR_VOLUMES times as large; the same
    one is on the left; they are further apart from left to right than along the other axes together, by
    1 / MIRROR_SLANT; and the middle of all classes lies in the middle half of the way from one to the other.
    """
    if labels.kind == "instances" or not all(fact.axes == "zyx" and fact.unit == "mm" for fact in facts):
        return ()
    keys: Sequence[Key] = labels.colours if labels.kind == "colours" else labels.values
    index_of = {key: index for index, key in enumerate(keys) if index > 0}
    both: Counter[tuple[int, int]] = Counter()
    on_side: dict[int, Counter[tuple[int, int]]] = {1: Counter(), -1: Counter(), 0: Counter()}
    for fact in facts:
        present = sorted(index_of[key] for key in fact.mask_centres if key in index_of)
        if len(present) > 1:
            pairs = list(combinations(present, 2))
            both.update(pairs)
            for pair, side in zip(pairs, _sides(fact, [keys[index] for index in present]), strict=True):
                on_side[side][pair] += 1
    found = [pair for pair in both if max(on_side[1][pair], on_side[-1][pair]) >= MIRRORED * both[pair]]
    return tuple((labels.names[i], labels.names[j]) for i, j in sorted(found))


def _sides(fact: CaseFacts, keys: Sequence[Key]) -> list[int]:
    """For every two of these classes, in the order of `combinations`: whether they are mirror images in this case.

    1 or -1 where they are, by the side that the first one is on; else 0.
    """
    first, second = np.triu_indices(len(keys), 1)
    volumes = np.array([fact.mask_values[key] for key in keys])
    centres = np.array([fact.mask_centres[key] for key in keys])
    axis, sense = _across(fact)
    size = np.multiply(fact.shape, fact.spacing)
    apart = (centres[first] - centres[second]) * size
    across = apart[:, axis]
    slant = np.linalg.norm(np.delete(apart, axis, axis=1), axis=1)
    # Each class counts once: a large liver would pull the middle to its side.
    middle = np.mean([centre[axis] for centre in fact.mask_centres.values()])
    off = abs((centres[first, axis] + centres[second, axis]) / 2 - middle) * size[axis]
    larger, smaller = np.maximum(volumes[first], volumes[second]), np.minimum(volumes[first], volumes[second])
    alike = (larger <= MIRROR_VOLUMES * smaller) & (slant <= MIRROR_SLANT * abs(across)) & (off <= abs(across) / 4)
    sides: list[int] = np.where(alike, sense * np.sign(across), 0).astype(int).tolist()
    return sides


def _mean(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return _floats(np.mean(np.array(rows), axis=0)) if rows else ()


def _ints(values: np.ndarray) -> tuple[int, ...]:
    return tuple(round(float(value)) for value in values)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{float(value):.6g}") for value in values)
