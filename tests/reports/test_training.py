"""The training report is one file, complete in itself, and safe to open."""

import numpy as np
import pytest

from uvea.errors import OutputError
from uvea.reports import Example, training_report
from uvea.reports.panels import Objects

EVIL = "<script>alert('x')</script>\"&.tif"


def example(name, dice, *, shape=(8, 9)):
    """A random image whose truth and prediction differ."""
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (2, *shape))
    return Example(name=name, image=rng.random((1, *shape)), truth=truth, prediction=prediction, scores={"dice": dice})


@pytest.fixture
def written(tmp_path, page_of):
    """Writes a full report, or one with changes, and reads it back."""
    return lambda **changes: report(tmp_path / "report.html", page_of, **changes)


def report(path, page_of, **changes):
    """A full report, or one with changes, read back."""
    values = {
        "title": EVIL,
        "summary": {"Validation Dice": 0.91234, "Best step": 4200, EVIL: EVIL},
        "plan_rows": [("patch", (256, 128), "largest that fits"), (EVIL, EVIL, EVIL)],
        "history": [{"step": step, "loss": 1 / step, "val_dice": step / 10, "lr": 0.01} for step in range(1, 9)],
        "examples": [example("good", 0.9), example(EVIL, 0.1), example("volume", 0.5, shape=(3, 8, 9))],
        "scores": [{"case": EVIL, "class": EVIL, "dice": 0.25, "iou": None}, {"case": "b", "class": "c", "dice": 0.1}],
        "findings": [("warning", "later", "do this"), ("error", EVIL, EVIL)],
        "classes": ["background", EVIL],
        "details": {"torch": "2.13", EVIL: EVIL},
    } | changes
    training_report(path, **values)
    return page_of(path)


def test_the_page_is_sealed(written):
    """It loads nothing from anywhere, and runs its own script and no other."""
    written().assert_sealed()


def test_every_inner_reference_leads_somewhere(written):
    """Links of the page and images that are used again."""
    page = written()
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href") if value.startswith("#")} <= set(ids)


def test_file_names_are_text_and_never_markup(written):
    """A script in a name is shown, not run, wherever names appear."""
    page = written()
    assert page.text.count(EVIL) >= 12
    page.assert_sealed()


def test_every_picture_and_figure_has_an_alternative_text(written):
    """Also the curves."""
    drawings = [attributes for tag, attributes in written().tags if tag == "svg"]
    assert len(drawings) == 3 * 4 + 2 + 1 + 1
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)


def test_the_worst_example_comes_first(written):
    """It teaches most."""
    text = written().text
    examples = text[text.index("worst first") :]
    assert examples.index(EVIL) < examples.index("volume") < examples.index("good")


def test_errors_come_before_warnings(written):
    """Whatever the order they were found in."""
    text = written().text
    assert text.index("Error " + EVIL) < text.index("Warning later")


def test_numbers_are_set_for_readers(written):
    """Scores with three decimals, sizes with crosses, thousands apart."""
    text = written().text
    for words in ("0.912", "4,200", "256 × 128", "best 0.800"):
        assert words in text


def test_a_report_of_nothing_is_still_a_page(written):
    """A training that was stopped at once: no history, no examples, no scores."""
    page = written(summary={}, plan_rows=[], history=[], examples=[], scores=[], findings=[], classes=[], details=None)
    assert "Nothing wrong was found" in page.text
    for word in ("Curves", "Examples", "Scores", "Plan", "Details"):
        assert word not in page.text


def test_findings_that_are_not_known_are_not_mentioned(written):
    """None is not the same as nothing wrong."""
    assert "Findings" not in written(findings=None).text


def test_an_image_of_one_pixel_is_shown(written):
    """And a class without a name gets one."""
    one = np.ones((1, 1), dtype=np.uint8)
    page = written(examples=[Example(name="tiny", image=one[None], truth=one, prediction=one)], classes=[])
    assert "1×1 pixels" in page.text
    assert "class 1" in page.text


def test_many_findings_are_folded(written):
    """Eight are enough to see what is wrong."""
    page = written(findings=[("warning", f"problem {n}", "fix it") for n in range(20)])
    assert "12 more" in page.text
    assert "problem 19" in page.text


def test_an_existing_report_is_not_replaced(written):
    """Unless the user says so."""
    written()
    with pytest.raises(OutputError, match="exists"):
        written()
    written(overwrite=True)


def test_a_volume_has_a_slider(written):
    """Three slices, of which the fullest is shown; an image has none."""
    page = written()
    sliders = [attributes for tag, attributes in page.tags if tag == "input"]
    assert [slider["max"] for slider in sliders] == ["2"]
    assert "of 3" in page.text


def test_a_report_of_objects_leads_with_their_score(written):
    """Curves of mean AP and of the search, rows by mean AP, and outlines by what became of each object."""
    ids = np.array([[1, 1, 0, 2], [1, 1, 0, 2]])
    objects = Objects(
        reference=ids, prediction=ids, reference_kinds={1: "matched", 2: "missed"}, prediction_kinds={1: "matched"}
    )
    page = written(
        history=[{"step": 1, "loss": 1.0, "val_mean_ap": 0.25, "val_dice": 0.5, "lr": 0.1}],
        examples=[Example(name="a", image=np.ones((1, 2, 4)), scores={"cell": 0.3}, objects=objects)],
        scores=[{"case": case, "class": "cell", "mean_ap": value} for case, value in (("good", 0.8), ("poor", 0.1))],
        lead=("mean_ap", "mean AP"),
        trials=([0.1, 0.2], [0.3, 0.4]),
    )
    for text in ("Validation mean AP", "Mean AP by gap of decoding", "mean AP per case", "lowest mean AP first"):
        assert text in page.text
    assert page.text.index("poor") < page.text.index("good")
    assert "matched" in page.text and "missed" in page.text
    page.assert_sealed()
