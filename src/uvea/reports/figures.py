"""Where the lines, ticks and dots of a figure go: numbers in, positions out.

The templates turn positions into inline SVG, which takes its colours from the page and so follows light and dark.
Positions are in units of the drawing, x to the right, y down. Nothing here knows what the numbers mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 540.0, 250.0
"""Size of a drawing."""

LEFT, RIGHT, TOP, BOTTOM = 52.0, 18.0, 16.0, 36.0
"""Margins around the plotted area."""

MOST_POINTS = 600
"""A line has no more points than this: about one per pixel."""


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


@dataclass(frozen=True)
class Row:
    """One line of dots."""

    label: str
    y: float
    dots: tuple[Dot, ...]
    median: float


@dataclass(frozen=True, kw_only=True)
class Strip:
    """How the values of several groups are spread between 0 and 1."""

    description: str
    rows: tuple[Row, ...]
    x_ticks: tuple[Tick, ...]
    width: float
    height: float
    left: float
    right: float
    bottom: float


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
    points = np.array([(a, b) for a, b in zip(x, y, strict=True) if _finite(a) and _finite(b)], dtype=float)
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
        x_ticks=tuple(Tick(place_x(value), _tick_text(value)) for value in nice_ticks(x_low, x_high, inside=True)),
        y_ticks=tuple(Tick(place_y(value), _tick_text(value)) for value in y_ticks),
        line=polyline(smooth),
        faint_line="" if smooth is up else polyline(up),
        dots=tuple(dots) if len(dots) == 1 or (larger_is_better and len(dots) <= 100) else (),
        best=Dot(dots[top].x, dots[top].y, f"{up[top]:.3f}") if larger_is_better else None,
    )


def draw_strip(groups: Mapping[str, Sequence[tuple[str, float]]], *, quantity: str) -> Strip | None:
    """Lay out one line of dots per group, between 0 and 1, or from higher up where no value is low.

    Args:
        groups: name of the group to (name, value) pairs; values that are not finite are left out.
        quantity: what the values are.

    Returns:
        None where there is no value.
    """
    kept = {label: [(name, value) for name, value in pairs if _finite(value)] for label, pairs in groups.items()}
    kept = {label: pairs for label, pairs in kept.items() if pairs}
    if not kept:
        return None
    lowest = min(value for pairs in kept.values() for _, value in pairs)
    low = max(0.0, math.floor((lowest - 0.02) * 10) / 10)
    width, left, right, pitch = 2 * WIDTH, 150.0, 24.0, 44.0

    def place(value: float) -> float:
        return round(left + (value - low) / (1 - low) * (width - left - right), 1) if low < 1 else width - right

    rows = []
    for number, (label, pairs) in enumerate(kept.items()):
        middle = 30 + number * pitch
        # Neighbours in value are set apart by a fixed pattern, so that a report can be made twice alike.
        ordered = sorted(pairs, key=lambda pair: pair[1])
        dots = tuple(
            Dot(place(value), round(middle + (place_in_row * 5 % 7 - 3) * 2.6, 1), f"{name}: {value:.3f}")
            for place_in_row, (name, value) in enumerate(ordered)
        )
        rows.append(Row(label, middle, dots, place(float(np.median([value for _, value in pairs])))))
    described = "; ".join(
        f"{label}: {len(pairs)} values from {min(v for _, v in pairs):.3f} to {max(v for _, v in pairs):.3f}"
        for label, pairs in kept.items()
    )
    height = 30 + len(kept) * pitch + 14
    return Strip(
        description=f"{quantity}. {described}.",
        rows=tuple(rows),
        x_ticks=tuple(Tick(place(value), _tick_text(value)) for value in nice_ticks(low, 1.0, inside=True)),
        width=width,
        height=height,
        left=left,
        right=width - right,
        bottom=height - 30,
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


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _tick_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
