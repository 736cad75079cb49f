"""A training end to end on tiny data: what it writes, how it stops, and how it goes on."""

import csv
import errno
import itertools
import json
import os
import shutil
import signal
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from uvea.cli import commands
from uvea.datasets.case import DataOptions
from uvea.datasets.survey import CaseFacts
from uvea.errors import DatasetError, ImageError, ModelError, OutputError, PlanError
from uvea.images import read, write
from uvea.images.image import Image
from uvea.models.device import describe_machine
from uvea.models.weights import read_weights
from uvea.training.average import Average
from uvea.workflows import crew, validation
from uvea.workflows import train as workflow
from uvea.workflows.events import Message, Progress
from uvea.workflows.kept import Kept
from uvea.workflows.model import load
from uvea.workflows.train import resume
from uvea.workflows.verify import Hashes
from uvea.workflows.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


def files_in(folder: Path) -> set[str]:
    """Paths of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


MODEL_FILES = {
    "plan.json",
    "weights.safetensors",
    "last.safetensors",
    "postprocessing.json",
    "history.csv",
    "scores.csv",
    "report.html",
    "hashes.json",
}
RUN_FILES = {"run/run.json", "run/checkpoint.safetensors", "run/checkpoint.previous.safetensors"}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    """The best and the last weights of a model, by name."""
    found = {}
    for name in ("weights", "last"):
        tensors, _ = read_weights(folder / f"{name}.safetensors")
        found |= {f"{name} {key}": tensor for key, tensor in tensors.items()}
    return found


def assert_equal(first: Path, second: Path) -> None:
    """Two models have the same weights to the last bit."""
    one, other = weights_in(first), weights_in(second)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def at(task: str, done: float, action):
    """A listener that acts once, when a task has come so far."""
    heard = []

    def listen(event):
        if isinstance(event, Progress) and event.task == task and event.done == done and not heard:
            heard.append(event)
            action()

    return listen


def interrupt():
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def test_a_training_writes_its_files_and_nothing_else(gray_model):
    """No temporary file stays, nor a cache."""
    assert files_in(gray_model.folder) == MODEL_FILES | RUN_FILES
    rows = rows_of(gray_model.folder / "history.csv")
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert all(0 <= float(row["val_dice"]) <= 1 for row in rows)
    assert {row["metric"] for row in rows_of(gray_model.folder / "scores.csv")} >= {"dice", "iou"}
    assert (gray_model.folder / "report.html").read_text().startswith("<!")


def test_the_model_returned_is_the_model_on_disk(gray_model, gray_data):
    """Loaded again, it gives the same probabilities."""
    path = gray_data / "images" / "case0.png"
    np.testing.assert_array_equal(load(gray_model.folder).probabilities(path), gray_model.probabilities(path))


def test_a_compiled_training_gives_the_same_model(gray_data, gray_model, tiny, tmp_path, monkeypatch):
    """Up to rounding; traced only, for making kernels takes a minute."""
    made = []
    trace_only = partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", lambda network, **settings: made.append(1) or trace_only(network, **settings))
    usual = {"width": "4,8", "patch": "16,16", "batch": "2", "precision": "float32", "tile": "24,24", "overlap": "4,4"}
    model = tiny(gray_data, tmp_path / "model", overrides={**usual, "compiled": "yes"})
    assert made == [1]
    for one, other in zip(model.networks[0].parameters(), gray_model.networks[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_one_seed_gives_one_model(gray_data, gray_model, tiny, tmp_path):
    """To the last bit; another seed gives another. The random numbers of others are left to them."""
    before = torch.get_rng_state()
    tiny(gray_data, tmp_path / "same")
    load(tmp_path / "same")
    assert torch.equal(torch.get_rng_state(), before)
    assert_equal(gray_model.folder, tmp_path / "same")
    tiny(gray_data, tmp_path / "other", seed=1)
    assert not torch.equal(
        weights_in(tmp_path / "other")["last heads.0.bias"], weights_in(gray_model.folder)["last heads.0.bias"]
    )


def test_the_listener_hears_of_every_part_in_order(gray_data, tiny, tmp_path):
    """Each task ends with done equal to total."""
    events = []
    tiny(gray_data, tmp_path / "m", listen=events.append)
    last = {event.task: event for event in events if isinstance(event, Progress)}
    assert list(last) == ["reading the data", "preparing the images", "training", "scoring the validation cases"]
    assert all(event.done == event.total for event in last.values())
    assert set(last["training"].figures) == {"loss", "val Dice"}
    assert isinstance(events[-1], Message) and "validation Dice" in events[-1].text


def test_no_thread_and_no_handler_stays(gray_data, tiny, tmp_path):
    """A program that trains in between keeps its own Ctrl-C."""
    before, threads = signal.getsignal(signal.SIGINT), threading.active_count()
    tiny(gray_data, tmp_path / "m")
    assert signal.getsignal(signal.SIGINT) is before
    assert threading.active_count() == threads


def test_epochs_become_steps(gray_data, tiny, tmp_path):
    """Five training images of 20×24 are 2×2 patches of 16×16 each: 20 patches, 10 batches of two."""
    tiny(gray_data, tmp_path / "m", steps=None, epochs=1)
    assert rows_of(tmp_path / "m" / "history.csv")[-1]["step"] == "10"


def test_an_epoch_is_a_step_at_least(gray_data, tiny, tmp_path):
    """Three epochs of 20 patches in batches of 32 are three steps, not two."""
    tiny(gray_data, tmp_path / "m", steps=None, epochs=3, overrides={"batch": 32})
    assert rows_of(tmp_path / "m" / "history.csv")[-1]["step"] == "3"


def test_minutes_become_steps_and_end_in_time(gray_data, tiny, tmp_path, monkeypatch):
    """Two seconds in all: a model whose learning rate has come down, unless the machine was held up."""
    monkeypatch.setattr(workflow, "ENDING_SECONDS", 0.5)
    tiny(gray_data, tmp_path / "m", steps=None, minutes=2 / 60)
    rows = rows_of(tmp_path / "m" / "history.csv")
    assert int(rows[-1]["step"]) >= 2
    assert len(rows) <= 14
    assert float(rows[-1]["lr"]) < 0.003


def test_a_class_has_the_value_it_had(gray_model, gray_data, rgb_model, volume_model, rng):
    """0 and 255; black and red; 0, 1 and 2 — in the smallest type."""
    gray = gray_model.predict(gray_data / "images" / "case0.png")
    assert gray.shape == (20, 24) and gray.dtype == np.uint8
    assert set(np.unique(gray)) <= {0, 255}
    red = rgb_model.predict(rng.integers(0, 255, (3, 9, 9), dtype=np.uint8))
    assert red.shape == (3, 9, 9)
    assert (red[1:] == 0).all() and set(np.unique(red[0])) <= {0, 255}
    volume = volume_model.predict(rng.integers(0, 255, (10, 20, 24), dtype=np.uint8))
    assert volume.shape == (10, 20, 24) and set(np.unique(volume)) <= {0, 1, 2}


def test_a_volume_model_knows_its_two_classes(volume_model):
    """NIfTI in mm, trained in three dimensions."""
    plan = volume_model.plan
    assert (plan.dims, plan.classes, plan.unit) == (3, 3, "mm")
    assert plan.fingerprint.spacing_median == (2.0, 1.0, 1.0)


def test_spacings_that_differ_are_scored_on_their_own_grids(cases, tiny, tmp_path):
    """Half of the volumes have pixels twice as fine: the plan resamples, masks are compared as they were read."""
    data = cases(tmp_path / "data", kind="volume", size=(8, 16, 16))
    for path in sorted((data / "images").iterdir())[::2]:
        for part in ("images", "masks"):
            image = read(data / part / path.name)
            fine = image.array.repeat(2, axis=2).repeat(2, axis=3)
            write(
                data / part / path.name,
                Image(array=fine, axes="zyx", spacing=(2.0, 0.5, 0.5), unit="mm", origin=image.origin),
                overwrite=True,
            )
    model = tiny(data, tmp_path / "m", overrides={"width": "4,8", "batch": "2", "precision": "float32"})
    assert model.plan.spacing is not None
    for path in sorted((data / "images").iterdir())[:2]:
        assert model.predict(path).shape == read(path).shape
    assert {row["case"] for row in rows_of(tmp_path / "m" / "scores.csv")} <= {f"case{number}" for number in range(6)}


@pytest.mark.parametrize("step", [1, 3, 7, 11])
def test_an_interrupted_training_goes_on_to_the_same_weights(gray_data, tiny, tmp_path, step):
    """Ctrl-C after any step of twelve; resumed, the best and last weights are those of an unbroken run."""
    tiny(gray_data, tmp_path / "whole", steps=12)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", steps=12, listen=at("training", step, interrupt))
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "m" / "run" / "checkpoint.safetensors").exists()
    resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")
    assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES


def test_a_resumed_training_needs_no_weights_to_start_from(gray_data, tiny, tmp_path, monkeypatch):
    """Those of an older version may be gone: the checkpoint has all that was learnt."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", listen=at("training", 2, interrupt))
    monkeypatch.setattr(workflow, "start_from", None)
    resume(tmp_path / "m")
    assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES


