"""Masks for files and arrays: names, formats, geometry and values as they were, and no surprise on disk."""

import errno
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from uvea.errors import DatasetError, ImageError, ModelError, OutputError, PlanError, ShapeError, UveaError
from uvea.images import read, write
from uvea.images.image import Image
from uvea.models.device import Precision
from uvea.workflows import model as loading
from uvea.workflows import predict as workflow
from uvea.workflows.events import Message, Progress
from uvea.workflows.model import load
from uvea.workflows.pipeline import PartlyDoneError
from uvea.workflows.predict import predict_files

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")


@pytest.fixture
def gray(rng):
    """Gray noise of 18×21, (y, x) uint8."""
    return rng.integers(0, 255, (18, 21), dtype=np.uint8)


def save(path, array, **geometry):
    """Write (c, ...) pixels."""
    write(path, Image(array=array, **{"axes": "yx" if array.ndim == 3 else "zyx", **geometry}))
    return path


def names_in(folder):
    """All files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Arrays


def test_an_array_with_or_without_channel_a_file_and_a_list_agree(gray_model, gray, tmp_path):
    """(y, x), (1, y, x), an image, a tensor, a path, its text, and all of them at once."""
    path = save(tmp_path / "a.png", gray[None])
    wanted = gray_model.predict(gray)
    pictures = [
        gray,
        gray[None],
        read(path),
        torch.from_numpy(gray),
        path,
        str(path),
        Image(array=gray[None], axes="yx"),
    ]
    for one in pictures:
        found = gray_model.predict(one)
        assert found.shape == (18, 21)
        np.testing.assert_array_equal(found, wanted)
    for many in (pictures, tuple(pictures), (one for one in pictures)):
        found = gray_model.predict(many)
        assert isinstance(found, list) and len(found) == len(pictures)
    assert gray_model.predict([]) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 2), (70, 9)])
def test_any_size_gives_a_mask_of_that_size(gray_model, shape):
    """From one pixel up."""
    assert gray_model.predict(np.full(shape, 9, np.uint16)).shape == shape


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", ">i4", "float16", "float64"])
def test_any_type_of_number_is_taken(gray_model, gray, dtype):
    """The scale does not matter to a model that normalises each image."""
    assert gray_model.predict((gray > 99).astype(dtype)).shape == gray.shape


def test_a_tensor_is_an_array(gray_model, gray):
    """Also one that gradients are kept of, which numpy refuses."""
    array = gray.astype(np.float32)
    tensor = torch.from_numpy(array).requires_grad_()
    np.testing.assert_array_equal(gray_model.predict(tensor), gray_model.predict(array))


def test_a_colour_model_takes_gray_arrays(rgb_model, gray):
    """(y, x) and (1, y, x), as it takes gray files among colour ones."""
    np.testing.assert_array_equal(rgb_model.predict(gray), rgb_model.predict(gray[None]))
    np.testing.assert_array_equal(rgb_model.predict(gray), rgb_model.predict(np.stack([gray] * 3)))


def test_a_2d_model_takes_a_volume_slice_by_slice(gray_model, rng):
    """(1, z, y, x): each slice by itself."""
    volume = rng.integers(0, 99, (1, 3, 16, 17), dtype=np.uint8)
    found = gray_model.predict(volume)
    assert found.shape == (3, 16, 17)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((18, 21, 3), r"18×21×3 starts with 18 channels, .*trained on 1\n.*moveaxis"),
        ((0, 5), "0×5 has no pixels"),
        ((5,), "1 axes"),
        ((1, 1, 2, 3, 4), "5 axes"),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_its_size(gray_model, shape, words):
    """And with the way to make it one."""
    with pytest.raises(ShapeError, match=words):
        gray_model.predict(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("picture", [np.array(["a"]), np.zeros((3, 3), complex), 3, None])
def test_what_holds_no_numbers_is_refused(gray_model, picture):
    """Text, complex numbers, and things that are no pictures at all."""
    with pytest.raises((ShapeError, TypeError)):
        gray_model.predict(picture)


def test_probabilities_sum_to_one_and_decide_the_mask(gray_model, volume_model, gray, rng):
    """The mask is the most probable class."""
    found = gray_model.probabilities(gray)
    assert found.shape == (2, 18, 21) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(gray_model.predict(gray), np.array([0, 255])[found.argmax(0)])
    assert volume_model.probabilities(rng.random((1, 5, 6, 7))).shape == (3, 5, 6, 7)
    assert gray_model.probabilities(gray).flags.writeable


def test_mirroring_changes_a_little_and_keeps_the_size(gray_model, gray):
    """Averaged over the mirror axes of the plan."""
    assert gray_model.plan.mirror_axes
    plain, mirrored = gray_model.probabilities(gray), gray_model.probabilities(gray, mirror=True)
    assert not np.array_equal(plain, mirrored)
    np.testing.assert_allclose(mirrored[:, ::-1], gray_model.probabilities(gray[::-1], mirror=True), atol=1e-5)


# Files


def test_masks_have_the_names_folders_and_format_of_their_images(gray_model, gray, tmp_path):
    """Sub-folders too; the result lists what was written, in order."""
    for name in ("b.tif", "a.png", "deep/c.npy"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True, parents=True)
        save(tmp_path / "in" / name, gray[None])
    written = predict_files(gray_model, tmp_path / "in", out=tmp_path / "out")
    assert names_in(tmp_path / "out") == ["a.png", "b.tif", "deep/c.npy"]
    assert sorted(written) == sorted(tmp_path / "out" / name for name in ("a.png", "b.tif", "deep/c.npy"))
    for path in written:
        np.testing.assert_array_equal(read(path).array[0], gray_model.predict(gray))


def test_a_model_may_be_named_by_its_folder(gray_model, gray, tmp_path):
    """As the command line does."""
    path = save(tmp_path / "a.png", gray[None])
    (mask,) = predict_files(gray_model.folder, [path], out=tmp_path / "out", device="cpu")
    np.testing.assert_array_equal(read(mask).array[0], gray_model.predict(gray))


def test_pixels_of_another_size_than_those_of_the_training_are_warned_of(volume_model, rng, tmp_path):
    """Half the size shows everything twice as large; a rounding in the header, and another unit, say the same."""
    told = []
    for name, unit, scale in (("half", "mm", 0.5), ("same", "mm", 1.01), ("other", "um", 1000.0)):
        spacing = tuple(size * scale for size in (2.0, 1.0, 1.0))
        array = rng.random((1, 8, 16, 16)).astype(np.float32)
        write(tmp_path / f"{name}.nii", Image(array=array, axes="zyx", spacing=spacing, unit=unit))
    predict_files(volume_model, tmp_path, out=tmp_path / "out", listen=told.append)
    (said,) = [event.text for event in told if isinstance(event, Message) and event.level == "warning"]
    assert said.startswith("half has pixels of 1×0.5×0.5 mm, training images of 2×1×1 mm: it is not resampled")


def test_the_geometry_of_a_volume_is_kept(volume_model, rng, tmp_path):
    """Spacing, origin, unit and direction, of the mask and of the probabilities."""
    image = rng.integers(0, 99, (1, 9, 20, 22), dtype=np.int16)
    turned = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    path = save(
        tmp_path / "scan.nii.gz", image, spacing=(2.0, 1.0, 1.0), unit="mm", origin=(1.0, 2.0, 3.0), direction=turned
    )
    mask, probabilities = predict_files(volume_model, path, out=tmp_path / "out", probabilities=True)
    assert names_in(tmp_path / "out") == ["scan.nii.gz", "scan_probabilities.nii.gz"]
    for one in (read(mask), read(probabilities)):
        assert (one.shape, one.unit) == ((9, 20, 22), "mm")
        np.testing.assert_allclose(one.spacing, (2, 1, 1), atol=1e-5)
        np.testing.assert_allclose(one.origin, (1, 2, 3), atol=1e-4)
        np.testing.assert_allclose(one.direction, turned, atol=1e-6)
    assert read(mask).array.dtype == np.uint8
    assert read(probabilities).channels == 3


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".jpg", ".png"), (".bmp", ".png"), (".png", ".png"), (".tif", ".tif")]
)
def test_a_format_that_would_change_a_mask_gives_way_to_png(gray_model, gray, tmp_path, suffix, expected):
    """JPEG loses values."""
    Picture.fromarray(gray).save(tmp_path / f"a{suffix}")
    (mask,) = predict_files(gray_model, tmp_path / f"a{suffix}", out=tmp_path / "out")
    assert mask.name == f"a{expected}"
    assert set(np.unique(read(mask).array)) <= {0, 255}


def test_values_that_png_cannot_hold_go_to_tiff(gray_model, gray, tmp_path):
    """Masks of 0 and 70000, asked for a PNG image."""
    labels = gray_model.plan.labels.model_copy(update={"values": (0, 70000)})
    model = load(gray_model.folder)
    object.__setattr__(model, "plan", model.plan.model_copy(update={"labels": labels}))
    (mask,) = predict_files(model, save(tmp_path / "a.png", gray[None]), out=tmp_path / "out")
    assert mask.name == "a.tif"
    assert set(np.unique(read(mask).array)) <= {0, 70000}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".npy", ".nrrd", ".mha", ".nii.gz"])
def test_probabilities_are_written_beside_any_format(gray_model, gray, tmp_path, suffix):
    """Two channels of float32, the numbers that were computed; TIFF where the format is for pictures."""
    path = tmp_path / f"a{suffix}"
    if suffix in (".png", ".jpg", ".bmp"):
        Picture.fromarray(gray).save(path)
    else:
        save(path, gray[None])
    mask, probabilities = predict_files(gray_model, path, out=tmp_path / "out", probabilities=True)
    assert probabilities.name == f"a_probabilities{'.tif' if suffix in ('.png', '.jpg', '.bmp') else suffix}"
    found = read(probabilities)
    assert found.array.dtype == np.float32
    assert found.channels == 2
    np.testing.assert_allclose(found.array.reshape(2, *gray.shape), gray_model.probabilities(read(path)), atol=1e-6)
    assert read(mask).array.size == gray.size


def test_colour_codes_are_undone(rgb_model, rng, tmp_path):
    """Black and red, three channels, in PNG and TIFF."""
    pixels = rng.integers(0, 255, (3, 15, 16), dtype=np.uint8)
    for suffix in (".png", ".tif"):
        save(tmp_path / f"a{suffix}", pixels)
        (mask,) = predict_files(rgb_model, tmp_path / f"a{suffix}", out=tmp_path / "out")
        colours = read(mask).array.reshape(3, -1).T
        assert {tuple(colour) for colour in colours.tolist()} <= {(0, 0, 0), (255, 0, 0)}


def test_a_gray_file_goes_through_a_colour_model(rgb_model, gray, tmp_path):
    """Its channel is repeated."""
    (mask,) = predict_files(rgb_model, save(tmp_path / "a.png", gray[None]), out=tmp_path / "out")
    assert read(mask).shape == gray.shape


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deep_files_work_with_a_model_of_8_bit(gray_model, gray, tmp_path, dtype):
    """Each image is normalised by itself."""
    path = save(tmp_path / "a.tif", (gray.astype(dtype) * 200)[None])
    (mask,) = predict_files(gray_model, path, out=tmp_path / "out")
    assert read(mask).array.dtype == np.uint8


@pytest.mark.parametrize("axes", ["zyx", "tyx"])
def test_a_stack_goes_through_a_2d_model(gray_model, rng, tmp_path, axes):
    """Slices and frames; the mask has the axes of the image."""
    path = save(tmp_path / "stack.tif", rng.integers(0, 99, (1, 3, 16, 17), dtype=np.uint8), axes=axes)
    mask, probabilities = predict_files(gray_model, path, out=tmp_path / "out", probabilities=True)
    assert (read(mask).axes, read(mask).shape) == (axes, (3, 16, 17))
    assert read(probabilities).array.shape == (2, 3, 16, 17)


def test_a_file_can_be_read_with_other_axes(gray_model, rng, tmp_path):
    """A stack whose file does not say what it is."""
    np.save(tmp_path / "a.npy", rng.random((4, 16, 17)))
    (mask,) = predict_files(gray_model, tmp_path / "a.npy", out=tmp_path / "out", axes="zyx")
    assert read(mask).shape == (4, 16, 17)


def test_axes_that_the_training_was_given_are_in_the_way_out(gray_model, rng, tmp_path):
    """Where they are missing and the channels do not fit."""
    model = copy_of(gray_model, tmp_path / "m")
    facts = model / "run" / "run.json"
    facts.write_text(facts.read_text().replace('"axes": null', '"axes": "cyx"'))
    path = save(tmp_path / "a.npy", rng.random((2, 16, 17)))
    with pytest.raises(ShapeError, match=r"2 channel\(s\), .*trained on 1\n.*give --axes cyx, as in the training"):
        predict_files(model, path, out=tmp_path / "out")


def test_a_training_that_has_not_ended_is_said(gray_model, gray_data, tmp_path):
    """Its weights may be used, and nobody should take them for the final ones."""
    copy = tmp_path / "m"
    shutil.copytree(gray_model.folder, copy)
    events = []
    predict_files(copy, gray_data / "images", out=tmp_path / "a", listen=events.append)
    assert not [event for event in events if isinstance(event, Message)]
    for name in ("scores.csv", "postprocessing.json"):  # killed while it was scored
        (copy / name).unlink()
    predict_files(copy, gray_data / "images", out=tmp_path / "b", listen=events.append)
    (text,) = [event.text for event in events if isinstance(event, Message)]
    assert "has not ended" in text and f"--resume {copy}" in text


def test_axes_that_no_image_can_have_are_refused_at_once(tmp_path):
    """Before the model is loaded, which may take long."""
    with pytest.raises(ShapeError, match=r"axes 'q' have letters that mean nothing: q\n"):
        predict_files(tmp_path / "no model", tmp_path, out=tmp_path / "out", axes="q")


def test_the_listener_hears_of_every_image(gray_model, gray_data, tmp_path):
    """From none done to all."""
    events = []
    predict_files(gray_model, gray_data / "images", out=tmp_path, listen=events.append)
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [(n, 6) for n in range(7)]


def test_an_image_without_a_pixel_size_is_warned_of(volume_model, rng, tmp_path):
    """Where the plan resamples, it is taken to have the size of the training."""
    model = load(volume_model.folder)
    object.__setattr__(model, "plan", model.plan.model_copy(update={"spacing": (2.0, 1.0, 1.0)}))
    path = save(tmp_path / "a.tif", rng.integers(0, 99, (1, 9, 16, 17), dtype=np.uint8))
    events = []
    predict_files(model, path, out=tmp_path / "out", listen=events.append)
    size, orientation = [event.text for event in events if isinstance(event, Message)]
    assert "2×1×1 mm" in size and orientation.startswith("a does not say how it lies in space: it is taken to be LPS")


def test_what_is_said_of_one_image_is_said_once_more_for_all_others(volume_model, rng, tmp_path):
    """Three volumes without an orientation give two warnings."""
    for name in "abc":
        array = rng.random((1, 8, 16, 16)).astype(np.float32)
        write(tmp_path / f"{name}.tif", Image(array=array, axes="zyx", spacing=(2.0, 1.0, 1.0), unit="mm"))
    told = []
    predict_files(volume_model, tmp_path, out=tmp_path / "out", listen=told.append)
    one, rest = [event.text for event in told if isinstance(event, Message) and event.level == "warning"]
    assert one.startswith("a does not say") and rest.startswith("so it is with 'b', 'c': each does not say")


# What must never happen


def never(*args, **kwargs):
    """Fail if anything is computed."""
    pytest.fail("computed before the outputs were checked")


def test_existing_masks_are_refused_before_anything_is_computed(gray_model, gray_data, tmp_path, monkeypatch):
    """The third of six is there; it stays as it is, and none is written."""
    (tmp_path / "case2.png").write_bytes(b"precious")
    monkeypatch.setattr(workflow, "read", never)
    with pytest.raises(OutputError, match=r"case2.png exists already\n.*--overwrite"):
        predict_files(gray_model, gray_data / "images", out=tmp_path)
    assert names_in(tmp_path) == ["case2.png"]
    assert (tmp_path / "case2.png").read_bytes() == b"precious"
    monkeypatch.undo()
    predict_files(gray_model, gray_data / "images", out=tmp_path, overwrite=True)
    assert read(tmp_path / "case2.png").shape == (20, 24)


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_is_never_replaced_by_its_mask(gray_model, gray, tmp_path, overwrite):
    """Not even with --overwrite, nor through another name of the folder."""
    path = save(tmp_path / "in" / "a.png", gray[None])
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = path.read_bytes()
    for out in (tmp_path / "in", tmp_path / "link", tmp_path / "in" / ".." / "in"):
        with pytest.raises(OutputError, match="would replace its image"):
            predict_files(gray_model, path, out=out, overwrite=overwrite)
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", [{"overwrite": True}, {"resume": True}, {}])
def test_masks_that_the_model_was_trained_on_are_never_replaced(gray_model, gray_data, tmp_path, monkeypatch, how):
    """Drawn by hand, perhaps, and under the names of the predictions; another folder in the data may be written to."""
    monkeypatch.setattr(workflow, "read", never)
    (tmp_path / "link").symlink_to(gray_data)
    for data in (gray_data, tmp_path / "link"):
        with pytest.raises(OutputError, match=r"case0.png is of the data that the model was trained on \(and 5 more\)"):
            predict_files(gray_model, gray_data / "images", out=data / "masks", **how)


def test_a_mask_never_replaces_the_probabilities_of_another(gray_model, gray, tmp_path, monkeypatch):
    """Images called a.png and a_probabilities.tif want the same file."""
    save(tmp_path / "in" / "a.png", gray[None])
    save(tmp_path / "in" / "a_probabilities.tif", gray[None])
    monkeypatch.setattr(workflow, "read", never)
    with pytest.raises(OutputError, match="two results would both be .*a_probabilities.tif"):
        predict_files(gray_model, tmp_path / "in", out=tmp_path / "out", probabilities=True, overwrite=True)


@pytest.mark.parametrize("pair", [("CON.png",), ("a.png", "A.png"), ("\u00e9.png", "e\u0301.png")])
def test_names_that_clash_on_another_system_are_refused_before_anything_is_computed(gray_model, gray, tmp_path, pair):
    """The name of a device, and two that differ in case or Unicode form only."""
    for name in pair:
        save(tmp_path / "in" / name, gray[None])
    if len(list((tmp_path / "in").iterdir())) < len(pair):
        pytest.skip("this disk takes the two names for one")
    with pytest.raises(OutputError, match=r"name of a device|differ in case or Unicode form only"):
        predict_files(gray_model, tmp_path / "in", out=tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_an_out_that_is_a_file_is_refused_before_anything_is_computed(gray_model, gray, tmp_path, monkeypatch, name):
    """The hint says what to change."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(workflow, "read", never)
    with pytest.raises(OutputError, match=r"is a file.*\n.*--out"):
        predict_files(gray_model, save(tmp_path / "a.png", gray[None]), out=tmp_path / name)


