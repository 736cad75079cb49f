"""Images find their masks in every layout people use, and what is unclear is refused with a way out."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from uvea.datasets.case import DataOptions
from uvea.datasets.discover import discover, find_images
from uvea.datasets.table import read_table
from uvea.errors import DatasetError, ImageError
from uvea.images import read


def make(root: Path, *names: str) -> Path:
    """Empty files, with their folders; discovery looks at names only."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(root: Path, **options: object) -> dict[str, str | None]:
    """Case names and their masks, relative to `root`."""
    cases = discover(root, options=DataOptions(**options)).cases
    return {c.name: c.mask.relative_to(root).as_posix() if c.mask else None for c in cases}


def refusal(root: Path, **options: object) -> DatasetError:
    """The error that discovery ends with: two parts, one line each."""
    with pytest.raises(DatasetError) as caught:
        discover(root, options=DataOptions(**options))
    assert "\n" not in caught.value.problem + caught.value.hint
    return caught.value


@pytest.mark.parametrize("images", ["images", "image", "Images", "img", "raw"])
@pytest.mark.parametrize(
    "masks", ["masks", "Mask", "labels", "label", "annotations", "segmentations", "gt", "Ground Truth"]
)
def test_two_folders_are_known_by_many_names(tmp_path, images, masks):
    """Suffixes may differ; fov/, hidden files and notes are left alone."""
    make(tmp_path, f"{images}/a.jpg", f"{images}/b.jpg", f"{masks}/a.png", f"{masks}/b.png")
    make(
        tmp_path, "fov/a.png", "SOURCE.md", "index.csv", f"{images}/Thumbs.db", f"{images}/._a.jpg", f"{masks}/.x/a.png"
    )
    assert found(tmp_path) == {"a": f"{masks}/a.png", "b": f"{masks}/b.png"}


def test_channel_files_become_one_case(tmp_path):
    """imagesTr and labelsTr; imagesTs takes no part in training."""
    files = [f"imagesTr/{case}_{channel:04d}.nii.gz" for case in ("p_1", "p_2") for channel in (0, 1)]
    make(tmp_path, *files, "labelsTr/p_1.nii.gz", "imagesTs/p_3_0000.nii.gz")
    dataset = discover(tmp_path)
    assert [(c.name, len(c.images), c.mask is not None) for c in dataset.cases] == [("p_1", 2, True), ("p_2", 2, False)]
    assert dataset.cases[0].images[1].name == "p_1_0001.nii.gz"
    assert dataset.layout == "imagesTr/ and labelsTr/, paired by name, one file per channel"


def test_a_missing_channel_is_named(tmp_path):
    """Channel 1 between 0 and 2."""
    make(tmp_path, "imagesTr/a_0000.nii", "imagesTr/a_0002.nii", "labelsTr/a.nii")
    assert "no 'a_0001'" in refusal(tmp_path).problem


@pytest.mark.parametrize(
    ("image", "mask", "name"),
    [
        ("{}.tif", "{}_mask.tif", "{}"),
        ("{}.tif", "{}-seg.png", "{}"),
        ("{}.tif", "{}_labels.tif", "{}"),
        ("{}.tif", "mask_{}.tif", "{}"),
        ("{}.tif", "{}Mask.tif", "{}"),
        ("{}.tif", "{}_cells_mask_v2.tif", None),
        ("{}_cells.tif", "{}_cells_mask_v2.tif", "{}_cells"),
        ("{}_image.tif", "{}_mask.tif", "{}"),
        ("img_{}.tif", "mask_{}.tif", "{}"),
        ("p_image_{}.tif", "p_mask_{}.tif", "p_{}"),
        ("label_study_{}.tif", "label_study_{}_mask.tif", "label_study_{}"),
        ("face_mask_{}.tif", "face_mask_{}_mask.tif", "face_mask_{}"),
    ],
)
def test_a_word_in_the_name_tells_masks_side_by_side(tmp_path, image, mask, name):
    """The word is learned from files that have a partner without it; anything else is refused."""
    for number in ("01", "02", "10"):
        make(tmp_path, image.format(number), mask.format(number))
    if name is None:
        assert "6 files" in refusal(tmp_path).problem
        return
    assert found(tmp_path) == {name.format(n): mask.format(n) for n in ("01", "02", "10")}


def test_side_by_side_in_patient_folders_with_gaps(tmp_path):
    """A missing mask stays a case, a mask alone is a stray, folders are groups."""
    make(tmp_path, "p1/1.tif", "p1/1_mask.tif", "p1/2.tif", "p2/1.tif", "p2/1_mask.tif", "p2/7_mask.tif")
    dataset = discover(tmp_path)
    assert [(c.name, c.group, c.mask is None) for c in dataset.cases] == [
        ("p1/1", "p1", False),
        ("p1/2", "p1", True),
        ("p2/1", "p2", False),
    ]
    assert dataset.stray_masks == (tmp_path / "p2/7_mask.tif",)
    assert dataset.layout == "images and masks side by side, paired by name, masks called …_mask"


