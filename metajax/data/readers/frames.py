"""Tables as polars frames: delimited text, JSON lines, Parquet, and frames in memory."""

import csv
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metajax.data.readers.contents import Content
from metajax.data.readers.dialect import BLANKS, Dialect, dialect_of, rows_of, utf8_of
from metajax.data.readers.text import DataError, Place, shown
from metajax.data.reading import Reading
from metajax.files import check_file

if TYPE_CHECKING:
    import polars

__all__ = [
    "Frame",
    "frame_in_memory",
    "frame_of",
    "frame_of_json",
    "frame_of_text",
    "json_endings",
    "polars_module",
    "table_endings",
]

_TEXT = (".csv", ".tsv", ".tab", ".psv", ".txt", ".dat", ".data")
json_endings = (".jsonl", ".ndjson", ".json")
"""Endings of files of JSON."""
table_endings = (*_TEXT, *json_endings, ".parquet")
"""Endings of files that `frame_of` reads."""

_LONE_RETURN = re.compile(rb"\r(?!\n)")


class Frame(NamedTuple):
    """A table: fields of text, or values with types of their own."""

    file: str
    """Its origin, for errors."""
    frame: "polars.DataFrame"
    """The columns."""
    place: Callable[[int], Place]
    """Index of a row to its place in the file."""


def polars_module() -> ModuleType:
    """Imports polars.

    Raises:
        ImportError: If it is not installed; names the extra.
    """
    try:
        import polars
    except ImportError:
        raise ImportError(
            "reading CSV, TSV, JSON or Parquet tables needs polars: pip install 'metajax[cli]'."
        ) from None
    return polars


def frame_of(
    content: Content,
    reading: Reading,
    *,
    known: Callable[[Sequence[str]], int],
    given: Sequence[str | int | None] = (),
    numbers: Sequence[str | int | None] = (),
) -> Frame:
    """Reads a file as a table.

    Args:
        content: The file, of one of `table_endings`.
        reading: Gives encoding, separator and header of text.
        known: As in `dialect_of`.
        given: As in `dialect_of`.
        numbers: As in `dialect_of`.

    Returns:
        The table; fields of text are strings, empty ones null.

    Raises:
        ImportError: If polars is not installed.
        DataError: If the file is not as its name says.
    """
    pl = polars_module()
    if content.kind == ".parquet":
        return _parquet(content, pl)
    data = utf8_of(content.read(), content.name, reading.encoding)
    if content.kind in json_endings:
        return frame_of_json(content.name, data)
    dialect = dialect_of(
        data,
        content.name,
        content.kind,
        separator=reading.separator,
        header=reading.header,
        known=known,
        given=given,
        numbers=numbers,
    )
    return frame_of_text(content.name, data, dialect)


def frame_of_text(file: str, data: bytes, dialect: Dialect) -> Frame:
    """Reads delimited text as a table.

    Args:
        file: Its name, for errors.
        data: From `utf8_of`.
        dialect: Its layout.

    Raises:
        DataError: If a row has another number of fields, or a quote is not closed.
    """
    pl = polars_module()
    try:
        frame = _text(file, data, dialect, pl)
    except DataError:
        # Some programs write a quote within quotes as \" in the place of "".
        if b'\\"' not in data:
            raise
        data = data.replace(b'\\"', b'""')
        frame = _text(file, data, dialect, pl)
    return Frame(file, frame, _line(file, data, dialect))


def frame_of_json(file: str, data: bytes) -> Frame:
    """Reads lines of JSON objects, or one list of them, as a table.

    Args:
        file: Its name, for errors.
        data: From `utf8_of`.

    Raises:
        DataError: If it is no JSON, or not of objects.
    """
    pl = polars_module()
    listed = data.lstrip().startswith(b"[")
    try:
        if listed:
            frame = pl.read_json(data, infer_schema_length=None)
        else:
            frame = pl.read_ndjson(data, infer_schema_length=None)
    except pl.exceptions.PolarsError as error:
        if not listed:
            _check_json_lines(data, file)
        raise DataError(f"not JSON: {_first_line(error)}", file=file) from None

    def place(row: int) -> Place:
        if listed:
            return {"file": file, "row": row + 1}
        lines = (n for n, line in enumerate(data.split(b"\n"), 1) if line.strip())
        return {"file": file, "line": next(itertools.islice(lines, row, None))}

    return Frame(file, frame, place)


