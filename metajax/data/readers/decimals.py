"""Decimal marks of numbers in text: points or commas."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from metajax.data.readers.dialect import is_number
from metajax.data.readers.frames import Frame, polars_module
from metajax.data.readers.text import DataError, is_missing
from metajax.data.reading import Decimal
from metajax.files import Option

__all__ = ["Notation", "notation_of", "pointed"]

# Groups of thousands do not begin with 0: 0.125 is no 125.
_FORMS = {
    mark: re.compile(rf"[+-]?([0-9]+|[1-9][0-9]{{0,2}}(\{other}[0-9]{{3}})+)(\{mark}[0-9]+)?")
    for mark, other in ((".", ","), (",", "."))
}


class Notation(NamedTuple):
    """Notation of the numbers of a column."""

    points: dict[str, str]
    """Fields that are written otherwise, each with a point for decimals and nothing between
    thousands."""
    numeric: bool
    """Every field that is not missing is a number in some notation."""
    unclear: tuple[str | Option, ...] = ()
    """The question that has to be answered before the column can be read."""
    field: str = ""
    """The first field that raises it."""

    def notes(self, column: str) -> tuple[str, ...]:
        """Names what is read otherwise than written, a sentence a kind."""
        found: dict[str, str] = {}
        for field, number in self.points.items():
            kind = "decimal commas" if "," in field and "." in number else "thousands apart"
            found.setdefault(kind, f"{field.strip()} is read as {number}")
        return tuple(f"column {column!r} has {kind}: {example}" for kind, example in found.items())


def notation_of(fields: Iterable[str | None], decimal: Decimal | None = None) -> Notation:
    """Recognises the decimal mark of a column.

    Commas are for decimals where no number has a point and not all commas are followed by three
    digits, as those between thousands are. With `decimal` given, the other mark may separate
    thousands; a column with points alone, which are not between thousands, has decimal points
    whatever is given.

    Args:
        fields: The fields of the column.
        decimal: The decimal mark, if it is given.

    Returns:
        The notation; where it is not clear, the question.

    Example:
        >>> notation_of(["3,5", "4"]).points, notation_of(["1.000,5"], ",").points
        ({'3,5': '3.5'}, {'1.000,5': '1000.5'})
        >>> str(notation_of(["1,000", "20"]).unclear[0])
        "commas, as in '1,000', may be for decimals or between thousands; if so, give "
    """
    stated = {field: field.strip() for field in fields if field is not None}
    stated = {field: text for field, text in stated.items() if not is_missing(text)}
    read = {mark: {field: _read(text, mark) for field, text in stated.items()} for mark in _FORMS}
    numbers = [field for field in stated if any(read[mark][field] for mark in _FORMS)]
    numeric = all(field in numbers or is_number(stated[field]) for field in stated)
    with_comma = [field for field in numbers if "," in field]
    fitting = [mark for mark in (",", ".") if all(read[mark][field] for field in numbers)]
    if decimal is None:
        if not with_comma:
            return Notation({}, numeric)
        simple = not any("." in field for field in numbers)
        thousands = all(re.search(r",[0-9]{3}$", stated[field]) for field in with_comma)
        if "," not in fitting or not simple or thousands:
            return Notation({}, numeric, _question(stated, read, fitting), with_comma[0])
        decimal = ","
    if decimal not in fitting and with_comma:
        wrong = next(field for field in numbers if not read[decimal][field])
        words = ("must be a number with ", Option("decimal", decimal), f", got {stated[wrong]!r}.")
        return Notation({}, numeric, words, wrong)
    points = {field: read[decimal][field] for field in numbers} if decimal in fitting else {}
    return Notation({f: n for f, n in points.items() if n and n != stated[f]}, numeric)


def pointed(
    table: Frame,
    columns: Sequence[str | None],
    decimal: Decimal | None = None,
    *,
    among_words: bool = True,
) -> tuple[Frame, tuple[str, ...]]:
    """Writes numbers of some columns with a point for decimals and nothing between thousands.

    Args:
        table: The table.
        columns: Names of columns; None is no column.
        decimal: The decimal mark, if it is given.
        among_words: True to write numbers so in columns with other fields, too.

    Returns:
        The table, and notes on what is read otherwise than written.

    Raises:
        DataError: If the notation of a column is not clear.
    """
    pl, notes = polars_module(), ()
    for name in columns:
        if name is None or table.frame[name].dtype != pl.String:
            continue
        column = table.frame[name]
        # A log has as many times as rows, and few have marks.
        if not column.str.contains("[.,]" if decimal == "," else ",").any():
            continue
        found = notation_of(column.unique(maintain_order=True), decimal)
        if not (found.numeric or among_words):
            continue
        if found.unclear:
            row = int(column.index_of(found.field) or 0)
            raise DataError(*found.unclear, column=name, **table.place(row))  # pyrefly: ignore
        table = table._replace(frame=table.frame.with_columns(column.replace(found.points)))
        notes += found.notes(name)
    return table, notes


def _read(text: str, mark: str) -> str | None:
    if not _FORMS[mark].fullmatch(text):
        return None
    return text.replace("." if mark == "," else ",", "").replace(mark, ".")


def _question(
    stated: Mapping[str, str], read: Mapping[str, Mapping[str, str | None]], fitting: Sequence[str]
) -> tuple[str | Option, ...]:
    """Asks for the mark, where some would do; else for one notation."""
    wrong = {mark: [stated[f] for f, number in read[mark].items() if not number] for mark in _FORMS}
    if not fitting:
        return (
            f"{wrong['.'][0]!r} and {wrong[','][0]!r} are not of one notation: write decimals "
            "with a point, and thousands without a separator.",
        )
    example = next(text for text in stated.values() if "," in text)
    points = (
        ", and points between thousands" if any("." in text for text in stated.values()) else ""
    )
    uses = {",": f"for decimals{points}", ".": "between thousands"}
    either = " or ".join(uses[mark] for mark in fitting)
    options = [part for mark in fitting for part in (" or ", Option("decimal", mark))][1:]
    return f"commas, as in {example!r}, may be {either}; if so, give ", *options, "."
