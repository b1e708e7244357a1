"""Splits: cold users, warm and cold users by warm and cold items, leave-k-out, and time.

Every split is a pure function of the log and a seed. The order of a user's interactions comes from
a hash of (seed, user, item), so it depends neither on the lines of the file nor on which other
users are selected. `metajax.data.leakage` checks the results.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from metajax.data.dataset import Dataset, TrainingSet
from metajax.data.interactions import Interactions, select_rows, select_users
from metajax.data.labels import BEST, WORST, Labels, check_labels, fit_labels
from metajax.data.schema import Schema

__all__ = [
    "ColdTasks",
    "Fold",
    "Order",
    "Quadrants",
    "Split",
    "cold_user_folds",
    "cold_user_tasks",
    "collected",
    "leave_k_out",
    "ranked",
    "standardised",
    "standardised_tasks",
    "time_split",
    "warm_cold_quadrants",
]


Order = Literal["random", "time"]

VALIDATION_SHARE = 0.15
"""Share of the training users that become validation users."""

MOST_VALIDATION = 1024
"""Most validation users: more hardly tell settings apart better, and are missed in training."""


class ColdTasks(NamedTuple):
    """T users, each with a pool of supports in order and a query that is the same for every K."""

    user: np.ndarray
    """`[T]` int64 user indices."""
    support_item: np.ndarray
    """`[T, P]` int32 item indices; the support of size K is the first `given + K`. Padding is 0."""
    support_rating: np.ndarray
    """`[T, P]` ratings, 0 on padding."""
    support_mask: np.ndarray
    """`[T, P]` bool, False where the pool is shorter than P."""
    query_offsets: np.ndarray
    """`[T + 1]` int64: entries `query_offsets[t]:query_offsets[t + 1]` belong to task t."""
    query_item: np.ndarray
    """`[Q]` int32 item indices, ascending within a task."""
    query_rating: np.ndarray
    """`[Q]` ratings."""
    given: int = 0
    """Number of leading columns of the pool that are shown at every K, such as source history."""
    support_time: np.ndarray | None = None
    """`[T, P]` float32 seconds since the first column's, which is shown from K = 1 on; 0 on
    padding. None in a log without times."""
    candidates: np.ndarray | None = None
    """`[I]` bool, the items that are ranked, such as the cold ones; None: all."""


class Fold(NamedTuple):
    """Users in three disjoint parts, each sorted."""

    train: np.ndarray
    """`[n]` user indices that methods learn from."""
    validation: np.ndarray
    """`[n]` user indices that settings are chosen by."""
    test: np.ndarray
    """`[n]` user indices that the reported figures come from."""


class Split(NamedTuple):
    """A fold, or a draw, of a protocol.

    Vocabularies, scalers and everything fitted come from the training users alone. The tasks come
    in panels: by the order of the supports, or by cold users and items.
    """

    fold: Fold
    """The users in three parts."""
    user_schema: Schema
    """Encoding of users, learned from the training users."""
    item_schema: Schema
    """Encoding of items, learned from the items of the training users."""
    training: TrainingSet
    """The training set of trained methods."""
    final: TrainingSet
    """The training set of the refit: training and validation users."""
    validation: Mapping[str, ColdTasks]
    """By panel: the tasks on which settings are chosen."""
    test: Mapping[str, ColdTasks]
    """By panel: the tasks of the test, evaluated once."""
    ks: Mapping[str, tuple[int, ...]]
    """By panel: the support sizes that its tasks are judged at."""
    labels: Labels = Labels()
    """How the labels of the log, in its unit, were standardised to those of training and tasks."""
    unranked: str = ""
    """Reason that ratings alone are evaluated, and no rankings of the whole catalogue, one
    sentence; empty where rankings are."""

    @property
    def ranked(self) -> bool:
        """True if rankings of the whole catalogue are evaluated."""
        return not self.unranked


class Quadrants(NamedTuple):
    """Warm and cold users by warm and cold items.

    A warm user's support is all of their training ratings, a cold user's a few ratings of warm
    items. Users without a query in a quadrant are left out of it.
    """

    training: Interactions
    """The warm users' ratings of warm items, less those held out."""
    warm_user_warm_item: ColdTasks
    """Held-out ratings of known items by known users."""
    cold_user_warm_item: ColdTasks
    """New users."""
    warm_user_cold_item: ColdTasks
    """New items."""
    cold_user_cold_item: ColdTasks
    """New users and new items."""


