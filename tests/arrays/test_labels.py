"""Mask values become classes, classes become the same mask values again, and odd masks are refused."""

import numpy as np
import pytest
from pydantic import ValidationError

from uvea.arrays.labels import IGNORE, LabelMap, classes_of, colour_codes, colour_of, decide_labels, made_whole
from uvea.errors import DatasetError, ShapeError

MAPS = [
    LabelMap(kind="values", values=(0, 255)),
    LabelMap(kind="values", values=(0, 128, 255)),
    LabelMap(kind="values", values=(0, 1, 2), ignore=255),
    LabelMap(kind="values", values=(0, 7, 70000)),
    LabelMap(kind="values", values=(0, -3, 4)),
    LabelMap(kind="values", values=(0, 0.5)),
    LabelMap(kind="colours", colours=((0, 0, 0), (255, 0, 0), (0, 200, 9)), ignore=255),
    LabelMap(kind="instances"),
    LabelMap(kind="instances", values=(0, 1), ignore=255),
    LabelMap(kind="values", values=(0, 2**63)),
    LabelMap(kind="values", values=(2**64 - 9, 2**64 - 1)),
    LabelMap(kind="values", values=(-(2**63), 2**63 - 1)),
]


@pytest.mark.parametrize("labels", MAPS, ids=lambda m: f"{m.kind} {m.values or m.colours} {m.ignore}")
@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5)])
def test_classes_survive_the_trip_to_mask_values_and_back(labels, shape, rng):
    """Encode undoes decode, for every kind of map, with ignored pixels where there are any."""
    classes = rng.integers(0 if labels.ignore is None else IGNORE, labels.classes, shape)
    mask = labels.decode(classes)
    assert mask.shape == ((3,) if labels.kind == "colours" else (1,)) + shape
    np.testing.assert_array_equal(labels.encode(mask), classes)
    assert labels.encode(mask).dtype == np.int16


@pytest.mark.parametrize("labels", MAPS, ids=lambda m: f"{m.kind} {m.values or m.colours} {m.ignore}")
def test_a_map_reads_back_equal_from_json(labels):
    """The plan file loses nothing, and 255 stays a whole number."""
    assert LabelMap.model_validate_json(labels.model_dump_json()) == labels


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 255), "uint8"),
        ((0, 256), "uint16"),
        ((-1, 3), "int8"),
        ((0, 70000), "uint32"),
        ((0, 0.5), "float32"),
        ((0, 2**40), "int64"),
    ],
)
def test_masks_come_back_in_the_smallest_type_that_fits(values, dtype):
    """Nobody gets eight bytes per pixel for a mask of zeros and ones."""
    assert LabelMap(kind="values", values=values).decode(np.array([[0, 1]])).dtype == dtype


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "uint64", "float64"])
def test_every_type_of_mask_is_read(dtype):
    """The value counts, not how it was stored."""
    mask = np.array([[[0, 1], [1, 0]]]).astype(dtype)
    np.testing.assert_array_equal(LabelMap(kind="values", values=(0, 1)).encode(mask), [[0, 1], [1, 0]])


def test_ignoring_the_only_other_value_is_told_as_that():
    """Not the masks are at fault, but the option."""
    with pytest.raises(DatasetError, match=r"only the value 0 beside the ignored 255\n.*--ignore-value"):
        decide_labels([{0: 9, 255: 3}], ignore=255)


def test_values_far_apart_need_no_huge_table():
    """Values that span more than memory are searched, not tabulated."""
    mask = np.array([[0, 5, 2**50]])
    np.testing.assert_array_equal(LabelMap(kind="values", values=(0, 5, 2**50)).encode(mask), [0, 1, 2])


@pytest.mark.parametrize(
    "labels",
    [
        {"values": (0, 2**64)},
        {"values": (-1, 2**63)},
        {"values": (0, 1e300)},
        {"values": (0, float("nan"))},
        {"values": (0, 1), "ignore": 10**400},
        {"kind": "colours", "colours": ((0, 0, 0), (0, 65536, 0))},
    ],
)
def test_values_that_no_mask_can_have_are_refused(labels):
    """They would fail as numbers too large, long after the file that has them."""
    with pytest.raises(DatasetError, match="masks cannot have values from"):
        LabelMap(**{"kind": "values", **labels})


