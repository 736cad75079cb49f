"""The table of scores as a file: nothing is lost, and what is no table is refused."""

import math
import re

import pytest

from uvea.errors import DatasetError, OutputError
from uvea.evaluation.table import METRICS, CaseScore, read_csv, write_csv


def row(case, *, label=1, group=None, flag="", **values):
    """A row with some metrics."""
    return CaseScore(case=case, group=group, label=label, class_name=f"class {label}", flag=flag, values=values)


ROWS = [
    row("p/ä,1", group='he said "x"', tp=90, dice=0.1 + 0.2, precision=None),
    row("b", flag="missed", fn=3, dice=0.0, hd=math.inf),
    row("c", label=2, dice=1 / 3, volume_difference=-2.5e-7),
]


def test_a_score_file_reads_back_equal(tmp_path):
    """Odd names, every bit of the numbers, infinity and what is not defined survive, whichever metrics there are."""
    write_csv(tmp_path / "new" / "scores.csv", ROWS)
    assert read_csv(tmp_path / "new" / "scores.csv") == ROWS
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scores.csv"]


def test_a_score_file_has_one_line_per_case_class_and_metric(tmp_path):
    """The long form that every statistics program reads; what is not defined is an empty cell."""
    write_csv(tmp_path / "scores.csv", [row("b", flag="missed", tp=0, precision=None, dice=0.0, hd=math.inf)])
    assert (tmp_path / "scores.csv").read_text().splitlines() == [
        "case,group,label,class,metric,value,flag",
        "b,,1,class 1,tp,0,missed",
        "b,,1,class 1,precision,,missed",
        "b,,1,class 1,dice,0.0,missed",
        "b,,1,class 1,hd,inf,missed",
    ]


def test_lines_may_come_in_any_order(tmp_path):
    """Someone sorted the file by metric."""
    rows = [row("a", dice=1.0, iou=1.0), row("b", dice=0.5, iou=0.4)]
    write_csv(tmp_path / "scores.csv", rows)
    header, *lines = (tmp_path / "scores.csv").read_text().splitlines()
    (tmp_path / "scores.csv").write_text(
        "\n".join([header, *sorted(lines, key=lambda line: line.split(",")[4])]) + "\n"
    )
    assert read_csv(tmp_path / "scores.csv") == rows


def test_nothing_is_overwritten_unless_asked(tmp_path):
    """The file on disk stays as it is, or is replaced whole."""
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OutputError, match="file exists"):
        write_csv(path, ROWS)
    assert path.read_text() == "precious"
    write_csv(path, ROWS, overwrite=True)
    assert path.read_text() != "precious"


def test_a_file_that_is_not_scores_is_refused(tmp_path):
    """A missing file, and another header."""
    path = tmp_path / "scores.csv"
    with pytest.raises(DatasetError, match="cannot be read"):
        read_csv(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="does not start with"):
        read_csv(path)


@pytest.mark.parametrize(
    "line",
    [
        "b,,1,class 1,fn,many,missed",
        "b,,1,class 1,fn,3.5,missed",
        "b,,1,class 1,iou,nan,missed",
        "b,,1,class 1,beauty,1.0,missed",
        "b,,1,class 1,iou,1.0,lost",
        "b,,one,class 1,iou,1.0,missed",
        "b,,1,another class,iou,1.0,missed",
        "b,,1,class 1,fn,3,missed",
        "b,,1,class 1,iou",
    ],
)
def test_a_line_that_is_no_score_is_named(line, tmp_path):
    """No number, a part of a pixel, NaN, names that are not known, a class of two names, a score twice, a cut line."""
    path = tmp_path / "scores.csv"
    write_csv(path, ROWS[1:2])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DatasetError, match=re.escape(f"line 5 that is no score: {line} (")):
        read_csv(path)


def test_every_metric_says_what_it_is():
    """The convention is one sentence that ends, and the unit fits the kind."""
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.convention.endswith(".") and "\n" not in metric.convention
        assert (metric.unit == "spacing") == (metric.kind == "distance")
        assert (metric.unit == "volume") == (metric.kind == "volume")


STRANGE = ["a\rb", "a\nb", "a\r\nb", '"', "a\u2028b", "=cmd|' /C calc'!A0", "@x", "'=1", "''=1", "-1", "-a b.c", "+1+1"]


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_name_does_not_break_a_score_file(tmp_path, name):
    """Ends of lines, quotation marks, and what a spreadsheet would calculate."""
    rows = [row(name, group=name, dice=0.5), row("next", dice=1.0)]
    write_csv(tmp_path / "scores.csv", rows)
    assert read_csv(tmp_path / "scores.csv") == rows


def test_names_that_look_like_formulas_are_marked_as_text(tmp_path):
    """A spreadsheet shows them and does not run them; a negative number is none."""
    write_csv(tmp_path / "scores.csv", [row("=1+1", dice=0.5), row("-cmd|'/C calc'!A0", dice=0.5), row("-1", dice=0.5)])
    _, *lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["'=1+1", "'-cmd|'/C calc'!A0", "-1"]