def cold_user_folds(
    interactions: Interactions,
    *,
    folds: int = 5,
    validation_share: float = VALIDATION_SHARE,
    most_validation: int = MOST_VALIDATION,
    seed: int = 0,
) -> tuple[Fold, ...]:
    """Splits the users so that each is a test user once.

    Args:
        interactions: The log; users without interactions are in no part.
        folds: Number of folds, at least 2.
        validation_share: Share of the training users that become validation users, in [0, 1).
        most_validation: Most validation users, >= 1.
        seed: Another seed is another repetition.

    Returns:
        The folds, whose test sizes differ by at most 1.

    Raises:
        ValueError: If an argument is out of range.
    """
    users = interactions.users
    if not 2 <= folds <= len(users):
        raise ValueError(f"folds must be in [2, {len(users)}] (the users), got {folds}.")
    if not 0 <= validation_share < 1:
        raise ValueError(f"validation_share must be in [0, 1), got {validation_share}.")
    if most_validation < 1:
        raise ValueError(f"most_validation must be >= 1, got {most_validation}.")
    rng = np.random.default_rng(seed)
    split = []
    for test in np.array_split(rng.permutation(users), folds):
        rest = rng.permutation(np.setdiff1d(users, test))
        n = min(round(validation_share * len(rest)), most_validation)
        split.append(Fold(*(np.sort(part) for part in (rest[n:], rest[:n], test))))
    return tuple(split)


def cold_user_tasks(
    interactions: Interactions,
    users: np.ndarray,
    *,
    pool: int = 10,
    order: Order = "random",
    seed: int = 0,
) -> ColdTasks:
    """Gives each user a support pool, and all their other interactions as the query.

    The pool is the first `min(pool, n - 1)` of a user's n interactions, so that one is always left
    to judge by: who has a single one gets an empty pool, and who has none is left out.

    Args:
        interactions: The log.
        users: `[n]` distinct user indices.
        pool: Largest support, at least 0.
        order: "random", or "time" for the first in time with ties in seeded random order.
        seed: Seed of the order.

    Returns:
        The tasks, in the order of `users`.

    Raises:
        ValueError: If an argument is out of range or a user occurs twice.
    """
    if pool < 0:
        raise ValueError(f"pool must be >= 0, got {pool}.")
    # The order of a user's interactions does not depend on other users.
    own = select_users(interactions, _checked_users(users, len(interactions.user_ids)))
    rank = ranked(own, order, seed)
    size = np.clip(own.user_counts - 1, 0, pool)
    support = rank < np.repeat(size, own.user_counts)
    return collected(own, users, rank, support, ~support, pool, timed=interactions.timed)


