"""Names of outputs: none leaves its folder, none is written over another, on any system."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvea.datasets.names import (
    LONGEST_NAME,
    MASK_WORDS,
    announced,
    before_word,
    check_output_names,
    numbered,
    readings,
    subject_of,
)
from uvea.durable import part_of
from uvea.errors import DatasetError, OutputError, harmless


@pytest.mark.parametrize(
    ("names", "series", "stack"),
    [
        (["a_1", "a_2"], ("a_", ""), False),
        (["p/a_z1", "p/a_z2"], ("p/a_z", ""), True),
        (["S1_z1_ch0", "S1_z2_ch0"], ("S1_z", "_ch0"), True),
        (["S1_z1_ch0", "S1_z1_ch1", "S1_z2_ch0"], ("S1_z", "_ch0"), True),
        (["v_slice-1_512x512", "v_slice-2_512x256"], ("v_slice-", "_512x512"), True),
        (["a_1_512x512", "a_2_512x512"], ("a_", "_512x512"), False),
        (["a_1_64_L", "a_2_64_L", "a_1_64_R", "a_2_64_R"], ("a_", "_64_L"), False),
        (["s1_img_1", "s1_img_2", "s2_img_1"], ("s1_img_", ""), False),
        (["s1", "s2"], ("s", ""), True),
        (["s1_512x512", "s2_512x512"], ("s", "_512x512"), False),
        (["S01_T1", "S02_T1"], ("S", "_T1"), False),
        (["T1_40x", "T2_40x"], ("T", "_40x"), False),
        (["T1_a", "T1_b"], ("T", "_a"), False),
        (["s1_z1", "s2_z1", "s1_z2"], ("s1_z", ""), True),
        (["z1_t1", "z1_t2", "z2_t1", "z2_t2"], ("z", "_t1"), True),
        (["z1_cell1", "z1_cell2", "z2_cell3", "z2_cell4"], ("z1_cell", ""), False),
        (["layer1_mouse1", "layer1_mouse2", "layer2_mouse1", "layer2_mouse2"], ("layer1_mouse", ""), False),
        (["v2_a", "v2_b"], ("v", "_a"), False),
        (["a_1_2"], ("a_1_", ""), False),
    ],
)
def test_the_number_that_counts_is_the_slice_or_the_last_that_changes(names, series, stack):
    """Of the first name: a size or the only channel is no number of a series."""
    found = numbered(names)[names[0]]
    assert (found.series, found.stack) == (series, stack)


def test_names_without_a_number_have_no_series():
    """Those of folders do not count."""
    assert numbered(["a", "p1/b"]) == {}


@pytest.mark.parametrize(
    ("folder", "role"),
    [("gt", "masks"), ("labelsTs", "masks"), ("train_images", "images"), ("Manual", None), ("masks_2", None)],
)
def test_a_folder_announces_masks_by_words_that_mean_little_else(folder, role):
    """A dataset is trained with by others, too, beside images/; this says what is no image."""
    assert announced(folder) == role


def test_words_of_bids_are_words_for_masks():
    """As "seg" and "mask" are."""
    for word in ("dseg", "probseg"):
        assert [reading.core for reading in readings(f"sub-01_T1w_{word}", MASK_WORDS)] == ["sub-01_T1w"]
        assert before_word(f"sub-01_{word}", MASK_WORDS) == "sub-01"
        assert before_word(f"{word}_sub-01", MASK_WORDS) is None


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("sub-01_ses-1_T1w", "sub-01"),
        ("site/sub-control2_T1w", "sub-control2"),
        ("sub-01/scan", "sub-01"),
        ("sub-image_01", None),
        ("mysub-01_a", None),
        ("sub-01-a", None),
    ],
)
def test_subjects_are_known_by_the_rules_of_bids(name, subject):
    """A label without a number is a word."""
    assert subject_of(name) == subject


def test_ordinary_names_are_left_alone():
    """Folders, blanks, umlauts, dots and numbers."""
    check_output_names(
        ["a.png", "patient 1/scan.v2.nii.gz", "Größe 5 µm.tif", "b/a.png", "-1.png", "console.png", "日本.png"]
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../a.png", "leaves the folder"),
        ("a/../../b.png", "leaves the folder"),
        ("/etc/a.png", "leaves the folder"),
        ("a//b.png", "leaves the folder"),
        ("./a.png", "leaves the folder"),
        ("C:a.png", "has a :"),
        ("..\\a.png", r"has a \\"),
        ("a.png:stream", "has a :"),
        ("CON.png", "name of a device"),
        ("nul", "name of a device"),
        ("sub/aux.tif/a.png", "name of a device"),
        ("LPT¹.nii.gz", "name of a device"),
        ("con .png", "name of a device"),
        ("a.", "ends in a dot or a blank"),
        ("folder /a.png", "ends in a dot or a blank"),
        ("a\x1b[2J.png", "cannot be shown"),
        ("a\nb.png", "cannot be shown"),
        ("a\rb.png", "cannot be shown"),
        ("a\x00.png", "cannot be shown"),
        ("gnp.\u202ea.exe", "cannot be shown"),
        ("a\ud800.png", "cannot be shown"),
        ("x" * 300 + ".png", "more than 240 bytes"),
        ("ä" * 121 + ".png", "more than 240 bytes"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name, problem):
    """One line with the name, written out harmlessly, and a way out."""
    with pytest.raises(OutputError, match=rf"the output '.*' .*{problem}.*\n.*rename the image") as caught:
        check_output_names(["good.png", name])
    assert harmless(caught.value.problem) == caught.value.problem


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.png", "A.png"),
        ("Straße.png", "STRASSE.PNG"),
        ("sub/a.png", "Sub/a.png"),
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
        (unicodedata.normalize("NFC", "É.png"), unicodedata.normalize("NFD", "é.png")),
    ],
)
def test_names_that_some_systems_take_for_one_are_refused(first, second):
    """A disk of macOS or Windows would keep the last of them only."""
    with pytest.raises(OutputError, match=r"differ in case or Unicode form only\n.*different folders"):
        check_output_names([first, "other.png", second])


def test_a_name_that_is_a_folder_of_another_is_refused():
    """One of them could not be written."""
    with pytest.raises(OutputError, match=r"'a\.png' is a folder in 'A\.png/b\.png'"):
        check_output_names(["a.png", "A.png/b.png"])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(codec=None), max_size=12), min_size=1, max_size=4))
def test_what_is_let_through_stays_in_its_folder(tmp_path_factory, names):
    """Whatever the letters: joined to a folder, the path lies below it, and can be shown."""
    import os

    try:
        check_output_names(names)
    except OutputError:
        return
    for name in names:
        path = os.path.normpath(os.path.join("/out", name))
        assert path.startswith("/out/") and path != "/out/"
        assert name.isprintable() or any(unicodedata.category(letter) == "Zs" for letter in name)
    assert len({name.casefold() for name in names}) == len(set(names))


def test_the_longest_name_leaves_room_for_what_is_added_while_writing():
    """File systems end at 255 bytes."""
    assert len(part_of(Path("x" * LONGEST_NAME)).name) < 255


def test_messages_show_names_harmlessly():
    """In the one place that all errors go through."""
    error = DatasetError("no mask for 'a\x1b[31m\n\x9b2J\u202e'", hint="rename 'a\x07'")
    assert error.problem == r"no mask for 'a\x1b[31m\n\x9b2J\u202e'"
    assert error.hint == r"rename 'a\x07'"
    assert str(error).count("\n") == 1
    assert harmless("Größe 5 µm\u00a0日本 e\u0301 🔬") == "Größe 5 µm\u00a0日本 e\u0301 🔬"
    assert harmless("a\nb", keep="\n") == "a\nb"


def test_a_message_from_a_file_is_not_endless():
    """A header may hold a word of a megabyte."""
    assert len(DatasetError("x" * 10**6, hint="y").problem) == 2000
