"""A case becomes one row per class, with every metric under its name."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from uvea.evaluation.instances import score_instances
from uvea.evaluation.membranes import NOTHING, rand_info
from uvea.evaluation.probabilities import count_probabilities
from uvea.evaluation.rows import instance_values, membrane_values, probability_values, score_case
from uvea.evaluation.table import METRICS

NAMES = ("background", "left", "right")


def two_classes():
    """A 6×8 image: class 1 is a block that is half found, class 2 two pixels of which one is found, and a false one."""
    reference, prediction = np.zeros((6, 8), np.int16), np.zeros((6, 8), np.int16)
    reference[1:3, 1:3] = 1
    prediction[1:3, 1:2] = 1
    reference[1, 5] = reference[4, 5] = 2
    prediction[1, 5] = prediction[4, 1] = 2
    return reference, prediction


def test_a_case_worked_by_hand():
    """Pixels of 2×0.5: volumes count them, and distances run along the shorter side."""
    background, left, right = score_case("a", *two_classes(), names=NAMES, group="p", spacing=(2, 0.5), tolerance=0.4)
    assert (left.case, left.group, left.label, left.class_name, left.flag) == ("a", "p", 1, "left", "")
    assert (left["tp"], left["fp"], left["fn"], left["tn"]) == (2, 0, 2, 44)
    assert (left["precision"], left["recall"], left["specificity"]) == (1.0, 0.5, 1.0)
    assert (left["volume_reference"], left["volume_prediction"], left["volume_difference"]) == (4.0, 2.0, -2.0)
    assert (left["hd"], left["nsd"]) == (0.5, 4 / 6)
    assert (right["lesions"], right["lesions_hit"], right["lesions_predicted"], right["lesions_false"]) == (2, 1, 2, 1)
    assert (right["lesion_recall"], right["lesion_precision"], right["lesion_f1"]) == (0.5, 0.5, 0.5)
    assert "hd" not in background.values and background["volume_reference"] == 42.0


def test_what_is_not_asked_for_is_not_measured():
    """Training wants quick scores: counts and what follows from them."""
    (_, quick, _) = score_case("a", *two_classes(), names=NAMES)
    assert list(quick.values) == ["tp", "fp", "fn", "tn", "dice", "iou", "precision", "recall", "specificity"]
    (_, sized, _) = score_case("a", *two_classes(), names=NAMES, spacing=(1, 1))
    assert "volume_difference" in sized.values and "hd" not in sized.values


def test_what_does_not_count_is_background_for_distances():
    """The stray class-2 pixel far away is ignored, then outside the region: the distance follows."""
    reference, prediction = two_classes()
    whole = score_case("a", reference, prediction, names=NAMES, spacing=(1, 1), tolerance=1)[2]
    assert whole["hd"] == 4.0
    within = np.ones(reference.shape, bool)
    within[4] = False
    kept = score_case("a", reference, prediction, names=NAMES, spacing=(1, 1), tolerance=1, within=within)[2]
    ignored = score_case("a", np.where(within, reference, -1), prediction, names=NAMES, spacing=(1, 1), tolerance=1)[2]
    assert (kept["hd"], kept["lesions"], kept["lesions_false"]) == (0.0, 1, 0)
    assert kept == ignored


MASKS = arrays.arrays(np.int16, st.tuples(st.just(2), st.integers(4, 7), st.integers(4, 7)), elements=st.integers(0, 2))


@given(MASKS)
@settings(max_examples=60, deadline=None)
def test_the_edge_of_the_region_is_as_the_edge_of_the_image(pair):
    """Cutting the image to a box, and counting in that box only, give the same rows: counts, distances and lesions."""
    box = np.s_[1:4, 0:3]
    within = np.zeros(pair[0].shape, bool)
    within[box] = True
    given_ = {"names": NAMES, "spacing": (2, 0.5), "tolerance": 1}
    cut = score_case("a", pair[0][box], pair[1][box], **given_)
    assert score_case("a", *pair, within=within, **given_) == cut
    assert score_case("a", np.where(within, pair[0], 99), pair[1], ignore=99, **given_) == cut


def test_a_border_that_the_region_makes_is_made_in_both_masks():
    """An object with a rim that is left open: wherever in the rim its outline was drawn, it is right."""
    reference = np.zeros((9, 9), np.int16)
    reference[1:8, 1:8] = -1
    reference[3:6, 3:6] = 1
    for first in (1, 2, 3):
        prediction = np.zeros_like(reference)
        prediction[first : 9 - first, first : 9 - first] = 1
        row = score_case("a", reference, prediction, names=("background", "cell"), spacing=(1, 1), tolerance=0)[1]
        assert (row["dice"], row["hd"], row["nsd"]) == (1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("reference", "prediction", "distance", "surface"), [(0, 0, 0.0, 1.0), (1, 0, math.inf, 0.0), (0, 1, math.inf, 0.0)]
)
def test_empty_masks_follow_the_rules_in_every_metric(reference, prediction, distance, surface):
    """Both empty is perfect; one empty is infinitely far, and shares of nothing are not defined."""
    masks = (np.full((3, 3), value, np.int16) for value in (reference, prediction))
    row = score_case("a", *masks, names=("background", "cell"), spacing=(1, 1), tolerance=1)[1]
    assert (row["hd"], row["hd95"], row["assd"], row["masd"], row["nsd"]) == (*[distance] * 4, surface)
    assert (row["precision"] is None, row["lesion_precision"] is None) == (not prediction,) * 2
    assert (row["recall"] is None, row["lesion_recall"] is None) == (not reference,) * 2


def test_every_metric_has_an_entry_and_stands_in_its_order():
    """A name that the registry lacks could not be written; the order is that of the registry."""
    reference, prediction = two_classes()
    found = score_instances(reference, prediction)
    assert (found.n_reference, instance_values(found)["objects"]) == (2, 2)
    probabilities = count_probabilities(reference > 0, (prediction > 0) * 0.9)
    values = {
        **score_case("a", reference, prediction, names=NAMES, spacing=(1, 1), tolerance=1)[1].values,
        **instance_values(found),
        **membrane_values(rand_info(reference, prediction), NOTHING),
        **probability_values(probabilities),
    }
    assert list(values) == list(METRICS)
    assert not any(isinstance(value, np.generic) for value in values.values())


def test_membrane_scores_at_both_thresholds_keep_their_names():
    """Truth 1122 as one segment: the merge costs half, at the fixed threshold; nothing is known at the best."""
    values = membrane_values(rand_info(np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])), NOTHING)
    assert (values["v_rand_split"], values["v_rand_merge"], values["v_rand_best"]) == (1.0, 0.5, None)
