"""The folder of a model: what may be replaced, what is whole, what is read when something is damaged."""

import os
import re
import shutil
from contextlib import nullcontext

import pytest
import torch

from uvea.datasets.case import DataOptions
from uvea.datasets.split import Split
from uvea.durable import write_text
from uvea.errors import ModelError, OutputError, PlanError
from uvea.workflows.kept import Kept
from uvea.workflows.workspace import Workspace


def packed(value: float):
    """A checkpoint that can be told from another."""
    return {"weight": torch.full((3,), value)}, {"progress": str(value)}


def begin(space: Workspace, folds: int = 1) -> None:
    """Keep what a training of so many folds was begun with."""
    Kept(
        source="/data",
        options=DataOptions(),
        device=None,
        plan="",
        data="",
        splits=(Split(("a",), ("b",), ""),) * folds,
        unopened=(),
        findings=(),
        leaks=(),
        checkpoint_every=None,
    ).save(space.run_facts)


def test_a_new_folder_is_made_with_its_parents(tmp_path):
    """And an empty one is taken."""
    space = Workspace(tmp_path / "a" / "b")
    space.claim(overwrite=False)
    assert space.run.is_dir()
    (tmp_path / "empty").mkdir()
    Workspace(tmp_path / "empty").claim(overwrite=False)


@pytest.mark.parametrize("folder", ["", "a/b"])
def test_a_place_that_cannot_be_written_is_refused_at_a_look(tmp_path, monkeypatch, folder):
    """Before hours of reading and planning; the folder that there is, is named."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match=rf"a model cannot be written to {re.escape(str(tmp_path))}\n"):
        Workspace(tmp_path / folder).check_free(overwrite=False)


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db"])
def test_what_a_file_browser_leaves_behind_is_in_nobodys_way(tmp_path, name):
    """Looking at the report must not make a folder impossible to train into again."""
    (tmp_path / name).touch()
    space = Workspace(tmp_path)
    space.claim(overwrite=False)
    begin(space)
    space.claim(overwrite=True)
    assert (tmp_path / name).exists()


def test_what_has_not_ended_is_counted(tmp_path):
    """Of one training or of three folds; a model without its run says nothing about it."""
    space = Workspace(tmp_path / "m")
    assert space.unfinished() == 0
    space.claim(overwrite=False)
    begin(space)
    assert space.unfinished() == 1
    space.last.touch()
    assert space.unfinished() == 1, "killed before its scores, and so before postprocessing.json"
    space.scores.touch()
    assert space.unfinished() == 0
    begin(space, folds=3)
    assert space.unfinished() == 3
    space.fold(1).folder.mkdir()
    space.fold(1).scores.touch()
    assert space.unfinished() == 2


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("folder", ["run", "run/cache", "fold_2", "fold_1/run"])
def test_folders_that_are_links_are_not_trained_into(tmp_path, folder):
    """A model of somebody else may have them, and what is written would come to lie where they lead."""
    link = tmp_path / "model" / folder
    link.parent.mkdir(parents=True)
    for target in (tmp_path / "elsewhere", tmp_path / "nowhere"):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        link.symlink_to(target)
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=rf"{re.escape(str(link))} is a link to {re.escape(str(target))}"):
                Workspace(tmp_path / "model").claim(overwrite=overwrite)
        link.unlink()


def test_a_look_changes_nothing(tmp_path):
    """`check_free` makes no folder."""
    Workspace(tmp_path / "a" / "b").check_free(overwrite=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("run", "hint"), [(True, "--resume"), (False, "--overwrite")])
def test_the_hint_names_what_would_work(tmp_path, run, hint):
    """Resuming is offered only where there is something to resume."""
    space = Workspace(tmp_path)
    space.claim(overwrite=False)
    if run:
        begin(space)
    with pytest.raises(OutputError, match=rf"is not empty \(run\)\n.*{hint}") as caught:
        space.claim(overwrite=False)
    assert ("--resume" in caught.value.hint) == run


@pytest.mark.parametrize("name", ["cell.tif", "fold_1 copy", "fold_01"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_overwriting_is_not_offered_where_it_would_be_refused(tmp_path, overwrite, name):
    """A folder of the user's own images is never a place for a model; a folder that is nearly a fold is none."""
    (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=rf"no part of a model \({re.escape(name)}\)") as caught:
        Workspace(tmp_path).check_free(overwrite=overwrite)
    assert "--overwrite" not in caught.value.hint


def test_overwriting_removes_what_is_ours_and_nothing_else(tmp_path):
    """Folds and caches too; a file of the user's inside a fold stays."""
    space = Workspace(tmp_path / "m")
    space.claim(overwrite=False)
    for one in (space, space.fold(1), space.fold(2)):
        one.cache.mkdir(parents=True)
        (one.cache / "000000.image.npy").touch()
        for path in (one.plan, one.weights, one.last, one.checkpoint, one.previous):
            path.touch()
        (one.folder / ".last.safetensors.0a1b2c.part").touch()  # of a write that was killed
    (space.fold(2).folder / "notes.txt").touch()
    space.claim(overwrite=True)
    left = {path.relative_to(space.folder).as_posix() for path in space.folder.rglob("*")}
    assert left == {"run", "fold_2", "fold_2/notes.txt"}


