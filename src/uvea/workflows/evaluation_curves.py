"""The curves of an evaluation as plain data: what `curves.json` holds, for drawing them elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from uvea.evaluation.membranes import MembraneCurve
from uvea.evaluation.probabilities import ProbabilityCounts, best_threshold, precision_recall, reliability, roc

POINTS = 400
"""Points of a curve that are kept, about; more make no difference to the eye."""


def curves_of(
    membranes: MembraneCurve | None, probabilities: Mapping[int, ProbabilityCounts], *, names: Sequence[str]
) -> dict[str, object]:
    """Every curve over all cases.

    Returns:
        "membranes": scores at each threshold, and the best thresholds. "probabilities", by name of the class:
        "reliability" (bins), "roc", "precision_recall" (columns of numbers) and "best_threshold" for Dice, which is
        for other data than these. What there is not is left out; what is not defined is None.
    """
    found: dict[str, object] = {}
    if membranes is not None:
        found["membranes"] = {
            **asdict(membranes),
            "best_threshold_rand": membranes.best_threshold_rand,
            "best_threshold_info": membranes.best_threshold_info,
        }
    if probabilities:
        found["probabilities"] = {names[label]: _of_class(counts) for label, counts in probabilities.items()}
    return found


def points_of(*columns: NDArray[np.float64]) -> list[list[float]]:
    """The points to keep of a curve: first, last, and some between, evenly along it, column by column.

    Its last two columns are the axes. Of points far apart both stay, so that the area hardly changes.
    """
    count = len(columns[0])
    if count <= POINTS:
        return [column.tolist() for column in columns]
    steps = np.hypot(np.diff(columns[-2]), np.diff(columns[-1]))
    lengths = np.concatenate([[0.0], steps.cumsum()])
    behind = np.searchsorted(lengths, np.linspace(0, lengths[-1], POINTS // 2))
    places = sorted({0, *(behind - 1).clip(0).tolist(), *behind.clip(max=count - 1).tolist(), count - 1})
    return [column[places].tolist() for column in columns]


def _of_class(counts: ProbabilityCounts) -> dict[str, object]:
    rates, shares, best = roc(counts), precision_recall(counts), best_threshold(counts)
    curves: dict[str, object] = {
        "n_positive": counts.n_positive,
        "n_negative": counts.n_negative,
        "reliability": [asdict(one) for one in reliability(counts)],
        "roc": None,
        "precision_recall": None,
        "best_threshold": None if best is None else asdict(best),
    }
    if rates is not None:
        columns = points_of(rates.thresholds, rates.false_positive_rate, rates.true_positive_rate)
        names = ("thresholds", "false_positive_rate", "true_positive_rate")
        curves["roc"] = dict(zip(names, columns, strict=True))
    if shares is not None:
        columns = points_of(shares.thresholds, shares.precision, shares.recall)
        curves["precision_recall"] = dict(zip(("thresholds", "precision", "recall"), columns, strict=True))
    return curves
