"""Results read well on a terminal and whole in a pipe."""

from pathlib import Path

from uvea.cli import show
from uvea.datasets.case import Finding

LONG = "a sentence that is much longer than eighty columns, " * 4


def test_a_table_in_a_pipe_is_neither_cut_nor_wrapped(capsys):
    """One row, one line, whatever its length, and nothing after the last word."""
    show.table(("decision", "value", "reason"), [("patch", "256,256", LONG.strip()), ("batch", "2", "fits")])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["decision", "value", "reason"]
    assert second == f"patch     256,256  {LONG.strip()}"
    assert third == "batch     2        fits"


def test_brackets_in_names_are_not_markup(capsys):
    """A folder may be called [red]."""
    show.facts([("root", "[red]/a[/]")])
    assert capsys.readouterr().out == "root  [red]/a[/]\n"


def test_a_finding_shows_severity_count_files_and_remedy(capsys):
    """Errors first, five files unless all are asked for."""
    files = tuple(Path(f"images/{number}.tif") for number in range(7))
    found = [
        Finding(severity="warning", kind="empty-mask", problem="one mask is empty", hint="look at it", files=files[:1]),
        Finding(severity="error", kind="missing-mask", problem="7 images have no mask", hint="add them", files=files),
    ]
    show.findings(found)
    assert capsys.readouterr().out.splitlines() == [
        "error    missing-mask · 7 files",
        "         7 images have no mask",
        *(f"           images/{number}.tif" for number in range(5)),
        "           and 2 more; uvea check --all-files lists them",
        "         Try: add them",
        "warning  empty-mask · 1 file",
        "         one mask is empty",
        "           images/0.tif",
        "         Try: look at it",
    ]
    show.findings(found, all_files=True)
    assert "images/6.tif" in capsys.readouterr().out


def test_counts_of_findings_by_hand():
    """Nothing wrong is said in words."""
    one = Finding(severity="error", kind="k", problem="p", hint="h")
    two = Finding(severity="warning", kind="k", problem="p", hint="h")
    assert show.finding_counts([]) == "nothing wrong"
    assert show.finding_counts([one, two, two]) == "1 error, 2 warnings"


def test_an_error_is_two_lines_on_stderr(capsys):
    """Even when its text has line breaks in it."""
    show.error("first\n  second", hint="this\nthat")
    captured = capsys.readouterr()
    assert captured.err == "first second\n  Try: this that\n"
    assert captured.out == ""


def test_nothing_is_wrapped_where_there_is_no_terminal(capsys):
    """Whatever COLUMNS says: a pipe has no width."""
    assert show.columns() is None
