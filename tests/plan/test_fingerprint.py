"""What is measured of a survey, worked by hand on facts and on small volumes."""

from dataclasses import replace

import numpy as np
import pytest

from uvea.arrays.labels import LabelMap
from uvea.datasets.case import Case, DataOptions, Dataset
from uvea.datasets.discover import discover
from uvea.datasets.survey import CaseFacts, Survey, survey
from uvea.errors import DatasetError
from uvea.images import Image, write
from uvea.plan.fingerprint import measure

NAMES = ("background", "organ a", "organ b")


def facts(number=0, **changes) -> CaseFacts:
    """One 8-bit image of 10×20 with 50 foreground pixels."""
    values = {
        "name": f"c{number}",
        "shape": (10, 20),
        "axes": "yx",
        "channels": 1,
        "dtype": "uint8",
        "spacing": (1.0, 1.0),
        "minimum": (0.0,),
        "maximum": (200.0,),
        "percentiles": ((1.0, 10.0, 30.0, 110.0, 150.0),),
        "foreground_mean": (90.0,),
        "foreground_std": (10.0,),
        "foreground_percentiles": ((60.0, 65.0, 90.0, 110.0, 120.0),),
        "mask_values": {0: 150, 255: 50},
        "objects": 2,
        "object_size": 25.0,
    }
    return CaseFacts(**(values | changes))


def measured(*some, labels=None):
    """The fingerprint of these facts."""
    return measure(Survey(facts=some, labels=labels or LabelMap(kind="values", values=(0, 255)), findings=()))


def test_numbers_are_summed_up_over_the_cases():
    """Smallest, middle and largest; means of the foreground; shares of all pixels."""
    found = measured(
        facts(),
        facts(1, shape=(30, 40), maximum=(250.0,), foreground_mean=(110.0,), mask_values={0: 1200}),
        facts(2, shape=(20, 60), mask_values={0: 950, 255: 250}, object_size=35.0),
    )
    assert (found.cases, found.axes, found.channels, found.dtypes) == (3, "yx", 1, ("uint8",))
    assert (found.shape_min, found.shape_median, found.shape_max) == ((10, 20), (20, 40), (30, 60))
    assert (found.minimum, found.maximum) == (0, 250)
    assert found.foreground_mean == pytest.approx((290 / 3,), rel=1e-5)
    assert (found.foreground_low, found.foreground_high) == ((60,), (120,))
    assert found.class_fraction == pytest.approx((2300 / 2600, 300 / 2600), rel=1e-5)
    assert found.class_cases == (3, 2)
    assert found.object_size == 25
    assert found.skew == pytest.approx(0.2)


def test_cases_without_a_usable_mask_do_not_count():
    """No mask, or one that could not be read."""
    found = measured(facts(), facts(1, shape=(99, 99), mask_values={}))
    assert (found.cases, found.shape_max) == (1, (10, 20))
    with pytest.raises(DatasetError, match=r"no image has a mask.*\n.*uvea check"):
        measured(facts(mask_values={}))


def test_objects_are_one_class_and_ignored_pixels_none():
    """Whatever number they have."""
    labels = LabelMap(kind="instances", ignore=99)
    found = measured(facts(mask_values={0: 50, 1: 20, 2: 30, 99: 100}), labels=labels)
    assert found.class_fraction == (0.5, 0.5)


def test_spacings_count_where_all_have_one_unit():
    """Pixels and millimetres cannot be compared."""
    known = facts(unit="mm", spacing=(2.0, 0.5))
    assert measured(known, facts(1, unit="mm", spacing=(4.0, 0.5))).spacing_median == (3.0, 0.5)
    both = measured(known, known, facts(1, unit="um", spacing=(4000.0, 500.0)))
    assert (both.unit, both.spacing_median, both.spacing_max) == ("mm", (2.0, 0.5), (4.0, 0.5))
    # What is left is the shape of a pixel: four times as long as wide, and square.
    mixed = measured(known, known, facts(1))
    assert (mixed.unit, mixed.spacing_median) == ("px", (4.0, 1.0))