def test_unknown_values_are_named_with_the_file():
    """The message has the file, the values and the ones that would do."""
    with pytest.raises(DatasetError, match=r"a\.png has values that belong to no class: 7, 9\n.*0, 128, 255"):
        MAPS[1].encode(np.array([[0, 7, 9, 128]]), where="a.png")
    with pytest.raises(DatasetError, match=r"no class: \(1, 2, 3\)"):
        MAPS[6].encode(np.array([1, 2, 3]).reshape(3, 1))
    with pytest.raises(DatasetError, match="nan"):
        MAPS[0].encode(np.array([[0, np.nan]]))


def test_colour_masks_are_refused_by_gray_classes_unless_gray():
    """Equal channels are a gray mask that a drawing program saved as RGB."""
    gray = np.broadcast_to(np.array([0, 255]), (3, 2))
    np.testing.assert_array_equal(MAPS[0].encode(gray), [0, 1])
    with pytest.raises(DatasetError, match="colour mask"):
        MAPS[0].encode(np.array([[255], [0], [0]]))
    with pytest.raises(ShapeError, match="2 channels"):
        MAPS[0].encode(np.zeros((2, 4)))


def test_labels_that_are_no_class_are_refused():
    """A wrong label must not wrap around to another class."""
    with pytest.raises(ShapeError, match="from 0 to 2 do not fit 2 classes"):
        MAPS[0].decode(np.array([0, 2]))
    with pytest.raises(ShapeError, match="from -1"):
        MAPS[0].decode(np.array([-1, 1]))


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "values", "values": ()},
        {"kind": "values", "values": (0, 0)},
        {"kind": "colours", "values": (0, 1)},
        {"kind": "values", "values": (0, 1), "names": ("a",)},
        {"kind": "values", "values": (0, 1), "names": ("a", "a")},
        {"kind": "values", "values": (0, 1), "ignore": 1},
        {"kind": "instances", "values": (0, 1, 2)},
        {"kind": "values", "values": (0, 1), "palette": ()},
    ],
)
def test_maps_that_contradict_themselves_are_refused(fields):
    """A plan edited by hand fails when it is read, not in the middle of a training."""
    with pytest.raises(ValidationError):
        LabelMap(**fields)


def test_names_are_filled_in():
    """Two classes are background and foreground, more are numbered."""
    assert MAPS[0].names == MAPS[7].names == ("background", "foreground")
    assert MAPS[1].names == ("background", "class 1", "class 2")
    assert MAPS[6].names == ("background", "class 1", "class 2")


def test_colour_codes_go_back_to_colours():
    """One number per pixel, up to 16 bits per channel."""
    mask = np.array([[0, 1, 65535], [0, 2, 0], [255, 3, 65535]], dtype=np.uint16)
    assert [colour_of(code) for code in colour_codes(mask).tolist()] == [(0, 0, 255), (1, 2, 3), (65535, 0, 65535)]


@pytest.mark.parametrize(
    ("cases", "values"),
    [
        ([{0: 9, 255: 1}], (0, 255)),
        ([{0: 9, 128: 4}, {0: 3, 255: 9}], (0, 128, 255)),
        ([{1: 9, 2: 1}], (1, 2)),
        ([{-1: 9, 0: 5, 1: 1}], (0, -1, 1)),
        ([{0.0: 9, 1.0: 1}], (0, 1)),
    ],
)
def test_classes_are_the_values_in_order_with_zero_first(cases, values):
    """Whatever the values are, and whichever mask they are in."""
    assert decide_labels(cases) == LabelMap(kind="values", values=values)


def test_colours_become_classes_with_black_or_the_commonest_first():
    """A mask that is all black among coloured ones is a colour mask too."""
    red, green = (255, 0, 0), (0, 255, 0)
    assert decide_labels([{(0, 0, 0): 5, red: 90}, {0: 50, green: 1}]).colours == ((0, 0, 0), green, red)
    assert decide_labels([{red: 5, green: 90}]).colours == (green, red)


def test_the_ignored_value_is_no_class():
    """It is taken out before anything else is decided."""
    labels = decide_labels([{0: 5, 1: 5, 255: 5}], ignore=255)
    assert (labels.values, labels.ignore) == ((0, 1), 255)
    assert decide_labels([{(0, 0, 0): 5, (9, 0, 0): 5, (255, 255, 255): 5}], ignore=255).classes == 2


