"""Assembly of a `Dataset` from a parsed log and feature tables, with checks for every format."""

import dataclasses
import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.interactions import from_columns
from metajax.data.readers.events import check_weights_used, event_notes, event_weights
from metajax.data.readers.text import (
    DataError,
    Place,
    TextTable,
    integer_of,
    is_missing,
    number_of,
    parsed,
)
from metajax.data.reading import Duplicates, Reading, Scale, rule_of
from metajax.fields import suggestion
from metajax.files import Option

__all__ = [
    "Log",
    "Merged",
    "Roles",
    "aligned",
    "assemble",
    "check_unused",
    "checked_scale",
    "column_of_rule",
    "description",
    "distinct",
    "find_roles",
    "id_column",
    "known_names",
    "log_of",
    "role_names",
    "rule_of_pairs",
    "unused_note",
    "weights_column",
]

role_names = ("user", "item", "rating", "time")
"""Columns of a log that are recognised by their names."""

# Spelled as `_plain` leaves them: lower case, letters and digits only.
_ALIASES = {
    "user": "user userid uid users customer customerid reviewer reviewerid visitor visitorid "
    "account accountid profile profileid",
    "item": "item itemid iid items movie movieid film filmid product productid asin parentasin "
    "book bookid isbn track trackid song songid artist artistid game gameid business businessid "
    "article articleid anime animeid recipe recipeid video videoid news newsid course courseid "
    "restaurant restaurantid venue venueid location locationid",
    "rating": "rating ratings stars score overall bookrating reviewscore",
    "time": "timestamp time datetime date ts eventtime unixtime unixreviewtime createdat",
    "count": "count counts plays playcount playcounts listens listencount quantity qty frequency",
    "event": "event events eventtype eventname action actiontype behavior behaviortype behaviour "
    "interactiontype",
}

# Words in the name of a column that may be what nothing else is.
_LOOKS = {
    "rating": "rating ratings rate rates rated feedback weight weights preference preferences pref "
    "score scores stars grade mark vote votes like likes liked value opinion count counts plays "
    "playcount listens frequency quantity",
    "time": "when time timestamp date datetime at ts created unixtime",
}
_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")


class Roles(NamedTuple):
    """Column names of a log."""

    user: str
    """The column of user ids."""
    item: str
    """The column of item ids."""
    rating: str | None
    """The column of ratings; None in an implicit log."""
    time: str | None
    """The column of times, if any."""
    event: str | None = None
    """The column of events, if any."""
    counted: bool = False
    """True if `rating` holds strengths of interactions, such as counts: the log is implicit."""


class Log(NamedTuple):
    """R parsed rows of a log, in the order of the file."""

    roles: Roles
    """Its column names, for errors."""
    user: np.ndarray
    """`[R]` index into `user_ids`."""
    item: np.ndarray
    """`[R]` index into `item_ids`."""
    rating: np.ndarray | None
    """`[R]` float64, finite; None in an implicit log, or strengths where `Roles.counted`."""
    time: np.ndarray | None
    """`[R]` int64."""
    user_ids: np.ndarray
    """`[U]` strings, sorted, all of them used."""
    item_ids: np.ndarray
    """`[I]` strings, sorted, all of them used."""
    place: Callable[[int], Place]
    """Index of a row to its place, with the file."""
    notes: tuple[str, ...] = ()
    """What was left out, one sentence each."""
    part: np.ndarray | None = None
    """`[R]` int64, 0 for a row of the training file, 1 of validation, 2 of the test."""


def known_names(names: Sequence[str]) -> int:
    """Number of column names that are in common use for a role."""
    aliases = {alias for words in _ALIASES.values() for alias in words.split()}
    return sum(_plain(name) in aliases for name in names)


