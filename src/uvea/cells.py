"""Names as they stand in CSV files, so that no spreadsheet calculates with them.

Names come from files and plans of others; "=HYPERLINK(...)" is one that a spreadsheet would follow.
"""

import re

_FORMULA = re.compile(r"'*(?:[=@\t\r]|[+-](?![\w .-]*\Z))")
"""What spreadsheets take for a formula, also behind the mark that says it is none."""


def as_cell(name: str) -> str:
    """A name as it stands in a CSV file: with a "'" in front where a spreadsheet would calculate with it.

    Numbers with a sign, and names that go on with letters, digits, blanks, dots, "_" and "-" alone, stay as they are.
    """
    return f"'{name}" if _FORMULA.match(name) else name


def of_cell(cell: str) -> str:
    """The name that `as_cell` wrote."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell
