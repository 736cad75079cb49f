"""Evaluating folders of masks: pairing, values, geometry, the files written, and everything that is refused."""

import json

import numpy as np
import pytest

from uvea.errors import DatasetError, ImageError, OutputError, ShapeError
from uvea.evaluation.table import read_csv
from uvea.images import Image, read, write
from uvea.workflows.evaluate import evaluate
from uvea.workflows.events import Message, Progress


def save(path, values, *, axes="yx", dtype="uint8", **geometry):
    """Write a small mask from a nested list or array."""
    write(path, Image(array=np.asarray(values, dtype=dtype)[None], axes=axes, **geometry))


@pytest.fixture
def folders(tmp_path):
    """Two cases of 2×2 with 0 and 255: one predicted exactly, one with a true, a false and a missing pixel."""
    predictions, reference = tmp_path / "predictions", tmp_path / "reference"
    for folder in (predictions, reference):
        save(folder / "a.png", [[0, 255], [0, 0]])
    save(reference / "b.png", [[255, 255], [0, 0]])
    save(predictions / "b.png", [[255, 0], [255, 0]])
    return predictions, reference


def test_a_folder_scored_by_hand(folders):
    """Case a is perfect; case b has 1 TP, 1 FP, 1 FN: Dice .5, IoU 1/3; pooled 4 / 6."""
    scores = evaluate(*folders)
    assert [(row.case, row.class_name) for row in scores.rows] == [
        ("a", "background"),
        ("a", "foreground"),
        ("b", "background"),
        ("b", "foreground"),
    ]
    assert [(row.dice, round(row.iou, 6)) for row in scores.rows if row.label == 1] == [(1.0, 1.0), (0.5, 0.333333)]
    assert scores.summary.dice.mean == 0.75
    assert scores.summary.dice.pooled == pytest.approx(4 / 6)
    assert (scores.labels.values, scores.missing) == ((0, 255), ())


def test_the_table_has_a_line_per_class(folders):
    """Aligned text with the names that the user gave."""
    lines = evaluate(*folders, label_names=("tissue", "cell")).table().splitlines()
    assert lines[0].split()[:4] == ["class", "cases", "Dice", "IoU"]
    assert lines[1].split()[:2] == ["tissue", "2"]
    assert lines[2].split()[:4] == ["cell", "2", "0.7500", "0.6667"]
    assert len(lines) == 3


def test_scores_are_written_and_not_overwritten(folders, tmp_path):
    """scores.csv and summary.json hold what is returned; a second run needs `overwrite`."""
    out = tmp_path / "scores"
    scores = evaluate(*folders, out=out)
    assert tuple(read_csv(out / "scores.csv")) == scores.rows
    assert json.loads((out / "summary.json").read_text())["dice"]["mean"] == 0.75
    assert sorted(path.name for path in out.iterdir()) == ["scores.csv", "summary.json"]
    with pytest.raises(OutputError, match=r"scores\.csv exists\n.*--overwrite"):
        evaluate(*folders, out=out)
    evaluate(*folders, out=out, overwrite=True)


def test_an_out_that_is_a_file_is_refused(folders, tmp_path):
    """Before any mask is read."""
    (tmp_path / "scores").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        evaluate(*folders, out=tmp_path / "scores")


