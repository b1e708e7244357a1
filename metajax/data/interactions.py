"""Interaction log of a recommender in compressed sparse rows (CSR), sorted by user, then item.

One user's interactions lie side by side, so a task is a slice and a batch of tasks is drawn on
the device without touching Python.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Interactions", "from_columns", "select_rows", "select_users"]


class Interactions(NamedTuple):
    """R interactions of U users with I items, sorted by user, then item.

    The order does not depend on the order of the lines in the file that was read. A pair of
    user and item occurs once.
    """

    offsets: np.ndarray
    """`[U + 1]` int64: rows `offsets[u]:offsets[u + 1]` belong to user `u`."""
    item: np.ndarray
    """`[R]` int32 index of the item."""
    rating: np.ndarray
    """`[R]` float32, or float64 where that would lose digits; all 1 in an implicit log."""
    time: np.ndarray
    """`[R]` int64, in the unit of the source (usually seconds); all 0 where it has none."""
    user_ids: np.ndarray
    """`[U]` the users' names in the source, strings, sorted."""
    item_ids: np.ndarray
    """`[I]` the items' names in the source, strings, sorted."""

    @property
    def user(self) -> np.ndarray:
        """`[R]` int64 index of the user."""
        return np.repeat(np.arange(len(self.user_ids)), self.user_counts)

    @property
    def users(self) -> np.ndarray:
        """`[n]` int64 users with an interaction or more, ascending."""
        return np.flatnonzero(self.user_counts)

    @property
    def user_counts(self) -> np.ndarray:
        """`[U]` int64 number of interactions of each user."""
        return np.diff(self.offsets)

    @property
    def item_counts(self) -> np.ndarray:
        """`[I]` int64 number of interactions of each item."""
        return np.bincount(self.item, minlength=len(self.item_ids))

    @property
    def timed(self) -> bool:
        """Whether the log has times: a log without has the same in every row."""
        return bool(len(self.time) and np.ptp(self.time))


def from_columns(
    user: np.ndarray,
    item: np.ndarray,
    rating: np.ndarray | None = None,
    time: np.ndarray | None = None,
    *,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
) -> Interactions:
    """Builds the CSR arrays from columns in any order.

    Args:
        user: `[R]` user indices into `user_ids`.
        item: `[R]` item indices into `item_ids`.
        rating: `[R]` ratings; None means an implicit log, whose ratings are all 1.
        time: `[R]` integers; None means 0 everywhere.
        user_ids: `[U]` strings.
        item_ids: `[I]` strings.

    Returns:
        The interactions, sorted by user, then item.

    Raises:
        ValueError: If the columns differ in length, an index is out of range, a rating is not
            finite, or a pair of user and item occurs twice.

    Example:
        >>> log = from_columns(np.array([1, 0, 1]), np.array([0, 0, 1]), np.array([3., 4., 5.]),
        ...                    user_ids=np.array(["u", "v"]), item_ids=np.array(["a", "b"]))
        >>> log.offsets, log.item, log.rating
        (array([0, 1, 3]), array([0, 0, 1], dtype=int32), array([4., 3., 5.], dtype=float32))
    """
    user, item = np.asarray(user), np.asarray(item)
    rows = len(user)
    rating = np.ones(rows, np.float32) if rating is None else _exact(np.asarray(rating))
    time = np.zeros(rows, np.int64) if time is None else np.asarray(time, np.int64)
    for name, column in (("item", item), ("rating", rating), ("time", time)):
        if len(column) != rows:
            raise ValueError(f"{name} must have as many rows as user ({rows}), got {len(column)}.")
    for name, column, ids in (("user", user, user_ids), ("item", item, item_ids)):
        if rows and not 0 <= column.min() <= column.max() < len(ids):
            raise ValueError(f"{name} must hold indices in [0, {len(ids)}).")
    if not np.isfinite(rating).all():
        raise ValueError(f"rating must be finite, got {rating[~np.isfinite(rating)][0]}.")

    # One sort of one packed integer is several times faster than a lexicographic sort.
    packed = user.astype(np.int64) * len(item_ids) + item
    order = np.argsort(packed, kind="stable")
    packed = packed[order]
    repeated = np.flatnonzero(packed[1:] == packed[:-1])
    if len(repeated):
        u, i = divmod(int(packed[repeated[0]]), len(item_ids))
        raise ValueError(
            f"a pair of user and item must occur once, got user {str(user_ids[u])!r} with item "
            f"{str(item_ids[i])!r} twice ({len(repeated)} repeated rows)."
        )
    counts = np.bincount(user, minlength=len(user_ids))
    return Interactions(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=item[order].astype(np.int32),
        rating=rating[order],
        time=time[order],
        user_ids=np.asarray(user_ids),
        item_ids=np.asarray(item_ids),
    )


def _exact(rating: np.ndarray) -> np.ndarray:
    """Returns ratings in float32, unless float64 holds more of them."""
    with np.errstate(over="ignore"):
        single = rating.astype(np.float32)
    return single if np.array_equal(single, rating, equal_nan=True) else rating.astype(np.float64)


def select_users(interactions: Interactions, users: np.ndarray) -> Interactions:
    """Keeps the interactions of some users; every other user is left with none.

    Indices keep their meaning, so feature tables and vocabularies still fit.

    Args:
        interactions: The log.
        users: `[n]` user indices.

    Returns:
        Interactions with the same `user_ids` and `item_ids`.
    """
    keep = np.zeros(len(interactions.user_ids), bool)
    keep[users] = True
    counts = np.where(keep, interactions.user_counts, 0)
    rows = np.repeat(keep, interactions.user_counts)
    return _selected(interactions, rows, counts)


def select_rows(interactions: Interactions, rows: np.ndarray) -> Interactions:
    """Keeps the chosen rows, given as a `[R]` bool mask; indices keep their meaning."""
    before = np.append(0, np.cumsum(rows))
    return _selected(interactions, rows, np.diff(before[interactions.offsets]))


def _selected(interactions: Interactions, rows: np.ndarray, counts: np.ndarray) -> Interactions:
    return interactions._replace(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=interactions.item[rows],
        rating=interactions.rating[rows],
        time=interactions.time[rows],
    )