def find_roles(file: str | Path, names: Sequence[str], reading: Reading = Reading()) -> Roles:  # noqa: B008
    """Finds the four columns by the names or places given, else by the names in common use.

    Args:
        file: The log, for the error.
        names: Its column names.
        reading: Gives columns.

    Returns:
        The column of each role; rating and time may be None.

    Raises:
        DataError: If a given column is missing, user or item is not recognised, two columns fit
            one role, or two roles share a column.

    Example:
        >>> find_roles("log.csv", ["userId", "movieId", "when"], Reading(time_column="when"))[:4]
        ('userId', 'movieId', None, 'when')
    """
    shown = ", ".join(map(repr, names))
    given = {role: getattr(reading, f"{role}_column") for role in role_names}
    roles: dict[str, str | None] = {
        role: _column(file, names, column) for role, column in given.items() if column is not None
    }
    event = _event_column(file, names, reading)
    if event is not None:
        roles["rating"] = None
    counted = reading.count_column is not None
    if reading.count_column is not None:
        roles["rating"] = _column(file, names, reading.count_column)

    def fitting(role: str) -> list[str]:
        known = _ALIASES[role].split()
        return [n for n in names if _plain(n) in known and n not in reading.ignore]

    for role in role_names:
        if role in roles:
            continue
        fits = fitting(role)
        if role == "rating" and not fits and len(fitting("count")) == 1:
            fits, counted = fitting("count"), True
        if len(fits) > 1:
            either = " and ".join(map(repr, fits))
            raise DataError(
                f"{either} may both be the {role}; name one with ",
                Option(f"{role}_column", fits[0]),
                ".",
                file=file,
            )
        if not fits and role in ("user", "item"):
            raise DataError(
                f"no {role} column recognised; found {shown}; name it with ",
                Option(f"{role}_column"),
                ".",
                file=file,
            )
        roles[role] = fits[0] if fits else None
    taken: dict[str, str] = {}
    for role in role_names:
        name = roles[role]
        if name is None:
            continue
        if name in taken:
            raise DataError(f"column {name!r} cannot be both {taken[name]} and {role}.", file=file)
        taken[name] = role
    found = Roles(*(roles[role] for role in role_names))  # pyrefly: ignore
    return found._replace(event=event, counted=counted)


def _event_column(file: str | Path, names: Sequence[str], reading: Reading) -> str | None:
    """Finds the column of events, where one is given or events have weights."""
    if reading.event_column is not None:
        return _column(file, names, reading.event_column)
    if reading.weights is None:
        return None
    fits = [name for name in names if _plain(name) in _ALIASES["event"].split()]
    if len(fits) != 1:
        raise DataError(
            f"there are weights of events, and the column of events is not recognised; found "
            f"{', '.join(map(repr, names))}; name it with ",
            Option("event_column"),
            ".",
            file=file,
        )
    return fits[0]


def _column(file: str | Path, names: Sequence[str], given: str | int) -> str:
    if given in names:
        return str(given)
    if isinstance(given, int) or given.isdecimal():
        place = int(given)
        if not 1 <= place <= len(names):
            raise DataError(
                f"no column {place}; there are {len(names)}, {', '.join(map(repr, names))}.",
                file=file,
            )
        return names[place - 1]
    end = suggestion(given, names)
    raise DataError(f"no column {given!r}; found {', '.join(map(repr, names))}{end}", file=file)


def id_column(file: str | Path, names: Sequence[str], role: str, name: str | None) -> str:
    """Finds the column of ids in a file that describes users or items.

    Args:
        file: The file, for the error.
        names: Its column names.
        role: user or item.
        name: The column of the log.

    Returns:
        The column of the log's name, else one whose name is in common use for the role, else `id`.

    Raises:
        DataError: If there is none.
    """
    for fits in (
        [column for column in names if column == name],
        [column for column in names if name is not None and _plain(column) == _plain(name)],
        [column for column in names if _plain(column) in _ALIASES[role].split()],
        [column for column in names if _plain(column) == "id"],
    ):
        if fits:
            return fits[0]
    shown = ", ".join(map(repr, names))
    raise DataError(
        f"no column of {role} ids: none is {name!r}, as in the log, or 'id'; found {shown}.",
        file=file,
    )


