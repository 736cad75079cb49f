"""Outlines filled again are the objects, to the pixel; ImageJ and QuPath read them."""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import OutputError, ShapeError
from uvea.objects.outlines import Outline, _area, geojson, imagej_rois, outlines


def filled(found, shape):
    """Draw outlines by counting, left of each pixel's centre, the edges that cross its row."""
    ids = np.zeros(shape, int)
    for one in found:
        inside = np.zeros(shape[-2:], int)
        for ring in (ring for rings in one.parts for ring in rings):
            for (y0, x0), (y1, x1) in zip(ring, np.roll(ring, -1, axis=0)):
                assert (y0 == y1) != (x0 == x1)  # every side runs along an axis
                inside[min(y0, y1) : max(y0, y1), x0:] += 1 if y1 < y0 else -1
        assert set(np.unique(inside)) <= {0, 1}
        (ids if one.z is None else ids[one.z])[inside == 1] = one.number
    return ids


def test_outlines_worked_by_hand():
    """An L of three pixels: six corners, clockwise from the upper left; sides that go on are one side."""
    (found,) = outlines(np.array([[3, 0], [3, 3]]))
    assert found.number == 3 and found.z is None
    ((ring,),) = found.parts
    start = next(i for i, corner in enumerate(ring.tolist()) if corner == [0, 0])
    assert np.roll(ring, -start, axis=0).tolist() == [[0, 0], [0, 1], [1, 1], [1, 2], [2, 2], [2, 0]]


def test_a_hole_belongs_to_the_piece_around_it():
    """A ring beside another piece of the same object: two pieces, the hole in the first one."""
    ids = np.zeros((5, 9), int)
    ids[:, :5] = ids[1:4, 6:9] = 2
    ids[2, 2] = 0
    ((first, second),) = (one.parts for one in outlines(ids))
    assert len(first) == 2 and len(second) == 1
    assert sorted(first[1].tolist()) == [[2, 2], [2, 3], [3, 2], [3, 3]]


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(
        np.int32,
        st.one_of(st.tuples(*[st.integers(1, 9)] * 2), st.tuples(*[st.integers(1, 5)] * 3)),
        elements=st.integers(-1, 3),
    )
)
def test_filling_outlines_gives_back_the_objects(ids):
    """Of any ids: holes, pieces, objects within objects, corners that meet, slices."""
    assert np.array_equal(filled(outlines(ids), ids.shape), np.maximum(ids, 0))


@settings(max_examples=80, deadline=None)
@given(arrays.arrays(np.int32, st.tuples(*[st.integers(1, 9)] * 2), elements=st.integers(0, 2)))
def test_polygons_pass_no_corner_twice(ids):
    """Pieces that meet at a corner from both sides are holes; what is filled stays the same."""
    found = []
    for feature in json.loads(geojson(outlines(ids)))["features"]:
        geometry = feature["geometry"]
        several = geometry["type"] == "MultiPolygon"
        parts = geometry["coordinates"] if several else [geometry["coordinates"]]
        rings = [[np.array(ring)[:-1, ::-1] for ring in part] for part in parts]
        for part in rings:
            assert all(len(set(map(tuple, ring.tolist()))) == len(ring) for ring in part)
            assert [_area(ring) > 0 for ring in part] == [True] + [False] * (len(part) - 1)
        found.append(Outline(number=int(feature["properties"]["name"]), z=None, parts=tuple(map(tuple, rings))))
    assert np.array_equal(filled(found, ids.shape), ids)


def test_a_notch_that_meets_the_outside_at_a_corner_is_a_hole():
    """One pixel inside, and one at the corner of the image."""
    ids = np.ones((4, 4), int)
    ids[0, 0] = ids[1, 1] = 0
    (feature,) = json.loads(geojson(outlines(ids)))["features"]
    outer, hole = feature["geometry"]["coordinates"]
    assert len(outer) == 7 and sorted(map(tuple, hole[:-1])) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_rois_hold_what_imagej_expects():
    """The bytes at the offsets of ImageJ's decoder, for an object in the third slice."""
    ids = np.zeros((4, 10, 10), int)
    ids[2, 3:5, 6:9] = 12
    with zipfile.ZipFile(io.BytesIO(imagej_rois(outlines(ids), names={12: "nucleus α"}))) as archive:
        (entry,) = archive.namelist()
        content = archive.read(entry)
    assert entry == "12-z0003.roi"
    assert content[:4] == b"Iout" and struct.unpack(">h", content[4:6])[0] >= 217 and content[6] == 0
    assert struct.unpack(">5h", content[8:18]) == (3, 6, 5, 9, 4)
    corners = np.frombuffer(content[64:80], ">i2").reshape(2, 4)
    assert sorted(zip(*corners.tolist())) == [(0, 0), (0, 2), (3, 0), (3, 2)]
    position, second = struct.unpack(">2i", content[56:64])
    channel, z, t, name_at, name_length = struct.unpack(">5i", content[second + 4 : second + 24])
    assert (position, channel, z, t) == (3, 0, 3, 0)
    assert content[name_at : name_at + 2 * name_length].decode("utf-16-be") == "nucleus α"


