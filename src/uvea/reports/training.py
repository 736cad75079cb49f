"""The report of a training: how good it is, how it went, what it looks like, and what was decided why.

It shows what it is given and computes no score.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from numbers import Real
from pathlib import Path

from uvea.reports.figures import Strip, draw_curve, draw_strip
from uvea.reports.overlays import class_colour
from uvea.reports.page import render, write_page
from uvea.reports.panels import Example, draw, error_legend, object_legend


def training_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, object],
    plan_rows: Sequence[tuple[str, object, str]] = (),
    history: Sequence[Mapping[str, float | None]] = (),
    examples: Sequence[Example] = (),
    scores: Sequence[Mapping[str, object]] = (),
    findings: Sequence[tuple[str, str, str]] | None = None,
    classes: Sequence[str] = (),
    details: Mapping[str, object] | None = None,
    lead: tuple[str, str] = ("dice", "Dice"),
    trials: tuple[Sequence[float], Sequence[float]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: the file; its folder is made if need be.
        title: heading of the page, such as the name of the dataset.
        summary: the figures to see first, name to value, the most important one first.
        plan_rows: (name, value, reason) of each decision.
        history: rows with the keys step, loss, val_dice, val_mean_ap and lr; each may be missing or None.
        examples: shown from the worst (by the mean of their scores) to the best.
        scores: rows of one table with the same keys; where these are case, class and that of `lead`, their spread is
            drawn.
        findings: (severity, problem, hint), severity "error" or "warning"; empty says that nothing was found, None is
            silent.
        classes: names, background first; made up where they are missing.
        details: anything else worth keeping, such as versions and the machine.
        lead: key in `scores` and name of the figure that matters most; larger is better.
        trials: of the search for the way objects are decoded: values of `gap`, and the mean AP at each, whatever the
            class.
        overwrite: whether an existing file may be replaced.

    Raises:
        OutputError: if the file exists and `overwrite` is off, or it cannot be written.
        ShapeError: if the labels of an example do not have the size of its image.
    """
    classes = _all_names(classes, examples)
    steps = [row.get("step") for row in history]
    loss, dice, precision, rate = (
        [row.get(key) for row in history] for key in ("loss", "val_dice", "val_mean_ap", "lr")
    )
    gaps, found = trials or ((), ())
    by_gap = f"Mean AP{' whatever the class' if len(classes) > 2 else ''} by gap of decoding"
    pictures = [draw(example, classes) for example in sorted(examples, key=_quality)]
    page = render(
        "training.html.j2",
        {
            "title": title,
            "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
            "summary": summary,
            "curves": [
                curve
                for curve in (
                    draw_curve(steps, loss, title="Training loss", x_label="step"),
                    draw_curve(steps, precision, title="Validation mean AP", x_label="step", larger_is_better=True),
                    draw_curve(steps, dice, title="Validation Dice", x_label="step", larger_is_better=True),
                    draw_curve(gaps, found, title=by_gap, x_label="gap", larger_is_better=True),
                )
                if curve is not None
            ],
            "rate": draw_curve(steps, rate, title="Learning rate", x_label="step"),
            "pictures": pictures,
            "legend": [(name, class_colour(number)) for number, name in enumerate(classes[1:], start=1)],
            "errors": error_legend(pictures),
            "objects": object_legend(pictures),
            "lead": lead[1],
            "plan_rows": plan_rows,
            "findings": None if findings is None else sorted(findings, key=lambda finding: finding[0] != "error"),
            "scores": sorted(scores, key=lambda row: _score_of_row(row, lead[0])),
            "strip": _spread(scores, lead),
            "details": details or {},
        },
    )
    write_page(path, page, overwrite=overwrite)


def _quality(example: Example) -> float:
    """Mean of the scores that are numbers; examples without any come last."""
    values = [value for value in example.scores.values() if value is not None and not math.isnan(value)]
    return sum(values) / len(values) if values else math.inf


def _score_of_row(row: Mapping[str, object], key: str) -> float:
    value = row.get(key)
    return float(value) if isinstance(value, Real) and not math.isnan(value) else math.inf


def _spread(scores: Sequence[Mapping[str, object]], lead: tuple[str, str]) -> Strip | None:
    groups: dict[str, list[tuple[str, float]]] = {}
    for row in scores:
        if isinstance(value := row.get(lead[0]), Real):
            groups.setdefault(str(row.get("class", "")), []).append((str(row.get("case", "")), float(value)))
    return draw_strip(groups, quantity=f"{lead[1]} per case")


def _all_names(classes: Sequence[str], examples: Sequence[Example]) -> list[str]:
    """Names for every class that is shown."""
    shown = [labels for example in examples for labels in (example.truth, example.prediction) if labels is not None]
    highest = max((int(labels.max(initial=0)) for labels in shown), default=0)
    names = list(classes) or ["background"]
    return names + [f"class {number}" for number in range(len(names), highest + 1)]