def check_unused(
    file: str | Path,
    names: Sequence[str],
    roles: Roles,
    reading: Reading,
    fits: Callable[[str, str], bool],
) -> None:
    """Refuses a log whose rating or time may be in a column that is not recognised; names it.

    Args:
        file: The log, for the error.
        names: Its column names.
        roles: Those that are used.
        reading: Names columns to ignore.
        fits: `fits(column, role)`: the column's fields can be read as that.

    Raises:
        DataError: If there is such a column.
    """
    for name in reading.ignore:
        if name not in names:
            raise DataError(f"no column {name!r} to ignore{suggestion(name, names)}", file=file)
    for role, used in (("rating", roles.rating), ("time", roles.time)):
        if used is not None or (role == "rating" and roles.event is not None):
            continue
        for name in names:
            if name in roles or name in reading.ignore or not _looks(name, role):
                continue
            if fits(name, role):
                raise DataError(
                    f"column {name!r} looks like the {role}, which is not recognised; use it with ",
                    Option(f"{role}_column", name),
                    *_as_counts(name, role),
                    " or leave it out with ",
                    Option("ignore", (name,)),
                    ".",
                    file=file,
                )


def _as_counts(name: str, role: str) -> tuple[str | Option, ...]:
    words = _ALIASES["count"].split()
    if role != "rating" or not any(word in words for word in _words(name)):
        return ()
    return " or, if it counts, ", Option("count_column", name)


def _words(name: str) -> list[str]:
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", _TYPE.sub("", name))
    return re.split(r"[^a-z0-9]+", words.lower())


def _looks(name: str, role: str) -> bool:
    if any(word in _LOOKS[role].split() for word in [*_words(name), _plain(name)]):
        return True
    near = {"rating": ["rating", "ratings", "stars"], "time": ["timestamp", "datetime"]}[role]
    return bool(difflib.get_close_matches(_plain(name), near, n=1, cutoff=0.8))


def unused_note(names: Sequence[str], roles: Roles) -> tuple[str, ...]:
    """Names the columns that are not used, in a sentence; empty if there is none."""
    unused = [repr(name) for name in names if name not in roles]
    notes = (f"columns not used: {', '.join(unused)}",) if unused else ()
    if roles.counted and roles.rating in names:
        notes += (
            f"column {roles.rating!r} is read as counts: how strong an interaction is, no rating",
        )
    return notes


def column_of_rule(file: str | Path, column: str, names: Sequence[str], roles: Roles) -> str:
    """Finds the column that a rule of `Reading.drop` is about.

    Raises:
        DataError: If there is none.
    """
    if column in names:
        return column
    used = getattr(roles, column) if column in role_names else None
    if used is None:
        end = suggestion(column, [*names, *role_names])
        raise DataError(
            f"no column {column!r}, of which ", Option("drop"), f" has a rule{end}", file=file
        )
    return used


def log_of(table: TextTable, roles: Roles, reading: Reading = Reading()) -> Log:  # noqa: B008
    """Parses the columns of a log.

    Rows that a rule drops are left out, and rows without a rating.

    Args:
        table: The file.
        roles: The roles of the columns.
        reading: Gives rules.

    Returns:
        The log.

    Raises:
        DataError: If there is no row, an id is empty, or a rating or time is no finite number.
    """
    if not table.lines:
        raise DataError("there is a header and no interactions.", file=table.file)
    table, roles, reading, of_events = _weighed(table, roles, reading)
    table, notes = _kept(table, roles, reading)
    notes = (*of_events, *notes)
    ids, codes = {}, {}
    for column in (roles.user, roles.item):
        names = sorted(set(parsed(table, column, _id_of)))
        index = {name: code for code, name in enumerate(names)}
        ids[column] = np.array(names, dtype=str)
        fields = table.columns[column]
        codes[column] = np.fromiter(map(index.__getitem__, fields), np.int64, len(fields))
    rating = time = None
    if roles.rating is not None:
        rating = np.array(parsed(table, roles.rating, number_of), np.float64)
    if roles.time is not None:
        time = np.array(parsed(table, roles.time, integer_of), np.int64)
    return Log(
        roles=roles,
        user=codes[roles.user],
        item=codes[roles.item],
        rating=rating,
        time=time,
        user_ids=ids[roles.user],
        item_ids=ids[roles.item],
        place=lambda row: {"file": table.file, "line": table.lines[row]},
        notes=notes,
    )


