"""The errors this package raises on purpose.

Every error has two parts: the problem, with the offending value in it, and a hint that
says what to do next. The command line prints both, one line each, without a traceback.
Both may hold names and words out of files, so they are made harmless here, for all that
show them.
"""

import unicodedata
from typing import Any

LONGEST = 2000
"""Letters of a problem or a hint; what is longer came out of a file, and its middle is left out."""


class UveaError(Exception):
    """Something a user can fix."""

    def __init__(self, problem: str, *, hint: str) -> None:
        self.problem = _cut(harmless(problem))
        self.hint = _cut(harmless(hint))
        super().__init__(f"{self.problem}\n  Try: {self.hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, of subclasses as well: what is in it is put back, and no `__init__` is called."""
        return _made_again, (type(self), self.args), self.__dict__


def harmless(text: str, *, keep: str = "") -> str:
    r"""Text as a terminal or a table may show it: what is no letter, mark, sign or blank is written out, as \x1b.

    Names of files may hold anything: commands to a terminal, ends of lines, marks that turn the writing around.

    Args:
        text: anything.
        keep: characters that stay as they are, such as a line's end.

    Example:
        >>> harmless("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter
        if letter in keep or letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
        for letter in text
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python or a library says that there is not enough memory, on the machine or on an accelerator."""
    words = (
        *("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "failed to allocate"),
        *("alloc_failed", "allocation_failed"),
        # cuDNN's words where none of its kernels gets the memory that it needs.
        "unable to find an engine",
    )
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    )


def _made_again(kind: type[UveaError], args: tuple[Any, ...]) -> UveaError:
    return kind.__new__(kind, *args)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 + 1 :]}"


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
