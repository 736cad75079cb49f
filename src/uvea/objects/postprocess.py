"""Clean the masks of a semantic model, class by class, and find out on validation data whether that helps.

Components hang together over faces, edges and corners; holes over faces. Pixels that were not annotated are never
changed, and no class is ever overwritten by another: what is taken from a class becomes background, and only
background is filled.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import stdtrit

from uvea.errors import DatasetError, ShapeError
from uvea.plan.decoding import Cleaning

Labels = NDArray[np.int16]

MIN_SIZES = (8, 16, 32, 64, 128, 256)
"""Pixels: what `choose_postprocessing` tries."""

HOLES = (8, 32, 128, 512, 2048)

LEAST_GAIN = 0.001
"""A smaller gain is not worth a setting."""

LEAST_CASES = 5
"""With fewer cases, or groups of them, the spread of a gain says nothing."""

CHANCE = 1 / 40
"""How often pure chance may look like a gain, where several components, or several holes, are tried on a class."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One cleaning of one class on all validation cases."""

    label: int
    """The class."""

    cleaning: Cleaning
    score: float
    """Mean over the groups."""

    gain: float
    """Over the best so far; mean over the groups."""

    error: float
    """Standard error of the gain."""

    accepted: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the validation cases say about cleaning."""

    cleanings: Mapping[int, Cleaning]
    """By class; classes that are best left alone are not there."""

    tried: tuple[Tried, ...]
    reason: str
    """One sentence for the plan."""


def clean(
    labels: NDArray[np.integer], cleanings: Mapping[int, Cleaning], *, timed: bool = False, share: float = 1.0
) -> NDArray[np.integer]:
    """Clean a mask.

    Args:
        labels: (...) classes, 0 background, IGNORE (-1) not annotated.
        cleanings: what to do, by class from 1, done in this order.
        timed: whether the first axis is time: each frame is a mask of its own then.
        share: how many pixels of those that sizes count a pixel is, see `Cleaning`.

    Returns:
        A new array of the same type; the same one where there is nothing to do.

    Raises:
        DatasetError: if background is to be cleaned.
    """
    if not labels.size:
        return labels
    if timed and cleanings:
        return np.stack([clean(frame, cleanings, share=share) for frame in labels])
    for label, settings in cleanings.items():
        if label < 1:
            raise DatasetError(f"class {label} cannot be cleaned", hint="name classes from 1; holes are background")
        how = settings.on(share)
        if how.largest or how.min_size > 1:
            labels = _drop(labels, label, how)
        if how.fill_holes:
            labels = _fill(labels, label, how.fill_holes)
    return labels


def choose_postprocessing(
    cases: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]],
    score: Callable[[NDArray[np.integer], NDArray[np.integer], int], float],
    *,
    classes: int,
    groups: Sequence[Hashable] | None = None,
    timed: Sequence[bool] | None = None,
    shares: Sequence[float] | None = None,
    min_sizes: Sequence[int] = MIN_SIZES,
    holes: Sequence[int] = HOLES,
) -> Choice:
    """Find the cleaning of each class that improves validation by more than noise.

    First the components (the largest only, or a least size), then, on top of what was accepted, the holes. The best
    is accepted if its mean gain is at least LEAST_GAIN, and above zero by a t-test at CHANCE divided by the number of
    these trials, from LEAST_CASES groups: with 5 groups it is about five standard errors, with 20 about three.

    Args:
        cases: truth and prediction of each, classes (...).
        score: of (truth, prediction, class), larger is better; Dice, as a rule.
        classes: background included.
        groups: patient or stack of each case: its cases count as one. None: every case by itself.
        timed: whether the first axis of each case is time, see `clean`. None: of no case.
        shares: that of each case, see `clean`; None for 1.
        min_sizes: least sizes to try, pixels.
        holes: sizes of holes to try, pixels.

    Returns:
        Choice, with every trial.

    Raises:
        ShapeError: if there is not one group per case.
    """
    names = list(range(len(cases))) if groups is None else list(groups)
    if len(names) != len(cases):
        raise ShapeError(f"{len(names)} groups for {len(cases)} cases", hint="give one group per case, or none")
    series = [False] * len(cases) if timed is None else list(timed)
    sizes = [1.0] * len(cases) if shares is None else list(shares)
    members = [[i for i, name in enumerate(names) if name == group] for group in dict.fromkeys(names)]
    if len(members) < LEAST_CASES:
        reason = f"masks are left as they are: {len(members)} validation groups are too few to tell a gain from chance"
        return Choice(cleanings={}, tried=(), reason=reason)
    tried: list[Tried] = []
    cleanings: dict[int, Cleaning] = {}
    said: list[str] = []
    for label in range(1, classes):
        best = Cleaning()
        current = _scores(cases, series, sizes, score, label, best, members)
        components = [replace(best, largest=True), *(replace(best, min_size=size) for size in min_sizes)]
        for step in range(2):
            options = components if step == 0 else [replace(best, fill_holes=size) for size in holes]
            errors = float(stdtrit(len(members) - 1, 1 - CHANCE / len(options)))
            trials = []
            for option in options:
                found = _scores(cases, series, sizes, score, label, option, members)
                gains = found - current
                gain, error = float(gains.mean()), float(gains.std(ddof=1)) / sqrt(len(gains))
                trials.append((gain if gain >= max(LEAST_GAIN, errors * error) else 0.0, option, found, gain, error))
            worth, option, found, gain, _ = max(trials, key=lambda trial: trial[0])
            tried += [
                Tried(
                    label=label,
                    cleaning=other,
                    score=float(values.mean()),
                    gain=by,
                    error=spread,
                    accepted=worth > 0 and other == option,
                )
                for _, other, values, by, spread in trials
            ]
            if worth > 0:
                best, current = option, found
                said.append(f"class {label} {_words(option, step)} ({gain:+.4f})")
        if best != Cleaning():
            cleanings[label] = best
    reason = "; ".join(said) or f"none of {len(tried)} cleanings gained more than chance would on {len(members)} groups"
    return Choice(cleanings=cleanings, tried=tuple(tried), reason=reason)


def _drop(labels: NDArray[np.integer], label: int, how: Cleaning) -> NDArray[np.integer]:
    components, count = ndimage.label(labels == label, ndimage.generate_binary_structure(labels.ndim, labels.ndim))
    if not count:
        return labels
    sizes = np.bincount(components.reshape(-1))
    # Of components of one size the first is kept.
    keep = np.arange(count + 1) == sizes[1:].argmax() + 1 if how.largest else np.ones(count + 1, np.bool_)
    keep &= sizes >= how.min_size
    keep[0] = True
    return np.where(keep[components], labels, labels.dtype.type(0))


def _fill(labels: NDArray[np.integer], label: int, largest: int) -> NDArray[np.integer]:
    """Fill pieces of background that touch nothing but the class, not even the border of the array."""
    pieces, count = ndimage.label(labels == 0)
    fill = np.bincount(pieces.reshape(-1), minlength=count + 1) <= largest
    fill[0] = False
    for axis in range(labels.ndim):
        for index in (0, -1):
            fill[pieces.take(index, axis=axis)] = False
        before, after = (slice(None),) * axis, (slice(None),) * (labels.ndim - axis - 1)
        low, high = (*before, slice(None, -1), *after), (*before, slice(1, None), *after)
        for piece, neighbour in ((pieces[low], labels[high]), (pieces[high], labels[low])):
            fill[piece[(piece > 0) & (neighbour != 0) & (neighbour != label)]] = False
    return np.where(fill[pieces], labels.dtype.type(label), labels)


def _scores(
    cases: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]],
    timed: Sequence[bool],
    shares: Sequence[float],
    score: Callable[[NDArray[np.integer], NDArray[np.integer], int], float],
    label: int,
    how: Cleaning,
    members: Sequence[Sequence[int]],
) -> NDArray[np.float64]:
    """Mean score of each group."""
    found = np.array(
        [
            score(truth, clean(prediction, {label: how}, timed=series, share=share), label)
            for (truth, prediction), series, share in zip(cases, timed, shares, strict=True)
        ]
    )
    return np.array([found[group].mean() for group in map(list, members)])


def _words(how: Cleaning, step: int) -> str:
    if step:
        return f"with holes of up to {how.fill_holes} pixels filled"
    return "with its largest component only" if how.largest else f"without components under {how.min_size} pixels"
