"""Hand an evaluation to its report: figures, rows, curves, and the files of the cases that it shows.

Everything is mapped field by field; the report knows no evaluation and computes no score.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from uvea.arrays.labels import IGNORE
from uvea.evaluation.instances import overlaps
from uvea.evaluation.membranes import MembraneCurve
from uvea.evaluation.probabilities import (
    ProbabilityCounts,
    auc,
    average_precision,
    best_threshold,
    ece,
    precision_recall,
    reliability,
    roc,
)
from uvea.evaluation.summary import ClassSummary, MetricSummary, Summary
from uvea.evaluation.table import METRICS, CaseScore
from uvea.reports import (
    CaseToShow,
    ClassFigures,
    Example,
    MetricFigures,
    MetricText,
    Objects,
    Plot,
    ScoreRow,
    Series,
    SummaryFigures,
    evaluation_report,
)
from uvea.workflows.evaluation_curves import points_of
from uvea.workflows.evaluation_text import unit_text
from uvea.workflows.matching import Pair
from uvea.workflows.score_pair import Measures, kinds_of, load, objects_of, read_beside

FAILURES = 10
"""Cases without scores that are named one by one."""

HIDDEN = frozenset({"tn"})
"""Metrics that are in the files only."""


def write_page(
    path: Path,
    *,
    rows: Sequence[CaseScore],
    summary: Summary,
    pairs: Sequence[Pair],
    measures: Measures,
    membranes: MembraneCurve | None,
    probabilities: Mapping[int, ProbabilityCounts],
    overwrite: bool,
) -> None:
    """Write report.html."""
    used = {name for row in rows for name in row.values} - HIDDEN
    scored = {row.case for row in rows}
    first = "mean_ap" if measures.instances else "v_rand" if membranes is not None else "dice"
    evaluation_report(
        path,
        title=_title(summary),
        summary=_figures(summary),
        rows=[
            ScoreRow(
                case=row.case,
                group=row.group,
                label=row.label,
                class_name=row.class_name,
                flag=row.flag,
                values={name: value for name, value in row.values.items() if name not in HIDDEN},
            )
            for row in rows
        ],
        metrics=[
            MetricText(
                key=name,
                title=metric.title,
                kind=metric.kind,
                better=metric.better,
                unit=unit_text(metric, measures.unit, dims=measures.dims),
                convention=metric.convention,
            )
            for name, metric in METRICS.items()
            if name in used
        ],
        cases=[
            CaseToShow(case=pair.case, load=partial(_example, pair, measures)) for pair in pairs if pair.case in scored
        ],
        plots=_plots(summary, membranes, probabilities, names=measures.labels.names),
        rank_by=first,
        overwrite=overwrite,
    )


def _title(summary: Summary) -> str:
    """The last parts of both paths; the whole paths are in the settings."""
    names = [Path(str(summary.settings[key])).absolute().name for key in ("predictions", "reference")]
    return f"{names[0]} against {names[1]}" if summary.settings["reference"] else names[0]


def _figures(summary: Summary) -> SummaryFigures:
    failed = [f"{case} could not be scored: {problem}" for case, problem in summary.errors[:FAILURES]]
    if len(summary.errors) > FAILURES:
        failed.append(f"{len(summary.errors) - FAILURES} more cases could not be scored; summary.json lists them")
    return SummaryFigures(
        cases=summary.cases,
        groups=summary.groups,
        classes=[_class_figures(entry) for entry in summary.classes],
        foreground={name: _metric_figures(found) for name, found in summary.foreground.items()},
        missing=summary.missing,
        warnings=(*failed, *summary.warnings),
        settings={name: value for name, value in summary.settings.items() if value is not None and value != ""},
    )


def _class_figures(entry: ClassSummary) -> ClassFigures:
    return ClassFigures(
        label=entry.label,
        class_name=entry.class_name,
        n=entry.n,
        n_both_empty=entry.n_both_empty,
        n_missed=entry.n_missed,
        n_false_alarm=entry.n_false_alarm,
        metrics={name: _metric_figures(found) for name, found in entry.metrics.items() if name not in HIDDEN},
    )


def _metric_figures(found: MetricSummary) -> MetricFigures:
    return MetricFigures(
        n=found.n,
        mean=found.mean,
        mean_present=found.mean_present,
        pooled=found.pooled,
        mean_groups=found.mean_groups,
        sd=found.sd,
        low=found.low,
        high=found.high,
        n_infinite=found.n_infinite,
        mean_finite=found.mean_finite,
        mean_groups_finite=found.mean_groups_finite,
        low_finite=found.low_finite,
        high_finite=found.high_finite,
    )


def _example(pair: Pair, measures: Measures) -> Example:
    loaded = load(pair, measures)
    image = None if pair.image is None else read_beside(pair.image, loaded.image, measures).array
    objects = None
    if measures.instances:
        reference, prediction = objects_of(loaded, measures)
        reference_kinds, prediction_kinds = kinds_of(overlaps(reference, prediction))
        objects = Objects(
            reference=reference,
            prediction=prediction,
            reference_kinds=reference_kinds,
            prediction_kinds=prediction_kinds,
        )
    truth = loaded.reference
    if loaded.within is not None:
        truth = np.where(loaded.within, truth, IGNORE)  # what does not count is no error
    return Example(name=pair.case, image=image, truth=truth, prediction=loaded.prediction, objects=objects)


def _plots(
    summary: Summary,
    membranes: MembraneCurve | None,
    probabilities: Mapping[int, ProbabilityCounts],
    *,
    names: Sequence[str],
) -> list[Plot]:
    plots = []
    levels = [name for name in METRICS if name.startswith("ap_")]
    for entry in summary.classes:
        if levels[0] in entry.metrics:
            x = [int(name.removeprefix("ap_")) / 100 for name in levels]
            found = [entry.metrics[name] for name in levels]
            series = [
                Series(name="pooled over images", x=x, y=[one.pooled for one in found]),
                Series(name="mean over images", x=x, y=[one.mean for one in found]),
            ]
            plots.append(Plot(kind="average_precision", series=series))
    if membranes is not None and len(membranes.thresholds) > 1:
        plots.append(_membrane_plot(membranes))
    if probabilities:
        plots += _probability_plots({names[label]: counts for label, counts in probabilities.items()})
    return plots


def _membrane_plot(curve: MembraneCurve) -> Plot:
    rand, info = curve.best_threshold_rand, curve.best_threshold_info
    series = []
    for name, best, values in (
        ("V_rand", rand, [one.v_rand for one in curve.scores]),
        ("V_info", info, [one.v_info for one in curve.scores]),
    ):
        value = None if best is None else values[curve.thresholds.index(best)]
        marks = () if best is None or value is None else ((best, value, f"best threshold {best:g}"),)
        series.append(Series(name=name, x=curve.thresholds, y=values, marks=marks))
    return Plot(
        kind="membranes",
        series=series,
        note="The best threshold is chosen on these images, as in the challenge, so it flatters. "
        f"The scores of the cases are those at the fixed threshold {curve.fixed_threshold:g}.",
    )


def _probability_plots(counts: Mapping[str, ProbabilityCounts]) -> list[Plot]:
    calibration, rocs, curves = [], [], []
    for name, found in counts.items():
        bins = [one for one in reliability(found) if one.n]
        calibration.append(
            Series(
                name=name,
                x=[one.predicted or 0.0 for one in bins],
                y=[one.observed for one in bins],
                note=_note("ECE", ece(found)),
                sizes=[one.n for one in bins],
            )
        )
        if (curve := roc(found)) is not None:
            rates = points_of(curve.false_positive_rate, curve.true_positive_rate)
            rocs.append(Series(name=name, x=rates[0], y=rates[1], note=_note("AUC", auc(found))))
        if (line := precision_recall(found)) is not None:
            best = best_threshold(found)
            rates = points_of(line.recall, line.precision)
            note = _note("average precision", average_precision(found))
            if best is not None:
                note += f"; best Dice {best.score:.3f} at threshold {best.threshold:.3g}"
            curves.append(Series(name=name, x=rates[0], y=rates[1], note=note))
    plots = [
        Plot(kind="reliability", series=calibration, note="Each class against the rest, over the pixels of all cases.")
    ]
    if rocs:
        plots.append(Plot(kind="roc", series=rocs))
    if curves:
        note = "A best threshold is for other data: chosen on the data that are reported, it flatters."
        plots.append(Plot(kind="precision_recall", series=curves, note=note))
    return plots


def _note(name: str, value: float | None) -> str:
    return "" if value is None else f"{name} {value:.3f}"
