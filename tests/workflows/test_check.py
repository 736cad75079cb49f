"""The check workflow: a small dataset on disk, and what is said of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from uvea.datasets.case import DataOptions
from uvea.datasets.split import Split
from uvea.errors import DatasetError, ShapeError
from uvea.workflows.check import check
from uvea.workflows.events import Progress
from uvea.workflows.kept import Kept


@pytest.fixture
def dataset(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Ten images of 20×24 with a 0/255 mask of a square of 12×10."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((20, 24), np.uint8)
    mask[4:16, 6:16] = 255
    for number in range(10):
        pixels = rng.integers(0, 200, (20, 24), dtype=np.uint8) + mask // 8
        Picture.fromarray(pixels).save(tmp_path / "images" / f"cell{number}.png")
        Picture.fromarray(mask).save(tmp_path / "masks" / f"cell{number}.png")
    return tmp_path


def test_a_sound_dataset_is_described_by_hand(dataset):
    """Counts, sizes and class shares: 120 of 480 pixels are foreground."""
    report = check(dataset)
    rows = dict(report.rows())
    assert report.errors == ()
    assert rows["cases"] == "10, 10 with a mask"
    assert rows["sizes"] == "20×24 (yx)"
    assert rows["channels"] == "1"
    assert rows["pixel types"] == "uint8"
    assert rows["pixel size"] == "not known"
    assert rows["classes"] == "background = 0 (75 %), foreground = 255 (25 %)"
    assert rows["split"].startswith("8 to train, 2 to validate: ")


def test_progress_ends_with_all_cases(dataset):
    """The listener hears of every case, and of the end."""
    heard = []
    check(dataset, listen=heard.append)
    assert heard[-1] == Progress("reading the data", 10, 10)


def test_a_truncated_file_is_a_finding_and_no_exception(dataset):
    """The rest is still described."""
    broken = dataset / "images" / "cell3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    report = check(dataset)
    assert any(broken in finding.files for finding in report.errors)
    assert dict(report.rows())["cases"] == "10, 10 with a mask"


def test_names_and_the_ignored_value_reach_the_classes(dataset):
    """What the user says about the masks is what the rows say."""
    path = dataset / "masks" / "cell0.png"
    pixels = np.asarray(Picture.open(path)).copy()
    pixels[0, :] = 7
    Picture.fromarray(pixels).save(path)
    report = check(dataset, options=DataOptions(ignore_value=7, label_names=("back", "cell")))
    classes = dict(report.rows())["classes"]
    assert classes.startswith("back = 0 (") and ", cell = 255 (" in classes and classes.endswith("ignored = 7")


def test_names_by_value_reach_the_classes(dataset):
    """As `--labels 255=cell,0=back` says them; another value is a finding that names both."""
    named = DataOptions(label_names={255: "cell", 0: "back"})
    assert dict(check(dataset, options=named).rows())["classes"] == "back = 0 (75 %), cell = 255 (25 %)"
    (error,) = check(dataset, options=DataOptions(label_names={0: "back", 1: "cell"})).errors
    assert error.problem == "--labels gives names to the values 0, 1, but the masks have 0, 255"


@pytest.mark.parametrize("names", [(), ("back", "cell"), {0: "back", 255: "cell"}, {-1: "cell", 0: "back"}])
def test_names_are_kept_for_a_training_that_is_resumed(tmp_path, names):
    """In JSON all keys are text; values of masks come back as numbers."""
    kept = Kept(
        source=tmp_path,
        options=DataOptions(label_names=names),
        device=None,
        plan="p",
        data="d",
        splits=(Split(train=("a",), val=("b",), reason="so"),),
        unopened=(),
        findings=(),
        leaks=(),
        checkpoint_every=None,
    )
    kept.save(tmp_path / "run.json")
    assert Kept.load(tmp_path / "run.json") == kept


def test_many_classes_do_not_fill_the_terminal(dataset):
    """As where object numbers are taken for classes."""
    path = dataset / "masks" / "cell0.png"
    pixels = np.asarray(Picture.open(path)).copy()
    pixels[:4] = np.arange(24)
    Picture.fromarray(pixels).save(path)
    classes = dict(check(dataset, options=DataOptions(instances=False)).rows())["classes"]
    assert classes.count(" = ") == 12 and classes.endswith(", and 13 more")


def test_classes_that_were_not_understood_are_not_made_up(dataset):
    """The row points at the error in place of naming classes 0 and 1."""
    report = check(dataset, options=DataOptions(label_names=("a", "b", "c")))
    assert dict(report.rows())["classes"] == "not known, see the errors"


def test_axes_that_no_image_can_have_are_refused_before_anything_is_read(dataset):
    """They are an option of the user, not a fault of every file."""
    with pytest.raises(ShapeError, match=r"axes 'yq' .* mean nothing: q\n"):
        check(dataset, options=DataOptions(axes="yq"), listen=lambda event: pytest.fail("it began to read"))


def test_copies_are_kept_on_one_side(dataset):
    """One image under two names, for every choice of the other: validation never has one of them alone."""
    original = (dataset / "images" / "cell0.png").read_bytes()
    for number in range(1, 10):
        path = dataset / "images" / f"cell{number}.png"
        before = path.read_bytes()
        path.write_bytes(original)
        (split,) = (report := check(dataset)).splits
        assert ("cell0" in split.val) == (f"cell{number}" in split.val)
        assert split.reason.endswith("of 9")
        assert "with their copies" in split.reason
        assert "duplicate-across" not in {finding.kind for finding in report.findings}
        path.write_bytes(before)


def test_folds_keep_copies_together_too(dataset):
    """The same cases, divided five times."""
    for number in (4, 8):
        (dataset / "images" / f"cell{number}.png").write_bytes((dataset / "images" / "cell0.png").read_bytes())
    splits = check(dataset, folds=5).splits
    assert len(splits) == 5
    assert sorted(name for split in splits for name in split.val) == [f"cell{n}" for n in range(10)]
    assert [len({"cell0", "cell4", "cell8"} & set(split.val)) for split in splits].count(0) == 4


def test_more_folds_than_images_are_refused(dataset):
    """It is an option of the user, not a fault of the data."""
    with pytest.raises(DatasetError, match=r"11 folds cannot be made of 10 images\n.*--folds 2 to 10"):
        check(dataset, folds=11)


@pytest.mark.parametrize(
    ("count", "folds", "message"),
    [
        (2, 1, r"holds 2 splits\n.*--folds 2"),
        (1, 3, r"--folds 3, but .* holds 1 split\n.*leave out --folds"),
        (2, 3, r"--folds 3, but .* holds 2 splits\n.*use --folds 2"),
        (2, 2, None),
        (1, 1, None),
    ],
)
def test_a_split_file_holds_as_many_splits_as_there_are_folds(dataset, count, folds, message):
    """Otherwise the user is asked which of the two is meant."""
    names = [f"cell{number}" for number in range(10)]
    wanted = [{"train": [n for n in names if n != name], "val": [name]} for name in names[:count]]
    path = dataset / "split.json"
    path.write_text(json.dumps(wanted if count > 1 else wanted[0]))
    if message is not None:
        with pytest.raises(DatasetError, match=message):
            check(dataset, split_file=path, folds=folds)
        return
    assert [split.val for split in check(dataset, split_file=path, folds=folds).splits] == [
        (name,) for name in names[:count]
    ]


def test_a_faulty_split_file_is_an_error_and_no_finding(dataset):
    """It is an option of the user, not a fault of the data."""
    split = dataset / "split.json"
    split.write_text('{"train": ["cell0"], "val": ["cell77"]}')
    with pytest.raises(DatasetError, match="cell77"):
        check(dataset, split_file=split)
