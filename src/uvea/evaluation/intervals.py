"""How far a mean can be trusted: percentile bootstrap intervals over cases or groups.

Definition 5 of the metrics page. Cases of one patient, stack or slide are alike, so where there are
groups they are what is drawn: a group counts once, with the mean of its cases. It knows numbers
only: no metrics, no classes.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from uvea.errors import DatasetError

RESAMPLES = 9_999
"""Bootstrap resamples."""

FEW = 50
"""Below this number of cases or groups an interval comes with a warning."""

# Numbers drawn at a time: 2 MiB, which stays in the cache.
_BLOCK = 1 << 18

# Draws of up to this size are kept for the next metric: at most 32 MiB each.
_KEPT = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and how far it can be trusted."""

    mean: float | None
    """Mean over the units: groups, or cases where there are no groups. inf with an infinite value, None without any."""

    low: float | None
    """Lower end; None where the mean is infinite or there are fewer than two units."""

    high: float | None
    """Upper end; likewise."""

    n: int
    """Units."""

    sd: float | None
    """Standard deviation over the units (n - 1 in the denominator); None where there is no interval."""

    level: float
    """Confidence level, such as 0.95."""

    n_infinite: int = 0
    """Values that are infinite; of pairs, pairs that were left out because one of them is."""

    finite: "Interval | None" = None
    """The same of the finite values alone; None where all are finite."""

    note: str = ""
    """What a reader must know: why there is no interval, or that it is rough. Empty where nothing."""

    @property
    def mean_finite(self) -> float | None:
        """Mean over the finite values; None where there are none."""
        return self.mean if self.finite is None else self.finite.mean


