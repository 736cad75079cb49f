"""`load` with another engine, or in int8: made once, kept with the model, refused with figures."""

import json
import shutil
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from uvea.errors import ModelError, PlanError
from uvea.inference import engines as stage
from uvea.models.build import build_network
from uvea.models.device import Precision
from uvea.models.weights import save_weights
from uvea.workflows import engines, int8
from uvea.workflows import model as model_workflow
from uvea.workflows.events import Message
from uvea.workflows.kept import Kept
from uvea.workflows.model import load
from uvea.workflows.predict import predict_files
from uvea.workflows.workspace import Workspace


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"engine": "tensorrt"}, r"no engine 'tensorrt'\n.*auto, torch, openvino, onnxruntime"),
        ({"engine": "torch", "int8": True}, r"torch does not run int8\n.*--engine openvino"),
        ({"engine": "onnxruntime", "int8": True}, "onnxruntime does not run int8"),
        ({"engine": "openvino", "device": "cuda"}, r"openvino runs on the processor, not on cuda\n.*--device"),
        ({"int8": True, "device": "cuda"}, "int8 runs on the processor"),
    ],
)
def test_engines_that_do_not_go_together_are_refused_at_once(tmp_path, settings, words):
    """Before the model is looked at."""
    with pytest.raises(PlanError, match=words):
        load(tmp_path / "none", **settings)


@pytest.mark.parametrize("settings", [{"engine": "openvino"}, {"engine": "onnxruntime"}, {"int8": True}])
def test_an_engine_that_is_not_installed_says_what_to_install(gray_model, monkeypatch, settings):
    """And leaves nothing in the model's folder."""
    monkeypatch.setattr(stage, "find_spec", lambda package: None)
    with pytest.raises(ModelError, match=r"is not installed|are not installed") as caught:
        load(gray_model.folder, **settings)
    assert "pip install 'uvea[" in caught.value.hint
    assert not (gray_model.folder / "run" / "engines").exists()


def test_auto_is_torch(gray_model, gray_data):
    """With or without other engines installed."""
    image = gray_data / "images" / "case0.png"
    np.testing.assert_array_equal(load(gray_model.folder, engine="auto").predict(image), gray_model.predict(image))
    np.testing.assert_array_equal(load(gray_model.folder, engine="torch").predict(image), gray_model.predict(image))


def test_it_is_said_that_norms_look_at_tiles_in_other_engines(gray_model, tmp_path, monkeypatch):
    """Where they look at anything: those of a batch have done so in training."""
    monkeypatch.setattr(engines, "openvino_network", lambda space, network, plan, *, listen: network)
    for norm, warnings in (("instance", 1), ("batch", 0)):
        folder, told = shutil.copytree(gray_model.folder, tmp_path / norm), []
        plan = gray_model.plan.model_copy(update={"norm": norm})
        Workspace(folder).save_plan(plan)
        save_weights(folder / "weights.safetensors", build_network(plan).state_dict(), {})
        load(folder, engine="openvino", listen=told.append)
        said = [event.text for event in told if isinstance(event, Message) and "looks at each tile" in event.text]
        assert len(said) == warnings, norm


@pytest.fixture
def model_copy(gray_model, tmp_path):
    """A model folder to write to."""
    return shutil.copytree(gray_model.folder, tmp_path / "model")


def need(engine):
    """Skip where the packages of an engine are not there."""
    if missing := [package for package in stage.NEEDED[engine] if find_spec(package) is None]:
        pytest.skip(f"needs {', '.join(missing)} of the extra {stage.EXTRAS[engine]}")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_engine_gives_the_masks_of_torch_and_is_kept(model_copy, gray_model, rng, engine, monkeypatch):
    """The plan says float32, the image is one tile. The second time nothing is converted."""
    need(engine)
    told = []
    image = rng.integers(0, 255, (24, 24), dtype=np.uint8)
    model = load(model_copy, engine=engine, listen=told.append)
    np.testing.assert_allclose(model.probabilities(image), gray_model.probabilities(image), atol=1e-4)
    np.testing.assert_allclose(
        model.probabilities(image, mirror=True), gray_model.probabilities(image, mirror=True), atol=1e-4
    )
    (kept,) = (model_copy / "run" / "engines").iterdir()
    assert kept.name.startswith(f"{engine}-")
    assert json.loads((kept / "facts.json").read_text())["mean difference"] < 1e-4
    load(model_copy, engine=engine, listen=told.append)
    assert len([event for event in told if isinstance(event, Message) and "converting" in event.text]) == 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_engine_whose_result_is_another_is_refused_with_figures(model_copy, engine, monkeypatch):
    """Compared before it is used, and not kept."""
    need(engine)
    monkeypatch.setattr(engines, "difference", lambda *args: stage.Difference(mean=0.3, labels=0.4))
    with pytest.raises(ModelError, match=r"0\.3 apart \(at most 0.01 is allowed\) and 40.0% .*\n.*--engine torch"):
        load(model_copy, engine=engine)
    assert not list((model_copy / "run" / "engines").iterdir())


