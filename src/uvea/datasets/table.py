"""Read a dataset from a CSV table: columns image, mask, group and split.

Paths are relative to the table. An image of several channel files lists them with ";" between.
"""

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

from uvea.datasets.case import Case, Part
from uvea.datasets.names import channel_of, listed, part_of
from uvea.errors import DatasetError
from uvea.images import stem_of

COLUMNS = ("image", "mask", "group", "split")


def read_table(path: Path) -> tuple[Case, ...]:
    """Read the cases of a table, in name order.

    Only the column image is required; an empty field means none. Fields are divided by commas, or by tabs or
    semicolons where the first line has no comma.

    Raises:
        DatasetError: a column, path or split that is not known, named with its row; an image listed twice.
    """
    rows = read_rows(path, known=COLUMNS, required="image")
    cases = [_case(path, number, row) for number, row in rows]
    if not cases:
        raise DatasetError(f"table '{path}' has no rows", hint="add one line per image: image,mask")
    first_row: dict[Path, int] = {}
    for (number, _), case in zip(rows, cases, strict=True):
        for image in case.images:
            if image in first_row:
                raise DatasetError(
                    f"'{image}' is listed twice in '{path}', in rows {first_row[image]} and {number}",
                    hint="remove one of the rows",
                )
            first_row[image] = number
    return tuple(sorted(_with_unique_names(cases, path.parent), key=lambda case: case.name))


def read_rows(path: Path, *, known: tuple[str, ...], required: str) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV file with their line numbers, every field stripped, absent ones "".

    Raises:
        DatasetError: not text, a column that is not known or is missing, or a row that is too long.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"'{path}' is not text in UTF-8 (byte {error.start})", hint="save it as CSV, encoding UTF-8"
        ) from error
    except OSError as error:
        raise DatasetError(f"cannot read '{path}': {error.strerror}", hint="check the path and its rights") from error
    header_line = next(iter(text.splitlines()), "")
    delimiter = next((mark for mark in ",\t;" if mark in header_line), ",")
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        table = [(reader.line_num, [field.strip() for field in fields]) for fields in reader]
    except csv.Error as error:
        raise DatasetError(f"'{path}' is not a CSV table: {error}", hint="check its quotation marks") from error
    header = [field.lower() for field in table[0][1]] if table else []
    _check_header(path, header, known=known, required=required)
    rows = []
    for number, fields in table[1:]:
        if not any(fields):
            continue
        if len(fields) > len(header):
            raise DatasetError(
                f"row {number} of '{path}' has {len(fields)} fields, the header {len(header)}",
                hint="put a field that contains the delimiter in quotation marks",
            )
        rows.append((number, dict.fromkeys(known, "") | dict(zip(header, fields, strict=False))))
    return rows


def part_in(row: str, *, path: Path, number: int) -> Part | None:
    """The part that a split field names; None for an empty one."""
    part = part_of(row)
    if row and part is None:
        raise DatasetError(
            f"row {number} of '{path}' has split '{row}'", hint="use train, val or test, or leave the field empty"
        )
    return part


def _check_header(path: Path, header: list[str], *, known: tuple[str, ...], required: str) -> None:
    columns = f"columns are {', '.join(known)}"
    if unknown := [name for name in header if name not in known and name]:
        raise DatasetError(
            f"'{path}' has columns that uvea does not know: {listed(unknown)}", hint=f"remove them; {columns}"
        )
    if required not in header:
        raise DatasetError(f"'{path}' has no column '{required}'", hint=f"name it in the first line; {columns}")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DatasetError(f"'{path}' has the column {listed(twice)} twice", hint="remove or rename one of them")


def _case(path: Path, number: int, row: dict[str, str]) -> Case:
    images = tuple(_file(path, number, field.strip()) for field in row["image"].split(";") if field.strip())
    if not images:
        raise DatasetError(f"row {number} of '{path}' has no image", hint="fill in the column image, or remove the row")
    return Case(
        name=_stem(images),
        images=images,
        mask=_file(path, number, row["mask"]) if row["mask"] else None,
        group=row["group"] or None,
        part=part_in(row["split"], path=path, number=number),
    )


def _file(table: Path, number: int, field: str) -> Path:
    path = table.parent / field
    try:
        there = path.is_file()
    except (OSError, ValueError):  # no name that a file could have
        there = False
    if not there:
        raise DatasetError(
            f"row {number} of '{table}': there is no file '{field}'",
            hint=f"give paths relative to the table's folder, '{table.parent}'",
        )
    return path


def _stem(images: tuple[Path, ...]) -> str:
    stem = stem_of(images[0])
    channel = channel_of(stem) if len(images) > 1 else None
    return channel[0] if channel else stem


def _with_unique_names(cases: list[Case], root: Path) -> list[Case]:
    """Name cases by their file; by their path below the table's folder where files of two folders share a name."""
    if len({case.name for case in cases}) == len(cases):
        return cases
    longer = []
    for case in cases:
        # Without "..": a name must not lead out of a folder that it is used in.
        folder, top = (Path(os.path.abspath(path)) for path in (case.images[0].parent, root))
        inside = folder.relative_to(top) if folder.is_relative_to(top) else folder.relative_to(folder.anchor)
        longer.append(replace(case, name=(inside / case.name).as_posix()))
    seen: dict[str, Case] = {}
    for case in longer:
        if case.name in seen:
            raise DatasetError(
                f"two images of one name: {listed([seen[case.name].images[0], case.images[0]])}",
                hint="rename one of them, or remove its row",
            )
        seen[case.name] = case
    return longer
