"""Reader of logs in delimited text, JSON lines or Parquet by polars: 5 million lines in seconds."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metajax.data.dataset import Dataset, Table
from metajax.data.readers import assembly
from metajax.data.readers.assembly import Log, Roles, assemble
from metajax.data.readers.attributes import attributes_of, beside
from metajax.data.readers.contents import Content, content_of, contents_of
from metajax.data.readers.decimals import notation_of, pointed
from metajax.data.readers.events import check_weights_used, event_notes, event_weights
from metajax.data.readers.frames import (
    Frame,
    frame_in_memory,
    frame_of,
    polars_module,
    table_endings,
)
from metajax.data.readers.text import DataError, Place, is_missing, no_number, shown
from metajax.data.readers.trial import check_parquet
from metajax.data.reading import Reading, rule_of

if TYPE_CHECKING:
    import polars

__all__ = [
    "Parsed",
    "Tally",
    "described",
    "notes_of",
    "parsed",
    "parts_of",
    "read_memory",
    "read_table",
    "roles_of",
]

# Row, column and message to the error to raise.
Wrong = Callable[[int, str, str], DataError]

# Stems of the files of a split, by part.
_PARTS = (
    ("train", "training"),
    ("valid", "validation", "val", "dev"),
    ("test", "testing"),
)


def read_table(path: str | Path, reading: Reading = Reading()) -> Dataset:  # noqa: B008
    """Reads a log from a table, or from a folder or zip archive with one.

    Text (.csv, .tsv, .psv, .txt, .dat, .data), JSON (.jsonl, .ndjson, .json) or .parquet; text and
    JSON may be compressed (.gz, .zst, .bz2, .xz). Several Parquet files of a folder are one table.
    Files train, valid and test become the parts of a split, if no user is in two. Files
    users and items beside the log describe these.

    Ids stay strings as written ("001" is not 1); whole numbers become strings. Times are numbers,
    rounded to integers in the source's unit, or ISO date-times, which become seconds since 1970 in
    UTC. A log without a rating column is implicit. Numbers may have decimal commas, by
    `notation_of`.

    Args:
        path: The file, folder or archive.
        reading: Options; what is not given is recognised.

    Returns:
        The data set, named by its path.

    Raises:
        ImportError: If polars is not installed.
        DataError: If a file is missing or not as described; it names file, line and column.
    """
    chosen = _chosen(path)
    log, notes = _log_of_files(chosen.logs, chosen.parts, reading)
    users, more = _described(chosen.users, log, "user", reading)
    items, others = _described(chosen.items, log, "item", reading)
    log = log._replace(notes=(*notes, *log.notes, *more, *others))
    return assemble(str(path), log, users=users, items=items, reading=reading)


def read_memory(table: Any, reading: Reading = Reading()) -> Dataset:  # noqa: B008
    """Reads a log from a frame, a mapping of columns or an array.

    Args:
        table: As in `frame_in_memory`; columns of an array without names are user, item, rating and
            time in this order, unless `reading` gives places.
        reading: Options.

    Returns:
        The data set, named `memory`.

    Raises:
        ImportError: If polars is not installed.
        TypeError: If `table` is something else.
        DataError: If a value is not as it should be; it names row and column.
    """
    frame = frame_in_memory(table)
    if isinstance(table, np.ndarray) and not table.dtype.names:
        roles = dict(zip(("user", "item", "rating", "time"), frame.frame.columns, strict=False))
        if not any(getattr(reading, f"{role}_column") for role in assembly.role_names):
            frame = frame._replace(frame=frame.frame.rename({v: k for k, v in roles.items()}))
    log, notes = _log_of_frames([frame], None, reading)
    users, _ = _described(None, log, "user", reading)
    items, _ = _described(None, log, "item", reading)
    return assemble(
        "memory", log._replace(notes=notes + log.notes), users=users, items=items, reading=reading
    )


class _Chosen(NamedTuple):
    """Files of a log."""

    logs: list[Content]
    """Its tables, one or parts of one."""
    parts: list[int] | None
    """Part of the split of each table; None: there is no split."""
    users: Content | None
    """A file of user attributes beside it."""
    items: Content | None
    """A file of item attributes beside it."""


def _chosen(path: str | Path) -> _Chosen:
    """Finds the log in a file, folder or archive, and what describes its users and items."""
    place = Path(path)
    if place.is_file() and place.suffix.lower() != ".zip":
        content = content_of(path)
        if content.kind not in table_endings:
            raise DataError(f"the name must end in one of {', '.join(table_endings)}.", file=path)
        return _Chosen([content], None, beside(place, "users"), beside(place, "items"))
    if place.is_dir() and place.suffix.lower() == ".parquet":
        parts = sorted(place.rglob("*.parquet"))
        if parts:
            return _Chosen([content_of(part) for part in parts], None, None, None)
    if not place.exists():
        raise DataError("no such file or folder.", file=path)
    tables = [content for content in contents_of(path) if content.kind in table_endings]
    found = {content.stem: content for content in tables}
    logs = [content for content in tables if content.stem not in ("users", "items")]
    logs, parts = parts_of(logs)
    several = len(logs) > 1 and all(one.kind == ".parquet" for one in logs)
    if parts is None and len(logs) != 1 and not several:
        names = ", ".join(content.name.rpartition("/")[2] for content in logs) or "none"
        raise DataError(
            "looked for u.data, ratings.dat, ratings.csv with movies.csv, a .inter file, files "
            f"train and test, or one table ({', '.join(table_endings)}); found {names}.",
            file=path,
        )
    return _Chosen(logs, parts, found.get("users"), found.get("items"))


def parts_of(logs: Sequence[Content]) -> tuple[list[Content], list[int] | None]:
    """Recognises the files of a split by their names.

    Args:
        logs: Files.

    Returns:
        The files, those of a split in the order of its parts; and the part of each: 0 for the
        training, 1 for validation, 2 for the test. None: they are no split.
    """
    splits = [
        (part, content)
        for part, stems in enumerate(_PARTS)
        for content in logs
        if content.stem in stems or content.stem.rpartition(".")[2] in stems
    ]
    parts = [part for part, _ in splits]
    if len(splits) == len(logs) and len(set(parts)) == len(parts) and 0 in parts and 2 in parts:
        return [content for _, content in splits], parts
    return list(logs), None


def _log_of_files(
    logs: Sequence[Content], parts: Sequence[int] | None, reading: Reading
) -> tuple[Log, tuple[str, ...]]:
    given = [getattr(reading, f"{role}_column") for role in assembly.role_names]
    check_parquet(logs)
    frames = [
        frame_of(content, reading, known=assembly.known_names, given=given, numbers=given[2:])
        for content in logs
    ]
    return _log_of_frames(frames, parts, reading)


def _log_of_frames(
    frames: Sequence[Frame], parts: Sequence[int] | None, reading: Reading
) -> tuple[Log, tuple[str, ...]]:
    """Returns the log of one table or several, and what was left out of them."""
    pl = polars_module()
    joined = _joined(frames, pl)
    roles = roles_of(joined, reading)
    part = None
    if parts is not None:
        part = np.repeat(parts, [frame.frame.height for frame in frames])
    found = parsed(joined, roles, reading)
    notes = notes_of(joined.file, joined.frame.columns, roles, found.tally, reading)
    rows = found.rows
    log = Log(
        roles=found.roles,
        user=found.user,
        item=found.item,
        rating=found.rating,
        time=found.time,
        user_ids=np.array(found.user_names.to_list(), dtype=str),
        item_ids=np.array(found.item_names.to_list(), dtype=str),
        place=found.place,
        part=part if part is None or rows is None else part[rows],
    )
    return log, (*found.of_commas, *notes)


def roles_of(table: Frame, reading: Reading) -> Roles:
    """Finds the columns of a log.

    Args:
        table: The log, or the first rows of it.
        reading: Options.

    Raises:
        DataError: If there is no row, a column is not recognised, or one looks like a rating or a
            time that is not used.
    """
    pl, names = polars_module(), table.frame.columns
    roles = assembly.find_roles(table.file, names, reading)
    if not table.frame.height:
        raise DataError("there is a header and no interactions.", file=table.file)
    assembly.check_unused(
        table.file, names, roles, reading, lambda name, role: _fits(table.frame[name], role, pl)
    )
    return roles


def notes_of(
    file: str, names: Sequence[str], roles: Roles, tally: "Tally", reading: Reading
) -> tuple[str, ...]:
    """Says what of a log was left out.

    Args:
        file: The log, for errors.
        names: Its columns.
        roles: Those that are used.
        tally: Counts of all its rows.
        reading: Options.

    Returns:
        One sentence each.

    Raises:
        DataError: If no row is left, or a weight is of no event of the log.
    """
    of_events = ()
    if roles.event is not None and reading.weights is not None:
        check_weights_used(file, roles.event, tally.events, reading)
    elif roles.event is not None:
        of_events = event_notes(tally.events)
    counts = list(zip(tally.rules, tally.dropped, strict=True))
    notes = assembly.notes_of_rows(tally.rows, counts, tally.missing, tally.first)
    left = tally.rows - sum(tally.dropped) - tally.missing
    assembly.check_left(file, left, notes)
    return (*assembly.unused_note(names, roles), *of_events, *notes)


class Tally(NamedTuple):
    """Counts of the rows of a table."""

    rows: int = 0
    """Rows of the table."""
    dropped: tuple[int, ...] = ()
    """Rows that each rule of `Reading.drop`, or an event of weight 0, leaves out."""
    missing: int = 0
    """Rows without a rating, which are left out too."""
    first: str = ""
    """Place of the first of them."""
    events: Counter[str] = Counter()  # noqa: RUF012
    """Rows of each event."""
    rules: tuple[str, ...] = ()
    """The rules, in words."""

    def plus(self, other: "Tally") -> "Tally":
        """Adds the counts of the rows that follow."""
        rules = self.rules or other.rules
        both = zip(self.dropped or (0,) * len(rules), other.dropped, strict=True)
        return Tally(
            self.rows + other.rows,
            tuple(one + two for one, two in both),
            self.missing + other.missing,
            self.first or other.first,
            self.events + other.events,
            rules,
        )


class Parsed(NamedTuple):
    """The log in a table: R rows, without those that are left out."""

    roles: Roles
    """Its columns."""
    user: np.ndarray
    """`[R]` int64 index into `user_names`."""
    item: np.ndarray
    """`[R]` int64 index into `item_names`."""
    rating: np.ndarray | None
    """`[R]` float64."""
    time: np.ndarray | None
    """`[R]` int64."""
    user_names: "polars.Series"
    """The users' ids, sorted."""
    item_names: "polars.Series"
    """The items' ids, sorted."""
    place: Callable[[int], Place]
    """Index of a row to its place, with the file."""
    rows: np.ndarray | None
    """`[R]` their rows in the table; None: all are left."""
    tally: Tally
    """What was left out."""
    of_commas: tuple[str, ...]
    """Notes on numbers that are read otherwise than written."""


