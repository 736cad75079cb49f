"""A model that tells objects apart, from masks that number them to numbers, tables and outlines."""

import csv
import json
import time
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from uvea.arrays.labels import IGNORE
from uvea.datasets.case import DataOptions
from uvea.errors import ModelError, OutputError, PlanError, ShapeError
from uvea.evaluation.instances import score_instances
from uvea.images import read, write
from uvea.images.image import Image
from uvea.objects.targets import targets
from uvea.plan.decoding import Cleaning, Decoding
from uvea.workflows import predict as workflow
from uvea.workflows import validation
from uvea.workflows.events import Message
from uvea.workflows.model import load
from uvea.workflows.objects import Grid, find_objects, mean_ap, score_objects
from uvea.workflows.pipeline import PartlyDoneError
from uvea.workflows.postprocessing import Postprocessing, of_model, overruled, together
from uvea.workflows.predict import decode_files, predict_files
from uvea.workflows.verify import verify
from uvea.workflows.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

PLANE = Grid(axes="yx", spacing=(1.0, 1.0))


def rows_of(path):
    """The lines of a CSV file."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def squares():
    """Ids (y, x) of two squares of 8×8 that touch, and one apart."""
    ids = np.zeros((24, 30), np.int32)
    ids[2:10, 2:10], ids[2:10, 10:18], ids[14:22, 20:28] = 7, 3, 5
    return ids


def perfect(ids, classes=None):
    """What a perfect network gives: classes (k, ...), border and centre."""
    maps = targets(ids)
    shares = np.eye(2 if classes is None else classes.max() + 1, dtype=np.float32)[
        (ids > 0).astype(int) if classes is None else classes
    ]
    return np.concatenate((np.moveaxis(shares, -1, 0), maps[1:]))


# One image


def test_touching_objects_are_told_apart_and_score_one():
    """Three squares, in whatever order they are numbered."""
    truth = squares()
    found = find_objects(perfect(truth), Decoding(), classes=2, grid=PLANE)
    assert found.classes.tolist() == [0, 1, 1, 1]
    rows = score_objects("a", truth, found, names=("background", "cell"))
    assert "mean_ap" not in rows[0].values
    assert (rows[1]["mean_ap"], rows[1]["dice"], rows[1]["objects"]) == (1.0, 1.0, 3)
    assert mean_ap([truth], [found.ids]) == 1.0


def test_the_search_for_a_decoding_is_timed_on_true_objects(object_model, gray_model, monkeypatch):
    """Twice what one decoding of them takes, for each of 25 ways; of a large volume a part is enough."""

    class Known(dict):
        def grid(self, name):
            return Grid(axes="yx" if name == "a" else "zyx", spacing=(1.0,) * self[name].ndim)

    truths, sizes = Known(a=squares(), b=np.ones((90, 100, 110), np.int32)), []

    def slowly(maps, settings, *, spacing):
        sizes.append(maps[0].size)
        time.sleep(0.05)
        return np.zeros(maps.shape[1:], np.int32)

    monkeypatch.setattr(validation, "decode", slowly)
    monkeypatch.setattr(validation, "TUNING_SECONDS", (0.0, float("inf")))
    trial = validation.trial_seconds(["a"], truths, object_model.plan)
    assert trial * 720 >= 2 * 0.05
    wanted = validation.postprocessing_seconds(["a"], truths, object_model.plan, trial=trial)
    assert wanted == pytest.approx(25 * trial * 720)
    assert validation.trial_seconds(["b"], truths, object_model.plan) > 0 and max(sizes) <= 81**3
    assert validation.trial_seconds(["a"], truths, gray_model.plan) == 0


def test_short_trainings_look_behind_the_network_for_a_share_of_their_time(gray_model):
    """A minute has 1.8 s for cleaning at 0.6 µs a pixel, and 6 s for 25 decodings at 0.1 µs; steps have no end."""
    plan = gray_model.plan
    short, long, counted = (plan.model_copy(update={"minutes": minutes}) for minutes in (1.0, 100.0, None))
    assert validation._cleaned_pixels(short, folds=1) == pytest.approx(3e6)
    assert validation._tuned_pixels(short, folds=1) == pytest.approx(2.4e6)
    assert validation._tuned_pixels(short, folds=4) == pytest.approx(0.6e6)
    for one in (long, counted):
        assert validation._cleaned_pixels(one, folds=5) == validation.CLEANED_PIXELS
        assert validation._tuned_pixels(one, folds=5) == validation.TUNED_PIXELS


def test_what_was_not_annotated_is_left_out_of_the_scores():
    """A predicted object there is no false one."""
    truth = squares()
    found = find_objects(perfect(truth), Decoding(), classes=2, grid=PLANE)
    truth[truth == 5] = IGNORE
    (row,) = score_objects("a", truth, found, names=("background", "cell"))[1:]
    assert (row["objects"], row["objects_predicted"], row["mean_ap"]) == (2, 2, 1.0)


def test_each_object_has_the_class_that_most_of_it_has():
    """Two classes of objects that touch, scored by class."""
    ids = np.where(squares() == 3, 2, np.where(squares() > 0, squares() * 2 - 1, 0))
    classes = np.where(ids > 0, (ids - 1) % 2 + 1, 0)
    assert sorted(np.unique(classes[ids == 2])) == [2]
    found = find_objects(perfect(ids, classes), Decoding(), classes=3, grid=PLANE)
    assert found.labels.tolist() == classes.tolist()
    rows = score_objects("a", ids, found, names=("background", "round", "long"))
    assert [(row["objects"], row["mean_ap"]) for row in rows[1:]] == [(2, 1.0), (1, 1.0)]


def test_frames_of_a_time_series_are_decoded_one_by_one():
    """An object in two frames has two numbers: nothing is followed through time."""
    given = np.stack([perfect(squares())] * 2, axis=1)
    found = find_objects(given, Decoding(), classes=2, grid=Grid(axes="tyx", spacing=(5.0, 1.0, 1.0)))
    assert len(np.unique(found.ids[0])) == len(np.unique(found.ids[1])) == 4
    assert len(found.classes) == 7 and found.ids[1].max() == 6


def test_large_images_are_decoded_in_blocks_to_the_same_numbers(monkeypatch, rng):
    """And their probabilities lie in a file meanwhile."""
    from uvea.inference import segment
    from uvea.workflows import objects

    given = np.clip(perfect(np.kron(squares(), np.ones((4, 4), np.int32))) + rng.normal(0, 0.05, (4, 96, 120)), 0, 1)
    whole = find_objects(given.astype(np.float32), Decoding(), classes=2, grid=PLANE)
    monkeypatch.setattr(objects, "WHOLE", 100)
    monkeypatch.setattr(segment, "IN_MEMORY", 100)
    mapped = segment._room(given.shape, on_disk=True)
    mapped[:] = given
    assert isinstance(mapped, np.memmap) and not isinstance(segment._room(given.shape, on_disk=False), np.memmap)
    found = find_objects(mapped, Decoding(), classes=2, grid=PLANE)
    np.testing.assert_array_equal(found.ids, whole.ids)
    assert len(found.classes) == len(whole.classes) >= 4


# Training


def test_numbered_masks_train_an_object_model_with_no_setting(object_model, object_data):
    """It learns, says so with figures of objects, and what it writes is what it was."""
    plan, space = object_model.plan, Workspace(object_model.folder)
    assert (plan.task, plan.outputs) == ("objects", 4)
    history = rows_of(space.history)
    assert list(history[0]) == ["step", "seconds", "loss", "val_mean_ap", "val_dice", "lr"]
    assert float(history[-1]["val_mean_ap"]) > float(history[0]["val_mean_ap"])
    assert float(history[-1]["val_dice"]) > 0.85
    metrics = {row["metric"] for row in rows_of(space.scores) if row["class"] == "foreground"}
    assert metrics >= {"dice", "mean_ap", "ap_50", "ap_90", "pq", "seg", "objects"}
    report = space.report.read_text()
    assert "validation mean AP" in report and "Mean AP by gap" in report and "matched" in report
    assert verify(object_model.folder, data=object_data).ok


def test_the_decoding_that_scores_best_is_kept_with_all_that_was_tried(object_model):
    """The file says which, and loading the model brings it back."""
    kept = Postprocessing.load(Workspace(object_model.folder).postprocessing)
    best = max(kept.trials, key=lambda trial: trial.score)
    assert kept.trials[0].settings == object_model.plan.decoding
    assert kept.decoding in [trial.settings for trial in kept.trials if trial.score == best.score]
    assert load(object_model.folder).after == kept == object_model.after


def test_a_decoding_that_was_set_is_not_searched(object_data, tiny, tmp_path):
    """It is what was said."""
    model = tiny(object_data, tmp_path / "m", overrides={"width": "4,8", "decoding": "gap=0.1", "precision": "float32"})
    assert model.after.decoding == Decoding(gap=0.1) and model.after.trials == ()
    assert "set by you" in model.after.reason


def test_a_mask_of_objects_can_train_classes(object_data, tiny, tmp_path):
    """With one word; the mask is then foreground and background."""
    model = tiny(object_data, tmp_path / "m", overrides={"task": "semantic", "width": "4,8", "precision": "float32"})
    assert model.plan.outputs == 2 and model.after.decoding is None
    assert set(np.unique(model.predict(object_data / "images" / "case0.png"))) <= {0, 255}


def test_classes_of_objects_are_learnt_where_asked_for(objects, tiny, tmp_path):
    """Masks of two classes; the table names the class of each object."""
    data = objects(tmp_path / "data", classes=2)
    model = tiny(
        data,
        tmp_path / "m",
        options=DataOptions(label_names=("background", "a", "b")),
        overrides={"task": "objects", "width": "4,8", "patch": "16,16", "precision": "float32"},
    )
    assert (model.plan.classes, model.plan.outputs) == (3, 5)
    predict_files(model, data / "images" / "case0.png", out=tmp_path / "out")
    assert {row["class"] for row in rows_of(tmp_path / "out" / "case0_objects.csv")} <= {"a", "b"}
    assert "has the highest mean AP whatever the class, " in model.after.reason
    assert "Mean AP whatever the class by gap" in (tmp_path / "m" / "report.html").read_text()


@pytest.mark.parametrize("dims", ["2", "3"])
def test_volumes_are_decoded_in_three_dimensions(objects, tiny, tmp_path, dims):
    """Also those whose slices the network sees one by one; sizes are in micrometres."""
    data = objects(tmp_path / "data", count=4, size=(10, 24, 24))
    overrides = {"dims": dims, "width": "4,8", "precision": "float32", "patch": "16,16" if dims == "2" else "8,16,16"}
    model = tiny(data, tmp_path / "m", overrides=overrides, options=DataOptions(instances=True))
    predict_files(model, data / "images" / "case0.tif", out=tmp_path / "out", outlines="geojson")
    ids = read(tmp_path / "out" / "case0.tif")
    assert (ids.shape, ids.unit, ids.array.dtype) == ((10, 24, 24), "um", np.uint16)
    rows = rows_of(tmp_path / "out" / "case0_objects.csv")
    assert len(rows) == ids.array.max()
    for row in rows:
        assert float(row["volume [um^3]"]) == pytest.approx(0.25 * int(row["pixels"]), rel=1e-5)


def test_objects_go_on_where_they_were_interrupted(object_data, tiny, tmp_path):
    """Ctrl-C, resume: the same weights and the same decoding as without."""
    import signal

    from uvea.models.weights import read_weights
    from uvea.workflows.train import resume

    heard = []

    def interrupt(event):
        if getattr(event, "task", "") == "training" and event.done == 3 and not heard:
            heard.append(event)
            signal.raise_signal(signal.SIGINT)

    overrides = {"width": "4,8", "patch": "16,16", "precision": "float32"}
    tiny(object_data, tmp_path / "whole", overrides=overrides)
    with pytest.raises(KeyboardInterrupt):
        tiny(object_data, tmp_path / "parts", overrides=overrides, listen=interrupt)
    resume(tmp_path / "parts")
    one, other = (read_weights(tmp_path / name / "weights.safetensors")[0] for name in ("whole", "parts"))
    assert all((one[name] == other[name]).all() for name in one)
    texts = {(tmp_path / name / "postprocessing.json").read_text() for name in ("whole", "parts")}
    assert len(texts) == 1


# Prediction


def test_objects_are_written_with_a_table_and_outlines(object_model, object_data, tmp_path):
    """Mask, table, ROIs and GeoJSON agree about the number of objects."""
    source = object_data / "images" / "case0.png"
    written = predict_files(object_model, source, out=tmp_path, outlines=["imagej", "geojson"])
    assert [path.name for path in written] == ["case0.png", "case0_objects.csv", "case0_rois.zip", "case0.geojson"]
    ids = read(written[0]).array
    count = int(ids.max())
    assert ids.dtype == np.uint16 and count >= 2
    np.testing.assert_array_equal(object_model.predict(source), ids[0])
    rows = rows_of(written[1])
    assert [int(row["id"]) for row in rows] == list(range(1, count + 1))
    assert [int(row["pixels"]) for row in rows] == np.bincount(ids.ravel())[1:].tolist()
    brightness = read(source).array[0][ids[0] == 1].mean()
    assert float(rows[0]["mean of channel 1"]) == pytest.approx(brightness, rel=1e-5)
    assert all(0.5 < float(row["score"]) <= 1 for row in rows)
    assert len(zipfile.ZipFile(written[2]).namelist()) >= count
    features = json.loads(written[3].read_text())["features"]
    assert len(features) == count
    measured = features[0]["properties"]["measurements"]
    assert set(measured) == {"area [px^2]", "diameter [px]", "mean of channel 1", "score"}
    assert {name: float(rows[0][name]) for name in measured} == measured


def test_tables_and_outlines_that_were_cut_off_are_made_again(object_model, object_data, tmp_path):
    """As a power cut may leave them. With a mask all that goes with it is made again: its numbers may be others."""
    source, outlines = object_data / "images" / "case0.png", ["imagej", "geojson"]
    written = predict_files(object_model, source, out=tmp_path, outlines=outlines)
    assert predict_files(object_model, source, out=tmp_path, outlines=outlines, resume=True) == []
    for path in written:
        whole = path.read_bytes()
        path.write_bytes(whole[:-5])
        again = written if path == written[0] else [path]
        assert predict_files(object_model, source, out=tmp_path, outlines=outlines, resume=True) == again
        assert path.suffix == ".zip" or path.read_bytes() == whole
    mask = read(written[0])
    write(written[0], mask.with_array(np.where(mask.array == 1, 0, mask.array)), overwrite=True)
    written[1].unlink()
    predict_files(object_model, source, out=tmp_path, outlines=outlines, resume=True)
    assert [int(row["id"]) for row in rows_of(written[1])] == list(range(2, int(mask.array.max()) + 1))


def test_kept_probabilities_decode_to_the_same_objects_and_to_others(object_model, object_data, tmp_path):
    """Sixteen bits give the very same numbers and tables; none is larger than the image."""
    predict_files(object_model, object_data / "images", out=tmp_path / "out", keep_probabilities=True)
    kept = read(tmp_path / "out" / "case1_probabilities.tif").array
    assert kept.dtype == np.uint16 and kept.shape[0] == 4
    (tmp_path / "out" / "case1_seg.png").touch()  # is not asked for
    decode_files(object_model, tmp_path / "out", out=tmp_path / "same")
    for number in range(6):
        wanted = read(tmp_path / "out" / f"case{number}.png").array[0]
        found = read(tmp_path / "same" / f"case{number}.tif").array[0]
        assert np.array_equal(wanted, found)
        tables = [rows_of(tmp_path / where / f"case{number}_objects.csv") for where in ("out", "same")]
        assert [{name: row[name] for name in tables[1][0]} for row in tables[0]] == tables[1]
    assert rows_of(tmp_path / "same" / "case1_objects.csv")
    decode_files(
        object_model, tmp_path / "out" / "case1_probabilities.tif", out=tmp_path / "large", after={"min_size": 10_000}
    )
    assert rows_of(tmp_path / "large" / "case1_objects.csv") == []


def test_objects_are_found_in_probabilities_of_sixteen_bits(object_model, rng):
    """In memory as well: otherwise pixels of nearly equal height would go to one object here and to another there."""
    found = object_model.probabilities(rng.integers(0, 255, (40, 48)).astype(np.uint8))
    kept = np.rint(found * 65535).astype(np.uint16)
    assert found.dtype == np.float32 and len(np.unique(found)) > 50
    assert np.array_equal(kept.astype(np.float32) / 65535, found)


def test_the_least_size_is_that_of_the_pixels_of_the_training(object_model):
    """Squares of 64 pixels of 1 µm are too small for 100 of the 0.5 µm of the plan? They have 256 of these."""
    from dataclasses import replace

    plan = object_model.plan.model_copy(update={"spacing": (0.5, 0.5), "unit": "um"})
    model = replace(object_model, plan=plan, after=Postprocessing(decoding=Decoding(min_size=100)))
    counts = [
        len(model.objects_of(perfect(squares()), grid=Grid(axes="yx", spacing=(size, size), unit=unit)).classes) - 1
        for size, unit in ((1.0, "um"), (0.5, "um"), (1.0, "px"))
    ]
    assert counts == [3, 1, 1]  # two that touch have 128 pixels together


def test_a_pixel_of_a_volume_is_measured_as_it_lies_in_the_training(object_model):
    """Its file has z where the training has x: slices have pixels of 2×5 µm, not of 2×1."""
    fingerprint = object_model.plan.fingerprint.model_copy(update={"orientation": "RAS"})
    plan = object_model.plan.model_copy(update={"spacing": (1.0, 1.0), "unit": "um", "fingerprint": fingerprint})
    image = Image(
        array=np.zeros((1, 2, 3, 4)),
        axes="zyx",
        unit="um",
        spacing=(5.0, 2.0, 1.0),
        direction=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        oriented=True,
    )
    assert Grid.of(image).share(plan) == 10


def test_tiles_and_the_whole_image_give_the_same_objects(object_model, rng):
    """Objects across borders of tiles are one object."""
    from dataclasses import replace

    image = read_big(rng)
    whole = replace(
        object_model, plan=object_model.plan.model_copy(update={"tile": (96, 96), "overlap": (0, 0)})
    ).predict(image)
    tiles = replace(
        object_model, plan=object_model.plan.model_copy(update={"tile": (64, 64), "overlap": (24, 24)})
    ).predict(image)
    assert score_instances(whole, tiles).ap(0.9) > 0.9


def read_big(rng):
    """96×96 with discs everywhere."""
    y, x = np.mgrid[:96, :96]
    bright = ((y % 16 - 8) ** 2 + (x % 14 - 7) ** 2 < 30) * 120
    return (rng.integers(0, 60, (96, 96)) + bright).astype(np.uint8)


def test_more_objects_than_png_can_number_go_to_tiff(object_model, tmp_path, monkeypatch):
    """And it is said."""
    told = []
    job = workflow.Job("a", (tmp_path / "a.png",), {"mask": tmp_path / "out" / "a.png"})
    image = Image(array=np.zeros((1, 300, 300), np.uint8), axes="yx")
    found = workflow.Segmented(mask=np.arange(90_000, dtype=np.uint32).reshape(1, 300, 300), probabilities=None)
    how = {"short": False, "overwrite": False, "listen": told.append}
    with pytest.raises(OutputError, match="is an image or the mask of another one"):
        workflow._write(job, image, found, object_model.plan, taken={tmp_path / "out" / "a.tif"}, **how)
    (path,) = workflow._write(job, image, found, object_model.plan, taken=set(), **how)
    assert workflow._is_done(tmp_path / "out" / "a.png", object_model.plan, most=90_000)
    assert not workflow._is_done(tmp_path / "out" / "a.png", object_model.plan, most=89_999)
    assert path.suffix == ".tif" and read(path).array.max() == 89_999
    assert isinstance(told[0], Message) and "89999 objects" in told[0].text


def test_another_mask_beside_the_table_is_told_of_and_left(object_model, object_data, tmp_path):
    """What `predict` wrote as PNG, or the image itself, where `decode` writes a TIFF."""
    source, out, told = object_data / "images" / "case0.png", tmp_path / "out", []
    predict_files(object_model, source, out=out, keep_probabilities=True)
    decode_files(object_model, out, out=out, overwrite=True, listen=told.append)
    assert {"case0.png", "case0.tif"} <= {path.name for path in out.iterdir()}
    (said,) = [event.text for event in told if isinstance(event, Message)]
    assert said.endswith("case0.png was there before, and does not belong to what was written now")


def test_outlines_of_an_earlier_run_beside_new_masks_are_told_of_once_per_kind(object_model, object_data, tmp_path):
    """Their numbers are not those of the new table; what was read, or is written again, is none of them."""
    sources, out, told = [object_data / "images" / f"case{n}.png" for n in (0, 1)], tmp_path / "out", []
    every = {"outlines": ["imagej", "geojson"], "keep_probabilities": True}
    predict_files(object_model, sources, out=out, **every)
    predict_files(object_model, sources, out=out, overwrite=True, listen=told.append, **every)
    assert not [event for event in told if isinstance(event, Message)]
    predict_files(object_model, sources, out=out, overwrite=True, outlines=["imagej"], listen=told.append)
    said = [event.text for event in told if isinstance(event, Message)]
    assert [text.partition(" was there before")[0] for text in said] == [
        f"{out / name} (and 1 more like it)" for name in ("case0_probabilities.tif", "case0.geojson")
    ]


def test_the_mask_that_png_cannot_hold_takes_the_place_of_the_png(object_model, tmp_path):
    """Or the next run would take the old one for done."""
    out = tmp_path / "out"
    job = workflow.Job("a", (tmp_path / "a.png",), {"mask": out / "a.png"})
    image = Image(array=np.zeros((1, 300, 300), np.uint8), axes="yx")
    how = {"short": False, "overwrite": True, "listen": lambda event: None, "taken": {out / "a.png"}}
    for mask in (np.ones((1, 300, 300), np.uint16), np.arange(90_000, dtype=np.uint32).reshape(1, 300, 300)):
        workflow._write(job, image, workflow.Segmented(mask=mask, probabilities=None), object_model.plan, **how)
    assert [path.name for path in out.iterdir()] == ["a.tif"]


def test_what_is_too_wide_for_rois_has_its_other_outlines(tmp_path):
    """GeoJSON is written first."""
    ids = np.zeros((2, 40_000), np.uint16)
    ids[:, -5:] = 1
    image = Image(array=ids[None].astype(np.uint8), axes="yx")
    plan = SimpleNamespace(classes=2, labels=SimpleNamespace(names=("background", "cell")))
    files = {kind: tmp_path / kind for kind in ("objects", "imagej", "geojson")}
    with pytest.raises(OutputError, match="leave imagej out of --outlines"):
        workflow._write_objects(files, image, ids, None, plan)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["geojson", "objects"]


@pytest.mark.parametrize(("axes", "first"), [("tyx", ["frame", "id"]), ("zyx", ["id", "class"])])
def test_the_table_of_a_time_series_has_frames_however_many(tmp_path, axes, first):
    """So that tables of one frame and of several can be read alike."""
    ids = np.ones((1, 4, 4), np.uint16)
    plan = SimpleNamespace(classes=2, labels=SimpleNamespace(names=("background", "cell")))
    workflow._write_objects({"objects": tmp_path / "t.csv"}, Image(array=ids[None], axes=axes), ids, None, plan)
    (row,) = rows_of(tmp_path / "t.csv")
    assert list(row)[:2] == first and row.get("frame", "1") == "1"


def test_outlines_may_be_one_text(object_model):
    """As on the command line."""
    kinds = workflow._kinds(object_model.plan, "imagej, geojson", probabilities=False)
    assert kinds == ["mask", "objects", "imagej", "geojson"]


def test_nothing_is_replaced_where_nothing_was_written(object_model, rng, tmp_path):
    """Probabilities of another model: the way out has no --overwrite unless one of them could be decoded."""
    for name in ("a", "b"):
        array = rng.random((3, 8, 8)).astype(np.float32)
        write(tmp_path / "in" / f"{name}_probabilities.tif", Image(array=array, axes="yx"))
    with pytest.raises(PartlyDoneError, match="2 of 2 images") as caught:
        decode_files(object_model, tmp_path / "in", out=tmp_path / "out")
    assert caught.value.hint == "mend or leave out those listed"
    write(tmp_path / "in" / "c_probabilities.tif", Image(array=perfect(squares()), axes="yx"))
    with pytest.raises(PartlyDoneError, match="then run the same command with --overwrite"):
        decode_files(object_model, tmp_path / "in", out=tmp_path / "out")


def test_what_a_model_does_not_do_is_refused_before_anything_is_read(object_model, gray_model, tmp_path):
    """Outlines of classes, classes to decode, largest components of objects, two kinds of probabilities."""
    absent = tmp_path / "absent.png"
    with pytest.raises(OutputError, match="outlines are of objects"):
        predict_files(gray_model, absent, out=tmp_path / "o", outlines=["imagej"])
    with pytest.raises(OutputError, match="no outlines of kind 'svg'"):
        predict_files(object_model, absent, out=tmp_path / "o", outlines=["svg"])
    with pytest.raises(PlanError, match="nothing to decode"):
        decode_files(gray_model, absent, out=tmp_path / "o")
    with pytest.raises(PlanError, match="gap is about objects"):
        predict_files(gray_model, absent, out=tmp_path / "o", after={"gap": 0.1})
    with pytest.raises(PlanError, match="only the largest component"):
        predict_files(object_model, absent, out=tmp_path / "o", after={"largest": ("all",)})
    with pytest.raises(OutputError, match="in 32 bits and in 16"):
        predict_files(object_model, absent, out=tmp_path / "o", probabilities=True, keep_probabilities=True)
    with pytest.raises(ModelError, match="finds classes and no objects"):
        gray_model.objects_of(np.zeros((4, 8, 8), np.float32))
    with pytest.raises(ShapeError, match="3 channels cannot be decoded, the network gives 4"):
        object_model.objects_of(np.zeros((3, 8, 8), np.float32))


# What is kept behind the network


def test_folds_decode_in_the_middle_and_clean_what_most_clean():
    """The mean of numbers, and what more than half of them have."""
    parts = [
        Postprocessing(decoding=Decoding(gap=gap, min_size=size, fill_holes=size < 30))
        for gap, size in ((0.25, 10), (0.5, 20), (0.75, 90))
    ]
    assert together(parts).decoding == Decoding(gap=0.5, min_size=20)
    few, many = Cleaning(min_size=8), Cleaning(min_size=64)
    found = together([Postprocessing(cleaning=one) for one in ({1: few, 2: many}, {1: few}, {1: many, 2: few})])
    assert found.cleaning == {1: few}
    assert together(parts[:1]) is parts[0]


def test_a_file_that_was_changed_is_refused(object_model, tmp_path):
    """Unknown settings, impossible ones, and those of another model."""
    space = Workspace(tmp_path)
    object_model.after.save(space.postprocessing)
    good = space.postprocessing.read_text()
    assert of_model([space], object_model.plan) == object_model.after
    for wrong in (good.replace('"gap"', '"gab"'), good.replace('"format": 1', '"format": 2'), good[:-9], ""):
        space.postprocessing.write_text(wrong)
        with pytest.raises(ModelError, match=r"postprocessing\.json"):
            of_model([space], object_model.plan)
    Postprocessing().save(space.postprocessing)
    with pytest.raises(ModelError, match="of another model"):
        of_model([space], object_model.plan)


def test_a_cleaning_of_the_model_is_done_and_can_be_overruled(gray_model, tmp_path):
    """Only the largest piece of class 1, unless told otherwise."""
    from dataclasses import replace

    plan = gray_model.plan
    cleaned = replace(gray_model, after=Postprocessing(cleaning={1: Cleaning(largest=True)}))
    y, x = np.mgrid[:40, :40]
    image = (200 * (((y // 10) % 2) & ((x // 10) % 2))).astype(np.uint8)
    mask = gray_model.predict(image)
    assert set(np.unique(cleaned.predict(image))) <= set(np.unique(mask))
    assert (cleaned.predict(image) > 0).sum() <= (mask > 0).sum()
    name = plan.labels.names[1]
    assert overruled(cleaned.after, plan, largest=()).cleaning == {}
    assert overruled(cleaned.after, plan, min_size=9).cleaning == {1: Cleaning(largest=True, min_size=9)}
    assert overruled(Postprocessing(), plan, largest=name).cleaning == {1: Cleaning(largest=True)}
    assert overruled(Postprocessing(), plan, fill_holes={name: 5}).cleaning == {1: Cleaning(fill_holes=5)}
    with pytest.raises(PlanError, match="'liver' is no class"):
        overruled(cleaned.after, plan, min_size={"liver": 5})


def test_cleaning_counts_pixels_of_the_training(gray_model):
    """In an image of pixels twice as wide, a piece has four times as many of them as it has pixels."""
    from dataclasses import replace

    y, x = np.mgrid[:40, :40]
    pixels = (200 * (((y // 10) % 2) & ((x // 10) % 2))).astype(np.uint8)
    image = Image(array=pixels[None], axes="yx", spacing=(1.0, 1.0), unit="um")
    plain = replace(gray_model, plan=gray_model.plan.model_copy(update={"spacing": (0.5, 0.5), "unit": "um"}))
    found = plain.plan.labels.encode(plain.mask_of(image).array)
    largest = np.bincount(ndimage.label(found == 1, np.ones((3, 3)))[0].ravel())[1:].max()
    for least, kept in ((4 * largest, True), (4 * largest + 4, False)):
        cleaned = replace(plain, after=Postprocessing(cleaning={1: Cleaning(min_size=int(least))})).mask_of(image)
        assert (plain.plan.labels.encode(cleaned.array) == 1).any() == kept


def test_a_cleaning_that_helps_is_accepted_and_scored(tmp_path):
    """Six masks with a speck that is never right: it goes, in the file and in the scores."""
    from uvea.workflows.validation import cleaned_scores, cleaning_of

    class Kept(dict):
        """Truths, in the plane."""

        def grid(self, name):
            return Grid(axes="yx", spacing=(1.0, 1.0))

    truths, found = Kept(), {}
    for number in range(6):
        truth = np.zeros((20, 20), np.int16)
        truth[4:14, 4 : 12 + number % 2] = 1
        truths[f"c{number}"] = truth
        found[f"c{number}"] = truth.copy()
        found[f"c{number}"][17:19, 16:19] = 1
    labels = SimpleNamespace(names=("background", "cell"))
    run = SimpleNamespace(
        plan=SimpleNamespace(
            classes=2, labels=labels, minutes=None, spacing=None, fingerprint=SimpleNamespace(orientation="")
        ),
        kept=SimpleNamespace(splits=(None,)),
        cases={name: SimpleNamespace(group=None) for name in truths},
    )
    after = cleaning_of(run, found, truths)
    assert list(after.cleaning) == [1] and after.cases == 6
    rows = cleaned_scores(run, found, truths, after)
    assert all(row["dice"] == 1.0 for row in rows)
    after.save(tmp_path / "postprocessing.json")
    assert Postprocessing.load(tmp_path / "postprocessing.json") == after and len(after.tried) > 6


def test_masks_of_the_size_of_objects_are_chosen_evenly():
    """As many as there is room for, at least one."""
    from uvea.workflows.validation import spread_over

    names = [str(n) for n in range(10)]
    sizes = dict.fromkeys(names, 100)
    assert spread_over(names, sizes, most=99, pixels=10_000) == names
    assert spread_over(names, sizes, most=99, pixels=500) == ["0", "2", "4", "6", "8"]
    assert spread_over(names, sizes, most=2, pixels=10_000) == ["0", "5"]
    assert spread_over(names, sizes, most=99, pixels=5) == ["0"]