def test_the_newest_state_is_read_and_the_one_before_kept(tmp_path):
    """Three saved, two on disk."""
    space = Workspace(tmp_path)
    assert space.load_checkpoint() == (None, None)
    for value in (1.0, 2.0, 3.0):
        space.save_checkpoint(packed(value))
    (found, words), trouble = space.load_checkpoint()
    assert found["weight"].tolist() == [3, 3, 3] and words == {"progress": "3.0"} and trouble is None
    assert sorted(path.name for path in space.run.iterdir()) == [
        "checkpoint.previous.safetensors",
        "checkpoint.safetensors",
    ]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, None])
def test_a_damaged_state_is_passed_over_and_named(tmp_path, content):
    """Cut short, empty, or gone after a death between two renames."""
    space = Workspace(tmp_path)
    for value in (1.0, 2.0):
        space.save_checkpoint(packed(value))
    if content is None:
        space.checkpoint.unlink()
    else:
        space.checkpoint.write_bytes(content)
    (found, _), trouble = space.load_checkpoint()
    assert found["weight"].tolist() == [1, 1, 1]
    if content is not None:
        assert trouble is not None and str(space.checkpoint) in trouble and "\n" not in trouble


def test_two_damaged_states_are_an_error(tmp_path):
    """Starting again in silence would throw the training away."""
    space = Workspace(tmp_path)
    for value in (1.0, 2.0):
        space.save_checkpoint(packed(value))
    for path in (space.checkpoint, space.previous):
        path.write_bytes(b"")
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        space.load_checkpoint()


def test_the_history_has_the_names_of_the_user(tmp_path):
    """The score is the Dice of the validation; the last line is whole."""
    space = Workspace(tmp_path)
    space.save_history([{"step": 10, "seconds": 1.5, "loss": 0.25, "score": 0.9, "lr": 0.001}])
    assert space.history.read_text() == "step,seconds,loss,val_dice,lr\n10,1.5,0.25,0.9,0.001\n"
    assert list(tmp_path.iterdir()) == [space.history]


def test_folds_are_counted_not_spelt(tmp_path):
    """Ten comes after two; a file called like a fold is none."""
    space = Workspace(tmp_path)
    assert space.folds() == [space]
    for number in (10, 2, 1):
        space.fold(number).folder.mkdir()
        space.fold(number).weights.touch()
    (tmp_path / "fold_3").touch()
    assert [one.folder.name for one in space.folds()] == ["fold_1", "fold_2", "fold_10"]


def test_a_folder_that_is_no_fold_of_the_training_takes_no_part_in_it(tmp_path):
    """Whether it is empty but for what a file browser left, a copy, or from another training."""
    space = Workspace(tmp_path)
    for name in ("fold_1", "fold_1 copy", "fold_0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".DS_Store").touch()
    (tmp_path / "fold_1 copy" / "weights.safetensors").touch()
    assert space.folds() == [space]
    for number in (1, 2, 3):
        space.fold(number).folder.mkdir(exist_ok=True)
        space.fold(number).weights.touch()
    assert len(space.folds()) == 3
    space.run.mkdir()
    begin(space, folds=2)
    assert space.folds() == [space.fold(1), space.fold(2)]
    begin(space)
    assert space.folds() == [space]
    space.run_facts.unlink()
    space.weights.touch()
    assert space.folds() == [space], "as of arrays or from Keras, which have no run.json"


@pytest.mark.parametrize(
    ("free", "said"), [(1500, r"1\.5 KB .* 60\.0 KB"), (59_999, r"60\.0 KB .* 60\.0 KB"), (60_000, None)]
)
def test_space_is_asked_for_before_the_folder_is_there(tmp_path, monkeypatch, free, said):
    """What is free where it will be, in a unit that shows it: six times ten KB."""
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, free) if path.exists() else 0
    )
    space = Workspace(tmp_path / "a" / "m")
    with pytest.raises(OutputError, match=said) if said else nullcontext():
        space.check_space(10_000)
    assert list(tmp_path.iterdir()) == []


def test_an_older_model_counts_as_free_space(tmp_path, monkeypatch):
    """It is replaced, and its folds are."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 0))
    space = Workspace(tmp_path)
    space.fold(1).folder.mkdir()
    for path in (space.last, space.fold(1).weights):
        path.write_bytes(bytes(30_000))
    space.check_space(10_000)


def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """A full disk leaves the old file and no other."""
    path = tmp_path / "plan.json"
    write_text(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=rf"cannot write {re.escape(str(path))}: No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_without_a_plan_is_no_model(tmp_path):
    """Nor is one that is not there, nor a file."""
    (tmp_path / "file").touch()
    for name in (".", "nothing", "file"):
        with pytest.raises(ModelError, match="is not a model"):
            Workspace(tmp_path / name).load_plan()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"wdth": 3}', b"{}"])
def test_a_damaged_plan_is_one_error(tmp_path, content):
    """Whatever is in it."""
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(PlanError, match="plan.json"):
        Workspace(tmp_path).load_plan()
