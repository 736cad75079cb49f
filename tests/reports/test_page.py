"""Pages are written in one piece, and values appear as a reader expects."""

import os

import numpy as np
import pytest

from uvea.errors import OutputError
from uvea.reports.page import hash_of, scored, shown, write_page


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "yes"),
        (148353, "148,353"),
        (np.int64(7), "7"),
        (0.001, "0.001"),
        (np.float32(0.5), "0.5"),
        (12345.6, "12,346"),
        (3e-5, "3e-05"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
        ((16, 96, 96), "16 × 96 × 96"),
        ([0.5, 2.0], "0.5, 2"),
        (("y", "x"), "y, x"),
        ((), "–"),
        ({"cell": 2, "wall": 0.5}, "cell: 2, wall: 0.5"),
        ("as it is", "as it is"),
    ],
)
def test_values_are_shown_as_a_reader_expects(value, text):
    """Sizes with crosses, lists with commas, thousands apart, no Python words."""
    assert shown(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9, "0.900"),
        (np.float32(1), "1.000"),
        (0.0, "0.000"),
        (0.00012, "0.00012"),
        (3, "3"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_scores_have_three_decimals(value, text):
    """Figures below each other can be compared."""
    assert scored(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0004, "0.0004"),
        (0.01234, "0.0123"),
        (9.9999, "10"),
        (-2.345, "-2.35"),
        (999.7, "1,000"),
        (12345.6, "12,346"),
        (float("inf"), "∞"),
    ],
)
def test_what_is_no_score_has_three_digits(value, text):
    """A distance of 0.0004 mm is not 0."""
    assert scored(value, "distance") == text


def test_an_existing_page_is_kept_unless_told_otherwise(tmp_path):
    """The message says how to replace it."""
    path = tmp_path / "report.html"
    write_page(path, "old")
    with pytest.raises(OutputError, match=r"report.html exists\n.*--overwrite"):
        write_page(path, "new")
    assert path.read_text() == "old"
    write_page(path, "new", overwrite=True)
    assert path.read_text() == "new"


def test_a_page_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path, monkeypatch):
    """No temporary file, no half page, one error."""

    def refuse(source, target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=r"cannot write .*report.html: Permission denied"):
        write_page(tmp_path / "report.html", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_error(tmp_path):
    """Not a traceback about directories."""
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_page(tmp_path / "out" / "report.html", "text")


def test_missing_folders_are_made(tmp_path):
    """And the text is UTF-8, whatever the machine's language."""
    write_page(tmp_path / "a" / "b.html", "×")
    assert (tmp_path / "a" / "b.html").read_bytes() == "×".encode()


def test_the_hash_of_a_script_is_what_browsers_compute():
    """The example of the Content Security Policy specification, level 3."""
    assert hash_of("alert('Hello, world.');") == "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
