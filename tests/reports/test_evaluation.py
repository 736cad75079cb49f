"""The evaluation report is one sealed file that says the result, what it rests on, and what it leaves out."""

import gc
import math
import weakref
from dataclasses import replace

import numpy as np
import pytest

from uvea.errors import ImageError, OutputError
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

EVIL = "<script>alert('x')</script>\"&.nii"

DICE = MetricText(key="dice", title="Dice", kind="score", better="higher", convention="2TP/(2TP+FP+FN)." + EVIL)
HD95 = MetricText(key="hd95", title="HD95", kind="distance", better="lower", unit="mm", convention="Border to border.")
TP = MetricText(key="tp", title="TP", kind="count", convention="Pixels in both.")


def row(case, dice, *, label=1, **changes):
    """Scores of one class in one case."""
    values = {"dice": dice, "hd95": math.inf if dice == 0 else 1 / dice, "tp": int(1000 * dice)}
    return ScoreRow(case=case, label=label, class_name=EVIL if label else "background", values=values, **changes)


def summary_of(**changes):
    """Two foreground classes, one of them with a missed case and two false alarms; over groups, means are others."""
    figures = {
        "dice": MetricFigures(n=5, mean=0.5, mean_present=0.4, pooled=0.3, sd=0.125, low=0.375, high=0.625),
        "hd95": MetricFigures(n=5, mean=math.inf, n_infinite=1, mean_finite=2.5),
    }
    if changes.get("groups"):
        figures["dice"] = replace(figures["dice"], mean=0.25, mean_groups=0.5)
        figures["hd95"] = replace(
            figures["hd95"], mean_groups=math.inf, mean_groups_finite=4.0, low_finite=3.0, high_finite=5.0
        )
    empty = {"n_both_empty": 0, "n_missed": 0, "n_false_alarm": 0}
    classes = [
        ClassFigures(label=0, class_name="background", n=5, metrics={}, **empty),
        ClassFigures(label=1, class_name=EVIL, n=5, metrics=figures, n_both_empty=3, n_missed=1, n_false_alarm=2),
        ClassFigures(label=2, class_name="tumour", n=5, metrics=figures, **empty),
    ]
    values = {
        "cases": 5,
        "groups": 0,
        "classes": classes,
        "foreground": {"dice": MetricFigures(n=5, mean=0.75, low=0.7, high=0.8)},
        "settings": {"tolerance": "2 mm", EVIL: EVIL},
    }
    return SummaryFigures(**values | changes)


def case(name, shape=(6, 7), **changes):
    """A case whose reference and prediction differ by a row."""
    truth = np.zeros(shape, dtype=np.uint8)
    truth[..., 1:4, 1:4] = 1
    values = {"name": name, "truth": truth, "prediction": np.roll(truth, 1, axis=-2)} | changes
    return CaseToShow(case=name, load=lambda: Example(**values))


@pytest.fixture
def written(tmp_path, page_of):
    """Writes a report with hostile names, or one with changes, and reads it back."""

    def write(**changes):
        values = {
            "title": EVIL,
            "summary": summary_of(),
            "rows": [row("good", 0.9), row(EVIL, 0.25, group=EVIL), row("missed", 0.0, flag="missed")],
            "metrics": [DICE, HD95, TP],
            "cases": [case("good"), case(EVIL, image=np.ones((1, 6, 7))), case("missed", shape=(3, 6, 7))],
            "plots": [Plot(kind="roc", series=[Series(name=EVIL, x=[0, 1], y=[0, 1], note=EVIL)], note=EVIL)],
        } | changes
        evaluation_report(tmp_path / "report.html", **values)
        return page_of(tmp_path / "report.html")

    return write


def test_the_page_is_sealed_whatever_the_names(written):
    """A script in the name of a case, class, group or file is shown, not run."""
    page = written(summary=summary_of(missing=[EVIL], warnings=[EVIL]))
    page.assert_sealed()
    assert page.text.count(EVIL) >= 20


