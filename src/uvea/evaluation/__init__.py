"""How well a prediction agrees with a reference: counts, scores per case and class, summaries."""

from uvea.evaluation.overlap import IGNORE, CaseScore, Counts, Flag, counts, dice, flag, iou, score_case
from uvea.evaluation.table import (
    Average,
    ClassSummary,
    Summary,
    read_csv,
    summarise,
    write_csv,
    write_summary,
)

__all__ = [
    "IGNORE",
    "Average",
    "CaseScore",
    "ClassSummary",
    "Counts",
    "Flag",
    "Summary",
    "counts",
    "dice",
    "flag",
    "iou",
    "read_csv",
    "score_case",
    "summarise",
    "write_csv",
    "write_summary",
]