def test_a_folder_per_case(tmp_path):
    """The case is called after its folder."""
    make(tmp_path, "p1/image.nii.gz", "p1/mask.nii.gz", "p2/image.nii.gz", "p2/mask.nii.gz")
    assert found(tmp_path) == {"p1": "p1/mask.nii.gz", "p2": "p2/mask.nii.gz"}


@pytest.mark.parametrize("pattern", ["{part}/{role}/{name}", "{role}/{part}/{name}", "{part}_{role}/{name}"])
def test_parts_are_honoured_above_and_below(tmp_path, pattern):
    """train/, val/ and test/ fix the part; equal names in two parts are two cases."""
    for part in ("train", "val", "test"):
        for role in ("images", "masks"):
            make(tmp_path, pattern.format(part=part, role=role, name="a.png"))
    assert {c.name: c.part for c in discover(tmp_path).cases} == {"train/a": "train", "val/a": "val", "test/a": "test"}


def test_a_test_folder_without_masks_is_left_out(tmp_path):
    """And the layout says so."""
    make(tmp_path, "train/images/a.png", "train/masks/a.png", "test/images/b.png")
    dataset = discover(tmp_path)
    assert [case.name for case in dataset.cases] == ["train/a"]
    assert "'test/images' without masks left out" in dataset.layout


def test_subfolders_pair_by_path_and_become_groups(tmp_path):
    """Equal file names in two patients stay apart; one folder around all is no group."""
    make(tmp_path / "two", "images/p1/a.png", "images/p2/a.png", "masks/p1/a.png", "masks/p2/a.png")
    assert [(c.name, c.group) for c in discover(tmp_path / "two").cases] == [("p1/a", "p1"), ("p2/a", "p2")]
    make(tmp_path / "one", "images/p1/a.png", "images/p1/b.png", "masks/p1/a.png")
    assert [(c.name, c.group) for c in discover(tmp_path / "one").cases] == [("p1/a", None), ("p1/b", None)]
    make(tmp_path / "flat", "images/p1/a.png", "images/p2/b.png", "masks/a.png", "masks/b.png")
    assert [(c.name, c.group) for c in discover(tmp_path / "flat").cases] == [("p1/a", "p1"), ("p2/b", "p2")]


def test_names_that_share_only_a_number(tmp_path):
    """21_training and 21_manual1, as in some public sets; a single image never pairs like that."""
    make(
        tmp_path / "many",
        *(f"images/{n}_training.tif" for n in (21, 22)),
        *(f"labels/{n}_manual1.gif" for n in (21, 22)),
    )
    make(tmp_path / "many", *(f"labels/{n}_expert.png" for n in (21, 22)))
    assert found(tmp_path / "many") == {"21": "labels/21_expert.png", "22": "labels/22_expert.png"}
    make(tmp_path / "one", "images/a.png", "masks/b.png")
    assert refusal(tmp_path / "one").problem.startswith("no mask in")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}.tif", "{}_cp_masks.png"),
        ("{}.tif", "{}.tif.png"),
        ("{}.tif", "{}_cells.png"),
        ("{}.tif", "Nuclei of {}.png"),
        ("A{}.tif", "a{}.png"),
        ("{}_training.tif", "{}_manual1.png"),
    ],
)
def test_one_missing_mask_is_one_missing_mask(tmp_path, image, mask):
    """Whatever the others are called, and whichever it is; "exp_" is no common text that could be taken off."""
    names = ["exp_1", "exp_2", "exp_3", "control"]
    for missing in names[-2:]:
        root = tmp_path / missing
        make(root, *(f"images/{image.format(name)}" for name in names))
        make(root, *(f"masks/{mask.format(name)}" for name in names if name != missing))
        if image == "{}_training.tif" and missing == "control":
            assert "no mask" in refusal(root).problem
            continue
        for options in ({}, {"images": "images/*", "masks": "masks/*"}):
            cases = discover(root, options=DataOptions(**options)).cases
            assert [case.name for case in cases if case.mask is None] == [image.format(missing)[:-4].split("_train")[0]]
            assert sum(case.mask is not None for case in cases) == 3


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["0", "1", "2", "3"], ["m1", "m2", "m3", "m4"]),
        (["img0", "img1", "img2", "img3"], ["m1", "m2", "m3", "m4"]),
        (["1", "2", "3", "4"], ["11", "12", "13", "14"]),
        (["a", "b"], ["a_1", "a_2", "b_1"]),
        (["a", "b", "c", "d"], ["a_x", "b_y", "c_z", "e"]),
        (["a", "b"], ["a_x"]),
    ],
)
def test_names_that_agree_by_chance_are_not_paired(tmp_path, images, masks):
    """A number is not cut in two, a text is that of most masks, and a number in it may be that of an object."""
    make(tmp_path, *(f"images/{name}.png" for name in images), *(f"masks/{name}.png" for name in masks))
    assert refusal(tmp_path).problem.startswith("no mask in")


