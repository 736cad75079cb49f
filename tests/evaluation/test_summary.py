"""Averages against the worked example of the metrics page, and every convention for what is empty or infinite."""

import json
import math
from dataclasses import replace

import pytest

from uvea.errors import DatasetError, OutputError
from uvea.evaluation.instances import InstanceScores, pool
from uvea.evaluation.overlap import flag
from uvea.evaluation.rows import instance_values, overlap_values
from uvea.evaluation.summary import summarise, write_summary
from uvea.evaluation.table import METRICS, CaseScore


def row(case, tp, fp, fn, *, label=1, group=None, **values):
    """A row with its scores worked out, and perhaps more."""
    return CaseScore(
        case=case,
        group=group,
        label=label,
        class_name=f"class {label}",
        flag=flag(tp, fp, fn),
        values={**overlap_values(tp, fp, fn, tn=10), **values},
    )


def test_the_aggregation_example_of_the_metrics_page():
    """Per-case Dice 1 and .620690, mean .810345, pooled .623288."""
    rows = [row("A", 1, 0, 0), row("B", 90, 10, 100)]
    summary = summarise(rows)
    assert summary.dice.mean == pytest.approx(0.810345, abs=5e-7)
    assert summary.dice.pooled == pytest.approx(0.623288, abs=5e-7)
    metrics = summary.classes[0].metrics
    assert metrics["iou"].pooled == pytest.approx(91 / 201)
    assert metrics["precision"].pooled == pytest.approx(91 / 101)
    assert (metrics["tp"].pooled, metrics["tp"].mean, metrics["tp"].low) == (91, 45.5, None)


def test_empty_cases_are_counted_and_averaged_both_ways():
    """Both empty 1 (three times), missed 0, false alarm 0 (twice), found 1: mean 4/7; present in two of seven."""
    both, missed, alarm, found = (0, 0, 0), (0, 0, 5), (0, 5, 0), (5, 0, 0)
    rows = [row(str(n), *one) for n, one in enumerate([both, both, both, missed, alarm, alarm, found])]
    (entry,) = summarise(rows).classes
    assert (entry.n, entry.n_both_empty, entry.n_missed, entry.n_false_alarm) == (7, 3, 1, 2)
    assert entry.metrics["dice"].mean == pytest.approx(4 / 7)
    assert entry.metrics["dice"].mean_present == 0.5
    assert summarise(rows[:4]).dice.mean_present == 0.0
    assert summarise(rows[4:6]).dice.mean_present is None


def test_what_is_not_defined_takes_no_part():
    """Precision of an empty prediction does not exist: two of three cases have one; recall has none at all."""
    rows = [row("a", 0, 0, 0), row("b", 0, 4, 0), row("c", 0, 4, 0)]
    (entry,) = summarise(rows).classes
    assert (entry.metrics["precision"].n, entry.metrics["precision"].mean) == (2, 0.0)
    assert "recall" not in entry.metrics


def test_an_infinite_distance_makes_the_mean_infinite_and_is_counted():
    """Distances 1, 3 and infinity: mean inf, of the finite ones 2, whose interval is given."""
    rows = [row("a", 1, 0, 0, hd=1.0), row("b", 1, 0, 0, hd=3.0), row("c", 0, 0, 1, hd=math.inf)]
    found = summarise(rows).classes[0].metrics["hd"]
    assert (found.n, found.mean, found.low, found.high) == (3, math.inf, None, None)
    assert (found.n_infinite, found.mean_finite, found.low_finite, found.high_finite) == (1, 2.0, 1.0, 3.0)
    assert [case for case, _ in found.worst] == ["c", "b", "a"]
    assert [case for case, _ in found.best] == ["a", "b", "c"]


def test_with_groups_the_finite_mean_beside_an_interval_is_that_over_groups():
    """Patient p has 0, 0 and infinity, q has 4: over the finite cases 4/3, over patients 2, as in the interval."""
    rows = [row(case, 1, 0, 0, group=case[0], hd=hd) for case, hd in (("p1", 0.0), ("p2", 0.0), ("q1", 4.0))]
    found = summarise([*rows, row("p3", 0, 0, 1, group="p", hd=math.inf)]).classes[0].metrics["hd"]
    assert (found.mean, found.mean_groups, found.n_infinite) == (math.inf, math.inf, 1)
    assert (found.mean_finite, found.mean_groups_finite) == (pytest.approx(4 / 3), 2.0)
    assert (found.low_finite, found.high_finite) == (0.0, 4.0)
    assert summarise(rows).classes[0].metrics["hd"].mean_groups_finite is None


def test_a_group_without_a_value_is_no_unit_of_the_interval():
    """Precision of patients p and q is 1 and 1/2; r has empty predictions only, and neither lowers nor widens it."""
    rows = [row("p", 1, 0, 0, group="p"), row("q", 1, 1, 0, group="q"), row("r", 0, 0, 4, group="r")]
    found = summarise(rows).classes[0].metrics["precision"]
    assert (found.n, found.mean_groups, found.low, found.high) == (2, 0.75, 0.5, 1.0)