def test_an_interruption_at_the_last_step_is_not_forgotten(gray_data, tiny, tmp_path):
    """The training was done, the rest was not: it stops, and is finished when resumed."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", listen=at("training", 4, interrupt))
    assert not (tmp_path / "m" / "scores.csv").exists()
    resume(tmp_path / "m")
    assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES


@pytest.mark.parametrize("number", [1, 2])
def test_a_second_interruption_ends_a_validation_at_once(gray_data, tiny, tmp_path, monkeypatch, number):
    """The step before it is kept, and the validation is made when the run goes on."""
    tiny(gray_data, tmp_path / "whole", steps=12)
    real, calls = workflow.score_cases, []

    def score(*args, **kwargs):
        calls.append(0)
        if len(calls) == number:
            interrupt()
            interrupt()
            pytest.fail("went on after the second Ctrl-C")
        return real(*args, **kwargs)

    monkeypatch.setattr(workflow, "score_cases", score)
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", steps=12)
    _, words = read_weights(tmp_path / "m" / "run" / "checkpoint.safetensors")
    assert json.loads(words["progress"])["step"] == number
    assert len(json.loads(words["progress"])["history"]) == number - 1
    resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")


@pytest.mark.parametrize("task", ["preparing the images", "scoring the validation cases"])
def test_an_interruption_outside_of_the_loop_can_be_resumed(gray_data, tiny, tmp_path, task):
    """While images are prepared, and while the end is scored."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", listen=at(task, 1, interrupt))
    resume(tmp_path / "m")
    assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES


