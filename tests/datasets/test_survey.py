"""The reading pass: numbers worked by hand, bad files as findings, and neighbours that are or are not one stack."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile

from uvea.arrays.labels import LabelMap
from uvea.datasets.case import Case, DataOptions, Dataset
from uvea.datasets.discover import discover
from uvea.datasets.duplicates import exact_copies, near_copies, neighbours_alike
from uvea.datasets.measure import (
    PERCENTS,
    count_pieces,
    count_values,
    make_thumbnail,
    pieces_of,
    statistics_of,
    stride_for,
    thickness_of,
    thumbnail_of,
)
from uvea.datasets.split import neighbour_pairs
from uvea.datasets.survey import CaseFacts, Survey, read_mask, survey
from uvea.errors import ShapeError
from uvea.images import Image, write


def save(path: Path, array, *, axes="yx", **geometry) -> Path:
    """Write (c, ...) or (...) pixels."""
    array = np.asarray(array)
    write(path, Image(array=array[None] if array.ndim == len(axes) else array, axes=axes, **geometry))
    return path


def dataset_of(folder: Path, pairs, *, suffix=".png", **geometry) -> Dataset:
    """A dataset of (image, mask) arrays; None for no mask."""
    cases = []
    for index, (image, mask) in enumerate(pairs):
        axes = "zyx" if suffix == ".nii.gz" else "yx"
        cases.append(
            Case(
                name=f"c{index}",
                images=(save(folder / "images" / f"c{index}{suffix}", image, axes=axes, **geometry),),
                mask=None
                if mask is None
                else save(folder / "masks" / f"c{index}{suffix}", mask, axes=axes, **geometry),
            )
        )
    return Dataset(root=folder, cases=tuple(cases), layout="made by a test")


def look(dataset, **options) -> Survey:
    """Survey with these options."""
    return survey(dataset, options=DataOptions(**options))


IMAGE = np.array([[0, 10], [20, 30]], np.uint8)
MASK = np.array([[0, 0], [255, 255]], np.uint8)


def test_facts_of_a_case_worked_by_hand(tmp_path):
    """Four pixels, two of them foreground."""
    found = look(dataset_of(tmp_path, [(IMAGE, MASK)]))
    (facts,) = found.facts
    assert (facts.name, facts.shape, facts.axes, facts.channels, facts.dtype) == ("c0", (2, 2), "yx", 1, "uint8")
    assert (facts.minimum, facts.maximum, facts.mean) == ((0,), (30,), (15,))
    assert facts.std == pytest.approx((125**0.5,))
    assert facts.percentiles[0][2] == 15
    assert (facts.foreground_mean, facts.foreground_std, facts.foreground_percentiles[0][2]) == ((25,), (5,), 25)
    assert (facts.mask_values, facts.mask_pieces) == ({0: 2, 255: 2}, {255: 1})
    assert (facts.objects, facts.object_size) == (1, 2)
    assert facts.finite and facts.problem is None
    assert found.labels == LabelMap(kind="values", values=(0, 255))
    assert found.findings == ()


@pytest.mark.parametrize("pixels", [1, 2, 1000, 50_000])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
def test_statistics_are_those_of_numpy(rng, dtype, pixels):
    """Also where values are counted, with negative ones, and where all pixels are alike."""
    low, high = (-(2.0**15), 2.0**15) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    sample = np.stack([rng.uniform(low, high, pixels), np.full(pixels, high)]).astype(dtype)
    wide = sample.astype(np.float64)
    for found, wanted in zip(
        statistics_of(sample), (wide.mean(1), wide.std(1), np.percentile(wide, PERCENTS, axis=1).T), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-9)


def test_the_width_of_lines_and_the_radius_of_discs():
    """Of a 3-pixel line a third of the pixels lie inside; a line of background counts as well, specks weigh little."""
    line = np.zeros((40, 40), np.int64)
    line[10:13] = 7
    assert thickness_of(line, [0]) == 2 * 120 / 80
    assert thickness_of(line, [7]) == 3
    assert thickness_of(np.stack([line, 0 * line]), [0]) == 3
    rows, columns = np.ogrid[:401, :401]
    disc = ((rows - 200) ** 2 + (columns - 200) ** 2 <= 100**2).astype(np.int64)
    radius = thickness_of(disc, [0])
    assert radius == pytest.approx(100 * np.pi / (2 * 2**0.5), rel=0.05)  # corners of a step have one pixel for both
    disc[::50, ::50] = 1
    assert thickness_of(disc, [0]) == pytest.approx(radius, rel=0.15)
    assert thickness_of(0 * line, [0]) == 0 and thickness_of(0 * line + 1, [0]) == 40


def test_a_volume_keeps_its_spacing(tmp_path):
    """Axes and millimetres of a NIfTI file reach the facts."""
    volume = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    dataset = dataset_of(
        tmp_path, [(volume, (volume > 11).astype(np.uint8))], suffix=".nii.gz", spacing=(3.0, 1.0, 0.5), unit="mm"
    )
    (facts,) = look(dataset).facts
    assert (facts.shape, facts.axes, facts.spacing, facts.unit) == ((2, 3, 4), "zyx", (3.0, 1.0, 0.5), "mm")
    assert facts.foreground_mean == (17.5,)


def test_a_volume_keeps_its_direction(tmp_path):
    """Column j is the world vector (z, y, x) of axis j: a sagittal volume has world x along its first axis."""
    sagittal = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    volume = np.zeros((2, 3, 4), np.int16)
    for name, direction in (("sagittal", sagittal), ("axial", tuple(map(tuple, np.eye(3).tolist())))):
        dataset = dataset_of(
            tmp_path / name, [(volume, volume.astype(np.uint8))], suffix=".nii.gz", unit="mm", direction=direction
        )
        np.testing.assert_allclose(look(dataset).facts[0].direction, direction, atol=1e-6)


def test_volumes_that_are_stored_in_several_ways_are_seen_in_the_most_common_one(tmp_path):
    """Two axial volumes and a sagittal one, whose second axis is turned over: sizes, spacing, mask and its centres."""
    axial = tuple(map(tuple, np.eye(3).tolist()))
    sagittal = ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    volume = np.zeros((10, 20, 30), np.uint8)
    volume[0, 0, 0], volume[9, 19, 29] = 1, 2
    geometry = {"spacing": (3.0, 2.0, 1.0), "unit": "mm"}
    parts = [
        dataset_of(tmp_path / name, [(volume, volume)], suffix=".nii.gz", direction=direction, **geometry)
        for name, direction in (("a", axial), ("b", sagittal), ("c", axial))
    ]
    dataset = Dataset(root=tmp_path, cases=tuple(part.cases[0] for part in parts), layout="made by a test")
    found = look(dataset)
    straight, turned, _ = found.facts
    assert found.orientation == straight.orientation == "LPS" and turned.orientation == "PIL"
    assert straight.shape == (10, 20, 30) and not straight.turn
    assert turned.shape == turned.mask_shape == (20, 30, 10) and turned.spacing == (2.0, 1.0, 3.0)
    np.testing.assert_allclose(turned.direction, axial, atol=1e-6)
    assert turned.mask_centres[1] == pytest.approx((1 - 0.5 / 20, 0.5 / 30, 0.5 / 10))
    assert turned.image_hash == straight.image_hash and turned.content_hash != straight.content_hash
    as_stored = survey(dataset, options=DataOptions(), orientation="").facts[1]
    assert as_stored.shape == (10, 20, 30) and not as_stored.turn


def test_volumes_that_do_not_say_how_they_lie_are_told(tmp_path):
    """A TIFF among NIfTI files is taken to lie as they do; those to test on have no say in how that is."""
    volume = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    ras = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    pairs = [(volume, volume)]
    told = dataset_of(tmp_path / "a", pairs, suffix=".nii.gz", unit="mm", direction=ras).cases
    path = save(tmp_path / "b.tif", volume, axes="zyx", spacing=(3.0, 1.0, 1.0), unit="mm")
    untold = (Case(name="b", images=(path,), mask=path),)
    other = dataset_of(tmp_path / "c", pairs * 2, suffix=".nii.gz", unit="mm").cases
    others = tuple(replace(case, part="test") for case in other)
    found = look(Dataset(root=tmp_path, cases=(*told, *untold, *others), layout="made by a test"))
    (finding,) = [finding for finding in found.findings if finding.kind == "unknown-orientation"]
    assert found.orientation == "RAS" and finding.files == untold[0].images
    assert "1 of 4 images do not say how they lie in space: 'b'; they are taken to be RAS" in finding.problem


def test_a_copy_that_is_stored_another_way_is_the_same_content(tmp_path):
    """All axes turned over, and the origin with them."""
    volume = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    hashes = []
    for name, sense in (("a", 1.0), ("b", -1.0)):
        array = volume if sense > 0 else volume[::-1, ::-1, ::-1]
        direction = tuple(map(tuple, (sense * np.eye(3)).tolist()))
        part = dataset_of(tmp_path / name, [(array, array)], suffix=".nii.gz", unit="mm", direction=direction)
        hashes.append((look(part).facts[0].image_hash, look(part).facts[0].content_hash))
    assert hashes[0][0] != hashes[1][0] and hashes[0][1] == hashes[1][1]


def test_a_copy_that_does_not_say_how_it_lies_is_a_copy(tmp_path):
    """As LPS, as RAS, and as TIFF of the first: all three are one."""
    volume = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    lps = dataset_of(tmp_path / "a", [(volume, volume)], suffix=".nii.gz", unit="mm").cases[0]
    ras = ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    turned = volume[:, ::-1, ::-1]
    other = dataset_of(tmp_path / "b", [(turned, turned)], suffix=".nii.gz", unit="mm", direction=ras).cases[0]
    path = save(tmp_path / "c.tif", volume, axes="zyx", spacing=(1.0, 1.0, 1.0), unit="mm")
    cases = (lps, replace(other, name="c1"), Case(name="c2", images=(path,), mask=path))
    assert exact_copies(look(Dataset(root=tmp_path, cases=cases, layout="made by a test"))) == [("c0", "c1", "c2")]


def test_slices_at_an_unknown_distance_are_told(tmp_path):
    """The images are usable, so it is a warning; it names them and the way out."""
    volume = np.zeros((3, 4, 5), np.uint8)
    for index, sizes in enumerate(({}, {"PhysicalSizeZ": 2.0})):
        metadata = {"axes": "ZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, **sizes}
        tifffile.imwrite(tmp_path / f"c{index}.ome.tif", volume, metadata=metadata)
    mask = save(tmp_path / "mask.tif", volume + np.eye(4, 5, dtype=np.uint8), axes="zyx")
    cases = tuple(Case(name=f"c{i}", images=(tmp_path / f"c{i}.ome.tif",), mask=mask) for i in range(2))
    found = look(Dataset(root=tmp_path, cases=cases, layout=""))
    (finding,) = found.findings
    assert (finding.severity, finding.kind, finding.files) == ("warning", "unknown-depth", cases[0].images)
    assert "1 of 2 images" in finding.problem and "PhysicalSizeZ" in finding.hint
    assert [fact.unit for fact in found.facts] == ["px", "um"]


def test_masks_of_one_bit_have_the_foreground_of_the_others(tmp_path):
    """As where a program made some PNG files smaller: 1 is 255 there, in counts and in classes."""
    found = look(dataset_of(tmp_path, [(IMAGE, MASK > 0), (IMAGE, MASK)]))
    assert (found.labels.values, found.findings) == ((0, 255), ())
    assert found.facts[0].mask_values == found.facts[1].mask_values
    assert np.array_equal(found.labels.encode((MASK > 0)[None]), found.labels.encode(MASK[None]))
    others = look(dataset_of(tmp_path / "other", [(IMAGE, MASK > 0), (IMAGE, MASK // 255 * 2)]))
    assert others.labels.values == (0, 1, 2)


def test_masks_of_one_bit_fit_others_with_a_one_and_empty_ones(tmp_path):
    """In either format, and beside a mask without any foreground."""
    mask = (MASK > 0).astype(np.uint8)
    dataset = dataset_of(tmp_path / "a", [(IMAGE, mask > 0), (IMAGE, mask), (IMAGE, 0 * mask)])
    white = Case(name="d", images=dataset.cases[0].images, mask=tmp_path / "d.tif")
    tifffile.imwrite(white.mask, mask > 0)
    found = look(replace(dataset, cases=(*dataset.cases, white)))
    assert (found.labels.values, found.findings) == ((0, 1), ())
    assert look(dataset_of(tmp_path / "b", [(IMAGE, mask > 0), (IMAGE, 0 * mask)])).labels.values == (0, 1)
    assert look(dataset_of(tmp_path / "c", [(IMAGE, MASK), (IMAGE, mask > 1)])).labels.values == (0, 255)


def test_where_classes_lie_is_measured_as_shares_of_the_axes(tmp_path):
    """Of a 4×4 mask: class 50 in the upper left corner, class 90 in the lower half; the ignored row does not count."""
    mask = np.array([[50, 50, 0, 0], [7, 7, 7, 7], [90, 90, 90, 90], [90, 90, 90, 90]], np.uint8)
    (facts,) = look(dataset_of(tmp_path, [(np.zeros((4, 4), np.uint8), mask)]), ignore_value=7).facts
    assert facts.mask_centres == {50: (0.125, 0.25), 90: (0.75, 0.5)}


def test_a_single_class_and_numbered_objects_have_no_centres(tmp_path):
    """There is nothing to compare the first with, and the others are too many."""
    many = np.arange(100, dtype=np.uint8).reshape(10, 10)
    found = look(dataset_of(tmp_path, [(IMAGE, MASK), (many, many)]))
    assert [facts.mask_centres for facts in found.facts] == [{}, {}]


def test_channels_are_measured_apart(tmp_path):
    """One number per channel, in channel order."""
    image = np.stack([IMAGE, IMAGE + 1, IMAGE * 2])
    (facts,) = look(dataset_of(tmp_path, [(image, MASK)])).facts
    assert (facts.channels, facts.mean, facts.foreground_mean) == (3, (15, 16, 30), (25, 26, 50))


def test_background_that_is_not_zero_is_found_and_the_foreground_measured_again(tmp_path):
    """Masks of 1 and 2 have their background at 1, which one mask alone cannot show."""
    dataset = dataset_of(tmp_path, [(IMAGE, [[1, 1], [2, 2]]), (IMAGE, np.full((2, 2), 2, np.uint8))])
    found = look(dataset)
    assert found.labels.values == (1, 2)
    assert [facts.foreground_mean for facts in found.facts] == [(25,), (15,)]
    assert [facts.objects for facts in found.facts] == [1, 1]


def test_ignored_pixels_are_no_foreground(tmp_path):
    """They count neither as objects nor as intensities."""
    (facts,) = look(dataset_of(tmp_path, [(IMAGE, [[0, 7], [255, 255]])]), ignore_value=7).facts
    assert (facts.foreground_mean, facts.objects) == ((25,), 1)


def test_colour_masks_become_classes(tmp_path):
    """A red and a black pixel; the all-black mask of another case fits in."""
    red = np.zeros((3, 2, 2), np.uint8)
    red[0, 1] = 255
    found = look(dataset_of(tmp_path, [(IMAGE, red), (IMAGE, np.zeros((3, 2, 2), np.uint8))]))
    assert found.labels == LabelMap(kind="colours", colours=((0, 0, 0), (255, 0, 0)))
    assert found.facts[0].mask_values == {(0, 0, 0): 2, (255, 0, 0): 2}
    assert (found.facts[0].foreground_mean, found.facts[0].objects) == ((25,), 1)


def test_a_damaged_file_is_a_finding_and_the_others_are_read(tmp_path):
    """One bad file of three stops nothing, and is named."""
    dataset = dataset_of(tmp_path, [(IMAGE, MASK)] * 3)
    dataset.cases[1].images[0].write_bytes(dataset.cases[1].images[0].read_bytes()[:40])
    dataset.cases[2].mask.write_bytes(b"")
    found = look(dataset)
    assert [(f.severity, f.kind, f.files) for f in found.findings] == [
        ("error", "unreadable-image", dataset.cases[1].images),
        ("error", "unreadable-mask", (dataset.cases[2].mask,)),
    ]
    assert found.facts[1].problem == found.findings[0]
    assert found.facts[1].mask_values == {0: 2, 255: 2}
    assert found.facts[0].problem is None


def test_masks_that_mean_nothing_are_one_error(tmp_path):
    """Without any class there are stand-in labels and a finding that stops the training."""
    found = look(dataset_of(tmp_path, [(IMAGE, MASK * 0)]))
    assert [(f.severity, f.kind) for f in found.findings] == [("error", "labels")]
    assert "only the value 0" in found.findings[0].problem
    found = look(dataset_of(tmp_path / "none", [(IMAGE, None)]))
    assert "none of the 1 images" in found.findings[0].problem


def test_nearly_whole_masks_are_whole_wherever_they_are_read(tmp_path):
    """Here and in a training: nibabel writes 1 as 1.0000153 where it scales floats to 16 bits."""
    stored = np.array([[[0, 1.0000153], [2, 0]]], np.float32)
    dataset = dataset_of(tmp_path, [(IMAGE[None], stored)], suffix=".nii.gz")
    found = look(dataset)
    assert (found.labels.values, found.facts[0].mask_values) == ((0, 1, 2), {0: 2, 1: 1, 2: 1})
    assert read_mask(dataset.cases[0].mask).array.ravel().tolist() == [0, 1, 2, 0]


def test_of_masks_that_are_all_fractions_nothing_is_decided_and_nothing_more_is_said(tmp_path):
    """What is wrong with them is a finding of `check`; a second one would hide it."""
    found = look(dataset_of(tmp_path, [(IMAGE[None], MASK[None] / 2)], suffix=".nii.gz"))
    assert (found.decided, found.findings) == (False, ())


def test_smoothed_masks_are_refused(tmp_path, rng):
    """A drawing program that smooths edges leaves every gray there is."""
    y, x = np.mgrid[:64, :64]
    smooth = np.clip((20 - np.hypot(y - 32.3, x - 31.7)) * 120, 0, 255).astype(np.uint8)
    found = look(dataset_of(tmp_path, [(rng.integers(0, 255, (64, 64), np.uint8), smooth)]))
    assert ["compressed, smoothed or" in f.problem for f in found.findings] == [True]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_masks_are_refused(tmp_path, channels):
    """JPEG blurs 0 and 255 into everything between, in gray and in colour."""
    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 20.5
    mask = np.repeat(disc[None] * np.uint8(255), channels, axis=0)
    if channels == 3:
        mask[1] = 0
    jpeg = save(tmp_path / "mask.jpg", mask)
    case = Case(name="a", images=(save(tmp_path / "image.png", disc * np.uint8(90)),), mask=jpeg)
    (finding,) = look(Dataset(root=tmp_path, cases=(case,), layout="made by a test")).findings
    assert (finding.severity, finding.kind, finding.files) == ("error", "labels", (jpeg,))
    assert "compressed" in finding.problem and "PNG" in finding.hint


def test_progress_counts_every_case(tmp_path):
    """The last call says that all is done."""
    calls = []
    survey(dataset_of(tmp_path, [(IMAGE, MASK)] * 3), options=DataOptions(), advance=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_many_files_with_one_fault_share_a_finding(tmp_path):
    """A thousand files with wrong axes are one thing to mend; three damaged files are three."""
    cases = dataset_of(tmp_path, [(IMAGE, MASK)] * 5)
    found = survey(cases, options=DataOptions(axes="zxy")).findings
    assert [finding.kind for finding in found] == ["unreadable-image", "unreadable-mask"]
    assert found[0].files == tuple(path for case in cases.cases for path in case.images)
    assert found[0].problem.endswith("; and 4 more like it")
    few = survey(dataset_of(tmp_path / "few", [(IMAGE, MASK)] * 3), options=DataOptions(axes="zxy")).findings
    assert [finding.kind for finding in few].count("unreadable-image") == 3


def test_a_mask_may_lack_the_channel_axis_of_its_image(tmp_path):
    """`--axes cyx` describes the image; its mask is yx, or cyx in colour."""
    np.save(tmp_path / "gray.npy", MASK)
    np.save(tmp_path / "colour.npy", np.stack([MASK] * 3))
    np.save(tmp_path / "deep.npy", np.zeros((2, 2, 2, 2, 2)))
    assert read_mask(tmp_path / "gray.npy", axes="cyx").channels == 1
    assert read_mask(tmp_path / "colour.npy", axes="cyx").channels == 3
    with pytest.raises(ShapeError):
        read_mask(tmp_path / "deep.npy", axes="cyx")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64])
def test_values_are_counted_like_numpy_counts_them(dtype, rng):
    """The fast way and the sorting way agree, with negative values and far ones."""
    codes = rng.integers(0, 100, (30, 40)).astype(dtype)
    if dtype == np.int16:
        codes -= 50
    if dtype == np.int64:
        codes[0, 0] = 2**40
    for found, expected in zip(count_values(codes), np.unique(codes, return_counts=True)):
        np.testing.assert_array_equal(found, expected)


def test_pieces_worked_by_hand():
    """Touching values are apart, corners connect, zero is nothing."""
    values, sizes = count_pieces(np.array([[1, 1, 2], [0, 2, 0], [1, 0, 0]]))
    assert sorted(zip(values.tolist(), sizes.tolist())) == [(1, 1.0), (1, 2.0), (2, 2.0)]


def test_pieces_of_frames_are_counted_by_themselves():
    """One cell at rest in three frames, and a second in two of them: five pieces, one per frame for each."""
    codes = np.zeros((3, 2, 5), np.uint8)
    codes[:, :, :2], codes[1:, 1, 4] = 1, 2
    counts, values, sizes = pieces_of(codes, timed=True)
    assert counts == {1: 1, 2: 1}
    assert sorted(zip(values.tolist(), sizes.tolist())) == [(1, 4.0)] * 3 + [(2, 1.0)] * 2
    assert sorted(pieces_of(codes, timed=False)[2].tolist()) == [2.0, 12.0]


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 300, 200), (1, 4, 64, 65), (2, 1, 1)])
def test_thumbnails_have_one_size_and_keep_the_layout(shape, rng):
    """Any image becomes 64×64 from 0 to 1, with the bright half still on the right."""
    array = rng.random(shape)
    array[..., shape[-1] // 2 :] += 3
    thumbnail = thumbnail_of(make_thumbnail(array))
    assert thumbnail.shape == (64, 64)
    assert thumbnail.min() >= 0 and thumbnail.max() <= 1
    if shape[-1] > 1:
        assert thumbnail[:, 40:].mean() > thumbnail[:, :20].mean() + 0.4


def test_samples_are_small_and_spread_over_the_columns():
    """A step that divides the row length would look at a few columns only."""
    step = stride_for(4_000_000, 2000)
    assert 4_000_000 / step <= 1_000_000
    assert len({index % 2000 for index in range(0, 4_000_000, step)}) == 2000


def facts_of(arrays) -> Survey:
    """A survey that knows thumbnails and hashes only."""
    facts = tuple(
        CaseFacts(name=f"c{i}", thumbnail=make_thumbnail(a[None]), content_hash=str(hash(a.tobytes())))
        for i, a in enumerate(arrays)
    )
    return Survey(facts=facts, labels=LabelMap(kind="values", values=(0, 1)), findings=())


def scenes(count, rng):
    """Unrelated images with the structure of tissue."""
    from scipy.ndimage import gaussian_filter

    return [gaussian_filter(rng.normal(size=(128, 128)), 3) for _ in range(count)]


def test_of_many_near_copies_enough_are_listed_to_know_what_belongs_together(rng, monkeypatch):
    """Two kinds of six images: fifteen pairs of each, or as many as asked for and those that join the rest."""
    kinds = [rng.random((64, 64)) for _ in range(2)]
    noisy = [kinds[number % 2] + 0.01 * rng.random((64, 64)) for number in range(12)]
    facts = [
        CaseFacts(name=f"{number}", content_hash=f"{number}", thumbnail=image.astype(np.float16).tobytes())
        for number, image in enumerate(noisy)
    ]
    looked_at = Survey(facts=tuple(facts), labels=LabelMap(kind="values", values=(0, 1)), findings=())
    every = near_copies(looked_at)
    assert len(every) == 30 and all(int(first) % 2 == int(second) % 2 for first, second in every)
    monkeypatch.setattr("uvea.datasets.duplicates.MOST_PAIRS", 3)
    some = near_copies(looked_at)
    assert some == [pair for pair in every if pair in set(some)] and len(some) == 10
    together = {name: {name} for name in map(str, range(12))}
    for first, second in some:
        whole = together[first] | together[second]
        together |= dict.fromkeys(whole, whole)
    assert {len(group) for group in together.values()} == {6}


def test_copies_are_found_whether_exact_or_nearly_so(rng):
    """Brightened, noisy and resized copies are near copies; other images of the kind are not."""
    images = scenes(8, rng)
    noisy = images[1] * 0.5 + 2 + rng.normal(size=(128, 128)) * 0.01
    resized = images[2].repeat(2, 0).repeat(2, 1)
    found = facts_of([*images, images[0], noisy, resized])
    assert exact_copies(found) == [("c0", "c8")]
    assert near_copies(found) == [("c1", "c9"), ("c2", "c10")]


def test_images_that_all_look_alike_are_no_copies(rng):
    """Retinas share a bright disc and a dark rim, and are different eyes all the same."""
    shared = scenes(1, rng)[0]
    assert near_copies(facts_of([shared * 2 + scene for scene in scenes(12, rng)])) == []
    assert near_copies(facts_of([np.zeros((64, 64)) + i for i in range(3)])) == []


def test_slices_of_a_stack_are_neighbours_and_patients_in_order_are_not(rng):
    """Neighbours that share structure count only if distant pairs do not share it too."""
    layers = scenes(13, rng)
    stack = [a + b for a, b in pairwise(layers)]
    pairs = [(f"c{i}", f"c{i + 1}") for i in range(11)]
    assert neighbours_alike(facts_of(stack), pairs)
    assert not neighbours_alike(facts_of(layers), pairs)
    shared = scenes(1, rng)[0]
    assert not neighbours_alike(facts_of([shared * 2 + layer for layer in layers]), pairs)
    assert not neighbours_alike(facts_of(stack), pairs[:3])
    assert not neighbours_alike(facts_of(stack), [])


REAL = {
    "isbi2012_em": (True, 0, LabelMap(kind="values", values=(0, 255))),
    "drive": (False, 0, LabelMap(kind="values", values=(0, 255))),
    "wbc_dataset1": (False, 3, LabelMap(kind="values", values=(0, 128, 255))),
    "msd_hippocampus": (False, 0, LabelMap(kind="values", values=(0, 1, 2))),
}


@pytest.mark.data
@pytest.mark.parametrize("folder", REAL)
def test_real_data_is_understood(data_root, folder):
    """Classes, stacks and near copies (looked at by eye: the same cells twice) of four public datasets."""
    dataset = discover(data_root / folder)
    found = look(dataset)
    stack, near, labels = REAL[folder]
    assert found.labels == labels
    assert found.findings == ()
    assert neighbours_alike(found, neighbour_pairs(dataset.cases)) == stack
    assert len(near_copies(found)) == near


@pytest.mark.data
def test_real_masks_of_numbered_objects_are_instances(data_root):
    """Nuclei of many kinds of microscopes, and no stack among them; every sixth image keeps the test short."""
    dataset = discover(data_root / "dsb2018_stage1")
    some = Dataset(root=dataset.root, cases=dataset.cases[::6], layout=dataset.layout)
    found = look(some)
    assert found.labels == LabelMap(kind="instances")
    assert not neighbours_alike(found, neighbour_pairs(some.cases))