def parsed(table: Frame, roles: Roles, reading: Reading) -> Parsed:
    """Reads the log in a table.

    Args:
        table: The table.
        roles: Its columns.
        reading: Options.

    Raises:
        DataError: If a value is not as it should be; it names file, line and column.
    """
    pl = polars_module()
    table, of_commas = pointed(table, [roles.rating, roles.time], reading.decimal)
    table, roles, reading, events = _weighed(table, roles, reading, pl)
    kept, rows, tally = _kept(table, roles, reading, pl)

    def place(row: int) -> Place:
        return table.place(row if rows is None else int(rows[row]))

    def wrong(row: int, column: str, message: str) -> DataError:
        return DataError(message, column=column, **place(row))  # pyrefly: ignore

    user_names, users = _codes(kept[roles.user], wrong, pl)
    item_names, items = _codes(kept[roles.item], wrong, pl)
    return Parsed(
        roles,
        users,
        items,
        None if roles.rating is None else _numbers(kept[roles.rating], wrong, pl),
        None if roles.time is None else _times(kept[roles.time], wrong, pl),
        user_names,
        item_names,
        place,
        rows,
        tally._replace(events=events),
        of_commas,
    )


def _weighed(
    table: Frame, roles: Roles, reading: Reading, pl: ModuleType
) -> tuple[Frame, Roles, Reading, Counter[str]]:
    """Adds a column of the weights of events; those of weight 0 are to be dropped."""
    if roles.event is None:
        return table, roles, reading, Counter()
    frame = table.frame
    events = frame[roles.event].cast(pl.String, strict=False).fill_null("")
    counts = Counter(dict(events.value_counts().iter_rows()))
    if reading.weights is None:
        return table, roles, reading, counts
    weights = event_weights(table.file, roles.event, list(counts), reading)
    name, roles, reading = assembly.weights_column(frame.columns, roles, reading, weights)
    column = events.replace_strict(weights, return_dtype=pl.Float64).alias(name)
    return table._replace(frame=frame.with_columns(column)), roles, reading, counts


