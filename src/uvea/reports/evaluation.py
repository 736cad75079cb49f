"""The report of an evaluation: the result, its spread, every score, and every case in pictures.

    head: result, warnings, means     spread     curves     all scores     pictures, worst first     conventions

It shows what it is given (see `records`) and computes no score.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from uvea.errors import UveaError
from uvea.reports.figures import Mean, Strip, draw_strip
from uvea.reports.lines import Lines, draw_lines
from uvea.reports.overlays import class_colour
from uvea.reports.page import render, scored, write_page
from uvea.reports.panels import Pictures, draw, error_legend, object_legend
from uvea.reports.records import (
    CaseToShow,
    ClassFigures,
    MetricFigures,
    MetricText,
    Plot,
    PlotKind,
    ScoreRow,
    SummaryFigures,
)

MOST_PICTURES = 100
"""Cases shown in pictures, worst first."""

BYTE_LIMIT = 20_000_000
"""Largest size of the page: fewer cases are shown in pictures where they would exceed it."""

MOST_CELLS = 120_000
"""Cells of the table of all scores: the lowest rows of a larger one are left out, as browsers get slow."""

OPEN_STRIPS = 3
"""Metrics whose spread is shown at once; the others are folded."""

SHOWN_SCORES = 4
"""Metrics beside the pictures of a case, where there is one class; with more classes, only the leading one."""

MARKUP_BYTES = 6_000
"""Most that a case in pictures takes in the page beside its pictures."""

MANY_NAMES = 12
"""More names than this are not listed in a sentence."""


class Axes(NamedTuple):
    """What the axes of a kind of plot mean; y is between 0 and 1 in all."""

    title: str
    x_label: str
    y_label: str
    x_range: tuple[float, float] = (0.0, 1.0)
    diagonal: bool = False
    """Whether the line from corner to corner means something: perfect calibration, or chance."""


PLOTS: dict[PlotKind, Axes] = {
    "average_precision": Axes("Average precision against IoU", "IoU threshold", "average precision", (0.5, 0.95)),
    "reliability": Axes("Calibration", "predicted probability", "share of positives", diagonal=True),
    "roc": Axes("ROC", "false positive rate", "true positive rate", diagonal=True),
    "precision_recall": Axes("Precision and recall", "recall", "precision"),
    "membranes": Axes("Membranes against threshold", "threshold of the probability", "V_rand, V_info"),
}

FLAGS = {"": "", "both_empty": "both empty", "missed": "missed", "false_alarm": "false alarm"}


def evaluation_report(
    path: Path,
    *,
    title: str,
    summary: SummaryFigures,
    rows: Sequence[ScoreRow],
    metrics: Sequence[MetricText],
    cases: Sequence[CaseToShow] = (),
    plots: Sequence[Plot] = (),
    rank_by: str = "",
    most_pictures: int = MOST_PICTURES,
    byte_limit: int = BYTE_LIMIT,
    overwrite: bool = False,
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: the file; its folder is made if need be.
        title: heading of the page.
        summary: the figures of all classes.
        rows: one per case and class.
        metrics: those to show, in this order; others in `summary` and `rows` are left out.
        cases: those that can be shown in pictures, in any order; empty shows none.
        plots: curves to show, in this order.
        rank_by: key of the metric that leads the page and orders the cases; empty, or one without values, takes the
            first of `metrics` that is a score and has a mean.
        most_pictures: cases shown in pictures; the page says how many were left out.
        byte_limit: size of the page, in bytes, that pictures must not make it exceed.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: if the file exists and `overwrite` is off, or it cannot be written.
    """
    metrics = [metric for metric in metrics if _occurs(metric.key, summary, rows)]
    lead = _leading(metrics, summary, rank_by)
    values = {
        "title": title,
        "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "summary": {},
        "result": _result(summary, lead),
        "warnings": [*_about_missing(summary), *summary.warnings],
        "figures": summary,
        "lead": lead,
        "entries": _entries(summary),
        "metrics": metrics,
        "strips": _strips(sorted(metrics, key=lambda metric: metric is not lead), summary, rows),
        "open_strips": OPEN_STRIPS,
        "plots": [(figure, plot.note) for plot in plots if (figure := _plotted(plot)) is not None],
        "table": _table(rows, metrics, lead),
        "columns": sorted(metrics, key=lambda metric: (metric is not lead, metric.kind == "count")),
    }
    # The page without pictures is made first, to see how much room they have.
    room = byte_limit - len(render("evaluation.html.j2", values | {"shown_cases": Shown()}).encode("utf-8"))
    captions = _captions(rows, metrics, lead, {one.label for one in _foreground(summary)})
    shown = _in_pictures(_worst_first(cases, rows, lead), captions, summary, most=most_pictures, room=room)
    write_page(path, render("evaluation.html.j2", values | {"shown_cases": shown}), overwrite=overwrite)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The cases in pictures, and what is to be said about them."""

    pictures: Sequence[Pictures] = ()
    failed: Sequence[tuple[str, str, str]] = ()
    """Case, problem and hint of those that could not be shown."""

    left_out: int = 0
    for_size: bool = False
    """Whether it was the size of the page, not the number of cases, that left some out."""

    classes: Sequence[tuple[str, tuple[int, int, int]]] = ()
    """Legend: name and colour."""

    objects: Sequence[tuple[str, tuple[int, int, int]]] = ()
    errors: Sequence[tuple[str, tuple[int, int, int]]] = ()
    with_images: bool = False

    @property
    def number_of(self) -> dict[str, int]:
        """Where each case is in the page, from 1."""
        return {pictures.name: number for number, pictures in enumerate(self.pictures, start=1)}


@dataclass(frozen=True, kw_only=True)
class Table:
    """All scores, one row per case and class, worst first."""

    rows: Sequence[ScoreRow] = ()
    left_out: int = 0
    groups: bool = False
    flags: bool = False
    classes: Sequence[str] = ()
    flag_words: Mapping[str, str] = field(default_factory=lambda: FLAGS)


def _occurs(key: str, summary: SummaryFigures, rows: Sequence[ScoreRow]) -> bool:
    return any(key in one.metrics for one in summary.classes) or any(row.values.get(key) is not None for row in rows)


def _leading(metrics: Sequence[MetricText], summary: SummaryFigures, rank_by: str) -> MetricText | None:
    if asked := [metric for metric in metrics if metric.key == rank_by]:
        return asked[0]
    known = [metric for metric in metrics if any(_mean(one, metric.key) is not None for one in summary.classes)]
    scores = [metric for metric in known if metric.kind == "score"]
    return next(iter(scores or known), None)


def _mean(one: ClassFigures, key: str) -> float | None:
    return one.metrics[key].mean if key in one.metrics else None


def _foreground(summary: SummaryFigures) -> list[ClassFigures]:
    return [one for one in summary.classes if one.label != 0] or list(summary.classes)


def _result(summary: SummaryFigures, lead: MetricText | None) -> str:
    """The result in plain words."""
    classes = _foreground(summary)
    if lead is None or not classes:
        return ""
    if len(classes) > 1 and lead.key in summary.foreground:
        figures, of_what = summary.foreground[lead.key], f"the {len(classes)} classes without the background"
    else:
        best = next((one for one in classes if lead.key in one.metrics), None)
        if best is None:
            return ""
        figures, of_what = best.metrics[lead.key], f"“{best.class_name}”"
    mean = lead.title if lead.title.startswith("Mean") else f"Mean {lead.title}"
    sentence = f"{mean} of {of_what} is {_with_unit(figures.over_units, lead)} over {_units(summary, figures)}"
    low, high = figures.low, figures.high
    if figures.n_infinite and figures.finite_over_units is not None:
        low, high = figures.low_finite, figures.high_finite
        sentence += f", {_with_unit(figures.finite_over_units, lead)} without the {figures.n_infinite:,} at ∞"
    if low is not None and high is not None:
        sentence += f", 95 % interval {scored(low, lead.kind)} to {_with_unit(high, lead)}"
    missed, false = sum(one.n_missed for one in classes), sum(one.n_false_alarm for one in classes)
    if missed:
        sentence += f". A class is missed altogether {_times(missed)}"
    if false:
        sentence += f". A class is found where the reference has none {_times(false)}"
    return sentence + "."


def _units(summary: SummaryFigures, figures: MetricFigures) -> str:
    """What the mean is over: cases, or groups, and how many cases have a value."""
    cases = f"{summary.cases:,} cases" if figures.n == summary.cases else f"{figures.n:,} of {summary.cases:,} cases"
    if not summary.groups:
        return cases
    return f"{summary.groups:,} groups of {cases}" if figures.n == summary.cases else f"the groups of {cases}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _with_unit(value: float | None, metric: MetricText) -> str:
    return scored(value, metric.kind) + (f" {metric.unit}" if metric.unit else "")


def _about_missing(summary: SummaryFigures) -> list[str]:
    missing = list(summary.missing)
    if not missing:
        return []
    names = ", ".join(missing[:MANY_NAMES])
    names += f" and {len(missing) - MANY_NAMES:,} more" if len(missing) > MANY_NAMES else ""
    return [f"No prediction for {len(missing):,} of {summary.cases:,} cases; scored as empty: {names}."]


def _entries(summary: SummaryFigures) -> list[tuple[str, ClassFigures | None, Mapping[str, MetricFigures]]]:
    """Lines of the summary: every class, then their mean."""
    entries: list[tuple[str, ClassFigures | None, Mapping[str, MetricFigures]]] = [
        (one.class_name, one, one.metrics) for one in summary.classes
    ]
    if summary.foreground and len(_foreground(summary)) > 1:
        entries.append(("mean without background", None, summary.foreground))
    return entries


def _strips(
    metrics: Sequence[MetricText], summary: SummaryFigures, rows: Sequence[ScoreRow]
) -> list[tuple[str, Strip]]:
    """The spread of each metric over the cases, a line per foreground class."""
    names = {one.label: one.class_name for one in _foreground(summary)}
    found = []
    for metric in metrics:
        if metric.kind == "count":
            continue
        groups: dict[str, list[tuple[str, float]]] = {name: [] for name in names.values()}
        for row in rows:
            value = row.values.get(metric.key)
            if value is not None and row.label in names:
                groups[names[row.label]].append((row.case, float(value)))
        means = {
            one.class_name: Mean(value=mean, low=figures.low, high=figures.high)
            for one in _foreground(summary)
            if (figures := one.metrics.get(metric.key)) is not None and (mean := figures.over_units) is not None
        }
        heading = metric.title + (f" ({metric.unit})" if metric.unit else "")
        strip = draw_strip(groups, quantity=f"{heading} per case", share=metric.kind == "score", means=means)
        if strip is not None:
            found.append((heading, strip))
    return found


def _plotted(plot: Plot) -> Lines | None:
    axes = PLOTS[plot.kind]
    return draw_lines(
        plot.series,
        title=axes.title,
        x_label=axes.x_label,
        y_label=axes.y_label,
        x_range=axes.x_range,
        diagonal=axes.diagonal,
    )


def _badness(value: float | int | None, lead: MetricText) -> float:
    """Larger is worse; what is not known comes last."""
    if value is None or math.isnan(value):
        return -math.inf
    return {"lower": value, "near zero": abs(value)}.get(lead.better, -value)


def _table(rows: Sequence[ScoreRow], metrics: Sequence[MetricText], lead: MetricText | None) -> Table:
    if lead is not None:
        rows = sorted(rows, key=lambda row: -_badness(row.values.get(lead.key), lead))
    most = MOST_CELLS // (len(metrics) + 4)
    return Table(
        rows=rows[:most],
        left_out=max(0, len(rows) - most),
        groups=any(row.group is not None for row in rows),
        flags=any(row.flag for row in rows),
        classes=list(dict.fromkeys(row.class_name for row in sorted(rows, key=lambda row: row.label))),
    )


def _worst_first(
    cases: Sequence[CaseToShow], rows: Sequence[ScoreRow], lead: MetricText | None
) -> Sequence[CaseToShow]:
    """By the mean over the foreground classes of how bad they are; cases without a value come last."""
    if lead is None:
        return cases
    bad: dict[str, list[float]] = {}
    labels = {row.label for row in rows}
    for row in rows:
        value = row.values.get(lead.key)
        if (row.label != 0 or labels == {0}) and value is not None:
            bad.setdefault(row.case, []).append(_badness(value, lead))
    return sorted(cases, key=lambda one: -sum(bad[one.case]) / len(bad[one.case]) if one.case in bad else math.inf)


def _captions(
    rows: Sequence[ScoreRow], metrics: Sequence[MetricText], lead: MetricText | None, labels: set[int]
) -> dict[str, dict[str, float | None]]:
    """Scores to stand beside the pictures of each case: several of one class, or one of several."""
    if lead is None:
        return {}
    others = [metric for metric in metrics if metric.kind in ("score", "distance") and metric is not lead]
    chosen = [lead, *others][:SHOWN_SCORES]
    of_case: dict[str, list[ScoreRow]] = {}
    for row in rows:
        if row.label in labels:
            of_case.setdefault(row.case, []).append(row)
    return {
        case: {metric.title: found[0].values.get(metric.key) for metric in chosen}
        if len(found) == 1
        else {f"{lead.title} {row.class_name}": row.values.get(lead.key) for row in found}
        for case, found in of_case.items()
    }


def _in_pictures(
    cases: Sequence[CaseToShow],
    captions: Mapping[str, Mapping[str, float | None]],
    summary: SummaryFigures,
    *,
    most: int,
    room: int,
) -> Shown:
    """Load and draw cases in this order until there are `most`, or the next one would take more than `room` bytes."""
    names = {one.label: one.class_name for one in summary.classes}
    classes = [names.get(label, f"class {label}") for label in range(max(names, default=0) + 1)]
    made: list[Pictures] = []
    failed: list[tuple[str, str, str]] = []
    for_size = False
    for one in cases[:most]:
        try:
            pictures = _drawn(one, captions.get(one.case, {}), classes)
        except UveaError as error:
            failed.append((one.case, error.problem, error.hint))
            continue
        room -= pictures.bytes + MARKUP_BYTES
        if room < 0:
            for_size = True
            break
        made.append(pictures)
    with_classes = any(not pictures.object_kinds for pictures in made)
    return Shown(
        pictures=made,
        failed=failed,
        left_out=len(cases) - len(made) - len(failed),
        for_size=for_size,
        classes=[(name, class_colour(label)) for label, name in names.items() if label > 0 and with_classes],
        objects=object_legend(made),
        errors=error_legend(made),
        with_images=any(pictures.base for pictures in made),
    )


def _drawn(one: CaseToShow, scores: Mapping[str, float | None], classes: Sequence[str]) -> Pictures:
    """The pictures of a case; its arrays are let go before the next one is loaded."""
    example = one.load()
    return draw(replace(example, name=one.case, scores=example.scores or scores), classes)
