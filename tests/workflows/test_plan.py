"""The plan workflow: from a folder to decisions, without training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from uvea.errors import DatasetError, PlanError
from uvea.images import Image, read, write
from uvea.plan.budget import Budget
from uvea.workflows.plan import data_hash, plan


@pytest.fixture
def data(cases, tmp_path) -> Path:
    """Six gray images of 20×24."""
    return cases(tmp_path / "data")


def test_a_folder_becomes_a_plan_and_a_split(data):
    """With what the user said in it."""
    report = plan(data, budget=Budget(steps=7), overrides={"batch": "3"}, seed=5, device="cpu")
    assert (report.plan.dims, report.plan.batch, report.plan.steps, report.plan.seed) == (2, 3, 7, 5)
    assert report.plan.fingerprint.cases == 6
    (split,) = report.splits
    assert len(split.train + split.val) == 6
    assert report.findings == report.check.findings


@pytest.mark.parametrize(
    "said",
    [
        {"patch": "16,8", "ema": "0.1234567", "width": "4,8", "strides": "2,2", "rotate90": "no", "spacing": "none"},
        {"patch": (16, 8), "ema": 0.1234567, "width": [4, 8], "strides": ((2, 2),), "rotate90": False, "spacing": None},
    ],
)
def test_settings_may_be_said_as_text_or_as_values(data, said):
    """Text is what the command line has; a program has numbers."""
    made = plan(data, overrides=said, device="cpu").plan
    assert (made.patch, made.ema, made.width, made.strides) == ((16, 8), 0.1234567, (4, 8), ((2, 2),))
    assert (made.rotate90, made.spacing) == (False, None)


def test_folds_of_the_user_are_the_splits(data):
    """From a JSON list, one per fold."""
    names = [f"case{number}" for number in range(6)]
    wanted = [{"train": names[2:], "val": names[:2]}, {"train": names[:4], "val": names[4:]}]
    path = data / "folds.json"
    path.write_text(json.dumps(wanted))
    report = plan(data, split_file=path, folds=2, device="cpu")
    assert [list(split.val) for split in report.splits] == [names[:2], names[4:]]
    assert len(plan(data, folds=3, device="cpu").splits) == 3


def test_faulty_data_makes_no_plan(data):
    """The first error, how many more there are, and where to see them."""
    for number in (1, 2):
        write(
            data / "masks" / f"case{number}.png", Image(array=np.zeros((1, 5, 5), np.uint8), axes="yx"), overwrite=True
        )
    (data / "images" / "case3.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"\(and 1 more\)\n.*`uvea check .*data` lists everything"):
        plan(data, device="cpu")


def test_a_device_that_is_not_there_is_refused_before_the_data_is_read(data):
    """Reading may take minutes."""
    with pytest.raises(PlanError, match="no device 'quark'"):
        plan(data, device="quark", listen=lambda event: pytest.fail("it began to read"))


def test_settings_that_do_not_exist_make_no_plan(data):
    """By name."""
    with pytest.raises(PlanError, match="no setting called 'pach'"):
        plan(data, overrides={"pach": "64,64"}, device="cpu")


def test_the_name_of_the_data_changes_with_any_pixel(data, tmp_path):
    """Of an image or a mask, and not with the folder."""
    before = data_hash(plan(data, device="cpu").check.survey)
    shutil.copytree(data, tmp_path / "copy")
    assert data_hash(plan(tmp_path / "copy", device="cpu").check.survey) == before
    for part in ("images", "masks"):
        path = data / part / "case2.png"
        pixels = read(path).array.copy()
        pixels[0, 0, 0] = 255 - pixels[0, 0, 0]
        write(path, Image(array=pixels, axes="yx"), overwrite=True)
        after = data_hash(plan(data, device="cpu").check.survey)
        assert after != before
        before = after
