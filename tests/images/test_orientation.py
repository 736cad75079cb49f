"""Volumes that lie in any way are brought to one, and results go back to where they were."""

from itertools import permutations, product

import numpy as np
import pytest

from uvea.images import Image, read, write
from uvea.images.orientation import AS_IT_IS, is_orientation, orientation_of, turn_between

SPACING = np.array([5.0, 1.0, 0.5])
PIXELS = np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4)


def upright():
    """A volume as it is to be: the head is up, the front is down the rows, the right is along the columns."""
    direction = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    return Image(
        array=PIXELS, axes="zyx", spacing=tuple(SPACING), unit="mm", origin=(7.0, 8.0, 9.0), direction=direction,
        oriented=True,
    )  # fmt: skip


def stored(order, flips):
    """The same volume with its axes exchanged and turned over."""
    image = upright()
    direction, origin = np.array(image.direction)[:, order], np.array(image.origin)
    for axis, flip in zip(order, flips, strict=True):
        if flip:
            origin = origin + np.array(image.direction)[:, axis] * SPACING[axis] * (image.shape[axis] - 1)
    array = np.transpose(image.array, (0, *(axis + 1 for axis in order)))
    array = np.flip(array, [axis + 1 for axis, flip in enumerate(flips) if flip])
    signs = np.where(flips, -1, 1)
    return Image(
        array=array, axes="zyx", spacing=tuple(SPACING[list(order)]), unit="mm", origin=tuple(origin),
        direction=tuple(map(tuple, direction * signs)), oriented=True,
    )  # fmt: skip


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", list(product([False, True], repeat=3)))
def test_all_48_ways_to_store_a_volume_become_one(order, flips):
    """Pixels and geometry are those of the upright volume; the way back restores what was stored."""
    image = stored(order, flips)
    turn = turn_between(orientation_of(image), "RAS")
    found, wanted = turn.image(image), upright()
    assert np.array_equal(found.array, wanted.array)
    for name in ("spacing", "origin", "direction"):
        assert np.allclose(getattr(found, name), getattr(wanted, name))
    assert np.array_equal(turn.back(found.array), image.array)
    assert turn.per_axis(image.shape) == wanted.shape


def test_oblique_volumes_keep_their_angle():
    """A volume that is rotated by 20 degrees around z is turned to where it is rotated by 20 degrees."""
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    oblique = ((1.0, 0.0, 0.0), (0.0, c, -s), (0.0, s, c))  # LPS
    image = Image(array=PIXELS, axes="zyx", unit="mm", direction=oblique, oriented=True)
    found = turn_between("LPS", "RAS").image(image)
    assert np.allclose(found.direction, np.array(oblique) * (1, -1, -1))
    assert orientation_of(image) == "LPS" and orientation_of(found) == "RAS"


def test_what_does_not_say_how_it_lies_stays(tmp_path):
    """TIFF knows no directions."""
    write(tmp_path / "a.tif", Image(array=PIXELS, axes="zyx", spacing=(5.0, 1.0, 1.0), unit="mm"))
    image = read(tmp_path / "a.tif")
    assert orientation_of(image) == "" and turn_between("", "RAS") is AS_IT_IS and AS_IT_IS.image(image) is image


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_files_say_how_they_lie(tmp_path, suffix):
    """Stored left to right and from the front, and read back as that."""
    write(tmp_path / f"a{suffix}", stored((0, 1, 2), (False, True, True)))
    image = read(tmp_path / f"a{suffix}")
    assert orientation_of(image) == "LPS"
    assert np.array_equal(turn_between("LPS", "RAS").image(image).array, PIXELS)


def test_nifti_without_a_form_does_not_say_how_it_lies(tmp_path):
    """Nibabel takes such files for LAS; nobody said so."""
    nibabel = pytest.importorskip("nibabel")
    file = nibabel.Nifti1Image(PIXELS[0].T, None)
    nibabel.save(file, tmp_path / "a.nii")
    assert orientation_of(read(tmp_path / "a.nii")) == ""


def test_orientations_name_each_axis_once():
    """Left and right are one axis."""
    assert is_orientation("RAS") and is_orientation("PIR")
    assert not any(map(is_orientation, ("RLS", "RA", "XYZ", "ras", "")))