def test_an_interruption_while_reading_leaves_nothing(gray_data, tiny, tmp_path):
    """Not even the folder: the same command can be given again."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", listen=at("reading the data", 1, interrupt))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("number", "after"), [(3, False), (3, True), (12, False), (12, True)])
def test_a_death_while_saving_can_be_resumed(gray_data, tiny, tmp_path, monkeypatch, number, after):
    """Just before or after a checkpoint: it never knows of best weights that were not written."""
    tiny(gray_data, tmp_path / "whole", steps=12)
    real, calls = workflow.Workspace.save_checkpoint, []

    def die(space, packed):
        calls.append(0)
        if len(calls) == number and not after:
            raise SystemExit
        real(space, packed)
        if len(calls) == number:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(workflow.Workspace, "save_checkpoint", die)
        with pytest.raises(SystemExit):
            tiny(gray_data, tmp_path / "m", steps=12)
    resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(gray_data, tiny, tmp_path):
    """The end is the same, with more steps to do again."""
    tiny(gray_data, tmp_path / "whole", steps=12)
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", steps=12, listen=at("training", 7, interrupt))
    checkpoint = tmp_path / "m" / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    events = []
    resume(tmp_path / "m", listen=events.append)
    warnings = [event.text for event in events if isinstance(event, Message) and event.level == "warning"]
    assert any("the state before it is used" in text for text in warnings)
    assert_equal(tmp_path / "whole", tmp_path / "m")


def test_a_resumed_run_keeps_the_precision_it_was_begun_in(gray_data, tiny, tmp_path, monkeypatch):
    """Measured again it might come out otherwise, and so would the weights."""
    settings = {"width": "4,8", "patch": "16,16", "batch": "2"}
    chosen = []

    def choose(plan, network, device, **kwargs):
        chosen.append(0)
        return workflow.Precision(dtype="float32", channels_last=len(chosen) == 1, reason="")

    monkeypatch.setattr(workflow, "choose", choose)
    tiny(gray_data, tmp_path / "whole", steps=12, overrides=settings)
    chosen.clear()
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", steps=12, overrides=settings, listen=at("training", 5, interrupt))
    resume(tmp_path / "m")
    assert len(chosen) == 1
    assert_equal(tmp_path / "whole", tmp_path / "m")


def test_a_finished_training_is_resumed_to_itself(gray_data, tiny, tmp_path):
    """Nothing is trained again."""
    tiny(gray_data, tmp_path / "m")
    before = (tmp_path / "m" / "last.safetensors").read_bytes()
    model = resume(tmp_path / "m", listen=lambda event: _refuse_training(event))
    assert (tmp_path / "m" / "last.safetensors").read_bytes() == before
    assert model.folder == tmp_path / "m"


def _refuse_training(event):
    if isinstance(event, Progress) and event.task == "training":
        pytest.fail("trained again")


def test_a_resumed_training_leaves_random_numbers_to_others(gray_model, tmp_path):
    """A state has those of torch, which are put back at the end."""
    shutil.copytree(gray_model.folder, tmp_path / "m")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    resume(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), before)


def test_an_older_model_stays_where_a_training_cannot_be_noted_down(gray_data, gray_model, tiny, tmp_path, monkeypatch):
    """What could fail has been tried before it is removed."""

    def fail(kept):
        raise TypeError("no JSON")

    shutil.copytree(gray_model.folder, tmp_path / "m")
    monkeypatch.setattr(Kept, "text", fail)
    with pytest.raises(TypeError, match="no JSON"):
        tiny(gray_data, tmp_path / "m", overwrite=True)
    assert_equal(gray_model.folder, tmp_path / "m")


def test_numbers_of_numpy_train(gray_data, tiny, tmp_path):
    """As options of the data and as a seed; what is kept of them is read again."""
    options = DataOptions(ignore_value=np.int64(7))
    tiny(gray_data, tmp_path / "m", options=options, seed=np.int64(3), steps=np.int64(1))
    assert Kept.load(Workspace(tmp_path / "m").run_facts).options == options
    with pytest.raises(PlanError, match="seed is 1.5"):
        tiny(gray_data, tmp_path / "n", seed=1.5)


def test_a_model_whose_data_is_gone_is_not_offered_to_be_resumed(gray_model, tmp_path):
    """As that of arrays, which were written for as long as the training lasted."""
    shutil.copytree(gray_model.folder, tmp_path / "m")
    (tmp_path / "m" / "weights.safetensors").unlink()
    facts = Workspace(tmp_path / "m").run_facts
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "source": str(tmp_path / "gone")}))
    with pytest.raises(ModelError, match=r"no weights yet\n  Try: train it again"):
        load(tmp_path / "m")


def test_changed_data_cannot_be_resumed(cases, tiny, tmp_path):
    """One pixel of one mask."""
    data = cases(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        tiny(data, tmp_path / "m", listen=at("training", 2, interrupt))
    mask = read(data / "masks" / "case0.png")
    array = mask.array.copy()
    array[0, 0, 0] = 255 - array[0, 0, 0]
    write(data / "masks" / "case0.png", mask.with_array(array), overwrite=True)
    with pytest.raises(ModelError, match=r"changed since .*\n.*--overwrite"):
        resume(tmp_path / "m")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"options": 3}', '{"format": 2, "options": 3}', '{"format": 1}'])
def test_a_damaged_run_file_is_one_error(gray_data, tiny, tmp_path, text):
    """With the way out."""
    tiny(gray_data, tmp_path / "m")
    (tmp_path / "m" / "run" / "run.json").write_text(text)
    with pytest.raises(ModelError, match="--overwrite"):
        resume(tmp_path / "m")


def test_what_is_no_run_cannot_be_resumed(tmp_path):
    """Neither nothing nor an empty folder."""
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(ModelError, match="no run to resume"):
            resume(folder)


def test_options_of_the_data_come_back_when_resumed(gray_data, tiny, tmp_path):
    """Names and left-out files are part of the run."""
    options = DataOptions(label_names=("back", "thing"), skip=("case5*",))
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", options=options, listen=at("training", 2, interrupt))
    model = resume(tmp_path / "m")
    assert model.plan.labels.names == ("back", "thing")
    assert model.plan.fingerprint.cases == 5


def test_an_existing_model_is_refused_before_the_data_is_read(gray_data, gray_model, tiny, tmp_path):
    """The hint names the command that goes on; nothing is touched."""
    before = files_in(gray_model.folder)
    with pytest.raises(OutputError, match=r"is not empty.*\n.*--resume"):
        tiny(tmp_path / "no data here", gray_model.folder)
    assert files_in(gray_model.folder) == before


def test_overwrite_replaces_a_model_and_its_folds(gray_data, tiny, tmp_path):
    """Old folds would otherwise take part in the prediction."""
    tiny(gray_data, tmp_path / "m", folds=2, steps=2)
    model = tiny(gray_data, tmp_path / "m", overwrite=True)
    assert len(model.networks) == 1
    assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES
    assert not (tmp_path / "m" / "fold_1").exists()


def test_overwrite_leaves_a_model_alone_until_the_new_plan_stands(gray_data, tiny, tmp_path):
    """A misspelt setting costs nothing."""
    tiny(gray_data, tmp_path / "m")
    before = files_in(tmp_path / "m")
    with pytest.raises(PlanError, match="pacth"):
        tiny(gray_data, tmp_path / "m", overwrite=True, overrides={"pacth": "16,16"})
    with pytest.raises(DatasetError):
        tiny(tmp_path / "nowhere", tmp_path / "m", overwrite=True)
    assert files_in(tmp_path / "m") == before


def test_a_folder_with_other_things_is_never_overwritten(gray_data, tiny, tmp_path):
    """Not even with --overwrite."""
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(OutputError, match=r"no part of a model \(thesis.txt\)"):
        tiny(gray_data, tmp_path, overwrite=True)
    assert files_in(tmp_path) == {"thesis.txt"}


@pytest.mark.parametrize("name", ["file", "file/model"])
def test_an_out_that_is_a_file_is_refused(gray_data, tiny, tmp_path, name):
    """Or a folder in a file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        tiny(gray_data, tmp_path / name)