def warm_cold_quadrants(
    interactions: Interactions,
    *,
    share: float = 0.2,
    support: int = 5,
    held_out: float = 0.1,
    cold_items: np.ndarray | None = None,
    seed: int = 0,
) -> Quadrants:
    """Splits users and items into warm and cold, with tasks of all four pairings.

    Of each warm user's ratings of warm items, `floor(held_out * n)` in seeded random order are the
    warm-warm query and the rest is training. A cold user gets `min(support, n - 1)` of their n
    ratings of warm items as the support of both quadrants, and the others as the query of one.
    Candidates of rankings are the warm, or the cold, items of the log.

    Args:
        interactions: The log.
        share: Share of users, and of items, that are cold, in (0, 1).
        support: Ratings of warm items that are seen of a cold user, at least 0.
        held_out: Share of a warm user's ratings of warm items that is not trained on, in [0, 1).
        cold_items: `[n]` item indices that are cold, for instance the newest; None draws them.
        seed: Another seed is another draw.

    Returns:
        The training log and the four sets of tasks.

    Raises:
        ValueError: If an argument is out of range.
    """
    for name, value, low in (("share", share, "("), ("held_out", held_out, "[")):
        if not 0 <= value < 1 or (low == "(" and value == 0):
            raise ValueError(f"{name} must be in {low}0, 1), got {value}.")
    if support < 0:
        raise ValueError(f"support must be >= 0, got {support}.")
    rng = np.random.default_rng(seed)
    users, items = len(interactions.user_ids), len(interactions.item_ids)
    is_cold = np.isin(np.arange(users), rng.permutation(users)[: round(share * users)])
    if cold_items is None:
        cold_items = rng.permutation(items)[: round(share * items)]
    elif len(cold_items) and not 0 <= np.min(cold_items) <= np.max(cold_items) < items:
        raise ValueError(f"cold_items must hold indices in [0, {items}).")

    user = interactions.user
    warm = ~np.isin(interactions.item, cold_items)
    rank = ranked(interactions, "random", seed, first=warm)
    n = np.bincount(user[warm], minlength=users)
    size = np.where(is_cold, np.clip(n - 1, 0, support), n - np.floor(held_out * n).astype(int))
    seen = warm & (rank < size[user])

    def quadrant(chosen: np.ndarray, of_warm: bool) -> ColdTasks:
        query = warm & ~seen if of_warm else ~warm
        width = int(size[chosen].max(initial=0))
        tasks = collected(interactions, np.flatnonzero(chosen), rank, seen, query, width)
        item = interactions.item[warm if of_warm else ~warm]
        return tasks._replace(candidates=np.bincount(item, minlength=items) > 0)

    return Quadrants(
        training=select_rows(interactions, seen & ~is_cold[user]),
        warm_user_warm_item=quadrant(~is_cold, True),
        cold_user_warm_item=quadrant(is_cold, True),
        warm_user_cold_item=quadrant(~is_cold, False),
        cold_user_cold_item=quadrant(is_cold, False),
    )


def standardised(split: Split, dataset: Dataset) -> Split:
    """Standardises the labels of a split, by a map that is fitted to its training users.

    Args:
        split: A split whose labels are in the unit of the log.
        dataset: The data that it was made of.

    Returns:
        The split with its map. Queries keep labels beyond the bulk, so that nothing is judged
        better than it is; in training sets and supports they are clipped.

    Raises:
        ValueError: As `fit_labels` and `check_labels`.
    """
    if dataset.scale is None:
        return split
    check_labels(dataset.interactions.rating, name=dataset.name)
    labels = fit_labels(
        split.training.interactions.rating,
        dataset.scale,
        given=dataset.scale_given,
        transform=dataset.transform,
    )

    relevant = None
    if dataset.relevant is not None:
        relevant = float(labels.clipped(np.array(dataset.relevant)))

    def training(found: TrainingSet) -> TrainingSet:
        log = found.interactions
        return found._replace(
            interactions=log._replace(rating=labels.clipped(log.rating)),
            scale=(WORST, BEST),
            relevant=relevant,
        )

    def tasks(found: Mapping[str, ColdTasks]) -> dict[str, ColdTasks]:
        return {panel: standardised_tasks(one, labels) for panel, one in found.items()}

    seen = training(split.training)
    good = seen.interactions.rating[seen.interactions.rating >= seen.threshold]
    if len(good):
        # A label that occurs, and no mean of two.
        liked = float(np.quantile(good, 0.5, method="inverted_cdf"))
        labels = labels._replace(liked=liked)
    return split._replace(
        training=seen,
        final=training(split.final),
        validation=tasks(split.validation),
        test=tasks(split.test),
        labels=labels,
    )


def standardised_tasks(tasks: ColdTasks, labels: Labels) -> ColdTasks:
    """Standardises the labels of tasks.

    Args:
        tasks: Tasks whose labels are in the unit of the log.
        labels: The map.

    Returns:
        The tasks. Queries keep labels beyond the bulk; those of supports are clipped.
    """
    shown = np.where(tasks.support_mask, labels.clipped(tasks.support_rating), np.float32(0))
    asked = labels.inside(tasks.query_rating).astype(np.float32)
    return tasks._replace(support_rating=shown, query_rating=asked)


