"""Which files belong together: masks by name, and the images and probabilities that lie beside them."""

from pathlib import Path

import pytest

from uvea.errors import DatasetError
from uvea.workflows.matching import Beside, match


def touch(root, *names):
    """Empty files: only names are looked at."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def images_of(predictions, reference, **beside):
    """Image by case."""
    found = match(predictions, reference, beside=Beside(**beside), tell=print)
    return {one.case: one.image for one in found.pairs}


def test_images_are_found_where_the_references_are_from(tmp_path):
    """In the dataset, beside the folder of masks, or side by side with them."""
    data = touch(tmp_path, "d/images/a.png", "d/images/b.png", "d/masks/a.png", "d/masks/b.png", "p/a.tif", "p/b.tif")
    expected = {"a": data / "d/images/a.png", "b": data / "d/images/b.png"}
    assert images_of(data / "p", data / "d") == expected
    assert images_of(data / "p", data / "d" / "masks") == expected
    touch(tmp_path, "side/a.png", "side/a_mask.png", "side/b.png", "side/b_mask.png")
    found = images_of(data / "p", data / "side")
    assert found == {"a_mask": data / "side/a.png", "b_mask": data / "side/b.png"}


def test_images_can_be_named(tmp_path):
    """Their folder, under the rules for images and masks; nothing else is taken then."""
    touch(tmp_path, "p/a.png", "r/a.png", "raw/a_image.jpg", "other/z.png")
    assert images_of(tmp_path / "p", tmp_path / "r") == {"a": None}
    assert images_of(tmp_path / "p", tmp_path / "r", images=tmp_path / "raw") == {"a": tmp_path / "raw/a_image.jpg"}
    with pytest.raises(DatasetError, match=r"no image in .*other has the name of a reference, such as 'a'"):
        images_of(tmp_path / "p", tmp_path / "r", images=tmp_path / "other")


def test_probabilities_go_by_either_name(tmp_path):
    """With the word that `predict` writes, or without; in the folder of the masks, or in their place."""
    touch(tmp_path, "p/a.png", "p/a_probabilities.tif", "r/a.png", "soft/a.npy")
    for folder, name in (("p", "a_probabilities.tif"), ("soft", "a.npy")):
        found = match(tmp_path / "p", tmp_path / "r", beside=Beside(probabilities=tmp_path / folder), tell=print)
        assert [(one.prediction, one.probabilities) for one in found.pairs] == [
            (tmp_path / "p" / "a.png", tmp_path / folder / name)
        ]
    (only,) = match(
        tmp_path / "soft", tmp_path / "r", beside=Beside(probabilities=Path(f"{tmp_path}/r/../soft")), tell=print
    ).pairs
    assert only.prediction == only.probabilities


def test_one_probability_map_does_not_serve_two_references(tmp_path):
    """Unlike a region, which may be that of all."""
    touch(tmp_path, "p/a.png", "p/b.png", "r/a.png", "r/b.png", "a.npy")
    with pytest.raises(DatasetError, match=r"a\.npy is one probability map, there are 2 references"):
        match(tmp_path / "p", tmp_path / "r", beside=Beside(probabilities=tmp_path / "a.npy"), tell=print)
    beside = Beside(probabilities=tmp_path / "a.npy", within=tmp_path / "r" / "a.png")
    (one,) = match(tmp_path / "p" / "a.png", tmp_path / "r" / "a.png", beside=beside, tell=print).pairs
    assert one.probabilities == tmp_path / "a.npy"


def test_twins_in_sub_folders_are_failures_of_their_case_only(tmp_path):
    """Files of one name in two formats, below a patient; hidden files are none."""
    touch(tmp_path, "p/x/a.png", "p/x/a.tif", "p/x/.b.png", "p/y/a.png", "r/x/a.png", "r/y/a.png")
    found = match(tmp_path / "p", tmp_path / "r", beside=Beside(), tell=print)
    assert [(one.case, one.group) for one in found.pairs] == [("y/a", None)]
    assert [one.case for one in found.failures] == ["x/a"]


def test_a_table_may_lack_names_of_cases(tmp_path):
    """The reference gives the name; its folder too, where names repeat."""
    touch(tmp_path, "p1/m.png", "p2/m.png", "r1/m.png", "r2/m.png")
    (tmp_path / "t.csv").write_text("prediction;reference\np1/m.png;r1/m.png\np2/m.png;r2/m.png\n")
    found = match(tmp_path / "t.csv", None, beside=Beside(), tell=print)
    assert [one.case for one in found.pairs] == ["r1/m", "r2/m"]
    (tmp_path / "t.csv").write_text("case,prediction,reference\nm,p1/m.png,r1/m.png\nm,p2/m.png,r2/m.png\n")
    found = match(tmp_path / "t.csv", None, beside=Beside(), tell=print)
    assert found.pairs == ()
    assert [one.problem.partition(" of ")[0] for one in found.failures] == ["rows 2, 3"]
    (tmp_path / "t.csv").write_text("prediction,reference\n")
    with pytest.raises(DatasetError, match=r"t\.csv has no rows"):
        match(tmp_path / "t.csv", None, beside=Beside(), tell=print)


def test_rows_for_one_reference_fail_together_and_rename_nobody(tmp_path):
    """None of them is scored, as of two files of one name in a folder."""
    touch(tmp_path, "p/m.png", "p/n.png", "r/m.png", "r/n.png")
    (tmp_path / "t.csv").write_text("prediction,reference\np/m.png,r/m.png\np/n.png,r/n.png\np/n.png,r/m.png\n")
    found = match(tmp_path / "t.csv", None, beside=Beside(), tell=print)
    assert [one.case for one in found.pairs] == ["n"]
    assert [(one.case, one.problem.partition(" of ")[0]) for one in found.failures] == [("m", "rows 2, 4")]


def test_a_table_needs_no_reference_and_no_row_scores_a_file_against_itself(tmp_path):
    """Both would pass for a result."""
    touch(tmp_path, "p/m.png", "r/m.png", "r/n.png")
    (tmp_path / "t.csv").write_text("prediction,reference\np/m.png,r/m.png\nr/n.png,p/../r/n.png\n")
    with pytest.raises(DatasetError, match=r"names its references.*\n  Try: uvea evaluate .*t\.csv"):
        match(tmp_path / "t.csv", tmp_path / "r", beside=Beside(), tell=print)
    found = match(tmp_path / "t.csv", None, beside=Beside(), tell=print)
    assert [one.case for one in found.pairs] == ["m"]
    assert "row 3 of" in found.failures[0].problem and "against itself" in found.failures[0].problem


def test_a_name_that_no_file_can_have_fails_its_own_row_only(tmp_path):
    """Longer than file systems allow."""
    touch(tmp_path, "p/m.png", "r/m.png", "r/n.png")
    (tmp_path / "t.csv").write_text(f"prediction,reference\np/m.png,r/m.png\n{'x' * 5000},r/n.png\n")
    found = match(tmp_path / "t.csv", None, beside=Beside(), tell=print)
    assert [one.case for one in found.pairs] == ["m"]
    assert "there is no file" in found.failures[0].problem


def test_a_short_name_in_the_table_of_groups_must_stand_for_one_case(tmp_path):
    """x/a and y/a are of two patients, whatever 'a' is."""
    touch(tmp_path, "p/x/a.png", "p/y/a.png", "p/y/b.png", "r/x/a.png", "r/y/a.png", "r/y/b.png")
    with pytest.raises(DatasetError, match="no group for 2 of 3 cases: 'x/a', 'y/a'"):
        match(tmp_path / "p", tmp_path / "r", beside=Beside(groups={"a": "1", "b": "2"}), tell=print)
    groups = {"x/a": "1", "y/a": "2", "b.png": "2"}
    found = match(tmp_path / "p", tmp_path / "r", beside=Beside(groups=groups), tell=print)
    assert [(one.case, one.group) for one in found.pairs] == [("x/a", "1"), ("y/a", "2"), ("y/b", "2")]
