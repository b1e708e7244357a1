"""What may be seen of cold users, and what they are judged by, as arrays.

The order of a user's interactions comes from a hash of (seed, user, item), so it depends neither
on the lines of the file nor on which other users are asked for.
"""

from typing import Literal, NamedTuple

import numpy as np

from metajax.data.interactions import Interactions

__all__ = ["ColdTasks", "Order", "collected", "ranked"]

Order = Literal["random", "time"]


class ColdTasks(NamedTuple):
    """T users, each with a pool of supports in order and a query that is the same for every K."""

    user: np.ndarray
    """`[T]` int64 user indices."""
    support_item: np.ndarray
    """`[T, P]` int32 item indices; the support of size K is the first `given + K`. Padding is 0."""
    support_rating: np.ndarray
    """`[T, P]` float32 ratings."""
    support_mask: np.ndarray
    """`[T, P]` bool, False where the pool is shorter than P."""
    query_offsets: np.ndarray
    """`[T + 1]` int64: entries `query_offsets[t]:query_offsets[t + 1]` belong to task t."""
    query_item: np.ndarray
    """`[Q]` int32 item indices, ascending within a task."""
    query_rating: np.ndarray
    """`[Q]` float32 ratings."""
    given: int = 0
    """So many columns of the pool are shown at every K: what is known of the user elsewhere."""


def collected(
    interactions: Interactions,
    users: np.ndarray,
    rank: np.ndarray,
    support: np.ndarray,
    query: np.ndarray,
    pool: int,
) -> ColdTasks:
    """Collects what is seen and what is asked of some users.

    Args:
        interactions: The log, of R rows.
        users: `[n]` user indices; who has no query is left out.
        rank: `[R]` the place of each row among its user's rows, for a row of a support < `pool`.
        support: `[R]` bool, the rows that are seen.
        query: `[R]` bool, the rows that are asked.
        pool: P, the most that is seen of a user.

    Returns:
        The tasks, in the order of `users`.

    Raises:
        ValueError: If the users are not distinct, or not of the log.
    """
    users, total = np.asarray(users, np.int64), len(interactions.user_ids)
    if len(np.unique(users)) != len(users):
        raise ValueError("users must be distinct.")
    if len(users) and not 0 <= users.min() <= users.max() < total:
        raise ValueError(f"users must hold indices in [0, {total}).")
    user = interactions.user
    users = users[np.bincount(user[query], minlength=total)[users] > 0]
    slot = np.full(total, -1)
    slot[users] = np.arange(len(users))
    task = slot[user]

    rows = np.flatnonzero(support & (task >= 0))
    shape, at = (len(users), pool), (task[rows], rank[rows])
    item, rating = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    mask = np.zeros(shape, bool)
    item[at], rating[at], mask[at] = interactions.item[rows], interactions.rating[rows], True

    rows = np.flatnonzero(query & (task >= 0))
    rows = rows[np.argsort(task[rows], kind="stable")]
    counts = np.bincount(task[rows], minlength=len(users))
    return ColdTasks(
        user=users,
        support_item=item,
        support_rating=rating,
        support_mask=mask,
        query_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        query_item=interactions.item[rows],
        query_rating=interactions.rating[rows],
    )


def ranked(
    interactions: Interactions, order: Order, seed: int, *, first: np.ndarray | None = None
) -> np.ndarray:
    """Returns `[R]` the place of each row among its user's; rows marked `first` lead.

    Raises:
        ValueError: If the order is unknown.
    """
    if order not in ("random", "time"):
        raise ValueError(f'order must be "random" or "time", got {order!r}.')
    user = interactions.user
    keys = [_hash(seed, user, interactions.item)]
    if order == "time":
        keys.append(interactions.time)
    if first is not None:
        keys.append(~first)
    rank = np.empty(len(user), np.int64)
    # The users' blocks stay where they are, so the rank is the distance to the block's start.
    rank[np.lexsort((*keys, user))] = np.arange(len(user)) - interactions.offsets[user]
    return rank


def _hash(seed: int, *words: np.ndarray) -> np.ndarray:
    # SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA
    # 2014) over the words: 64 bits, so within one user's rows ties do not happen in practice.
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    for word in words:
        state = (state ^ word.astype(np.uint64)) + 0x9E3779B97F4A7C15
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB
        state = state ^ (state >> 31)
    return state
