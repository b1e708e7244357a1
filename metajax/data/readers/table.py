"""Reader of logs in CSV, TSV or Parquet by polars: 5 million lines in seconds."""

import csv
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from metajax.data.dataset import Dataset
from metajax.data.readers.assembly import Duplicates, Log, Scale, assemble, find_roles
from metajax.data.readers.text import DataError, Place, decode_lines, shown
from metajax.files import check_file, read_bytes

if TYPE_CHECKING:
    import polars

__all__ = ["SEPARATORS", "read_table"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}

# Row, column and message to the error to raise.
Wrong = Callable[[int, str, str], DataError]


def read_table(
    path: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    duplicates: Duplicates = "error",
    scale: Scale | None = None,
) -> Dataset:
    """Reads a log from a CSV, TSV or Parquet file.

    Ids stay strings as written ("001" is not 1); whole numbers of a Parquet file become strings.
    Times are numbers, rounded to integers in the source's unit, or ISO date-times, which become
    seconds since 1970 in UTC. A log without a rating column is implicit.

    Args:
        path: The file; text has a header and is UTF-8.
        user: The column of user ids; None recognises it. `item`, `rating` and `time` alike.
        item: The column of item ids.
        rating: The column of ratings.
        time: The column of times.
        duplicates: As in `assemble`.
        scale: As in `assemble`.

    Returns:
        The data set, named by its path, without features.

    Raises:
        ImportError: If polars is not installed.
        DataError: If the file is missing or not as described; it names file, line and column.
    """
    try:
        import polars as pl
    except ImportError:
        raise ImportError(
            "reading CSV, TSV or Parquet logs needs polars: pip install 'metajax[cli]'."
        ) from None
    file = check_file(path)
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        frame, place = _parquet(file, pl), _row
    elif suffix in SEPARATORS:
        frame = _text(file, SEPARATORS[suffix], pl)
        place = functools.partial(_line, file, SEPARATORS[suffix])
    else:
        known = ", ".join([*SEPARATORS, ".parquet"])
        raise DataError(f"the name must end in one of {known}.", file=path)
    roles = find_roles(path, frame.columns, user=user, item=item, rating=rating, time=time)
    if not frame.height:
        raise DataError("there is a header and no interactions.", file=path)

    def wrong(row: int, column: str, message: str) -> DataError:
        return DataError(message, file=path, column=column, **place(row))

    user_ids, users = _codes(frame[roles.user], wrong, pl)
    item_ids, items = _codes(frame[roles.item], wrong, pl)
    log = Log(
        file=str(path),
        roles=roles,
        user=users,
        item=items,
        rating=None if roles.rating is None else _numbers(frame[roles.rating], wrong, pl),
        time=None if roles.time is None else _times(frame[roles.time], wrong, pl),
        user_ids=user_ids,
        item_ids=item_ids,
        place=place,
    )
    return assemble(str(path), log, duplicates=duplicates, scale=scale)


def _parquet(file: Path, pl: ModuleType) -> "polars.DataFrame":
    try:
        return pl.read_parquet(file, glob=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"not a Parquet file: {_first_line(error)}", file=file) from None


def _text(file: Path, separator: str, pl: ModuleType) -> "polars.DataFrame":
    _, header = next(_rows(file, separator), (1, [""]))
    if not any(header):
        raise DataError("the file is empty.", file=file, line=1)
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise DataError(f"the header names {repeated[0]!r} twice.", file=file, line=1)
    try:
        frame = pl.read_csv(file, separator=separator, infer_schema=False, glob=False)
    except pl.exceptions.PolarsError as error:
        _check_fields(file, separator)
        raise DataError(_first_line(error), file=file) from None
    frame = frame.head(frame.height - _blank_lines_at_end(file))
    # Polars fills a line that is too short; its last field is then missing.
    if frame.height and frame[frame.columns[-1]].null_count():
        _check_fields(file, separator)
    return frame


