"""Two predictions of the same cases, compared pair by pair, and what may be said about it.

Cases differ from each other by far more than two models do on one case, so the comparison is of
the difference per case, never of two means. It reads rows of scores; it computes no metric.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, Protocol

from uvea.errors import DatasetError
from uvea.evaluation.intervals import FEW, RESAMPLES, Interval, bootstrap_difference

Better = Literal["higher", "lower", "near zero", ""]
"""Which values are good; "" where neither is, such as volumes."""

EQUAL = 1e-12
"""Scores that differ by no more are equal: the rest is rounding."""


class Row(Protocol):
    """What is read of one class in one case."""

    @property
    def case(self) -> str:
        """Name of the case, unique in its table."""

    @property
    def group(self) -> str | None:
        """Patient, stack or slide; None where unknown."""

    @property
    def label(self) -> int:
        """Of the class."""

    @property
    def class_name(self) -> str:
        """Of the class, for people."""

    @property
    def values(self) -> Mapping[str, float | int | None]:
        """Scores by the name of the metric; None is undefined."""


class MetricLike(Protocol):
    """What is read of a metric."""

    @property
    def name(self) -> str:
        """Key in the values of a row."""

    @property
    def title(self) -> str:
        """For people, such as Dice or HD95."""

    @property
    def better(self) -> Better:
        """Which values are good."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One case in both tables."""

    case: str
    group: str | None
    first: float
    second: float
    difference: float
    """Second minus first, of distances from zero where near zero is better; ±inf where one of them is infinite."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of one class: by how much the second table differs from the first."""

    metric: str
    title: str
    better: Better
    unit: str
    label: int
    class_name: str
    names: tuple[str, str]
    """Of the two tables, for people."""

    difference: Interval
    """Mean of second minus first and its interval, over groups, or cases where there are no groups.

    Where near zero is better, of the distances from zero. Cases with an infinite value are left out of it and
    counted in its `n_infinite`.
    """

    n: int
    """Cases with a value in both tables, infinite ones included."""

    n_undefined: int
    """Cases without a value in one of the tables or in both; they take no part."""

    n_better: int
    """Cases in which the second is better; where no direction is good, higher."""

    n_worse: int
    """Cases in which the second is worse; where no direction is good, lower."""

    n_equal: int
    n_differing: int
    """Units of the interval whose difference is not zero; it could be chance where they are few."""

    n_infinite_better: int
    """Of the cases left out of the difference, those in which the second is better."""

    n_infinite_worse: int
    """Likewise worse; the others are infinite in both."""

    most_improved: tuple[Change, ...]
    """Cases in which the second gained most, most first; where no direction is good, rose most."""

    most_worsened: tuple[Change, ...]
    """Cases in which the second lost most, most first; where no direction is good, fell most."""

    grouped: bool
    """Whether the units of the interval are groups."""

    @property
    def includes_zero(self) -> bool | None:
        """Whether the interval leaves open which is higher; None without an interval."""
        low, high = self.difference.low, self.difference.high
        return None if low is None or high is None else low <= 0 <= high

    @property
    def too_few(self) -> bool:
        """Whether even one sign of all differences would often be chance: 2 × 0.5^n > 1 - level, under 6 at 95 %.

        That is the two-sided sign test. Units without a difference say nothing about its sign, so they do not count.
        """
        return bool(2.0 ** (1 - self.n_differing) > 1 - self.difference.level)

    @property
    def contradicted(self) -> bool:
        """Whether the cases that the mean leaves out for an infinite value favour the other side."""
        left_out = self.n_infinite_better - self.n_infinite_worse
        return self.difference.mean is not None and left_out * _sign(self.better) * self.difference.mean < 0

    def sentence(self) -> str:
        """What can be said, in plain English: the difference, its interval, and whether it may be chance."""
        return _sentence(self)