def _joined(frames: Sequence[Frame], pl: ModuleType) -> Frame:
    if len(frames) == 1:
        return frames[0]
    first = frames[0]
    for other in frames[1:]:
        if other.frame.columns != first.frame.columns:
            raise DataError(
                f"must have the columns of {first.file} ({', '.join(first.frame.columns)}), got "
                f"{', '.join(other.frame.columns)}.",
                file=other.file,
            )
    ends = np.cumsum([frame.frame.height for frame in frames])

    def place(row: int) -> Place:
        at = int(np.searchsorted(ends, row, side="right"))
        return frames[at].place(row - (int(ends[at - 1]) if at else 0))

    try:
        whole = pl.concat([frame.frame for frame in frames], how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"parts do not fit together: {error}".splitlines()[0], file=first.file
        ) from None
    return Frame(first.file, whole, place)


def _kept(
    table: Frame, roles: Roles, reading: Reading, pl: ModuleType
) -> tuple["polars.DataFrame", np.ndarray | None, Tally]:
    """Leaves out rows by the rules, and those without a rating."""
    frame = table.frame
    left, counts = np.ones(frame.height, bool), []
    for text in reading.drop:
        rule = rule_of(text)
        column = assembly.column_of_rule(table.file, rule.column, frame.columns, roles)
        which = _matches(frame[column], rule, pl)
        counts.append(int(np.sum(left & which)))
        left &= ~which
    missing = np.zeros(len(left), bool)
    if roles.rating is not None:
        column = frame[roles.rating]
        if column.dtype == pl.String:
            missing = left & _matches(column, is_missing, pl)
        elif column.dtype.is_float():
            missing = left & (column.is_null() | column.is_nan()).fill_null(True).to_numpy()
        else:
            missing = left & column.is_null().to_numpy()
    first = ""
    if missing.any():
        place = table.place(int(np.argmax(missing)))
        first = " ".join(f"{unit} {value}" for unit, value in place.items() if unit != "file")
    tally = Tally(len(left), tuple(counts), int(missing.sum()), first, rules=reading.drop)
    left &= ~missing
    if left.all():
        return frame, None, tally
    return frame.filter(pl.Series(left)), np.flatnonzero(left), tally


