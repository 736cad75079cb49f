"""Averages against the worked example of the metrics page, and files that lose nothing."""

import json

import pytest

from uvea.errors import DatasetError, OutputError
from uvea.evaluation.overlap import CaseScore, dice, flag, iou
from uvea.evaluation.table import read_csv, summarise, write_csv, write_summary


def row(case, tp, fp, fn, *, label=1, group=None):
    """A row with its scores worked out."""
    return CaseScore(
        case=case,
        group=group,
        label=label,
        class_name=f"class {label}",
        tp=tp,
        fp=fp,
        fn=fn,
        dice=float(dice(tp, fp, fn)),
        iou=float(iou(tp, fp, fn)),
        flag=flag(tp, fp, fn),
    )


def test_the_aggregation_example_of_the_metrics_page():
    """Per-case Dice 1 and .620690, mean .810345, pooled .623288."""
    rows = [row("A", 1, 0, 0), row("B", 90, 10, 100)]
    assert [entry.dice for entry in rows] == pytest.approx([1, 0.620690], abs=5e-7)
    summary = summarise(rows)
    assert summary.dice.mean == pytest.approx(0.810345, abs=5e-7)
    assert summary.dice.pooled == pytest.approx(0.623288, abs=5e-7)
    assert summary.classes[0].iou.pooled == pytest.approx(91 / 201)


def test_empty_cases_are_counted_and_averaged_both_ways():
    """Both empty 1, missed 0, false alarm 0, found 1: mean one half; the class is present in two of them."""
    rows = [row("a", 0, 0, 0), row("b", 0, 0, 5), row("c", 0, 5, 0), row("d", 5, 0, 0)]
    (entry,) = summarise(rows).classes
    assert (entry.n, entry.n_both_empty, entry.n_missed, entry.n_false_alarm) == (4, 1, 1, 1)
    assert entry.dice.mean == 0.5
    assert entry.dice.mean_present == 0.5
    assert summarise(rows[:3]).dice.mean_present == 0.0
    assert summarise(rows[:1]).dice.mean_present is None


def test_the_group_is_the_unit_where_there_are_groups():
    """Two cases of one patient at 1 and one of another at 0: mean over cases 2/3, over patients 1/2."""
    rows = [row("a", 1, 0, 0, group="p"), row("b", 1, 0, 0, group="p"), row("c", 0, 1, 1, group="q")]
    summary = summarise(rows)
    assert summary.groups == 2
    assert summary.dice.mean == pytest.approx(2 / 3)
    assert summary.dice.mean_groups == pytest.approx(1 / 2)
    assert summarise([row("a", 1, 0, 0)]).dice.mean_groups is None


def test_the_mean_over_classes_leaves_the_background_out():
    """Background .9 and classes at 1 and 0 average to one half."""
    rows = [row("a", 9, 1, 1, label=0), row("a", 4, 0, 0, label=1), row("a", 0, 1, 1, label=2)]
    summary = summarise(rows)
    assert [entry.label for entry in summary.classes] == [0, 1, 2]
    assert (summary.cases, summary.dice.mean, summary.iou.mean) == (1, 0.5, 0.5)


def test_background_alone_cannot_be_summarised():
    """There would be nothing to average."""
    with pytest.raises(DatasetError, match="no foreground classes"):
        summarise([row("a", 1, 0, 0, label=0)])


ROWS = [row("p/ä,1", 90, 10, 100, group='he said "x"'), row("b", 0, 0, 3), row("c", 1, 2, 0, label=2)]


def test_a_score_file_reads_back_equal(tmp_path):
    """Odd names and every bit of the numbers survive."""
    write_csv(tmp_path / "new" / "scores.csv", ROWS)
    assert read_csv(tmp_path / "new" / "scores.csv") == ROWS
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scores.csv"]


def test_a_score_file_has_one_line_per_case_class_and_metric(tmp_path):
    """The long form that every statistics program reads."""
    write_csv(tmp_path / "scores.csv", ROWS[1:2])
    assert (tmp_path / "scores.csv").read_text().splitlines() == [
        "case,group,label,class,metric,value,flag",
        "b,,1,class 1,tp,0,missed",
        "b,,1,class 1,fp,0,missed",
        "b,,1,class 1,fn,3,missed",
        "b,,1,class 1,dice,0.0,missed",
        "b,,1,class 1,iou,0.0,missed",
    ]


def test_the_summary_file_holds_every_average(tmp_path):
    """Plain JSON, with the flags counted."""
    write_summary(tmp_path / "summary.json", summarise(ROWS))
    read = json.loads((tmp_path / "summary.json").read_text())
    assert read["dice"]["mean"] == summarise(ROWS).dice.mean
    assert read["classes"][0]["n_missed"] == 1


@pytest.mark.parametrize(
    "write", [lambda p, **k: write_csv(p, ROWS, **k), lambda p, **k: write_summary(p, summarise(ROWS), **k)]
)
def test_nothing_is_overwritten_unless_asked(write, tmp_path):
    """The file on disk stays as it is, or is replaced whole."""
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OutputError, match="file exists"):
        write(path)
    assert path.read_text() == "precious"
    write(path, overwrite=True)
    assert path.read_text() != "precious"


def test_a_file_that_is_not_scores_is_refused(tmp_path):
    """A missing file, another header, and a broken value are each named."""
    path = tmp_path / "scores.csv"
    with pytest.raises(DatasetError, match="cannot be read"):
        read_csv(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="does not start with"):
        read_csv(path)
    write_csv(path, ROWS, overwrite=True)
    path.write_text(path.read_text().replace(",tp,90,", ",tp,many,"))
    with pytest.raises(DatasetError, match="lines 2 to 6 that are not scores"):
        read_csv(path)