@pytest.mark.parametrize(
    ("percentiles", "zeros"),
    [((0, 0, 0, 50, 90), 0.5), ((0, 0, 7, 50, 90), 0.02), ((0, 3, 7, 50, 90), 0.0), ((5, 6, 7, 50, 90), 0.0)],
)
def test_the_empty_surround_is_seen_in_the_percentiles(percentiles, zeros):
    """Half of the pixels, a few, or none."""
    assert measured(facts(percentiles=(tuple(map(float, percentiles)),))).zeros == zeros


def test_three_channels_of_a_camera_are_colour():
    """Floats are measurements."""
    three = {
        name: getattr(facts(), name) * 3
        for name in ("minimum", "maximum", "percentiles", "foreground_mean", "foreground_std")
    }
    three["foreground_percentiles"] = facts().foreground_percentiles * 3
    assert measured(facts(channels=3, **three)).colour
    assert not measured(facts(channels=3, dtype="float32", **three)).colour
    assert not measured(facts()).colour


@pytest.mark.parametrize(
    ("names", "paired"),
    [
        (("background", "left kidney", "right kidney"), True),
        (("background", "Kidney_L", "Kidney_R"), True),
        (("background", "lh-cortex", "rh-cortex"), True),
        (("background", "left ventricle", "right atrium"), False),
        (("background", "leftover", "right"), False),
        (("background", "anterior", "posterior"), False),
    ],
)
def test_labels_named_left_and_right_are_recognised(names, paired):
    """The rest of both names must agree."""
    labels = LabelMap(kind="values", values=(0, 1, 2), names=names)
    assert measured(facts(mask_values={0: 10, 1: 5, 2: 5}), labels=labels).left_right == paired


def boxes(first, second, *, shape=(20, 30, 40), half=(4, 4, 4)) -> np.ndarray:
    """Two boxes of classes 1 and 2, by their centres."""
    mask = np.zeros(shape, np.uint8)
    for value, centre in ((1, first), (2, second)):
        mask[tuple(slice(c - h, c + h) for c, h in zip(centre, half))] = value
    return mask


def volumes(folder, masks, **geometry):
    """The fingerprint of NIfTI volumes with these masks."""
    cases = []
    for number, mask in enumerate(masks):
        paths = [folder / f"{what}{number}.nii.gz" for what in ("image", "mask")]
        pixels = np.random.default_rng(number).normal(size=mask.shape).astype(np.float32)
        for path, array in zip(paths, (pixels, mask)):
            write(path, Image(array=array[None], axes="zyx", **({"unit": "mm"} | geometry)))
        cases.append(Case(name=f"c{number}", images=(paths[0],), mask=paths[1]))
    dataset = Dataset(root=folder, cases=tuple(cases), layout="made by a test")
    return measure(survey(dataset, options=DataOptions(label_names=NAMES)))


KIDNEYS = boxes((10, 15, 8), (11, 15, 32))


def test_left_and_right_lie_along_the_last_axis_of_an_axial_volume(tmp_path):
    """Written and read back as NIfTI."""
    assert volumes(tmp_path, [KIDNEYS]).left_right_axis == 2


def test_the_direction_of_the_file_says_which_axis_is_left_and_right(tmp_path):
    """A sagittal volume runs from left to right along its first axis: there world x is array axis 0."""
    sagittal = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    found = volumes(tmp_path, [boxes((4, 15, 20), (16, 15, 20), half=(2, 4, 4))], direction=sagittal)
    assert found.left_right_axis == 0
    assert found.mirror_pairs == (("organ a", "organ b"),)


def test_pixels_without_a_size_know_no_left(tmp_path):
    """Neither do micrometres: microscopes see no patients."""
    found = volumes(tmp_path, [KIDNEYS], unit="um")
    assert (found.left_right_axis, found.mirror_pairs) == (None, ())


def test_cases_stored_in_different_orders_have_no_common_axis():
    """One axial and one sagittal volume."""
    axial = np.eye(3)
    cases = [
        facts(number, shape=(9, 9, 9), axes="zyx", unit="mm", spacing=(1.0,) * 3, direction=tuple(map(tuple, turned)))
        for number, turned in enumerate((axial, axial[[1, 2, 0]]))
    ]
    assert measured(cases[0]).left_right_axis == 2
    assert measured(*cases).left_right_axis is None


