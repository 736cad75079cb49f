"""Two tables of scores, compared case by case, and the sentences about them."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from uvea.errors import DatasetError
from uvea.evaluation.compare import compare


@dataclass(frozen=True)
class Row:
    """A row with nothing but what is compared."""

    case: str
    values: dict
    group: str | None = None
    label: int = 1
    class_name: str = "cell"


@dataclass(frozen=True)
class Metric:
    """A metric with nothing but what is read."""

    name: str
    title: str
    better: str = field(default="higher")


DICE, HD95 = Metric("dice", "Dice"), Metric("hd95", "HD95", "lower")
VOLUME, OBJECTS = Metric("volume_difference", "volume difference", "near zero"), Metric("objects", "objects", "")


def table(values, *, metric=DICE, groups=None, label=1):
    """One row per value, of cases a, b, c and so on."""
    return [
        Row(chr(97 + place), {metric.name: value}, None if groups is None else groups[place], label)
        for place, value in enumerate(values)
    ]


def compared(first, second, *, metric=DICE, groups=None, **options):
    """The comparison of one class, from the values of its cases."""
    tables = table(first, metric=metric, groups=groups), table(second, metric=metric, groups=groups)
    (found,) = compare(*tables, metric=metric, **options)
    return found


def test_the_difference_is_that_of_the_pairs_by_hand():
    """Gains of .25, 0, .5 and a loss of .25: mean .125; two better, one worse, one equal."""
    found = compared([0.5, 0.5, 0.25, 0.5], [0.75, 0.5, 0.75, 0.25])
    assert found.difference.mean == 0.125
    assert (found.n, found.n_better, found.n_worse, found.n_equal) == (4, 2, 1, 1)
    assert [change.case for change in found.most_improved] == ["c", "a"]
    assert [(change.case, change.first, change.second, change.difference) for change in found.most_worsened] == [
        ("d", 0.5, 0.25, -0.25)
    ]


def test_rows_may_come_in_any_order():
    """Cases are matched by name, not by place."""
    first, second = table([0.1, 0.5, 0.9]), table([0.2, 0.4, 0.8])
    assert compare(first, second[::-1], metric=DICE) == compare(first, second, metric=DICE)


def test_lower_distances_are_better():
    """From 9 to 5 is a gain, from 2 to 3 a loss; the difference keeps its sign."""
    found = compared([9.0, 2.0], [5.0, 3.0], metric=HD95)
    assert (found.n_better, found.n_worse, found.difference.mean) == (1, 1, -1.5)
    assert (found.most_improved[0].case, found.most_worsened[0].case) == ("a", "b")


def test_volume_differences_are_better_near_zero():
    """From -9 to +5 is 4 nearer, from +2 to -3 is 1 further: mean -1.5 of the distances from zero."""
    found = compared([-9.0, 2.0], [5.0, -3.0], metric=VOLUME)
    assert (found.n_better, found.n_worse, found.difference.mean) == (1, 1, -1.5)
    assert (found.most_improved[0].first, found.most_improved[0].second) == (-9.0, 5.0)


def test_infinite_distances_are_counted_and_lead_the_list_of_changes():
    """Found where it was missed, missed where it was found, missed by both; only 4 → 3 has a difference."""
    inf = math.inf
    found = compared([inf, 7.0, inf, 4.0], [2.0, inf, inf, 3.0], metric=HD95)
    assert (found.difference.mean, found.difference.n, found.difference.n_infinite) == (-1.0, 1, 3)
    assert (found.n, found.n_better, found.n_worse, found.n_equal) == (4, 2, 1, 1)
    assert (found.n_infinite_better, found.n_infinite_worse) == (1, 1)
    assert [change.case for change in found.most_improved] == ["a", "d"]
    assert found.most_worsened[0].difference == inf
    assert found.sentence() == (
        "B scores 1.0 lower in HD95, where lower is better (1 case): one case does not show which is better. "
        "Left out: 3 cases with an infinite HD95, B better in 1, A in 1."
    )


def test_undefined_scores_take_no_part_and_are_counted():
    """The precision of an empty prediction is no number; a row without the key is no different."""
    first, second = table([0.5, None, 0.5]), [*table([0.75, 0.5]), Row("c", {})]
    (found,) = compare(first, second, metric=DICE)
    assert (found.n, found.n_undefined, found.difference.mean) == (1, 2, 0.25)
    assert found.sentence().endswith("Left out: 2 cases where Dice is undefined.")


def test_no_defined_pair_gives_no_mean():
    """None, not zero, and a sentence that says why."""
    found = compared([None, 0.5], [0.5, None])
    assert (found.difference.mean, found.includes_zero) == (None, None)
    assert found.sentence() == ("No case has a finite Dice in both A and B. Left out: 2 cases where Dice is undefined.")


def test_every_class_has_its_comparison():
    """In label order, each from its own rows."""
    first = [*table([0.5, 0.5], label=2), *table([0.25, 0.25])]
    second = [*table([0.5, 0.5], label=2), *table([0.5, 0.75])]
    found = compare(first, second, metric=DICE)
    assert [(entry.label, entry.difference.mean) for entry in found] == [(1, 0.375), (2, 0.0)]


def test_the_group_is_the_unit_of_the_interval():
    """Patient p gains .5 in three slices, q loses .5 in one: no mean difference over patients."""
    found = compared([0.25, 0.25, 0.25, 0.75], [0.75, 0.75, 0.75, 0.25], groups=["p", "p", "p", "q"])
    assert (found.difference.mean, found.difference.n, found.n_better) == (0.0, 2, 3)
    assert "4 cases in 2 groups" in found.sentence()


def test_groups_known_to_one_table_only_are_used():
    """A table evaluated without groups is compared by those of the other, whichever it is."""
    plain, grouped = table([0.5, 0.5, 0.5]), table([0.75, 0.5, 0.5], groups="ppq")
    for first, second in ((plain, grouped), (grouped, plain)):
        (found,) = compare(first, second, metric=DICE)
        assert (found.difference.n, found.grouped) == (2, True)


SPREAD = np.linspace(-1, 1, 60)


def test_a_clear_gain_is_called_unlikely_to_be_chance():
    """0.012 on average, standard error 0.0040, so 0.004 to 0.020."""
    base = np.linspace(0.3, 0.9, 60)
    gain = 0.012 + 0.0312 * SPREAD / SPREAD.std(ddof=1)
    found = compared(base.tolist(), (base + gain).tolist())
    assert found.sentence() == (
        "B scores 0.012 higher in Dice (95 % interval 0.004 to 0.020, 60 cases): "
        "the difference is unlikely to be chance."
    )


def test_a_gain_within_chance_decides_nothing():
    """The interval includes zero; under fifty cases it is rough as well."""
    base = np.linspace(0.3, 0.9, 24)
    found = compared(base.tolist(), (base + 0.002 + 0.03 * np.sin(np.arange(24))).tolist(), names=("old", "new"))
    assert found.includes_zero
    assert found.sentence().startswith("new scores 0.00")
    assert found.sentence().endswith(
        "24 cases): the interval includes zero, so these 24 cases do not show which is better. "
        "With fewer than 50 cases the interval is rough."
    )


def test_a_lower_distance_is_said_to_be_better_with_its_unit():
    """The sign of the interval is that of B minus A."""
    found = compared((10 + SPREAD).tolist(), (8 - SPREAD).tolist(), metric=HD95, unit="mm")
    assert found.sentence().startswith("B scores 2.00 mm lower in HD95, where lower is better (95 % interval -2.")
    assert found.sentence().endswith(" mm, 60 cases): the difference is unlikely to be chance.")


def test_a_volume_difference_is_nearer_to_zero_or_further():
    """Higher and lower would mislead for a number that may have either sign."""
    near, far = (2 + SPREAD).tolist(), (-8 + SPREAD).tolist()
    assert (
        compared(far, near, metric=VOLUME).sentence().startswith("B scores 6.00 nearer to zero in volume difference (")
    )
    assert compared(near, far, metric=VOLUME).sentence().startswith("B scores 6.00 further from zero in volume")


def test_a_number_without_a_good_direction_is_not_called_better():
    """More objects are neither better nor worse."""
    found = compared([10, 20, 30], [12, 19, 31], metric=OBJECTS)
    assert "do not show which is higher." in found.sentence()


def test_five_cases_are_too_few_to_rule_out_chance():
    """Five gains in a row happen in one of sixteen fair coins; six in one of thirty-two."""
    five = compared([0.5] * 5, [0.6, 0.61, 0.62, 0.63, 0.64])
    assert not five.includes_zero and five.too_few
    assert "5 cases are too few to tell the difference from chance." in five.sentence()
    six = compared([0.5] * 6, [0.6, 0.61, 0.62, 0.63, 0.64, 0.65])
    assert "unlikely to be chance. With fewer than 50 cases the interval is rough." in six.sentence()


def test_cases_that_tie_do_not_count_among_those_that_show_a_difference():
    """Of sixty cases four gain and the rest tie: four heads in a row are no surprise; six of them are."""
    tied = [0.5] * 60
    four = compared(tied, [0.6, 0.61, 0.62, 0.63, *tied[4:]])
    assert (four.n_differing, four.includes_zero, four.too_few) == (4, False, True)
    assert four.sentence().endswith("4 of 60 cases differ, too few to tell the difference from chance.")
    assert "unlikely to be chance" in compared(tied, [0.6, 0.61, 0.62, 0.63, 0.64, 0.65, *tied[6:]]).sentence()


def test_groups_that_tie_do_not_count_either():
    """Slices of patient p gain and lose the same: one of three patients has no difference."""
    found = compared([0.5] * 4, [0.75, 0.25, 0.75, 0.75], groups="ppqr")
    assert (found.difference.n, found.n_differing) == (3, 2)


def test_missing_the_hard_cases_is_not_called_better():
    """B is nearer by 1 in the 20 cases that it finds, and misses the other 40."""
    first = [5.0 + 0.1 * case for case in range(60)]
    second = [distance - 1 for distance in first[:20]] + [math.inf] * 40
    found = compared(first, second, metric=HD95)
    assert found.contradicted and not found.includes_zero
    assert "unlikely to be chance" not in found.sentence()
    assert "20 cases where both are finite; over all 60 cases, A is better in 40, B in 20." in found.sentence()
    swapped = compared(second, first, metric=HD95).sentence()
    assert "over all 60 cases, B is better in 40, A in 20." in swapped
    fewer = compared([math.inf] * 3 + first[3:], second[:20] + [distance - 1 for distance in first[20:]], metric=HD95)
    assert not fewer.contradicted and "unlikely to be chance" in fewer.sentence()


def test_another_reference_is_refused_where_counts_tell():
    """The same case with 5 and with 6 pixels of a class, or with 20 and with 21 that count; another name of a class."""

    def one(name="cell", **counts):
        return [Row("a", {"dice": 0.5, **counts}, class_name=name)]

    with pytest.raises(DatasetError, match="'a' has 5 reference pixels of 'cell' in A, 6 in B"):
        compare(one(tp=3, fn=2), one(tp=4, fn=2), metric=DICE)
    counts = {"tp": 3, "fp": 1, "fn": 2, "tn": 14}
    with pytest.raises(DatasetError, match="'a' has 20 pixels that count in A, 21 in B"):
        compare(one(**counts), one(**counts | {"tn": 15}), metric=DICE)
    with pytest.raises(DatasetError, match=r"class 1 is 'cell' in A, 'wall' in B\n.*--labels"):
        compare(one(), one("wall"), metric=DICE)
    assert compare(one(**counts), one(tp=4, fp=0, fn=1, tn=15), metric=DICE)
    assert compare(one(**counts), one(tp=9), metric=DICE)
    assert compare(one(tp=3, fn=2), one("wall", tp=4, fn=1), metric=DICE)
    with pytest.raises(DatasetError, match="class 1 is 'cell' in A, 'wall' in B"):
        compare(one(tp=3, fn=2), one("wall", tp=4), metric=DICE)
    with pytest.raises(DatasetError, match="'a' has 5 reference pixels of 'cell' in A, 6 in B"):
        compare(one(tp=3, fn=2), one("wall", tp=4, fn=2), metric=DICE)


def test_equal_tables_are_said_to_be_equal():
    """Also where the last bit differs."""
    found = compared([0.3, 0.5], [0.1 + 0.2, 0.5])
    assert (found.n_equal, found.most_improved, found.most_worsened) == (2, (), ())
    assert found.sentence() == "B and A score the same Dice in 2 cases."


@pytest.mark.parametrize(("gain", "said"), [(0.125, "0.125"), (0.0001, "0.00010"), (1.5e-8, "0.000000015")])
def test_a_difference_that_is_the_same_everywhere_is_said_with_its_size(gain, said):
    """Its interval has no width, and however small it is, it is not called the same and unlikely to be chance."""
    found = compared([0.0] * 8, [gain] * 8)
    assert found.sentence().startswith(f"B scores {said} higher in Dice (95 % interval {said} to {said}, 8 cases)")


def test_gains_and_losses_that_cancel_score_the_same_on_average():
    """Zero has no direction."""
    found = compared((0.5 + SPREAD / 9).tolist(), (0.5 - SPREAD / 9).tolist())
    assert found.sentence().startswith("B scores the same in Dice on average (95 % interval -0.")


def test_only_as_many_changes_as_asked_are_listed():
    """The largest ones."""
    found = compared([0.0] * 4, [0.1, 0.4, 0.3, 0.2], changed=2)
    assert [change.case for change in found.most_improved] == ["b", "c"]
    assert found.n_better == 4


def test_different_cases_are_refused_by_name():
    """Both sides are named, long lists are cut."""
    with pytest.raises(DatasetError, match="A has no case 'c'"):
        compare(table([1, 1]), table([1, 1, 1]), metric=DICE)
    with pytest.raises(DatasetError, match="new has no case 'a', 'b', 'c', 'd', 'e' and 1 more"):
        compare(table([1] * 7), table([1] * 7)[6:], metric=DICE, names=("old", "new"))


def test_different_classes_groups_and_doubled_rows_are_refused_by_name():
    """A comparison of what does not belong together would look like any other."""
    one = table([1, 1])
    with pytest.raises(DatasetError, match="B has no class 2"):
        compare([*one, *table([1, 1], label=2)], one, metric=DICE)
    with pytest.raises(DatasetError, match="only A has class 2 of case 'b'"):
        compare([*one, *table([1, 1], label=2)], [*one, *table([1], label=2)], metric=DICE)
    with pytest.raises(DatasetError, match="B has two rows for class 1 of case 'a'"):
        compare(one, [*one, one[0]], metric=DICE)
    with pytest.raises(DatasetError, match="case 'b' is of group 'p' in A, of 'q' in B"):
        compare(table([1, 1], groups="pp"), table([1, 1], groups="pq"), metric=DICE)


def test_a_metric_that_was_not_evaluated_is_refused_with_those_that_were():
    """The name of the table and of the metric."""
    with pytest.raises(DatasetError, match="A has no hd95\n.*compare one of: dice"):
        compare(table([1, 1]), table([1, 1]), metric=HD95)
