"""Compare two sets of predictions, or two earlier evaluations, case by case.

scores of A, scores of B  ->  paired differences per class and metric  ->  compare.json, compare.csv
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from uvea.cells import as_cell
from uvea.datasets.names import listed
from uvea.durable import claim, write_text
from uvea.errors import DatasetError
from uvea.evaluation.compare import Comparison, compare
from uvea.evaluation.summary import write_json
from uvea.evaluation.table import METRICS, CaseScore, Metric, read_csv
from uvea.workflows.evaluate import (
    SCORES_NAME,
    SUMMARY_NAME,
    TOLERANCE,
    IncompleteError,
    evaluate,
    refuse_folder,
)
from uvea.workflows.evaluation_text import aligned, unit_text, value_text, wrapped
from uvea.workflows.events import Listener, Message, silent
from uvea.workflows.matching import Failure

JSON_NAME = "compare.json"
CSV_NAME = "compare.csv"
COLUMNS = (
    *("label", "class", "metric", "unit", "n", "first", "second"),
    *("difference", "low", "high", "better", "worse", "equal", "sentence"),
)

COMPARED = ("unit", "tolerance", "within", "ignored value")
"""Settings that must be those of both."""

OBJECTS = "objects of the references"
"""Likewise, where both scored objects. Those of the predictions may differ: one tool numbers them, another does not."""

USUAL = ("dice", "iou", "hd95", "nsd", "mean_ap", "pq", "v_rand", "v_info")
"""Metrics that are compared unless others are named, where both have them."""


@dataclass(frozen=True, kw_only=True)
class ComparedFiles:
    """The result of a comparison."""

    names: tuple[str, str]
    comparisons: tuple[Comparison, ...]
    """One per metric and foreground class, in this order."""

    means: tuple[tuple[float | None, float | None], ...]
    """Of the first and the second for each comparison, over the cases where both are finite; where there are groups,
    over the groups, as the difference is. Where near zero is better, of the distances from zero, likewise."""

    warnings: tuple[str, ...] = ()
    """What a reader must know before trusting the figures."""

    def table(self, *, width: int | None = None) -> str:
        """Aligned text: a line per class and metric, then what can be said about each.

        Args:
            width: columns of the terminal, beyond which the table goes on below; None for one line per sentence.
        """
        return _as_text(self, width)


@dataclass(frozen=True, kw_only=True)
class _Table:
    rows: list[CaseScore]
    settings: Mapping[str, object]
    """How they were scored; empty where nobody wrote it down."""

    @property
    def unit(self) -> str:
        """Of distances; empty where nobody wrote it down."""
        return str(self.settings.get("unit", ""))

    def setting(self, name: str) -> object:
        """In words; None where it makes no difference to what is compared, or nobody wrote it down."""
        value = self.settings.get(name)
        match name:
            case "within" if self.settings:
                return "no --within" if value is None else "--within"
            case "ignored value" if self.settings:
                return "none" if value is None else value
            case "tolerance" if value is not None:
                return float(str(value))  # "inf" in JSON
        return value


def compare_files(
    first: str | Path,
    second: str | Path,
    *,
    reference: str | Path | None = None,
    out: str | Path | None = None,
    metrics: str | Sequence[str] = (),
    label_names: Sequence[str] | Mapping[int, str] = (),
    groups: str | Path | Mapping[str, str] | None = None,
    tolerance: float = TOLERANCE,
    distances: bool = True,
    instances: bool | None = None,
    em_membranes: bool = False,
    within: str | Path | None = None,
    ignore_value: int | None = None,
    allow_missing: bool = False,
    allow_extra: bool = False,
    max_pixels: int | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    listen: Listener | None = None,
) -> ComparedFiles:
    """Compare two models on the same cases: paired differences with their intervals.

    Args:
        first: scores.csv of `uvea.evaluate`, the folder it is in, or a folder of predicted masks.
        second: likewise; the differences are second minus first.
        reference: the masks that are right, where `first` or `second` is a folder of masks.
        out: folder for compare.json and compare.csv; None writes nothing.
        metrics: names of those to compare; unless given, the usual ones that both have.
        label_names: as `uvea.evaluate`, like all that follow; they count for folders of masks only.
        groups: as `uvea.evaluate`.
        tolerance: as `uvea.evaluate`.
        distances: as `uvea.evaluate`.
        instances: as `uvea.evaluate`.
        em_membranes: as `uvea.evaluate`.
        within: as `uvea.evaluate`.
        ignore_value: as `uvea.evaluate`.
        allow_missing: as `uvea.evaluate`.
        allow_extra: as `uvea.evaluate`.
        max_pixels: as `uvea.evaluate`.
        workers: as `uvea.evaluate`.
        overwrite: whether files in `out` may be replaced.
        listen: told of progress and warnings.

    Returns:
        ComparedFiles.

    Raises:
        DatasetError: different cases, classes or references, a metric that one lacks, units, tolerances, regions,
            ignored values or objects of the references that differ, masks without a reference, or a case that cannot be
            scored.
        OutputError: `out` cannot be written to, or has such files already.
    """
    paths = Path(first), Path(second)
    folder = None if out is None else Path(out)
    if folder is not None:
        refuse_folder(folder, (JSON_NAME, CSV_NAME), overwrite=overwrite)
    metrics = (metrics,) if isinstance(metrics, str) else metrics
    if unknown := [name for name in metrics if name not in METRICS]:
        raise DatasetError(f"there is no metric {unknown[0]!r}", hint=f"use some of {', '.join(METRICS)}")
    if reference is not None and all(_scores_file(path) for path in paths):
        raise DatasetError(
            f"{paths[0]} and {paths[1]} are scores already, --reference {reference} is of no use",
            hint="leave --reference out",
        )
    options = {
        "--labels": bool(label_names),
        "--group": groups is not None,
        "--tolerance": tolerance != TOLERANCE,
        "--no-distances": not distances,
        "--no-instances" if instances is False else "--instances": instances is not None,
        "--em-membranes": em_membranes,
        "--within": within is not None,
        "--ignore-value": ignore_value is not None,
        "--allow-missing": allow_missing,
        "--allow-extra": allow_extra,
        "--max-pixels": max_pixels is not None,
    }
    said = [name for name in options if options[name]]
    if said and all(_scores_file(path) for path in paths):
        raise DatasetError(
            f"{paths[0]} and {paths[1]} are scores already: {', '.join(said)} count{'s' if len(said) == 1 else ''} for "
            "masks only",
            hint="leave that out, or score the masks anew with `uvea evaluate`",
        )
    names = _names(paths)

    def table(path: Path) -> _Table:
        scores = _scores_file(path)
        if scores is not None:
            return _read(scores)
        if not path.exists():
            raise DatasetError(f"there is no file or folder '{path}'", hint="check the path; relative ones start here")
        if reference is None:
            raise DatasetError(
                f"{path} holds no {SCORES_NAME}", hint="give the masks that are right with --reference, to score it now"
            )
        try:
            found = evaluate(
                path,
                reference,
                label_names=label_names,
                groups=groups,
                tolerance=tolerance,
                distances=distances,
                instances=instances,
                em_membranes=em_membranes,
                within=within,
                ignore_value=ignore_value,
                allow_missing=allow_missing,
                allow_extra=allow_extra,
                max_pixels=max_pixels,
                workers=workers,
                listen=listen or silent,
            )
        except IncompleteError as error:
            raise _incomplete(path, error.scores.failures) from error
        return _Table(rows=list(found.rows), settings=found.summary.settings)

    tables = table(paths[0]), table(paths[1])
    unit = _common_unit(tables, names)
    chosen = [METRICS[name] for name in dict.fromkeys(metrics)] or _usual(tables)
    rows = tuple([row for row in one.rows if row.label > 0] for one in tables)
    pairs = [
        (found, _means(found, *rows))
        for metric in chosen
        for found in compare(*rows, metric=metric, names=names, unit=_unit(metric, unit))
        if found.n or metrics
    ]
    warnings = _unknown(tables, names, chosen) + (_renamed(rows, names) if pairs else [])
    for warning in warnings:
        (listen or silent)(Message(warning, "warning"))
    result = ComparedFiles(
        names=names,
        comparisons=tuple(found for found, _ in pairs),
        means=tuple(means for _, means in pairs),
        warnings=tuple(warnings),
    )
    if folder is not None:
        write_json(folder / JSON_NAME, _as_plain(result), overwrite=overwrite)
        _write_csv(folder / CSV_NAME, result, overwrite=overwrite)
    return result


def _scores_file(path: Path) -> Path | None:
    if path.is_dir():
        return path / SCORES_NAME if (path / SCORES_NAME).is_file() else None
    return path if path.suffix.lower() == ".csv" else None


def _read(path: Path) -> _Table:
    """The rows, and their settings from the summary beside them."""
    rows = read_csv(path)
    try:
        settings = json.loads(path.with_name(SUMMARY_NAME).read_text(encoding="utf-8"))["settings"]
        known = {name: settings[name] for name in COMPARED} | {OBJECTS: settings.get(OBJECTS)}
        found = _Table(rows=rows, settings=known)
        found.setting("tolerance")
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _Table(rows=rows, settings={})  # scores of a training have none, or it is not ours
    return found


def _names(paths: tuple[Path, Path]) -> tuple[str, str]:
    """Short names that differ."""
    files = [_scores_file(path) or path for path in paths]
    if files[0] == files[1] or (files[0].exists() and files[1].exists() and files[0].samefile(files[1])):
        raise DatasetError(f"{paths[0]} would be compared with itself", hint="name two different predictions")
    short = [path.parent.name if path.name == SCORES_NAME else path.name for path in paths]
    if all(short) and short[0] != short[1]:
        return short[0], short[1]
    return str(paths[0]), str(paths[1])


def _incomplete(path: Path, failures: Sequence[Failure]) -> DatasetError:
    """The error for predictions that could not all be scored: the others alone are not the same cases."""
    first = failures[0]
    if len(failures) == 1:
        return DatasetError(first.problem, hint=first.hint)
    names = listed(one.case for one in failures)
    return DatasetError(
        f"{len(failures)} cases of {path} could not be scored: {names}; the first: {first.problem}", hint=first.hint
    )


def _common_unit(tables: tuple[_Table, _Table], names: tuple[str, str]) -> str:
    for what in (*COMPARED, OBJECTS):
        values = [one.setting(what) for one in tables]
        if None not in values and values[0] != values[1]:
            words = {"within": f"{values[0]}", OBJECTS: f"{values[0]} as {what}"}
            first = words.get(what, f"{what} {values[0]}")
            raise DatasetError(
                f"{names[0]} was scored with {first}, {names[1]} with {values[1]}",
                hint="evaluate both in the same way",
            )
    return tables[0].unit if tables[1].unit else ""


def _unknown(tables: tuple[_Table, _Table], names: tuple[str, str], metrics: Sequence[Metric]) -> list[str]:
    """What is to be said where nobody wrote down how a table was scored, and it matters to these metrics."""
    measured = [metric.title for metric in metrics if metric.unit in ("spacing", "volume") or metric.name == "nsd"]
    unknown = [name for name, one in zip(names, tables, strict=True) if not one.settings]
    if not measured or not unknown:
        return []
    whose = "its unit and tolerance" if len(unknown) == 1 else "their units and tolerances"
    return [
        f"nobody wrote down how {' and '.join(unknown)} {'was' if len(unknown) == 1 else 'were'} scored: {whose} are "
        f"not known, and {', '.join(measured)} may differ in them"
    ]


def _renamed(rows: Sequence[Sequence[CaseScore]], names: tuple[str, str]) -> list[str]:
    """What is to be said of classes that have another name in each table, but the same pixels in the references."""
    ours, theirs = ({row.label: row.class_name for row in one} for one in rows)
    return [
        f"class {label} is {name!r} in {names[0]}, {theirs[label]!r} in {names[1]}: both have as many pixels in every "
        "reference, so they are compared as one class"
        for label, name in sorted(ours.items())
        if name != theirs[label]
    ]


def _usual(tables: tuple[_Table, _Table]) -> list[Metric]:
    known = [{name for row in one.rows for name in row.values} for one in tables]
    return [METRICS[name] for name in USUAL if all(name in names for names in known)]


def _unit(metric: Metric, unit: str) -> str:
    return unit_text(metric, unit) if unit else ""


def _means(
    found: Comparison, first: Sequence[CaseScore], second: Sequence[CaseScore]
) -> tuple[float | None, float | None]:
    later = {row.case: row for row in second if row.label == found.label}
    shown = abs if found.better == "near zero" else float
    members: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in first:
        if row.label != found.label:
            continue
        before, after = row.values.get(found.metric), later[row.case].values.get(found.metric)
        if before is None or after is None or not (math.isfinite(before) and math.isfinite(after)):
            continue
        group = row.group or later[row.case].group
        key = ("case", row.case) if group is None else ("group", group)
        members.setdefault(key, []).append((shown(before), shown(after)))
    if not members:
        return None, None
    columns = [zip(*pairs, strict=True) for pairs in members.values()]
    means = [tuple(map(fmean, column)) for column in columns]
    return fmean(before for before, _ in means), fmean(after for _, after in means)


def _as_plain(result: ComparedFiles) -> dict[str, object]:
    return {
        "first": result.names[0],
        "second": result.names[1],
        "warnings": list(result.warnings),
        "comparisons": [
            {**asdict(found), "first_mean": means[0], "second_mean": means[1], "sentence": found.sentence()}
            for found, means in zip(result.comparisons, result.means, strict=True)
        ],
    }


def _write_csv(path: Path, result: ComparedFiles, *, overwrite: bool) -> None:
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for found, means in zip(result.comparisons, result.means, strict=True):
        difference = found.difference
        head = (found.label, as_cell(found.class_name), found.metric, as_cell(found.unit), found.n)
        figures = (*means, difference.mean, difference.low, difference.high)
        counts = (found.n_better, found.n_worse, found.n_equal, as_cell(found.sentence()))
        lines.writerow((*head, *("" if figure is None else repr(figure) for figure in figures), *counts))
    claim(path, overwrite=overwrite)
    write_text(path, text.getvalue())


def _as_text(result: ComparedFiles, width: int | None) -> str:
    lines = [["class", "metric", *result.names, "difference", "better", "worse", "same"]]
    for found, means in zip(result.comparisons, result.means, strict=True):
        metric, difference = METRICS[found.metric], found.difference
        change = value_text(metric, difference.mean)
        if difference.low is not None and difference.high is not None:
            change += f" [{value_text(metric, difference.low)}, {value_text(metric, difference.high)}]"
        title = f"{found.title}, absolute" if found.better == "near zero" else found.title
        title += f" ({found.unit})" if found.unit else ""
        counts = [str(count) for count in (found.n_better, found.n_worse, found.n_equal)]
        lines.append([found.class_name, title, *(value_text(metric, mean) for mean in means), change, *counts])
    text = [f"{found.class_name}: {found.sentence()}" for found in result.comparisons]
    for found in result.comparisons[:1]:
        for what, changes in (("most improved", found.most_improved), ("most worsened", found.most_worsened)):
            if changes:
                metric = METRICS[found.metric]
                ends = (
                    f"{one.case} ({value_text(metric, one.first)} to {value_text(metric, one.second)})"
                    for one in changes
                )
                text.append(f"{what} in {found.title} of {found.class_name}: {', '.join(ends)}")
    if len(result.comparisons) > 1:
        text.append(
            f"these are {len(result.comparisons)} comparisons: of twenty without a real difference, one interval on "
            "average leaves zero out; choose the one that counts beforehand"
        )
    text += result.warnings
    return "\n".join([aligned(lines, left=2, keep=2, width=width), "", *(wrapped(one, width=width) for one in text)])
