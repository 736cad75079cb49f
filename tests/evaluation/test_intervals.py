"""Bootstrap intervals against hand-worked quantiles, scipy, and their own promise of coverage."""

import math

import numpy as np
import pytest
from scipy import stats

from uvea.errors import DatasetError
from uvea.evaluation.intervals import bootstrap_difference, bootstrap_mean


def test_two_values_by_hand():
    """Resamples of 0 and 1 have means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the quantiles are known."""
    found = bootstrap_mean([0.0, 1.0])
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)
    assert found.sd == pytest.approx(math.sqrt(0.5))
    narrow = bootstrap_mean([0.0, 1.0], level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


@pytest.mark.parametrize("n", [5, 40, 300])
def test_the_ends_are_those_of_scipy_but_for_chance(n):
    """The end of an interval from 9,999 resamples has an error of 0.027 standard errors; two differ by 0.2 at most."""
    values = np.random.default_rng(n).beta(5, 2, n)
    found = bootstrap_mean(values.tolist(), seed=1)
    other = stats.bootstrap((values,), np.mean, method="percentile", batch=500, rng=np.random.default_rng(2))
    error = values.std() / math.sqrt(n)
    assert found.low == pytest.approx(other.confidence_interval.low, abs=0.2 * error)
    assert found.high == pytest.approx(other.confidence_interval.high, abs=0.2 * error)
    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(ddof=1))


def test_nineteen_of_twenty_intervals_hold_the_truth():
    """300 samples of 60 from a known distribution: 95 %, less a little for the small sample, within chance."""
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(300):
        found = bootstrap_mean(rng.normal(0.8, 0.1, 60).tolist(), resamples=499, seed=seed)
        held += found.low <= 0.8 <= found.high
    assert 0.90 <= held / 300 <= 0.98


def test_the_group_is_the_unit():
    """Patients of means 1 and 0 count equally, however many slices they have; the interval is that of two units."""
    found = bootstrap_mean([1.0, 1.0, 1.0, 0.0], groups=["p", "p", "p", "q"])
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)
    assert "2 groups" in found.note


def test_a_case_without_a_group_is_a_unit_of_its_own():
    """Two of patient p at 1, and two without a patient at 0 and 0.5: three units, mean one half."""
    found = bootstrap_mean([1.0, 1.0, 0.0, 0.5], groups=["p", "p", None, None])
    assert (found.mean, found.n) == (0.5, 3)


def test_groups_widen_the_interval_of_cases_that_are_alike():
    """Ten equal slices of each of eight patients say no more than eight slices: the interval must not shrink."""
    patients = np.random.default_rng(0).random(8)
    slices = np.repeat(patients, 10).tolist()
    names = [f"p{place // 10}" for place in range(80)]
    alone, grouped, naive = (
        bootstrap_mean(patients.tolist()),
        bootstrap_mean(slices, groups=names),
        bootstrap_mean(slices),
    )
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    assert grouped.high - grouped.low > 2 * (naive.high - naive.low)


def test_equal_values_give_an_interval_of_no_width():
    """A perfect score in every case is 1 to 1, and 0.8 is 0.8 to the last bit."""
    for value in (1.0, 0.8, 0.1):
        found = bootstrap_mean([value] * 7)
        assert (found.mean, found.low, found.high, found.sd) == (value, value, value, 0)


def test_the_seed_decides_and_the_block_does_not(monkeypatch):
    """The same seed gives the same bits, also with less memory; another seed gives others."""
    values = np.random.default_rng(0).random(30).tolist()
    first = bootstrap_mean(values, seed=3)
    assert first == bootstrap_mean(values, seed=3)
    assert first != bootstrap_mean(values, seed=4)
    monkeypatch.setattr("uvea.evaluation.intervals._BLOCK", 31 * 30)
    assert first == bootstrap_mean(values, seed=3)


