"""Results as text: tables on stdout, errors on stderr. It decides how things look, never what they are.

On a terminal, text wraps and has a little colour. In a pipe nothing is cut or wrapped, so that
`uvea check DATA | grep missing` finds whole lines.

A reader that leaves, such as `head`, ends nothing. Where results cannot be written for another reason, such as a full
disk, that is an error; messages and progress that cannot be written are left out.
"""

import io
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any, cast

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from uvea.datasets.case import Finding
from uvea.errors import OutputError, UveaError, harmless

FILES_SHOWN = 5
"""Files listed per finding, unless all are asked for."""

PIPE_WIDTH = 10_000
"""Columns where there is no terminal: enough never to wrap a path."""

SEVERITY_STYLES = {"error": "bold red", "warning": "yellow"}


def messages() -> Console:
    """A console on stderr that is silent where it cannot be written to: the work goes on without."""
    return Console(stderr=True, highlight=False, file=_stream(sys.stderr, needed=False))


def error(problem: str, *, hint: str) -> None:
    """Two lines on stderr: what is wrong, and the way out."""
    console = messages()
    console.print(Text(_one_line(problem), style="red"), soft_wrap=True)
    console.print(Text(f"  Try: {_one_line(hint)}"), soft_wrap=True)


def line(text: str) -> None:
    """One line of result."""
    _results().print(Text(harmless(text, keep="\n")), soft_wrap=True)


def unwritten(fault: OSError) -> OutputError:
    """The error for results that stdout does not take."""
    return OutputError(
        f"the result cannot be written: {(fault.strerror or str(fault)).lower()}",
        hint="free some space where the output goes, or let it go elsewhere",
    )


def columns() -> int | None:
    """Columns of the terminal that stdout is; None in a pipe, where nothing is wrapped."""
    console = Console()
    return console.width if console.is_terminal else None


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with headings, one line per row."""
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        grid.add_column(heading, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(harmless(cell, keep="\n")) for cell in row))
    _put(grid)


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Names and what they are, in two columns."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(harmless(name), style="bold"), Text(harmless(value, keep="\n")))
    _put(grid)


def findings(found: Sequence[Finding], *, all_files: bool = False) -> None:
    """What is wrong, errors first: severity, kind and number of files, the problem, the files, the way out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for finding in sorted(found, key=lambda one: one.severity):
        count = len(finding.files)
        kind = finding.kind + (f" · {count} file{'s' if count > 1 else ''}" if count else "")
        grid.add_row(Text(finding.severity, style=SEVERITY_STYLES[finding.severity]), Text(kind))
        grid.add_row("", Text(_one_line(finding.problem)))
        shown = finding.files if all_files else finding.files[:FILES_SHOWN]
        for path in shown:
            grid.add_row("", Text(f"  {harmless(str(path))}"))
        if len(shown) < count:
            grid.add_row("", Text(f"  and {count - len(shown)} more; uvea check --all-files lists them"))
        grid.add_row("", Text(f"Try: {_one_line(finding.hint)}"))
    if grid.row_count:
        _put(grid)


def finding_counts(found: Sequence[Finding]) -> str:
    """A count by severity: "2 errors, 1 warning"; "nothing wrong" where there is nothing."""
    counts = [(severity, sum(one.severity == severity for one in found)) for severity in SEVERITY_STYLES]
    parts = [f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts if count]
    return ", ".join(parts) or "nothing wrong"


def user_error(problem: UveaError) -> None:
    """The two lines of an error that a user can mend."""
    error(problem.problem, hint=problem.hint)


def _results() -> Console:
    return Console(highlight=False, file=_stream(sys.stdout, needed=True))


class _Stream:
    """A stream that takes what its reader, who has left, does not; rich would end the program then."""

    def __init__(self, stream: IO[str], *, needed: bool) -> None:
        self._stream = stream
        self._needed = needed

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as fault:
            self._missed(fault)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as fault:
            self._missed(fault)

    def _missed(self, fault: OSError) -> None:
        if self._needed and not isinstance(fault, BrokenPipeError):
            raise unwritten(fault) from fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _stream(stream: IO[str] | None, *, needed: bool) -> IO[str] | None:
    """None where who started this closed it: rich writes nowhere then."""
    return None if stream is None else cast("IO[str]", _Stream(stream, needed=needed))


def _put(what: RenderableType) -> None:
    console = _results()
    if console.is_terminal:
        console.print(what)
        return
    wide = io.StringIO()
    Console(highlight=False, width=PIPE_WIDTH, color_system=None, file=wide).print(what)
    text = "\n".join(row.rstrip() for row in wide.getvalue().splitlines())
    console.print(Text(text), soft_wrap=True)


def _one_line(text: str) -> str:
    return harmless(" ".join(part.strip() for part in text.splitlines() if part.strip()))