def test_folds_train_a_network_each_and_predict_with_their_mean(gray_data, tiny, tmp_path):
    """Every case is validated once; the mean of the probabilities is that of the two models."""
    model = tiny(gray_data, tmp_path / "m", folds=2)
    assert len(model.networks) == 2
    assert (tmp_path / "m" / "report.html").exists()
    assert {row["case"] for row in rows_of(tmp_path / "m" / "scores.csv")} == {f"case{number}" for number in range(6)}
    image = gray_data / "images" / "case1.png"
    alone = []
    for fold in (1, 2):
        folder = tmp_path / "m" / f"fold_{fold}"
        (folder / "plan.json").write_text((tmp_path / "m" / "plan.json").read_text())
        alone.append(load(folder).probabilities(image))
    np.testing.assert_allclose(model.probabilities(image), (alone[0] + alone[1]) / 2, atol=1e-6)


def test_interrupted_folds_go_on_with_the_fold_they_were_in(gray_data, tiny, tmp_path):
    """The first is not trained again, the second continues; the weights are those of an unbroken run."""
    tiny(gray_data, tmp_path / "whole", folds=2)
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", folds=2, listen=at("fold 2 of 2", 2, interrupt))
    steps = []
    resume(tmp_path / "m", listen=lambda e: steps.append((e.task, e.done)) if isinstance(e, Progress) else None)
    assert [step for step in steps if step[0].startswith("fold")] == [("fold 2 of 2", 3), ("fold 2 of 2", 4)]
    for fold in ("fold_1", "fold_2"):
        assert_equal(tmp_path / "whole" / fold, tmp_path / "m" / fold)


def test_cases_that_do_not_fit_in_memory_are_kept_in_files_while_it_trains(gray_data, gray_model, tiny, tmp_path):
    """The weights are the same, and the files are gone at the end and after an interruption."""
    seen = []

    def look(event):
        if isinstance(event, Progress) and event.task == "training":
            seen.append(len(list((tmp_path / "m" / "run" / "cache").iterdir())))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "CACHE_SHARE", 0.0)
        tiny(gray_data, tmp_path / "m", listen=look)
        assert seen == [12] * 4
        assert_equal(gray_model.folder, tmp_path / "m")
        assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES
        with pytest.raises(KeyboardInterrupt):
            tiny(gray_data, tmp_path / "n", listen=at("preparing the images", 3, interrupt))
    assert not (tmp_path / "n" / "run" / "cache").exists()


def test_a_training_works_outside_of_the_main_thread(gray_data, gray_model, tiny, tmp_path):
    """Where no signal can be caught."""
    thread = threading.Thread(target=tiny, args=(gray_data, tmp_path / "m"))
    thread.start()
    thread.join()
    assert_equal(gray_model.folder, tmp_path / "m")


def fail_at(monkeypatch, *steps, value=float("nan"), times=1):
    """Spoil the images of these steps, counted from 1, each for so many of its batches; the steps that were drawn."""
    real, drawn = workflow.sampler, []

    def sampler(*args, **kwargs):
        draw = real(*args, **kwargs)

        def spoilt(step):
            drawn.append(step)
            images, labels = draw(step)
            bad = step % workflow.AFRESH + 1 in steps and step // workflow.AFRESH < times
            return (np.full_like(images, value) if bad else images), labels

        return spoilt

    monkeypatch.setattr(workflow, "sampler", sampler)
    return drawn


def warnings_in(events):
    """What was said about the loss."""
    return [event.text for event in events if isinstance(event, Message) and event.text.startswith("the loss")]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_named_and_its_step_drawn_anew(gray_data, tiny, tmp_path, monkeypatch, value):
    """The images of the batch are named; all other steps are as they were, and the model is whole."""
    drawn, events = fail_at(monkeypatch, 7, value=value), []
    tiny(gray_data, tmp_path / "m", steps=12, checkpoint_every=1e9, listen=events.append)
    # Twelve validations, so the state before step 7 is that of step 6.
    assert set(drawn) == {*range(12), 6 + workflow.AFRESH}
    (said,) = warnings_in(events)
    assert "the loss became nan at step 7, on '" in said and "'case" in said
    assert said.endswith("going on from step 6, with another batch for step 7")
    assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES
    assert all(torch.isfinite(tensor).all() for tensor in weights_in(tmp_path / "m").values())


def test_the_memory_for_prepared_cases_is_that_of_each_of_them(cases, tiny, tmp_path, monkeypatch):
    """Five of 20×24 and one of 200×240, in 4 + 2 bytes: 302,400, which 40 % of 700,000 do not hold; three at once."""

    class Enough(Exception):
        """What is asked for is known."""

    def stop(names, prepare, *, folder, workers, **others):
        asked.append((folder is None, workers))
        raise Enough

    data, asked = cases(tmp_path / "data", count=5), []
    large = cases(tmp_path / "large", count=1, size=(200, 240))
    for part in ("images", "masks"):
        (large / part / "case0.png").rename(data / part / "case5.png")
    monkeypatch.setattr(workflow, "cache_cases", stop)
    for number, (memory, at_once) in enumerate([(700_000, 3), (800_000, 4)]):
        machine = replace(describe_machine(), memory_bytes=memory, cores=4)
        monkeypatch.setattr(workflow, "describe_machine", lambda device=None, machine=machine: machine)
        monkeypatch.setattr(crew, "_memory_bytes", lambda at_once=at_once: at_once * 6 * 6 * 200 * 240)
        with pytest.raises(Enough):
            tiny(data, tmp_path / f"m{number}")
    assert asked == [(False, 3), (True, 4)]


def test_a_case_is_as_large_as_it_is_prepared(gray_model, volume_model):
    """10×20 pixels of 2 and 1 um become 20×20 of 1 um: one channel of 4 bytes and classes of 2. In pixels it stays."""
    plan = gray_model.plan.model_copy(update={"spacing": (1.0, 1.0), "unit": "um"})
    fact = CaseFacts(name="a", shape=(10, 20), axes="yx", spacing=(2.0, 1.0), unit="um")
    assert workflow._prepared_bytes(fact, plan) == 20 * 20 * 6
    assert workflow._prepared_bytes(fact, plan.model_copy(update={"task": "objects"})) == 20 * 20 * 8
    assert workflow._prepared_bytes(replace(fact, unit="px"), plan) == 10 * 20 * 6
    assert workflow._prepared_bytes(fact, volume_model.plan) == 0


