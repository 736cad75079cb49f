"""The training report is one file, complete in itself, and safe to open."""

from html.parser import HTMLParser

import numpy as np
import pytest

from uvea.errors import OutputError
from uvea.reports import Example, training_report

EVIL = "<script>alert('x')</script>\"&.tif"


class Page(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, html):
        """Read all of it."""
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        """Keep a tag with its attributes."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        """Keep the text."""
        self.text += data

    def values(self, *names):
        """All values of some attributes."""
        return [attributes[name] for _, attributes in self.tags for name in names if attributes.get(name)]


def example(name, dice, *, shape=(8, 9)):
    """A random image whose truth and prediction differ."""
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 3, (2, *shape))
    return Example(name=name, image=rng.random((1, *shape)), truth=truth, prediction=prediction, scores={"dice": dice})


def written(tmp_path, **changes):
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
    training_report(tmp_path / "report.html", **values)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_file_loads_nothing_from_anywhere(tmp_path):
    """Every reference is inside the file, and there are no scripts, fonts or links to the outside."""
    page = written(tmp_path)
    references = page.values("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    assert references
    assert all(value.startswith(("data:image/png;base64,", "#")) for value in references)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for word in ("http://", "https://", "url(", "@import", "<link", "<iframe"):
        assert word not in html
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}


def test_every_inner_reference_leads_somewhere(tmp_path):
    """Links of the page and images that are used again."""
    page = written(tmp_path)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href") if value.startswith("#")} <= set(ids)


def test_file_names_are_text_and_never_markup(tmp_path):
    """A script in a name is shown, not run, wherever names appear."""
    page = written(tmp_path)
    assert "<script" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.text.count(EVIL) >= 12
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_every_picture_and_figure_has_an_alternative_text(tmp_path):
    """Also the curves."""
    drawings = [attributes for tag, attributes in written(tmp_path).tags if tag == "svg"]
    assert len(drawings) == 3 * 4 + 2 + 1 + 1
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawings)


def test_the_worst_example_comes_first(tmp_path):
    """It teaches most."""
    text = written(tmp_path).text
    examples = text[text.index("worst first") :]
    assert examples.index(EVIL) < examples.index("volume") < examples.index("good")


def test_errors_come_before_warnings(tmp_path):
    """Whatever the order they were found in."""
    text = written(tmp_path).text
    assert text.index("Error " + EVIL) < text.index("Warning later")


def test_numbers_are_set_for_readers(tmp_path):
    """Scores with three decimals, sizes with crosses, thousands apart."""
    text = written(tmp_path).text
    for words in ("0.912", "4,200", "256 × 128", "best 0.800"):
        assert words in text


def test_a_report_of_nothing_is_still_a_page(tmp_path):
    """A training that was stopped at once: no history, no examples, no scores."""
    page = written(
        tmp_path, summary={}, plan_rows=[], history=[], examples=[], scores=[], findings=[], classes=[], details=None
    )
    assert "Nothing wrong was found" in page.text
    for word in ("Curves", "Examples", "Scores", "Plan", "Details"):
        assert word not in page.text


def test_findings_that_are_not_known_are_not_mentioned(tmp_path):
    """None is not the same as nothing wrong."""
    assert "Findings" not in written(tmp_path, findings=None).text


def test_an_image_of_one_pixel_is_shown(tmp_path):
    """And a class without a name gets one."""
    one = np.ones((1, 1), dtype=np.uint8)
    page = written(tmp_path, examples=[Example(name="tiny", image=one[None], truth=one, prediction=one)], classes=[])
    assert "1×1 pixels" in page.text
    assert "class 1" in page.text


def test_many_findings_are_folded(tmp_path):
    """Eight are enough to see what is wrong."""
    page = written(tmp_path, findings=[("warning", f"problem {n}", "fix it") for n in range(20)])
    assert "12 more" in page.text
    assert "problem 19" in page.text


def test_an_existing_report_is_not_replaced(tmp_path):
    """Unless the user says so."""
    written(tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        written(tmp_path)
    written(tmp_path, overwrite=True)