def test_a_model_folder_that_cannot_be_written_is_no_obstacle(model_copy, gray_data, monkeypatch):
    """It is converted each time, and that is said."""
    need("openvino")

    def refuse(*args):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(engines, "kept", refuse)
    told = []
    load(model_copy, engine="openvino", listen=told.append).predict(gray_data / "images" / "case0.png")
    warnings = [event.text for event in told if event.level == "warning"]
    assert len([text for text in warnings if "Read-only file system; the network will be converted" in text]) == 1


def test_int8_is_used_when_validation_dice_stays_and_is_kept(model_copy, gray_data, tmp_path, monkeypatch):
    """The figures are kept with it; the data is not needed a second time."""
    need("int8")
    monkeypatch.setattr(int8, "MOST_LOST", {"Dice": 1.0})
    told = []
    load(model_copy, int8=True, listen=told.append)
    (folder,) = (model_copy / "run" / "engines").iterdir()
    facts = json.loads((folder / "facts.json").read_text())
    assert folder.name.startswith("int8-") and facts["validation cases"] >= 1
    run = model_copy / "run" / "run.json"
    run.unlink()
    again = []
    model = load(model_copy, int8=True, listen=again.append)
    (said,) = [event.text for event in again if isinstance(event, Message) and "int8: " in event.text]
    assert f"Dice {facts['Dice in int8']:.4f} on" in said and f"{facts['Dice']:.4f} without" in said
    masks = predict_files(model, gray_data / "images", out=tmp_path / "masks")
    assert len(masks) == 6
    assert model.probabilities(gray_data / "images" / "case0.png").shape == (2, 20, 24)


def test_int8_that_costs_dice_is_refused_with_the_figures_each_time(model_copy, monkeypatch):
    """Found once, said again without another calibration; the hint has the way to try again."""
    need("int8")
    scores = iter([{"Dice": 0.9}, {"Dice": 0.8971}])
    monkeypatch.setattr(int8, "_scores", lambda *args, **kwargs: next(scores))
    for _ in range(2):
        with pytest.raises(
            ModelError,
            match=r"int8 is refused: .* from 0.9000 to 0.8971, by more than 0.002\n.*without --int8; .* remove .*int8-",
        ):
            load(model_copy, int8=True)


def test_int8_of_objects_is_judged_by_their_ap_too(object_model, tmp_path, monkeypatch):
    """As much of it as the training said is there without int8; what costs objects is refused."""
    need("int8")
    model = shutil.copytree(object_model.folder, tmp_path / "model")
    monkeypatch.setattr(int8, "MOST_LOST", {"Dice": 1.0, "mean AP": -1.0})
    with pytest.raises(ModelError, match="int8 is refused: it lowers the mean AP of"):
        load(model, int8=True)
    (facts,) = (model / "run" / "engines").rglob("facts.json")
    found = json.loads(facts.read_text())
    trials = json.loads((model / "postprocessing.json").read_text())["trials"]
    assert found["mean AP"] == pytest.approx(max(trial["score"] for trial in trials), abs=0.01)


def test_int8_without_its_data_says_where_it_was(model_copy):
    """Moved away, or a model that came without its run."""
    need("int8")
    run = model_copy / "run" / "run.json"
    facts = json.loads(run.read_text())
    run.write_text(json.dumps({**facts, "source": "/nowhere/cells"}))
    with pytest.raises(ModelError, match=r"no longer at /nowhere/cells; int8 needs the training images.*\n.*--int8"):
        load(model_copy, int8=True)
    run.unlink()
    with pytest.raises(ModelError, match=r"run.json.*; int8 needs the training images"):
        load(model_copy, int8=True)
    assert not list((model_copy / "run" / "engines").iterdir())


