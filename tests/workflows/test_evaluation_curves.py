"""Points of a curve that are kept: few, and enough for its area."""

import numpy as np
import pytest

from uvea.metrics import auc, average_precision, best_threshold, count_probabilities, precision_recall, roc
from uvea.workflows import evaluation_page
from uvea.workflows.evaluation_curves import POINTS, points_of


@pytest.fixture
def counts(rng):
    """A rare class: nearly all pixels are improbable, so most thresholds lie in a corner of the curves."""
    others = np.concatenate([rng.beta(1, 4000, 400_000), rng.random(4000)])
    of_class = np.concatenate([rng.beta(4, 4000, 9000), rng.random(2000)])
    reference = np.repeat([0, 1], [len(others), len(of_class)])
    return count_probabilities(reference, np.concatenate([others, of_class]))


def test_the_area_below_the_kept_points_is_that_of_the_curve(counts):
    """Thousands of points become a few hundred, and the figure agrees with the number beside it."""
    curve = roc(counts)
    across, up = points_of(curve.false_positive_rate, curve.true_positive_rate)
    assert len(across) <= POINTS + 2 < len(curve.thresholds)
    assert (across[0], up[0], across[-1], up[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert np.trapezoid(up, across) == pytest.approx(auc(counts), abs=0.005)
    line = precision_recall(counts)
    share, precision = points_of(line.recall, line.precision)
    assert np.sum(np.diff(share, prepend=0.0) * precision) == pytest.approx(average_precision(counts), abs=0.005)


def test_points_are_kept_in_all_columns_alike():
    """A straight line of a thousand points, with thresholds in front; a short one is kept whole."""
    x = np.linspace(0, 1, 1001)
    thresholds, across, up = points_of(1 - x, x, x)
    assert across == up == [pytest.approx(1 - threshold) for threshold in thresholds]
    assert np.diff(across).max() <= 0.011
    assert points_of(x[:3], x[:3]) == [x[:3].tolist()] * 2


def test_a_small_threshold_is_not_shown_as_zero(counts):
    """The best one lies far below 0.01, and two decimals would call it 0.00."""
    note = evaluation_page._probability_plots({"cell": counts})[-1].series[0].note
    threshold = note.split()[-1]
    assert float(threshold) == pytest.approx(best_threshold(counts).threshold, rel=0.01) and float(threshold) < 0.005