def _weighed(
    table: TextTable, roles: Roles, reading: Reading
) -> tuple[TextTable, Roles, Reading, tuple[str, ...]]:
    """Adds a column of the weights of events; those of weight 0 are to be dropped."""
    if roles.event is None:
        return table, roles, reading, ()
    events = table.columns[roles.event]
    if reading.weights is None:
        return table, roles, reading, event_notes(Counter(events))
    weights = event_weights(table.file, roles.event, list(dict.fromkeys(events)), reading)
    check_weights_used(table.file, roles.event, events, reading)
    name, roles, reading = weights_column(list(table.columns), roles, reading, weights)
    columns = {**table.columns, name: [repr(weights[event]) for event in events]}
    return table._replace(columns=columns), roles, reading, ()


def weights_column(
    names: Sequence[str], roles: Roles, reading: Reading, weights: Mapping[str, float]
) -> tuple[str, Roles, Reading]:
    """Names the column of the weights of events, and drops rows whose event has weight 0.

    Args:
        names: Columns of the table.
        roles: Their roles.
        reading: Options.
        weights: Of events.

    Returns:
        The name, and roles and options with it.
    """
    name = "weight"
    while name in names:
        name += " of event"
    roles = roles._replace(rating=name, counted=True)
    if all(weights.values()):
        return name, roles, reading
    return name, roles, dataclasses.replace(reading, drop=(*reading.drop, f"{name}=0"))


def _kept(table: TextTable, roles: Roles, reading: Reading) -> tuple[TextTable, tuple[str, ...]]:
    """Leaves out rows by the rules, and those without a rating."""
    names, left = list(table.columns), np.ones(len(table.lines), bool)
    counts = []
    for text in reading.drop:
        rule = rule_of(text)
        fields = table.columns[column_of_rule(table.file, rule.column, names, roles)]
        known = {field: rule(field) for field in set(fields)}
        which = np.fromiter(map(known.__getitem__, fields), bool, len(fields))
        counts.append((text, int(np.sum(left & which))))
        left &= ~which
    missing = np.zeros(len(left), bool)
    if roles.rating is not None:
        known = {field: is_missing(field) for field in set(table.columns[roles.rating])}
        fields = table.columns[roles.rating]
        missing = left & np.fromiter(map(known.__getitem__, fields), bool, len(fields))
    first = f"line {table.lines[int(np.argmax(missing))]}" if missing.any() else ""
    notes = notes_of_rows(len(left), counts, int(missing.sum()), first)
    left &= ~missing
    if left.all():
        return table, notes
    check_left(table.file, int(left.sum()), notes)
    rows = np.flatnonzero(left).tolist()
    columns: dict[str, Sequence[str]] = {
        name: [fields[row] for row in rows]
        for name, fields in table.columns.items()
        if name in roles
    }
    return TextTable(table.file, columns, [table.lines[row] for row in rows]), notes


