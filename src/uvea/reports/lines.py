"""Several lines on axes between 0 and 1, such as a precision-recall curve per class: numbers in, positions out.

As in `figures`, nothing here knows what the numbers mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from uvea.reports.figures import BOTTOM, LEFT, RIGHT, WIDTH, Dot, Tick, finite, nice_ticks, tick_text

HEIGHT = 340.0
"""Of a drawing: nearer to a square than a curve over time, as both axes often have one range."""

TOP = 30.0
"""Margin above the plotted area, where the name of y stands."""

FEW_POINTS = 24
"""A line of up to so many points shows each as a dot."""

LINE_STYLES = 7
"""Lines of one plot that look different: colours and dashes in the style sheet."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a plot."""

    name: str
    """Such as the name of a class, or "pooled"."""

    x: Sequence[float]
    y: Sequence[float | None]
    """As many as x; a point whose y is None or NaN is left out."""

    note: str = ""
    """Behind the name in the legend, such as "AUC 0.98"."""

    marks: Sequence[tuple[float, float, str]] = ()
    """Points to mark: x, y and what they are, such as "best threshold 0.4"."""

    sizes: Sequence[float] = ()
    """As many as x where given: what each point stands for, drawn as the area of its dot (such as voxels per bin)."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series with its places."""

    name: str
    note: str
    style: int
    """0 to LINE_STYLES - 1."""

    points: str
    """Of a polyline, "x,y x,y"."""

    dots: tuple[tuple[Dot, float], ...]
    """Each with its radius."""

    marks: tuple[Dot, ...]


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Several series on axes between two round values."""

    title: str
    x_label: str
    y_label: str
    description: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    diagonal: bool
    """Whether to draw the line from the lower left to the upper right corner."""

    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def draw_lines(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] = (0.0, 1.0),
    diagonal: bool = False,
) -> Lines | None:
    """Lay out several lines whose y lies between 0 and 1; points outside the ranges are put on their edge.

    Returns:
        None where there is no point to draw.
    """
    low, high = x_range
    bottom = HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = (min(max(x, low), high) - low) / (high - low)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(bottom - min(max(y, 0.0), 1.0) * (bottom - TOP), 1),
        )

    lines, described = [], []
    for number, one in enumerate(series):
        weights = one.sizes or [math.nan] * len(one.x)
        known = [
            (x, y, weight)
            for x, y, weight in zip(one.x, one.y, weights, strict=True)
            if y is not None and finite(x) and finite(y)
        ]
        if not known:
            continue
        places = [place(x, y) for x, y, _ in known]
        heaviest = max((weight for *_, weight in known if weight > 0), default=1.0)
        few = len(known) <= FEW_POINTS
        dots = [
            (
                Dot(*at, f"{one.name}, {x:.3g}: {y:.3g}"),
                round(2 + 6 * math.sqrt(weight / heaviest), 1) if weight >= 0 else 3.0,
            )
            for at, (x, y, weight) in zip(places, known, strict=True)
        ]
        marks = [Dot(*place(x, y), text) for x, y, text in one.marks if finite(x) and finite(y)]
        lines.append(
            Line(
                name=one.name,
                note=one.note,
                style=number % LINE_STYLES,
                points=" ".join(f"{x},{y}" for x, y in _apart(places)),
                dots=tuple(dots) if few else (),
                marks=tuple(marks),
            )
        )
        words = ", ".join(f"{y:.3g} at {x:.3g}" for x, y, _ in (known if few else (known[0], known[-1])))
        described.append(f"{one.name}{', ' + one.note if one.note else ''}: {words}")
    if not lines:
        return None
    return Lines(
        title=title,
        x_label=x_label,
        y_label=y_label,
        description=f"{title}. {'; '.join(described)}.",
        x_ticks=tuple(Tick(place(value, 0)[0], tick_text(value)) for value in nice_ticks(low, high, inside=True)),
        y_ticks=tuple(Tick(place(low, value)[1], tick_text(value)) for value in nice_ticks(0.0, 1.0)),
        lines=tuple(lines),
        diagonal=diagonal,
    )


def _apart(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Without points that lie within a pixel of the one before; the last one stays."""
    kept = [places[0]]
    for x, y in places[1:]:
        if max(abs(x - kept[-1][0]), abs(y - kept[-1][1])) >= 1:
            kept.append((x, y))
    return kept if kept[-1] == places[-1] else [*kept, places[-1]]