def test_the_group_is_the_unit_where_there_are_groups():
    """Two cases of one patient at 1 and one of another at 0: mean over cases 2/3, over patients 1/2."""
    rows = [row("a", 1, 0, 0, group="p"), row("b", 1, 0, 0, group="p"), row("c", 0, 1, 1, group="q")]
    summary = summarise(rows)
    assert summary.groups == 2
    assert summary.dice.mean == pytest.approx(2 / 3)
    assert summary.dice.mean_groups == pytest.approx(1 / 2)
    assert (summary.dice.low, summary.dice.high, summary.dice.sd) == (0.0, 1.0, pytest.approx(math.sqrt(0.5)))
    assert summarise([row("a", 1, 0, 0)]).dice.mean_groups is None


def test_the_mean_over_classes_leaves_the_background_out():
    """Background .9 and classes at 1 and 0 average to one half."""
    rows = [row("a", 9, 1, 1, label=0), row("a", 4, 0, 0, label=1), row("a", 0, 1, 1, label=2)]
    summary = summarise(rows)
    assert [entry.label for entry in summary.classes] == [0, 1, 2]
    assert (summary.cases, summary.dice.mean, summary.foreground["iou"].mean) == (1, 0.5, 0.5)
    assert "tp" not in summary.foreground


def test_the_interval_over_classes_is_that_of_the_mean_within_a_case():
    """One class gains where the other loses: every case has the mean one half, and there is no spread."""
    rows = [row(case, int(found), 1 - int(found), 0, label=label) for case, label, found in CROSSED]
    rows += [row(case, 9, 0, 0, label=0) for case in "ab"]
    dice = summarise(rows).dice
    assert (dice.mean, dice.low, dice.high, dice.sd) == (0.5, 0.5, 0.5, 0.0)
    assert dice.worst == (("a", 0.5), ("b", 0.5))
    assert summarise(rows).classes[1].metrics["dice"].high == 1.0


CROSSED = [(case, label, (case == "a") == (label == 1)) for case in "ab" for label in (1, 2)]


def test_no_interval_over_classes_where_it_would_be_that_of_another_mean():
    """Six cases lack class 2 and one lacks class 1: the mean over classes is (.9 + .1) / 2, within cases near .8."""
    rows = [row(f"a{n}", *counts, label=label) for n in range(6) for label, counts in ((1, (9, 1, 0)), (2, (0, 0, 3)))]
    rows += [row("b", 0, 0, 3, label=1), row("b", 1, 9, 0, label=2)]
    precision = summarise(rows).foreground["precision"]
    assert (precision.n, precision.mean) == (7, 0.5)
    assert (precision.low, precision.high, precision.sd) == (None, None, None)


def test_no_finite_interval_over_classes_where_a_class_was_missed():
    """Class 1 is far off where class 2 is missed: finite distances are 10 and 10, 2 and 2, so 6 and 2 by class."""
    inf = math.inf
    cases = (("a", 10.0, inf), ("b", 10.0, inf), ("c", 2.0, 2.0), ("d", 2.0, 2.0))
    rows = [
        row(case, int(hd < inf), 0, int(hd == inf), label=label, hd=hd)
        for case, *found in cases
        for label, hd in enumerate(found, start=1)
    ]
    hd = summarise(rows).foreground["hd"]
    assert (hd.mean, hd.n_infinite, hd.mean_finite) == (inf, 2, 4.0)
    assert (hd.low_finite, hd.high_finite, hd.sd, hd.mean_groups_finite) == (None, None, None, None)
    patients = {"a": "p", "b": "q", "c": "q", "d": "r"}
    grouped = summarise([replace(one, group=patients[one.case]) for one in rows]).foreground["hd"]
    assert (grouped.mean_finite, grouped.mean_groups_finite) == (4.0, ((10 + 6 + 2) / 3 + 2) / 2)


def test_best_and_worst_go_by_what_is_good():
    """High is good for Dice, low for a distance, near zero for a difference; equal ones go by name."""
    rows = [
        row("b", 1, 0, 0, hd=2.0, volume_difference=-3.0),
        row("a", 1, 0, 0, hd=2.0, volume_difference=1.0),
        row("c", 1, 1, 1, hd=5.0, volume_difference=2.0),
    ]
    metrics = summarise(rows).classes[0].metrics
    assert [case for case, _ in metrics["dice"].best] == ["a", "b", "c"]
    assert [case for case, _ in metrics["hd"].worst] == ["c", "a", "b"]
    assert metrics["volume_difference"].worst[0] == ("b", -3.0)
    assert metrics["tp"].best == ()


