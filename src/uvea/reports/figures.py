"""Where the lines, ticks and dots of a figure go: numbers in, positions out.

The templates turn positions into inline SVG, which takes its colours from the page and so follows light and dark.
Positions are in units of the drawing, x to the right, y down. Nothing here knows what the numbers mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from uvea.reports.page import scored

WIDTH, HEIGHT = 540.0, 250.0
"""Size of a drawing."""

LEFT, RIGHT, TOP, BOTTOM = 52.0, 18.0, 16.0, 36.0
"""Margins around the plotted area."""

MOST_POINTS = 600
"""A line has no more points than this: about one per pixel."""

MOST_DOTS = 150
"""Dots in one row of a strip; of more values, these are drawn evenly by rank."""

BOX_FROM = 8
"""With fewer values than this, quartiles say less than the dots."""


@dataclass(frozen=True)
class Tick:
    """A labelled value on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point with the text that appears over it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One quantity over the course of something."""

    title: str
    x_label: str
    description: str
    """What a reader who cannot see the figure should know."""

    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    line: str
    """Points of a polyline, "x,y x,y"."""

    faint_line: str = ""
    """The same before smoothing; empty where nothing was smoothed."""

    dots: tuple[Dot, ...] = ()
    best: Dot | None = None
    """The largest value, where larger is better."""

    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of dots."""

    label: str
    y: float
    dots: tuple[Dot, ...]
    median: float | None
    """None where no value is finite."""

    box: tuple[float, float] | None = None
    """Lower and upper quartile."""

    mean: Dot | None = None
    interval: tuple[float, float] | None = None
    """Of the mean."""

    beyond: str = ""
    """What does not fit on the axis, such as "3 at ∞"."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """How the values of several groups are spread."""

    description: str
    rows: tuple[Row, ...]
    x_ticks: tuple[Tick, ...]
    x_label: str
    width: float
    height: float
    left: float
    right: float
    bottom: float
    thinned: bool = False
    """Whether some values have no dot."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean to draw into a row, with its interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def draw_curve(
    x: Sequence[float | None],
    y: Sequence[float | None],
    *,
    title: str,
    x_label: str,
    larger_is_better: bool = False,
) -> Curve | None:
    """Lay out a curve; points that are None or not finite are left out.

    Args:
        x: position along the course, such as steps.
        y: the quantity, as many.
        title: name of the quantity.
        x_label: name of the course.
        larger_is_better: mark the largest value, and show every point as a dot; otherwise the axis starts at 0 and
            many points are smoothed.

    Returns:
        None where there is no point to draw.
    """
    points = np.array([(a, b) for a, b in zip(x, y, strict=True) if finite(a) and finite(b)], dtype=float)
    if not len(points):
        return None
    points = points[np.argsort(points[:, 0], kind="stable")]
    across, up = points[:, 0], points[:, 1]
    smooth = up if larger_is_better or len(up) < 80 else _smoothed(up, max(len(up) // 60, 2))

    low, high = _y_range(up, smooth, larger_is_better)
    y_ticks = nice_ticks(low, high)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    x_low, x_high = (min(0.0, float(across[0])), float(across[-1]))
    if x_low == x_high:
        x_high = x_low + 1

    def place_x(value: float) -> float:
        return round(LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def place_y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)

    def polyline(values: NDArray[np.float64]) -> str:
        stride = math.ceil(len(values) / MOST_POINTS)
        chosen = sorted({*range(0, len(values), stride), len(values) - 1})
        return " ".join(f"{place_x(across[i])},{place_y(values[i])}" for i in chosen)

    dots = [Dot(place_x(a), place_y(b), f"{x_label} {a:,.10g}: {b:.4g}") for a, b in points]
    top = int(np.argmax(up))
    if larger_is_better:
        description = f"{title}: {up[0]:.3g} at first, {up[top]:.3g} at best, {up[-1]:.3g} at last, {len(up)} points."
    else:
        description = f"{title}: from {smooth[0]:.3g} to {smooth[-1]:.3g}, {len(up)} points."
    return Curve(
        title=title,
        x_label=x_label,
        description=description,
        x_ticks=tuple(Tick(place_x(value), tick_text(value)) for value in nice_ticks(x_low, x_high, inside=True)),
        y_ticks=tuple(Tick(place_y(value), tick_text(value)) for value in y_ticks),
        line=polyline(smooth),
        faint_line="" if smooth is up else polyline(up),
        dots=tuple(dots) if len(dots) == 1 or (larger_is_better and len(dots) <= 100) else (),
        best=Dot(dots[top].x, dots[top].y, f"{up[top]:.3f}") if larger_is_better else None,
    )


def draw_strip(
    groups: Mapping[str, Sequence[tuple[str, float]]],
    *,
    quantity: str,
    share: bool = True,
    means: Mapping[str, Mean] | None = None,
) -> Strip | None:
    """Lay out one line of dots per group, with the median, and the quartiles where there are enough values.

    Args:
        groups: name of the group to (name, value) pairs; NaN is left out, and infinite values are counted.
        quantity: what the values are.
        share: whether they lie between 0 and 1: the axis ends at 1, and begins at 0 or, where no value is low, higher
            up. Otherwise it spans the values and 0.
        means: name of the group to its mean.

    Returns:
        None where there is no value to draw.
    """
    beyond = {label: sum(math.isinf(value) for _, value in pairs) for label, pairs in groups.items()}
    kept = {label: [(name, value) for name, value in pairs if finite(value)] for label, pairs in groups.items()}
    kept = {label: pairs for label, pairs in kept.items() if pairs or beyond[label]}
    if not kept:
        return None
    means = means or {}
    drawn_means = [value for label in kept if label in means for value in _ends(means[label])]
    values = [value for pairs in kept.values() for _, value in pairs] + drawn_means or [0.0]
    low, high, ticks = _share_axis(min(values)) if share else _free_axis(min(values), max(values))
    width, left, right, pitch = 760.0, 136.0, 66.0 if any(beyond.values()) else 20.0, 44.0

    def place(value: float) -> float:
        return round(left + (value - low) / (high - low) * (width - left - right), 1) if low < high else width - right

    rows = []
    for number, (label, pairs) in enumerate(kept.items()):
        middle = 30 + number * pitch
        # Neighbours in value are set apart by a fixed pattern, so that a report can be made twice alike.
        ordered = sorted(pairs, key=lambda pair: pair[1])
        dots = tuple(
            Dot(place(value), round(middle + (place_in_row * 5 % 7 - 3) * 2.6, 1), f"{name}: {scored(value)}")
            for place_in_row, (name, value) in enumerate(_thinned(ordered))
        )
        quartiles = np.percentile([value for _, value in pairs], (25, 50, 75)).tolist() if pairs else None
        mean, ends = None, None
        if label in means and finite(means[label].value):
            mean = Dot(place(means[label].value), middle, f"mean {scored(means[label].value)}")
            if len(both := _ends(means[label])) == 3:
                ends = (place(both[1]), place(both[2]))
        rows.append(
            Row(
                label=label,
                y=middle,
                dots=dots,
                median=place(quartiles[1]) if quartiles else None,
                box=(place(quartiles[0]), place(quartiles[2])) if quartiles and len(pairs) >= BOX_FROM else None,
                mean=mean,
                interval=ends,
                beyond=f"{beyond[label]} at ∞" if beyond[label] else "",
            )
        )
    described = "; ".join(_strip_words(label, pairs, beyond[label]) for label, pairs in kept.items())
    height = 30 + len(kept) * pitch + 14
    return Strip(
        description=f"{quantity}. {described}.",
        rows=tuple(rows),
        x_ticks=tuple(Tick(place(value), tick_text(value)) for value in ticks),
        x_label=quantity,
        width=width,
        height=height,
        left=left,
        right=width - right,
        bottom=height - 30,
        thinned=any(len(pairs) > MOST_DOTS for pairs in kept.values()),
    )


def nice_ticks(low: float, high: float, *, inside: bool = False) -> list[float]:
    """Four to seven round values that cover [low, high], or those of them that lie inside.

    Example:
        >>> nice_ticks(0.0, 0.93)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.9)
    slack = 1e-9
    first = math.ceil(low / step - slack) if inside else math.floor(low / step + slack)
    last = math.floor(high / step + slack) if inside else math.ceil(high / step - slack)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def _share_axis(lowest: float) -> tuple[float, float, list[float]]:
    low = max(0.0, math.floor((lowest - 0.02) * 10) / 10)
    return low, 1.0, nice_ticks(low, 1.0, inside=True)


def _free_axis(lowest: float, highest: float) -> tuple[float, float, list[float]]:
    ticks = nice_ticks(min(lowest, 0.0), max(highest, 0.0))
    return ticks[0], ticks[-1], ticks


def _ends(mean: Mean) -> list[float]:
    """Mean, low and high as far as they can be drawn."""
    return [value for value in (mean.value, mean.low, mean.high) if value is not None and math.isfinite(value)]


def _thinned(ordered: Sequence[tuple[str, float]]) -> Sequence[tuple[str, float]]:
    """At most MOST_DOTS of them, evenly from the first to the last."""
    if len(ordered) <= MOST_DOTS:
        return ordered
    return [ordered[i] for i in np.rint(np.linspace(0, len(ordered) - 1, MOST_DOTS)).astype(int).tolist()]


def _strip_words(label: str, pairs: Sequence[tuple[str, float]], infinite: int) -> str:
    values = [value for _, value in pairs]
    if not values:
        return f"{label}: {infinite} infinite"
    words = f"{label}: {len(values)} values from {scored(min(values))} to {scored(max(values))}"
    return words + (f" and {infinite} infinite" if infinite else "")


def _y_range(raw: NDArray[np.float64], smooth: NDArray[np.float64], larger_is_better: bool) -> tuple[float, float]:
    if larger_is_better:
        return float(raw.min()), float(raw.max())
    # A few wild values at the start would press the rest flat; they are cut off at the top.
    high = max(float(np.percentile(raw, 98)), float(smooth[len(smooth) // 20 :].max()))
    low = min(0.0, float(raw.min()))
    return low, high if high > low else low + 1


def _smoothed(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean over `width` neighbours on each side, fewer at the ends."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start, stop = np.maximum(index - width, 0), np.minimum(index + width + 1, len(values))
    means: NDArray[np.float64] = (total[stop] - total[start]) / (stop - start)
    return means


def finite(value: float | None) -> TypeGuard[float]:
    """Whether it can be drawn."""
    return value is not None and math.isfinite(value)


def tick_text(value: float) -> str:
    """A value as it stands at an axis."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