def test_a_mask_whose_name_is_a_folder_is_refused(gray_model, gray, tmp_path, monkeypatch):
    """With --overwrite too."""
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    monkeypatch.setattr(workflow, "read", never)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="exists already"):
            predict_files(
                gray_model,
                save(tmp_path / str(overwrite) / "a.png", gray[None]),
                out=tmp_path / "out",
                overwrite=overwrite,
            )


def test_an_interruption_leaves_whole_masks_only(gray_model, gray_data, tmp_path, monkeypatch):
    """Two done, the third begun: it may be there as well, if it was being written."""

    def listen(event):
        if event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_files(gray_model, gray_data / "images", out=tmp_path, listen=listen)
    there = names_in(tmp_path)
    assert there[:2] == ["case0.png", "case1.png"] and len(there) <= 3
    for name in there:
        assert read(tmp_path / name).shape == (20, 24)


def test_a_faulty_image_is_named_and_leaves_nothing_of_itself(gray_model, gray, rng, tmp_path):
    """Three channels, NaN, damaged, missing: the file and the fault."""
    save(tmp_path / "rgb.tif", rng.integers(0, 99, (3, 9, 9), dtype=np.uint8))
    save(tmp_path / "nan.tif", np.full((1, 9, 9), np.nan, np.float32))
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "a.png", gray[None]).read_bytes()[:50])
    for name, error, words in (
        ("rgb.tif", ShapeError, r"rgb.tif has 3 channel\(s\), the model was trained on 1"),
        ("nan.tif", ImageError, "nan.tif has 81 pixels that are NaN"),
        ("cut.png", ImageError, "cut.png"),
        ("none.png", DatasetError, "none.png"),
    ):
        with pytest.raises(error, match=words):
            predict_files(gray_model, tmp_path / name, out=tmp_path / "out")
    assert names_in(tmp_path / "out") == [] if (tmp_path / "out").exists() else True


