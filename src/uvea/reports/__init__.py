"""Pages that a reader opens: one self-contained HTML file each."""

from uvea.reports.evaluation import evaluation_report
from uvea.reports.lines import Series
from uvea.reports.panels import Example, Objects
from uvea.reports.records import (
    CaseToShow,
    ClassFigures,
    MetricFigures,
    MetricText,
    Plot,
    ScoreRow,
    SummaryFigures,
)
from uvea.reports.training import training_report

__all__ = [
    "CaseToShow",
    "ClassFigures",
    "Example",
    "MetricFigures",
    "MetricText",
    "Objects",
    "Plot",
    "ScoreRow",
    "Series",
    "SummaryFigures",
    "evaluation_report",
    "training_report",
]