def test_an_infinite_value_makes_the_mean_infinite_and_the_finite_ones_are_beside_it():
    """One missed case of five: the mean is inf without ends, that of the four others has its interval."""
    found = bootstrap_mean([1.0, 2.0, math.inf, 3.0, 4.0])
    assert (found.mean, found.low, found.high, found.sd, found.n, found.n_infinite) == (
        math.inf,
        None,
        None,
        None,
        5,
        1,
    )
    assert found.finite == bootstrap_mean([1.0, 2.0, 3.0, 4.0])
    assert found.mean_finite == 2.5
    assert found.note == "1 of 5 values is infinite, and so is the mean; there is no interval"
    assert bootstrap_mean([math.inf]).mean_finite is None


def test_an_infinite_case_leaves_the_finite_cases_of_its_group():
    """Patient p has 2 and inf, q has 4: infinite over two groups; finite mean (2 + 4) / 2."""
    found = bootstrap_mean([2.0, math.inf, 4.0], groups=["p", "p", "q"])
    assert (found.mean, found.n, found.mean_finite, found.finite.n) == (math.inf, 2, 3.0, 2)


def test_one_value_has_a_mean_and_no_interval():
    """Nothing is known about other cases, and the note says so; nor with one patient of many slices."""
    found = bootstrap_mean([0.7])
    assert (found.mean, found.low, found.high, found.sd, found.n) == (0.7, None, None, None, 1)
    assert found.note == "one case gives no interval"
    assert bootstrap_mean([0.7, 0.9], groups=["p", "p"]).note == "one group gives no interval"


def test_undefined_values_take_no_part():
    """None is skipped; where nothing is left there is no mean."""
    assert bootstrap_mean([None, 0.0, None, 1.0]) == bootstrap_mean([0.0, 1.0])
    nothing = bootstrap_mean([None, None])
    assert (nothing.mean, nothing.low, nothing.high, nothing.n, nothing.note) == (
        None,
        None,
        None,
        0,
        "there is no value",
    )


def test_fewer_than_fifty_come_with_a_warning():
    """49 are few, 50 are not."""
    assert bootstrap_mean([0.5, 0.6] * 24 + [0.5]).note == "49 cases: with fewer than 50 the interval is rough"
    assert bootstrap_mean([0.5, 0.6] * 25).note == ""


def test_a_difference_is_paired():
    """Every case gains exactly 0.1 although the cases lie far apart: the interval has no width."""
    first = [0.1, 0.5, 0.9, 0.3]
    found = bootstrap_difference(first, [value + 0.125 for value in first])
    assert (found.mean, found.low, found.high) == pytest.approx((0.125, 0.125, 0.125))


def test_swapping_a_pair_of_tables_turns_the_difference_around():
    """The same draws, the other sign."""
    first, second = np.random.default_rng(0).random((2, 30)).tolist()
    there, back = bootstrap_difference(first, second), bootstrap_difference(second, first)
    assert (there.mean, there.low, there.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_pairs_with_an_infinite_or_undefined_value_have_no_difference():
    """Infinite pairs are counted, undefined ones are not; 1 → 2 and 5 → 7 are left."""
    found = bootstrap_difference([1.0, math.inf, 3.0, math.inf, None, 5.0], [2.0, 4.0, math.inf, math.inf, 6.0, 7.0])
    assert (found.mean, found.n, found.n_infinite) == (1.5, 2, 3)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_score_that_is_no_number_is_refused(bad):
    """NaN would silently take the whole mean with it."""
    with pytest.raises(DatasetError, match=f"one of 2 scores is {bad}\n.*None"):
        bootstrap_mean([0.5, bad])


def test_options_out_of_range_and_lengths_that_differ_are_refused():
    """Each names its values."""
    with pytest.raises(DatasetError, match="1 groups for 2 values"):
        bootstrap_mean([0.5, 0.6], groups=["p"])
    with pytest.raises(DatasetError, match="1 values to compare with 2"):
        bootstrap_difference([0.5], [0.5, 0.6])
    with pytest.raises(DatasetError, match="9999 resamples at level 95"):
        bootstrap_mean([0.5], level=95)