def numbered(*counts, start=1):
    """Masks with this many objects of 30 pixels, one piece each."""
    cases = [{0: 1000, **{start + i: 30 for i in range(n)}} for n in counts]
    return cases, [dict.fromkeys(case, 1) for case in cases]


@pytest.mark.parametrize(
    "counts",
    [(5, 9, 40), (6, 9, 12), (5, 6, 7, 5, 6, 7), (3, 7, 0, 12, 5), (27, 30), (80,)],
    ids=["few masks", "few objects", "in pairs", "an empty mask", "two masks", "one mask"],
)
def test_object_numbers_are_recognised(counts):
    """Consecutive numbers, one piece each, as many as there are objects."""
    cases, pieces = numbered(*counts)
    assert decide_labels(cases, pieces=pieces) == LabelMap(kind="instances")


def test_object_numbers_that_run_on_are_recognised():
    """Crops of one large mask share hardly any number."""
    cases = [numbered(6, start=1 + 6 * k)[0][0] for k in range(5)]
    assert decide_labels(cases, pieces=[dict.fromkeys(case, 1) for case in cases]).kind == "instances"


def test_organs_are_classes():
    """The same values in every mask, or with holes, are classes however many there are and however compact."""
    cases, pieces = numbered(13, 13, 13, 12)
    assert decide_labels(cases, pieces=pieces).classes == 14
    cases, pieces = numbered(30, 30)
    assert decide_labels(cases, pieces=pieces).classes == 31
    holes = [{0: 900} | {v: 50 for v in range(1, 8) if v % k} for k in (2, 3, 4, 5)]
    assert decide_labels(holes, pieces=[dict.fromkeys(case, 1) for case in holes]).kind == "values"


def test_layers_are_classes_although_the_last_are_missing_in_some_masks():
    """Five, four or three layers of a piece each, in twelve masks; as many objects would have more numbers."""
    cases, pieces = numbered(*[5, 4, 3] * 4)
    assert decide_labels(cases, pieces=pieces).classes == 6
    cases, pieces = numbered(*[5, 4, 3] * 4, 9)
    assert decide_labels(cases, pieces=pieces).kind == "instances"


def test_values_in_many_pieces_are_classes():
    """Objects are in one piece; tissue types are all over the place."""
    cases, _ = numbered(5, 9, 7)
    assert decide_labels(cases, pieces=[dict.fromkeys(case, 6) for case in cases]).classes == 10


def test_few_values_are_classes_unless_the_user_says_objects():
    """One to three objects look just like one to three classes."""
    cases, pieces = numbered(1, 2, 3)
    assert decide_labels(cases, pieces=pieces).kind == "values"
    assert decide_labels(cases, pieces=pieces, instances=True).kind == "instances"
    assert decide_labels(*numbered(5, 9, 40)[:1], pieces=numbered(5, 9, 40)[1], instances=False).kind == "values"


def test_an_ignored_255_leaves_objects_another_value():
    """Objects are written as 255 unless that means not annotated."""
    cases, pieces = numbered(5, 9, 40)
    assert decide_labels(cases, pieces=pieces, ignore=255).values == (0, 1)
    with pytest.raises(DatasetError, match="0 is the background"):
        decide_labels(cases, pieces=pieces, ignore=0, instances=True)


def test_compressed_and_smoothed_masks_are_refused():
    """Values that exist only on rims are not classes, and training on them would look fine and be wrong."""
    rims = {0: 9000, 255: 900} | {v: 4 for v in range(10, 250, 40)}
    with pytest.raises(DatasetError, match=r"8 values, 6 of them only in specks.*\n.*PNG"):
        decide_labels([rims], pieces=[{0: 1, 255: 2} | {v: 3 for v in range(10, 250, 40)}])
    with pytest.raises(DatasetError, match="compressed"):
        decide_labels([{0: 900, 1: 40, 254: 800, 255: 100}], lossy=True)
    assert decide_labels([{0: 900, 255: 100}], lossy=True).classes == 2


