"""Masks are cleaned as worked out by hand, and only where validation gains more than chance gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.errors import DatasetError, PlanError, ShapeError
from uvea.objects.postprocess import choose_postprocessing, clean
from uvea.plan.decoding import Cleaning

ROW = np.array([[1, 1, 1, 0, 1, 2, 2, 0, 1, 1, -1, 2]])


def dice(truth, found, label):
    """Dice of one class; 1 where both are empty."""
    wanted, given = truth == label, found == label
    total = wanted.sum() + given.sum()
    return 2 * (wanted & given).sum() / total if total else 1.0


def test_the_largest_component_is_kept_and_other_classes_are_left_alone():
    """Three pixels stay, one and two go; class 2 and the ignored pixel are as they were."""
    assert clean(ROW, {1: Cleaning(largest=True)}).tolist() == [[1, 1, 1, 0, 0, 2, 2, 0, 0, 0, -1, 2]]


def test_small_components_become_background():
    """One pixel is less than two, two pixels are not."""
    assert clean(ROW, {1: Cleaning(min_size=2)}).tolist() == [[1, 1, 1, 0, 0, 2, 2, 0, 1, 1, -1, 2]]
    assert clean(ROW, {2: Cleaning(min_size=2)}).tolist() == [[1, 1, 1, 0, 1, 2, 2, 0, 1, 1, -1, 0]]


def test_sizes_are_those_of_the_pixels_that_they_were_found_on():
    """A component of 3 pixels of four each, and a hole of one, in an image of pixels twice as wide."""
    large = np.ones((1, 3), np.int16)
    assert clean(large, {1: Cleaning(min_size=12)}, share=4).all()
    assert not clean(large, {1: Cleaning(min_size=16)}, share=4).any()
    ring = np.ones((3, 3), np.int16)
    ring[1, 1] = 0
    assert [clean(ring, {1: Cleaning(fill_holes=n)}, share=4).sum() for n in (1, 4)] == [8, 9]


def test_components_hang_together_at_corners():
    """Two pixels that meet at a corner are one component."""
    diagonal = np.eye(2, dtype=np.int16)
    assert clean(diagonal, {1: Cleaning(min_size=2)}).tolist() == diagonal.tolist()


def test_holes_up_to_a_size_are_filled_where_only_the_class_is_around():
    """A hole of one pixel and one of two; one that meets another class, one at the border, one that meets IGNORE."""
    mask = np.ones((9, 9), np.int16)
    mask[1, 1] = 0
    mask[3, 3:5] = 0
    mask[5, 5], mask[5, 6] = 0, 2
    mask[0, 7] = 0
    mask[7, 1], mask[7, 2] = 0, -1
    one = mask.copy()
    one[1, 1] = 1
    two = one.copy()
    two[3, 3:5] = 1
    assert np.array_equal(clean(mask, {1: Cleaning(fill_holes=1)}), one)
    assert np.array_equal(clean(mask, {1: Cleaning(fill_holes=100)}), two)


def test_frames_are_masks_of_their_own():
    """What is the only piece of its frame stays, and a hole is closed in each frame that it is closed in."""
    moving = np.zeros((3, 5, 11), np.int16)
    for frame in range(3):
        moving[frame, 1:4, 4 * frame : 4 * frame + 3] = 1
    assert np.array_equal(clean(moving, {1: Cleaning(largest=True, min_size=9)}, timed=True), moving)
    assert clean(moving, {1: Cleaning(largest=True)}).sum() < moving.sum()  # as a volume
    rings = moving.copy()
    rings[[0, 1, 2], 2, [1, 5, 9]] = 0
    assert np.array_equal(clean(rings, {1: Cleaning(fill_holes=1)}, timed=True), moving)


def test_a_hole_in_one_slice_is_open_in_a_volume():
    """In 3D a hole has to be closed above and below."""
    volume = np.ones((3, 3, 3), np.int16)
    volume[1, 1, 1] = 0
    assert (clean(volume, {1: Cleaning(fill_holes=5)}) == 1).all()
    volume[0, 1, 1] = 0
    assert (clean(volume, {1: Cleaning(fill_holes=5)}) == volume).all()


def test_an_empty_mask_stays_empty():
    """Without a row, or without a frame."""
    for shape, timed in (((0, 5), False), ((0, 5, 5), True)):
        assert clean(np.zeros(shape, np.int16), {1: Cleaning(fill_holes=5)}, timed=timed).shape == shape


@settings(max_examples=50, deadline=None)
@given(
    labels=arrays.arrays(np.int16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(-1, 3)),
    how=st.builds(Cleaning, largest=st.booleans(), min_size=st.integers(0, 6), fill_holes=st.integers(0, 6)),
)
def test_cleaning_changes_one_class_only_and_doing_it_twice_changes_nothing_more(labels, how):
    """Of any mask: other classes and ignored pixels stay, and what was cleaned is clean."""
    before = labels.copy()
    found = clean(labels, {2: how})
    assert np.array_equal(labels, before)
    other = (before != 0) & (before != 2)
    assert np.array_equal(found[other], before[other])
    assert set(np.unique(found[~other])) <= {0, 2}
    if not how.fill_holes:
        assert np.array_equal(clean(found, {2: how}), found)


def specks(seed, count):
    """Discs with specks that are not there in truth, of up to four pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((40, 40))
    cases = []
    for _ in range(count):
        truth = ((y - 20) ** 2 + (x - 20) ** 2 < rng.uniform(60, 100)).astype(np.int16)
        found = truth.copy()
        for _ in range(rng.integers(4, 9)):
            a, b = rng.integers(0, 5, 2)
            found[a * 8 : a * 8 + 2, b * 8 : b * 8 + 2] = 1
        cases.append((truth, found))
    return cases