def notes_of_rows(
    rows: int, dropped: Sequence[tuple[str, int]], missing: int, first: str
) -> tuple[str, ...]:
    """Counts the rows that were left out, in sentences.

    Args:
        rows: Number of rows of the file.
        dropped: Each rule, and the number of rows it dropped.
        missing: Number of rows without a rating.
        first: Place of the first of them.
    """
    notes = [f"{count:,} of {rows:,} rows are dropped by {rule}" for rule, count in dropped]
    if missing:
        notes.append(
            f"{missing:,} of {rows:,} rows have no rating and are skipped, from {first} on"
        )
    return tuple(notes)


def check_left(file: str | Path, left: int, notes: Sequence[str]) -> None:
    """Refuses a log of which no row is left.

    Raises:
        DataError: If `left` is 0.
    """
    if not left:
        raise DataError(f"no row is left: {'; '.join(notes)}.", file=file)


def description(
    table: TextTable, ids: str, kinds: Mapping[str, Kind], *, names: Mapping[str, str] | None = None
) -> Table:
    """Takes the features of users or items from a file.

    Args:
        table: The file.
        ids: The column of ids.
        kinds: Column to kind, for the columns to keep.
        names: New column names, where they differ.

    Returns:
        The features, in the order of the file.

    Raises:
        DataError: If an id is empty or described twice, or a numeric field is no number.
    """
    names = names or {}
    seen: dict[str, int] = {}
    for name, line in zip(parsed(table, ids, _id_of), table.lines, strict=True):
        if name in seen:
            raise DataError(
                f"{name!r} is described twice, first in line {seen[name]}.",
                file=table.file,
                line=line,
                column=ids,
            )
        seen[name] = line
    columns = {}
    for column, kind in kinds.items():
        fields = parsed(table, column, _feature_of) if kind == "numeric" else table.columns[column]
        columns[names.get(column, column)] = np.array(fields, dtype=str)
    return Table(
        ids=np.array(list(seen), dtype=str),
        columns=columns,
        kinds={names.get(column, column): kind for column, kind in kinds.items()},
    )


def assemble(
    name: str,
    log: Log,
    *,
    users: Table | None = None,
    items: Table | None = None,
    reading: Reading = Reading(),  # noqa: B008
    scale: Scale | None = None,
) -> Dataset:
    """Checks a log against its scale and for repeated pairs, and lines the descriptions up.

    The catalogue is the union of the items in the log and of those described, and so for users.

    Args:
        name: Of the data set.
        log: The parsed log.
        users: Features of some users, in any order.
        items: Features of some items, in any order.
        reading: Gives the treatment of repeated pairs, and the scale.
        scale: The format's lowest and highest legal rating, where `reading` gives none; None takes
            them from the log.

    Returns:
        The data set.

    Raises:
        ValueError: If an option does not suit a log without ratings.
        DataError: If a rating is out of the scale, or a pair is repeated and must not be.
    """
    if (log.rating is None or log.roles.counted) and reading.scale is not None:
        raise ValueError(f"scale must be None where a log has no ratings, got {reading.scale}.")
    user_ids, user = _union(log.user_ids, log.user, users)
    item_ids, item = _union(log.item_ids, log.item, items)
    equal = log.rating is None or not len(log.rating) or not np.ptp(log.rating)
    how = rule_of_pairs(log.roles, reading, equal=equal)
    rows, rating, time, merged = distinct(log, user * len(item_ids) + item, how)
    notes = merged.notes(how)
    if merged.weak == merged.pairs > 0:
        raise DataError("no count is above 0.", column=log.roles.rating, **log.place(0))  # pyrefly: ignore
    counted = reading.duplicates == "count" or log.roles.counted
    scale = reading.scale if counted or rating is None else reading.scale or scale
    given = scale is not None
    if rating is not None and not (counted and scale is None):
        scale = checked_scale(log, rows, rating, scale)
    return Dataset(
        name=name,
        interactions=from_columns(
            user[rows], item[rows], rating, time, user_ids=user_ids, item_ids=item_ids
        ),
        users=aligned(users, user_ids),
        items=aligned(items, item_ids),
        scale=scale,
        notes=(*log.notes, *notes),
        parts=_parts(log, user, len(user_ids), reading),
        scale_given=given,
    )