def test_masks_drawn_over_an_image_are_told_as_such_and_nobody_is_asked_to_name_their_values():
    """Colours cannot be named by value, and nobody wants to name more than twenty grays."""
    grays = {0: 90000} | dict.fromkeys(range(100, 150), 4)
    colours = {(gray, 0, 0): pixels for gray, pixels in grays.items()}
    for case in (grays, colours, {**colours, (255, 255, 255): 9}):
        with pytest.raises(DatasetError, match=r"drawn over the image\n.*without the image") as found:
            decide_labels([case], pieces=[dict.fromkeys(case, 3)])
        assert "--labels" not in found.value.hint


def test_small_classes_are_not_taken_for_rims():
    """Three rare classes in pieces of twenty pixels are real."""
    case = {0: 9000, 1: 20, 2: 40, 3: 60}
    assert decide_labels([case], pieces=[{0: 1, 1: 1, 2: 2, 3: 3}]).classes == 4


def test_dots_are_no_rims_where_their_values_count_from_zero():
    """Rims of compression lie between 0 and 255, not at 1, 2, 3; but in a JPEG, or among twenty, these may be rims."""

    def dots(*values, **options):
        case = {0: 26000} | dict.fromkeys(values, 30)
        return decide_labels([case], pieces=[dict.fromkeys(values, 10)], **options)

    assert dots(1, 2, 3).values == (0, 1, 2, 3)
    for values, options in (((2, 3, 4), {}), ((1, 2, 3), {"lossy": True}), (range(1, 20), {"instances": False})):
        with pytest.raises(DatasetError, match=r"specks.*\n.*name every value with --labels"):
            dots(*values, **options)


def test_dots_are_classes_where_the_user_names_their_values():
    """All of them: a name for some values only does not say what the others are."""
    case, pieces = {0: 26000, 10: 30, 20: 30, 30: 30}, {10: 10, 20: 10, 30: 10}
    names = {0: "ground", 10: "a", 20: "b", 30: "c"}
    assert decide_labels([case], pieces=[pieces], names=names).names == ("ground", "a", "b", "c")
    with pytest.raises(DatasetError, match="specks"):
        decide_labels([case], pieces=[pieces], names={0: "ground", 10: "a"})
    with pytest.raises(DatasetError, match="specks"):
        decide_labels([case], pieces=[pieces], names=("ground", "a", "b", "c"))


@pytest.mark.parametrize(
    ("case", "problem"),
    [({0: 9}, "only the value 0"), ({}, "no values"), ({0: 1, 0.5: 1}, "not whole numbers: 0.5")],
)
def test_masks_that_cannot_be_trained_on_are_refused(case, problem):
    """One value says nothing, and halves are no classes."""
    with pytest.raises(DatasetError, match=problem):
        decide_labels([case])


def test_names_from_the_user_must_fit():
    """The message has both numbers."""
    assert decide_labels([{0: 5, 9: 5}], names=("tissue", "vessel")).names == ("tissue", "vessel")
    with pytest.raises(DatasetError, match=r"1 label names for 2 classes \(0, 9\): vessel"):
        decide_labels([{0: 5, 9: 5}], names=("vessel",))
    with pytest.raises(DatasetError, match="share a label name"):
        decide_labels([{0: 5, 9: 5}], names=("a", "a"))


def test_names_by_value_do_not_change_the_order_of_the_classes():
    """0 is first and the ignored value no class, in whatever order the values are named."""
    labels = decide_labels([{128: 5, 0: 9, 255: 3, 7: 1}], ignore=7, names={255: "cell", 0: "ground", 128: "rim"})
    assert labels == LabelMap(kind="values", values=(0, 128, 255), names=("ground", "rim", "cell"), ignore=7)


@pytest.mark.parametrize(
    ("case", "names", "instances", "said"),
    [
        ({0: 5, 9: 5}, {0: "a", 1: "b"}, None, "0, 1, but the masks have 0, 9 beside the ignored 7\n.*all values"),
        ({0: 5, 9: 5}, {0: "a"}, None, "values 0, but the masks have 0, 9 beside"),
        ({0: 5, 9: 5, 7: 1}, {0: "a", 9: "b", 7: "c"}, None, "0, 9, 7, but the masks have 0, 9 beside the ignored 7"),
        ({0: 5, 9: 5}, {0: "a", 9: "a"}, None, "share a label name"),
        ({0: 5, 9: 5}, {0: "a", 9: "b"}, True, "number their objects\n.*2 plain names .* --no-instances"),
        ({(0, 0, 0): 5, (9, 0, 0): 5}, {0: "a", 9: "b"}, None, "have colours\n.*2 plain names"),
    ],
)
def test_names_by_value_must_be_those_of_the_masks(case, names, instances, said):
    """The message has both, and the way out."""
    with pytest.raises(DatasetError, match=said):
        decide_labels([case], names=names, instances=instances, ignore=7)


