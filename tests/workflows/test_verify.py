"""A model that is as it was passes; each change of a file, of the split or of the data is named."""

import json
import shutil

import pytest
import torch

from uvea.errors import ModelError
from uvea.images import read, write
from uvea.models.weights import read_weights, save_weights
from uvea.workflows.verify import SAME, Hashes, verify

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@pytest.fixture
def model(gray_model, tmp_path):
    """A copy of a trained model that may be damaged."""
    return shutil.copytree(gray_model.folder, tmp_path / "model")


def test_a_model_is_as_it_was_written(model):
    """Every file is looked at, the states, the split and the data too."""
    found = verify(model)
    assert found.ok and found.problems == ()
    assert dict(found.rows) == {
        **dict.fromkeys(
            ["history.csv", "last.safetensors", "plan.json", "postprocessing.json", "report.html", "scores.csv"], SAME
        ),
        "weights.safetensors": SAME,
        "run/": "can be read",
        "split": SAME,
        "data": SAME,
    }


@pytest.mark.parametrize("name", ["plan.json", "history.csv", "scores.csv", "report.html"])
def test_a_changed_or_lost_file_is_named(model, name):
    """One letter more, then none at all; nothing else differs."""
    whole = (model / name).read_text()
    (model / name).write_text(whole + "\n")
    (problem,) = verify(model).problems
    assert f"{name}: it is not what the training wrote" in problem.problem
    (model / name).unlink()
    if name == "plan.json":
        with pytest.raises(ModelError, match="is not a model"):
            verify(model)
    else:
        (problem,) = verify(model).problems
        assert f"{name} is not there" in problem.problem


@pytest.mark.parametrize("name", ["weights.safetensors", "last.safetensors"])
def test_changed_weights_are_noticed_even_with_a_checksum_of_their_own(model, name):
    """A flipped bit by the checksum in the file; weights of another training by the hash beside it."""
    whole = (model / name).read_bytes()
    (model / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (problem,) = verify(model).problems
    assert f"{name} is damaged" in problem.problem
    (model / name).write_bytes(whole)
    tensors, _ = read_weights(model / name)
    first = next(iter(tensors))
    save_weights(model / name, {**tensors, first: torch.nextafter(tensors[first], torch.tensor(9.0))})
    (problem,) = verify(model).problems
    assert "sha256:" in problem.problem and name in problem.problem


def test_a_damaged_state_is_named(model):
    """The one that a resumed run would start from."""
    path = model / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (problem,) = verify(model).problems
    assert str(path) in problem.problem


def test_another_split_is_named(model):
    """One case on the other side."""
    path = model / "run" / "run.json"
    facts = json.loads(path.read_text())
    facts["splits"][0]["val"].append(facts["splits"][0]["train"].pop())
    path.write_text(json.dumps(facts))
    (problem,) = verify(model).problems
    assert "split is not the one" in problem.problem


def test_data_is_looked_for_where_it_was_or_where_it_is_now(model, gray_data, tmp_path):
    """One changed pixel is named; data that is gone is said not to be checked, which is no difference."""
    moved = shutil.copytree(gray_data, tmp_path / "moved")
    assert verify(model, data=moved).ok
    image = read(moved / "images" / "case0.png")
    write(moved / "images" / "case0.png", image.with_array(image.array ^ 1), overwrite=True)
    (problem,) = verify(model, data=moved).problems
    assert f"{moved}: images or masks are not those" in problem.problem
    path = model / "run" / "run.json"
    path.write_text(path.read_text().replace(str(gray_data), str(tmp_path / "gone")))
    found = verify(model)
    assert found.ok and "not checked" in dict(found.rows)["data"] and "gone" in dict(found.rows)["data"]
    shutil.rmtree(model / "run")
    found = verify(model)
    assert found.ok and "not checked" in dict(found.rows)["data"] and "not checked" in dict(found.rows)["split"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2}', '{"formt": 1}', "\xff"])
def test_damaged_hashes_are_one_error(model, text):
    """Whatever is in the file."""
    (model / "hashes.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError, match="hashes.json is damaged") as caught:
        verify(model)
    assert "\n" not in caught.value.problem


@pytest.mark.parametrize("name", ["../other/plan.json", "/dev/zero", "run/cache/a.npy", "fold_1/../../plan.json"])
def test_names_of_other_files_are_refused(model, name):
    """A model may come from a stranger: nothing is opened beside its own files, and nothing that never ends."""
    hashes = json.loads((model / "hashes.json").read_text())
    hashes["files"][name] = "sha256:0"
    (model / "hashes.json").write_text(json.dumps(hashes))
    with pytest.raises(ModelError, match="is no file of a model"):
        verify(model)


def test_a_training_that_has_not_ended_has_nothing_to_verify(model, tmp_path):
    """The hint continues it; an empty folder is no model at all."""
    (model / "hashes.json").unlink()
    with pytest.raises(ModelError, match=r"the training has not ended.*\n.*--resume"):
        verify(model)
    with pytest.raises(ModelError, match="is not a model"):
        verify(tmp_path)


def test_equal_trainings_have_equal_hashes(gray_data, gray_model, tiny, tmp_path):
    """But for the files with times in them; another seed has other weights, other data another hash."""
    tiny(gray_data, tmp_path / "same")
    first, second = (Hashes.load(folder / "hashes.json") for folder in (gray_model.folder, tmp_path / "same"))
    assert first.model_copy(update={"files": {}}) == second.model_copy(update={"files": {}})
    assert first.files["plan.json"] == second.files["plan.json"]
    report = (gray_model.folder / "report.html").read_text()
    for value in (first.data, first.split, *first.weights.values()):
        assert value in report


def test_all_networks_of_a_cross_validation_are_verified(gray_data, tiny, tmp_path):
    """A fold that was taken away, or put there, is named."""
    tiny(gray_data, tmp_path / "m", folds=2, steps=2)
    found = verify(tmp_path / "m")
    assert found.ok and dict(found.rows)["fold_2/weights.safetensors"] == SAME
    shutil.copytree(tmp_path / "m" / "fold_2", tmp_path / "m" / "fold_3")
    assert "fold_3/weights.safetensors" in str([problem.problem for problem in verify(tmp_path / "m").problems])
    shutil.rmtree(tmp_path / "m" / "fold_3")
    (tmp_path / "m" / "fold_2" / "weights.safetensors").unlink()
    (problem,) = verify(tmp_path / "m").problems
    assert "fold_2/weights.safetensors" in problem.problem
