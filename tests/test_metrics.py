"""`uvea.metrics` works on plain arrays, and gives what an evaluation writes."""

import numpy as np
import pytest
import torch

import uvea
from uvea import metrics
from uvea.errors import DatasetError, ShapeError

REFERENCE = np.zeros((6, 6), np.uint8)
REFERENCE[1:3, 1:3] = 7
PREDICTION = np.zeros((6, 6), bool)
PREDICTION[1:4, 1:3] = True


def test_a_vector_of_the_metrics_page():
    """T2: any value but 0 is foreground, whatever its type."""
    assert metrics.dice(REFERENCE, PREDICTION) == 0.8
    assert metrics.iou(REFERENCE, PREDICTION) == pytest.approx(0.666667, abs=5e-7)
    assert metrics.precision(REFERENCE, PREDICTION) == 4 / 6
    assert metrics.recall(REFERENCE, PREDICTION) == 1.0
    assert metrics.specificity(REFERENCE, PREDICTION) == 30 / 32
    assert metrics.hd(REFERENCE, PREDICTION, spacing=(2, 1)) == 2
    assert metrics.nsd(REFERENCE, PREDICTION, tolerance=1, spacing=(2, 1)) == 0.8


def test_pixels_outside_the_region_do_not_count():
    """The row that was predicted too much is outside."""
    within = np.ones((6, 6), bool)
    within[3] = False
    assert metrics.dice(REFERENCE, PREDICTION, within=within) == 1.0


def test_empty_masks_follow_the_conventions():
    """Both empty is perfect; shares of nothing are not defined."""
    nothing = np.zeros((2, 2), bool)
    assert (metrics.dice(nothing, nothing), metrics.iou(nothing, ~nothing)) == (1.0, 0.0)
    assert metrics.precision(nothing, nothing) is metrics.recall(nothing, nothing) is None
    assert metrics.specificity(~nothing, nothing) is None


def test_what_is_no_mask_is_refused():
    """Probabilities, and two sizes."""
    with pytest.raises(DatasetError, match="prediction is of type float64"):
        metrics.dice(REFERENCE, PREDICTION * 0.3)
    for kind in (complex, object):
        with pytest.raises(DatasetError, match=f"reference is of type {np.dtype(kind)}"):
            metrics.dice(REFERENCE.astype(kind), PREDICTION)
    with pytest.raises(ShapeError, match="prediction is 2×2, its reference 6×6"):
        metrics.dice(REFERENCE, PREDICTION[:2, :2])


@pytest.mark.parametrize("metric", [metrics.dice, metrics.iou, metrics.precision, metrics.recall, metrics.specificity])
@pytest.mark.parametrize("made", [list, torch.from_numpy])
def test_lists_and_tensors_are_scored_like_arrays(made, metric):
    """As by those that measure distances."""
    within = REFERENCE < 9
    wanted = metric(REFERENCE, PREDICTION, within=within)
    assert metric(made(REFERENCE), made(PREDICTION), within=made(within)) == wanted


def test_every_name_is_there_and_explained():
    """What is promised can be used, also as an attribute of the package, and says what it is."""
    assert uvea.metrics is metrics
    for name in metrics.__all__:
        assert name == "METRICS" or getattr(metrics, name).__doc__