def test_a_flat_image_is_refused_by_a_volume_model(volume_model, gray, tmp_path):
    """And the file is named."""
    with pytest.raises(ShapeError, match="a.png has axes yx"):
        predict_files(volume_model, save(tmp_path / "a.png", gray[None]), out=tmp_path / "out")


# Many files


def test_one_bad_file_does_not_stop_the_others(gray_model, gray, tmp_path):
    """Damaged, without numbers and of another kind: each is listed with its fault, and all others are done."""
    for name in ("a.tif", "c.tif", "e.tif"):
        save(tmp_path / "in" / name, gray[None])
    (tmp_path / "in" / "b.tif").write_bytes(b"II*\0 no")
    save(tmp_path / "in" / "d.tif", np.full((1, 9, 9), np.nan, np.float32))
    save(tmp_path / "in" / "f.tif", np.zeros((2, 9, 9), np.uint8))
    events = []
    with pytest.raises(PartlyDoneError, match=r"3 of 6 images could not be predicted.*\n.*--resume") as caught:
        predict_files(gray_model, tmp_path / "in", out=tmp_path / "out", listen=events.append)
    assert names_in(tmp_path / "out") == ["a.tif", "c.tif", "e.tif"]
    assert caught.value.written == [tmp_path / "out" / name for name in ("a.tif", "c.tif", "e.tif")]
    assert [name in error.problem for name, error in zip(("b.tif", "d.tif", "f.tif"), caught.value.failures)] == [
        True,
        True,
        True,
    ]
    assert [(e.done, e.total) for e in events if isinstance(e, Progress)] == [(n, 6) for n in range(7)]