def test_masks_of_cellpose_lie_beside_their_images(tmp_path):
    """Its "_cp_masks" is one word, unless the image itself is called "_cp"."""
    make(tmp_path / "a", "c0.tif", "c0_cp_masks.png", "c1.tif")
    assert found(tmp_path / "a") == {"c0": "c0_cp_masks.png", "c1": None}
    make(tmp_path / "b", "c0_cp.tif", "c0_cp_masks.png")
    assert found(tmp_path / "b") == {"c0_cp": "c0_cp_masks.png"}


def test_two_globs_pair_by_what_differs(tmp_path):
    """Files that both globs fit are masks."""
    make(tmp_path, "a.tif", "b.tif", "a_cells.tif", "b_cells.tif", "notes.txt")
    assert found(tmp_path, images="*.tif", masks="*_cells.tif") == {"a": "a_cells.tif", "b": "b_cells.tif"}
    make(tmp_path, "d/x1/raw.png", "d/x1/out.png", "d/x2/raw.png", "d/x2/out.png")
    assert found(tmp_path, images="d/*/raw.png", masks="d/*/out.png") == {"x1": "d/x1/out.png", "x2": "d/x2/out.png"}
    assert found(tmp_path, images="d/x1/raw.png", masks="b_cells.tif") == {"raw": "b_cells.tif"}
    assert "--masks 'none/*' fits no image" in refusal(tmp_path, images="*.tif", masks="none/*").problem
    assert "without --masks" in refusal(tmp_path, images="*.tif").problem


def test_skip_leaves_files_out(tmp_path):
    """By name, by name without suffix, or by path; images and masks alike."""
    make(tmp_path, *(f"{role}/{n}.png" for role in ("images", "masks") for n in ("a", "b", "c", "d")))
    assert list(found(tmp_path, skip=("a", "b.p*", "*/c.png"))) == ["d"]


def test_what_is_said_of_the_data_becomes_plain():
    """Numbers of numpy and lists are Python's own then, and one glob is not its letters."""
    said = DataOptions(
        ignore_value=np.int64(7),
        max_pixels=100.0,
        instances=np.True_,
        skip="*_bad*",
        label_names={np.uint8(0): "background", np.uint8(255): "cell"},
    )
    assert type(said.ignore_value) is int and type(said.max_pixels) is int and said.instances is True
    assert said.skip == ("*_bad*",) and list(map(type, said.label_names)) == [int, int]
    assert DataOptions(skip=["a"], label_names=np.array(["a", "b"])) == DataOptions(skip={"a"}, label_names=("a", "b"))
    assert DataOptions(label_names=None) == DataOptions()
    assert DataOptions(label_names={"7": "a"}).label_names == {7: "a"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ignore_value", 1.5),
        ("ignore_value", "255"),
        ("max_pixels", float("nan")),
        ("instances", "yes"),
        ("label_names", "background,cell"),
        ("label_names", {0.5: "cell"}),
        ("skip", 3),
        ("axes", 3),
    ],
)
def test_what_cannot_be_said_of_data_is_refused(option, value):
    """With its name and a way out, before anything is read."""
    with pytest.raises(DatasetError, match=option):
        DataOptions(**{option: value})


