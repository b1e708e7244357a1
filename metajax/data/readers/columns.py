"""Which column of a log is the user, the item, the rating and the time."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metajax.data.readers.errors import DataError

__all__ = ["Roles", "find_roles"]

# Spelled as `_plain` leaves them: lower case, letters and digits only.
_ALIASES = {
    "user": "user userid uid customer customerid reviewer reviewerid visitor visitorid account",
    "item": "item itemid iid movie movieid product productid asin parentasin book bookid isbn "
    "track trackid song songid artist artistid game gameid business businessid article articleid",
    "rating": "rating ratings stars score overall bookrating",
    "time": "timestamp time datetime date ts eventtime unixtime unixreviewtime createdat",
}


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
                near = difflib.get_close_matches(given, names, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise DataError(f"no column {given!r}; found {found}.{hint}", file=file)
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


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