def checked_scale(log: Log, rows: np.ndarray, rating: np.ndarray, scale: Scale | None) -> Scale:
    """Checks ratings against their scale.

    Args:
        log: The log, for the error.
        rows: `[n]` rows of the log.
        rating: `[n]` their ratings.
        scale: The worst and the best legal rating; None: any is.

    Returns:
        The scale, or the lowest and the highest rating.

    Raises:
        DataError: If a rating is outside; it names the first.
    """
    if scale is None:
        return float(rating.min()), float(rating.max())
    low, high = sorted(scale)
    outside = np.flatnonzero((rating < low) | (rating > high))
    if len(outside):
        first = int(outside[np.argmin(rows[outside])])
        raise DataError(
            f"must lie in the scale [{low:g}, {high:g}], got {rating[first]:g}.",
            column=log.roles.rating,
            **log.place(int(rows[first])),  # pyrefly: ignore
        )
    return scale


class Merged(NamedTuple):
    """Counts of the pairs of user and item of a log."""

    rows: int = 0
    """Rows of the log."""
    pairs: int = 0
    """Distinct pairs."""
    weak: int = 0
    """Pairs that are left out, for their count is not above 0."""

    def plus(self, other: "Merged") -> "Merged":
        """Adds the counts of a log of other users."""
        return Merged(*(one + two for one, two in zip(self, other, strict=True)))

    def notes(self, how: Duplicates) -> tuple[str, ...]:
        """Says in sentences what was merged, by which rule, and left out."""
        found = []
        if self.pairs < self.rows:
            merged = self.rows - self.pairs
            found.append(
                f"{merged:,} of {self.rows:,} rows repeat a pair of user and item: {how} is taken"
            )
        if self.weak:
            found.append(
                f"{self.weak:,} of {self.pairs:,} pairs have a count of 0 or less and are left out"
            )
        return tuple(found)


def distinct(
    log: Log, packed: np.ndarray, how: Duplicates, *, whole: str = "in all"
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, Merged]:
    """Merges rows of the same user and item.

    Args:
        log: The log, of R rows.
        packed: `[R]` int64, equal for rows of one pair of user and item.
        how: From `rule_of_pairs`.
        whole: Where the repeated rows are counted, for the error.

    Returns:
        `[P]` a row of each pair, in the order of `packed`, with its rating and its time where the
        log has any; and what was merged and left out.

    Raises:
        ValueError: If `how` needs ratings and there are none.
        DataError: If a pair is repeated and must not be.
    """
    if how in ("mean", "sum", "max") and log.rating is None:
        raise ValueError(f"duplicates must not be {how!r} where a log has no ratings.")
    # Not stable, hence twice as fast, and as good where no pair is repeated.
    order = np.argsort(packed)
    again = packed[order][1:] == packed[order][:-1]
    if how != "count" and not again.any():
        return _strong(log, order, _at(log.rating, order), _at(log.time, order))
    if how == "error":
        _refuse(log, packed, whole)
    # Of one pair side by side: by time, then by row.
    keys = (packed,) if log.time is None else (log.time, packed)
    order = np.lexsort((np.arange(len(packed)), *keys))
    starts = np.flatnonzero(np.r_[True, packed[order][1:] != packed[order][:-1]])
    newest = order[np.r_[starts[1:], len(order)] - 1]
    count = np.diff(np.r_[starts, len(order)])
    rating = _at(log.rating, newest)
    if how == "count":
        rating = count.astype(np.float64)
    elif log.rating is not None and how != "newest":
        merge = np.maximum if how == "max" else np.add
        rating = merge.reduceat(log.rating[order], starts)
        if how == "mean":
            rating = rating / count
    return _strong(log, newest, rating, _at(log.time, newest))