def test_int8_that_is_refused_on_a_processor_is_refused_there_again(gray_model, tmp_path, monkeypatch):
    """Compiling leaves a folder behind, be the network right or not; what was right is not compared again."""
    monkeypatch.setattr(int8, "require", lambda what: None)
    monkeypatch.setattr(int8, "import_quietly", lambda package: SimpleNamespace(__version__="1"))
    monkeypatch.setattr(int8, "openvino_precision", lambda plan: "float32")
    facts = {"Dice": 0.9, "Dice in int8": 0.9, "validation cases": 1, "mean difference": 0.0}
    monkeypatch.setattr(int8, "kept", lambda folder, make: facts)
    monkeypatch.setattr(
        int8.openvino_engine,
        "compile_for_cpu",
        lambda model, *, precision, cache: cache.mkdir(parents=True, exist_ok=True),
    )
    found = iter([0.3, 0.3, 0.0])
    monkeypatch.setattr(int8, "difference", lambda *args: stage.Difference(mean=next(found), labels=0.0))

    def make():
        space, network = Workspace(tmp_path), gray_model.networks[0]
        int8.int8_network(space, 0, network, gray_model.plan, run=space, listen=lambda event: None)

    for _ in range(2):
        with pytest.raises(ModelError, match=r"in int8 does not compute what PyTorch computes: .* 0\.3 apart"):
            make()
    make()
    make()
    assert next(found, None) is None


@pytest.fixture
def two_of_three(model_copy):
    """A model of three folds; the weights of the second are lost."""
    for number in (1, 2, 3):
        fold = Workspace(model_copy).fold(number)
        fold.folder.mkdir()
        for name in ("weights.safetensors", "scores.csv"):
            shutil.copy(model_copy / name, fold.folder)
    fold = Workspace(model_copy).fold(2)
    fold.weights.unlink()
    kept = Kept.load(Workspace(model_copy).run_facts)
    kept.model_copy(update={"splits": kept.splits * 3}).save(Workspace(model_copy).run_facts)
    return model_copy


def test_a_fold_without_weights_is_warned_of_once(two_of_three, gray_data, tmp_path):
    """Where its training has not ended, whoever predicts warns of that, and how many networks there are is told."""
    told = []
    model = load(two_of_three, listen=told.append)
    assert len(model.networks) == 2
    (said,) = told
    assert said.level == "warning"
    assert said.text == f"{two_of_three} has no weights of 'fold_2': the mean of 2 of 3 networks is used"
    shutil.rmtree(two_of_three / "fold_2")
    told.clear()
    predict_files(two_of_three, gray_data / "images", out=tmp_path / "masks", listen=told.append)
    first, second = (event for event in told if isinstance(event, Message))
    assert (first.level, first.text) == ("info", said.text)
    assert second.level == "warning" and "has not ended" in second.text


def test_int8_is_calibrated_on_the_cases_of_its_own_fold(two_of_three, monkeypatch):
    """The third fold is the third also where the second has no weights; a model without folds is the first."""
    numbers = []
    monkeypatch.setattr(
        int8, "int8_network", lambda space, number, network, *args, **kwargs: numbers.append(number) or network
    )
    load(two_of_three, int8=True)
    assert numbers == [0, 2]
    for number in (1, 2, 3):
        shutil.rmtree(two_of_three / f"fold_{number}")
    load(two_of_three.rename(two_of_three.with_name("fold_9")), int8=True)
    assert numbers == [0, 2, 0]


def test_a_gpu_is_asked_for_its_free_memory_at_each_image(monkeypatch):
    """What is free on the processor was measured once, and says nothing about a GPU."""
    monkeypatch.setattr(model_workflow, "free_on_gpu", lambda device: (device.type, device.index))
    precision = Precision(dtype="float32", channels_last=False, reason="")
    assert model_workflow.engine_for(precision, torch.device("cuda:1")).free() == ("cuda", 1)
    assert model_workflow.engine_for(precision, torch.device("cpu")).free is None