def test_the_time_is_kept_also_after_a_step_was_drawn_anew(gray_data, tiny, tmp_path, monkeypatch):
    """The loop hears then that its number of steps is no fixed one. Of a training that is resumed it is."""
    real, given = workflow.run_loop, []

    def loop(*args, validation_seconds, **kwargs):
        given.append(validation_seconds)
        return real(*args, validation_seconds=validation_seconds, **kwargs)

    monkeypatch.setattr(workflow, "run_loop", loop)
    monkeypatch.setattr(workflow, "ENDING_SECONDS", 0.5)
    with monkeypatch.context() as patch:
        fail_at(patch, 1)
        tiny(gray_data, tmp_path / "m", steps=None, minutes=3 / 60, checkpoint_every=0)
    first, second = given
    assert first is None and second is not None
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "n", steps=None, minutes=3 / 60, listen=_stop_when_known())
    given.clear()
    (_, words), _ = Workspace(tmp_path / "n").load_checkpoint()
    fail_at(monkeypatch, json.loads(words["progress"])["step"] + 1)
    resume(tmp_path / "n")
    assert given == [None, None]


def test_the_images_that_are_named_are_those_of_the_batch(gray_data, tiny, tmp_path, monkeypatch):
    """Their pixels are looked for in all cases: the patches of the step are found in those that are named."""
    real, seen, events = workflow.sampler, set(), []

    def sampler(cases, *args, **kwargs):
        draw = real(cases, *args, **kwargs)

        def watched(step):
            images, labels = draw(step)
            if step != 2:
                return images, labels
            for patch in images:
                for case in cases:
                    windows = np.lib.stride_tricks.sliding_window_view(case.image[0], patch.shape[1:])
                    if (windows == patch[0]).all(axis=(2, 3)).any():
                        seen.add(case.name)
            return np.full_like(images, np.nan), labels

        return watched

    monkeypatch.setattr(workflow, "sampler", sampler)
    tiny(gray_data, tmp_path / "m", steps=4, listen=events.append)
    (said,) = warnings_in(events)
    assert {f"case{number}" for number in range(6) if f"'case{number}'" in said} == seen and seen


@pytest.mark.parametrize("every", [0, 1e9])
def test_a_step_that_is_drawn_anew_leads_to_one_model(gray_data, tiny, tmp_path, monkeypatch, every):
    """Whenever the last state was saved, and also if the run is killed and resumed after it."""
    fail_at(monkeypatch, 30, 31)
    settings = {"steps": 40, "checkpoint_every": every}
    tiny(gray_data, tmp_path / "whole", steps=40, checkpoint_every=5e-2)
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", **settings, listen=at("training", 33, interrupt))
    resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")


def test_a_loss_that_stays_no_number_ends_the_training_with_the_reason(gray_data, tiny, tmp_path, monkeypatch):
    """After two other batches; the model of the last validation loads, and --overwrite trains anew."""
    drawn, events = fail_at(monkeypatch, 7, times=9), []
    problem = r"nan at step 7, on 'case.*2 other batches did not help; .*checkpoint.* state of step 6.*\n.*--overwrite"
    with pytest.raises(ModelError, match=problem) as caught:
        tiny(gray_data, tmp_path / "m", steps=12, listen=events.append)
    assert "\n" not in caught.value.problem and "learning_rate" in caught.value.hint
    assert {step for step in drawn if step >= workflow.AFRESH} == {6 + workflow.AFRESH, 6 + 2 * workflow.AFRESH}
    assert len(warnings_in(events)) == 2
    load(tmp_path / "m")
    with pytest.raises(ModelError, match="nan at step 7"):
        resume(tmp_path / "m")
    monkeypatch.undo()
    tiny(gray_data, tmp_path / "m", steps=12, overwrite=True)
    assert files_in(tmp_path / "m") == MODEL_FILES | RUN_FILES


def test_a_loss_that_never_was_a_number_is_one_error(gray_data, tiny, tmp_path, monkeypatch):
    """And the files that are there load."""
    monkeypatch.setattr(workflow, "_loss", lambda plan: lambda logits, labels: logits[0].sum() * float("nan"))
    with pytest.raises(ModelError, match=r"the loss became nan.*\n.*learning_rate"):
        tiny(gray_data, tmp_path / "m")
    with pytest.raises(ModelError, match=r"no weights yet.*\n.*--resume"):
        load(tmp_path / "m")


def test_a_long_validation_is_left_in_the_middle(gray_data, tiny, tmp_path, monkeypatch):
    """Ctrl-C during the third of many tiles: no more than that tile is computed, and nothing of the step is lost."""
    tiny(gray_data, tmp_path / "whole", steps=12)
    real, tiles = validation.classify_prepared, []

    def slow(networks, prepared, plan, *, shape, engine, tell):
        for _ in range(1000):
            tiles.append(0)
            if len(tiles) == 3:
                interrupt()
            with engine.autocast():
                pass
        return real(networks, prepared, plan, shape=shape, engine=engine, tell=tell)

    with monkeypatch.context() as patch:
        patch.setattr(validation, "classify_prepared", slow)
        with pytest.raises(KeyboardInterrupt):
            tiny(gray_data, tmp_path / "m", steps=12)
    assert len(tiles) == 3
    resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")