def rule_of_pairs(roles: Roles, reading: Reading, *, equal: bool) -> Duplicates:
    """Returns the treatment of repeated pairs, which in an implicit log are no error.

    Args:
        roles: Columns of the log.
        reading: Gives the treatment, if any.
        equal: True where all ratings are equal, or there are none.
    """
    if reading.duplicates != "error":
        return reading.duplicates
    if roles.counted:
        return "sum" if roles.event is None else "max"
    return "newest" if equal else "error"


def _strong(
    log: Log, rows: np.ndarray, strength: np.ndarray | None, time: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, Merged]:
    """Leaves out pairs whose count is not above 0: no interaction, or one taken back."""
    found = Merged(len(log.user), len(rows))
    if not log.roles.counted or strength is None or (strength > 0).all():
        return rows, strength, time, found
    left = strength > 0
    found = found._replace(weak=int(np.sum(~left)))
    return rows[left], strength[left], _at(time, left), found


def _at(column: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if column is None else column[rows]


def _refuse(log: Log, packed: np.ndarray, whole: str) -> None:
    order = np.argsort(packed, kind="stable")
    again = np.flatnonzero(packed[order][1:] == packed[order][:-1])
    at = again[np.argmin(order[again + 1])]
    first, second = int(order[at]), int(order[at + 1])
    before, place = log.place(first), log.place(second)
    where = " ".join(
        f"{unit} {value}"
        for unit, value in before.items()
        if unit != "file" or value != place.get("file")
    )
    user, item = str(log.user_ids[log.user[first]]), str(log.item_ids[log.item[first]])
    raise DataError(
        f"user {user!r} and item {item!r} are already in {where} ({len(again)} repeated {whole}); ",
        Option("duplicates", "newest"),
        " keeps the newest, or take their mean, sum, max or count.",
        **place,  # pyrefly: ignore
    )


def _parts(log: Log, user: np.ndarray, users: int, reading: Reading) -> np.ndarray | None:
    """Part of each user, by the files of their rows; -1 for a user without rows."""
    if log.part is None or reading.splits == "joined":
        return None
    parts = np.full(users, -1)
    parts[user] = log.part
    strange = np.flatnonzero(parts[user] != log.part)
    if len(strange):
        row = int(strange[0])
        whose = np.unique(user[strange])
        raise DataError(
            f"user {str(log.user_ids[log.user[row]])!r} is in another of the files train, valid "
            f"and test too ({len(whose)} such users), and new users must be in one; ",
            Option("splits", "joined"),
            " reads the files as one log.",
            **log.place(row),  # pyrefly: ignore
        )
    return parts


def _union(
    ids: np.ndarray, codes: np.ndarray, described: Table | None
) -> tuple[np.ndarray, np.ndarray]:
    if described is None or not len(described.ids):
        return ids, codes
    union = np.union1d(ids, described.ids)
    return union, np.searchsorted(union, ids)[codes]


def aligned(table: Table | None, ids: np.ndarray) -> Table:
    """Brings attributes into the order of ids.

    Args:
        table: Attributes of some; None: of none.
        ids: `[n]` ids, sorted, those of the table among them.

    Returns:
        Attributes of all; those without have empty strings.
    """
    if table is None:
        return Table(ids, {}, {})
    rows = np.searchsorted(ids, table.ids)
    columns = {}
    for name, column in table.columns.items():
        columns[name] = np.full(len(ids), "", column.dtype)
        columns[name][rows] = column
    return Table(ids, columns, table.kinds)


def _id_of(field: str) -> str:
    if not field.strip():
        raise ValueError("an id must not be empty.")
    return field


def _feature_of(field: str) -> str:
    # What pandas writes for a missing number.
    if field.strip().lower() in ("", "nan"):
        return ""
    number_of(field)
    return field


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _TYPE.sub("", name).lower())