def test_frames_are_no_slices():
    """An object in the third frame is at t = 2, for ImageJ at frame 3 of any slice."""
    ids = np.zeros((4, 9, 9), int)
    ids[2, 3:5, 6:9] = 1
    found = outlines(ids, timed=True)
    (feature,) = json.loads(geojson(found))["features"]
    assert feature["geometry"]["plane"] == {"c": -1, "z": 0, "t": 2}
    with zipfile.ZipFile(io.BytesIO(imagej_rois(found))) as archive:
        (entry,) = archive.namelist()
        content = archive.read(entry)
    position, second = struct.unpack(">2i", content[56:64])
    assert (entry, position) == ("1-t0003.roi", 3)
    assert struct.unpack(">3i", content[second + 4 : second + 16]) == (0, 0, 3)


def test_another_reader_of_rois_agrees():
    """roifile, written by others, reads the same corners, names and slices."""
    roifile = pytest.importorskip("roifile", reason="the extra oracles is not installed")
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 5, (2, 6, 6)), np.ones((1, 3, 4), int))
    found = outlines(ids)
    with zipfile.ZipFile(io.BytesIO(imagej_rois(found))) as archive:
        rois = [roifile.ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]
    rings = [(one, rings[0]) for one in found for rings in one.parts]
    assert len(rois) == len(rings) > 10
    for roi, (one, ring) in zip(rois, rings):
        assert roi.coordinates().astype(int)[:, ::-1].tolist() == ring.tolist()
        assert roi.name == str(one.number) and roi.z_position == roi.position == one.z + 1


def test_equal_objects_make_equal_files():
    """No time of day goes into the zip."""
    ids = np.eye(3, dtype=int)
    assert imagej_rois(outlines(ids)) == imagej_rois(outlines(ids))
    with zipfile.ZipFile(io.BytesIO(imagej_rois(outlines(ids)))) as archive:
        assert archive.namelist() == ["1-1.roi", "1-2.roi", "1-3.roi"]


def test_geojson_says_what_qupath_reads():
    """Closed rings in x and y, holes within, classes, numbers, slices."""
    ids = np.zeros((2, 5, 6), int)
    ids[1, :, :5] = 7
    ids[1, 2, 2] = 0
    text = geojson(outlines(ids), classes={7: "tumour"}, measurements={7: {"area": 24.0}})
    (feature,) = json.loads(text)["features"]
    assert feature["type"] == "Feature" and feature["properties"] == {
        "objectType": "detection",
        "name": "7",
        "classification": {"name": "tumour"},
        "measurements": {"area": 24.0},
    }
    assert feature["geometry"]["type"] == "Polygon" and feature["geometry"]["plane"] == {"c": -1, "z": 1, "t": 0}
    outer, hole = feature["geometry"]["coordinates"]
    assert outer[0] == outer[-1] and hole[0] == hole[-1] and len(outer) == len(hole) == 5
    assert [5, 0] in outer and [0, 5] in outer and [2, 3] in hole
    assert json.loads(geojson([])) == {"type": "FeatureCollection", "features": []}
    pieces = json.loads(geojson(outlines(np.eye(2, dtype=int))))["features"][0]["geometry"]
    assert pieces["type"] == "MultiPolygon" and len(pieces["coordinates"]) == 2


def test_outlines_beyond_what_imagej_counts_are_refused():
    """With the pixel in the message, and the format that can."""
    far = Outline(number=1, z=None, parts=((np.array([[0, 40_000], [0, 40_001], [1, 40_001], [1, 40_000]]),),))
    with pytest.raises(OutputError, match=r"reaches to pixel 40001.*\n.*geojson"):
        imagej_rois([far])


def test_arrays_that_are_no_image_are_refused():
    """One axis has no outlines."""
    with pytest.raises(ShapeError, match="ids of 1 axes"):
        outlines(np.zeros(4, int))
