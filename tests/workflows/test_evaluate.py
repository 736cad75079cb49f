"""Evaluating folders of masks: pairing, values, geometry, the files written, and everything that is refused."""

import json
from dataclasses import asdict, fields

import nibabel
import numpy as np
import pytest

from uvea.arrays.labels import IGNORE, LabelMap
from uvea.errors import DatasetError, ImageError, OutputError, ShapeError
from uvea.evaluation.summary import MetricSummary
from uvea.evaluation.table import read_csv
from uvea.images import Image, read, write
from uvea.reports import MetricFigures
from uvea.workflows import evaluation_page, score_pair
from uvea.workflows.evaluate import IncompleteError, evaluate
from uvea.workflows.events import Message, Progress
from uvea.workflows.matching import Pair
from uvea.workflows.score_pair import Measures


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
    cells = [row for row in scores.rows if row.label == 1]
    assert [(row["dice"], round(row["iou"], 6)) for row in cells] == [(1.0, 1.0), (0.5, 0.333333)]
    assert [(row["hd"], row["volume_difference"], row["lesions"]) for row in cells] == [(0.0, 0.0, 1), (1.0, 0.0, 1)]
    assert scores.summary.dice.mean == 0.75
    assert scores.summary.dice.pooled == pytest.approx(4 / 6)
    assert (scores.labels.values, scores.missing) == ((0, 255), ())


def test_the_table_has_a_line_per_class(folders):
    """Aligned text with the names that the user gave."""
    lines = evaluate(*folders, label_names=("tissue", "cell")).table().splitlines()
    assert lines[0].split() == ["class", "cases", "Dice", "IoU", "HD95", "(px)", "NSD", "(2", "px)"]
    assert lines[1].split()[:2] == ["tissue", "2"]
    assert lines[2].split()[:6] == ["cell", "2", "0.750", "[0.500,", "1.000]", "0.667"]
    assert lines[3:] == [
        "means over cases, with 95 % intervals in brackets",
        "2 cases: with fewer than 50 the intervals are rough",
    ]


def test_scores_are_written_and_not_overwritten(folders, tmp_path):
    """The files hold what is returned; a second run needs `overwrite`."""
    out = tmp_path / "scores"
    scores = evaluate(*folders, out=out)
    assert tuple(read_csv(out / "scores.csv")) == scores.rows
    summary = json.loads((out / "summary.json").read_text())
    assert summary["foreground"]["dice"]["mean"] == 0.75
    assert summary["settings"]["classes"] == {"background": 0, "foreground": 255}
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "scores.csv", "summary.json"]
    with pytest.raises(OutputError, match=r"scores\.csv exists\n.*--overwrite"):
        evaluate(*folders, out=out)
    evaluate(*folders, out=out, overwrite=True, report=False)