def test_a_missing_prediction_stops_unless_allowed(folders, tmp_path):
    """It is named; when allowed it scores as empty, is flagged and said."""
    (folders[0] / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"for 1 of 2 references: 'b'\n.*--allow-missing"):
        evaluate(*folders, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    heard = []
    scores = evaluate(*folders, allow_missing=True, listen=heard.append)
    assert scores.missing == ("b",)
    assert [(row.dice, row.flag) for row in scores.rows if row.label == 1] == [(1.0, ""), (0.0, "missed")]
    assert Message("references without prediction score as empty: 'b'", "warning") in heard


def test_a_prediction_without_reference_is_said_and_not_scored(folders):
    """It may be a typo in a name, but does not stop the rest."""
    save(folders[0] / "z.png", [[0, 255], [0, 0]])
    heard = []
    assert evaluate(*folders, listen=heard.append).summary.cases == 2
    assert Message("predictions without reference are not scored: 'z'", "warning") in heard


def test_probabilities_beside_the_masks_are_no_predictions(folders):
    """`predict --probabilities` wrote both; there is nothing to warn of."""
    write(folders[0] / "a_probabilities.tif", Image(array=np.zeros((2, 2, 2), np.float32), axes="yx"))
    heard = []
    assert evaluate(*folders, listen=heard.append).summary.dice.mean == 0.75
    assert not [event for event in heard if isinstance(event, Message)]


def test_progress_reaches_its_end(folders):
    """The last event of each task says that all is done."""
    heard = []
    evaluate(*folders, listen=heard.append)
    last = {event.task: event for event in heard if isinstance(event, Progress)}
    assert {task: (event.done, event.total) for task, event in last.items()} == {
        "reading references": (2, 2),
        "scoring": (2, 2),
    }


def test_single_files_need_no_common_name_or_format(tmp_path):
    """A NIfTI volume of one against an .npy, axes and all."""
    mask = np.zeros((3, 4, 5), dtype=np.uint8)
    mask[1, 1:3, 1:3] = 1
    save(tmp_path / "truth.nii.gz", mask, axes="zyx", spacing=(2.0, 1.0, 1.0), unit="mm")
    save(tmp_path / "guess.npy", mask, axes="zyx")
    scores = evaluate(tmp_path / "guess.npy", tmp_path / "truth.nii.gz")
    assert [(row.case, row.dice) for row in scores.rows] == [("truth", 1.0)] * 2


def test_predictions_named_after_images_find_masks_with_a_word_in_their_name(tmp_path):
    """x.png is the prediction for x_mask.png, and the rule is said."""
    for name in ("x", "y"):
        save(tmp_path / "p" / f"{name}.png", [[0, 255]])
        save(tmp_path / "r" / f"{name}_mask.png", [[0, 255]])
    heard = []
    scores = evaluate(tmp_path / "p", tmp_path / "r", listen=heard.append)
    assert {row.case for row in scores.rows} == {"x_mask", "y_mask"}
    assert any(isinstance(event, Message) and "_mask" in event.text for event in heard)


def test_names_that_have_nothing_in_common_are_an_error(tmp_path):
    """Three against two cannot be paired by any rule."""
    for name in ("p/a", "p/b", "p/c", "r/one", "r/two"):
        save(tmp_path / f"{name}.png", [[0, 255]])
    with pytest.raises(
        DatasetError, match=r"no prediction in .* has the name of a reference: 'a', 'b', 'c', but 'one'"
    ):
        evaluate(tmp_path / "p", tmp_path / "r")


def test_masks_beside_their_images_are_the_reference(tmp_path):
    """The images of the folder are neither missing predictions nor classes of their own."""
    save(tmp_path / "data" / "a.png", [[7, 200], [31, 90]])
    save(tmp_path / "data" / "a_mask.png", [[0, 255], [0, 0]])
    save(tmp_path / "masks" / "a.png", [[0, 255], [0, 0]])
    scores = evaluate(tmp_path / "masks", tmp_path / "data")
    assert [(row.case, row.dice) for row in scores.rows] == [("a_mask", 1.0), ("a_mask", 1.0)]
    assert scores.labels.values == (0, 255)


def test_a_dataset_as_reference_means_its_masks(tmp_path):
    """images/ beside masks/ is not scored."""
    for folder in ("p", "data/images", "data/masks"):
        save(tmp_path / folder / "a.png", [[0, 255]])
    assert evaluate(tmp_path / "p", tmp_path / "data").summary.dice.mean == 1.0


def test_sub_folders_of_the_reference_are_groups(tmp_path):
    """Two cases of one patient at Dice 1 and one of another at 0: mean by group one half."""
    for name, guess in (("p1/a", 255), ("p1/b", 255), ("p2/a", 0)):
        save(tmp_path / "r" / f"{name}.png", [[0, 255]])
        save(tmp_path / "p" / f"{name}.png", [[0, guess]])
    scores = evaluate(tmp_path / "p", tmp_path / "r")
    assert scores.summary.groups == 2
    assert scores.summary.dice.mean_groups == 0.5
    assert "Dice by group" in scores.table()


def test_an_unknown_value_is_refused_with_value_and_file(folders):
    """A prediction with 128 in a world of 0 and 255 is no class."""
    save(folders[0] / "c.png", [[0, 128]])
    save(folders[1] / "c.png", [[0, 255]])
    with pytest.raises(DatasetError, match=r"predictions.c\.png has values that belong to no class: 128"):
        evaluate(*folders)


def test_classes_are_those_of_all_references_together(tmp_path):
    """A class that one reference lacks is empty there, and a prediction of it a false alarm."""
    save(tmp_path / "r" / "a.png", [[0, 128, 255]])
    save(tmp_path / "r" / "b.png", [[0, 0, 255]])
    save(tmp_path / "p" / "a.png", [[0, 128, 255]])
    save(tmp_path / "p" / "b.png", [[0, 128, 255]])
    scores = evaluate(tmp_path / "p", tmp_path / "r")
    assert [(row.label, row.dice, row.flag) for row in scores.rows if row.case == "b"] == [
        (0, pytest.approx(2 / 3), ""),
        (1, 0.0, "false_alarm"),
        (2, 1.0, ""),
    ]
    assert scores.table().splitlines()[-1].startswith("mean without background")


def test_objects_by_number_are_scored_as_foreground(tmp_path):
    """Numbers need not agree between reference and prediction."""
    rng = np.random.default_rng(0)
    for case, count in enumerate((6, 8, 10, 12)):
        ids = np.zeros((24, 24), dtype=np.uint16)
        for number in range(count):
            ids[(number // 5) * 6 + 1 : (number // 5) * 6 + 4, (number % 5) * 4 + 1 : (number % 5) * 4 + 4] = number + 1
        save(tmp_path / "r" / f"{case}.png", ids, dtype="uint16")
        order = np.concatenate([[0], rng.permutation(count) + 1])
        save(tmp_path / "p" / f"{case}.png", order[ids], dtype="uint16")
    scores = evaluate(tmp_path / "p", tmp_path / "r")
    assert scores.labels.kind == "instances"
    assert scores.summary.dice.mean == 1.0


def test_references_that_are_all_empty_still_count_false_alarms(tmp_path):
    """Dice 0 with a flag, not an error; and an empty prediction is 1."""
    for name, guess in (("a", 7), ("b", 0)):
        save(tmp_path / "r" / f"{name}.png", [[0, 0]])
        save(tmp_path / "p" / f"{name}.png", [[0, guess]])
    rows = evaluate(tmp_path / "p", tmp_path / "r").rows
    assert [(row.dice, row.flag) for row in rows if row.label == 1] == [(0.0, "false_alarm"), (1.0, "both_empty")]


def test_ignored_pixels_and_pixels_outside_the_region_do_not_count(tmp_path):
    """Errors under value 9 of the reference and outside the region cost nothing."""
    save(tmp_path / "r" / "a.png", [[255, 255, 0, 9]])
    save(tmp_path / "p" / "a.png", [[255, 255, 255, 255]])
    save(tmp_path / "fov" / "a.png", [[1, 1, 0, 1]])
    scores = evaluate(tmp_path / "p", tmp_path / "r", ignore_value=9, within=tmp_path / "fov")
    assert (scores.rows[1].tp, scores.rows[1].fp, scores.rows[1].fn) == (2, 0, 0)
    (tmp_path / "p" / "a.png").unlink()
    save(tmp_path / "p" / "a.png", [[255, 9, 0, 9]])
    with pytest.raises(DatasetError, match="ignored value 9 in 1 pixels"):
        evaluate(tmp_path / "p", tmp_path / "r", ignore_value=9)


def test_a_region_for_every_reference_or_one_for_all(folders, tmp_path):
    """A folder must be complete; a file serves everyone."""
    save(tmp_path / "fov" / "a.png", [[1, 0], [0, 0]])
    with pytest.raises(DatasetError, match=r"no region in .* for 1 of 2 references: 'b'"):
        evaluate(*folders, within=tmp_path / "fov")
    scores = evaluate(*folders, within=tmp_path / "fov" / "a.png")
    assert [row.tp + row.fp + row.fn for row in scores.rows if row.label == 1] == [0, 1]


def test_different_sizes_are_refused_with_both_files_and_sizes(folders):
    """As is a region of another size."""
    save(folders[0].parent / "other" / "a.png", [[0, 255, 0]])
    with pytest.raises(ShapeError, match=r"reference.a\.png and .*other.a\.png .*2×2 and 1×3"):
        evaluate(folders[0].parent / "other" / "a.png", folders[1] / "a.png")
    with pytest.raises(ShapeError, match=r"its region .*2×2 and 1×3"):
        evaluate(*folders, within=folders[0].parent / "other" / "a.png")


GRID = {"axes": "zyx", "spacing": (2.0, 0.5, 0.5), "unit": "mm", "origin": (10.0, 20.0, 30.0)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing": (2.0, 0.5, 0.51)}, r"spacings differ: \[2\.0, 0\.5, 0\.5\] and \[2\.0, 0\.5, 0\.51\]"),
        ({"origin": (10.0, 20.0, 31.0)}, r"origins differ: .*30\.0\] and .*31\.0\]"),
        ({"direction": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))}, "directions differ"),
        ({"spacing": (2.0, 0.5, 0.5001)}, None),
    ],
)
def test_volumes_must_lie_on_one_grid(change, message, tmp_path):
    """Spacing, origin and direction agree to a thousandth, or both files and values are named."""
    mask = np.zeros((3, 4, 5))
    mask[1] = 1
    save(tmp_path / "r.nii.gz", mask, **GRID)
    save(tmp_path / "p.nii.gz", mask, **{**GRID, **change})
    if message is None:
        assert evaluate(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz").summary.dice.mean == 1.0
        return
    with pytest.raises(ShapeError, match=rf"r\.nii\.gz and .*p\.nii\.gz .*{message}"):
        evaluate(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz")


def test_values_that_are_no_labels_are_refused(tmp_path):
    """A probability map as reference, named with its value."""
    save(tmp_path / "r.npy", [[0, 0.25]], dtype="float32")
    save(tmp_path / "p.npy", [[0, 1]])
    with pytest.raises(DatasetError, match=r"r\.npy has a value that is no label: 0\.25"):
        evaluate(tmp_path / "p.npy", tmp_path / "r.npy")
    with pytest.raises(DatasetError, match=r"r\.npy has values that belong to no class: 0\.25"):
        evaluate(tmp_path / "r.npy", tmp_path / "p.npy")


def test_other_faults_are_named(folders, tmp_path):
    """The same folder twice, a folder that is not there, a broken file, too many names."""
    with pytest.raises(DatasetError, match="scored against itself"):
        evaluate(folders[0], folders[0])
    with pytest.raises(DatasetError, match="nowhere"):
        evaluate(tmp_path / "nowhere", folders[1])
    with pytest.raises(DatasetError, match="3 label names for 2 classes"):
        evaluate(*folders, label_names=("a", "b", "c"))
    (folders[0] / "a.png").write_bytes((folders[0] / "a.png").read_bytes()[:40])
    with pytest.raises(ImageError, match=r"a\.png"):
        evaluate(*folders)


@pytest.mark.data
def test_real_vessels_against_themselves_are_perfect_inside_the_field_of_view(data_root, tmp_path):
    """Two photographs of the retina with their field of view; a copy of the truth scores one."""
    for name in ("21.png", "22.png"):
        for part in ("masks", "fov"):
            write(tmp_path / part / name, read(data_root / "drive" / part / name))
        write(tmp_path / "guess" / name, read(data_root / "drive" / "masks" / name))
    scores = evaluate(tmp_path / "guess", tmp_path / "masks", within=tmp_path / "fov")
    assert scores.summary.dice.mean == 1.0