def test_every_inner_reference_leads_somewhere(written):
    """Links of the page, of the table to the pictures, and images that are used again."""
    page = written()
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href", "data-filters") if value[:1] == "#"} <= set(ids)
    assert set(page.values("data-filters")) <= set(ids)


def test_the_result_is_said_in_a_sentence(written):
    """Mean over the foreground classes, with its interval; what was missed or made up follows."""
    assert (
        "Mean Dice of the 2 classes without the background is 0.750 over 5 cases, 95 % interval 0.700 to 0.800. "
        "A class is missed altogether once. A class is found where the reference has none 2 times."
    ) in written().text


def test_one_class_is_named_in_the_result(written):
    """There is no mean over classes."""
    (one,) = summary_of(groups=3).classes[2:]
    text = written(summary=summary_of(classes=[one], foreground={}, groups=3)).text
    assert "Mean Dice of “tumour” is 0.500 over 3 groups of 5 cases, 95 % interval 0.375 to 0.625." in text


def test_with_groups_every_mean_is_the_one_that_the_interval_is_of(written):
    """Over cases .25, over groups .5: the sentence, the table and the diamond show the latter; so with ∞ aside."""
    (one,) = summary_of(groups=3).classes[2:]
    page = written(summary=summary_of(classes=[one], foreground={}, groups=3), rows=[row("a", 0.9, label=2)])
    assert '<b>0.500</b></td><td class="number">0.375 to 0.625<' in page.html
    assert page.html.count("mean 0.500") == 1 and "mean 0.250" not in page.html
    assert ">0.250</td></tr>" in page.html and "Over cases" in page.text
    assert "SD is the standard deviation over groups." in page.text
    assert "1 at ∞, others 4 (3 to 5)" in page.text
    led = written(summary=summary_of(classes=[one], foreground={}, groups=3), rank_by="hd95", overwrite=True)
    assert "is ∞ mm over 3 groups of 5 cases, 4 mm without the 1 at ∞, 95 % interval 3 to 5 mm." in led.text


def test_the_cases_that_a_mean_is_over_are_counted(written):
    """V_rand is not defined without cells: three of ten cases have one."""
    (one,) = summary_of().classes[2:]
    few = replace(one, n=10, metrics={"dice": MetricFigures(n=3, mean=0.5)})
    page = written(summary=summary_of(cases=10, classes=[few], foreground={}))
    assert "is 0.500 over 3 of 10 cases." in page.text
    assert "3 of 10</td>" in page.html
    grouped = written(summary=summary_of(cases=10, classes=[few], foreground={}, groups=2), overwrite=True)
    assert "is 0.500 over the groups of 3 of 10 cases." in grouped.text


def test_a_metric_that_is_a_mean_is_not_called_mean_twice(written):
    """Mean AP leads where there are instances."""
    mean_ap = MetricText(key="dice", title="Mean AP", kind="score", better="higher")
    text = written(metrics=[mean_ap]).text
    assert "Mean AP of the 2 classes" in text and "Mean Mean" not in text


def test_every_convention_has_its_column(written):
    """Values that are worked out elsewhere are shown, none made up."""
    html = written(summary=summary_of(groups=2)).html
    for value in ("<b>0.500</b>", "0.375 to 0.625", ">0.400<", ">0.300<", ">0.250<", ">0.125<", "<b>∞</b>", ">4 <"):
        assert value in html


def test_warnings_come_before_the_figures(written):
    """Few cases, and those without a prediction by name."""
    text = written(summary=summary_of(missing=["b", "c"], warnings=["only 5 cases"])).text
    assert text.index("No prediction for 2 of 5 cases; scored as empty: b, c.") < text.index("Summary\n")
    assert text.index("only 5 cases") < text.index("Dice per class")


