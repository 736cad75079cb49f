"""How well a prediction agrees with a reference: metrics, the table of scores, and what follows from it."""

from uvea.evaluation.overlap import IGNORE, Counts, Flag, counts
from uvea.evaluation.rows import score_case
from uvea.evaluation.summary import ClassSummary, MetricSummary, Summary, summarise, write_summary
from uvea.evaluation.table import METRICS, CaseScore, Metric, read_csv, write_csv

__all__ = [
    "IGNORE",
    "METRICS",
    "CaseScore",
    "ClassSummary",
    "Counts",
    "Flag",
    "Metric",
    "MetricSummary",
    "Summary",
    "counts",
    "read_csv",
    "score_case",
    "summarise",
    "write_csv",
    "write_summary",
]