def _matches(
    column: "polars.Series", predicate: Callable[[str], bool], pl: ModuleType
) -> np.ndarray:
    """Rows whose field, as text, fits; each distinct field is asked once."""
    texts = column if column.dtype == pl.String else column.cast(pl.String, strict=False)
    texts = texts.fill_null("")
    fitting = [text for text in texts.unique().to_list() if predicate(text)]
    return texts.is_in(fitting).to_numpy()


def _described(
    found: Content | None, log: Log, role: str, reading: Reading
) -> tuple[Table | None, tuple[str, ...]]:
    if role == "user":
        return described(found, reading.users, log.user_ids, log.roles.user, role, reading)
    return described(found, reading.items, log.item_ids, log.roles.item, role, reading)


def described(
    found: Content | None,
    given: str | None,
    ids: np.ndarray,
    column: str,
    role: str,
    reading: Reading,
) -> tuple[Table | None, tuple[str, ...]]:
    """Reads the attributes of users or items.

    Args:
        found: A file beside the log, which is left out where it does not fit.
        given: The file that is named, in its place.
        ids: `[n]` the ids in the log, sorted.
        column: The column of them in the log.
        role: user or item.
        reading: Options.

    Returns:
        The attributes, of those in the file; None where there are none. And notes.

    Raises:
        DataError: If the file that is named does not fit.
    """
    if given is not None:
        return attributes_of(content_of(given), role, column, ids, reading)
    if found is None:
        return None, ()
    try:
        return attributes_of(found, role, column, ids, reading)
    except DataError as error:
        return None, (f"{found.name.rpartition('/')[2]} beside the log is not used: {error}",)


