"""The table of scores: its rows, what each metric means, and the table as a CSV file.

One row per case and class is the result; everything else is derived from it in `summary.py`. Adding a
metric adds one entry to `METRICS`. Nothing here knows masks or computes a score.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from uvea.cells import as_cell, of_cell
from uvea.durable import claim, make_whole
from uvea.errors import DatasetError
from uvea.evaluation.overlap import Flag

Value = float | int | None
"""A number, infinity included, or None where the metric is not defined. NaN is never a score."""

Better = Literal["higher", "lower", "near zero", ""]

FLAGS: dict[str, Flag] = {known: known for known in get_args(Flag)}
"""Every flag by its written form."""

COLUMNS = ("case", "group", "label", "class", "metric", "value", "flag")
"""The header of a score file: one line per case, class and metric."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a reader has to know about a number."""

    name: str
    """Its key in rows and files."""

    title: str
    """As it is shown."""

    kind: Literal["count", "score", "distance", "volume"]
    """Counts are whole numbers, scores lie in [0, 1], distances may be infinite."""

    better: Better
    """Which values are good; "" where none is."""

    unit: Literal["", "px", "spacing", "volume"]
    """"spacing": the unit of the spacing; "volume": that unit squared in 2D, cubed in 3D."""

    convention: str
    """One sentence: how it is computed, and what empty masks give."""


@dataclass(frozen=True, kw_only=True)
class CaseScore:
    """One class in one case: the row from which every summary is derived.

    Example:
        row["dice"]
    """

    case: str
    group: str | None
    """Patient, stack or well, where there is one."""

    label: int
    """0 is the background: it has its row, but no part in a mean over foreground classes."""

    class_name: str
    flag: Flag
    values: Mapping[str, Value] = field(default_factory=dict)
    """By name of the metric, in the order of `METRICS`. A metric that was not asked for has no entry."""

    def __getitem__(self, metric: str) -> Value:
        return self.values[metric]


def _count(name: str, title: str, convention: str, *, better: Better = "", unit: Literal["", "px"] = "") -> Metric:
    return Metric(name=name, title=title, kind="count", better=better, unit=unit, convention=convention)


def _score(name: str, title: str, convention: str, *, better: Better = "higher") -> Metric:
    return Metric(name=name, title=title, kind="score", better=better, unit="", convention=convention)


def _distance(name: str, title: str, convention: str) -> Metric:
    how = f"{convention}, between centres of border pixels; both masks empty give 0, exactly one infinity."
    return Metric(name=name, title=title, kind="distance", better="lower", unit="spacing", convention=how)


def _volume(name: str, title: str, convention: str, *, better: Better = "") -> Metric:
    return Metric(name=name, title=title, kind="volume", better=better, unit="volume", convention=convention)


