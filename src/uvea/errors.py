"""The errors this package raises on purpose.

Every error has two parts: the problem, with the offending value in it, and a hint that
says what to do next. The command line prints both, one line each, without a traceback.
"""


class UveaError(Exception):
    """Something a user can fix."""

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(f"{problem}\n  Try: {hint}")
        self.problem = problem
        self.hint = hint


class ShapeError(UveaError):
    """Array sizes or axes that cannot work together."""


class ImageError(UveaError):
    """A file that cannot be read or written as an image."""


class DatasetError(UveaError):
    """Images and masks on disk that do not belong together."""


class PlanError(UveaError):
    """Decisions that contradict each other, the data or the machine."""


class ModelError(UveaError):
    """A model folder, weights or a checkpoint that cannot be used."""


class OutputError(UveaError):
    """Output that would overwrite something, or cannot be written."""
