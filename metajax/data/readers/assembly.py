"""Assembly of a `Dataset` from a parsed log and feature tables, with checks for every format."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.interactions import from_columns
from metajax.data.readers.text import (
    DataError,
    Place,
    TextTable,
    integer_of,
    number_of,
    parsed,
)
from metajax.fields import suggestion

__all__ = [
    "Duplicates",
    "Log",
    "Roles",
    "Scale",
    "assemble",
    "description",
    "find_roles",
    "log_of",
]

# Spelled as `_plain` leaves them: lower case, letters and digits only.
_ALIASES = {
    "user": "user userid uid customer customerid reviewer reviewerid visitor visitorid account",
    "item": "item itemid iid movie movieid product productid asin parentasin book bookid isbn "
    "track trackid song songid artist artistid game gameid business businessid article articleid",
    "rating": "rating ratings stars score overall bookrating",
    "time": "timestamp time datetime date ts eventtime unixtime unixreviewtime createdat",
}

Duplicates = Literal["error", "last"]
Scale = tuple[float, float]


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


class Log(NamedTuple):
    """R parsed lines of a log, in the order of the file."""

    file: str
    """Its origin, for errors."""
    roles: Roles
    """Its column names, for errors."""
    user: np.ndarray
    """`[R]` index into `user_ids`."""
    item: np.ndarray
    """`[R]` index into `item_ids`."""
    rating: np.ndarray | None
    """`[R]` float64, finite; None in an implicit log."""
    time: np.ndarray | None
    """`[R]` int64."""
    user_ids: np.ndarray
    """`[U]` strings, sorted, all of them used."""
    item_ids: np.ndarray
    """`[I]` strings, sorted, all of them used."""
    place: Callable[[int], Place]
    """Index of a row to its place in the file."""


def find_roles(
    file: str | Path,
    names: Sequence[str],
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
) -> Roles:
    """Finds the four columns by the names given, else by the names in common use.

    Args:
        file: The log, for the error.
        names: Its column names.
        user: The column of user ids, or None to recognise it.
        item: The column of item ids, or None.
        rating: The column of ratings, or None.
        time: The column of times, or None.

    Returns:
        The column of each role; rating and time may be None.

    Raises:
        DataError: If a named column is missing, user or item is not recognised, two columns fit
            one role, or two roles share a column.

    Example:
        >>> find_roles("log.csv", ["userId", "movieId", "when"], time="when")
        Roles(user='userId', item='movieId', rating=None, time='when')
    """
    found = ", ".join(map(repr, names))
    roles: dict[str, str | None] = {}
    for role, given in (("user", user), ("item", item), ("rating", rating), ("time", time)):
        if given is not None:
            if given not in names:
                end = suggestion(given, names)
                raise DataError(f"no column {given!r}; found {found}{end}", file=file)
            roles[role] = given
            continue
        fits = [name for name in names if _plain(name) in _ALIASES[role].split()]
        if len(fits) > 1:
            either = " and ".join(map(repr, fits))
            raise DataError(f"{either} may both be the {role}; name one with {role}=.", file=file)
        if not fits and role in ("user", "item"):
            raise DataError(
                f"no {role} column recognised; found {found}; name it with {role}= "
                "(the first line must be a header).",
                file=file,
            )
        roles[role] = fits[0] if fits else None
    taken: dict[str, str] = {}
    for role, name in roles.items():
        if name is None:
            continue
        if name in taken:
            raise DataError(f"column {name!r} cannot be both {taken[name]} and {role}.", file=file)
        taken[name] = role
    return Roles(**roles)  # pyrefly: ignore


def log_of(table: TextTable, roles: Roles) -> Log:
    """Parses the columns of a log.

    Args:
        table: The file.
        roles: The roles of the columns.

    Returns:
        The log.

    Raises:
        DataError: If there is no row, an id is empty, or a rating or time is no finite number.
    """
    if not table.lines:
        raise DataError("there is a header and no interactions.", file=table.file)
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
        file=table.file,
        roles=roles,
        user=codes[roles.user],
        item=codes[roles.item],
        rating=rating,
        time=time,
        user_ids=ids[roles.user],
        item_ids=ids[roles.item],
        place=lambda row: {"line": table.lines[row]},
    )


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
    duplicates: Duplicates = "error",
    scale: Scale | None = None,
) -> Dataset:
    """Checks a log against its scale and for repeated pairs, and lines the descriptions up.

    The catalogue is the union of the items in the log and of those described, and so for users.

    Args:
        name: Of the data set.
        log: The parsed log.
        users: Features of some users, in any order.
        items: Features of some items, in any order.
        duplicates: Treatment of repeated pairs of user and item: an error, or "last" to keep its
            last line.
        scale: Lowest and highest legal rating; None takes them from the log.

    Returns:
        The data set.

    Raises:
        ValueError: If an option is not legal.
        DataError: If a rating is out of the scale, or a pair is repeated and must not be.
    """
    _check_options(duplicates, scale)
    if log.rating is not None:
        if scale is None:
            scale = (float(log.rating.min()), float(log.rating.max()))
        outside = np.flatnonzero((log.rating < scale[0]) | (log.rating > scale[1]))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"must lie in the scale [{scale[0]:g}, {scale[1]:g}], got {log.rating[row]:g}.",
                file=log.file,
                column=log.roles.rating,
                **log.place(row),
            )
    elif scale is not None:
        raise ValueError(f"scale must be None where a log has no ratings, got {scale}.")

    user_ids, user = _union(log.user_ids, log.user, users)
    item_ids, item = _union(log.item_ids, log.item, items)
    order = _order(log, user * len(item_ids) + item, duplicates)
    return Dataset(
        name=name,
        interactions=from_columns(
            user[order],
            item[order],
            None if log.rating is None else log.rating[order],
            None if log.time is None else log.time[order],
            user_ids=user_ids,
            item_ids=item_ids,
        ),
        users=_aligned(users, user_ids),
        items=_aligned(items, item_ids),
        scale=scale,
    )


def _check_options(duplicates: str, scale: Scale | None) -> None:
    if duplicates not in ("error", "last"):
        raise ValueError(f"duplicates must be 'error' or 'last', got {duplicates!r}.")
    if scale is None:
        return
    if not (len(scale) == 2 and -math.inf < scale[0] < scale[1] < math.inf):
        raise ValueError(f"scale must be (low, high) with low < high, got {scale}.")


def _order(log: Log, packed: np.ndarray, duplicates: str) -> np.ndarray:
    # Not stable, hence twice as fast, and as good where no pair is repeated.
    order = np.argsort(packed)
    sorted_pairs = packed[order]
    if not (sorted_pairs[1:] == sorted_pairs[:-1]).any():
        return order
    order = np.argsort(packed, kind="stable")
    sorted_pairs = packed[order]
    again = np.flatnonzero(sorted_pairs[1:] == sorted_pairs[:-1])
    if duplicates == "last":
        return np.delete(order, again)
    at = again[np.argmin(order[again + 1])]
    first, second = int(order[at]), int(order[at + 1])
    (unit, before), *_ = log.place(first).items()
    user, item = str(log.user_ids[log.user[first]]), str(log.item_ids[log.item[first]])
    raise DataError(
        f"user {user!r} and item {item!r} are already in {unit} {before} ({len(again)} repeated "
        "in all); duplicates='last' keeps the last.",
        file=log.file,
        **log.place(second),
    )


def _union(
    ids: np.ndarray, codes: np.ndarray, described: Table | None
) -> tuple[np.ndarray, np.ndarray]:
    if described is None or not len(described.ids):
        return ids, codes
    union = np.union1d(ids, described.ids)
    return union, np.searchsorted(union, ids)[codes]


def _aligned(table: Table | None, ids: np.ndarray) -> Table:
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
    return re.sub(r"[^a-z0-9]", "", name.lower())