def bootstrap_mean(
    values: Sequence[float | None],
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean and percentile bootstrap interval; with groups, of the mean over groups.

    The interval runs between the (1 - level)/2 and (1 + level)/2 quantiles (linear interpolation) of the
    means of resamples, each of as many units as there are, drawn with replacement. The same seed and
    values give the same interval.

    Args:
        values: one per case; None is undefined and takes no part; +inf makes the mean infinite.
        groups: patient, stack or slide of each case; a case without one is a unit of its own.
        resamples: how many to draw.
        level: of confidence, between 0 and 1.
        seed: of the random numbers.

    Returns:
        Interval. With infinite values its mean is inf, its ends are None, and `finite` holds the interval
        of the others. No values: all None. One unit: the mean, and no ends. `note` says so.

    Raises:
        DatasetError: if there are not as many groups as values, a value is NaN or -inf, or an option is out
            of range.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.

    Example:
        >>> bootstrap_mean([0.8, 0.8, 0.8]).low
        0.8
    """
    if resamples < 1 or not 0 < level < 1:
        raise DatasetError(
            f"{resamples} resamples at level {level} give no interval",
            hint="use at least 1 resample and a level between 0 and 1, such as 0.95",
        )
    labels = [None] * len(values) if groups is None else list(groups)
    if len(labels) != len(values):
        raise DatasetError(f"there are {len(labels)} groups for {len(values)} values", hint="give one group per value")
    present = [(value, group) for value, group in zip(values, labels, strict=True) if value is not None]
    for value, _ in present:
        if not value > -math.inf:
            raise DatasetError(f"one of {len(values)} scores is {value}", hint="give None for what is undefined")

    finite = [(value, group) for value, group in present if value < math.inf]
    n_infinite = len(present) - len(finite)
    units = _units(finite)
    grouped = any(group is not None for _, group in present)
    interval = _interval(units, grouped=grouped, resamples=resamples, level=level, seed=seed)
    if not n_infinite:
        return interval
    return Interval(
        mean=math.inf,
        low=None,
        high=None,
        n=_count_units(present),
        sd=None,
        level=level,
        n_infinite=n_infinite,
        finite=interval,
        note=f"{n_infinite} of {len(present)} values {'is' if n_infinite == 1 else 'are'} infinite, "
        "and so is the mean; there is no interval",
    )


def bootstrap_difference(
    first: Sequence[float | None],
    second: Sequence[float | None],
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `second` minus `first` over pairs, with its percentile bootstrap interval.

    Args:
        first: one per case; None is undefined.
        second: of the same cases, in the same order.
        groups: as `bootstrap_mean`.
        resamples: as `bootstrap_mean`.
        level: as `bootstrap_mean`.
        seed: as `bootstrap_mean`.

    Returns:
        Interval of the finite differences. A pair with an undefined value takes no part. A pair with an
        infinite one has no difference: it is left out and counted in `n_infinite`.

    Raises:
        DatasetError: if the two are not of one length, or as `bootstrap_mean`.
    """
    if len(first) != len(second):
        raise DatasetError(f"there are {len(first)} values to compare with {len(second)}", hint="give two of each case")
    infinite = [
        before is not None and after is not None and math.inf in (before, after)
        for before, after in zip(first, second, strict=True)
    ]
    differences = [
        None if before is None or after is None or left_out else after - before
        for before, after, left_out in zip(first, second, infinite, strict=True)
    ]
    found = bootstrap_mean(differences, groups=groups, resamples=resamples, level=level, seed=seed)
    return Interval(
        mean=found.mean,
        low=found.low,
        high=found.high,
        n=found.n,
        sd=found.sd,
        level=level,
        n_infinite=sum(infinite),
        note=found.note,
    )


def _interval(units: Sequence[float], *, grouped: bool, resamples: int, level: float, seed: int) -> Interval:
    n, what = len(units), "group" if grouped else "case"
    if n < 2:
        return Interval(
            mean=units[0] if units else None,
            low=None,
            high=None,
            n=n,
            sd=None,
            level=level,
            note=f"one {what} gives no interval" if units else "there is no value",
        )
    array = np.array(units)
    means = _resampled_means(array, resamples=resamples, seed=seed)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2)).tolist()
    return Interval(
        mean=float(array[0] + (array - array[0]).mean()),
        low=low,
        high=high,
        n=n,
        sd=float((array - array[0]).std(ddof=1)),
        level=level,
        note=f"{n} {what}s: with fewer than {FEW} the interval is rough" if n < FEW else "",
    )


def _resampled_means(units: NDArray[np.float64], *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of resamples with replacement, (resamples,), in blocks that bound the memory."""
    # Around the first unit, so that equal units have exactly their mean, without rounding.
    shifted = units - units[0]
    draws = _kept_draws if len(units) * resamples <= _KEPT else _draws
    sums = [counts.astype(np.float64) @ shifted for counts in draws(len(units), resamples=resamples, seed=seed)]
    means: NDArray[np.float64] = np.concatenate(sums) / len(units) + units[0]
    return means


def _draws(n: int, *, resamples: int, seed: int) -> Iterator[NDArray[np.unsignedinteger]]:
    """How often each of n units is in each resample, (block, n) at a time."""
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.reshape(-1), minlength=rows * n).reshape(rows, n).astype(np.min_scalar_type(n))


@lru_cache(maxsize=2)
def _kept_draws(n: int, *, resamples: int, seed: int) -> tuple[NDArray[np.unsignedinteger], ...]:
    """As `_draws`, kept: all metrics of all classes of one table are resampled alike."""
    return tuple(_draws(n, resamples=resamples, seed=seed))


def _units(present: Sequence[tuple[float, str | None]]) -> list[float]:
    """One value per unit: the mean of a group, or the value of a case without a group."""
    members: dict[str | int, list[float]] = {}
    for place, (value, group) in enumerate(present):
        members.setdefault(place if group is None else group, []).append(value)
    return [fmean(values) for values in members.values()]


def _count_units(present: Sequence[tuple[float, str | None]]) -> int:
    return len({place if group is None else group for place, (_, group) in enumerate(present)})
