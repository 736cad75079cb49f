"""Two sets of masks, or two score files, compared pair by pair, and the files that say so."""

import csv
import json

import numpy as np
import pytest

from uvea.errors import DatasetError, OutputError
from uvea.evaluation.table import CaseScore, write_csv
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
    with pytest.raises(DatasetError, match="are scores already: --tolerance, --within count for masks only"):
        compare_files(first, second, tolerance=1.0, within=folders)
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


def test_a_spreadsheet_calculates_nothing_from_a_name(folders, tmp_path):
    """Names of classes and of folders come with files of strangers."""
    for name in ("=A1", "@B1"):
        rows = [
            CaseScore(case=case, group=None, label=1, class_name="+1+1", flag="", values={"dice": 0.5}) for case in "xy"
        ]
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / "scores.csv", rows)
    compare_files(tmp_path / "=A1", tmp_path / "@B1", out=tmp_path / "out")
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["class"] == "'+1+1"
    assert [cell for cell in line.values() if cell.startswith(("=", "@", "+"))] == []


def test_what_cannot_be_compared_is_refused(folders, tmp_path):
    """Masks without a reference, an unknown metric, itself, scores of another tolerance, a case that was not scored."""
    with pytest.raises(DatasetError, match=r"a holds no scores\.csv\n.*--reference"):
        compare_files(folders / "a", folders / "b")
    with pytest.raises(DatasetError, match="there is no metric 'beauty'"):
        compare_files(folders / "a", folders / "b", reference=folders / "reference", metrics=["beauty"])
    with pytest.raises(DatasetError, match="there is no metric 'beauty'"):  # one name is one metric
        compare_files(folders / "a", folders / "b", reference=folders / "reference", metrics="beauty")
    for name, tolerance in (("a", 2.0), ("b", 1.0)):
        evaluate(folders / name, folders / "reference", out=tmp_path / f"s{name}", tolerance=tolerance, report=False)
    with pytest.raises(DatasetError, match="compared with itself"):
        compare_files(tmp_path / "sa", tmp_path / "sa" / "scores.csv")
    with pytest.raises(DatasetError, match="there is no file or folder '.*nowhere'"):
        compare_files(tmp_path / "sa", tmp_path / "nowhere", reference=folders / "reference")
    with pytest.raises(DatasetError, match=r"sa was scored with tolerance 2\.0, sb with 1\.0"):
        compare_files(tmp_path / "sa", tmp_path / "sb")
    with pytest.raises(DatasetError, match="are scores already"):
        compare_files(tmp_path / "sa", tmp_path / "sb", reference=folders / "reference")
    with pytest.raises(OutputError, match="c.png is a file"):
        compare_files(tmp_path / "sa", tmp_path / "sb", out=folders / "b" / "c.png")


def test_cases_that_cannot_be_scored_stop_a_comparison(folders):
    """It is about the same cases or about nothing; what the error advises is an option of compare."""
    for case in "cd":
        (folders / "b" / f"{case}.png").rename(folders / "b" / f"{case}2.png")
    paths = folders / "a", folders / "b"
    with pytest.raises(
        DatasetError, match=r"4 cases of .*b could not be scored: 'c', 'c2', .*\n.*--allow-missing"
    ) as caught:
        compare_files(*paths, reference=folders / "reference")
    assert not isinstance(caught.value, IncompleteError)
    result = compare_files(*paths, reference=folders / "reference", allow_missing=True, allow_extra=True)
    assert result.comparisons[0].n == 8