def test_a_state_is_kept_as_often_as_it_was_asked_for(gray_data, tiny, tmp_path, monkeypatch):
    """After every step; after none but those with a validation; once per epoch, as saving is cheap here."""
    kept = []
    real = workflow.Workspace.save_checkpoint
    monkeypatch.setattr(
        workflow.Workspace,
        "save_checkpoint",
        lambda space, packed: kept.append(json.loads(packed[1]["progress"])["step"]) or real(space, packed),
    )
    tiny(gray_data, tmp_path / "a", steps=40, checkpoint_every=0)
    assert sorted(set(kept)) == list(range(41))
    kept.clear()
    tiny(gray_data, tmp_path / "b", steps=40, checkpoint_every=1000)
    assert kept == [*range(0, 40, 4), 40]
    kept.clear()
    monkeypatch.setattr(workflow, "SAVING_SHARE", 1e9)
    # Five images of four patches, in batches of two: ten steps. The validations are every 17.
    tiny(gray_data, tmp_path / "c", steps=200, checkpoint_every=None)
    assert max(b - a for a, b in itertools.pairwise(kept)) == 10
    assert_equal(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("every", [-1, float("nan")])
def test_a_checkpoint_cannot_be_due_before_it_was_made(gray_data, tiny, tmp_path, every):
    """Nor at no time at all."""
    with pytest.raises(PlanError, match="--checkpoint-every is"):
        tiny(gray_data, tmp_path / "m", checkpoint_every=every)
    assert not (tmp_path / "m").exists()


def test_a_disk_that_is_too_small_is_refused_before_the_work(gray_data, tiny, tmp_path, monkeypatch):
    """With what there is and what is needed; the same for a disk that is full at the first state."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    said = r"has 0\.0 KB of space, and this training needs \d+\.\d [KM]B\n.*free some space"
    with pytest.raises(OutputError, match=said):
        tiny(gray_data, tmp_path / "m", listen=_refuse_training)
    assert not (tmp_path / "m").exists()


def test_a_disk_that_is_too_small_costs_no_older_model(gray_data, tiny, tmp_path, monkeypatch):
    """With --overwrite it is removed only after the last look at the disk."""
    tiny(gray_data, tmp_path / "m", steps=2)
    before = {name: (tmp_path / "m" / name).read_bytes() for name in files_in(tmp_path / "m")}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OutputError, match="of space"):
        tiny(gray_data, tmp_path / "m", overwrite=True)
    assert {name: (tmp_path / "m" / name).read_bytes() for name in files_in(tmp_path / "m")} == before


@pytest.mark.parametrize("step", [23, 24])
def test_what_a_listener_raises_costs_no_step(gray_data, tiny, tmp_path, step):
    """The state is kept as after Ctrl-C, and the training can be resumed; what was raised comes out."""

    def fail():
        raise ZeroDivisionError

    tiny(gray_data, tmp_path / "whole", steps=24)
    with pytest.raises(ZeroDivisionError):
        tiny(gray_data, tmp_path / "m", steps=24, listen=at("training", step, fail), checkpoint_every=1e9)
    (_, words), _ = Workspace(tmp_path / "m").load_checkpoint()
    assert json.loads(words["progress"])["step"] == step
    resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")


def test_a_full_disk_does_not_hide_what_a_listener_raised(gray_data, tiny, tmp_path, monkeypatch):
    """It came first, and it is what there is to mend."""

    def fail():
        monkeypatch.setattr(Workspace, "save_checkpoint", lambda *args: 1 / 0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        tiny(gray_data, tmp_path / "m", listen=at("training", 2, fail), checkpoint_every=1e9)


def test_two_trainings_in_one_folder_are_refused(gray_data, tiny, tmp_path):
    """They would overwrite each other's states; when the first ends, the folder is free."""
    tried = []

    def again():
        for begin in (lambda: resume(tmp_path / "m"), lambda: tiny(gray_data, tmp_path / "m", overwrite=True)):
            with pytest.raises(OutputError, match="another process is training in"):
                begin()
            tried.append(0)

    tiny(gray_data, tmp_path / "m", listen=at("training", 2, again))
    assert len(tried) == 2
    resume(tmp_path / "m")


@pytest.mark.skipif(os.name == "nt", reason="folders are not locked there")
def test_a_training_is_resumed_from_what_is_read_under_its_lock(tmp_path):
    """A training that is just beginning in the folder has not written its plan yet, and is no damaged model."""
    space = Workspace(tmp_path)
    space.claim(overwrite=False)
    with space.locked(), pytest.raises(OutputError, match="another process is training in"):
        resume(tmp_path)


def test_a_plan_that_was_changed_is_not_resumed(gray_data, tiny, tmp_path):
    """It would be another training with the name of this one."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", listen=at("training", 2, interrupt))
    path = tmp_path / "m" / "plan.json"
    path.write_text(path.read_text().replace('"seed": 42', '"seed": 43'))
    with pytest.raises(ModelError, match=r"changed since the training began.*\n.*--overwrite"):
        resume(tmp_path / "m")


def test_the_seconds_of_a_run_with_minutes_are_no_part_of_what_is_resumed(gray_data, tiny, tmp_path, monkeypatch):
    """Its steps are those of the last state, so however often it is killed from then on, the weights are the same."""
    monkeypatch.setattr(workflow, "ENDING_SECONDS", 0.5)
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", steps=None, minutes=4 / 60, listen=_stop_when_known())
    shutil.copytree(tmp_path / "m", tmp_path / "n")
    first, second = [], []
    resume(tmp_path / "m", listen=first.append)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "n", listen=lambda event: (second.append(event), _stop_after(2, second)))
    resume(tmp_path / "n")
    assert len({event.total for event in first if isinstance(event, Progress) and event.task == "training"}) == 1
    assert_equal(tmp_path / "m", tmp_path / "n")


def _stop_when_known():
    """Interrupt when minutes have become steps."""
    heard = []

    def listen(event):
        if isinstance(event, Progress) and "val Dice" in event.figures and not heard:
            heard.append(0)
            interrupt()

    return listen


def _stop_after(steps, events):
    """Interrupt after so many steps of the resumed part."""
    if sum(isinstance(event, Progress) and event.task == "training" for event in events) == steps:
        interrupt()


def test_a_volume_dataset_can_be_trained_slice_by_slice(cases, tiny, tmp_path):
    """A 2D plan on volumes: slices train, whole volumes are scored and predicted."""
    data = cases(tmp_path / "data", kind="volume", size=(9, 16, 16), count=4)
    model = tiny(data, tmp_path / "m", overrides={"dims": "2", "width": "4,8", "batch": "2", "precision": "float32"})
    assert model.plan.dims == 2
    assert model.predict(data / "images" / "case0.nii.gz").shape == (9, 16, 16)


@pytest.mark.parametrize(
    "settings",
    [
        {"deep_supervision": "no", "width": "4,6,8"},
        {"optimizer": "sgd", "ema": "0", "schedule": "poly"},
        {"block": "residual", "norm": "instance", "loss": "focal"},
        {"norm": "group", "class_weights": "1,5", "loss": "cross_entropy", "schedule": "cosine"},
        {"precision": "bfloat16", "augment": "0", "mirror_axes": "none", "rotate90": "no"},
        {"width": "4", "foreground": "1", "batch": "1", "patch": "7,9", "normalization": "percentile low=1 high=99"},
    ],
)
def test_what_a_plan_can_say_can_be_trained_interrupted_and_resumed(gray_data, tiny, tmp_path, settings):
    """Every choice goes through checkpoint, weights and prediction."""
    overrides = {"width": "4,8", "patch": "16,16", "batch": "2", "precision": "float32", **settings}
    tiny(gray_data, tmp_path / "whole", overrides=overrides)
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", overrides=overrides, listen=at("training", 2, interrupt))
    model = resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")
    assert set(np.unique(model.predict(gray_data / "images" / "case0.png"))) <= {0, 255}


@pytest.mark.parametrize("settings", [{"seed": -1}, {"seed": 2**64}, {"steps": 0}, {"minutes": 1}, {"device": "gpu9"}])
def test_a_setting_that_cannot_be_is_refused_and_leaves_nothing(gray_data, tiny, tmp_path, settings):
    """Before the folder of the model is made."""
    with pytest.raises(PlanError):
        tiny(gray_data, tmp_path / "m", **settings)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(("threads", "ahead"), [(1, 0), (1, 1), (3, 5)])
def test_threads_that_prepare_batches_change_no_bit_of_the_weights(
    gray_data, gray_model, tiny, tmp_path, monkeypatch, threads, ahead
):
    """However many there are, and however far they run ahead."""
    monkeypatch.setattr(workflow, "LOADERS", threads)
    monkeypatch.setattr(workflow, "BATCHES_AHEAD", ahead)
    tiny(gray_data, tmp_path / "m")
    assert_equal(gray_model.folder, tmp_path / "m")


def test_the_last_steps_see_images_as_they_are(gray_data, tiny, tmp_path, monkeypatch):
    """Of ten steps the first seven augment, the last three neither alter nor mirror."""
    steps, real = [], workflow.standard_chain

    def standard_chain(**kwargs):
        chain = real(**kwargs)

        def augment(images, labels, *, step):
            steps.append(step)
            return chain(images, labels, step=step)

        return augment

    monkeypatch.setattr(workflow, "standard_chain", standard_chain)
    tiny(gray_data, tmp_path / "m", steps=10, overrides={"clean_finish": "0.3"})
    assert sorted(steps) == list(range(7))


def test_a_step_without_memory_is_taken_again_with_the_same_result(gray_data, gray_model, tiny, tmp_path, monkeypatch):
    """At the third step the device has no room until less is kept; the weights come out to the bit, and it is said."""
    real, told = workflow._loss, []

    def loss(plan):
        cost, calls = real(plan), []

        def greedy(*args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
            return cost(*args, **kwargs)

        return greedy

    monkeypatch.setattr(workflow, "_loss", loss)
    tiny(gray_data, tmp_path / "m", listen=told.append)
    assert_equal(gray_model.folder, tmp_path / "m")
    assert [event.text for event in told if isinstance(event, Message) and "no memory for a step" in event.text]


def test_folds_that_were_not_begun_get_their_share_when_a_training_is_resumed(gray_data, tiny, tmp_path, monkeypatch):
    """And no more: the minutes of those before it were spent."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", steps=None, minutes=2, folds=2, listen=at("fold 1 of 2", 0, interrupt))
    left = []

    class Enough(Exception):
        pass

    def train_one(run, split, *, label, ends):
        left.append(ends - workflow.time.monotonic())
        if len(left) == 2:
            raise Enough
        return [], workflow.Precision(dtype="float32", channels_last=False, reason="")

    monkeypatch.setattr(workflow, "_train_one", train_one)
    with pytest.raises(Enough):
        resume(tmp_path / "m")
    assert left == pytest.approx([60, 60], abs=1)