def test_a_full_disk_stops_all(gray_model, gray_data, tmp_path, monkeypatch):
    """The next file would meet it too; what was written before stays."""
    calls = []

    def full(path, image, *, overwrite):
        calls.append(path)
        if len(calls) == 3:
            raise OutputError(f"{path} cannot be written", hint="free space") from OSError(errno.ENOSPC, "no space")
        write(path, image, overwrite=overwrite)

    monkeypatch.setattr(workflow, "write", full)
    with pytest.raises(OutputError, match="cannot be written"):
        predict_files(gray_model, gray_data / "images", out=tmp_path)
    assert names_in(tmp_path)[:2] == ["case0.png", "case1.png"]
    assert len(calls) <= 4


def test_resuming_leaves_out_what_is_there_and_whole(gray_model, gray_data, tmp_path):
    """Two are there; of one a part is missing, as after a power cut: it is made again. Nothing else is touched."""
    everything = predict_files(gray_model, gray_data / "images", out=tmp_path / "all")
    for path in everything[:3]:
        shutil.copy(path, tmp_path / path.name)
    cut = tmp_path / everything[1].name
    cut.write_bytes(cut.read_bytes()[:-20])
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    events = []
    written = predict_files(gray_model, gray_data / "images", out=tmp_path, resume=True, listen=events.append)
    assert [path.name for path in written] == [everything[i].name for i in (1, 3, 4, 5)]
    assert "2 of 6 images are done already" in [event.text for event in events if isinstance(event, Message)]
    assert [e.done for e in events if isinstance(e, Progress)] == [2, 3, 4, 5, 6]
    for path in everything:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    for index in (0, 2):
        name = everything[index].name
        assert (tmp_path / name).stat().st_mtime_ns == before[name]
    assert predict_files(gray_model, gray_data / "images", out=tmp_path, resume=True) == []