def _rows(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each row with its line: slow, for errors only."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader, line = csv.reader(text, delimiter=separator), 1
        try:
            for row in reader:
                yield line, row
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{error}.", file=file, line=line) from None
        except UnicodeDecodeError:
            decode_lines(read_bytes(file), str(file))
            raise


def _check_fields(file: Path, separator: str) -> None:
    blank_from, rows = None, _rows(file, separator)
    _, header = next(rows)
    for line, row in rows:
        if not row:
            blank_from = blank_from or line
        elif blank_from is not None or len(row) != len(header):
            raise DataError(
                f"must have {len(header)} fields ({', '.join(header)}), "
                f"got {0 if blank_from else len(row)}.",
                file=file,
                line=blank_from or line,
            )


def _blank_lines_at_end(file: Path) -> int:
    with file.open("rb") as data:
        data.seek(max(0, file.stat().st_size - 4096))
        tail = data.read()
    return max(0, tail[len(tail.rstrip(b"\r\n")) :].count(b"\n") - 1)


def _line(file: Path, separator: str, row: int) -> Place:
    line, _ = next(itertools.islice(_rows(file, separator), row + 1, None))
    return {"line": line}


def _row(row: int) -> Place:
    return {"row": row + 1}


def _codes(column: "polars.Series", wrong: Wrong, pl: ModuleType) -> tuple[np.ndarray, np.ndarray]:
    if not (column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum)):
        raise wrong(0, column.name, f"ids must be strings or whole numbers, got {column.dtype}.")
    column = column.cast(pl.String)
    # Sorting the few distinct ids and looking each row's up is several times faster than
    # sorting the rows.
    names = column.unique().sort()
    if any(name is None or not name.strip() for name in names):
        empty = column.is_null() | (column.str.strip_chars() == "")
        raise wrong(_first(empty), column.name, "an id must not be empty.")
    codes = column.cast(pl.Enum(names)).to_physical().to_numpy()
    return np.array(names.to_list(), dtype=str), codes.astype(np.int64)


def _numbers(column: "polars.Series", wrong: Wrong, pl: ModuleType) -> np.ndarray:
    values = _cast(column, pl.Float64, pl).to_numpy()
    bad = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(bad):
        row = int(bad[0])
        raise wrong(row, column.name, f"must be a finite number, got {_shown(column[row])}.")
    return values


def _times(column: "polars.Series", wrong: Wrong, pl: ModuleType) -> np.ndarray:
    if column.dtype == pl.String or column.dtype.is_integer():
        number = _cast(column, pl.Int64, pl)
        if not number.null_count():
            return number.to_numpy()
    if column.dtype == pl.String and _cast(column.head(1), pl.Float64, pl).null_count():
        return _seconds(column, wrong, pl)
    if column.dtype in (pl.Date, pl.Datetime):
        if column.null_count():
            row = _first(column.is_null())
            raise wrong(row, column.name, "must be a time, got nothing.")
        return column.cast(pl.Datetime("us")).dt.epoch("s").to_numpy()
    numbers = _numbers(column, wrong, pl)
    large = np.flatnonzero(np.abs(numbers) >= 2.0**63)
    if len(large):
        row = int(large[0])
        got = _shown(column[row])
        raise wrong(row, column.name, f"must be a number of at most 64 bits, got {got}.")
    return np.rint(numbers).astype(np.int64)


def _seconds(column: "polars.Series", wrong: Wrong, pl: ModuleType) -> np.ndarray:
    def slow(row: int) -> int:
        try:
            date = datetime.fromisoformat(column[row].strip())
        except (AttributeError, ValueError):
            got = _shown(column[row])
            message = f"must be a number or an ISO date-time, got {got}."
            raise wrong(row, column.name, message) from None
        return math.floor((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())

    # Polars takes the form of the first row, and would take 01/02/2020 for the first of February.
    slow(0)
    try:
        dates = column.str.to_datetime(time_zone="UTC", strict=False)
    except pl.exceptions.PolarsError:
        dates = pl.Series([None] * len(column), dtype=pl.Datetime("us", "UTC"))
    seconds = dates.dt.epoch("s").fill_null(0).to_numpy().copy()
    # Fractions of a second come and go, which older versions of it do not follow.
    for row in np.flatnonzero(dates.is_null().to_numpy()).tolist():
        seconds[row] = slow(row)
    return seconds


def _cast(column: "polars.Series", dtype: type, pl: ModuleType) -> "polars.Series":
    values = column.cast(dtype, strict=False)
    if values.null_count() and column.dtype == pl.String:
        values = column.str.strip_chars().cast(dtype, strict=False)
    return values


def _first(which: "polars.Series") -> int:
    return int(np.argmax(which.to_numpy()))


def _shown(value: object) -> str:
    return "nothing" if value is None else shown(str(value))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