def test_a_skip_that_fits_nothing_is_known(tmp_path):
    """A name of a case, as it is reported, fits; one that is misspelt is said to fit nothing."""
    make(tmp_path, *(f"p{p}/{role}/{n}.png" for role in ("images", "masks") for p in (1, 2) for n in ("a", "b")))
    (tmp_path / "list.csv").write_text("image,mask\np1/images/a.png,p1/masks/a.png\np2/images/b.png,p2/masks/b.png\n")
    options = DataOptions(images="*/images/*", masks="*/masks/*", skip=("p1/a", "c4", "*_x*"))
    dataset = discover(tmp_path, options=options)
    assert [case.name for case in dataset.cases] == ["p1/b", "p2/a", "p2/b"]
    assert dataset.unused_skips == ("c4", "*_x*")
    table = discover(tmp_path / "list.csv", options=DataOptions(skip=("a", "c4")))
    assert (len(table.cases), table.unused_skips) == (1, ("c4",))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["images/a.png", "images/a.tif", "masks/a.png"], ["two images", "a.png", "a.tif"]),
        (["images/a.png", "masks/a.png", "masks/a.tif"], ["two masks", "masks/a.png", "masks/a.tif"]),
        (["images/a.png", "masks/a.png", "masks/a_mask.png"], ["two masks for the image 'a'", "masks/a_mask.png"]),
        (["a.tif", "a_mask.tif", "a_seg.tif"], ["two masks for the image 'a'", "a_mask.tif", "a_seg.tif"]),
        (["images/a_raw.png", "images/a_img.png", "masks/a_mask.png"], ["two images", "a_raw.png", "a_img.png"]),
        (["images/a.png", "masks/a.png", "labels/a.png"], ["two folders of masks", "labels", "masks"]),
        (["images/a.png", "images/b.png"], ["2 files", "no masks were found", "images/a.png"]),
        (["images/p1/1.png", "images/p2/2.png", "masks/p2/1.png", "masks/p1/2.png"], ["p1/1.png", "p2/1.png", "'p1'"]),
        (["a.csv", "b.txt", "c.txt"], ["no images", "3 files", "2 .txt"]),
        ([], ["no images", "it is empty"]),
    ],
)
def test_what_is_unclear_is_refused_with_the_files(tmp_path, files, words):
    """The message names what stands in the way."""
    message = refusal(make(tmp_path, *files)).problem
    for word in words:
        assert word in message


def test_a_folder_too_high_or_too_low_gets_the_right_one_as_hint(tmp_path):
    """The hint can be typed."""
    make(tmp_path, "set1/images/a.png", "set1/masks/a.png")
    assert str(tmp_path / "set1") in refusal(tmp_path).hint
    assert str(tmp_path / "set1") in refusal(tmp_path / "set1/images").hint
    assert "no folder or table" in refusal(tmp_path / "nowhere").problem
    assert "neither a folder nor a CSV" in refusal(tmp_path / "set1/images/a.png").problem


def test_datasets_in_a_folder_are_all_taken_by_the_globs_of_the_hint(tmp_path):
    """As they stand there; each is a group then."""
    make(tmp_path, *(f"exp {e}/{role}/c{n}.tif" for e in (0, 1, 2) for role in ("images", "masks") for n in (0, 1)))
    error = refusal(tmp_path)
    assert "has 3 in it: 'exp 0', 'exp 1', 'exp 2'" in error.problem
    assert "--images '*/images/*.tif' --masks '*/masks/*.tif', or give one, " in error.hint
    cases = discover(tmp_path, options=DataOptions(images="*/images/*.tif", masks="*/masks/*.tif")).cases
    assert [(case.name, case.group) for case in cases[:3]] == [
        ("exp 0/c0", "exp 0"),
        ("exp 0/c1", "exp 0"),
        ("exp 1/c0", "exp 1"),
    ]
    make(tmp_path / "odd", "a/images/1.tif", "a/masks/1.tif", "b/raw/2.tif", "b/gt/2.tif")
    assert refusal(tmp_path / "odd").hint == f"give one of the datasets in it, such as '{tmp_path / 'odd' / 'a'}'"


def test_one_mask_file_per_object_is_answered_with_what_to_do(tmp_path):
    """From above, with globs, and from the folder of one image."""
    make(tmp_path, *(f"id{i}/images/id{i}.png" for i in (0, 1)))
    make(tmp_path, *(f"id{i}/masks/{i}{m}.png" for i in (0, 1) for m in "abc"))
    for error in (
        refusal(tmp_path),
        refusal(tmp_path / "id0"),
        refusal(tmp_path, images="*/images/*.png", masks="*/masks/*.png"),
    ):
        assert error.hint.startswith("one mask file per object: merge them into one mask")


def test_dicom_is_answered_with_its_way_out(tmp_path):
    """By suffix, or by the first bytes of files that have none; for images/ beside masks that can be read, too."""
    make(tmp_path, "images/0.dcm", "masks/0.nii.gz")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "IM1").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "list.csv").write_text("image\nimages/0.dcm\n")
    for source in (tmp_path / "images/0.dcm", tmp_path / "images", tmp_path / "images/*", tmp_path / "one/IM1"):
        with pytest.raises(DatasetError, match="`dcm2niix -z y '"):
            find_images([source])
    for error in (refusal(tmp_path), refusal(tmp_path / "one"), refusal(tmp_path, images="images/*", masks="masks/*")):
        assert "`dcm2niix -z y '" in error.hint
    assert "no images were found" in refusal(tmp_path).problem
    with pytest.raises(DatasetError, match=r"there: 1 file: 1 \.dcm"):
        find_images([tmp_path / "images/x*.tif"])
    with pytest.raises(ImageError, match=r"0\.dcm .*\n.*`dcm2niix -z y '"):
        read(tmp_path / "images/0.dcm")