def leave_k_out(
    interactions: Interactions, k: int, *, order: Order = "time", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Holds out the last k interactions of each user that has any.

    Args:
        interactions: The log.
        k: Number to hold out, at least 1.
        order: "time", with ties in seeded random order, or "random".
        seed: Seed of the order.

    Returns:
        `[R]` bool masks of the training rows and of the test rows.

    Raises:
        ValueError: If k is below 1, or a user has interactions but not more than k.
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}.")
    n = interactions.user_counts
    short = np.flatnonzero((n > 0) & (n <= k))
    if len(short):
        name = str(interactions.user_ids[short[0]])
        raise ValueError(
            f"k must be less than each user's interactions, got k={k} for user {name!r} with "
            f"{n[short[0]]} ({len(short)} such users)."
        )
    test = ranked(interactions, order, seed) >= (n - k)[interactions.user]
    return ~test, test


def time_split(
    interactions: Interactions, *, share: float | None = None, at: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Trains on the past and tests on the future: training rows are those before one instant.

    Args:
        interactions: The log.
        share: Share of the rows that lie in the past, in (0, 1), 0.8 unless `at` is given. The
            rows of one instant stay together, so the past may be a little shorter.
        at: First instant of the future, in the log's unit, instead of `share`.

    Returns:
        `[R]` bool masks of the training rows and of the test rows.

    Raises:
        ValueError: If both are given, share is out of range, or past or future is empty.
    """
    if share is not None and at is not None:
        raise ValueError(f"share and at exclude each other, got {share} and {at}.")
    if at is None:
        share = 0.8 if share is None else share
        if not 0 < share < 1:
            raise ValueError(f"share must be in (0, 1), got {share}.")
        rows = len(interactions.time)
        at = int(np.sort(interactions.time)[int(share * rows)]) if rows else 0
    train = interactions.time < at
    if train.all() or not train.any():
        part = "past" if not train.any() else "future"
        raise ValueError(f"a time split at {at} needs rows on both sides, got an empty {part}.")
    return train, ~train


def collected(
    interactions: Interactions,
    users: np.ndarray,
    rank: np.ndarray,
    support: np.ndarray,
    query: np.ndarray,
    pool: int,
    *,
    timed: bool | None = None,
) -> ColdTasks:
    """Collects supports and queries of some users.

    Args:
        interactions: The log, of R rows.
        users: `[n]` user indices; those without a query are left out.
        rank: `[R]` position of each row among its user's rows; < `pool` in supports.
        support: `[R]` bool, the rows of supports.
        query: `[R]` bool, the rows of queries.
        pool: P, the largest support.
        timed: Whether supports get times; None: where the log has any.

    Returns:
        The tasks, in the order of `users`.

    Raises:
        ValueError: If the users are not distinct, or not of the log.
    """
    total = len(interactions.user_ids)
    users, user = _checked_users(users, total), interactions.user
    users = users[np.bincount(user[query], minlength=total)[users] > 0]
    slot = np.full(total, -1)
    slot[users] = np.arange(len(users))
    task = slot[user]

    rows = np.flatnonzero(support & (task >= 0))
    shape, at = (len(users), pool), (task[rows], rank[rows])
    item, rating = np.zeros(shape, np.int32), np.zeros(shape, interactions.rating.dtype)
    mask = np.zeros(shape, bool)
    item[at], rating[at], mask[at] = interactions.item[rows], interactions.rating[rows], True
    time = None
    if interactions.timed if timed is None else timed:
        moment = np.zeros(shape)
        moment[at] = interactions.time[rows]
        time = np.where(mask, moment - moment[:, :1], 0).astype(np.float32)

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
        support_time=time,
    )


def _checked_users(users: np.ndarray, total: int) -> np.ndarray:
    """Refuses users that are not distinct, or not of a log of `total` users."""
    users = np.asarray(users, np.int64)
    if len(np.unique(users)) != len(users):
        raise ValueError("users must be distinct.")
    if len(users) and not 0 <= users.min() <= users.max() < total:
        raise ValueError(f"users must hold indices in [0, {total}).")
    return users


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


def _hash(seed: int, *columns: np.ndarray) -> np.ndarray:
    # SplitMix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA
    # 2014) over the columns: 64 bits, so within one user's rows ties do not happen in practice.
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    for column in columns:
        state = (state ^ column.astype(np.uint64)) + 0x9E3779B97F4A7C15
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB
        state = state ^ (state >> 31)
    return state