def test_objects_are_pooled_exactly_from_their_scores():
    """1/0/0 and 1/1/2: AP per image averages .625, pooled .4; every pooled score is that of the counts added up."""
    images = [
        InstanceScores(n_reference=1, n_predicted=1, tp=(1,) * 10, iou_sum=1.0, seg_sum=1.0, splits=0, merges=0),
        InstanceScores(
            n_reference=3, n_predicted=2, tp=(1,) * 4 + (0,) * 6, iou_sum=0.7, seg_sum=0.9, splits=1, merges=0
        ),
        InstanceScores(n_reference=0, n_predicted=0, tp=(0,) * 10, iou_sum=0.0, seg_sum=0.0, splits=0, merges=0),
    ]
    rows = [row(str(n), 1, 0, 0, **instance_values(image)) for n, image in enumerate(images)]
    assert summarise(rows[:2]).foreground["ap_50"].mean == 0.625
    assert summarise(rows[:2]).foreground["ap_50"].pooled == 0.4
    metrics, pooled = summarise(rows).classes[0].metrics, pool(images).pooled
    for name in ("mean_ap", "f1", "pq", "seg"):
        assert metrics[name].pooled == pytest.approx(getattr(pooled, name))
    assert (metrics["objects"].pooled, metrics["splits"].pooled) == (4, 1)


def test_images_without_any_object_pool_as_one_such_image():
    """Right by rule, as in every image; only SEG has nothing to score."""
    nothing = InstanceScores(n_reference=0, n_predicted=0, tp=(0,) * 10, iou_sum=0.0, seg_sum=0.0, splits=0, merges=0)
    metrics = summarise([row(name, 0, 0, 0, **instance_values(nothing)) for name in "ab"]).classes[0].metrics
    assert [metrics[name].pooled for name in ("ap_50", "mean_ap", "f1", "pq")] == [1.0] * 4
    assert [pool([nothing] * 2).pooled.ap(0.5), pool([nothing] * 2).pooled.pq] == [1.0] * 2
    assert "seg" not in metrics


def test_background_alone_cannot_be_summarised():
    """There would be nothing to average."""
    with pytest.raises(DatasetError, match="no foreground classes"):
        summarise([row("a", 1, 0, 0, label=0)])


def test_few_cases_come_with_a_warning_and_no_intervals_without():
    """Under fifty units; a training that wants a mean quickly asks for no resamples."""
    rows = [row(str(number), 1, 0, 0, group="p") for number in range(60)]
    assert summarise(rows).warnings == ("1 group: with fewer than 50 the intervals are rough",)
    assert summarise([row(str(number), 1, 0, 0) for number in range(60)]).warnings == ()
    quick = summarise(rows[:3], resamples=0)
    assert (quick.warnings, quick.dice.mean, quick.dice.low) == ((), 1.0, None)


def test_intervals_over_few_of_many_cases_come_with_a_warning():
    """Sixty cases, but precision is that of the three predictions that are not empty, of which one misses."""
    rows = [row(f"m{n}", 0, 0, 2, hd=math.inf) for n in range(57)]
    rows += [row("a", 3, 0, 1, hd=1.0), row("b", 3, 1, 1, hd=2.0), row("c", 0, 1, 1, hd=3.0)]
    assert summarise(rows).warnings == (
        "2 intervals are rough, over fewer than 50 cases with a finite value: Precision of class 1 has 3",
    )
    assert summarise([row(str(n), 0, 0, 2) for n in range(59)] + [row("a", 3, 0, 1)]).warnings == ()
    grouped = [row(f"{n}", 3, 0, 0, group=str(n)) for n in range(60)] + [row("x", 0, 0, 2, group="0")]
    assert summarise(grouped).warnings == ()


def test_classes_that_no_reference_has_come_with_the_mean_of_the_others():
    """Class 1 at .5, and classes 2 and 3 nowhere but for a false alarm: 1 and 1/2 by rule, and the mean is 2/3."""
    empty, alarm = (0, 0, 0), (0, 3, 0)
    counts = {1: [(1, 1, 1), (1, 1, 1)], 2: [empty, empty], 3: [empty, alarm]}
    rows = [row(case, *counts[label][place], label=label) for place, case in enumerate("ab") for label in counts]
    summary = summarise(rows)
    assert summary.dice.mean == pytest.approx(2 / 3)
    assert summary.warnings[0] == (
        "no reference has 'class 2', 'class 3', which count as 1 where the prediction has none either: "
        "mean Dice without these 2 classes is 0.500"
    )
    assert len(summarise([one for one in rows if one.label == 1]).warnings) == 1


def test_the_summary_file_is_json_that_others_can_read(tmp_path):
    """Infinity is a string, what is not defined is null, and every metric comes with its convention."""
    rows = [row("a", 0, 0, 3, hd=math.inf), row("b", 3, 0, 0, hd=1.0)]
    write_summary(tmp_path / "summary.json", summarise(rows, missing=["a"], settings={"unit": "mm"}))
    text = (tmp_path / "summary.json").read_text()
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert read["classes"][0]["metrics"]["hd"]["mean"] == "inf"
    assert read["classes"][0]["metrics"]["hd"]["low"] is None
    assert read["foreground"]["dice"]["mean"] == 0.5
    assert list(read["foreground"]["hd"]["worst"].items()) == [("a", "inf"), ("b", 1.0)]
    assert (read["missing"], read["settings"], read["classes"][0]["n_missed"]) == (["a"], {"unit": "mm"}, 1)
    assert read["metrics"]["hd"]["convention"] == METRICS["hd"].convention
    with pytest.raises(OutputError, match="exists"):
        write_summary(tmp_path / "summary.json", summarise(rows))