def test_a_cleaning_that_helps_everywhere_is_accepted_with_its_figures():
    """Specks of four pixels beside one disc: dropping them gains, and every trial is told."""
    choice = choose_postprocessing(specks(0, 8), dice, classes=2)
    assert choice.cleanings[1].largest or choice.cleanings[1].min_size > 4
    assert not choice.cleanings[1].fill_holes
    accepted = [one for one in choice.tried if one.accepted]
    assert len(accepted) == 1 and accepted[0].score == 1 and accepted[0].gain > 2 * accepted[0].error
    assert len(choice.tried) == 12
    assert "class 1" in choice.reason


def test_holes_are_filled_where_that_helps_and_how_large_is_found():
    """Holes of nine pixels in the prediction only."""
    cases = [(truth, truth.copy()) for truth, _ in specks(1, 6)]
    for _, found in cases:
        found[19:22, 19:22] = 0
    choice = choose_postprocessing(cases, dice, classes=2)
    assert choice.cleanings == {1: Cleaning(fill_holes=32)}


def test_a_gain_that_may_be_chance_is_not_accepted():
    """One case of eight gains much, the others nothing: the mean is well above zero, and within its error."""
    cases = [(truth, truth.copy()) for truth, _ in specks(2, 7)] + specks(2, 1)
    choice = choose_postprocessing(cases, dice, classes=2)
    assert max(one.gain for one in choice.tried) > 0.002
    assert choice.cleanings == {} and not any(one.accepted for one in choice.tried)
    assert "none of 12" in choice.reason


def test_a_few_gains_that_chance_may_give_are_not_accepted():
    """Twelve trials on five cases: 2.7 standard errors come by chance, 8 do not."""
    mask = np.array([[1, 1, 1, 0, 1]])
    for gains, accepted in (((0.01, 0.02, 0, 0.03, 0.01), False), ((0.02, 0.025, 0.03, 0.02, 0.015), True)):
        cases = [(np.full_like(mask, number), mask) for number in range(5)]
        choice = choose_postprocessing(
            cases, lambda truth, found, label, gains=gains: gains[truth[0, 0]] * (found.sum() == 3), classes=2
        )
        assert choice.tried[0].gain > 2 * choice.tried[0].error
        assert bool(choice.cleanings) == accepted


def test_sizes_are_tried_in_the_pixels_of_each_case():
    """Two pixels that are four times as large as those of the cases are eight: more than a speck of four."""
    trials = choose_postprocessing(specks(0, 8), dice, classes=2, shares=[1 / 4] * 8, min_sizes=(2,)).tried
    assert [one.score == 1 for one in trials if one.cleaning == Cleaning(min_size=2)] == [True]


def test_slices_of_one_patient_count_once():
    """Eight cases of two patients are two groups, too few to tell anything."""
    choice = choose_postprocessing(specks(0, 8), dice, classes=2, groups=["a", "b"] * 4)
    assert choice.cleanings == {} and "2 validation groups" in choice.reason


def test_nothing_is_accepted_where_cleaning_does_harm():
    """Truth that has two components and a hole."""
    truth = np.zeros((30, 30), np.int16)
    truth[2:12, 2:12] = truth[20:24, 20:24] = 1
    truth[6, 6] = 0
    assert choose_postprocessing([(truth, truth)] * 6, dice, classes=2).cleanings == {}


def test_what_cannot_be_done_is_refused():
    """Background, negative sizes, and groups that do not fit."""
    with pytest.raises(DatasetError, match="class 0 cannot be cleaned"):
        clean(ROW, {0: Cleaning(largest=True)})
    with pytest.raises(PlanError, match="min_size -2"):
        Cleaning(min_size=-2)
    with pytest.raises(ShapeError, match="1 groups for 6 cases"):
        choose_postprocessing(specks(0, 6), dice, classes=2, groups=["a"])