def test_a_mistyped_glob_does_not_count_a_whole_disk(tmp_path, monkeypatch):
    """Nor is it stopped by a folder that it has nothing to do with."""
    make(tmp_path, *(f"{folder}/{n}.tif" for folder in "abc" for n in range(3)))
    monkeypatch.setattr("uvea.datasets.discover.MOST_COUNTED", 4)
    with pytest.raises(DatasetError, match=r"there: more than 4 files, such as \.tif"):
        find_images([tmp_path / "x*.tif"])


def test_images_beside_a_folder_of_masks(tmp_path):
    """Images need no folder of their own."""
    make(tmp_path, "a.tif", "b.tif", "masks/a.tif", "masks/b.tif")
    assert found(tmp_path) == {"a": "masks/a.tif", "b": "masks/b.tif"}


def table(root: Path, text: str) -> Path:
    """A CSV file beside four images."""
    make(root, "a.png", "b.png", "c_0000.nii", "c_0001.nii", "m/a.png", "m/b.png")
    path = root / "cells.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_a_table_gives_everything(tmp_path):
    """Channels, an absent mask, group and split; any order, a byte order mark, spaces and empty lines."""
    text = (
        "Image, mask,group,split\nc_0000.nii;c_0001.nii,m/b.png,mouse 2,validation\n\na.png,m/a.png,,\nb.png,,,train\n"
    )
    a, b, c = discover(table(tmp_path, text)).cases
    assert (a.name, a.mask, a.group, a.part) == ("a", tmp_path / "m/a.png", None, None)
    assert (b.name, b.mask, b.part) == ("b", None, "train")
    assert (c.name, c.images, c.group, c.part) == (
        "c",
        (tmp_path / "c_0000.nii", tmp_path / "c_0001.nii"),
        "mouse 2",
        "val",
    )


def test_a_table_with_equal_file_names_uses_their_folders(tmp_path):
    """Semicolons may divide the fields, too."""
    make(tmp_path, "p1/x.png", "p2/x.png")
    dataset = discover(table(tmp_path, "image;mask\np1/x.png;m/a.png\np2/x.png;m/b.png"))
    assert [case.name for case in dataset.cases] == ["p1/x", "p2/x"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,mask,grp\na.png,m/a.png,1", "does not know: 'grp'"),
        ("mask\nm/a.png", "no column 'image'"),
        ("image,mask,mask\na.png,m/a.png,m/a.png", "'mask' twice"),
        ("image,mask\nx.png,m/a.png", "row 2 of .*no file 'x.png'"),
        ("image,mask\na.png,m/a.png\n,m/b.png", "row 3 of .*no image"),
        ("image,mask,split\na.png,m/a.png,holdout", "row 2 of .*split 'holdout'"),
        ("image,mask\na.png,m/a.png\na.png,m/b.png", "listed twice in .*rows 2 and 3"),
        ("image,mask\na.png,m/a.png,more", "row 2 of .*3 fields, the header 2"),
        ("image,mask\na.png,", "no row .* has a mask"),
        ("image,mask\n", "has no rows"),
        ("", "no column 'image'"),
    ],
)
def test_a_fault_in_a_table_is_named_with_its_row(tmp_path, text, words):
    """So that it can be found in a spreadsheet."""
    with pytest.raises(DatasetError, match=words):
        discover(table(tmp_path, text))


def test_images_to_predict_come_from_files_folders_and_globs(tmp_path):
    """Names are relative to what was given; the order is that of the command line, then of names."""
    make(tmp_path, "d/b.png", "d/p1/a.tif", "d/notes.txt", "d/.hidden.png", "e/z.png", "e/y_[1].png")
    names = [name for name, _ in find_images([tmp_path / "e/z.png", tmp_path / "d", str(tmp_path / "e/*.png")])]
    assert names == ["z", "b", "p1/a", "y_[1]"]
    assert find_images([tmp_path / "e/y_[1].png"]) == [("y_[1]", (tmp_path / "e/y_[1].png",))]


def test_channel_files_to_predict_are_grouped_on_request_only(tmp_path):
    """A numbered series of plain images looks the same; the model knows how many files an image has."""
    make(tmp_path, "x_0000.nii.gz", "x_0001.nii.gz")
    assert [name for name, _ in find_images([tmp_path])] == ["x_0000", "x_0001"]
    assert find_images([tmp_path], channels=2) == [("x", (tmp_path / "x_0000.nii.gz", tmp_path / "x_0001.nii.gz"))]
    with pytest.raises(DatasetError, match="'x' has 2 channel files, the model was trained on 3"):
        find_images([tmp_path], channels=3)