def test_resuming_with_probabilities_wants_both_files(gray_model, gray, tmp_path):
    """Probabilities are made where they are missing; a mask that is whole, perhaps corrected by hand, stays."""
    path = save(tmp_path / "a.tif", gray[None])
    (mask,) = predict_files(gray_model, path, out=tmp_path / "out")
    write(mask, read(mask).with_array(255 - read(mask).array), overwrite=True)
    corrected = mask.read_bytes()
    written = predict_files(gray_model, path, out=tmp_path / "out", resume=True, probabilities=True)
    assert [one.name for one in written] == ["a_probabilities.tif"]
    assert mask.read_bytes() == corrected


def test_resuming_and_overwriting_contradict_each_other(tmp_path):
    """Found before the model is loaded."""
    with pytest.raises(OutputError, match="--overwrite replaces all masks and --resume none"):
        predict_files(tmp_path / "none", tmp_path, out=tmp_path, resume=True, overwrite=True)


def test_mask_and_probabilities_take_one_pass(gray_model, gray, tmp_path):
    """The network sees every tile once."""
    seen = []
    (network,) = gray_model.networks
    hook = network.register_forward_hook(lambda *_: seen.append(1))
    try:
        predict_files(gray_model, save(tmp_path / "a.tif", gray[None]), out=tmp_path / "o", probabilities=True)
    finally:
        hook.remove()
    assert len(seen) == 1


