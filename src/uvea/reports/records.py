"""What the evaluation report is given: figures, rows, pictures to load and curves, as plain data.

The report knows no evaluation; who calls it fills these records. Where a value is not defined it is None, never NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from uvea.reports.lines import Series
from uvea.reports.panels import Example

Flag = Literal["", "both_empty", "missed", "false_alarm"]
"""Whether a class is empty in both masks, in the prediction only, or in the reference only."""

PlotKind = Literal["average_precision", "reliability", "roc", "precision_recall", "membranes"]
"""Which axes a plot has: see `PLOTS` in `uvea.reports.evaluation`."""


@dataclass(frozen=True, kw_only=True)
class MetricText:
    """What a reader has to know about one metric."""

    key: str
    """As in `ScoreRow.values`, such as "hd95"."""

    title: str
    """As it is shown, such as "HD95"."""

    kind: Literal["count", "score", "distance", "volume"]
    """Scores lie between 0 and 1 and are drawn on that axis; counts have no distribution drawn."""

    better: Literal["higher", "lower", "near zero", ""] = ""
    """Which values are good; "" where none is, such as for a volume."""

    unit: str = ""
    """As it is shown, such as "mm", "px" or "mm³"; empty for scores and counts."""

    convention: str = ""
    """One sentence: how the number is computed, and what happens to empty masks."""


@dataclass(frozen=True, kw_only=True)
class MetricFigures:
    """One metric of one class, over the cases. What does not apply is None and shown as a dash."""

    n: int
    """Cases (or images) where the metric is defined."""

    mean: float | None
    """Over all n, with empty masks by the convention of the metric; infinity is allowed."""

    mean_present: float | None = None
    """Over the cases whose reference has the class."""

    pooled: float | None = None
    """From the counts of all cases added up."""

    mean_groups: float | None = None
    """Mean of the means of the groups, such as patients."""

    sd: float | None = None
    """Standard deviation over the groups where there are any, else over the cases."""

    low: float | None = None
    """Lower end of the 95 % interval of `over_units`."""

    high: float | None = None
    """Its upper end."""

    n_infinite: int = 0
    """Cases with an infinite distance: exactly one of both masks is empty."""

    mean_finite: float | None = None
    """Over the cases that are not infinite."""

    mean_groups_finite: float | None = None
    """As `mean_groups`, of these cases; only where some are infinite."""

    low_finite: float | None = None
    """Lower end of the 95 % interval of `finite_over_units`; only where some are infinite."""

    high_finite: float | None = None
    """Its upper end."""

    @property
    def over_units(self) -> float | None:
        """The mean that the interval is of: over the groups where there are any, else over the cases."""
        return self.mean if self.mean_groups is None else self.mean_groups

    @property
    def finite_over_units(self) -> float | None:
        """The same of the cases that are not infinite."""
        return self.mean_finite if self.mean_groups_finite is None else self.mean_groups_finite


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One class, over the cases."""

    label: int
    """0 is the background: shown in the tables, not in the result, the distributions or the order of the cases."""

    class_name: str
    n: int
    n_both_empty: int
    n_missed: int
    n_false_alarm: int

    metrics: Mapping[str, MetricFigures]
    """By key of the metric."""


@dataclass(frozen=True, kw_only=True)
class SummaryFigures:
    """The whole evaluation in figures."""

    cases: int
    groups: int
    """0 where the cases have no groups."""

    classes: Sequence[ClassFigures]
    """In order of the labels."""

    foreground: Mapping[str, MetricFigures] = field(default_factory=dict)
    """Mean over the foreground classes, by key of the metric."""

    missing: Sequence[str] = ()
    """Cases without a prediction, scored as empty. The page says so: no warning is needed for them."""

    warnings: Sequence[str] = ()
    """Sentences to show first, such as that fewer than 50 cases leave the interval uncertain."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """Name to value, as they are to be shown: tolerance, unit, ignored label, paths, version."""


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One class in one case, as in the table of scores."""

    case: str
    group: str | None = None
    label: int
    class_name: str
    flag: Flag = ""

    values: Mapping[str, float | int | None]
    """By key of the metric; a key may be missing, infinity is allowed."""


@dataclass(frozen=True, kw_only=True)
class CaseToShow:
    """A case that can be shown in pictures."""

    case: str
    """As in the rows."""

    load: Callable[[], Example]
    """Reads its arrays. It is called only for cases that are shown, one after the other, and the arrays are let go at
    once, so that a thousand volumes need the memory of one. `Example.image` may be None: the masks are shown alone.
    `Example.scores` may stay empty: the page shows those of the rows. A UveaError is shown in place of the pictures."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One figure of several lines.

    kind                 x                              y
    average_precision    IoU threshold                  average precision
    reliability          mean predicted probability     share of positives
    roc                  false positive rate            true positive rate
    precision_recall     recall                         precision
    membranes            threshold of the probability   V_rand and V_info, one series each
    """

    kind: PlotKind
    series: Sequence[Series]

    note: str = ""
    """A sentence below the figure."""
