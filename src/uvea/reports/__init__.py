"""Pages that a reader opens: one self-contained HTML file each."""

from uvea.reports.panels import Example
from uvea.reports.training import training_report

__all__ = ["Example", "training_report"]