def without_memory_for(pixels, model):
    """The model anew, where a tile of more pixels does not fit."""
    loaded = load(model.folder)
    (network,) = loaded.networks

    def small(tiles):
        if tiles.shape[-1] * tiles.shape[-2] > pixels:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return network(tiles)

    return replace(loaded, networks=(small,))


def test_a_lack_of_memory_is_said_once_and_remembered(gray_model, gray_data, tmp_path):
    """The warning names what is done about it."""
    model = without_memory_for(300, gray_model)
    events = []
    predict_files(model, gray_data / "images", out=tmp_path, listen=events.append)
    (said,) = [event for event in events if isinstance(event, Message)]
    assert said.level == "warning" and "no memory for a tile" in said.text and "24×24 to 24×12" in said.text
    assert len(names_in(tmp_path)) == 6


def test_a_lack_of_memory_is_told_to_each_call_that_listens(gray_model, gray, tmp_path):
    """What was remembered in silence is not silent ever after; several images are one call."""
    model = without_memory_for(300, gray_model)
    large = np.tile(gray, (2, 2))
    path, image = save(tmp_path / "a.tif", large[None]), Image(array=large[None], axes="yx")
    model.predict(large)
    for call in (
        lambda listen: predict_files(model, path, out=tmp_path / "out", listen=listen),
        lambda listen: model.predict([large, large], listen=listen),
        lambda listen: model.probabilities(large, listen=listen),
        lambda listen: model.mask_of(image, listen=listen),
    ):
        events = []
        call(events.append)
        assert ["no memory for a tile" in event.text for event in events if isinstance(event, Message)] == [True]


