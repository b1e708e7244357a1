"""Dialect of delimited text: encoding, separator, header line."""

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from metajax.files import DataError, Option

__all__ = ["BLANKS", "Dialect", "dialect_of", "is_number", "rows_of", "utf8_of"]

BLANKS = " "
"""The separator that means any run of blanks."""

_CANDIDATES = (",", "\t", ";", "::", "|", BLANKS)
# By the ending of a file's name; the others follow.
_PREFERRED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_LINES = 50
_BYTES = 1 << 16


class Dialect(NamedTuple):
    """Layout of delimited text."""

    separator: str
    """One character, in whose fields quotes may hold separators and line breaks; or several
    characters, or `BLANKS`, where a quote is a character like any other."""
    names: list[str]
    """Names of the columns; their places, from "1", where there is no header."""
    has_header: bool
    """The first line names the columns."""


def utf8_of(data: bytes, file: str, encoding: str | None = None) -> bytes:
    """Returns text as UTF-8 without byte order mark, carriage returns alone and blank last lines.

    Args:
        data: Bytes of the file.
        file: Its name, for errors.
        encoding: Its encoding; None means UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        DataError: If a byte cannot be decoded, there is a NUL character, or nothing is left.
    """
    if encoding is None and data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    if encoding is None:
        data = data.removeprefix(b"\xef\xbb\xbf")
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"byte 0x{data[error.start]:02x} is not utf-8 text; name the encoding, as in ",
                    Option("encoding", "cp1252"),
                    " or latin-1.",
                    file=file,
                    line=data[: error.start].count(b"\n") + 1,
                ) from None
    else:
        try:
            data = data.decode(encoding).removeprefix("\ufeff").encode()
        except UnicodeError as error:
            start = getattr(error, "start", 0)
            raise DataError(
                f"byte 0x{data[start : start + 1].hex()} is not {encoding} text.",
                file=file,
                line=data[:start].count(b"\n") + 1,
            ) from None
    if b"\0" in data:
        at = data.index(b"\0")
        raise DataError(
            "a NUL character is here; if it is text in UTF-16, give ",
            Option("encoding", "utf-16-le"),
            " or utf-16-be.",
            file=file,
            line=data[:at].count(b"\n") + 1,
        )
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    data = data.rstrip(b"\r\n")
    if not data.strip():
        raise DataError("the file is empty.", file=file, line=1)
    return data


def dialect_of(
    data: bytes,
    file: str,
    kind: str,
    *,
    separator: str | None = None,
    header: bool | None = None,
    known: Callable[[Sequence[str]], int],
    given: Sequence[str | int | None] = (),
    numbers: Sequence[str | int | None] = (),
) -> Dialect:
    """Recognises separator and header.

    Args:
        data: From `utf8_of`.
        file: Name of the file, for errors.
        kind: Ending of its name.
        separator: The separator, if it is given.
        header: True or False, if it is given.
        known: Number of column names that are recognised.
        given: Columns that are named, or given by place.
        numbers: Those of them that hold numbers.

    Returns:
        The dialect.

    Raises:
        DataError: If it cannot be told whether the first line is a header, or it names two columns
            alike.
    """
    head = data[:_BYTES]
    if separator is None:
        separator = _separator(head, kind, known)
    elif separator in ("\\t", "tab"):
        separator = "\t"
    elif separator in ("space", "blank"):
        separator = BLANKS
    top = [row for _, row in itertools.islice(rows_of(data, separator, file), 2)]
    first = top[0]
    if header is None:
        header = _is_header(top, file, known, given, numbers)
    if not header:
        return Dialect(separator, [str(n) for n in range(1, len(first) + 1)], False)
    repeated = [name for name in first if first.count(name) > 1]
    if repeated:
        raise DataError(f"the header names {repeated[0]!r} twice.", file=file, line=1)
    return Dialect(separator, first, True)


def rows_of(data: bytes, separator: str, file: str = "") -> Iterator[tuple[int, list[str]]]:
    """Yields each row with its line, slowly: for errors, and where polars gives up.

    Raises:
        DataError: If a quoted field is malformed or longer than 131,072 characters.
    """
    text = data.decode(errors="replace")
    if len(separator) > 1 or separator == BLANKS:
        for line, row in enumerate(text.split("\n"), 1):
            row = row.removesuffix("\r")
            fields = row.split() if separator == BLANKS else row.split(separator)
            yield line, fields if row.strip() else []
        return
    # No text holds NUL. A quote that is not closed takes the rest of the file into its field, this
    # row too.
    end = ["\0"]
    reader, line = csv.reader(io.StringIO(f"{text}\n\0", newline=""), delimiter=separator), 1
    try:
        for row in reader:
            if row == end:
                return
            if row and row[-1].endswith("\0"):
                raise DataError("a quote is not closed.", file=file, line=line)
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{error}.", file=file, line=line) from None


def is_number(field: str) -> bool:
    """True if a field is a number."""
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field


def _separator(head: bytes, kind: str, known: Callable[[Sequence[str]], int]) -> str:
    """Chooses the separator by which most column names are recognised and most rows are alike."""
    # The last line of the head may be cut.
    whole = head[: head.rfind(b"\n")] if len(head) == _BYTES and b"\n" in head else head
    preferred = _PREFERRED.get(kind)
    candidates = [preferred] if preferred else []
    candidates += [one for one in _CANDIDATES if one != preferred]

    def fit(separator: str) -> tuple[int, float]:
        rows = []
        try:
            for _, row in rows_of(whole, separator):
                rows.append(row)
                if len(rows) == _LINES:
                    break
        except DataError:
            pass
        rows = [row for row in rows if row]
        if not rows or len(rows[0]) < 2:
            return 0, 0.0
        alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        return min(known(rows[0]), 2), alike

    # Of equals the first.
    best = max(candidates, key=fit)
    return best if fit(best) > (0, 0.0) else candidates[0]


def _is_header(
    top: Sequence[Sequence[str]],
    file: str,
    known: Callable[[Sequence[str]], int],
    given: Sequence[str | int | None],
    numbers: Sequence[str | int | None],
) -> bool:
    """Tells by the first two rows whether the first is a header."""
    first = top[0]
    named = [column for column in given if isinstance(column, str) and not column.isdecimal()]
    if named or known(first):
        return True
    places = [int(column) for column in given if column is not None]
    if not places:
        if any(map(is_number, first)):
            raise DataError(
                f"no header is recognised ({', '.join(map(repr, first[:6]))}); if there is none, "
                "give the columns by place, such as ",
                Option("user_column", 1),
                " ",
                Option("item_column", 2),
                " ",
                Option("rating_column", 3),
                ".",
                file=file,
                line=1,
            )
        return True
    values = [int(column) for column in numbers if column is not None]
    for place in values:
        words = [row[place - 1] for row in top if place <= len(row)]
        # With a decimal comma, too.
        numeric = [is_number(word.replace(",", ".", 1)) for word in words]
        if numeric == [False, True]:
            return True
    if values or any(is_number(first[place - 1]) for place in places if place <= len(first)):
        return False
    raise DataError(
        f"the first line may be a header or not ({', '.join(map(repr, first[:6]))}); give ",
        Option("header", True),
        " or ",
        Option("header", False),
        ".",
        file=file,
        line=1,
    )