_BORDERS = "The share of border pixels of both masks that lie within the tolerance of the other border"
_EMPTY_OBJECTS = "1 where neither image has objects, 0 where one has"
_THINNED = "of the cells between membranes thinned to a line, over pixels that the reference counts to a cell"
_PARTS = (
    ("v_rand", "V_rand", "Rand F-score"),
    ("v_rand_split", "V_rand split", "part of the Rand score that splits cost"),
    ("v_rand_merge", "V_rand merge", "part of the Rand score that mergers cost"),
    ("v_info", "V_info", "information-theoretic F-score"),
    ("v_info_split", "V_info split", "part of the information score that splits cost"),
    ("v_info_merge", "V_info merge", "part of the information score that mergers cost"),
)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _count("tp", "TP", "Pixels of the class in both masks; ignored pixels are left out.", unit="px"),
        _count("fp", "FP", "Pixels of the class in the prediction only.", unit="px", better="lower"),
        _count("fn", "FN", "Pixels of the class in the reference only.", unit="px", better="lower"),
        _count("tn", "TN", "Pixels of the class in neither mask.", unit="px"),
        _score("dice", "Dice", "2TP/(2TP+FP+FN); both masks empty give 1, exactly one 0."),
        _score("iou", "IoU", "TP/(TP+FP+FN); both masks empty give 1, exactly one 0."),
        _score("precision", "Precision", "TP/(TP+FP); not defined, and in no mean, for an empty prediction."),
        _score("recall", "Recall", "TP/(TP+FN); not defined, and in no mean, for an empty reference."),
        _score("specificity", "Specificity", "TN/(TN+FP); not defined where the reference fills the image."),
        _volume("volume_reference", "Reference volume", "Pixels of the class times the size of a pixel."),
        _volume("volume_prediction", "Predicted volume", "Pixels of the class times the size of a pixel."),
        _volume("volume_difference", "Volume difference", "Predicted minus reference volume.", better="near zero"),
        _distance("hd", "HD", "Hausdorff distance: the larger directed maximum"),
        _distance("hd95", "HD95", "The larger of the two directed 95th percentiles, linear interpolation"),
        _distance("assd", "ASSD", "The mean over the distances of both directions pooled"),
        _distance("masd", "MASD", "The mean of the two directed mean distances"),
        _score("nsd", "NSD", f"{_BORDERS}; both masks empty give 1, exactly one 0."),
        _count("lesions", "Lesions", "Connected components of the reference, diagonal neighbours connected."),
        _count(
            "lesions_hit", "Lesions hit", "Those that share at least one pixel with the prediction.", better="higher"
        ),
        _count("lesions_predicted", "Lesions predicted", "Connected components of the prediction."),
        _count("lesions_false", "False lesions", "Those that share no pixel with the reference.", better="lower"),
        _score("lesion_recall", "Lesion recall", "Lesions hit of all; not defined where the reference has none."),
        _score("lesion_precision", "Lesion precision", "Predicted lesions that are not false; not defined for none."),
        _score(
            "lesion_f1", "Lesion F1", "2 hit/(hit + lesions + false lesions); not defined where neither mask has one."
        ),
        _count("objects", "Objects", "Objects of the reference."),
        _count("objects_predicted", "Objects predicted", "Objects of the prediction."),
        *(
            _score(
                f"ap_{hundredths}",
                f"AP {hundredths / 100:.2f}",
                f"TP/(TP+FP+FN) of objects matched one to one at IoU ≥ {hundredths / 100:.2f}; {_EMPTY_OBJECTS}.",
            )
            for hundredths in range(50, 100, 5)
        ),
        _score("mean_ap", "mAP", f"Mean of AP over IoU 0.50, 0.55 … 0.95; {_EMPTY_OBJECTS}."),
        _score("f1", "F1", f"TP/(TP+FP/2+FN/2) of objects matched at IoU ≥ 0.50; {_EMPTY_OBJECTS}."),
        _score("pq", "PQ", f"Panoptic quality: summed IoU of the matches over TP+FP/2+FN/2 at 0.50; {_EMPTY_OBJECTS}."),
        _score(
            "seg", "SEG", "Mean IoU of reference objects with the object that covers over half of them, 0 without one."
        ),
        _count(
            "splits",
            "Splits",
            "Reference objects in which several predicted objects have most of their pixels.",
            better="lower",
        ),
        _count(
            "merges",
            "Merges",
            "Predicted objects in which several reference objects have most of their pixels.",
            better="lower",
        ),
        *(
            _score(f"{name}{suffix}", f"{title}{shown}", f"{what.capitalize()} {_THINNED}, at {threshold}.")
            for suffix, shown, threshold in (
                ("", "", "the fixed threshold"),
                ("_best", ", best", "the threshold that is best over all cases, which flatters"),
            )
            for name, title, what in _PARTS
        ),
        _score("ece", "ECE", "Expected calibration error: mean gap of probability and frequency.", better="lower"),
        _score("auc", "AUC", "Area under the ROC curve of the pixels; not defined unless both kinds of pixel occur."),
        _score("average_precision", "Average precision", "Of the pixels ranked by probability; needs positives."),
    )
}
"""Every metric by its name, in the order of rows and files."""


def write_csv(path: Path, rows: Sequence[CaseScore], *, overwrite: bool = False) -> None:
    """Write one line per case, class and metric, whole or not at all.

    A value that is not defined is an empty cell, infinity is "inf"; numbers read back to the same bits.

    Raises:
        OutputError: if the file exists and `overwrite` is not set, or it cannot be written.
    """

    def write(part: Path) -> None:
        with part.open("x", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream, lineterminator="\n")
            # Python's reader takes a lone carriage return for the end of a line, and its writer does not quote it.
            quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
            lines.writerow(COLUMNS)
            for row in rows:
                for metric, value in row.values.items():
                    names = (as_cell(row.case), as_cell(row.group or ""), row.label, as_cell(row.class_name))
                    writer = quoted if any("\r" in str(name) for name in names) else lines
                    writer.writerow((*names, metric, _written(METRICS[metric], value), row.flag))

    claim(path, overwrite=overwrite)
    make_whole(path, write)


def read_csv(path: Path) -> list[CaseScore]:
    """Read the rows that `write_csv` wrote, equal to the last bit, whichever metrics they have.

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
    heads: dict[tuple[str, str], tuple[str, str, str]] = {}
    values: dict[tuple[str, str], dict[str, Value]] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            case, group, label, class_name, metric, value, found = line
            case, group, class_name = map(of_cell, (case, group, class_name))
            head = group, class_name, found
            if heads.setdefault((case, label), head) != head:
                raise ValueError(
                    f"it has {', '.join(map(repr, head))}, an earlier line of the case {heads[case, label]}"
                )
            scores = values.setdefault((case, label), {})
            if metric in scores:
                raise ValueError(f"{metric} is there twice")
            scores[metric] = _number(METRICS[metric], value)
            FLAGS[found], int(label)
        except (ValueError, LookupError) as error:
            raise DatasetError(
                f"{path} has a line {number} that is no score: {','.join(line)} ({error})",
                hint="run `uvea evaluate` again to write the file anew",
            ) from error
    return [
        CaseScore(
            case=case,
            group=heads[case, label][0] or None,
            label=int(label),
            class_name=heads[case, label][1],
            flag=FLAGS[heads[case, label][2]],
            values=scores,
        )
        for (case, label), scores in values.items()
    ]


def _written(metric: Metric, value: Value) -> str:
    """An empty cell for None; `repr`, because it reads back to the same bits."""
    if value is None:
        return ""
    return repr(int(value) if metric.kind == "count" else float(value))


def _number(metric: Metric, text: str) -> Value:
    if not text:
        return None
    if metric.kind == "count":
        return int(text)
    value = float(text)
    if value != value:
        raise ValueError("nan is no score; what is not defined is left empty")
    return value