def test_very_many_missing_cases_are_counted(written):
    """A thousand names are no sentence."""
    text = written(summary=summary_of(cases=1000, missing=[f"m{n}" for n in range(1000)])).text
    assert "m11 and 988 more." in text


def test_the_worst_case_comes_first(written):
    """In the pictures and in the table."""
    text = written(cases=[case("good"), case("bad"), case("unknown")], rows=[row("good", 0.9), row("bad", 0.1)]).text
    pictures = text[text.index("Worst first, by Dice") :]
    assert pictures.index("bad") < pictures.index("good") < pictures.index("unknown")
    table = text[text.index("Every case and class") :]
    assert table.index("bad") < table.index("good")


def test_a_distance_is_worst_where_it_is_largest(written):
    """Infinity is worst of all."""
    text = written(rank_by="hd95", rows=[row("good", 0.9), row("bad", 0.1), row("none", 0.0)]).text
    table = text[text.index("worst HD95 first") :]
    assert table.index("none") < table.index("bad") < table.index("good")


def test_the_background_does_not_decide_the_order(written):
    """Nearly all of it is right in any image."""
    rows = [row("a", 0.9), row("a", 0.1, label=0), row("b", 0.5), row("b", 0.99, label=0)]
    text = written(rows=rows, cases=[case("a"), case("b")]).text
    pictures = text[text.index("Worst first") :]
    assert pictures.index("\nb\n") < pictures.index("\na\n")


def test_only_the_cases_that_are_shown_are_loaded(written):
    """The page says how many are left out."""
    loaded = []

    def spy(one):
        return CaseToShow(case=one.case, load=lambda: loaded.append(one.case) or one.load())

    cases = [spy(case(f"c{n}")) for n in range(5)]
    text = written(cases=cases, rows=[row(f"c{n}", n / 10) for n in range(5)], most_pictures=2).text
    assert loaded == ["c0", "c1"]
    assert "The 2 worst are shown; 3 more are left out" in text