def compare(
    first: Sequence[Row],
    second: Sequence[Row],
    *,
    metric: MetricLike,
    names: tuple[str, str] = ("A", "B"),
    unit: str = "",
    changed: int = 5,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Compare one metric of two tables, class by class.

    Args:
        first: one row per case and class, in any order.
        second: of the same cases and classes, and of the same reference, which is checked where both have counts.
        metric: the metric; its name is the key in the rows.
        names: of the two tables, for the sentences.
        unit: of the metric, for the sentences, such as mm.
        changed: how many cases to list in each direction.
        resamples: of the bootstrap.
        level: of confidence, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        One comparison per class, in label order. A class whose metric is undefined in every case has
        n = 0, no mean and no interval. Two infinite values are equal.

    Raises:
        DatasetError: if the tables have not the same cases and classes, a case and class has two rows in one of them
            or another size in each, a class has two names and a row without counts, a case has two groups, or no row
            has the metric; names them.
    """
    here, there = _by_key(first, names[0]), _by_key(second, names[1])
    _refuse_different(here, there, names)
    for name, rows in zip(names, (first, second), strict=True):
        if rows and not any(metric.name in row.values for row in rows):
            known = sorted({key for row in rows for key in row.values})
            raise DatasetError(
                f"{name} has no {metric.name}", hint=f"compare one of: {', '.join(known)}; or evaluate {name} with it"
            )
    classes = sorted({label for _, label in here})
    return tuple(
        _compare_class(
            [(here[key], there[key]) for key in here if key[1] == label],
            metric=metric,
            names=names,
            unit=unit,
            changed=changed,
            interval=lambda before, after, groups: bootstrap_difference(
                before, after, groups=groups, resamples=resamples, level=level, seed=seed
            ),
        )
        for label in classes
    )


def _compare_class(
    pairs: Sequence[tuple[Row, Row]],
    *,
    metric: MetricLike,
    names: tuple[str, str],
    unit: str,
    changed: int,
    interval: Callable[[list[float | None], list[float | None], list[str | None]], Interval],
) -> Comparison:
    changes = [change for pair in pairs if (change := _change(pair, metric)) is not None]
    gains = [(_clean(_sign(metric.better) * change.difference), change) for change in changes]
    gained = sorted((pair for pair in gains if pair[0] > 0), key=lambda pair: (-pair[0], pair[1].case))
    lost = sorted((pair for pair in gains if pair[0] < 0), key=lambda pair: (pair[0], pair[1].case))
    ends = [(_distance(change.first, metric), _distance(change.second, metric)) for change in changes]
    return Comparison(
        metric=metric.name,
        title=metric.title,
        better=metric.better,
        unit=unit,
        label=pairs[0][0].label,
        class_name=pairs[0][0].class_name,
        names=names,
        difference=interval(
            [before for before, _ in ends], [after for _, after in ends], [change.group for change in changes]
        ),
        n=len(changes),
        n_undefined=len(pairs) - len(changes),
        n_better=len(gained),
        n_worse=len(lost),
        n_equal=len(changes) - len(gained) - len(lost),
        n_differing=_differing(changes),
        n_infinite_better=sum(gain > 0 for gain, change in gains if _infinite(change)),
        n_infinite_worse=sum(gain < 0 for gain, change in gains if _infinite(change)),
        most_improved=tuple(change for _, change in gained[:changed]),
        most_worsened=tuple(change for _, change in lost[:changed]),
        grouped=any(change.group is not None for change in changes),
    )


def _sign(better: Better) -> int:
    """Of a difference that is a gain; where no direction is good, of one that is higher."""
    return -1 if better in ("lower", "near zero") else 1


def _differing(changes: Sequence[Change]) -> int:
    """Groups, or cases where they have none, whose mean difference is not zero; infinite values are left out."""
    units: dict[tuple[str, str], list[float]] = {}
    for change in changes:
        if not _infinite(change):
            unit = ("case", change.case) if change.group is None else ("group", change.group)
            units.setdefault(unit, []).append(change.difference)
    return sum(_clean(fmean(differences)) != 0 for differences in units.values())


def _change(pair: tuple[Row, Row], metric: MetricLike) -> Change | None:
    """The pair of values of one case; None where one is undefined."""
    before, after = (row.values.get(metric.name) for row in pair)
    if before is None or after is None:
        return None
    start, end = _distance(before, metric), _distance(after, metric)
    return Change(
        case=pair[0].case,
        group=pair[1].group if pair[0].group is None else pair[0].group,
        first=float(before),
        second=float(after),
        difference=0.0 if start == end else end - start,
    )


def _distance(value: float, metric: MetricLike) -> float:
    """The value, or how far it is from zero where that is what counts."""
    return float(abs(value) if metric.better == "near zero" else value)


def _infinite(change: Change) -> bool:
    return math.inf in (change.first, change.second)


def _clean(difference: float) -> float:
    return 0.0 if abs(difference) <= EQUAL else difference


def _by_key(rows: Sequence[Row], name: str) -> dict[tuple[str, int], Row]:
    found: dict[tuple[str, int], Row] = {}
    for row in rows:
        if (row.case, row.label) in found:
            raise DatasetError(
                f"{name} has two rows for class {row.label} of case {row.case!r}", hint="give each case once"
            )
        found[row.case, row.label] = row
    return found


def _refuse_different(
    here: Mapping[tuple[str, int], Row], there: Mapping[tuple[str, int], Row], names: tuple[str, str]
) -> None:
    for place, what in enumerate(("case", "class")):
        ours, theirs = ({key[place] for key in table} for table in (here, there))
        if ours != theirs:
            absent = [
                f"{name} has no {what} {_listed(sorted(missing))}"
                for name, missing in zip(names, (theirs - ours, ours - theirs), strict=True)
                if missing
            ]
            raise DatasetError("; ".join(absent), hint="evaluate both against the same reference")
    if here.keys() != there.keys():
        case, label = sorted(here.keys() ^ there.keys())[0]
        raise DatasetError(
            f"only {names[0] if (case, label) in here else names[1]} has class {label} of case {case!r}",
            hint="evaluate both against the same reference",
        )
    for key, row in here.items():
        other = there[key]
        if row.class_name != other.class_name and None in (_size(row, _OF_REFERENCE), _size(other, _OF_REFERENCE)):
            raise DatasetError(
                f"class {row.label} is {row.class_name!r} in {names[0]}, {other.class_name!r} in {names[1]}",
                hint="evaluate both with the same --labels",
            )
        of_class = f"reference pixels of {row.class_name!r}"
        for what, counts in ((of_class, _OF_REFERENCE), ("pixels that count", _OF_ALL)):
            sizes = _size(row, counts), _size(other, counts)
            if None not in sizes and sizes[0] != sizes[1]:
                raise DatasetError(
                    f"case {row.case!r} has {sizes[0]} {what} in {names[0]}, {sizes[1]} in {names[1]}",
                    hint="evaluate both against the same reference, in the same way",
                )
        groups = row.group, other.group
        if None not in groups and groups[0] != groups[1]:
            raise DatasetError(
                f"case {row.case!r} is of group {groups[0]!r} in {names[0]}, of {groups[1]!r} in {names[1]}",
                hint="evaluate both with the same groups",
            )


_OF_REFERENCE, _OF_ALL = ("tp", "fn"), ("tp", "fp", "fn", "tn")
"""The counts that add up to the pixels of a class in the reference, and to all that count."""


def _size(row: Row, counts: Sequence[str]) -> float | None:
    """Sum of some counts; None where one is missing."""
    values = [value for name in counts if (value := row.values.get(name)) is not None]
    return sum(values) if len(values) == len(counts) else None


def _listed(names: Sequence[str | int], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _sentence(found: Comparison) -> str:
    first, second = found.names
    interval = found.difference
    unit = f" {found.unit}" if found.unit else ""
    cases = _cases(found)
    if interval.mean is None:
        return f"No case has a finite {found.title} in both {first} and {second}.{_left_out(found)}"
    if found.n_better == found.n_infinite_better and found.n_worse == found.n_infinite_worse:
        return f"{second} and {first} score the same {found.title} in {cases}.{_left_out(found)}"
    if interval.low is None or interval.high is None:
        amount = _number(interval.mean, _digits(interval.mean))
        verdict = f"one {_unit(found)} does not show which is {_superlative(found)}"
        return f"{second} scores {_amount(found, amount, unit)} ({cases}): {verdict}.{_left_out(found)}"

    width = interval.high - interval.low
    digits = _digits(width) if width else max(3, _digits(interval.mean))
    mean, low, high = (_number(value, digits) for value in (interval.mean, interval.low, interval.high))
    if found.includes_zero:
        verdict = f"the interval includes zero, so these {cases} do not show which is {_superlative(found)}"
    elif found.contradicted:
        sides = sorted(((found.n_better, second), (found.n_worse, first)), key=lambda side: -side[0])
        counts = f"{sides[0][1]} is better in {sides[0][0]}, {sides[1][1]} in {sides[1][0]}"
        verdict = f"that is of the {cases} where both are finite; over all {found.n} cases, {counts}"
    elif found.too_few:
        units, differing = _counted(interval.n, _unit(found)), found.n_differing
        few = (
            f"{differing} of {units} {'differs' if differing == 1 else 'differ'},"
            if differing < interval.n
            else f"{units} are"
        )
        verdict = f"{few} too few to tell the difference from chance"
    else:
        verdict = "the difference is unlikely to be chance"
    rough = f" With fewer than {FEW} {_unit(found)}s the interval is rough." if interval.n < FEW else ""
    return (
        f"{second} scores {_amount(found, mean, unit)} ({interval.level * 100:g} % interval {low} to {high}{unit}, "
        f"{cases}): {verdict}.{rough}{_left_out(found)}"
    )


def _amount(found: Comparison, mean: str, unit: str) -> str:
    """How much higher or lower, and in what: "0.012 higher in Dice"."""
    size = mean.removeprefix("-")
    if not float(size):
        return f"the same in {found.title} on average"
    lower = mean != size
    if found.better == "near zero":
        return f"{size}{unit} {'nearer to' if lower else 'further from'} zero in {found.title}"
    remark = ", where lower is better" if found.better == "lower" else ""
    return f"{size}{unit} {'lower' if lower else 'higher'} in {found.title}{remark}"


def _superlative(found: Comparison) -> str:
    return "better" if found.better else "higher"


def _unit(found: Comparison) -> str:
    return "group" if found.grouped else "case"


def _cases(found: Comparison) -> str:
    """The cases that the mean is over, and their groups."""
    cases = _counted(found.n - found.difference.n_infinite, "case")
    return f"{cases} in {_counted(found.difference.n, 'group')}" if found.grouped else cases


def _left_out(found: Comparison) -> str:
    """What the mean is not over, as sentences of their own, with a space in front."""
    first, second = found.names
    text = ""
    if infinite := found.difference.n_infinite:
        text += f" Left out: {_counted(infinite, 'case')} with an infinite {found.title}"
        if found.better:
            text += f", {second} better in {found.n_infinite_better}, {first} in {found.n_infinite_worse}"
        text += "."
    if found.n_undefined:
        text += f" Left out: {_counted(found.n_undefined, 'case')} where {found.title} is undefined."
    return text


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _digits(width: float) -> int:
    """Decimals that show two digits of `width`, as far as it is more than rounding."""
    return min(12, max(0, 1 - math.floor(math.log10(abs(width))))) if width else 3


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0 takes the sign off a zero