def test_channel_files_named_one_by_one_are_grouped_too(tmp_path):
    """A shell turns a glob into its files; channels of one name in two folders stay apart."""
    files = ["p/x_0000.nii.gz", "q/y_0001.nii.gz", "p/x_0001.nii.gz", "q/y_0000.nii.gz"]
    make(tmp_path, *files)
    given = [tmp_path / file for file in files]
    assert find_images(given, channels=2) == [("x", (given[0], given[2])), ("y", (given[3], given[1]))]
    with pytest.raises(DatasetError, match=r"'x' has 1 channel file, .* 2\n.*x_0000 to x_0001"):
        find_images(given[:1], channels=2)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none.png", "no image or folder"),
        ("t.txt", "not an image"),
        ("*.jpg", "no images in"),
        ("twins", "both give the mask 'a'"),
    ],
)
def test_images_to_predict_that_are_not_there_are_named(tmp_path, source, words):
    """Each source is checked by itself."""
    make(tmp_path, "t.txt", "a.png", "twins/a.png", "twins/a.tif")
    with pytest.raises(DatasetError, match=words):
        find_images([str(tmp_path / source)])


def test_a_dataset_is_not_predicted_with_its_masks(tmp_path):
    """The hint names the folder of the images."""
    make(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(DatasetError, match=f"give the folder of the images, '{tmp_path / 'images'}'"):
        find_images([tmp_path])


def test_a_dataset_in_parts_is_not_predicted_with_its_masks_either(tmp_path):
    """train/ and val/ are no images, nor are the masks in them."""
    make(tmp_path, "train/images/a.png", "train/masks/a.png", "val/images/b.png", "val/masks/b.png")
    assert predicted_by_hint(tmp_path) == ["train/images/a", "val/images/b"]
    assert predicted_by_hint(tmp_path, role="masks") == ["train/masks/a", "val/masks/b"]


def predicted_by_hint(source: Path, **options: object) -> list[str]:
    """What is predicted where the source is refused, and what its hint names is given in its place."""
    with pytest.raises(DatasetError, match="holds images and masks") as caught:
        find_images([source], **options)
    return [name for name, _ in find_images([caught.value.hint.split("'")[1]])]


def test_datasets_below_a_folder_are_not_predicted_with_their_masks_either(tmp_path):
    """However deep, and images beside masks/ too."""
    make(tmp_path / "a", *(f"x/e {e}/{role}/c{e}.tif" for e in (0, 1) for role in ("images", "masks")))
    assert predicted_by_hint(tmp_path / "a") == ["e 0/images/c0", "e 1/images/c1"]
    make(tmp_path / "b", "p/raw/a.tif", "p/gt/a.tif")
    assert predicted_by_hint(tmp_path / "b") == ["a"]
    make(tmp_path / "c", *(f"{part}_{role}/{part}.tif" for part in ("train", "val") for role in ("images", "masks")))
    assert predicted_by_hint(tmp_path / "c") == ["train"]
    make(tmp_path / "d", "a.tif", "b.tif", "masks/a.png")
    assert predicted_by_hint(tmp_path / "d") == ["a", "b"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["x0.png", "x1.png"], ["masks/x0_cells.png", "masks/x1_cells.png"]),
        (["a.tif"], ["masks/b.tif"]),
        (["a_0000.tif", "a_0001.tif", "b_0000.tif", "b_0001.tif"], ["b_seg.tif"]),
        ([f"frame_{n}.tif" for n in (98, 99, 100)], ["frame_mask.tif"]),
        (["x0.png", "x1.tif"], ["masks/x0.png", "masks/x1.tif"]),
        (["train/x.png", "train/y.png"], ["train_masks/x.png", "train_masks/y.png"]),
        (["imagesTs/x.png"], ["labelsTs/x.png"]),
        (["scans/x.png", "scans/y.png"], ["labels/x.png"]),
        (["a/scans/x.png", "b/scans/x.png"], ["a/gt/x.png", "b/gt/x.png"]),
        (["c1/img1.png", "c2/img2.png"], [f"c{case}/masks/m{n}.png" for case in (1, 2) for n in (1, 2)]),
        (["01/t000.tif", "01/t001.tif"], ["01_GT/SEG/man_seg000.tif", "01_GT/TRA/man_track000.tif"]),
        (["sub-01/anat/sub-01_T1w.nii.gz"], ["derivatives/x/sub-01/anat/sub-01_dseg.nii.gz"]),
        ([f"sub-{n}/sub-{n}_T1w.nii" for n in (1, 2)], [f"x/sub-{n}/sub-{n}_label-lesion_mask.nii" for n in (1, 2)]),
        (["p1/imaging.nii.gz", "p2/imaging.nii.gz"], ["p1/segmentation.nii.gz", "p2/segmentation.nii.gz"]),
        (["p1.tif", "p1_flows.tif", "p2.tif"], ["masks/p1.tif"]),
    ],
)
def test_masks_are_not_predicted_whatever_images_are_called(tmp_path, images, masks):
    """Each hint has a way to the images, and one to take all files for images."""
    make(tmp_path, *images, *masks)
    assert len(predicted_by_hint(tmp_path)) == len(images)
    with pytest.raises(DatasetError) as caught:
        find_images([tmp_path])
    if "if all" in caught.value.hint:
        assert len(find_images([caught.value.hint.split("'")[3]])) == len(images) + len(masks)


