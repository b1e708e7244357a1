"""Delimited text as columns of strings with line numbers, and errors with file and line.

Standard library only: reading MovieLens-100K must not need an extra.
"""

import csv
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np

from metajax.files import DataError, decoded

__all__ = [
    "DataError",
    "Place",
    "TextTable",
    "decode_lines",
    "delimited",
    "integer_of",
    "is_missing",
    "no_number",
    "number_of",
    "parsed",
    "quoted",
    "shown",
]

T = TypeVar("T")

_MISSING = ("", "nan", "na", "n/a", "<na>", "null", "none", "\\n")


class Place(TypedDict, total=False):
    """Position of a row: a line of a text file, or a row of a binary one, both from 1."""

    file: str
    line: int
    row: int


class TextTable(NamedTuple):
    """A file of delimited text."""

    file: str
    """Its origin, for errors."""
    columns: dict[str, Sequence[str]]
    """Column name to its fields, one a row."""
    lines: Sequence[int]
    """The line on which each row begins, from 1."""


def decode_lines(data: bytes, file: str, encoding: str = "utf-8-sig") -> list[str]:
    """Decodes a file and splits it into lines, without the blank ones at its end.

    Args:
        data: The file's bytes.
        file: Its name, for errors.
        encoding: Of the text.

    Returns:
        At least one line; a carriage return stays.

    Raises:
        DataError: If there is no line, or a byte cannot be decoded.
    """
    text = decoded(data, file, encoding)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError("a NUL character is here; it must be text.", file=file, line=line)
    # Not splitlines: it also splits at characters that an editor keeps inside a line.
    lines = text.rstrip("\r\n").split("\n")
    if lines == [""]:
        raise DataError("the file is empty.", file=file)
    return lines


def delimited(
    data: bytes,
    file: str,
    separator: str,
    *,
    header: Sequence[str] | None = None,
    encoding: str = "utf-8-sig",
) -> TextTable:
    r"""Splits every line at the separator; a quote is a character like any other.

    Args:
        data: The file's bytes.
        file: Its name, for errors.
        separator: One or more characters.
        header: The column names of a file without a header line; None reads the first line.
        encoding: Of the text.

    Returns:
        The columns; empty ones if there is a header only.

    Raises:
        DataError: If the file is empty, a byte cannot be decoded, a name is repeated in the
            header, or a line has another number of fields.

    Example:
        >>> delimited(b'a\tb\n1\t"2\n', "x.tsv", "\t").columns
        {'a': ('1',), 'b': ('"2',)}
    """
    rows = [line.removesuffix("\r").split(separator) for line in decode_lines(data, file, encoding)]
    first = 1
    if header is None:
        header, rows, first = rows[0], rows[1:], 2
    return _table(file, header, rows, range(first, first + len(rows)))


def quoted(data: bytes, file: str, separator: str = ",") -> TextTable:
    r"""Reads UTF-8 CSV with a header, in which quotes may hold separators and line breaks.

    Args, Returns and Raises: as in `delimited`.

    Example:
        >>> quoted(b'id,title\n1,"Postino, Il"\n', "movies.csv").columns["title"]
        ('Postino, Il',)
    """
    reader = csv.reader((line + "\n" for line in decode_lines(data, file)), delimiter=separator)
    rows, lines, line = [], [], 1
    try:
        for row in reader:
            rows.append(row)
            lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{error}.", file=file, line=line) from None
    return _table(file, rows[0], rows[1:], lines[1:])


def parsed(table: TextTable, column: str, parse: Callable[[str], T]) -> list[T]:
    """Applies a parser to a column; each distinct text is parsed once.

    Args:
        table: The file.
        column: Index of the column.
        parse: Turns a field into a value; its ValueError is raised again with line and column.

    Returns:
        One value a row.

    Raises:
        DataError: If a field cannot be parsed; it names the first.
    """
    fields = table.columns[column]
    values: dict[str, T] = {}
    for field in dict.fromkeys(fields):
        try:
            values[field] = parse(field)
        except ValueError as error:
            # A dict keeps the order of insertion, so this is the first bad row.
            line = table.lines[fields.index(field)]
            raise DataError(str(error), file=table.file, line=line, column=column) from None
    return [values[field] for field in fields]


def number_of(field: str) -> float:
    """Parses a finite number that float32 can hold."""
    try:
        # Python reads 1_000 as a number; no data file means that.
        value = math.nan if "_" in field else float(field)
    except ValueError:
        value = math.nan
    if not abs(value) <= np.finfo(np.float32).max:
        raise ValueError(no_number(field))
    return value


def no_number(field: str | None) -> str:
    """Returns the error of a field that is no number, with a hint where it has a comma."""
    said = f"must be a finite number, got {'nothing' if field is None else shown(field)}"
    if field is not None and re.fullmatch(r"\s*[+-]?[0-9][0-9.,]*,[0-9]+\s*", field):
        return f"{said}: write decimals with a point, and thousands without a separator."
    return f"{said}."


def is_missing(field: str | None) -> bool:
    """True for an empty field, and for a common marker of a missing value, such as NaN.

    Example:
        >>> is_missing(" "), is_missing("NaN"), is_missing("0")
        (True, True, False)
    """
    return field is None or field.strip().lower() in _MISSING


def integer_of(field: str) -> int:
    """Parses a number and rounds it to a 64-bit integer."""
    try:
        value = int(field)
    except ValueError:
        value = round(number_of(field))
    if "_" in field or not -(2**63) <= value < 2**63:
        raise ValueError(f"must be a number of at most 64 bits, got {shown(field)}.")
    return value


def shown(field: str) -> str:
    """Quotes a field for an error line, cut to 40 characters."""
    return repr(field if len(field) <= 40 else field[:37] + "...")


def _table(
    file: str, header: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[int]
) -> TextTable:
    repeated = [name for name in header if list(header).count(name) > 1]
    if repeated:
        raise DataError(f"the header names {repeated[0]!r} twice.", file=file, line=1)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise DataError(
                f"must have {len(header)} fields ({', '.join(header)}), got {len(row)}.",
                file=file,
                line=line,
            )
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    return TextTable(file, dict(zip(header, columns, strict=True)), lines)