def test_what_was_spent_before_is_not_spent_again(gray_data, tiny, tmp_path, monkeypatch):
    """A training that was interrupted before its number of steps was known."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", steps=None, minutes=2, listen=at("training", 0, interrupt))
    space, given = Workspace(tmp_path / "m"), []
    (tensors, words), _ = space.load_checkpoint()
    progress = json.loads(words["progress"])
    assert progress["steps"] is None
    space.save_checkpoint((tensors, {**words, "progress": json.dumps({**progress, "seconds": 90.0})}))

    def loop(*args, seconds_left, **kwargs):
        given.append(seconds_left())
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "run_loop", loop)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "m")
    assert given == pytest.approx([120 - 90 - workflow.ENDING_SECONDS], abs=2)


def test_a_disk_that_fills_up_during_a_training_costs_nothing_that_was_kept(gray_data, tiny, tmp_path, monkeypatch):
    """The error says how to go on, and with room again the training ends as if nothing had happened."""
    tiny(gray_data, tmp_path / "whole", steps=8, checkpoint_every=0)
    real, calls = os.write, []

    def full(descriptor, content):
        calls.append(1)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content)

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="No space left") as caught:
        patch.setattr(os, "write", full)
        with commands._training(tmp_path / "m"):
            tiny(gray_data, tmp_path / "m", steps=8, checkpoint_every=0)
    assert (
        f"free some space, or choose another disk with --out; then continue with: uvea train --resume {tmp_path}"
        in (caught.value.hint)
    )
    found, _ = Workspace(tmp_path / "m").load_checkpoint()
    assert 0 < json.loads(found[1]["progress"])["step"] < 8
    resume(tmp_path / "m")
    assert_equal(tmp_path / "whole", tmp_path / "m")


def test_a_state_is_due_after_an_epoch_or_two_minutes_whichever_is_sooner(monkeypatch):
    """And never so often that saving takes more than 2 % of the time; unless seconds are asked for."""
    now = [0.0]
    monkeypatch.setattr(workflow.time, "monotonic", lambda: now[0])

    def due(step, seconds, **settings):
        now[0] = 0.0
        pace = workflow._Due(settings.get("every"), epoch=10)
        pace.saved(0, seconds=settings.get("cost", 0.1))
        now[0] = seconds
        return pace.due(workflow.Progress(step=step))

    assert [due(9, 119), due(9, 120), due(10, 5), due(10, 4.9), due(10, 5, cost=1.0)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert [due(9, 6.9, every=7), due(1, 7, every=7)] == [False, True]


def test_two_precisions_are_told_apart_by_the_hashes(gray_data, tiny, tmp_path, monkeypatch):
    """Unless it is set, what is measured decides; who compares two trainings has to see it."""
    found = []
    for last in (False, True):
        chosen = workflow.Precision(dtype="float32", channels_last=last, reason="")
        monkeypatch.setattr(workflow, "choose", lambda *args, chosen=chosen, **kwargs: chosen)
        tiny(gray_data, tmp_path / str(last), overrides={"width": "4,8", "patch": "16,16", "batch": "2"})
        found.append(Hashes.load(tmp_path / str(last) / "hashes.json").precision)
    assert found == [("float32",), ("float32 channels-last",)]


def test_no_memory_beside_a_step_is_one_error_and_can_be_resumed(gray_data, gray_model, tiny, tmp_path, monkeypatch):
    """Such as when weights are averaged; the states before it are kept."""
    real, calls = Average.update, []

    def greedy(*args):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return real(*args)

    with monkeypatch.context() as patch, pytest.raises(PlanError, match="not enough memory on cpu") as caught:
        patch.setattr(Average, "update", greedy)
        tiny(gray_data, tmp_path / "m")
    assert f"uvea train --resume {tmp_path / 'm'}" in caught.value.hint
    resume(tmp_path / "m")
    assert_equal(gray_model.folder, tmp_path / "m")


def test_another_version_is_said_before_a_training_is_resumed(gray_data, tiny, tmp_path):
    """It goes on; the last bits may differ then."""
    with pytest.raises(KeyboardInterrupt):
        tiny(gray_data, tmp_path / "m", listen=at("training", 2, interrupt))
    shutil.copytree(tmp_path / "m", tmp_path / "same")
    space, told = Workspace(tmp_path / "m"), []
    kept = Kept.load(space.run_facts)
    assert kept.begun_with["torch"] == torch.__version__
    kept.model_copy(update={"begun_with": {**kept.begun_with, "torch": "1.0"}}).save(space.run_facts)
    resume(tmp_path / "same", listen=told.append)
    assert not [event for event in told if isinstance(event, Message) and "begun with" in event.text]
    resume(tmp_path / "m", listen=told.append)
    resume(tmp_path / "m", listen=told.append)  # it is finished: there is nothing left to differ
    (said,) = [event for event in told if isinstance(event, Message) and "begun with" in event.text]
    assert said.level == "warning" and f"torch 1.0, now {torch.__version__}" in said.text


def test_a_state_whose_precision_is_something_else_is_refused(gray_data, tiny, tmp_path):
    """Strict types, and no more threads than there can be."""
    tiny(gray_data, tmp_path / "m")
    space = Workspace(tmp_path / "m")
    (tensors, words), _ = space.load_checkpoint()
    kind, values = json.loads(words["precision"])
    for bad in ({**values, "threads": 0}, {**values, "channels_last": 1}, {**values, "dtype": "float8"}, {}):
        space.save_checkpoint((tensors, {**words, "precision": json.dumps([kind, bad])}))
        with pytest.raises(ModelError, match="its precision"):
            resume(tmp_path / "m")


def test_a_long_step_is_left_in_the_middle(gray_data, gray_model, tiny, tmp_path, monkeypatch):
    """Ctrl-C comes while the third step computes its loss: the state has two steps, and leads to the same weights."""
    real = workflow._loss

    def loss(plan):
        cost, calls = real(plan), []

        def interrupted(*args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                signal.raise_signal(signal.SIGINT)
            return cost(*args, **kwargs)

        return interrupted

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(workflow, "_loss", loss)
        tiny(gray_data, tmp_path / "m")
    found, _ = Workspace(tmp_path / "m").load_checkpoint()
    assert json.loads(found[1]["progress"])["step"] == 2
    resume(tmp_path / "m")
    assert_equal(gray_model.folder, tmp_path / "m")


def test_an_error_while_a_batch_is_prepared_ends_the_training_with_its_message(gray_data, tiny, tmp_path, monkeypatch):
    """It is raised in another thread, at the third step; no thread is left behind."""
    real = workflow.sampler

    def sampler(*args, **kwargs):
        draw = real(*args, **kwargs)

        def failing(step):
            if step == 2:
                raise ImageError("image 7 is gone", hint="bring it back")
            return draw(step)

        return failing

    monkeypatch.setattr(workflow, "sampler", sampler)
    with pytest.raises(ImageError, match="image 7 is gone"):
        tiny(gray_data, tmp_path / "m")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("uvea-batches")]


def test_background_between_close_objects_weighs_more_where_it_is_asked_for(gray_model):
    """A wrong pixel between two objects three apart costs more with border weights, one far away the same."""
    labels = torch.zeros(1, 9, 40, dtype=torch.int64)
    labels[0, 4, 5], labels[0, 4, 8] = 1, 1

    def cost(column, border_weight):
        logits = torch.zeros(1, 2, 9, 40)
        logits[0, 1, 4, column] = 9.0
        plan = gray_model.plan.model_copy(update={"border_weight": border_weight, "loss": "cross_entropy"})
        loss, given = workflow._loss(plan), (labels,)
        if border_weight:
            given = (labels, torch.from_numpy(workflow._border_weights(labels[0].numpy(), border_weight))[None])
        # Sums, not means: the weights change the divisor as well.
        total = float(given[-1].sum()) if border_weight else 9 * 40
        return (float(loss(logits, *given)) - float(loss(torch.zeros_like(logits), *given))) * total

    assert cost(6, 10.0) > 2 * cost(6, 0.0)
    assert cost(39, 10.0) == pytest.approx(cost(39, 0.0), rel=1e-3)


def test_a_setting_that_does_not_exist_is_refused_before_anything_is_read(tmp_path):
    """The folder does not even exist."""
    with pytest.raises(PlanError, match="no setting called 'pach'"):
        workflow.train(tmp_path / "nowhere", out=tmp_path / "model", overrides={"pach": "16,16"})


def test_a_finished_run_whose_weights_were_lost_gets_them_back(gray_data, tiny, tmp_path):
    """`load` recommends to resume, so that must help."""
    tiny(gray_data, tmp_path / "model")
    (tmp_path / "model" / "weights.safetensors").unlink()
    resume(tmp_path / "model")
    assert (tmp_path / "model" / "weights.safetensors").exists()


def test_data_that_moved_away_is_named_on_resume(gray_data, tiny, tmp_path):
    """The message has the folder where it was."""
    shutil.copytree(gray_data, tmp_path / "data")
    tiny(tmp_path / "data", tmp_path / "model")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(ModelError, match="no longer at .*data"):
        resume(tmp_path / "model")