def test_a_wide_comparison_goes_on_below(folders):
    """Long names of folders, and sentences, on a terminal of 80 columns."""
    for name in "ab":
        (folders / name).rename(folders / f"{name}{'x' * 30}")
    paths = folders / f"a{'x' * 30}", folders / f"b{'x' * 30}"
    result = compare_files(*paths, reference=folders / "reference", metrics=["dice", "dice"])
    assert len(result.comparisons) == 1
    text = result.table(width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[3].split() == ["class", "metric", paths[1].name, "difference"]
    assert text.splitlines()[6].split() == ["class", "metric", "better", "worse", "same"]


def test_the_means_shown_are_those_whose_difference_is_shown(folders):
    """With seven of eight cases in one group: A finds 1 of 4 pixels in both, B 3 of 4, and 2 of 4 in the last case."""
    groups = {case: "last" if case == "h" else "first" for case in CASES}
    paths = folders / "a", folders / "b"
    result = compare_files(*paths, reference=folders / "reference", groups=groups, metrics=["recall"])
    assert result.means == ((0.25, pytest.approx((0.75 + 0.5) / 2)),)
    assert result.comparisons[0].difference.mean == pytest.approx(result.means[0][1] - result.means[0][0])


def test_a_unit_is_shown_only_where_both_say_it(folders, tmp_path):
    """Without the summary beside it, the distances of one could be in another unit; Dice has none."""
    for name in "ab":
        evaluate(folders / name, folders / "reference", out=tmp_path / f"s{name}", report=False)
    paths, said = (tmp_path / "sa", tmp_path / "sb"), []
    assert compare_files(*paths).warnings == ()
    (tmp_path / "sb" / "summary.json").unlink()
    result = compare_files(*paths, listen=said.append)
    assert {found.unit for found in result.comparisons} == {""}
    assert result.warnings == (
        "nobody wrote down how sb was scored: its unit and tolerance are not known, and HD95, NSD may differ in them",
    )
    assert result.warnings[0] in result.table() and result.warnings[0] in [str(one.text) for one in said]
    assert compare_files(*paths, metrics=["dice"]).warnings == ()


def test_volume_differences_are_shown_as_what_is_compared(tmp_path):
    """Of +10 and -10 against 4 and 4 the means are 10 and 4, as far as they are from zero: 6 nearer."""
    for name, values in (("a", (10.0, -10.0)), ("b", (4.0, 4.0))):
        rows = [
            CaseScore(case=case, group=None, label=1, class_name="organ", flag="", values={"volume_difference": value})
            for case, value in zip("xy", values, strict=True)
        ]
        write_csv(tmp_path / f"{name}.csv", rows)
    result = compare_files(tmp_path / "a.csv", tmp_path / "b.csv", metrics=["volume_difference"])
    assert (result.means, result.comparisons[0].difference.mean) == (((10.0, 4.0),), -6.0)
    assert "Volume difference, absolute" in result.table()


def test_a_summary_that_is_not_ours_is_left_alone(folders, tmp_path):
    """Other tools write a summary.json, too; an infinite tolerance reads back as the number it was."""
    for name in "ab":
        evaluate(folders / name, folders / "reference", out=tmp_path / name / "s", tolerance=float("inf"), report=False)
    mixed = compare_files(folders / "a", tmp_path / "b" / "s", reference=folders / "reference", tolerance=float("inf"))
    assert mixed.comparisons[-1].metric == "nsd"
    for content in ("[]", "{}", '{"settings": []}', "no JSON", "[" * 100_000):
        (tmp_path / "a" / "s" / "summary.json").write_text(content)
        assert compare_files(tmp_path / "a" / "s", tmp_path / "b" / "s").comparisons[0].n == 8


def test_scores_of_a_region_are_not_compared_with_those_of_whole_images(folders, tmp_path):
    """Nor those that leave a value out with those that do not: the difference would be that of the pixels."""
    mask = Image(array=np.ones((1, 3, 6), np.uint8), axes="yx")
    write(tmp_path / "fov.png", mask)
    for name, options in (("whole", {}), ("fov", {"within": tmp_path / "fov.png"}), ("ignore", {"ignore_value": 9})):
        evaluate(folders / "a", folders / "reference", out=tmp_path / f"s-{name}", report=False, **options)
    with pytest.raises(DatasetError, match="s-whole was scored with no --within, s-fov with --within"):
        compare_files(tmp_path / "s-whole", tmp_path / "s-fov")
    with pytest.raises(DatasetError, match="ignored value none, s-ignore with 9"):
        compare_files(tmp_path / "s-whole", tmp_path / "s-ignore")
    fov = compare_files(
        tmp_path / "s-fov",
        folders / "b",
        reference=folders / "reference",
        within=tmp_path / "fov.png",
        metrics=["dice"],
    )
    assert fov.comparisons[0].n == 8


def test_another_name_of_a_class_is_a_warning_where_the_references_agree(folders, tmp_path):
    """One was scored with names, the other without."""
    for name, options in (("a", {}), ("b", {"label_names": {0: "background", 255: "cell"}})):
        evaluate(folders / name, folders / "reference", out=tmp_path / f"s{name}", report=False, **options)
    said = []
    result = compare_files(tmp_path / "sa", tmp_path / "sb", listen=said.append)
    assert result.comparisons[0].n == 8
    assert result.warnings == (
        "class 1 is 'foreground' in sa, 'cell' in sb: both have as many pixels in every reference, so they are "
        "compared as one class",
    )
    assert result.warnings[0] in result.table() and result.warnings[0] in [str(one.text) for one in said]


def test_objects_of_the_references_must_be_the_same(folders, tmp_path):
    """Where both scored objects; those of the predictions may differ, and old scores say nothing of them."""
    for name in "ab":
        evaluate(folders / name, folders / "reference", out=tmp_path / f"s{name}", instances=True, report=False)
    path = tmp_path / "sb" / "summary.json"
    summary = json.loads(path.read_text())
    summary["settings"]["objects of the predictions"] = "mask values"
    path.write_text(json.dumps(summary))
    assert compare_files(tmp_path / "sa", tmp_path / "sb").warnings == ()
    summary["settings"]["objects of the references"] = "mask values"
    path.write_text(json.dumps(summary))
    with pytest.raises(DatasetError, match="sa was scored with connected pieces as objects of the references, sb with"):
        compare_files(tmp_path / "sa", tmp_path / "sb")
    del summary["settings"]["objects of the references"]
    path.write_text(json.dumps(summary))
    assert compare_files(tmp_path / "sa", tmp_path / "sb").warnings == ()