def _fits(column: "polars.Series", role: str, pl: ModuleType) -> bool:
    """True if a column can be read as ratings, or as times."""
    if column.dtype.is_numeric():
        return True
    if column.dtype in (pl.Date, pl.Datetime):
        return role == "time"
    if column.dtype != pl.String:
        return False
    values = column.drop_nulls().head(1000)
    if len(values) and notation_of(values).numeric:
        return True
    if role == "rating" or not len(values):
        return False
    try:
        datetime.fromisoformat(values[0].strip())
    except ValueError:
        return False
    return True


def _codes(
    column: "polars.Series", wrong: Wrong, pl: ModuleType
) -> tuple["polars.Series", np.ndarray]:
    """Returns the distinct ids, sorted, and `[R]` int64 indices into them."""
    if column.dtype.is_float() and ((column % 1 == 0) & (column.abs() < 2**53)).all():
        # As pandas has whole numbers of which one was missing once.
        column = column.cast(pl.Int64)
    if not (column.dtype.is_integer() or column.dtype in (pl.String, pl.Categorical, pl.Enum)):
        row = 0
        if column.dtype.is_float():
            row = _first(~((column % 1 == 0) & (column.abs() < 2**53)).fill_null(False))
        raise wrong(row, column.name, f"ids must be strings or whole numbers, got {column.dtype}.")
    column = column.cast(pl.String)
    # Sorting the few distinct ids and looking each row's up is several times faster than
    # sorting the rows.
    names = column.unique().sort()
    if any(name is None or not name.strip() for name in names):
        empty = column.is_null() | (column.str.strip_chars() == "")
        raise wrong(_first(empty), column.name, "an id must not be empty.")
    if names.str.contains("\0", literal=True).any():
        row = _first(column.str.contains("\0", literal=True))
        raise wrong(row, column.name, "an id must not hold a NUL character.")
    codes = column.cast(pl.Enum(names)).to_physical().to_numpy()
    return names, codes.astype(np.int64)


def _numbers(column: "polars.Series", wrong: Wrong, pl: ModuleType) -> np.ndarray:
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise wrong(0, column.name, f"must be numbers, got {column.dtype}.")
    values = _cast(column, pl.Float64, pl).to_numpy()
    bad = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(bad):
        row = int(bad[0])
        raise wrong(row, column.name, no_number(None if column[row] is None else str(column[row])))
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
    # Fractions of a second come and go, which older versions of it do not follow; and it takes 27
    # for a year.
    unsure = dates.is_null() | ~column.str.contains(r"^\s*\d{4}").fill_null(value=False)
    for row in np.flatnonzero(unsure.to_numpy()).tolist():
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