def test_masks_that_no_glob_leaves_out_are_to_be_moved(tmp_path):
    """A glob of one of several images of each case would be a part of what is wanted."""
    make(tmp_path, *(f"B_{n}/B_{n}_{word}.nii.gz" for n in ("01", "02") for word in ("flair", "seg", "t1")))
    with pytest.raises(DatasetError) as caught:
        find_images([tmp_path])
    assert caught.value.hint == f"move the masks into a folder of their own; or if all are images, '{tmp_path / '*'}'"
    make(tmp_path, "B_00/B_00_flair.nii.gz")
    with pytest.raises(DatasetError, match="move the masks"):
        find_images([tmp_path])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("manual", "automatic"),
        ("ground", "sky"),
        ("MSK", "KUL"),
        ("center_MSK", "center_NKI"),
        ("plateGT", "plateWT"),
        ("mouse_gt", "mouse_wt"),
        ("focus_manual", "focus_auto"),
        ("under_ground", "under_sky"),
        ("with_mask", "none"),
        ("im ground", "im 1"),
        ("s1_label", "s1_macro"),
    ],
)
def test_words_that_mean_something_else_leave_images_images(tmp_path, first, second):
    """As folders, of names or numbers, and as files."""
    make(tmp_path / "a", f"{first}/a.tif", f"{second}/b.tif", f"{second}/c.tif")
    make(tmp_path / "b", f"{first}/1.tif", f"{first}/2.tif", f"{second}/3.tif")
    make(tmp_path / "c", f"{first}.tif", f"{second}.tif", "s1_thumb.tif")
    assert [len(find_images([tmp_path / folder])) for folder in "abc"] == [3, 3, 3]


def test_all_files_of_a_folder_can_be_wanted(tmp_path):
    """As kept probabilities are, whatever lies beside them."""
    make(tmp_path, "v0_seg.png", "v0_seg_probabilities.png", "v0.png", "images/a.png", "masks/a.png")
    assert len(find_images([tmp_path], role=None)) == 5


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("labels", ["labels/x.png", "labels/p1/y.png", "scans/x.png"]),
        (".", ["labels/x.png", "labels/p1/y.png"]),
        (".", ["a_masks/x.png", "b_masks/x.png"]),
        (".", ["x_mask.png", "y_mask.png", "y_seg.png"]),
        (".", ["x_label_free_1.png", "x_dapi.png"]),
        (".", ["x_gfp.png", "x_dapi.png", "p1/z_seg.png"]),
    ],
)
def test_images_called_masks_are_images_where_there_are_no_others(tmp_path, source, names):
    """What is named is what is wanted; a word within a name marks nothing."""
    make(tmp_path, *names)
    assert len(find_images([tmp_path / source])) == sum(name.startswith(source) or source == "." for name in names)


def test_masks_in_derivatives_belong_to_images_elsewhere(tmp_path):
    """As BIDS has it: they are trained with, and never predicted."""
    for n in (1, 2):
        make(tmp_path, f"sub-{n}/anat/sub-{n}_T1w.nii", f"derivatives/labels/sub-{n}/anat/sub-{n}_T1w_seg.nii")
    images = [f"sub-{n}/anat/sub-{n}_T1w" for n in (1, 2)]
    assert list(found(tmp_path)) == images
    assert {case.group for case in discover(tmp_path).cases} == {"sub-1", "sub-2"}
    assert predicted_by_hint(tmp_path) == images
    assert [name.split("/")[0] for name, _ in find_images([tmp_path], role="masks")] == ["derivatives"] * 2


def test_names_that_come_again_in_other_folders_are_images_all_the_same(tmp_path):
    """A mask has a word more than its image; a word alone is no name."""
    make(tmp_path, "day1/x.tif", "day2/x.tif", "p1/image.tif", "p2/seg.tif")
    assert len(find_images([tmp_path])) == 4
    assert "no masks were found" in refusal(tmp_path).problem


