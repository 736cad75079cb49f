"""The table of scores, its summary, and both as files.

One row per case and class is the result; everything else is derived from it here. Adding a
metric adds a field to `CaseScore`, a name to `METRICS` and an average to the summary.
"""

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import get_args

from uvea.errors import DatasetError, OutputError
from uvea.evaluation.overlap import CaseScore, Flag, dice, iou

METRICS = {"tp": int, "fp": int, "fn": int, "dice": float, "iou": float}
"""What is written for a case and class, with its type, in the order of the lines."""

FLAGS: dict[str, Flag] = {known: known for known in get_args(Flag)}
"""Every flag by its written form."""

COLUMNS = ("case", "group", "label", "class", "metric", "value", "flag")
"""The header of a score file: one line per case, class and metric."""


@dataclass(frozen=True, kw_only=True)
class Average:
    """One metric over many cases, by the four ways of averaging that are in use."""

    mean: float
    """Mean over cases; a case where both masks are empty counts as 1, a false alarm as 0."""

    mean_present: float | None
    """Mean over the cases where the reference has the class; None where it never has."""

    pooled: float
    """From the counts of all cases added up."""

    mean_groups: float | None
    """Mean over groups of the mean over their cases; None without groups."""


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
    dice: Average
    iou: Average


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A whole evaluation: per class, and the mean over the foreground classes."""

    cases: int
    groups: int
    """0 where no case has a group."""

    classes: tuple[ClassSummary, ...]
    """In label order, background included."""

    dice: Average
    """Mean over the foreground classes of their averages."""

    iou: Average
    """Likewise."""


def summarise(rows: Sequence[CaseScore]) -> Summary:
    """Derive every average from the rows of all cases.

    A case without a group, where other cases have one, is a group of its own.

    Args:
        rows: of `score_case`, of any number of cases; every case with the same classes.

    Returns:
        Summary.

    Raises:
        DatasetError: if there is no row of a foreground class.
    """
    classes = tuple(
        _summarise_class([row for row in rows if row.label == label]) for label in sorted({row.label for row in rows})
    )
    foreground = [entry for entry in classes if entry.label > 0]
    if not foreground:
        raise DatasetError("there are no foreground classes to score", hint="give masks with at least two values")
    return Summary(
        cases=len({row.case for row in rows}),
        groups=len({row.group for row in rows if row.group is not None}),
        classes=classes,
        dice=_mean_average([entry.dice for entry in foreground]),
        iou=_mean_average([entry.iou for entry in foreground]),
    )


def write_csv(path: Path, rows: Sequence[CaseScore], *, overwrite: bool = False) -> None:
    """Write one line per case, class and metric, under a temporary name first.

    Raises:
        OutputError: if the file exists and `overwrite` is not set, or it cannot be written.
    """
    temporary = _claim(path, overwrite)
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream, lineterminator="\n")
            lines.writerow(COLUMNS)
            for row in rows:
                for metric in METRICS:
                    value = repr(getattr(row, metric))  # repr: reads back to the same bits
                    lines.writerow((row.case, row.group or "", row.label, row.class_name, metric, value, row.flag))
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_summary(path: Path, summary: Summary, *, overwrite: bool = False) -> None:
    """Write the summary as readable JSON, under a temporary name first.

    Raises:
        OutputError: if the file exists and `overwrite` is not set, or it cannot be written.
    """
    temporary = _claim(path, overwrite)
    try:
        temporary.write_text(json.dumps(asdict(summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_csv(path: Path) -> list[CaseScore]:
    """Read the rows that `write_csv` wrote, equal to the last bit.

    Raises:
        DatasetError: if the file is missing or is not a score file; names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            lines = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{path} cannot be read as scores: {error}",
            hint="give a scores.csv of `uvea evaluate`",
        ) from error
    if not lines or tuple(lines[0]) != COLUMNS:
        raise DatasetError(
            f"{path} does not start with the line {','.join(COLUMNS)}",
            hint="give a scores.csv of `uvea evaluate`",
        )
    return [_parse(path, first, lines) for first in range(1, len(lines), len(METRICS))]


def _parse(path: Path, first: int, lines: list[list[str]]) -> CaseScore:
    block = lines[first : first + len(METRICS)]
    keys = {(*line[:4], *line[6:]) for line in block}
    try:
        if [line[4] for line in block] != list(METRICS) or len(keys) != 1:
            raise ValueError("metrics are missing or out of order")
        case, group, label, class_name, found = keys.pop()
        tp, fp, fn, *scores = (kind(line[5]) for kind, line in zip(METRICS.values(), block, strict=True))
        return CaseScore(
            case=case,
            group=group or None,
            label=int(label),
            class_name=class_name,
            tp=tp,
            fp=fp,
            fn=fn,
            dice=scores[0],
            iou=scores[1],
            flag=FLAGS[found],
        )
    except (ValueError, LookupError) as error:
        raise DatasetError(
            f"{path} has lines {first + 1} to {first + len(block)} that are not scores: {error}",
            hint="run `uvea evaluate` again to write the file anew",
        ) from error


def _summarise_class(rows: Sequence[CaseScore]) -> ClassSummary:
    flags = [row.flag for row in rows]
    pooled = tuple(sum(getattr(row, name) for row in rows) for name in ("tp", "fp", "fn"))
    return ClassSummary(
        label=rows[0].label,
        class_name=rows[0].class_name,
        n=len(rows),
        n_both_empty=flags.count("both_empty"),
        n_missed=flags.count("missed"),
        n_false_alarm=flags.count("false_alarm"),
        dice=_average(rows, lambda row: row.dice, pooled=float(dice(*pooled))),
        iou=_average(rows, lambda row: row.iou, pooled=float(iou(*pooled))),
    )


def _average(rows: Sequence[CaseScore], value: Callable[[CaseScore], float], *, pooled: float) -> Average:
    present = [value(row) for row in rows if row.tp + row.fn > 0]
    members: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        key = ("case", row.case) if row.group is None else ("group", row.group)
        members.setdefault(key, []).append(value(row))
    grouped = any(row.group is not None for row in rows)
    return Average(
        mean=fmean(map(value, rows)),
        mean_present=fmean(present) if present else None,
        pooled=pooled,
        mean_groups=fmean(map(fmean, members.values())) if grouped else None,
    )


def _mean_average(averages: Sequence[Average]) -> Average:
    present = [entry.mean_present for entry in averages if entry.mean_present is not None]
    groups = [entry.mean_groups for entry in averages if entry.mean_groups is not None]
    return Average(
        mean=fmean(entry.mean for entry in averages),
        mean_present=fmean(present) if present else None,
        pooled=fmean(entry.pooled for entry in averages),
        mean_groups=fmean(groups) if groups else None,
    )


def _claim(path: Path, overwrite: bool) -> Path:
    """Make sure `path` may be written, and give the temporary name to write to."""
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists", hint="choose another --out, or add --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}", hint="choose another --out")
