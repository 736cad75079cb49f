"""Objects are measured as worked out by hand, in physical units, in one piece or in chunks."""

import csv
import io

import numpy as np
import pytest

from uvea.errors import ShapeError
from uvea.objects import table
from uvea.objects.table import as_csv, measure, measurements

IDS = np.array([[1, 1, 0, 0], [1, 1, 0, 9], [0, 0, 0, 9]])


def test_objects_of_a_small_image_by_hand():
    """Four pixels around (0.5, 0.5) and two around (1.5, 3), with pixels of 2 by 0.5 micrometres."""
    image = np.arange(12.0).reshape(1, 3, 4)
    found = measure(IDS, image=np.concatenate([image, -image]), spacing=(2, 0.5), unit="um")
    assert found.ids.tolist() == [1, 9]
    assert found.centroid.tolist() == [[1, 0.25], [3, 1.5]]
    assert found.size.tolist() == [4, 2]
    assert found.extent.tolist() == [4, 2]
    np.testing.assert_allclose(found.diameter, [2 * np.sqrt(4 / np.pi), 2 * np.sqrt(2 / np.pi)])
    assert found.at_border.tolist() == [True, True]
    assert found.intensity.tolist() == [[2.5, -2.5], [9, -9]]
    assert found.label.tolist() == [1, 1] and np.isnan(found.score).all()


def test_a_sphere_in_thick_slices_has_its_volume_and_diameter():
    """Radius 10.2 micrometres on voxels of 2 by 1 by 1: within two per cent of the formula."""
    steps = np.array([2, 1, 1]).reshape(3, 1, 1, 1)
    away = (np.indices((14, 26, 26)) - np.array([6, 12, 12]).reshape(3, 1, 1, 1)) * steps
    found = measure(((away**2).sum(axis=0) < 10.2**2).astype(int), spacing=(2, 1, 1), unit="um")
    assert found.extent[0] == pytest.approx(4 / 3 * np.pi * 10.2**3, rel=0.02)
    assert found.diameter[0] == pytest.approx(20.4, rel=0.01)
    assert found.centroid[0].tolist() == [12, 12, 12]
    assert not found.at_border[0]


def test_the_class_is_that_of_the_majority_weighed_by_certainty():
    """Three unsure pixels of class 1 against one that is sure of class 2; the score is the mean probability."""
    ids = np.array([[5, 5, 5, 5]])
    first = np.array([[0.5, 0.5, 0.5, 0.0]])
    second = np.array([[0.3, 0.3, 0.3, 1.0]])
    found = measure(ids, probabilities=np.stack([1 - first - second, first, second]))
    assert found.label.tolist() == [2]
    np.testing.assert_allclose(found.score, [1.9 / 4])


def test_chunks_and_sparse_ids_change_nothing(monkeypatch):
    """An image mapped from a file is measured a few rows at a time, and ids may be anything."""
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 9, (4, 5, 3)), np.ones((2, 3, 3), int))
    image, probabilities = rng.normal(size=(2, *ids.shape)), rng.random((3, *ids.shape))
    whole = measure(ids, image=image, probabilities=probabilities)
    monkeypatch.setattr(table, "CHUNK", 200)
    sparse = np.where(ids > 0, ids * 10_000_000, -1)
    parts = measure(sparse, image=image, probabilities=probabilities)
    assert (parts.ids == whole.ids * 10_000_000).all()
    for name in ("centroid", "size", "intensity", "label", "score", "at_border"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), err_msg=name)


def test_the_table_as_text_names_units_and_classes():
    """A header that says what the numbers are, and one line per object."""
    probabilities = np.stack([IDS == 0, IDS == 1, IDS == 9]).astype(float)
    found = measure(IDS, image=IDS[None], probabilities=probabilities, spacing=(2, 0.5), unit="um")
    lines = list(csv.DictReader(io.StringIO(as_csv(found, names=("background", "live", "dead")))))
    assert list(lines[0]) == [
        *("id", "class", "y [um]", "x [um]", "pixels", "area [um^2]", "diameter [um]", "at border"),
        *("mean of channel 1", "score"),
    ]
    assert [line["class"] for line in lines] == ["live", "dead"]
    assert lines[1]["y [um]"] == "3" and lines[1]["mean of channel 1"] == "9" and lines[1]["score"] == "1"
    assert "score" not in as_csv(measure(IDS))


@pytest.mark.parametrize(("name", "cell"), [("=1+1", "'=1+1"), ("-cmd|x!A0", "'-cmd|x!A0"), ("+ve", "+ve")])
def test_a_spreadsheet_calculates_nothing_from_the_name_of_a_class(name, cell):
    """As in scores.csv, so that one reader does for both."""
    (line, _) = csv.DictReader(io.StringIO(as_csv(measure(IDS), names=("background", name))))
    assert line["class"] == cell


def test_an_image_without_objects_has_a_header_only():
    """No rows, and no warning about dividing by nothing."""
    found = measure(np.zeros((3, 4), int), image=np.ones((1, 3, 4)), probabilities=np.ones((2, 3, 4)))
    assert len(found.ids) == 0 and found.intensity.shape == (0, 1)
    assert as_csv(found).count("\n") == 1
    some = measure(IDS, image=np.ones((1, 3, 4)), probabilities=np.ones((2, 3, 4)))
    assert as_csv(found) == as_csv(some).splitlines(keepends=True)[0]


def test_measurements_are_those_of_the_table_in_ascii_names():
    """Excel reads a header of other letters wrongly; a program finds the same names in both."""
    found = measure(IDS, image=IDS[None], probabilities=np.ones((2, 3, 4)), spacing=(2, 0.3), unit="um")
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    numbers = measurements(found)[9]
    assert list(numbers) == ["area [um^2]", "diameter [um]", "mean of channel 1", "score"]
    assert {name: float(lines[1][name]) for name in numbers} == numbers
    volume = as_csv(measure(IDS[None], unit="mm"))
    assert "volume [mm^3]" in volume and volume.isascii()


def test_arrays_of_other_sizes_are_refused():
    """With both sizes in the message."""
    with pytest.raises(ShapeError, match="objects of 3×4 cannot be measured on image of 3×5"):
        measure(IDS, image=np.zeros((1, 3, 5)))
    with pytest.raises(ShapeError, match="spacing has 3 values for 2 axes"):
        measure(IDS, spacing=(1, 1, 1))