def test_axes_overrule_what_the_files_of_masks_say(tmp_path):
    """Four slices without axes are taken for four channels otherwise."""
    volume = np.zeros((4, 6, 7), np.uint8)
    volume[1:3, 2:4, 2:5] = 1
    for name in ("masks", "reference"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", volume)
    (row,) = [row for row in evaluate(tmp_path / "masks", tmp_path / "reference", axes="zyx").rows if row.label == 1]
    assert (row["dice"], row["tp"]) == (1.0, 12)
    with pytest.raises(ShapeError, match="q"):
        evaluate(tmp_path / "masks", tmp_path / "reference", axes="qyx")
    with pytest.raises(ShapeError):
        evaluate(tmp_path / "masks", tmp_path / "reference")


def test_an_out_that_is_a_file_is_refused(folders, tmp_path):
    """Before any mask is read; so is a folder below a file, and one that a dead link stands for."""
    (tmp_path / "scores").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (folders[0] / "a.png").write_text("this would be the error if masks were read first")
    for out in ("scores", "scores/of/today"):
        with pytest.raises(OutputError, match=r"scores is a file, .* cannot be a folder"):
            evaluate(*folders, out=tmp_path / out)
    with pytest.raises(OutputError, match="link is a link to nothing"):
        evaluate(*folders, out=tmp_path / "link")


def test_an_out_that_may_not_be_written_to_is_refused(folders, tmp_path, monkeypatch):
    """Before the work, not after it; the nearest folder that is there counts."""
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(OutputError, match="may not be written to"):
        evaluate(*folders, out=tmp_path / "new" / "scores")
    assert not (tmp_path / "new").exists()


def test_new_scores_never_stand_beside_an_old_summary(folders, tmp_path, monkeypatch):
    """Also where the new summary is not written, such as after Ctrl-C."""
    out = tmp_path / "scores"
    evaluate(*folders, out=out)

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("uvea.workflows.evaluate.summarise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*folders, out=out, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["scores.csv"]


def test_a_table_that_is_too_wide_goes_on_below(folders):
    """Every line fits the terminal, each part has class and cases, and no column is lost."""
    scores = evaluate(*folders, label_names=("background", "a nucleus in the outer layer"))
    text = scores.table(width=80)
    assert max(map(len, text.splitlines())) <= 80
    first, second = text.split("\n\n")
    assert first.splitlines()[0].split() == ["class", "cases", "Dice", "IoU"]
    assert second.splitlines()[0].split() == ["class", "cases", "HD95", "(px)", "NSD", "(2", "px)"]
    assert second.splitlines()[2].startswith("a nucleus in the outer layer      2  0.475 [0, 0.95]  1.000")
    assert scores.table(width=200) == scores.table()


def test_a_missing_prediction_is_a_failure_unless_allowed(folders, tmp_path):
    """It is named, and the other case is scored and written; when allowed it scores as empty, is flagged and said."""
    (folders[0] / "b.png").unlink()
    with pytest.raises(IncompleteError, match=r"no prediction for 'b' in .*\n.*--allow-missing") as caught:
        evaluate(*folders, out=tmp_path / "out", report=False)
    assert {row.case for row in caught.value.scores.rows} == {"a"}
    assert tuple(read_csv(tmp_path / "out" / "scores.csv")) == caught.value.scores.rows
    errors = json.loads((tmp_path / "out" / "summary.json").read_text())["errors"]
    assert list(errors) == ["b"] and errors["b"].startswith("there is no prediction for 'b'")
    heard = []
    scores = evaluate(*folders, allow_missing=True, listen=heard.append)
    assert scores.missing == ("b",)
    assert [(row["dice"], row.flag) for row in scores.rows if row.label == 1] == [(1.0, ""), (0.0, "missed")]
    assert Message("references without prediction score as empty: 'b'", "warning") in heard
    assert scores.summary.classes[1].metrics["hd95"].mean == float("inf")
    assert "inf; 0 without 1" in scores.table() and "missed" in scores.table()


def test_a_prediction_without_reference_is_a_failure_unless_allowed(folders):
    """It may be a typo in a name; the others are scored all the same."""
    save(folders[0] / "z.png", [[0, 255], [0, 0]])
    with pytest.raises(IncompleteError, match=r"z\.png has no reference of its name in .*\n.*--allow-extra") as caught:
        evaluate(*folders)
    assert caught.value.scores.summary.cases == 2
    heard = []
    assert evaluate(*folders, allow_extra=True, listen=heard.append).summary.cases == 2
    assert Message("predictions without reference are not scored: 'z'", "warning") in heard


@pytest.mark.parametrize(("place", "what"), [(0, "2 predictions for one reference"), (1, "2 references of one name")])
def test_a_name_that_is_there_twice_is_a_failure_of_its_case(folders, place, what):
    """Which of a.png and a.tif is meant cannot be known; b is scored."""
    save(folders[place] / "a.tif", [[0, 255], [0, 0]])
    with pytest.raises(IncompleteError, match=rf"there are {what}: .*a\.png.*a\.tif") as caught:
        evaluate(*folders)
    assert {row.case for row in caught.value.scores.rows} == {"b"}


def test_files_that_declare_more_pixels_than_allowed_are_failures(folders):
    """Reference, prediction and region alike: 2×2 pixels each, but for one."""
    (folders[0] / "a.png").unlink()
    save(folders[0] / "a.png", np.zeros((2, 3)))
    with pytest.raises(IncompleteError, match=r"a\.png declares .* 6 pixels .* limit is 4.*\n.*-pixels 6") as caught:
        evaluate(*folders, max_pixels=4)
    assert caught.value.scores.summary.cases == 1
    with pytest.raises(ImageError, match="limit is 3"):
        evaluate(*folders, max_pixels=3)
    with pytest.raises(ImageError, match="max_pixels is 0"):  # no failure of every file
        evaluate(*folders, max_pixels=0)


def test_whatever_breaks_a_case_the_others_are_scored(folders, monkeypatch):
    """A fault of the program in one case: it is named with both files, and reported as such."""

    def broken(name, *args, **kwargs):
        if name == "a":
            raise ZeroDivisionError("float division by zero")
        return score_case(name, *args, **kwargs)

    score_case = score_pair.score_case
    monkeypatch.setattr(score_pair, "score_case", broken)
    with pytest.raises(IncompleteError, match=r"a\.png against .*a\.png failed with ZeroDivisionError") as caught:
        evaluate(*folders, workers=1)
    assert [(one.case, one.hint[:4]) for one in caught.value.scores.failures] == [("a", "this")]
    assert {row.case for row in caught.value.scores.rows} == {"b"}


def test_several_failures_are_counted_and_none_scored_is_an_error(folders):
    """Both names in the message, whichever comes first; nothing can be written then."""
    for name in "ab":
        (folders[0] / f"{name}.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"none of 2 cases could be scored; the first: .*a\.png is empty"):
        evaluate(*folders)


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
    assert [(row.case, row["dice"]) for row in scores.rows] == [("truth", 1.0)] * 2


def test_predictions_named_after_images_find_masks_with_a_word_in_their_name(tmp_path):
    """x.png is the prediction for x_mask.png, and the rule is said."""
    for name in ("x", "y"):
        save(tmp_path / "p" / f"{name}.png", [[0, 255]])
        save(tmp_path / "r" / f"{name}_mask.png", [[0, 255]])
    heard = []
    scores = evaluate(tmp_path / "p", tmp_path / "r", listen=heard.append)
    assert {row.case for row in scores.rows} == {"x_mask", "y_mask"}
    assert any(isinstance(event, Message) and "_mask" in event.text for event in heard)
    assert not any("names differ" in warning for warning in scores.summary.warnings)


def test_predictions_of_other_names_are_scored_with_a_warning(tmp_path):
    """Masks of another place may be numbered likewise, and score as a bad model would."""
    for number in (1, 2):
        save(tmp_path / "p" / f"site_b{number}.png", [[0, 255]])
        save(tmp_path / "r" / f"site_a{number}.png", [[0, 255]])
    scores = evaluate(tmp_path / "p", tmp_path / "r")
    said, *_ = scores.summary.warnings
    assert said == "predictions called site_b… are scored against references called site_a…: names differ"


def test_objects_of_several_classes_are_scored_as_objects(tmp_path):
    """References hold a value for each class, predictions number the objects: they are the same four."""
    classes, numbers = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    for number, (y, x) in enumerate([(0, 0), (0, 5), (5, 0), (5, 5)], start=1):
        classes[y : y + 3, x : x + 3], numbers[y : y + 3, x : x + 3] = 1 + number // 3, number
    save(tmp_path / "numbers.png", numbers)
    save(tmp_path / "classes.png", classes)
    save(tmp_path / "other.png", classes)
    named = {0: "background", 1: "a", 2: "b"}
    for predicted in ("numbers.png", "other.png"):
        found = evaluate(tmp_path / predicted, tmp_path / "classes.png", instances=True, label_names=named)
        (row,) = found.rows[1:]
        assert (row["objects"], row["objects_predicted"], row["mean_ap"]) == (4, 4, 1.0)


def test_numbers_in_pieces_stay_numbers_with_a_warning(tmp_path):
    """Two neurons of two pieces each are two objects, whatever else a prediction has; they may be two classes."""
    numbers = np.zeros((9, 9), np.uint8)
    for number, (y, x) in enumerate([(0, 0), (0, 5), (5, 0), (5, 5)]):
        numbers[y : y + 3, x : x + 3] = 1 + number // 2
    save(tmp_path / "r.png", numbers)
    numbers[8, 8] = 3
    save(tmp_path / "p.png", numbers)
    scores = evaluate(tmp_path / "p.png", tmp_path / "r.png", instances=True)
    assert (scores.rows[1]["objects"], scores.rows[1]["objects_predicted"]) == (2, 3)
    assert scores.summary.warnings[0].startswith("the references have 2 numbers of objects in 4 pieces")


def test_objects_of_each_frame_are_its_own(tmp_path):
    """Two cells in three frames: tracked in the reference, numbered on in the prediction, or one value for all."""
    tracked, fresh = np.zeros((3, 4, 12), np.uint16), np.zeros((3, 4, 12), np.uint16)
    for frame in range(3):
        for cell in (0, 1):
            place = (frame, slice(0, 2), slice(6 * cell + frame, 6 * cell + frame + 2))
            tracked[place], fresh[place] = cell + 1, 2 * frame + cell + 1
    save(tmp_path / "p.tif", fresh, axes="tyx")
    for name, reference in (("tracked", tracked), ("fresh", fresh), ("alike", fresh > 0)):
        save(tmp_path / f"{name}.tif", reference, axes="tyx")
        (row,) = evaluate(tmp_path / "p.tif", tmp_path / f"{name}.tif", instances=True).rows[1:]
        assert (row["objects"], row["objects_predicted"], row["mean_ap"]) == (6, 6, 1.0)


def test_references_of_one_bit_have_the_foreground_of_the_others(tmp_path):
    """One class of 255, and predictions may have one bit as well."""
    for name, dtype in (("a", bool), ("b", "uint8")):
        save(tmp_path / "r" / f"{name}.png", [[0, 255]], dtype=dtype)
        save(tmp_path / "p" / f"{name}.png", [[0, 255]], dtype="uint8" if dtype is bool else bool)
    scores = evaluate(tmp_path / "p", tmp_path / "r")
    assert scores.labels.values == (0, 255) and all(row["dice"] == 1.0 for row in scores.rows)


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
    assert [(row.case, row["dice"]) for row in scores.rows] == [("a_mask", 1.0), ("a_mask", 1.0)]
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
    assert "means over 2 groups" in scores.table()


def test_an_unknown_value_is_refused_with_value_and_file(folders):
    """A prediction with 128 in a world of 0 and 255 is no class."""
    save(folders[0] / "c.png", [[0, 128]])
    save(folders[1] / "c.png", [[0, 255]])
    with pytest.raises(
        DatasetError, match=r"predictions.c\.png has values that belong to no class: 128; the references have 0, 255"
    ):
        evaluate(*folders)


def test_a_class_that_no_reference_has_can_be_named(folders):
    """The remedy of the error above, typed: a prediction of the class is then a false alarm."""
    save(folders[0] / "c.png", [[0, 128]])
    save(folders[1] / "c.png", [[0, 255]])
    with pytest.raises(IncompleteError, match="--labels '0=background,255=foreground,128=value 128'"):
        evaluate(*folders)
    scores = evaluate(*folders, label_names={0: "background", 255: "cell", 128: "debris"})
    (row,) = (row for row in scores.rows if (row.case, row.class_name) == ("c", "debris"))
    assert (row.label, row["dice"], row.flag) == (2, 0.0, "false_alarm")
    with pytest.raises(DatasetError, match="not at least two different classes"):
        evaluate(*folders, label_names={0: "background", 255: "background"})
    with pytest.raises(DatasetError, match=r"name 255 as a class, .*\n.*leave 255 out of --labels"):
        evaluate(*folders, label_names={0: "background", 255: "cell"}, ignore_value=255)


def test_the_remedy_for_an_unknown_value_is_the_likely_one(tmp_path):
    """0 and 1 for 0 and 255, numbered objects, JPEG, a colour, and a reference with a value that was not named."""
    for name, values, remedy in (
        ("ones.png", [[0, 1], [0, 0]], "Try: write 255 in place of 1; if 1 is another class, name all: --labels"),
        ("objects.png", [[1, 2, 3], [4, 5, 6]], "Try: if values number objects, add --instances"),
        ("lossy.jpg", np.diag([200, 100, 50, 25]), "Try: save masks as PNG or TIFF"),
        ("both.png", [[0, 255], [7, 0]], r"Try: if it is a class that no reference has, .*7=value 7'"),
    ):
        save(tmp_path / name, values)
        save(tmp_path / f"of-{name}.npy", np.where(np.indices(np.shape(values)).sum(axis=0) == 1, 255, 0))
        with pytest.raises(DatasetError, match=remedy):
            evaluate(tmp_path / name, tmp_path / f"of-{name}.npy")
    write(tmp_path / "red.png", Image(array=np.array([[[9, 9]], [[0, 0]], [[0, 0]]], np.uint8), axes="yx"))
    save(tmp_path / "r.png", [[0, 255]])
    with pytest.raises(DatasetError, match=r"colour mask.*\n.*one channel holding 0, 255"):
        evaluate(tmp_path / "red.png", tmp_path / "r.png")
    with pytest.raises(DatasetError, match=r"r\.png has .* 255\n.*'0=a,1=b,255=value 255'; or .* --ignore-value 255"):
        evaluate(tmp_path / "red.png", tmp_path / "r.png", label_names={0: "a", 1: "b"})


def test_where_no_pixel_counts_the_scores_say_so(folders, tmp_path):
    """They are perfect by convention, and worth nothing."""
    save(tmp_path / "nowhere.png", [[0, 0], [0, 0]])
    scores = evaluate(*folders, within=tmp_path / "nowhere.png")
    assert "no pixel counts" in scores.summary.warnings[0]
    assert "no pixel counts" not in evaluate(*folders).table()
    save(tmp_path / "nan.npy", [[np.nan, 0], [1, 1]], dtype="float32")
    with pytest.raises(DatasetError, match=r"nan\.npy has NaN values"):
        evaluate(*folders, within=tmp_path / "nan.npy")


def test_classes_are_those_of_all_references_together(tmp_path):
    """A class that one reference lacks is empty there, and a prediction of it a false alarm."""
    save(tmp_path / "r" / "a.png", [[0, 128, 255]])
    save(tmp_path / "r" / "b.png", [[0, 0, 255]])
    save(tmp_path / "p" / "a.png", [[0, 128, 255]])
    save(tmp_path / "p" / "b.png", [[0, 128, 255]])
    scores = evaluate(tmp_path / "p", tmp_path / "r")
    assert [(row.label, row["dice"], row.flag) for row in scores.rows if row.case == "b"] == [
        (0, pytest.approx(2 / 3), ""),
        (1, 0.0, "false_alarm"),
        (2, 1.0, ""),
    ]
    assert any(line.startswith("mean without background") for line in scores.table().splitlines())


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
    assert [(row["dice"], row.flag) for row in rows if row.label == 1] == [(0.0, "false_alarm"), (1.0, "both_empty")]


def test_ignored_pixels_and_pixels_outside_the_region_do_not_count(tmp_path):
    """Errors under value 9 of the reference and outside the region cost nothing."""
    save(tmp_path / "r" / "a.png", [[255, 255, 0, 9]])
    save(tmp_path / "p" / "a.png", [[255, 255, 255, 255]])
    save(tmp_path / "fov" / "a.png", [[1, 1, 0, 1]])
    scores = evaluate(tmp_path / "p", tmp_path / "r", ignore_value=9, within=tmp_path / "fov")
    assert [scores.rows[1][name] for name in ("tp", "fp", "fn")] == [2, 0, 0]
    (tmp_path / "p" / "a.png").unlink()
    save(tmp_path / "p" / "a.png", [[255, 9, 0, 9]])
    with pytest.raises(DatasetError, match="ignored value 9 in 1 pixels"):
        evaluate(tmp_path / "p", tmp_path / "r", ignore_value=9)


def test_what_lies_outside_the_region_is_no_error_in_the_pictures(tmp_path):
    """A false alarm outside is drawn as not annotated."""
    for name, values in (("mask", [[0, 1, 0]]), ("guess", [[0, 1, 1]]), ("region", [[1, 1, 0]])):
        save(tmp_path / f"{name}.png", values)
    paths = [tmp_path / f"{name}.png" for name in ("mask", "guess", "region")]
    pair = Pair(case="a", reference=paths[0], prediction=paths[1], within=paths[2])
    example = evaluation_page._example(pair, Measures(labels=LabelMap(kind="values", values=(0, 1))))
    assert (example.truth.tolist(), example.prediction.tolist()) == ([[0, 1, IGNORE]], [[0, 1, 1]])


def test_a_region_for_every_reference_or_one_for_all(folders, tmp_path):
    """A folder must be complete; a file serves everyone."""
    save(tmp_path / "fov" / "a.png", [[1, 0], [0, 0]])
    with pytest.raises(IncompleteError, match=r"no region for 'b' in "):
        evaluate(*folders, within=tmp_path / "fov")
    scores = evaluate(*folders, within=tmp_path / "fov" / "a.png")
    assert [row["tp"] + row["fp"] + row["fn"] for row in scores.rows if row.label == 1] == [0, 1]


def test_different_sizes_are_refused_with_both_files_and_sizes(folders):
    """As is a region of another size."""
    save(folders[0].parent / "other" / "a.png", [[0, 255, 0]])
    with pytest.raises(ShapeError, match=r"reference.a\.png and .*other.a\.png .*2×2 and 1×3"):
        evaluate(folders[0].parent / "other" / "a.png", folders[1] / "a.png")
    with pytest.raises(ShapeError, match=r"none of 2 .* its region .*2×2 and 1×3"):
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


@pytest.mark.parametrize("way", ["LAS", "SRA"])
def test_a_mask_that_is_stored_another_way_has_to_be_turned_only(way, tmp_path):
    """Resampling would do more than is needed."""
    whole = nibabel.Nifti1Image(np.eye(4)[:3, :, None].repeat(5, 2).astype(np.uint8), np.diag([1.0, 1.0, 2.0, 1.0]))
    turned = whole.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(whole.affine), nibabel.orientations.axcodes2ornt(tuple(way))
        )
    )
    nibabel.save(whole, tmp_path / "r.nii.gz")
    nibabel.save(turned, tmp_path / "p.nii.gz")
    with pytest.raises(ShapeError, match=rf"orientations differ: RAS and {way}\n.*turn .*as_closest_canonical"):
        evaluate(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz")
    nibabel.save(nibabel.as_closest_canonical(turned), tmp_path / "p.nii.gz")
    assert evaluate(tmp_path / "p.nii.gz", tmp_path / "r.nii.gz").summary.dice.mean == 1.0


def test_values_that_are_no_labels_are_refused(tmp_path):
    """A probability map as reference, named with its value."""
    save(tmp_path / "r.npy", [[0, 0.25]], dtype="float32")
    save(tmp_path / "p.npy", [[0, 1]])
    with pytest.raises(DatasetError, match=r"r\.npy has a value that is no label: 0\.25"):
        evaluate(tmp_path / "p.npy", tmp_path / "r.npy")
    with pytest.raises(DatasetError, match=r"r\.npy has a value that is no label: 0\.25"):
        evaluate(tmp_path / "r.npy", tmp_path / "p.npy")


def test_other_faults_are_named(folders, tmp_path):
    """The same folder twice, a folder that is not there, a broken file, too many names."""
    with pytest.raises(DatasetError, match="scored against itself"):
        evaluate(folders[0], folders[0])
    with pytest.raises(DatasetError, match="nowhere"):
        evaluate(tmp_path / "nowhere", folders[1])
    with pytest.raises(DatasetError, match="3 label names for 2 classes"):
        evaluate(*folders, label_names=("a", "b", "c"))
    with pytest.raises(DatasetError, match="there is no reference for"):
        evaluate(folders[0])
    for options, problem in (
        ({"tolerance": -1.0}, "tolerance of -1"),
        ({"workers": 0}, "0 workers"),
        ({"em_threshold": 2.0}, "2.0 is no probability"),
        ({"images": folders[1].parent / "nowhere"}, "nowhere"),
    ):
        with pytest.raises(DatasetError, match=problem):
            evaluate(*folders, **options)
    (folders[0] / "a.png").write_bytes((folders[0] / "a.png").read_bytes()[:40])
    with pytest.raises(IncompleteError, match=r"a\.png"):
        evaluate(*folders)


def test_volumes_and_distances_are_in_the_unit_of_the_files(tmp_path):
    """One voxel of 2×0.5×0.5 mm that moved along the first axis; a file in µm beside it is converted."""
    for name, unit, spacing in (("a", "mm", (2.0, 0.5, 0.5)), ("b", "um", (2000.0, 500.0, 500.0))):
        for folder, place in (("r", 1), ("p", 2)):
            mask = np.zeros((4, 3, 3))
            mask[place, 1, 1] = 1
            suffix = ".nii.gz" if unit == "mm" else ".tif"
            save(tmp_path / folder / f"{name}{suffix}", mask, axes="zyx", spacing=spacing, unit=unit)
    heard = []
    scores = evaluate(tmp_path / "p", tmp_path / "r", tolerance=1.9, listen=heard.append)
    rows = [row for row in scores.rows if row.label == 1]
    assert [(row["hd"], row["nsd"], row["volume_reference"]) for row in rows] == [(2.0, 0.0, 0.5)] * 2
    assert scores.summary.settings["unit"] == "mm"
    assert any("in mm and um" in event.text for event in heard if isinstance(event, Message))
    assert "HD95 (mm)" in scores.table() and "NSD (1.9 mm)" in scores.table()


def test_a_case_without_pixel_size_among_others_has_no_distances(tmp_path):
    """Pixels and millimetres have no common mean."""
    mask = np.ones((2, 3, 3))
    for folder in "rp":
        save(tmp_path / folder / "a.nii.gz", mask, axes="zyx", spacing=(2.0, 1.0, 1.0), unit="mm")
        save(tmp_path / folder / "b.npy", mask, axes="zyx")
    scores = evaluate(tmp_path / "p", tmp_path / "r", label_names={0: "background", 1: "organ"})
    assert [(row.case, "hd" in row.values) for row in scores.rows if row.label == 1] == [("a", True), ("b", False)]
    assert scores.summary.warnings[0].endswith("no pixel size in mm: 'b'")


def test_sheared_volumes_have_no_distances(tmp_path):
    """The sizes of their pixels are no lengths at right angles: ten per cent too far would be said without a word."""
    tilted = {"direction": ((1.0, 0.0, 0.0), (-0.6, 1.0, 0.0), (0.0, 0.0, 1.0)), "spacing": (2.0, 1.0, 1.0)}
    for folder in "rp":
        save(tmp_path / folder / "a.nii.gz", np.ones((2, 3, 3)), axes="zyx", unit="mm", **tilted)
    scores = evaluate(tmp_path / "p", tmp_path / "r", label_names={0: "background", 1: "organ"})
    assert scores.rows[1]["dice"] == 1.0 and not {"hd", "volume_reference"} & scores.rows[1].values.keys()
    said = scores.summary.warnings[0]
    assert "31.0 degrees off a right angle: 'a'" in said and "resample both masks" in said


def test_distances_can_be_left_out(folders):
    """They take most of the time."""
    scores = evaluate(*folders, distances=False)
    assert "hd" not in scores.rows[1].values and "volume_reference" in scores.rows[1].values
    assert "HD95" not in scores.table()


def test_groups_come_from_a_table_or_a_mapping(folders, tmp_path):
    """By the name of the case or of its file; every case needs one."""
    table = tmp_path / "groups.csv"
    table.write_text("case,group\na,p\nb.png,q\n")
    for groups in (table, {"a": "p", "b": "q"}):
        assert [row.group for row in evaluate(*folders, groups=groups).rows] == ["p", "p", "q", "q"]
    table.write_text("case,group\na,p\n")
    with pytest.raises(DatasetError, match=r"groups\.csv has no group for 1 of 2 cases: 'b'"):
        evaluate(*folders, groups=table)
    table.write_text("case,group\na,p\na,q\n")
    with pytest.raises(DatasetError, match="'a' in two groups: p and q"):
        evaluate(*folders, groups=table)


def test_the_report_is_given_every_figure_of_a_metric():
    """Those over groups and of the finite values, too: every field of its record is that of the summary."""
    names = [field.name for field in fields(MetricFigures)]
    found = MetricSummary(metric="hd95", **{name: place for place, name in enumerate(names, start=1)})
    assert asdict(evaluation_page._metric_figures(found)) == {name: getattr(found, name) for name in names}


def test_a_table_of_pairs_names_every_file(folders, tmp_path):
    """Relative to the table, under any name; a row with a fault is a failure of its case."""
    table = tmp_path / "pairs.csv"
    table.write_text(
        "prediction,reference,group,case\n"
        "predictions/a.png,reference/a.png,p,first\n"
        "predictions/b.png,reference/b.png,q,\n"
    )
    scores = evaluate(table)
    assert [(row.case, row.group) for row in scores.rows] == [("first", "p")] * 2 + [("b", "q")] * 2
    table.write_text(table.read_text() + "predictions/c.png,reference/a.png,,\n,reference/b.png,,again\n")
    with pytest.raises(IncompleteError) as caught:
        evaluate(table)
    problems = dict(caught.value.scores.summary.errors)
    assert "row 4 of" in problems["a"] and "no file 'predictions/c.png'" in problems["a"]
    assert problems["again"].endswith("has no prediction")
    with pytest.raises(DatasetError, match="--within fov cannot be given with the table"):
        evaluate(table, within="fov")


def numbered(*boxes, shape=(24, 24)):
    """Boxes of object numbers 1, 2, …, each (top, left, height, width)."""
    ids = np.zeros(shape, dtype=np.uint16)
    for number, (top, left, height, width) in enumerate(boxes, start=1):
        ids[top : top + height, left : left + width] = number
    return ids


def test_objects_are_scored_where_asked_for(tmp_path):
    """Image a: one of one found; image b: one matched, one false, two missed. AP .5 averages .625, pooled .4."""
    save(tmp_path / "r" / "a.png", numbered((1, 1, 4, 4)), dtype="uint16")
    save(tmp_path / "p" / "a.png", numbered((1, 1, 4, 4)) * 7, dtype="uint16")
    save(tmp_path / "r" / "b.png", numbered((1, 1, 4, 4), (8, 8, 4, 4), (16, 16, 4, 4)), dtype="uint16")
    save(tmp_path / "p" / "b.png", numbered((1, 1, 4, 4), (20, 1, 2, 2)), dtype="uint16")
    scores = evaluate(tmp_path / "p", tmp_path / "r", instances=True, out=tmp_path / "out")
    first, second = (row for row in scores.rows if row.label == 1)
    assert (first["objects"], first["ap_50"], second["objects"], second["objects_predicted"]) == (1, 1.0, 3, 2)
    found = scores.summary.foreground["ap_50"]
    assert (found.mean, found.pooled) == (0.625, 0.4)
    assert "AP 0.50  0.625 [0.250, 1.000]   0.400" in scores.table()
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000


def test_the_ignored_value_is_no_object(tmp_path):
    """Two pieces of 255 beside ignored pixels are two objects, in gray and in colour."""
    for channels in (1, 3):
        mask = np.zeros((channels, 3, 7), np.uint8)
        mask[:, 0] = 128
        mask[:, 2, [1, 5]] = 255
        for folder in "pr":
            write(tmp_path / f"{folder}{channels}.png", Image(array=mask.copy(), axes="yx"))
    write(tmp_path / "red.png", Image(array=np.where(mask == 255, [[[255]], [[0]], [[0]]], mask), axes="yx"))
    for prediction, reference in (("p1.png", "r1.png"), ("red.png", "red2.png")):
        (tmp_path / "red2.png").write_bytes((tmp_path / "red.png").read_bytes())
        scores = evaluate(tmp_path / prediction, tmp_path / reference, instances=True, ignore_value=128)
        assert (scores.rows[1]["objects"], scores.rows[1]["objects_predicted"]) == (2, 2)


def test_a_binary_mask_stands_for_its_connected_pieces(tmp_path):
    """A network that was trained on foreground is scored against numbered objects; corners connect."""
    reference = numbered((1, 1, 4, 4), (8, 8, 4, 4))
    save(tmp_path / "r" / "a.png", reference, dtype="uint16")
    save(tmp_path / "p" / "a.png", (reference > 0) * 255)
    heard = []
    scores = evaluate(tmp_path / "p", tmp_path / "r", instances=True, listen=heard.append)
    assert (scores.rows[1]["objects_predicted"], scores.rows[1]["ap_95"]) == (2, 1.0)
    assert any("the predictions have one value for all objects" in one.text for one in heard if hasattr(one, "text"))


def test_membranes_are_scored_thinned_at_the_best_and_at_a_fixed_threshold(tmp_path):
    """A wall three pixels wide, seen with probability 0.4: found at a low threshold, a merger at 0.5."""
    reference = np.full((9, 12), 255)
    reference[:, 5:8] = 0
    cell = np.where(reference > 0, 1.0, 0.6).astype(np.float32)
    save(tmp_path / "r" / "a.tif", reference)
    save(tmp_path / "p" / "a.tif", cell, dtype="float32")
    scores = evaluate(
        tmp_path / "p", tmp_path / "r", em_membranes=True, probabilities=tmp_path / "p", out=tmp_path / "out"
    )
    row = scores.rows[1]
    assert row["v_rand_best"] == 1.0 and row["v_info_best"] == 1.0
    # Two cells of 45 and 36 pixels as one segment: (45² + 36²) / 81² of its pairs are true.
    assert row["v_rand_merge"] == pytest.approx((45**2 + 36**2) / 81**2)
    assert row["v_rand_split"] == 1.0
    assert scores.membranes is not None and scores.membranes.best_threshold_rand == 0.1
    assert row["dice"] == 2 * 81 / (2 * 81 + 27)  # the most probable class is scored: all of it is cell
    assert row["auc"] == 1.0 and 0 < row["ece"] < 1
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert curves["membranes"]["best_threshold_rand"] == 0.1
    assert curves["probabilities"]["foreground"]["best_threshold"]["score"] == 1.0
    assert curves["probabilities"]["foreground"]["roc"]["thresholds"][0] == "inf"
    assert {"V_rand", "ECE"} <= {line.split()[0] for line in scores.table().splitlines() if line}


def test_membranes_need_probabilities_for_all_cases_or_none(folders, tmp_path):
    """The best threshold is one for all; refused before the first case is scored."""
    table = tmp_path / "pairs.csv"
    lines = [f"predictions/{case}.png,reference/{case}.png" for case in "ab"]
    table.write_text(f"prediction,reference,probabilities\n{lines[0]},predictions/a.png\n{lines[1]},\n")
    with pytest.raises(DatasetError, match=r"1 of 2 cases lack probabilities, .*: 'b'\n.*column probabilities"):
        evaluate(table, em_membranes=True)
    assert evaluate(table).rows[1]["auc"] == 1.0


def test_a_time_series_is_excused_once(tmp_path):
    """It has no distances because of its time axis, not because of its pixel size."""
    for name in "pr":
        save(tmp_path / f"{name}.tif", np.eye(4)[None].repeat(3, axis=0), axes="tyx", spacing=(1, 1, 1), unit="um")
    assert evaluate(tmp_path / "p.tif", tmp_path / "r.tif").summary.warnings[0] == (
        "time series have no volumes and distances: 'r'"
    )
    assert len(evaluate(tmp_path / "p.tif", tmp_path / "r.tif").summary.warnings) == 2


def test_probabilities_are_pooled_over_the_pixels_of_all_cases(folders, tmp_path):
    """Two images of which one is sure and right, one is undecided: the counts add up."""
    for name, values in (("a", [[0.0, 1.0], [0.0, 0.0]]), ("b_probabilities", [[0.5, 0.5], [0.5, 0.5]])):
        save(tmp_path / "soft" / f"{name}.npy", values, dtype="float32")
    scores = evaluate(*folders, probabilities=tmp_path / "soft", out=tmp_path / "out")
    first, second = (row for row in scores.rows if row.label == 1)
    assert (first["ece"], first["auc"], second["ece"], second["auc"]) == (0.0, 1.0, 0.0, 0.5)
    assert scores.probabilities[1].n_positive == 3
    # Of 3×5 pairs of a positive and a negative pixel, 5 + 6 are in the right order, and 4 undecided count one half.
    assert scores.summary.foreground["auc"].pooled == pytest.approx((5 + 6 + 2) / 15)
    (tmp_path / "soft" / "a.npy").unlink()
    with pytest.raises(IncompleteError, match="no probabilities for 'a'"):
        evaluate(*folders, probabilities=tmp_path / "soft")


def test_the_number_of_workers_changes_nothing(folders, tmp_path):
    """Two processes write the same bytes as one."""
    for workers in (1, 2):
        evaluate(*folders, workers=workers, out=tmp_path / str(workers), report=False)
    for name in ("scores.csv", "summary.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.data
def test_real_vessels_against_themselves_are_perfect_inside_the_field_of_view(data_root, tmp_path):
    """Two photographs of the retina with their field of view; a copy of the truth scores one."""
    for name in ("21.png", "22.png"):
        for part in ("masks", "fov"):
            write(tmp_path / part / name, read(data_root / "drive" / part / name))
        write(tmp_path / "guess" / name, read(data_root / "drive" / "masks" / name))
    scores = evaluate(tmp_path / "guess", tmp_path / "masks", within=tmp_path / "fov")
    assert scores.summary.dice.mean == 1.0


def test_arrays_are_sent_to_the_metrics_for_arrays():
    """Evaluation pairs files; the error names the functions that take arrays."""
    with pytest.raises(DatasetError, match="not ndarray") as error:
        evaluate(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    assert "uvea.metrics" in error.value.hint


@pytest.mark.parametrize("option", [{"ignore_value": 1.5}, {"ignore_value": "255"}, {"label_names": "ab"}])
def test_an_option_of_another_type_is_refused_by_name(folders, option):
    """A fraction is no mask value, and a text is no list of names."""
    with pytest.raises(DatasetError, match=next(iter(option))):
        evaluate(*folders, **option)