def frame_in_memory(table: Any) -> Frame:
    """Takes a frame of polars, pandas or Arrow, a mapping of columns, or an array.

    Args:
        table: The table. Columns of an array without names are named by their places, from "1".

    Raises:
        ImportError: If polars is not installed.
        TypeError: If it is something else.
        ValueError: If its columns differ in length.
    """
    pl = polars_module()
    name = f"the {type(table).__name__}"
    if isinstance(table, pl.LazyFrame):
        table = table.collect()
    if isinstance(table, np.ndarray):
        table = _columns_of_array(table)
    if not isinstance(table, pl.DataFrame):
        if isinstance(table, Mapping):
            columns = {str(key): values for key, values in table.items()}
        elif hasattr(table, "columns") and hasattr(table, "iloc"):
            columns = {str(key): table.iloc[:, n] for n, key in enumerate(table.columns)}
        elif hasattr(table, "column_names") and hasattr(table, "to_pydict"):
            columns = table.to_pydict()
        else:
            raise TypeError(
                "data must be a name, a path, a frame, an array or a mapping of columns, got "
                f"{type(table).__name__}."
            )
        series = {key: _series(key, values, pl) for key, values in columns.items()}
        lengths = {key: len(one) for key, one in series.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns must be of one length, got {lengths}.")
        table = pl.DataFrame(list(series.values()))
    return Frame(name, table, lambda row: {"file": name, "row": row + 1})


def _columns_of_array(array: np.ndarray) -> dict[str, np.ndarray]:
    if array.dtype.names:
        return {name: array[name] for name in array.dtype.names}
    if array.ndim != 2:
        raise ValueError(f"an array must be [R, columns], got shape {array.shape}.")
    return {str(n): column for n, column in enumerate(array.T, 1)}


def _series(name: str, values: Any, pl: ModuleType) -> "polars.Series":
    found = values.to_numpy() if hasattr(values, "to_numpy") else np.asarray(values)
    if found.dtype.kind in "iufbM":
        return pl.Series(name, found)
    if found.dtype.kind in "US":
        return pl.Series(name, found.astype(str).tolist(), dtype=pl.String)
    # Objects: texts, whole numbers, and the several values that mean nothing.
    cells = [None if _is_nothing(one) else one for one in found.tolist()]
    if all(isinstance(one, int) or one is None for one in cells):
        return pl.Series(name, cells)
    if any(hasattr(one, "isoformat") for one in cells):
        cells = [one.isoformat() if hasattr(one, "isoformat") else one for one in cells]
    return pl.Series(name, [None if one is None else str(one) for one in cells], dtype=pl.String)


def _is_nothing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def _parquet(content: Content, pl: ModuleType) -> Frame:
    source = content.path
    try:
        if source is not None:
            frame = pl.read_parquet(check_file(source), glob=False)
        else:
            frame = pl.read_parquet(content.read())
    except pl.exceptions.PolarsError as error:
        raise DataError(f"not a Parquet file: {_first_line(error)}", file=content.name) from None
    except OSError as error:
        raise DataError(f"not a Parquet file: {error.strerror}.", file=content.name) from None
    except pl.exceptions.PanicException as error:
        raise DataError(f"not a Parquet file: {_first_line(error)}", file=content.name) from None
    return Frame(content.name, frame, lambda row: {"file": content.name, "row": row + 1})


def _check_json_lines(data: bytes, file: str) -> None:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            rule = getattr(error, "msg", "too deep")
            raise DataError(f"not JSON: {rule}.", file=file, line=number) from None
        if not isinstance(value, dict):
            raise DataError(
                f"must be an object in braces, got {shown(line.decode())}.", file=file, line=number
            )


def _text(file: str, data: bytes, dialect: Dialect, pl: ModuleType) -> "polars.DataFrame":
    names, separator = dialect.names, dialect.separator
    if len(separator) > 1 or separator == BLANKS:
        return _split_lines(file, data, dialect, pl)
    # A carriage return alone ends a row, or is refused; polars would keep it in a field. And it
    # takes separators of one byte.
    if _LONE_RETURN.search(data) or not separator.isascii():
        return _slow_frame(file, data, dialect, "the rows cannot be told.", pl)
    try:
        frame = pl.read_csv(
            data,
            has_header=dialect.has_header,
            separator=separator,
            infer_schema=False,
            new_columns=names,
        )
    except pl.exceptions.PolarsError as error:
        return _slow_frame(file, data, dialect, _first_line(error), pl)
    if frame.width != len(names):
        return _slow_frame(file, data, dialect, "the columns cannot be told.", pl)
    # Polars fills a line that is too short; its last field is then missing.
    if frame.height and frame[frame.columns[-1]].null_count():
        _check_fields(file, data, dialect)
    return frame


def _slow_frame(
    file: str, data: bytes, dialect: Dialect, why: str, pl: ModuleType
) -> "polars.DataFrame":
    """Reads by Python's parser what polars refuses, such as a quote in the middle of a field."""
    _check_fields(file, data, dialect)
    try:
        rows = [
            row
            for _, row in itertools.islice(
                rows_of(data, dialect.separator, file), int(dialect.has_header), None
            )
        ]
    except csv.Error:
        raise DataError(why, file=file) from None
    columns = list(zip(*rows, strict=True)) or [()] * len(dialect.names)
    return pl.DataFrame(
        [
            pl.Series(name, [field or None for field in fields], dtype=pl.String)
            for name, fields in zip(dialect.names, columns, strict=True)
        ]
    )


def _split_lines(file: str, data: bytes, dialect: Dialect, pl: ModuleType) -> "polars.DataFrame":
    lines = pl.Series("line", data.decode().split("\n"), dtype=pl.String).str.strip_chars_end("\r")
    if dialect.has_header:
        lines = lines.slice(1)
    separator = dialect.separator
    if separator == BLANKS:
        lines, separator = lines.str.strip_chars().str.replace_all(r"\s+", " "), " "
    parts = lines.str.split(separator)
    wrong = (parts.list.len() != len(dialect.names)) | (lines == "")
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        count = 0 if lines[row] == "" else len(parts[row])
        raise _of_count(file, row + 1 + dialect.has_header, dialect, count)
    columns = [parts.list.get(n).alias(name) for n, name in enumerate(dialect.names)]
    frame = pl.DataFrame(columns)
    return frame.with_columns(pl.when(pl.all() != "").then(pl.all()))


def _check_fields(file: str, data: bytes, dialect: Dialect) -> None:
    blank_from = None
    for line, row in rows_of(data, dialect.separator, file):
        if not row:
            blank_from = blank_from or line
        elif blank_from is not None or len(row) != len(dialect.names):
            raise _of_count(file, blank_from or line, dialect, 0 if blank_from else len(row))


def _of_count(file: str, line: int, dialect: Dialect, got: int) -> DataError:
    names = f" ({', '.join(dialect.names)})" if dialect.has_header else ""
    return DataError(
        f"must have {len(dialect.names)} fields{names}, got {got}.", file=file, line=line
    )


def _line(file: str, data: bytes, dialect: Dialect) -> Callable[[int], Place]:
    def place(row: int) -> Place:
        rows = rows_of(data, dialect.separator, file)
        line, _ = next(itertools.islice(rows, row + dialect.has_header, None))
        return {"file": file, "line": line}

    return place


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
