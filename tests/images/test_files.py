"""Channel files, NumPy arrays without axes, and what is the same for every format."""

import logging
import subprocess
import sys
import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from uvea.errors import ImageError, ShapeError
from uvea.images import Image, Plane, geometry_difference, read, read_channels, write
from uvea.images.npy import guess_axes
from uvea.images.orientation import turn_between


def place(tmp_path, name, array, **facts):
    """Write a volume of one channel and return its path."""
    write(tmp_path / name, Image(array=array, axes="zyx", unit="mm", **facts))
    return tmp_path / name


def test_files_may_be_named_by_text(tmp_path, monkeypatch):
    """`uvea.read("scan.nii.gz")`, as the README has it."""
    monkeypatch.chdir(tmp_path)
    write("a.nii.gz", Image(array=np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4), axes="zyx"))
    assert read("a.nii.gz").array.tolist() == np.arange(24).reshape(1, 2, 3, 4).tolist()


def test_a_file_that_may_not_be_opened_is_named_once(tmp_path, monkeypatch):
    """Python's own text has a number and the path again."""
    (tmp_path / "a.png").write_bytes(b"x")

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(ImageError, match=r"a\.png cannot be opened: Permission denied\n"):
        read(tmp_path / "a.png")


def test_one_grid_in_two_units_is_one_grid():
    """A microscope counts in µm and a scanner in mm; a pixel of no known size is neither."""
    in_um = Image(array=np.zeros((1, 4, 5)), axes="yx", spacing=(250.0, 500.0), origin=(1000.0, 0.0), unit="um")
    in_mm = Image(array=np.zeros((1, 4, 5)), axes="yx", spacing=(0.25, 0.5), origin=(1.0, 0.0), unit="mm")
    assert geometry_difference(in_um, in_mm) is None
    assert geometry_difference(in_mm, in_um) is None
    assert geometry_difference(in_um, replace(in_mm, spacing=(0.25, 0.6))) is not None
    assert geometry_difference(in_um, replace(in_mm, unit="px")) == "units differ: um and px"


def test_slices_at_different_places_are_on_different_grids():
    """Also where they are in different units; on which side of a slice its front is does not matter."""
    plane = Plane(thickness=3.0, origin=(1.0, 2.0, 3.0), direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    image = Image(array=np.zeros((1, 4, 5)), axes="yx", unit="mm", plane=plane)

    def beside(**facts):
        return geometry_difference(image, replace(image, plane=replace(plane, **facts)))

    assert beside(origin=(91.0, 2.0, 3.0)) == "origins differ: [1.0, 2.0, 3.0] and [91.0, 2.0, 3.0]"
    tilted = ((0.6, 0.8, 0.0), (-0.8, 0.6, 0.0), (0.0, 0.0, 1.0))
    assert (beside(direction=tilted) or "").startswith("directions differ: ")
    assert beside(direction=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))) is None
    in_um = replace(plane, thickness=3000.0, origin=(1000.0, 2000.0, 3000.0))
    assert geometry_difference(image, replace(image, spacing=(1000.0, 1000.0), unit="um", plane=in_um)) is None
    assert geometry_difference(image, replace(image, plane=None)) is None


def test_grids_that_are_one_once_turned_differ_in_orientation_only():
    """Also where their sizes are exchanged; a volume that lies elsewhere as well has another origin."""
    first = Image(
        array=np.zeros((1, 3, 4, 5)), axes="zyx", spacing=(3, 1, 2), origin=(7, 8, 9), unit="mm", oriented=True
    )
    for way in ("LPI", "RPS", "SLP"):
        turned = turn_between("LPS", way).image(first)
        assert geometry_difference(first, turned) == f"orientations differ: LPS and {way}"
        elsewhere = replace(turned, origin=(0.0, 0.0, 0.0))
        assert not (geometry_difference(first, elsewhere) or "").startswith("orient")


def test_channel_files_are_stacked_in_order(tmp_path):
    """One file per modality, as nnU-Net has them; the type holds both."""
    first = place(tmp_path, "a_0000.nii.gz", np.full((1, 3, 4, 5), 200, np.uint8), spacing=(3.0, 1.0, 1.0))
    second = place(tmp_path, "a_0001.nii.gz", np.full((1, 3, 4, 5), -7, np.int16), spacing=(3.0, 1.0, 1.0))
    image = read_channels((first, second))
    assert image.array[:, 0, 0, 0].tolist() == [200, -7]
    assert image.spacing == (3.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "facts", "problem"),
    [
        ((1, 3, 4, 6), {}, "sizes differ: 3×4×5 .*3×4×6"),
        ((1, 3, 4, 5), {"spacing": (3.0, 1.0, 1.0)}, "spacings differ"),
        ((1, 3, 4, 5), {"origin": (0.0, 0.0, 2.0)}, "origins differ"),
        ((1, 3, 4, 5), {"direction": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))}, "directions differ"),
    ],
)
def test_channel_files_on_different_grids_are_refused(shape, facts, problem, tmp_path):
    """Both files and both values are in the message."""
    first = place(tmp_path, "a_0000.nii.gz", np.zeros((1, 3, 4, 5), np.uint8))
    second = place(tmp_path, "a_0001.nii.gz", np.zeros(shape, np.uint8), **facts)
    with pytest.raises(ImageError, match=rf"a_0001.*a_0000.*{problem}.*\n.*resample"):
        read_channels((first, second))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 48), "yx"),
        ((64, 48, 3), "yxc"),
        ((2, 64, 48), "cyx"),
        ((30, 64, 48), "zyx"),
        ((30, 64, 48, 3), "zyxc"),
        ((2, 30, 64, 48), "czyx"),
        ((1, 2, 30, 64, 48), "tczyx"),
        ((5,), None),
        ((1,) * 6, None),
    ],
)
def test_numpy_axes_follow_from_the_shape(shape, axes):
    """The table at the head of npy.py, line by line."""
    assert guess_axes(shape) == axes


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(9, 8), (3, 3), (9, 4), (2, 9, 8), (9, 8, 3), (5, 9, 4)])
def test_numpy_files_read_back_whatever_their_shape(channels, shape, tmp_path):
    """The writer picks a layout that its own reader does not mistake."""
    array = np.random.default_rng(0).random((channels, *shape)).astype(np.float32)
    write(tmp_path / "a.npy", Image(array=array, axes="zyx"[-len(shape) :]))
    image = read(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.array, array)


