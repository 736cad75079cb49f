"""Each fault of a dataset is found, named and told apart; a clean dataset has no findings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uvea.arrays.labels import LabelMap
from uvea.datasets.case import Case, DataOptions, Dataset
from uvea.datasets.check import CHECKS, check
from uvea.datasets.discover import discover
from uvea.datasets.split import Split
from uvea.datasets.survey import CaseFacts, Survey, survey
from uvea.images import Image, write

MASK = np.array([[0, 0, 1], [0, 1, 1]], np.uint8)


def scene(seed, *, dtype=np.uint8, channels=1):
    """A small image like no other, (c, 2, 3)."""
    return np.random.default_rng(seed).integers(1, 200, (channels, 2, 3)).astype(dtype)


def case(folder: Path, name: str, image, mask=MASK, *, axes="yx", mask_geometry=None, part=None, **geometry) -> Case:
    """Write one case as NIfTI for volumes and known spacings, as .npy for odd types, else as PNG."""
    array = np.asarray(image)
    plain = array.dtype == np.uint8 or (mask is not None and np.asarray(mask).dtype.kind == "f")
    suffix = ".nii.gz" if geometry or axes == "zyx" else ".png" if plain and array.dtype == np.uint8 else ".npy"
    image_path, mask_path = folder / "images" / f"{name}{suffix}", folder / "masks" / f"{name}{suffix}"
    write(image_path, Image(array=array, axes=axes, **geometry))
    if mask is not None:
        mask = np.asarray(mask)
        if suffix == ".png" and mask.dtype.kind == "f":
            mask_path = mask_path.with_suffix(".npy")
        write(mask_path, Image(array=mask[None], axes=axes, **(mask_geometry or geometry)))
    return Case(name=name, images=(image_path,), mask=None if mask is None else mask_path, part=part)


def findings_of(folder: Path, *cases: Case, strays=(), splits=None, **options):
    """Survey and check these cases."""
    dataset = Dataset(root=folder, cases=cases, layout="made by a test", stray_masks=tuple(strays))
    return check(dataset, survey(dataset, options=DataOptions(**options)), splits=splits)


def good(folder, count=3, **options):
    """Cases without any fault, named g0, g1, …; masks differ."""
    masks = [np.roll(MASK, shift, axis=1) for shift in range(count)]
    return [case(folder, f"g{i}", scene(i), masks[i], **options) for i in range(count)]


def test_a_clean_dataset_has_no_findings(tmp_path):
    """Nothing to say is said with nothing."""
    assert findings_of(tmp_path, *good(tmp_path)) == ()


def only(findings, *kinds):
    """The one finding, after checking that there are no others but these kinds."""
    assert [finding.kind for finding in findings] == list(kinds)
    return findings[0]


def test_nothing_is_said_of_classes_that_were_not_understood(tmp_path):
    """Three names for two classes are one error; that all masks are empty, or alike, would be made up."""
    masks = [MASK * 0 + 255 * np.roll(MASK, shift, axis=1) for shift in range(3)]
    cases = [case(tmp_path, f"g{i}", scene(i), masks[i]) for i in range(3)]
    assert (
        "3 label names for 2 classes" in only(findings_of(tmp_path, *cases, label_names=tuple("abc")), "labels").problem
    )


def test_an_image_without_mask_is_named(tmp_path):
    """It is a warning: the others can be trained on."""
    lone = case(tmp_path, "lone", scene(9), None)
    found = only(findings_of(tmp_path, *good(tmp_path), lone), "missing-mask")
    assert (found.severity, found.files) == ("warning", lone.images)
    assert found.problem == "1 of 4 images has no mask and will not be trained on: 'lone'"


def test_images_to_test_on_need_no_mask(tmp_path):
    """A test folder often has none."""
    assert findings_of(tmp_path, *good(tmp_path), case(tmp_path, "t", scene(9), None, part="test")) == ()


def test_a_dataset_without_masks_is_one_error(tmp_path):
    """Not one warning per image."""
    found = only(findings_of(tmp_path, case(tmp_path, "a", scene(1), None)), "labels")
    assert found.severity == "error"
    assert "none of the 1 images" in found.problem


def test_masks_without_image_are_named(tmp_path):
    """The usual cause is a misspelt name."""
    found = only(findings_of(tmp_path, *good(tmp_path), strays=[Path("masks/typo.png")]), "stray-mask")
    assert (found.severity, found.files) == ("warning", (Path("masks/typo.png"),))
    assert "'typo.png'" in found.problem


def test_a_skip_that_fits_nothing_is_a_warning(tmp_path):
    """What should have been left out is still there."""
    dataset = Dataset(root=tmp_path, cases=tuple(good(tmp_path)), layout="made by a test", unused_skips=("c4", "d*"))
    found = only(check(dataset, survey(dataset, options=DataOptions())), "unused-skip")
    assert (found.severity, found.problem) == ("warning", "--skip 'c4', 'd*' fit no image or mask")


def test_a_mask_of_another_size_is_an_error_with_both_sizes(tmp_path):
    """The numbers say what happened: one row was lost."""
    odd = case(tmp_path, "odd", scene(9), MASK[:1])
    found = only(findings_of(tmp_path, *good(tmp_path), odd), "mask-size")
    assert (found.severity, found.files) == ("error", (*odd.images, odd.mask))
    assert "'odd'" in found.problem and "2×3" in found.problem and "1×3" in found.problem


@pytest.mark.parametrize(
    ("image", "mask", "hint"),
    [
        ((2, 5, 6), (5, 6), "if these are channels, not slices: --axes cyx"),
        ((5, 6, 2), (5, 6), "if these are channels, not slices: --axes yxc"),
        ((5, 6), (6, 5), "the mask is transposed"),
        ((4, 5, 6), (6, 5, 4), "the mask is transposed"),
        ((4, 5, 6), (4, 5, 5), "check that image and mask were exported from the same file"),
    ],
)
def test_a_mask_of_another_size_comes_with_the_likely_reason(image, mask, hint):
    """Channels that were taken for slices, and swapped axes, are told by the sizes."""
    facts = CaseFacts(
        name="a", shape=image, axes="zyx"[-len(image) :], channels=1, dtype="uint8", minimum=(0.0,), maximum=(9.0,),
        mask_shape=mask, mask_values={0: 5, 1: 5}, mask_difference="sizes differ",
    )  # fmt: skip
    dataset = Dataset(root=Path(), cases=(Case(name="a", images=(Path("a"),), mask=Path("m")),), layout="")
    found = check(dataset, Survey(facts=(facts,), labels=LabelMap(kind="values", values=(0, 1)), findings=()))
    assert only(found, "mask-size", "few-cases").hint.startswith(hint)


def volume(folder, name, seed, *, mask_spacing=None, spacing=(2.0, 1.0, 1.0), unit="mm"):
    """A volume with its pixel size, and a mask that may lie elsewhere."""
    labels = np.random.default_rng(seed).integers(0, 2, (3, 4, 5)).astype(np.uint8)
    return case(
        folder,
        name,
        np.random.default_rng(seed + 50).integers(1, 99, (1, 3, 4, 5)).astype(np.int16),
        labels,
        axes="zyx",
        spacing=spacing,
        unit=unit,
        mask_geometry={"spacing": mask_spacing or spacing, "unit": unit},
    )


def test_a_mask_of_another_geometry_is_an_error(tmp_path):
    """Equal sizes, other millimetres: the mask belongs to another scan."""
    wrong = volume(tmp_path, "wrong", 2, mask_spacing=(2.5, 1.0, 1.0))
    found = only(findings_of(tmp_path, volume(tmp_path, "a", 1), wrong), "mask-geometry")
    assert found.severity == "error"
    assert "2.5" in found.problem and "'wrong'" in found.problem


def test_mixed_spacings_are_a_warning_with_both_sizes(tmp_path):
    """It will be resampled, which the user should know."""
    cases = [volume(tmp_path, "a", 1), volume(tmp_path, "b", 2), volume(tmp_path, "c", 3, spacing=(2.0, 1.0, 1.5))]
    found = only(findings_of(tmp_path, *cases), "mixed-spacing")
    assert (found.severity, found.files) == ("warning", (*cases[2].images, cases[2].mask))
    assert found.problem.startswith("1 of 3 images has another pixel size than 2×1×1 mm, such as 'c' with 2×1×1.5 mm;")


def test_a_spacing_that_will_not_be_resampled_is_no_warning(tmp_path):
    """Four per cent, which the plan takes for one spacing."""
    cases = [volume(tmp_path, "a", 1), volume(tmp_path, "b", 2), volume(tmp_path, "c", 3, spacing=(2.0, 1.0, 1.04))]
    assert findings_of(tmp_path, *cases) == ()


def test_sheared_volumes_are_a_warning_with_file_and_angle(tmp_path):
    """The series of a tilted gantry can be trained on, but its sizes are no distances."""
    tilted = {"unit": "mm", "direction": ((1.0, 0.0, 0.0), (-0.6, 1.0, 0.0), (0.0, 0.0, 1.0))}
    masks = [np.roll(np.stack([MASK, MASK]), shift) for shift in range(2)]
    images = [np.stack([scene(2 * seed), scene(2 * seed + 1)], axis=1) for seed in range(2)]
    straight = case(tmp_path, "straight", images[0], masks[0], axes="zyx", unit="mm")
    slanted = case(tmp_path, "slanted", images[1], masks[1], axes="zyx", **tilted)
    found = only([f for f in findings_of(tmp_path, straight, slanted) if f.kind == "sheared"], "sheared")
    assert (found.severity, found.files) == ("warning", (*slanted.images, slanted.mask))
    assert "'slanted' are 31.0 degrees off" in found.problem


def test_microns_and_millimetres_are_compared_in_one_unit(tmp_path):
    """2 µm and 0.001 mm differ by half, and are told so."""
    cases = [
        volume(tmp_path, name, seed, spacing=(size,) * 3, unit=unit)
        for seed, (name, size, unit) in enumerate([("a", 2.0, "um"), ("b", 0.002, "mm"), ("c", 0.001, "mm")])
    ]
    found = only(findings_of(tmp_path, *cases), "mixed-spacing")
    assert "than 2×2×2 um, such as 'c' with 1×1×1 um; as their units differ, none is resampled" in found.problem


def test_volumes_and_images_do_not_mix(tmp_path):
    """A network is 2D or 3D."""
    found = findings_of(tmp_path, *good(tmp_path), volume(tmp_path, "v", 1))
    assert ("error", "mixed-axes") in [(finding.severity, finding.kind) for finding in found]
    assert "unknown-spacing" in [finding.kind for finding in found]


def test_a_truncated_file_is_an_error(tmp_path):
    """The finding of the survey is passed on."""
    cases = good(tmp_path)
    cases[1].images[0].write_bytes(cases[1].images[0].read_bytes()[:50])
    found = only(findings_of(tmp_path, *cases), "unreadable-image")
    assert (found.severity, found.files) == ("error", cases[1].images)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_an_error(tmp_path, value):
    """They would end the training in the middle."""
    broken = scene(9, dtype=np.float32)
    broken[0, 1, 1] = value
    cases = [case(tmp_path, "a", scene(1, dtype=np.float32)), case(tmp_path, "b", broken, 1 - MASK)]
    found = only(findings_of(tmp_path, *cases), "not-finite")
    assert found.severity == "error"
    assert "1 of 2 images has NaN or infinite pixels: 'b'" in found.problem


def test_constant_images_and_empty_masks_are_warnings(tmp_path):
    """Both may be meant, so they only warn."""
    flat = case(tmp_path, "flat", np.full((1, 2, 3), 7, np.uint8), 1 - MASK)
    empty = case(tmp_path, "empty", scene(9), MASK * 0)
    found = findings_of(tmp_path, *good(tmp_path), flat, empty)
    assert [(f.severity, f.kind, "'flat'" in f.problem, "'empty'" in f.problem) for f in found] == [
        ("warning", "constant-image", True, False),
        ("warning", "empty-mask", False, True),
    ]


def test_a_mask_with_nothing_but_ignored_pixels_is_told_apart_from_an_empty_one(tmp_path):
    """Nobody annotated it, and yet it scores as perfect."""
    found = findings_of(tmp_path, *good(tmp_path), case(tmp_path, "x", scene(9), MASK * 0 + 9), ignore_value=9)
    assert "ignored everywhere" in only(found, "ignored-mask").problem
    assert found[0].files[0].name == "x.png"


def test_one_class_saved_with_two_values_is_told(tmp_path):
    """It would be learned as two classes; where the user names them, they are two."""
    cases = [case(tmp_path, f"g{i}", scene(i + 10), np.roll(MASK, i, axis=1) * (255 if i % 2 else 1)) for i in range(4)]
    found = only(findings_of(tmp_path, *cases), "different-foregrounds")
    assert (found.severity, found.problem) == (
        "warning",
        "no mask has both 1 and 255: 'g0', 'g2' use 1; 'g1', 'g3' use 255",
    )
    assert findings_of(tmp_path, *cases, label_names=("ground", "cell", "rim")) == ()
    both = case(tmp_path, "both", scene(9), MASK * np.array([1, 1, 255], np.uint8))
    assert findings_of(tmp_path, *cases, both) == ()


def test_an_ignored_value_that_no_mask_has_is_told(tmp_path):
    """Mostly a slip, and what was not annotated is learned as a class."""
    found = only(findings_of(tmp_path, *good(tmp_path), ignore_value=300), "unused-ignore-value")
    assert (found.severity, found.problem) == ("warning", "no mask has the ignored value 300; they have 0, 1")


@pytest.mark.parametrize(("instances", "severity"), [(True, "error"), (False, "warning")])
def test_negative_values_are_named_with_the_option_that_ignores_them(tmp_path, instances, severity):
    """A training refuses them as numbers of objects; as classes the user can name them."""
    masks = [np.where(one == 0, one, one + seed) for seed, one in enumerate([MASK.astype(np.int32)] * 3)]
    for mask in masks:
        mask[1, 0] = -1
    cases = [case(tmp_path, f"g{i}", scene(i, dtype=np.int16), mask) for i, mask in enumerate(masks)]
    found, *_ = findings_of(tmp_path, *cases, instances=instances)
    assert (found.severity, found.kind, "(-1)" in found.problem) == (severity, "negative-value", True)
    assert "--ignore-value -1" in found.hint
    kinds = {one.kind for one in findings_of(tmp_path, *cases, instances=instances, ignore_value=-1)}
    assert "negative-value" not in kinds


def test_a_class_in_one_image_is_named(tmp_path):
    """A single stroke with a wrong brush makes a class."""
    slip = MASK.copy()
    slip[0, 0] = 5
    found = only(findings_of(tmp_path, *good(tmp_path), case(tmp_path, "slip", scene(9), slip)), "rare-class")
    assert found.severity == "warning"
    assert found.problem == "the class 'class 2' (value 5) is in one image only: 'slip'"


@pytest.mark.parametrize(("channels", "severity"), [(3, "warning"), (2, "error")])
def test_mixed_channels_are_refused_unless_gray_and_rgb(tmp_path, channels, severity):
    """Gray can be repeated into RGB; nothing else fits."""
    odd = case(tmp_path, "odd", scene(9, channels=channels), 1 - MASK)
    found = only(findings_of(tmp_path, *good(tmp_path), odd), "mixed-channels")
    assert (found.severity, found.files) == (severity, (*odd.images, odd.mask))
    assert f"1 in 3 ('g0'), {channels} in 1 ('odd')" in found.problem


@pytest.mark.parametrize(
    ("dtype", "axes", "severity"),
    [(np.uint16, "yx", "warning"), (np.float32, "yx", "error"), (np.uint8, "zyx", "error")],
)
def test_gray_beside_three_channels_is_refused_where_a_training_refuses_it(tmp_path, dtype, axes, severity):
    """Three floats or three dyes of a volume are no colours, and gray ones cannot become them."""

    def facts(name, channels):
        return CaseFacts(name=name, shape=(3,) * len(axes), axes=axes, channels=channels, dtype=np.dtype(dtype).name)

    three, gray = facts("three", 3), facts("gray", 1)
    dataset = Dataset(root=tmp_path, cases=tuple(Case(name=n, images=(Path(n),)) for n in ("three", "gray")), layout="")
    found = Survey(facts=(three, gray), labels=LabelMap(kind="values", values=(0, 1)), findings=())
    (mixed,) = [one for one in check(dataset, found) if one.kind == "mixed-channels"]
    assert mixed.severity == severity
    assert ("read as RGB" in mixed.problem) == (severity == "warning")
    if severity == "error":
        assert "only in 2D images of 8 or 16 bit" in mixed.problem and "--skip" in mixed.hint


def test_odd_and_mixed_types_are_warnings(tmp_path):
    """Images of 64 bits are mostly results, and two types mean two exports."""
    found = findings_of(tmp_path, *good(tmp_path), case(tmp_path, "odd", scene(9, dtype=np.float64), 1 - MASK))
    assert [(f.severity, f.kind) for f in found] == [("warning", "odd-type"), ("warning", "mixed-types")]
    assert "uint8 in 3 ('g0'), float64 in 1 ('odd')" in found[1].problem


def test_probability_masks_are_an_error_with_a_value(tmp_path):
    """The other masks still say what the classes are."""
    soft = case(tmp_path, "soft", scene(9), MASK * 0.25)
    found = only(findings_of(tmp_path, *good(tmp_path), soft), "fractional-mask")
    assert found.severity == "error"
    assert "such as 0.25 in 'soft'" in found.problem
    near = findings_of(tmp_path, *good(tmp_path / "b"), case(tmp_path, "near", scene(8), MASK * 1.0025))
    assert "such as 1.0025 in 'near'" in only(near, "fractional-mask").problem


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_mask_with_infinity_is_an_error_and_no_crash(tmp_path, value):
    """It is shown as what it is."""
    broken = case(tmp_path, "broken", scene(9), np.where(MASK > 0, value, 0).astype(np.float32))
    found = only(findings_of(tmp_path, *good(tmp_path), broken), "fractional-mask")
    assert f"such as {value} in 'broken'" in found.problem
    assert found.hint.startswith("write a whole number in its place")


def test_a_single_annotated_image_is_a_warning(tmp_path):
    """It trains, but nothing can be said about the result."""
    assert only(findings_of(tmp_path, *good(tmp_path, 1)), "few-cases").severity == "warning"


def test_copies_are_warned_about_most_strongly_across_a_split(tmp_path):
    """The same copies: first with nothing known, then on both sides, then on one."""
    cases = [*good(tmp_path), case(tmp_path, "copy", scene(0))]
    assert only(findings_of(tmp_path, *cases), "duplicate").problem.endswith("'g0' = 'copy'")
    across = Split(train=("g0", "g1"), val=("g2", "copy"), reason="")
    found = only(findings_of(tmp_path, *cases, splits=[across]), "duplicate-across")
    assert found.problem == (
        "1 image is in training and in validation or test, so the score will be too good: 'g0' = 'copy'"
    )
    assert len(found.files) == 4
    assert found.severity == "warning"
    together = Split(train=("g0", "copy"), val=("g1", "g2"), reason="")
    assert only(findings_of(tmp_path, *cases, splits=[together]), "duplicate").severity == "warning"
    own = only(findings_of(tmp_path, *cases, splits=[replace(across, by_user=True)]), "duplicate-across")
    assert own.severity == "error" and own.problem == found.problem and "--allow-leak" in own.hint


def test_a_copy_in_a_test_folder_is_across(tmp_path):
    """Parts that the user fixed count without a split."""
    cases = [replace(found, part="train") for found in good(tmp_path)]
    found = findings_of(tmp_path, *cases, case(tmp_path, "copy", scene(0), part="test"))
    assert only(found, "duplicate-across").severity == "warning"


def test_copies_with_different_masks_are_told(tmp_path):
    """Two annotators, or one who changed their mind."""
    found = findings_of(tmp_path, *good(tmp_path), case(tmp_path, "copy", scene(0), 1 - MASK))
    assert only(found, "duplicate", "duplicate-masks-differ").severity == "warning"


def test_nearly_equal_images_are_told(tmp_path, rng):
    """A brightened copy has another hash and the same thing on it."""
    masks = [(rng.random((32, 32)) > 0.5).astype(np.uint8) for _ in range(6)]
    images = [rng.integers(0, 120, (1, 32, 32), np.uint8) for _ in range(5)]
    cases = [case(tmp_path, f"g{i}", im, m) for i, (im, m) in enumerate(zip([*images, images[0] + 20], masks))]
    found = only(findings_of(tmp_path, *cases), "near-duplicate")
    assert found.problem == "1 pair of images are nearly equal: 'g0' and 'g5'"
    across = Split(train=("g0", "g1", "g2", "g3"), val=("g4", "g5"), reason="")
    assert only(findings_of(tmp_path, *cases, splits=[across]), "near-duplicate-across").severity == "warning"
    own = only(findings_of(tmp_path, *cases, splits=[replace(across, by_user=True)]), "near-duplicate-across")
    assert own.severity == "error" and "'g0' and 'g5'" in own.problem and "--allow-leak" in own.hint


def test_a_patient_on_both_sides_is_named(tmp_path):
    """An error in a split of the user's own, a warning where there is one patient only and uvea had to cut."""
    cases = [replace(found, group="ann") for found in good(tmp_path)]
    parted = Split(train=("g0", "g1"), val=("g2",), reason="")
    assert only(findings_of(tmp_path, *cases, splits=[parted]), "group-across").severity == "warning"
    found = only(findings_of(tmp_path, *cases, splits=[replace(parted, by_user=True)]), "group-across")
    assert (found.severity, found.problem) == (
        "error",
        "1 group is in training and in validation or test, so the score will be too good: 'ann' ('g0', 'g1', 'g2')",
    )
    others = [replace(one, group=one.name) for one in cases]
    assert findings_of(tmp_path, *others, splits=[replace(parted, by_user=True)]) == ()


