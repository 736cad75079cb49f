"""Derive every average from the table of scores, and write them as JSON.

Definitions 2, 4 and 5 of the metrics page. Everything follows from the rows; no mask is looked at again.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

from uvea.datasets.names import listed
from uvea.durable import claim, write_text
from uvea.errors import DatasetError
from uvea.evaluation.intervals import FEW, RESAMPLES, Interval, bootstrap_mean
from uvea.evaluation.overlap import dice, iou, precision, recall, specificity
from uvea.evaluation.table import METRICS, CaseScore, Metric, Value

SHOWN = 5
"""Best and worst cases that are named."""


@dataclass(frozen=True, kw_only=True)
class MetricSummary:
    """One metric over the cases where it is defined. Where it is defined in none, there is no such summary."""

    metric: str
    n: int
    """Cases where it is defined, infinite values counted in."""

    mean: float
    """Over these cases, with empty masks by the convention of the metric; infinite if one value is."""

    mean_present: float | None = None
    """Over the cases where the reference has the class; None where it never has."""

    pooled: float | None = None
    """From the counts of all cases added up, of a count its sum; None where the metric is not made of counts."""

    mean_groups: float | None = None
    """Over the groups, of the mean over their cases; a case without a group is one of its own. None without groups."""

    sd: float | None = None
    """Standard deviation (n - 1) over the units of the interval, finite values only; None for fewer than two."""

    low: float | None = None
    """Lower end of the interval of `mean_groups` where there are groups, else of `mean`; None where that is infinite,
    for fewer than two units, and where no intervals were asked for."""

    high: float | None = None
    """Its upper end."""

    n_infinite: int = 0
    """Cases with an infinite distance: exactly one of both masks is empty."""

    mean_finite: float | None = None
    """Over the finite values; None where there are none."""

    mean_groups_finite: float | None = None
    """As `mean_groups`, of the finite values alone; only where some are infinite."""

    low_finite: float | None = None
    """Lower end of the interval of `mean_groups_finite` where there are groups, else of `mean_finite`; only where some
    are infinite."""

    high_finite: float | None = None
    """Its upper end."""

    best: tuple[tuple[str, float], ...] = ()
    """Case and value of the best cases, the best first; empty where no direction is good."""

    worst: tuple[tuple[str, float], ...] = ()
    """Likewise, the worst first."""

    @property
    def over_units(self) -> float:
        """The mean that the interval is of: over groups where there are any, else over cases."""
        return self.mean if self.mean_groups is None else self.mean_groups


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """One class over all cases."""

    label: int
    class_name: str
    n: int
    """Cases."""

    n_both_empty: int
    n_missed: int
    n_false_alarm: int
    metrics: Mapping[str, MetricSummary]
    """By name, in the order of `METRICS`, without those that are defined in no case."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A whole evaluation: per class, and the mean over the foreground classes."""

    cases: int
    groups: int
    """0 where no case has a group."""

    classes: tuple[ClassSummary, ...]
    """In label order, background included."""

    foreground: Mapping[str, MetricSummary]
    """Mean over the foreground classes of their means, by name of the metric; sums for `n_infinite`. `n` is the number
    of cases. Spread and interval are those of the mean within a case, and left out unless every class that is averaged
    has a finite value in every case: else they would be of another mean. Counts and volumes have no such mean."""

    missing: tuple[str, ...] = ()
    """Cases without a prediction, scored as empty."""

    errors: tuple[tuple[str, str], ...] = ()
    """Case and problem of each case that could not be scored and has no rows."""

    warnings: tuple[str, ...] = ()
    """What a reader must know before trusting the figures."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """How it was measured: tolerance, unit, level of the intervals, files."""

    @property
    def dice(self) -> MetricSummary:
        """Dice over the foreground classes, the figure that is asked for most."""
        return self.foreground["dice"]


def summarise(
    rows: Sequence[CaseScore],
    *,
    resamples: int = RESAMPLES,
    pooled: Mapping[tuple[int, str], float | None] | None = None,
    missing: Sequence[str] = (),
    errors: Sequence[tuple[str, str]] = (),
    warnings: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
) -> Summary:
    """Derive every average from the rows of all cases.

    Args:
        rows: of any number of cases, with any metrics.
        resamples: of the bootstrap; 0 for no intervals, which is much quicker.
        pooled: pooled value by label and metric, where it does not follow from the rows, such as for `auc`.
        missing: cases without a prediction, for the record.
        errors: case and problem of cases that have no rows, for the record.
        warnings: sentences, for the record; those about few cases and classes without a reference are added.
        settings: how it was measured, for the record.

    Returns:
        Summary, with 95 % intervals.

    Raises:
        DatasetError: if there is no row of a foreground class.
    """
    classes = tuple(
        _summarise_class([row for row in rows if row.label == label], resamples=resamples, pooled=pooled or {})
        for label in sorted({row.label for row in rows})
    )
    if all(entry.label == 0 for entry in classes):
        raise DatasetError("there are no foreground classes to score", hint="give masks with at least two values")
    cases = len({row.case for row in rows})
    groups = {row.group for row in rows if row.group is not None}
    return Summary(
        cases=cases,
        groups=len(groups),
        classes=classes,
        foreground=_foreground(rows, classes, resamples=resamples),
        missing=tuple(missing),
        errors=tuple(errors),
        warnings=(*warnings, *_absent(classes), *_few(rows, classes)) if resamples else tuple(warnings),
        settings=dict(settings or {}),
    )


def write_summary(path: Path, summary: Summary, *, overwrite: bool = False) -> None:
    """Write the summary as readable JSON, under a temporary name first.

    JSON has no infinity: it is the string "inf". What is not defined is null. Pairs of a case and something are
    objects with the case as key, in their order. The key "metrics" holds title, unit and convention of every metric.

    Raises:
        OutputError: if the file exists and `overwrite` is not set, or it cannot be written.
    """
    used = {name for entry in summary.classes for name in entry.metrics}
    content = {
        **asdict(summary),
        "classes": [{**asdict(entry), "metrics": _plain(entry.metrics)} for entry in summary.classes],
        "foreground": _plain(summary.foreground),
        "errors": dict(summary.errors),
        "metrics": {name: asdict(METRICS[name]) for name in METRICS if name in used},
    }
    write_json(path, content, overwrite=overwrite)


def write_json(path: Path, content: Mapping[str, object], *, overwrite: bool = False) -> None:
    """Write plain data as readable JSON, infinity as "inf", whole or not at all.

    Raises:
        OutputError: if the file exists and `overwrite` is not set, or it cannot be written.
    """
    claim(path, overwrite=overwrite)
    write_text(path, json.dumps(_without_infinity(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(metrics: Mapping[str, MetricSummary]) -> dict[str, object]:
    return {
        name: {**asdict(found), "best": dict(found.best), "worst": dict(found.worst)} for name, found in metrics.items()
    }


def _without_infinity(content: object) -> object:
    match content:
        case float() if math.isinf(content):
            return "inf" if content > 0 else "-inf"
        case Mapping():
            return {str(key): _without_infinity(value) for key, value in content.items()}
        case list() | tuple():
            return [_without_infinity(value) for value in content]
    return content


def _absent(classes: Sequence[ClassSummary]) -> list[str]:
    """A warning where classes that no reference has count in the mean over the classes."""
    foreground = [entry for entry in classes if entry.label > 0]
    present = [entry for entry in foreground if entry.n_both_empty + entry.n_false_alarm < entry.n]
    absent = [entry.class_name for entry in foreground if entry not in present]
    known = [entry.metrics["dice"].over_units for entry in present if "dice" in entry.metrics]
    if not absent or not known:
        return []
    return [
        f"no reference has {listed(absent)}, which count as 1 where the prediction has none either: mean Dice without "
        f"{'this class' if len(absent) == 1 else f'these {len(absent)} classes'} is {fmean(known):.3f}"
    ]


def _few(rows: Sequence[CaseScore], classes: Sequence[ClassSummary]) -> list[str]:
    """The warning of definition 5, for the units that intervals are made of: all, or those with a finite value."""
    units = {_unit(row) for row in rows}
    what = "group" if any(row.group is not None for row in rows) else "case"
    if len(units) < FEW:
        number = f"{len(units)} {what}{'' if len(units) == 1 else 's'}"
        return [f"{number}: with fewer than {FEW} the intervals are rough"]
    fewer = []
    for entry in classes:
        of_class = [row for row in rows if row.label == entry.label]
        for name, found in entry.metrics.items():
            if found.low is None and found.low_finite is None:
                continue
            known = {_unit(row) for row in of_class if math.isfinite(_or_infinite(row.values.get(name)))}
            if len(known) < FEW:
                fewer.append((len(known), f"{METRICS[name].title} of {entry.class_name}"))
    if not fewer:
        return []
    n, which = min(fewer, key=lambda one: one[0])
    some = "one interval is" if len(fewer) == 1 else f"{len(fewer)} intervals are"
    return [f"{some} rough, over fewer than {FEW} {what}s with a finite value: {which} has {n}"]


def _unit(row: CaseScore) -> tuple[str, str]:
    """What an interval draws: the group of a case, or the case where it has none."""
    return ("case", row.case) if row.group is None else ("group", row.group)


def _or_infinite(value: Value) -> float:
    return math.inf if value is None else float(value)


def _summarise_class(
    rows: Sequence[CaseScore], *, resamples: int, pooled: Mapping[tuple[int, str], float | None]
) -> ClassSummary:
    flags = [row.flag for row in rows]
    names = {name for row in rows for name, value in row.values.items() if value is not None}
    metrics = {}
    for name, metric in METRICS.items():
        if name in names:
            total = pooled.get((rows[0].label, name)) if (rows[0].label, name) in pooled else _pooled(metric, rows)
            metrics[name] = _summarise_metric(metric, rows, pooled=total, resamples=resamples)
    return ClassSummary(
        label=rows[0].label,
        class_name=rows[0].class_name,
        n=len(rows),
        n_both_empty=flags.count("both_empty"),
        n_missed=flags.count("missed"),
        n_false_alarm=flags.count("false_alarm"),
        metrics=metrics,
    )


def _summarise_metric(
    metric: Metric, rows: Sequence[CaseScore], *, pooled: float | None, resamples: int
) -> MetricSummary:
    defined = [(row, float(value)) for row in rows if (value := row.values.get(metric.name)) is not None]
    values = [value for _, value in defined]
    within_reach = [(row, value) for row, value in defined if math.isfinite(value)]
    finite = [value for _, value in within_reach]
    present = [value for row, value in defined if row.flag in ("", "missed")]
    grouped = any(row.group is not None for row in rows)
    groups = [row.group for row, _ in defined] if grouped else None
    interval = (
        bootstrap_mean(values, groups=groups, resamples=resamples) if resamples and metric.kind != "count" else None
    )
    scored = [(row.case, value) for row, value in defined]
    return MetricSummary(
        metric=metric.name,
        n=len(values),
        mean=fmean(values),
        mean_present=fmean(present) if present else None,
        pooled=pooled,
        mean_groups=_mean_of_groups(defined) if grouped else None,
        n_infinite=len(values) - len(finite),
        mean_finite=fmean(finite) if finite else None,
        mean_groups_finite=_mean_of_groups(within_reach) if grouped and 0 < len(finite) < len(values) else None,
        best=_ranked(metric, scored),
        worst=_ranked(metric, scored, worst=True),
        **_ends(interval),
    )


def _ends(interval: Interval | None) -> dict[str, float | None]:
    """The fields of a summary that an interval fills."""
    if interval is None:
        return {}
    finite = interval.finite
    if finite is None:
        return {"sd": interval.sd, "low": interval.low, "high": interval.high}
    return {"sd": finite.sd, "low_finite": finite.low, "high_finite": finite.high}


def _mean_of_groups(defined: Sequence[tuple[CaseScore, float]]) -> float:
    members: dict[tuple[str, str], list[float]] = {}
    for row, value in defined:
        members.setdefault(_unit(row), []).append(value)
    return fmean(map(fmean, members.values()))


def _ranked(
    metric: Metric, scored: Sequence[tuple[str, float]], *, worst: bool = False
) -> tuple[tuple[str, float], ...]:
    """Best first, or worst first; of equal values the first by name."""
    keys: dict[str, Callable[[float], float]] = {"higher": lambda v: -v, "lower": lambda v: v, "near zero": abs}
    if metric.better not in keys:
        return ()
    ordered = sorted(sorted(scored), key=lambda one: keys[metric.better](one[1]), reverse=worst)
    return tuple(ordered[:SHOWN])


def _foreground(
    rows: Sequence[CaseScore], classes: Sequence[ClassSummary], *, resamples: int
) -> dict[str, MetricSummary]:
    foreground = [entry for entry in classes if entry.label > 0]
    if len(foreground) == 1:
        return {
            name: found for name, found in foreground[0].metrics.items() if METRICS[name].kind in ("score", "distance")
        }
    return {
        name: _mean_over_classes(
            metric, rows, [entry.metrics[name] for entry in foreground if name in entry.metrics], resamples=resamples
        )
        for name, metric in METRICS.items()
        if metric.kind in ("score", "distance") and any(name in entry.metrics for entry in foreground)
    }


def _mean_over_classes(
    metric: Metric, rows: Sequence[CaseScore], averages: Sequence[MetricSummary], *, resamples: int
) -> MetricSummary:
    within: dict[str, list[float]] = {}
    groups: dict[str, str | None] = {}
    for row in rows:
        groups[row.case] = row.group
        value = row.values.get(metric.name)
        if row.label > 0 and value is not None:
            within.setdefault(row.case, []).append(float(value))
    scored = [(case, fmean(values)) for case, values in within.items()]
    complete = all(len(within.get(case, ())) == len(averages) and math.isfinite(fmean(within[case])) for case in groups)
    grouped = any(group is not None for group in groups.values())
    interval = None
    if resamples and complete:
        interval = bootstrap_mean(
            [value for _, value in scored],
            groups=[groups[case] for case, _ in scored] if grouped else None,
            resamples=resamples,
        )

    def over_classes(of: Callable[[MetricSummary], float | None]) -> float | None:
        known = [value for entry in averages if (value := of(entry)) is not None]
        return fmean(known) if known else None

    finite_groups = over_classes(lambda entry: entry.mean_groups_finite if entry.n_infinite else entry.mean_groups)
    return MetricSummary(
        metric=metric.name,
        n=len(scored),
        mean=fmean(entry.mean for entry in averages),
        mean_present=over_classes(lambda entry: entry.mean_present),
        pooled=over_classes(lambda entry: entry.pooled),
        mean_groups=over_classes(lambda entry: entry.mean_groups),
        n_infinite=sum(entry.n_infinite for entry in averages),
        mean_finite=over_classes(lambda entry: entry.mean_finite),
        mean_groups_finite=finite_groups if any(entry.n_infinite for entry in averages) else None,
        best=_ranked(metric, scored),
        worst=_ranked(metric, scored, worst=True),
        **_ends(interval),
    )


def _pooled(metric: Metric, rows: Sequence[CaseScore]) -> float | None:
    """The metric of all cases as if they were one; None where the rows do not tell."""
    if metric.kind == "count":
        return float(_total(rows, metric.name))
    if metric.name in _FROM_COUNTS:
        names, pool = _FROM_COUNTS[metric.name]
        if not all(name in row.values for row in rows for name in names):
            return None
        return pool(*(_total(rows, name) for name in names))
    if metric.name == "mean_ap":
        parts = [_pooled_objects(METRICS[name], rows) for name in METRICS if name.startswith("ap_")]
        known = [part for part in parts if part is not None]
        return fmean(known) if len(known) == len(parts) else None
    return _pooled_objects(metric, rows)


def _total(rows: Sequence[CaseScore], name: str) -> int:
    return sum(int(value) for row in rows if (value := row.values.get(name)) is not None)


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


_FROM_COUNTS: dict[str, tuple[tuple[str, ...], Callable[..., float | None]]] = {
    "dice": (("tp", "fp", "fn"), lambda tp, fp, fn: float(dice(tp, fp, fn))),
    "iou": (("tp", "fp", "fn"), lambda tp, fp, fn: float(iou(tp, fp, fn))),
    "precision": (("tp", "fp"), precision),
    "recall": (("tp", "fn"), recall),
    "specificity": (("tn", "fp"), specificity),
    "lesion_recall": (("lesions_hit", "lesions"), _rate),
    "lesion_f1": (
        ("lesions", "lesions_hit", "lesions_false"),
        lambda lesions, hit, false: _rate(2 * hit, hit + lesions + false),
    ),
    "lesion_precision": (("lesions_predicted", "lesions_false"), lambda n, false: _rate(n - false, n)),
}
"""The counts that a pooled metric is made of."""


def _pooled_objects(metric: Metric, rows: Sequence[CaseScore]) -> float | None:
    """Pool the scores of objects, whose counts follow from score and number of objects of each image.

    With r reference and p predicted objects, AP = TP/(r + p - TP); F1 and PQ have (r + p)/2 and SEG has r below.
    Where no image has an object, the pool is as one such image: 1, and SEG is not defined.
    """
    found = [
        (float(value), int(row.values["objects"] or 0), int(row.values["objects_predicted"] or 0))
        for row in rows
        if (value := row.values.get(metric.name)) is not None and "objects" in row.values
    ]
    if not found or not (metric.name.startswith("ap_") or metric.name in ("f1", "pq", "seg")):
        return None
    weights = [n if metric.name == "seg" else n + p for _, n, p in found]
    whole = sum(weights)
    if not whole:
        return None if metric.name == "seg" else 1.0
    if metric.name.startswith("ap_"):
        tp = sum(round(ap * weight / (1 + ap)) for (ap, _, _), weight in zip(found, weights, strict=True))
        return tp / (whole - tp)
    return sum(value * weight for (value, _, _), weight in zip(found, weights, strict=True)) / whole
