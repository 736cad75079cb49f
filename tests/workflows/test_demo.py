"""The demo goes the whole way, and never touches what is not its own."""

import re
import time

import pytest

from uvea.errors import OutputError, PlanError
from uvea.workflows import demo as workflow
from uvea.workflows.demo import demo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@pytest.fixture
def small(monkeypatch):
    """Images of 32×32, few of them, and the network of the other tests here."""
    real_write, real_train = workflow.write_dataset, workflow.train
    settings = {"width": "4,8", "patch": "16,16", "batch": "2", "precision": "float32"}
    monkeypatch.setattr(workflow, "IMAGES", 6)
    monkeypatch.setattr(workflow, "TESTS", 2)
    monkeypatch.setattr(workflow, "write_dataset", lambda *args, **kw: real_write(*args, **kw, size=(32, 32)))
    monkeypatch.setattr(workflow, "train", lambda *args, **kw: real_train(*args, **kw, overrides=settings))


def test_the_demo_leaves_data_model_masks_and_scores(small, tmp_path):
    """And says where they are and how good; a second time only when asked to overwrite."""
    result = demo(tmp_path / "demo", steps=2)
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["data", "masks", "model", "scores", "test"]
    assert len(list((tmp_path / "demo" / "data" / "images").iterdir())) == 6
    names = ["nuclei_000.png", "nuclei_001.png"]
    assert sorted(path.name for path in (tmp_path / "demo" / "masks").iterdir()) == names
    assert 0 <= result.dice <= 1
    assert result.report.exists() and result.scores.exists()
    with pytest.raises(OutputError, match="is not empty"):
        demo(tmp_path / "demo", steps=2)
    assert demo(tmp_path / "demo", steps=2, overwrite=True).dice == result.dice


@pytest.mark.long
def test_the_demo_takes_less_than_three_minutes_and_comes_to_a_good_model(tmp_path):
    """As it is typed, on the machine that this runs on."""
    began = time.monotonic()
    result = demo(tmp_path / "demo")
    assert time.monotonic() - began < 180
    assert result.dice >= 0.90
    assert "nuclei_000" in result.scores.read_text()


def test_images_of_the_user_are_not_taken_for_the_demo(tmp_path):
    """They would be trained on, also those in sub-folders, whatever they are called."""
    images = tmp_path / "data" / "images"
    for path in (images / "mine.png", images / "sub" / "deep" / "mine.png", images / "sub" / "nuclei_000.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        with pytest.raises(OutputError, match=rf"{re.escape(str(path))} is no part of a demo"):
            demo(tmp_path, overwrite=True)
        path.unlink()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_cannot_work_is_said_before_anything_is_made(tmp_path):
    """A file as folder, and a budget of nothing."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        demo(tmp_path / "file")
    with pytest.raises(PlanError, match="trains nothing"):
        demo(tmp_path / "new", minutes=0)
    assert not (tmp_path / "new").exists()
