"""A summary as aligned text: what fits on a terminal; all the rest is in the files."""

import math
import textwrap
from collections.abc import Mapping, Sequence

from uvea.datasets.names import listed
from uvea.evaluation.summary import ClassSummary, MetricSummary, Summary
from uvea.evaluation.table import METRICS, Metric

COLUMNS = ("dice", "iou", "hd95", "nsd")
"""Shown for every class."""

OBJECTS = ("ap_50", "ap_75", "ap_90", "mean_ap", "f1", "pq", "seg")
MEMBRANES = ("v_rand", "v_info", "v_rand_best", "v_info_best")
PROBABILITIES = ("ece", "auc", "average_precision")
"""Shown below, a line each, with the value pooled over all cases."""

FLAGS = ("both empty", "missed", "false alarm")


def as_text(summary: Summary, *, width: int | None = None) -> str:
    """A line per class, one for their mean without the background, further scores, and remarks.

    Args:
        summary: of an evaluation.
        width: columns of the terminal, beyond which the table goes on below; None for one line per class.
    """
    shown = [METRICS[name] for name in COLUMNS if any(name in entry.metrics for entry in summary.classes)]
    counted = [flag for flag in FLAGS if any(_flags(entry)[flag] for entry in summary.classes)]
    lines = [["class", "cases", *(_heading(metric, summary.settings) for metric in shown), *counted]]
    for entry in summary.classes:
        flags = [str(_flags(entry)[flag]) for flag in counted]
        lines.append([entry.class_name, str(entry.n), *(_cell(metric, entry.metrics) for metric in shown), *flags])
    if len(summary.classes) > 2:
        figures = [_cell(metric, summary.foreground) for metric in shown]
        lines.append(["mean without background", str(summary.cases), *figures, *[""] * len(counted)])
    further = [_further(entry, classes=len(summary.classes)) for entry in summary.classes]
    blocks = [aligned(lines, keep=2, width=width), *(block for block in further if block)]
    between = [""] if len(blocks) > 1 else []
    return "\n".join(["\n\n".join(blocks), *between, *(wrapped(one, width=width) for one in _remarks(summary))])


def value_text(metric: Metric, value: float | None) -> str:
    """A value as it is shown: scores with three decimals, others with three digits or more."""
    if value is None:
        return "–"
    if math.isinf(value):
        return "inf"
    return f"{value:.3f}" if metric.kind == "score" else f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def unit_text(metric: Metric, unit: str, *, dims: int = 0) -> str:
    """The unit of a metric for showing: mm, mm³ or, where the number of axes is not known, mm^n."""
    if metric.unit == "spacing":
        return unit
    if metric.unit == "volume":
        return unit + {2: "²", 3: "³"}.get(dims, "^n")
    return metric.unit


def aligned(lines: Sequence[Sequence[str]], *, left: int = 1, keep: int = 0, width: int | None = None) -> str:
    """Lines of cells as columns; the first `left` of them aligned to the left, figures to the right.

    Columns beyond `width` stand in tables of their own below, each with the first `keep` columns again.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        fitting = keep + 1
        while sum(widths[: fitting + 1]) + 2 * fitting <= width:
            fitting += 1
        if fitting < len(widths):
            below = aligned([[*line[:keep], *line[fitting:]] for line in lines], left=left, keep=keep, width=width)
            return f"{aligned([line[:fitting] for line in lines], left=left)}\n\n{below}"
    rows = (
        [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    )
    return "\n".join("  ".join(row).rstrip() for row in rows)


def wrapped(text: str, *, width: int | None) -> str:
    """A sentence in lines of at most `width` columns; None leaves it in one."""
    if width is None:
        return text
    return "\n".join(textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))


def _flags(entry: ClassSummary) -> dict[str, int]:
    return dict(zip(FLAGS, (entry.n_both_empty, entry.n_missed, entry.n_false_alarm), strict=True))


def _heading(metric: Metric, settings: Mapping[str, object]) -> str:
    unit, tolerance = settings.get("unit", "px"), settings.get("tolerance")
    if metric.kind == "distance":
        return f"{metric.title} ({unit})"
    return f"{metric.title} ({tolerance:g} {unit})" if metric.name == "nsd" and tolerance is not None else metric.title


def _cell(metric: Metric, metrics: Mapping[str, MetricSummary]) -> str:
    """The mean with its interval, over groups where there are any; of the finite values beside an infinite mean."""
    found = metrics.get(metric.name)
    if found is None:
        return "–"
    if not found.n_infinite:
        return _with_interval(metric, found.over_units, found.low, found.high)
    if found.mean_finite is None:
        return "inf"
    mean = found.mean_finite if found.mean_groups_finite is None else found.mean_groups_finite
    finite = _with_interval(metric, mean, found.low_finite, found.high_finite)
    return f"inf; {finite} without {found.n_infinite}"


def _with_interval(metric: Metric, mean: float, low: float | None, high: float | None) -> str:
    text = value_text(metric, mean)
    if low is None or high is None:
        return text
    return f"{text} [{value_text(metric, low)}, {value_text(metric, high)}]"


def _further(entry: ClassSummary, *, classes: int) -> str:
    """Objects, membranes and probabilities of a class, where they were scored."""
    names = [name for name in (*OBJECTS, *MEMBRANES, *PROBABILITIES) if name in entry.metrics]
    if not names:
        return ""
    lines = [["score" if classes == 2 else f"score of {entry.class_name}", "mean", "pooled"]]
    for name in names:
        pooled = entry.metrics[name].pooled
        lines.append([METRICS[name].title, _cell(METRICS[name], entry.metrics), value_text(METRICS[name], pooled)])
    return aligned(lines)


def _remarks(summary: Summary) -> list[str]:
    what = f"over {summary.groups} groups" if summary.groups else "over cases"
    remarks = [f"means {what}, with 95 % intervals in brackets"]
    remarks += summary.warnings
    if summary.errors:
        remarks.append(f"not scored: {listed(case for case, _ in summary.errors)}")
    return remarks