def test_pickles_are_never_opened(tmp_path):
    """An object array could run anything."""
    np.save(tmp_path / "a.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="Python objects"):
        read(tmp_path / "a.npy")


def test_fortran_order_and_big_endian_numpy_files(tmp_path):
    """Values by index stay; the array is C-ordered, native and writable."""
    array = np.arange(20 * 30, dtype=">i4").reshape(20, 30)
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    image = read(tmp_path / "a.npy")
    np.testing.assert_array_equal(image.array[0], array)
    assert image.array.dtype.isnative
    assert image.array.flags.c_contiguous and image.array.flags.writeable


def test_importing_is_quick_and_quiet():
    """Neither SimpleITK nor nibabel nor tifffile is loaded before a file needs it."""
    code = (
        "import sys, uvea.images; print([m for m in ('SimpleITK', 'nibabel', 'tifffile', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_plane_survives_a_change_of_pixels():
    """A mask made with `with_array` knows where its slice lies."""
    plane = Plane(thickness=3.0, origin=(1.0, 2.0, 3.0), direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    image = Image(array=np.zeros((1, 4, 5)), axes="yx", plane=plane)
    assert image.with_array(np.ones((2, 4, 5))).plane == plane


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz"])
def test_reading_and_writing_leave_warnings_and_logs_of_the_process_alone(suffix, tmp_path):
    """Pillow's guard against bombs, for one, is also that of the program around."""
    loggers = [logging.getLogger(name) for name in ("PIL", "tifffile", "nibabel.global")]
    before = list(warnings.filters), [logger.level for logger in loggers]
    write(tmp_path / f"a{suffix}", Image(array=np.zeros((1, 4, 5), np.uint8), axes="yx"))
    read(tmp_path / f"a{suffix}")
    assert (list(warnings.filters), [logger.level for logger in loggers]) == before


def test_a_header_that_nibabel_mends_is_read_without_a_word(tmp_path, capfd, caplog):
    """Nothing is printed, whoever calls."""
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as raw:
        raw.seek(252)  # qform_code
        raw.write(np.int16(99).tobytes())
    assert read(tmp_path / "a.nii").shape == (5, 4, 3)
    assert (*capfd.readouterr(), caplog.text) == ("", "", "")


def test_a_large_png_is_no_bomb_where_its_size_is_allowed(tmp_path, monkeypatch):
    """Our own limit counts; tests make an error of every warning."""
    write(tmp_path / "a.png", Image(array=np.zeros((1, 40, 50), np.uint8), axes="yx"))
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    assert read(tmp_path / "a.png").shape == (40, 50)


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"unit": "furlong"}, "'furlong' is no unit of an image\n.*mm, um, px"),
        ({"spacing": (0.0, 1.0)}, r"spacing is \(0.0, 1.0\) for axes yx\n.*2 positive numbers"),
        ({"spacing": (1.0, float("nan"))}, "spacing is .*nan"),
        ({"spacing": 2.0}, "spacing is 2.0\n.*2 numbers"),
        ({"spacing": (1.0, 1.0, 1.0)}, "spacing is .* for axes yx"),
        ({"origin": (float("inf"), 0.0)}, "origin is .*inf.*\n.*finite"),
        ({"array": np.zeros((1, 4, 5), np.complex64)}, "values of type complex64 are no intensities\n.*magnitude"),
    ],
)
def test_an_image_that_no_file_could_hold_is_refused_where_it_is_made(facts, problem):
    """Writers would drop it in silence, or fail each in its own way."""
    with pytest.raises(ShapeError, match=problem):
        Image(**{"array": np.zeros((1, 4, 5)), "axes": "yx", **facts})


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ome.tif", ".nii.gz", ".nrrd", ".mha", ".npy"])
def test_arrays_of_the_other_byte_order_are_written(suffix, tmp_path):
    """As numpy reads them from files of other machines."""
    array = np.arange(300, 320).reshape(1, 4, 5)
    write(tmp_path / f"a{suffix}", Image(array=array.astype(">u2"), axes="yx"))
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}").array, array)