def test_images_with_masks_beside_them_are_not_predicted_with_their_masks(tmp_path):
    """A mask of a mask would be taken for a result; a glob says that all files are meant."""
    make(tmp_path, "a.tif", "a_mask.png", "b.tif", "b_mask.png")
    with pytest.raises(DatasetError, match=r"images and masks, such as 'a_mask\.png'\n.*; or if all"):
        find_images([tmp_path])
    assert predicted_by_hint(tmp_path) == ["a", "b"]
    assert [name for name, _ in find_images([str(tmp_path / "*")])] == ["a", "a_mask", "b", "b_mask"]
    assert [name for name, _ in find_images([tmp_path], role="masks")] == ["a_mask", "b_mask"]


def test_skipping_everything_is_not_an_empty_folder(tmp_path):
    """The option is named, and not the files that are all there."""
    make(tmp_path, "images/a.png", "masks/a.png")
    with pytest.raises(DatasetError, match=r"--skip \*a\* leaves out every image"):
        discover(tmp_path, options=DataOptions(skip=("*a*",)))


@pytest.mark.parametrize(("given", "wanted"), [("images/a.png", "."), ("b.png", ".")])
def test_an_image_in_place_of_a_dataset_is_answered_with_its_dataset(tmp_path, given, wanted):
    """The folder above images/, where masks/ is too."""
    make(tmp_path, "images/a.png", "masks/a.png", "b.png")
    with pytest.raises(DatasetError, match=rf"neither a folder nor a CSV.*\n.*such as '{tmp_path / wanted}'"):
        discover(tmp_path / given)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_name_that_is_no_text_is_refused_with_a_way_out(tmp_path):
    """As they come out of archives that were packed elsewhere; "ä" is one byte there."""
    make(tmp_path, "images/a.png", "masks/a.png")
    os.rename(tmp_path / "images" / "a.png", os.fsencode(tmp_path / "images") + b"/Pr\xe4parat.png")
    for attempt in (lambda: discover(tmp_path), lambda: find_images([tmp_path / "images"])):
        with pytest.raises(DatasetError, match=r"Pr.udce4parat\.png' has a name .* not UTF-8\n.*rename it"):
            attempt()


def test_what_the_system_cannot_open_is_one_error(tmp_path):
    """A link in a circle is walked once; a name too long for the disk is no traceback."""
    make(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "images" / "loop").symlink_to(tmp_path / "images", target_is_directory=True)
    assert list(found(tmp_path)) == ["a"]
    for attempt in (lambda: discover(Path("x" * 5000)), lambda: find_images(["x" * 5000])):
        with pytest.raises(DatasetError, match="cannot read 'xxx"):
            attempt()


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "count"),
    [("isbi2012_em", 24), ("drive", 20), ("dsb2018_stage1", 564), ("msd_hippocampus", 200), ("wbc_dataset1", 240)],
)
def test_real_datasets_are_found_whole(data_root, folder, count):
    """Every image with its mask, nothing left over."""
    dataset = discover(data_root / folder)
    assert len(dataset.cases) == count
    assert all(case.mask is not None and case.group is None and case.part is None for case in dataset.cases)
    assert not dataset.stray_masks


def test_a_name_with_an_end_of_line_is_one_field_of_a_table(tmp_path):
    """Quoted, as spreadsheets write it; and a name with a separator that only Unicode knows."""
    (tmp_path / "images").mkdir()
    for name in ("a\nb.png", "c\u2028d.png", "e\x1cf.png"):
        (tmp_path / "images" / name).touch()
        (tmp_path / "t.csv").write_text(f'image,mask\n"images/{name}","images/{name}"\n', encoding="utf-8", newline="")
        (case,) = read_table(tmp_path / "t.csv")
        assert case.images == (tmp_path / "images" / name,)


def test_names_of_cases_in_a_table_never_lead_upwards(tmp_path):
    """Files of two folders of one name are named by their path; ".." is no part of it."""
    (tmp_path / "table").mkdir()
    make(tmp_path, "p/a.png", "q/a.png")
    (tmp_path / "table" / "t.csv").write_text("image,mask\n../p/a.png,../q/a.png\n../q/a.png,../p/a.png\n")
    names = [case.name for case in read_table(tmp_path / "table" / "t.csv")]
    assert len(set(names)) == 2
    assert all(".." not in name.split("/") and not name.startswith("/") for name in names)


@pytest.mark.parametrize("field", ["x" * 5000, "a\x00b"])
def test_a_field_that_could_be_no_file_is_a_file_that_is_not_there(tmp_path, field):
    """The system refuses such names in its own ways."""
    (tmp_path / "t.csv").write_text(f"image,mask\n{field},\n")
    with pytest.raises(DatasetError, match=r"there is no file|is not a CSV table"):
        read_table(tmp_path / "t.csv")
