"""No group on both sides, every case once, whatever the order; and stacks are cut where they are stacks."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvea.datasets.case import Case
from uvea.datasets.discover import discover
from uvea.datasets.split import Split, folds, held_out, neighbour_pairs, split, split_from_file, splits_from_file
from uvea.errors import DatasetError


def case(name: str, *, group: str | None = None, part: str | None = None, mask: bool = True) -> Case:
    """A case of one file."""
    return Case(
        name=name, images=(Path(f"{name}.png"),), mask=Path(f"{name}_m.png") if mask else None, group=group, part=part
    )


def cases(*names: str) -> list[Case]:
    """Cases with masks and nothing else."""
    return [case(name) for name in names]


WORDS = ["a{}", "mouse{}_01", "mouse{}_02", "p_z{}", "q_z{}", "{}"]
SOME_CASES = st.lists(
    st.builds(
        lambda word, number, group, part, mask: case(word.format(number), group=group, part=part, mask=mask),
        st.sampled_from(WORDS),
        st.integers(0, 12),
        st.sampled_from([None, None, "g1", "g2", "g3"]),
        st.sampled_from([None, None, None, "train", "test"]),
        st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda one: one.name,
)


def usable(some: list[Case]) -> list[Case]:
    """Those that can be trained on or validated with."""
    return [one for one in some if one.mask and one.part != "test"]


@given(SOME_CASES, st.integers(0, 5), st.sampled_from([None, True, False]))
def test_a_split_holds_every_usable_case_once_and_no_group_twice(some, seed, consecutive):
    """Unless all of them are one group, which is then cut."""
    wanted = usable(some)
    if len(wanted) < 2:
        return
    result = split(some, seed=seed, consecutive=consecutive)
    assert sorted(result.train + result.val) == sorted(one.name for one in wanted)
    assert result.train
    assert result.val
    groups = {one.name: one.group for one in wanted}
    if set(groups.values()) != {groups[result.val[0]]}:
        shared = {groups[name] for name in result.train} & {groups[name] for name in result.val} - {None}
        fixed = {one.group for one in wanted if one.part == "train"}
        # Only the user's own train marks can force a group apart: when nothing else is left to draw from.
        assert not shared or shared <= fixed


@given(SOME_CASES, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_cases_does_not_matter(some, seed, random):
    """Listing order differs between file systems."""
    if not usable(some):
        return
    shuffled = random.sample(some, len(some))
    assert split(some, seed=seed) == split(shuffled, seed=seed)


@given(SOME_CASES, st.integers(2, 5), st.sampled_from([None, True]))
def test_folds_validate_every_case_once_and_no_group_in_two_folds(some, count, consecutive):
    """Train and validation of each fold are complements."""
    wanted = usable(some)
    try:
        made = folds(some, count, consecutive=consecutive)
    except DatasetError:
        return
    names = sorted(one.name for one in wanted)
    assert sorted(name for fold in made for name in fold.val) == names
    assert all(sorted(fold.train + fold.val) == names and fold.train and fold.val for fold in made)
    groups = {one.name: one.group for one in wanted}
    if len(set(groups.values())) > 1:
        for fold in made:
            assert not {groups[n] for n in fold.train} & {groups[n] for n in fold.val} - {None}


@pytest.mark.parametrize(
    ("content", "test"),
    [
        (None, {"c"}),
        ({"train": ["a"], "val": ["b"]}, {"c"}),
        ({"train": ["a"], "val": ["c"]}, set()),
        ({"train": ["a"], "val": ["b"], "test": ["d.png", "gone"]}, {"c", "d"}),
        ([{"train": ["a"], "val": ["b"], "test": ["d"]}, {"train": ["d"], "val": ["a"]}], {"c"}),
    ],
)
def test_what_is_held_out_is_known_without_opening_it(tmp_path, content, test):
    """From folders or a table, and from the split file, whose word on training and validation comes first."""
    some = [*cases("a", "b", "d"), Case(name="c", images=(Path("gone.png"),), part="test")]
    assert held_out(some, written(tmp_path, content) if content is not None else None) == test


def test_a_split_of_the_users_own_is_known_as_such(tmp_path):
    """From folders and from a file; what is drawn is ours."""
    some = [*cases("a", "b"), Case(name="c", images=(), mask=Path("c.png"), part="val")]
    assert split(some).by_user
    assert split_from_file(written(tmp_path, {"train": ["a"], "val": ["b"]}), some).by_user
    assert not split(cases("a", "b")).by_user
    assert not any(fold.by_user for fold in folds(some, 3))


def test_folds_of_single_images_differ_by_one_at_most():
    """Seventeen in five: 4, 4, 3, 3, 3."""
    made = folds(cases(*"abcdefghijklmnopq"), 5)
    assert sorted(len(fold.val) for fold in made) == [3, 3, 3, 4, 4]


def test_the_draw_is_the_same_on_every_machine():
    """Worked out once; it must not change between versions, or models could not be compared."""
    made = split(cases(*"abcdefghij"))
    assert made == Split(tuple("abcdeghi"), ("f", "j"), "2 of 10 cases drawn with seed 42")
    assert split(cases(*"abcdefghij"), seed=1).val != made.val


COPIES = st.lists(
    st.lists(st.sampled_from([word.format(n) for word in WORDS for n in range(13)]), max_size=3), max_size=5
)


@given(SOME_CASES, COPIES, st.integers(0, 5), st.sampled_from([None, True]))
def test_copies_lie_on_one_side(some, copies, seed, consecutive):
    """Whatever else groups the cases; only parts that the user fixed, or there being one group in all, part them."""
    wanted = usable(some)
    if len(wanted) < 2:
        return
    result = split(some, seed=seed, consecutive=consecutive, copies=copies)
    assert sorted(result.train + result.val) == sorted(one.name for one in wanted)
    assert result.train
    assert result.val
    if "in number order" in result.reason or any(one.part for one in some):
        return
    for alike in copies:
        names = set(alike) & {one.name for one in wanted}
        assert names <= set(result.val) or names <= set(result.train)


@given(SOME_CASES, COPIES, st.integers(2, 4))
def test_copies_lie_in_one_fold(some, copies, count):
    """Parts are pooled, so there is no exception but the single group."""
    try:
        made = folds(some, count, copies=copies)
    except DatasetError:
        return
    if "contiguous" in made[0].reason:
        return
    for fold in made:
        for alike in copies:
            assert not (set(alike) & set(fold.train) and set(alike) & set(fold.val))


def test_copies_join_groups_and_copies_of_copies():
    """By hand: a and b are copies, b is of the group of c, c a copy of d: the four are one, and two images remain."""
    some = [*cases("a", "d", "e", "f"), case("b", group="p"), case("c", group="p")]
    made = folds(some, 3, copies=[("a", "b"), ("c", "d"), ("x", "e")])
    assert sorted(fold.val for fold in made) == [("a", "b", "c", "d"), ("e",), ("f",)]
    assert made[0].reason.endswith("whole groups with their copies, seed 42")
    assert "in whole images with their copies: " in split(cases(*"abcdefghij"), copies=[("a", "b")]).reason


def test_a_unit_with_two_copies_in_it_counts_each_case_once():
    """Three of six cases fit into a half, so they are drawn with some seeds."""
    some = [*cases("a", "d", "e", "f"), case("b", group="p"), case("c", group="p")]
    made = [split(some, fraction=0.5, seed=seed, copies=[("a", "b", "c")]) for seed in range(20)]
    assert any(one.val == ("a", "b", "c") and one.reason.startswith("3 of 6") for one in made)


def test_a_copy_follows_the_part_that_the_user_fixed():
    """To either side; fixed cases themselves stay where they are."""
    some = [*cases(*"abcdefgh"), case("t", part="train"), case("v", part="val")]
    made = split(some, copies=[("a", "t"), ("b", "v")])
    assert made.val == ("b", "v")
    for seed in range(20):
        assert "a" in split([*cases(*"ab"), case("t", part="train")], seed=seed, copies=[("a", "t")]).train
    assert split([*cases("a"), *some[-2:]], copies=[("t", "v")]).val == ("v",)


def test_a_stack_is_cut_at_its_end_when_its_neighbours_look_alike():
    """Names alone cannot tell; the caller measured."""
    slices = cases(*(f"train_{n}" for n in range(10)))
    assert split(slices, consecutive=True).val == ("train_8", "train_9")
    assert split(slices, consecutive=True).reason == (
        "the last 2 of 10 cases in number order: they are slices of one stack"
    )
    assert split(slices).val != ("train_8", "train_9")
    assert [fold.val for fold in folds(slices, 5, consecutive=True)][1] == ("train_2", "train_3")


@pytest.mark.parametrize("name", ["z{}", "s1_z{}", "slice_{}", "scan-Slice{}", "layer {}", "s{}"])
def test_names_that_say_slice_are_a_stack_by_themselves(name):
    """In number order, not in text order: 9 and 10 are the last of 1 to 10."""
    slices = cases(*(name.format(n) for n in range(1, 11)))
    assert set(split(slices).val) == {name.format(9), name.format(10)}


@pytest.mark.parametrize("name", ["{:02d}", "hippocampus_{:03d}", "cells{}", "mouse_{}", "biopsy_{}"])
def test_other_numbered_names_are_single_images(name):
    """They are drawn one by one, so some neighbours are separated."""
    images = cases(*(name.format(n) for n in range(40)))
    assert split(images).reason == "8 of 40 cases drawn with seed 42"


def test_several_stacks_stay_whole():
    """Five stacks of four: one is held back, all of it."""
    made = split(cases(*(f"stack{s}_z{z:03d}" for s in "ABCDE" for z in range(4))))
    assert len(made.val) == 4
    assert len({name[:6] for name in made.val}) == 1
    assert made.reason == "4 of 20 cases drawn with seed 42, in whole stacks: 1 of 5"


def test_patient_like_prefixes_are_groups_and_class_names_are_not():
    """An id has a number in it, and there are at least three of them."""
    patients = split(cases(*(f"TCGA_{p}_{n}" for p in (4941, 4942, 4943, 4944, 4945) for n in range(1, 5))))
    assert len({name[:9] for name in patients.val}) == 1
    classes = split(cases(*(f"{kind}_{n:02d}" for kind in ("benign", "malignant", "normal") for n in range(20))))
    assert "whole" not in classes.reason
    magnifications = split(cases(*(f"{zoom}_{n:02d}" for zoom in ("20x", "40x") for n in range(20))))
    assert "whole" not in magnifications.reason


@pytest.mark.parametrize(
    ("name", "endings"),
    [
        ("Image_{:02d}{}", "LR"),
        ("{}_{}", ("left", "right")),
        ("patient{:03d}_{}", ("ED", "ES")),
        ("AB{}CD_{}_512", ("pre", "post", "late")),
        ("sub-{:02d}_ses-{}_T1w", (1, 2)),
        ("sub-{:02d}_z{}", range(4)),
        ("site/sub-c{}_z{}", range(4)),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_images_of_one_patient_lie_on_one_side(name, endings, seed):
    """Left and right, early and late, all visits, all slices."""
    patient = {name.format(number, ending): number for number in range(1, 9) for ending in endings}
    made = split(cases(*patient), seed=seed)
    assert {patient[one] for one in made.train}.isdisjoint(patient[one] for one in made.val)
    for fold in folds(cases(*patient), 4, seed=seed):
        assert {patient[one] for one in fold.train}.isdisjoint(patient[one] for one in fold.val)


@pytest.mark.parametrize(
    "names",
    [
        [f"img_{number}_{letter}" for number, letter in enumerate("abcdefgh")],
        [*(f"20x_{letter}" for letter in "abcdefgh"), "40x_a"],
        [f"{zoom}x_{letter}" for zoom in (10, 20) for letter in "abcd"],
        [f"grade{grade}_{letter}" for grade in (1, 2) for letter in "abcd"],
        [f"{zoom}x_{letter}" for zoom in (10, 20, 40) for letter in "abcde"][:12],
        [f"v2_{letter}" for letter in "abcdefgh"],
        [f"case_{number:03d}_512x512" for number in range(8)],
        [f"case_{number:03d}_t1" for number in range(8)],
        [f"s{number}_512x512" for number in range(8)],
        [f"S{number:02d}_T1" for number in range(8)],
        [f"T1_40x_{letter}" for letter in "abcdefgh"],
        [f"layer{layer}_mouse{mouse}" for layer in (1, 2) for mouse in range(1, 5)],
        [f"plane{plane}_crop{crop}" for plane in (1, 2, 3, 4) for crop in (1, 2)],
        [f"section{section}_tile{tile}" for section in (1, 2, 3, 4) for tile in (1, 2)],
    ],
    ids=lambda names: names[0],
)
def test_other_numbers_are_no_patients(names):
    """Every image is drawn by itself."""
    assert split(cases(*names)).reason == f"{round(len(names) / 5)} of {len(names)} cases drawn with seed 42"


def test_visits_of_a_patient_stay_together_with_all_their_endings():
    """The visit is the number that counts, also for an ending that only first visits have."""
    names = [f"p{patient}_1_{side}" for patient in range(12, 20) for side in ("left", "right")] + ["p13_2_left"]
    for seed in range(10):
        made = split(cases(*names), seed=seed)
        assert {name[:3] for name in made.train}.isdisjoint(name[:3] for name in made.val)


@pytest.mark.parametrize("consecutive", [False, True])
@pytest.mark.parametrize(
    "visits",
    [
        ("20190312", "20200618", "baseline"),
        ("20190312", "baseline"),
        ("2019-05-03", "2020-01-01", "baseline"),
        ("2019.05.03", "2020.01.01"),
        ("2019_05_03", "2019_12_31", "left_2019_05_03"),
        ("left_2019", "left_2020", "right_2019", "right_2020"),
        ("pre", "post", "02"),
        ("1", "2_late", "scan"),
    ],
)
def test_visits_with_dates_and_words_are_of_one_patient(visits, consecutive):
    """Also where the dates of a patient look alike, as slices do: no stack goes through all patients then."""
    names = [f"PAT{patient:03d}_{visit}" for patient in range(4) for visit in visits]
    for fold in folds(cases(*names), 4, consecutive=consecutive):
        assert {name[:6] for name in fold.train}.isdisjoint(name[:6] for name in fold.val)


def test_visits_with_words_and_numbers_are_of_one_patient():
    """Words alone tell the patient; a visit with a number in it follows."""
    visits = ("baseline", "week2", "week6", "month3", "month12", "final")
    names = [f"P{patient:03d}_{visit}" for patient in range(5) for visit in visits]
    assert sorted(fold.val[0][:4] for fold in folds(cases(*names), 5) if len(fold.val) == 6) == [
        f"P{patient:03d}" for patient in range(5)
    ]


def test_an_id_of_two_numbers_is_one_patient_with_all_visits():
    """Also where the second number is the last of one name and is followed by a date in others; sites may be joined."""
    ids = ("02-0001", "02-0002", "06-0001", "08-0100", "09-0003")
    names = [f"TCGA-{one}_{visit}" for one in ids for visit in ("1999.03.01", "2001.05.06", "pre")]
    for seed in range(10):
        made = split(cases(*names), seed=seed)
        assert {name[:12] for name in made.train}.isdisjoint(name[:12] for name in made.val)


def test_numbers_that_look_like_a_date_at_the_start_are_ids():
    """Patient 2001, visit 3, image 5: with nothing ahead of it, what looks like a year may be a patient."""
    names = [
        f"{word}{number}_03_{image:02d}" for word in ("", "p_") for number in range(2001, 2006) for image in (5, 6)
    ]
    made = folds(cases(*names), 5)
    assert all({name[:-6] for name in fold.train}.isdisjoint(name[:-6] for name in fold.val) for fold in made)


def test_a_study_ahead_of_names_is_no_patient():
    """Those who have their own names are."""
    names = [f"study1_{who}_{number:02d}" for who in ("anna", "bert", "carl", "dora") for number in (1, 2, 3)]
    assert all(len({name[7:11] for name in fold.val}) == 1 for fold in folds(cases(*names), 4))


@pytest.mark.parametrize(
    ("ahead", "words", "groups"),
    [
        (("exp1", "exp2", "exp3"), ("ctrl", "drug"), 6),
        (("study1", "study2", "study3"), ("anna", "bert", "carl", "dora"), 12),
        (("10x", "20x", "40x"), "abcd", 12),
        (("U2OS", "HEK293", "MCF7", "A549"), ("ctrl", "drug"), 8),
        (("day1", "day2", "day3", "day4"), ("wt", "ko", "left"), 12),
        (("exp1", "exp2", "exp3"), ("ctrl_2019-05-01", "drug_2019-05-02", "drug_2019-05-03"), 6),
        (("p1", "p2", "p3"), ("left", "right", "baseline", "week2", "visit_3", "follow-up"), 3),
        (("p1a", "p2a", "p3a", "p3b"), ("OD", "OS"), 4),
    ],
)
def test_words_behind_an_id_are_of_one_patient_only_if_all_are_sides_or_visits(ahead, words, groups):
    """Others are those of a specimen; three images each."""
    found = cases(*(f"{one}_{word}_{number:02d}" for one in ahead for word in words for number in (1, 2, 3)))
    assert split(found).reason.endswith(f" of {groups}")


@pytest.mark.parametrize(
    "visits",
    [
        [f"{visit}_{image}" for visit in ("2019-01-01", "2019-02-01") for image in (1, 2, 3)],
        [f"{visit}_{image}" for visit in ("20190101", "20190201") for image in (1, 2, 3)],
        [f"{visit}_{image}" for visit in ("left_2019-01-01", "2019-01-01_right") for image in (1, 2, 3)],
        ["2019-05-01T10-31", "2019-06-01T10-32"],
        ["20190501T1031", "20190601T103200_2"],
    ],
    ids=lambda visits: visits[0],
)
def test_images_of_a_dated_visit_are_of_its_patient(visits):
    """Several of a visit, and one with the time behind the date: six patients."""
    names = [f"p{patient}_{visit}" for patient in range(1, 7) for visit in visits]
    assert split(cases(*names)).reason.endswith(", in whole groups of one name: 1 of 6")


def test_images_of_one_day_are_together_where_there_are_no_patients():
    """One set of four days."""
    found = cases(*(f"set1_2019-05-{day:02d}_{image:02d}" for day in (3, 4, 5, 6) for image in (1, 2, 3, 4)))
    assert split(found).reason.endswith(", in whole groups of one name: 1 of 4")


def test_a_slice_is_known_by_its_number_wherever_that_is():
    """A channel or a size behind it is no slice; and all channels and tiles of a stack are one unit."""
    one = cases(*(f"vol1_slice_{number:03d}_512x512" for number in range(10)))
    assert split(one).val == ("vol1_slice_008_512x512", "vol1_slice_009_512x512")
    three = cases(*(f"Series{s:03d}_z{z:03d}_ch00" for s in (1, 2, 3) for z in range(4)))
    assert split(three).reason == "4 of 12 cases drawn with seed 42, in whole stacks: 1 of 3"
    tiled = cases(*(f"v{v}_z{z}_x{x}_{dye}" for v in range(4) for z in range(3) for x in range(2) for dye in "ab"))
    assert sorted({len(fold.val) for fold in folds(tiled, 4)}) == [12]
    assert all(len({name[:2] for name in fold.val}) == 1 for fold in folds(tiled, 4))


def test_cells_of_frames_are_no_stack():
    """Each frame has its own; those of one frame stay together."""
    found = cases(*(f"frame_{frame}_cell_{cell}" for frame in range(1, 6) for cell in range(1, 4)))
    assert split(found).reason == "3 of 15 cases drawn with seed 42, in whole groups of one name: 1 of 5"


def test_fixed_parts_stay_and_groups_follow_them():
    """A case without a part joins the validation of its patient, not the training."""
    given_parts = [
        case("a", part="train"),
        case("b", part="val", group="p"),
        case("c", group="p"),
        case("d"),
        case("e", part="test"),
        case("f", mask=False),
    ]
    made = split(given_parts)
    assert (made.train, made.val) == (("a", "d"), ("b", "c"))
    assert made.reason == "2 of 4 cases, as the data's folders or table say"


def test_nothing_is_drawn_from_a_patient_who_is_partly_fixed_to_train():
    """Nine free images of patient p, one fixed: only the other patient can validate."""
    some = [case("t", part="train", group="p"), *(case(f"u{n}x", group="p") for n in range(9)), case("v", group="q")]
    assert split(some).val == ("v",)


def test_without_a_validation_folder_some_of_train_is_held_back():
    """test/ is never touched."""
    made = split([*(case(f"t{i}x", part="train") for i in range(5)), case("u", part="test")])
    assert (len(made.train), len(made.val)) == (4, 1)


def test_a_single_image_trains_and_says_what_its_score_is_worth():
    """And so does a single group, by its last images."""
    assert split(cases("a")) == Split(
        ("a",), ("a",), "'a' is the only case, so it also validates: the score is too good"
    )
    group = split([case(name, group="p") for name in "abcde"])
    assert group.val == ("e",)
    assert "all are of one group, so the score is too good" in group.reason


def test_what_cannot_be_split_is_refused():
    """With the numbers in it."""
    with pytest.raises(DatasetError, match="none of 1 cases has a mask"):
        split([case("a", mask=False)])
    with pytest.raises(DatasetError, match="all 1 cases with masks are for validation"):
        split([case("a", part="val"), case("b", part="test")])
    with pytest.raises(DatasetError, match="fraction of 1 "):
        split(cases("a", "b"), fraction=1.0)
    with pytest.raises(DatasetError, match=r"5 folds cannot be made of 2 groups\n.*--folds 2 to 2"):
        folds([case(f"{g}{n}", group=g) for g in "pq" for n in range(4)], 5)
    with pytest.raises(DatasetError, match="1 folds"):
        folds(cases("a", "b"), 1)


def test_neighbours_are_those_of_one_series_by_its_smallest_step():
    """Gaps and other series are no neighbours."""
    some = cases("z10", "z2", "z4", "z6", "y_1", "y_2", "p/y_3", "one")
    assert neighbour_pairs(some) == [("y_1", "y_2"), ("z2", "z4"), ("z4", "z6")]
    assert neighbour_pairs(cases("a_1_64x64", "a_2_64x64")) == [("a_1_64x64", "a_2_64x64")]


def written(tmp_path: Path, content: object, suffix: str = ".json") -> Path:
    """A split file."""
    path = tmp_path / f"split{suffix}"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_split_file_is_followed(tmp_path):
    """JSON or CSV, with or without suffixes; a list of splits is one per fold."""
    some = cases("a", "b", "p/c", "d")
    want = Split(("a", "b"), ("p/c",), "read from split.json; 1 cases with masks are in neither part", True)
    assert split_from_file(written(tmp_path, {"train": ["b.png", "a"], "val": ["p/c.nii.gz"]}), some) == want
    made = split_from_file(written(tmp_path, "name,split\na,train\nb,train\np/c,val\nd,\n", ".csv"), some)
    assert (made.train, made.val) == (want.train, want.val)
    two = written(tmp_path, [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "validation": ["a"]}])
    assert [fold.val for fold in splits_from_file(two, some)] == [("b",), ("a",)]
    with pytest.raises(DatasetError, match="holds 2 splits"):
        split_from_file(two, some)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": ["a", "x"], "val": ["b"]}, "not in the data: 'x'"),
        ({"train": ["a", "b"], "val": ["b"]}, "twice: 'b'"),
        ({"train": ["a", "a.png"], "val": ["b"]}, "twice: 'a'"),
        ({"train": [], "val": ["b"]}, "no cases in train"),
        ({"train": ["a"]}, "no cases in val"),
        ({"train": ["a"], "val": ["m"]}, "without a mask: 'm'"),
        ({"train": ["a"], "val": ["b"], "extra": []}, "does not know: 'extra'"),
        ({"train": "a", "val": ["b"]}, "'train' in .* is not a list of names"),
        ([1], "holds 1 in place of a split"),
        ([], "empty list"),
        ("{", "is not JSON"),
        ([{"train": ["a"], "val": ["b"]}, {"train": ["a"], "val": ["y"]}], "split 2 of .*not in the data: 'y'"),
    ],
)
def test_a_fault_in_a_split_file_is_named(tmp_path, content, words):
    """By name, so that it can be searched for."""
    with pytest.raises(DatasetError, match=words):
        splits_from_file(written(tmp_path, content), [*cases("a", "b"), case("m", mask=False)])


def test_a_split_table_refuses_other_columns(tmp_path):
    """A missing file and a wrong part, too."""
    with pytest.raises(DatasetError, match="does not know: 'fold'"):
        split_from_file(written(tmp_path, "name,fold\na,1", ".csv"), cases("a"))
    with pytest.raises(DatasetError, match=r"row 2 of .* split 'learn'"):
        split_from_file(written(tmp_path, "name,split\na,learn", ".csv"), cases("a"))
    with pytest.raises(DatasetError, match="no split file"):
        split_from_file(tmp_path / "none.json", cases("a"))


@pytest.mark.data
def test_the_slices_of_the_real_stack_are_held_back_as_a_block(data_root):
    """Five of 24 sections, the last; and every section has its neighbour to be measured against."""
    found = discover(data_root / "isbi2012_em").cases
    assert split(found, consecutive=True).val == tuple(f"train_{n}" for n in range(19, 24))
    assert len(neighbour_pairs(found)) == 23
