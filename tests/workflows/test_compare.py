"""Two sets of masks, or two score files, compared pair by pair, and the files that say so."""

import csv
import json

import numpy as np
import pytest

from uvea.errors import DatasetError, OutputError
from uvea.images import Image, write
from uvea.workflows.compare import compare_files
from uvea.workflows.evaluate import IncompleteError, evaluate

CASES = "abcdefgh"


@pytest.fixture
def folders(tmp_path):
    """Eight cases of four pixels: A finds one of them, B finds three, or in the last case two."""
    for folder in ("a", "b", "reference"):
        for case in CASES:
            found = {"a": 1, "b": 2 if case == "h" else 3, "reference": 4}[folder]
            mask = np.zeros((1, 3, 6), np.uint8)
            mask[0, 1, 1 : 1 + found] = 255
            write(tmp_path / folder / f"{case}.png", Image(array=mask, axes="yx"))
    return tmp_path


def test_masks_are_compared_against_their_reference(folders):
    """Recall .25 against .75, and .5 in one case: the mean difference is (7×.5 + .25)/8."""
    result = compare_files(folders / "a", folders / "b", reference=folders / "reference", metrics=["recall", "hd95"])
    recall, hd95 = result.comparisons
    assert recall.difference.mean == pytest.approx((7 * 0.5 + 0.25) / 8)
    assert (recall.n_better, recall.n_worse, recall.n) == (8, 0, 8)
    assert result.means[0] == (0.25, pytest.approx((7 * 0.75 + 0.5) / 8))
    assert (hd95.unit, hd95.n_better) == ("px", 8)
    text = result.table()
    assert text.splitlines()[0].split() == ["class", "metric", "a", "b", "difference", "better", "worse", "same"]
    assert "foreground: b scores 0.469 higher in Recall" in text
    assert "most improved in Recall of foreground: a (0.250 to 0.750)" in text
    assert "these are 2 comparisons" in text


def test_score_files_need_no_masks(folders, tmp_path):
    """The same figures from folders of scores, from the files in them, and from one of each."""
    direct = compare_files(folders / "a", folders / "b", reference=folders / "reference")
    for name in "ab":
        evaluate(folders / name, folders / "reference", out=tmp_path / f"scores-{name}", report=False)
    first, second = tmp_path / "scores-a", tmp_path / "scores-b"
    for pair in ((first, second), (first / "scores.csv", second / "scores.csv")):
        result = compare_files(*pair)
        assert result.names == ("scores-a", "scores-b")
        assert [found.difference for found in result.comparisons] == [found.difference for found in direct.comparisons]
        assert [found.metric for found in result.comparisons] == ["dice", "iou", "hd95", "nsd"]
    mixed = compare_files(first, folders / "b", reference=folders / "reference")
    assert [found.difference for found in mixed.comparisons] == [found.difference for found in direct.comparisons]


def test_the_files_hold_what_is_returned(folders, tmp_path):
    """A line per class and metric with its sentence; nothing is overwritten unasked."""
    out = tmp_path / "out"
    result = compare_files(folders / "a", folders / "b", reference=folders / "reference", out=out)
    read = json.loads((out / "compare.json").read_text())
    assert [one["sentence"] for one in read["comparisons"]] == [one.sentence() for one in result.comparisons]
    assert read["comparisons"][0]["difference"]["mean"] == result.comparisons[0].difference.mean
    with (out / "compare.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["metric"] for line in lines] == ["dice", "iou", "hd95", "nsd"]
    assert float(lines[0]["low"]) == result.comparisons[0].difference.low
    with pytest.raises(OutputError, match=r"compare\.json exists"):
        compare_files(folders / "a", folders / "b", reference=folders / "reference", out=out)


def test_what_cannot_be_compared_is_refused(folders, tmp_path):
    """Masks without a reference, an unknown metric, itself, scores of another tolerance, a case that was not scored."""
    with pytest.raises(DatasetError, match=r"a holds no scores\.csv\n.*--reference"):
        compare_files(folders / "a", folders / "b")
    with pytest.raises(DatasetError, match="there is no metric beauty"):
        compare_files(folders / "a", folders / "b", reference=folders / "reference", metrics=["beauty"])
    for name, tolerance in (("a", 2.0), ("b", 1.0)):
        evaluate(folders / name, folders / "reference", out=tmp_path / f"s{name}", tolerance=tolerance, report=False)
    with pytest.raises(DatasetError, match="compared with itself"):
        compare_files(tmp_path / "sa", tmp_path / "sa")
    with pytest.raises(DatasetError, match=r"sa was scored with tolerance 2\.0, sb with 1\.0"):
        compare_files(tmp_path / "sa", tmp_path / "sb")
    with pytest.raises(DatasetError, match="are scores already"):
        compare_files(tmp_path / "sa", tmp_path / "sb", reference=folders / "reference")
    (folders / "b" / "c.png").unlink()
    with pytest.raises(IncompleteError, match="no prediction for 'c'"):
        compare_files(folders / "a", folders / "b", reference=folders / "reference")