def test_what_says_how_to_load_is_refused_with_a_model_that_is_loaded(gray_model, tmp_path):
    """It would be ignored; the device that the model is on may be named."""
    elsewhere = replace(gray_model, engine=replace(gray_model.engine, device=torch.device("cuda")))
    for model, facts in (
        (elsewhere, {"device": "cpu"}),
        (gray_model, {"engine": "torch"}),
        (gray_model, {"int8": True}),
    ):
        with pytest.raises(PlanError, match=f"'{next(iter(facts))}' given with a model .*\n.*uvea.load"):
            predict_files(model, tmp_path, out=tmp_path / "out", **facts)
    path = save(tmp_path / "a.png", np.zeros((1, 20, 24), np.uint8))
    assert len(predict_files(gray_model, path, out=tmp_path / "out", device="cpu")) == 1


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ({"bogus": 1}, "no setting 'bogus' in after\n.*largest, min_size"),
        ({"largest_component": ["foreground"]}, "no setting 'largest_component' in after\n.*largest, min_size"),
        ({"min_size": "20"}, "min_size in after is '20'\n.*a number"),
        ({"fill_holes": {"foreground": "20"}}, "fill_holes in after is"),
        ({"largest": True}, "largest in after is True\n.*names of classes"),
    ],
)
def test_settings_that_do_not_exist_are_refused_by_name(gray_model, after, problem, tmp_path):
    """With those that do."""
    with pytest.raises(PlanError, match=problem):
        predict_files(gray_model, tmp_path, out=tmp_path / "out", after=after)