def test_a_patient_in_training_and_in_test_is_an_error_although_the_test_is_not_opened(tmp_path):
    """Its images need not be there at all: the group is in the table."""
    cases = [replace(found, group="ann") for found in good(tmp_path)]
    unopened = Case(name="t", images=(tmp_path / "gone.png",), group="ann", part="test")
    dataset = Dataset(root=tmp_path, cases=tuple(cases), layout="made by a test")
    split = Split(train=("g0", "g1", "g2"), val=(), reason="")
    found = check(dataset, survey(dataset, options=DataOptions()), splits=[split], unopened=[unopened])
    assert only(found, "group-across").severity == "error"
    assert "'ann' ('g0', 'g1', 'g2' and 1 more)" in found[0].problem


def test_one_mask_for_two_images_is_told(tmp_path):
    """A mask saved under the wrong name."""
    found = findings_of(tmp_path, *good(tmp_path), case(tmp_path, "again", scene(9)))
    assert only(found, "copied-mask").problem == "different images have the same mask: 'g0' = 'again'"


def test_errors_come_first_and_every_text_is_one_line(tmp_path):
    """A long report starts with what stops the training."""
    cases = [*good(tmp_path), case(tmp_path, "lone", scene(8), None), case(tmp_path, "odd", scene(9), MASK[:1])]
    found = findings_of(tmp_path, *cases)
    assert [finding.severity for finding in found] == ["error", "warning"]
    assert not any("\n" in finding.problem + finding.hint for finding in found)
    assert len(set(CHECKS)) == len(CHECKS)


EXPECTED = {
    "isbi2012_em": set(),
    "drive": set(),
    "wbc_dataset1": {"duplicate", "duplicate-masks-differ", "near-duplicate"},
    "msd_hippocampus": {"mixed-types"},
    "dsb2018_stage1": {"mixed-channels"},
}


@pytest.mark.data
@pytest.mark.parametrize("folder", EXPECTED)
def test_real_data_has_the_faults_that_were_seen_in_it(data_root, folder):
    """Public datasets train, and their copies were confirmed by eye."""
    dataset = discover(data_root / folder)
    if len(dataset.cases) > 500:  # a part of the largest keeps the test short
        dataset = replace(dataset, cases=dataset.cases[::6])
    found = check(dataset, survey(dataset, options=DataOptions()))
    assert {finding.kind for finding in found} == EXPECTED[folder]
    assert all(finding.severity == "warning" for finding in found)