def test_a_page_stays_below_its_size(written):
    """By fewer pictures, never by fewer scores."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 100, 100)).astype(np.uint8)
    cases = [case(f"c{n}", shape=(100, 100), image=noise) for n in range(6)]
    page = written(cases=cases, rows=[row(f"c{n}", 0.5) for n in range(6)], byte_limit=250_000)
    assert 150_000 < len(page.html.encode()) < 250_000
    assert "more are left out to keep this file small" in page.text
    assert all(f"c{n}" in page.text for n in range(6))


def test_arrays_are_let_go_before_the_next_case_is_loaded(written):
    """A thousand volumes need the memory of one."""
    alive = []

    def load(name):
        gc.collect()
        assert not any(reference() is not None for reference in alive)
        example = case(name).load()
        alive.append(weakref.ref(example))
        return example

    written(cases=[CaseToShow(case=f"c{n}", load=lambda n=n: load(f"c{n}")) for n in range(3)])
    assert len(alive) == 3


def test_a_case_that_cannot_be_read_does_not_lose_the_page(written):
    """Its reason is shown in place of its pictures."""

    def fail():
        raise ImageError("scan.nii is cut off", hint="copy it again")

    text = written(cases=[CaseToShow(case="broken", load=fail), case("good")]).text
    assert "broken could not be shown: scan.nii is cut off" in text
    assert "copy it again" in text


def test_a_volume_has_a_slider_with_a_place_for_each_slice(written):
    """Three slices; the pictures of images have none."""
    page = written()
    (article,) = (attributes for tag, attributes in page.tags if tag == "article" and "data-places" in attributes)
    assert (article["data-slices"], article["data-depth"]) == ("1 2 3", "3")
    assert len(article["data-places"].split()) == 3
    (slider,) = (attributes for _, attributes in page.tags if attributes.get("type") == "range")
    assert (slider["min"], slider["max"], slider["aria-label"]) == ("0", "2", "Slice of missed")


def test_what_needs_the_script_is_hidden_without_it(written):
    """The page is complete without: no dead slider, no dead filter, no button."""
    tags = written().tags
    scripted = [attributes for _, attributes in tags if "scripted" in (attributes.get("class") or "")]
    assert len(scripted) == 2
    assert all("hidden" in attributes for attributes in scripted)
    assert not any(tag == "button" for tag, _ in tags)


def test_every_score_is_in_the_table(written):
    """What is not defined is an empty cell, infinity is a sign, and each class can be chosen."""
    rows = [row("a", 0.0), ScoreRow(case="b", label=2, class_name="tumour", values={"dice": None})]
    page = written(rows=rows, cases=[])
    assert page.html.count("<td></td>") == 3
    assert "<td>∞</td>" in page.html
    assert [attributes["value"] for tag, attributes in page.tags if tag == "option" and attributes] == [EVIL, "tumour"]


def test_a_table_too_long_for_a_browser_says_what_it_leaves_out(written, monkeypatch):
    """The best rows go first."""
    monkeypatch.setattr("uvea.reports.evaluation.MOST_CELLS", 14)
    text = written().text
    assert "The 1 best rows are left out here" in text


def test_each_number_is_explained(written):
    """Those shown, and no others."""
    text = written(metrics=[DICE, MetricText(key="pq", title="PQ", kind="score", convention="Never.")]).text
    assert "2TP/(2TP+FP+FN)." in text
    assert "Never." not in text
    assert "HD95" not in text


def test_spread_is_drawn_for_scores_and_distances(written):
    """Per class without the background; counts have none."""
    page = written()
    drawn = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "aria-label" in attributes]
    spread = [label for label in drawn if " per case." in label]
    assert [label.split(".")[0] for label in spread] == ["Dice per case", "HD95 (mm) per case"]
    assert "1 infinite" in spread[1]


@pytest.mark.parametrize("kind", ["average_precision", "reliability", "roc", "precision_recall", "membranes"])
def test_each_kind_of_plot_is_drawn(written, kind):
    """With its legend, its note and a description."""
    series = [Series(name="pooled", x=[0.5, 0.9], y=[0.8, 0.25], marks=[(0.5, 0.8, "best")])]
    page = written(plots=[Plot(kind=kind, series=series, note="over 3 images")])
    assert "over 3 images" in page.text and "best" in page.text
    assert any("pooled: 0.8 at 0.5, 0.25 at 0.9" in label for label in page.values("aria-label"))


def test_objects_have_their_legend(written):
    """Outlines in place of classes."""
    ids = np.ones((4, 4), dtype=int)
    objects = Objects(reference=ids, prediction=ids, reference_kinds={1: "split"}, prediction_kinds={1: "matched"})
    text = written(cases=[CaseToShow(case="good", load=lambda: Example(name="good", objects=objects))]).text
    legend = text[text.index("Objects\n") : text.index("Error\n")].split()
    assert legend == ["Objects", "matched", "split"]


def test_scores_stand_beside_the_pictures(written):
    """Several of one class, or the leading one of each class."""
    assert "Dice 0.900" in " ".join(written(cases=[case("good")]).text.split())
    rows = [row("good", 0.9), ScoreRow(case="good", label=2, class_name="tumour", values={"dice": 0.125})]
    text = " ".join(written(cases=[case("good")], rows=rows, overwrite=True).text.split())
    assert "Dice tumour 0.125" in text


def test_a_report_of_nothing_is_still_a_page(written):
    """All cases failed."""
    nothing = SummaryFigures(cases=0, groups=0, classes=[])
    page = written(summary=nothing, rows=[], metrics=[], cases=[], plots=[])
    page.assert_sealed()
    for word in ("Summary", "Spread", "Curves", "Cases", "Scores"):
        assert word not in page.text


def test_an_existing_report_is_not_replaced(written):
    """Unless the user says so."""
    written()
    with pytest.raises(OutputError, match="exists"):
        written()
    written(overwrite=True)