# Models that are no models


def copy_of(model, folder):
    """A model folder to damage."""
    return shutil.copytree(model.folder, folder)


def test_a_model_that_is_not_there_is_one_error(tmp_path):
    """Neither a missing folder, an empty one, nor a file."""
    (tmp_path / "file").touch()
    for name in ("nothing", ".", "file"):
        with pytest.raises(ModelError, match="is not a model"):
            load(tmp_path / name)


def damaged_plan(folder):
    """A plan for wider layers than the weights have."""
    plan = json.loads((folder / "plan.json").read_text())
    plan["width"] = [4, 16]
    (folder / "plan.json").write_text(json.dumps(plan))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda folder: (folder / "weights.safetensors").unlink(), ModelError, "no weights yet"),
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"no"), ModelError, "safetensors"),
        (lambda folder: (folder / "plan.json").write_text("{"), PlanError, "plan.json"),
        (damaged_plan, ModelError, "does not fit the network"),
    ],
)
def test_a_damaged_model_is_one_error(gray_model, tmp_path, damage, error, words):
    """With the file in it."""
    folder = copy_of(gray_model, tmp_path / "m")
    damage(folder)
    with pytest.raises(error, match=words) as caught:
        load(folder)
    assert isinstance(caught.value, UveaError)


def test_how_a_model_predicts_is_measured_once(gray_model, tmp_path, monkeypatch):
    """So masks do not change from call to call; a damaged note, or one of another torch, is measured anew."""
    model, measured = tmp_path / "m", []
    shutil.copytree(gray_model.folder, model)
    plan = json.loads((model / "plan.json").read_text())
    (model / "plan.json").write_text(json.dumps({**plan, "precision": "auto"}))

    def choose(plan, network, device, *, training):
        measured.append(training)
        return Precision(dtype="float32", channels_last=len(measured) == 1, reason="")

    monkeypatch.setattr(loading, "choose", choose)
    assert [load(model, device="cpu").engine.channels_last for _ in range(3)] == [True, True, True]
    (note,) = (model / "run" / "engines").iterdir()
    note.write_text('{"dtype": "float64"}')
    assert not load(model, device="cpu").engine.channels_last
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    load(model, device="cpu")
    assert measured == [False] * 3


def test_a_model_without_its_run_still_predicts(gray_model, gray, tmp_path):
    """What people share is plan and weights."""
    folder = copy_of(gray_model, tmp_path / "m")
    shutil.rmtree(folder / "run")
    np.testing.assert_array_equal(load(folder).predict(gray), gray_model.predict(gray))


def test_an_unknown_device_is_refused_by_name(gray_model):
    """And those there are named."""
    with pytest.raises(PlanError, match=r"'gpu9'.*\n.*cpu"):
        load(gray_model.folder, device="gpu9")