# Objects


OBJECTS = LabelMap(kind="instances", values=(0, 255), ignore=7)


def test_numbers_of_objects_are_kept_and_the_ignored_value_is_ignore():
    """7 was not annotated; all others are what they were, as int32."""
    found = OBJECTS.encode_objects(np.array([[[0, 3, 7], [900, 3, 0]]], np.uint16))
    assert found.dtype == np.int32
    assert found.tolist() == [[0, 3, -1], [900, 3, 0]]


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[[0, 1 << 30, 9]]], np.int64),
        np.array([[[0, 2.0, 3.5]]], np.float32),
        np.array([[[0, 10, 10]], [[0, 0, 20]], [[0, 5, 5]]], np.uint8),
    ],
    ids=["too large", "no whole numbers", "colours"],
)
def test_what_cannot_be_kept_is_numbered_anew(mask):
    """Two objects, whatever they are called."""
    (found,) = OBJECTS.encode_objects(mask)
    assert found[0] == 0 and sorted(found[1:].tolist()) == [1, 2]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_a_negative_number_is_no_object_unless_it_is_ignored(dtype):
    """It mostly marks what nobody annotated, and would be trained on as one object."""
    mask = np.array([[[0, -5, 3]]], dtype)
    with pytest.raises(DatasetError, match=r"a\.tif has negative values, .*: -5\n.*--ignore-value -5"):
        OBJECTS.encode_objects(mask, where="a.tif")
    unmarked = OBJECTS.model_copy(update={"ignore": -5})
    assert [value > 0 for value in unmarked.encode_objects(mask)[0]] == [False, False, True]
    assert unmarked.encode(mask).tolist() == [[0, IGNORE, 1]]


def test_object_numbers_are_recognised_beside_a_negative_value():
    """The patch that nobody annotated is no class, and no object either."""
    cases, _ = numbered(5, 9, 7, 12)
    cases = [{-1: 50, **case} for case in cases]
    assert decide_labels(cases, pieces=[dict.fromkeys(case, 1) for case in cases]) == LabelMap(kind="instances")


@pytest.mark.parametrize(
    ("stored", "whole"),
    [([0, 1.0000153, 2], [0, 1, 2]), ([0, -1e-4, 0.9995], [0, 0, 1]), ([0, 9.9988, 77.0092, 2035], [0, 10, 77, 2035])],
    ids=["nibabel", "noise", "many labels"],
)
def test_values_that_scaling_left_beside_whole_numbers_are_made_whole(stored, whole):
    """The more labels 16 bits hold, the further a value lies beside its number."""
    assert made_whole(np.array([stored], np.float32)).tolist() == [whole]


@pytest.mark.parametrize("values", [[0, 1.002], [0, 1 / 255], [0, np.nan], [0, np.inf, 1.0001], [0, 3.5], [7, 8]])
def test_any_other_mask_is_left_as_it_is(values):
    """Probabilities, scaled values, NaN; and whole numbers, which are not copied."""
    mask = np.array(values)
    assert made_whole(mask) is mask


def test_classes_become_objects_where_they_hang_together():
    """Two pieces of class 1, one of class 2 that touches one of them; corners connect."""
    labels = LabelMap(kind="values", values=(0, 10, 20), ignore=99)
    mask = np.array([[[10, 0, 0, 10], [0, 10, 20, 0], [99, 0, 20, 0]]], np.uint8)
    found = labels.encode_objects(mask)
    assert found[0, 0] == found[1, 1] != found[0, 3] and found[2, 0] == IGNORE
    assert classes_of(found, 3).tolist() == labels.encode(mask).tolist()
    assert len(np.unique(found[found > 0])) == 3


def test_classes_are_their_own_classes():
    """What is no number of an object stays what it is."""
    labels = np.array([-1, 0, 1, 2])
    assert classes_of(labels, 3).tolist() == labels.tolist()
    assert classes_of(np.array([0, 5, 900]), 2).tolist() == [0, 1, 1]