def test_classes_on_both_sides_of_the_middle_are_mirror_images(tmp_path):
    """Two boxes, left and right, a little apart in height."""
    assert volumes(tmp_path, [KIDNEYS, KIDNEYS]).mirror_pairs == (("organ a", "organ b"),)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (boxes((10, 8, 20), (10, 22, 20)), "front and back"),
        (boxes((10, 8, 12), (10, 22, 28)), "askew"),
        (boxes((10, 15, 8), (10, 15, 32)) * (np.arange(40) > 7), "one is cut in half"),
    ],
    ids=["front and back", "askew", "volumes"],
)
def test_other_neighbours_are_no_mirror_images(tmp_path, mask, why):
    """Apart along another axis as well, or of different volumes."""
    assert volumes(tmp_path, [mask]).mirror_pairs == (), why


def test_sides_that_change_from_case_to_case_mean_nothing(tmp_path):
    """Left and right are left and right in all patients, or in nine of ten."""
    swapped = np.where(KIDNEYS == 0, 0, 3 - KIDNEYS).astype(np.uint8)
    assert volumes(tmp_path / "a", [KIDNEYS, swapped]).mirror_pairs == ()
    assert volumes(tmp_path / "b", [*[KIDNEYS] * 9, swapped]).mirror_pairs == (("organ a", "organ b"),)


def test_a_file_stored_from_left_to_right_has_the_same_left(tmp_path):
    """The array is turned round, and its direction says so."""
    volumes(tmp_path, [KIDNEYS])
    turned = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
    for what in ("image", "mask"):
        array = np.zeros((20, 30, 40), np.float32) if what == "image" else KIDNEYS[:, :, ::-1]
        write(tmp_path / f"{what}1.nii.gz", Image(array=array[None], axes="zyx", unit="mm", direction=turned))
    cases = tuple(
        Case(name=f"c{n}", images=(tmp_path / f"image{n}.nii.gz",), mask=tmp_path / f"mask{n}.nii.gz") for n in (0, 1)
    )
    found = survey(Dataset(root=tmp_path, cases=cases, layout="made by a test"), options=DataOptions(label_names=NAMES))
    assert measure(found).mirror_pairs == (("organ a", "organ b"),)


def test_a_pair_far_from_the_middle_of_the_others_is_none():
    """Two lobes of one lung lie side by side, but on one side of the body."""
    centres = {1: (0.5, 0.5, 0.6), 2: (0.5, 0.5, 0.7), 3: (0.5, 0.5, 0.05), 4: (0.5, 0.5, 0.1)}
    case = facts(
        shape=(50, 50, 50),
        axes="zyx",
        unit="mm",
        spacing=(1.0,) * 3,
        direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        mask_values={0: 1000, 1: 100, 2: 100, 3: 100, 4: 400},
        mask_centres=centres,
    )
    labels = LabelMap(kind="values", values=(0, 1, 2, 3, 4), names=("background", "lobe", "other lobe", "a", "b"))
    pairs = measured(case, labels=labels).mirror_pairs
    assert ("lobe", "other lobe") not in pairs
    assert ("other lobe", "a") in pairs
    # Cases that lack one of two classes do not count for them.
    lacking = replace(case, mask_centres={1: centres[1], 3: centres[3]})
    assert ("other lobe", "a") in measured(case, *[lacking] * 9, labels=labels).mirror_pairs


@pytest.mark.data
def test_the_parts_of_the_hippocampus_lie_one_behind_the_other(data_root):
    """So left and right may be mirrored, along the last axis, as the files say."""
    dataset = discover(data_root / "msd_hippocampus")
    some = Dataset(root=dataset.root, cases=dataset.cases[::10], layout=dataset.layout)
    found = measure(survey(some, options=DataOptions()))
    assert (found.left_right_axis, found.mirror_pairs, found.left_right) == (2, (), False)
