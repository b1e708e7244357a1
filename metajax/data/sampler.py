"""Training tasks sampled on the device: ratings of a user, or a ranking of candidates."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import TrainingSet, room
from metajax.data.interactions import Interactions
from metajax.types import Examples, Inputs, MemberInputs, Task

__all__ = [
    "Draw",
    "TaskOrder",
    "TaskTable",
    "distinct",
    "draw_users",
    "inputs_of",
    "of_member",
    "rows_of_user",
    "sample_candidate_tasks",
    "sample_catalogue_tasks",
    "sample_tasks",
    "sampling_shares",
    "task_table",
]

_MOST_ROWS = 4096

TaskOrder = Literal["random", "time", "mixed"]


class TaskTable(NamedTuple):
    """A training set on the device, laid out for sampling.

    M and R are the next powers of two and the rest is padding, so that a program compiled for one
    training set serves others of about its size: the folds of a data set, for instance.
    """

    users: jax.Array
    """`[]` int32, the number of users with at least one interaction; only they are drawn."""
    user: jax.Array
    """`[M]` int32, who they are."""
    start: jax.Array
    """`[M]` int32, the first row of each."""
    count: jax.Array
    """`[M]` int32, the number of rows of each."""
    item: jax.Array
    """`[R]` int32; a user's rows in order of time, ties in a seeded random order."""
    rating: jax.Array
    """`[R]` float32."""
    sorted_item: jax.Array
    """`[R]` int32; a user's items in order of their index, to look one up."""
    sorted_rating: jax.Array
    """`[R]` float32, in the same order."""
    user_features: jax.Array
    """`[U, Du]` float32."""
    item_features: jax.Array
    """`[I, Di]` float32."""
    item_counts: jax.Array
    """`[I]` float32, the number of interactions with each item."""
    candidates: jax.Array | None = None
    """`[C]` int32, the items that lists are of, such as those of a target domain; None: all."""

    @property
    def listed(self) -> jax.Array:
        """`[C]` int32, the items that lists are of."""
        if self.candidates is not None:
            return self.candidates
        return jnp.arange(len(self.item_features), dtype=jnp.int32)


def task_table(training: TrainingSet, *, seed: int = 0) -> TaskTable:
    """Moves a training set to the device.

    Args:
        training: The training set.
        seed: Breaks ties of time.

    Returns:
        The table of tasks.

    Raises:
        ValueError: If there is no interaction, or 2^31 or more.
    """
    log = training.interactions
    if not 0 < len(log.item) < 2**31:
        raise ValueError(f"training must have 1 to 2^31 - 1 interactions, got {len(log.item)}.")
    order = _in_time(log, seed)
    counts = log.user_counts
    users = np.flatnonzero(counts)
    return TaskTable(
        users=jnp.asarray(len(users), jnp.int32),
        user=_padded(users.astype(np.int32)),
        start=_padded(log.offsets[users].astype(np.int32)),
        count=_padded(counts[users].astype(np.int32)),
        item=_padded(log.item[order]),
        rating=_padded(log.rating[order]),
        sorted_item=_padded(log.item),
        sorted_rating=_padded(log.rating),
        user_features=jnp.asarray(training.user_features),
        item_features=jnp.asarray(training.item_features),
        item_counts=jnp.asarray(log.item_counts, jnp.float32),
    )


def _in_time(log: Interactions, seed: int) -> np.ndarray:
    """Returns `[R]` the rows of each user in order of time, ties in a seeded random order."""
    ties = np.random.default_rng(seed).random(len(log.item))
    if not log.timed:
        return np.lexsort((ties, log.user))
    span = int(log.time.max()) - int(log.time.min()) + 1
    if span >= 2**63 // len(log.user_ids):
        return np.lexsort((ties, log.time, log.user))
    # One sort of one packed integer is several times faster, and equal ones are few.
    packed = log.user * span + (log.time - log.time.min())
    order = np.argsort(packed, kind="stable")
    packed = packed[order]
    equal = np.flatnonzero(packed[1:] == packed[:-1])
    if len(equal):
        rows = np.union1d(equal, equal + 1)
        order[rows] = order[rows][np.lexsort((ties[order[rows]], packed[rows]))]
    return order


class Draw(NamedTuple):
    """A drawn user and the rows of the task."""

    user: jax.Array
    """`[]` int32, counted among the users of the table."""
    key: jax.Array
    """PRNG key of further draws for this task."""
    support_rows: jax.Array
    """`[S]` int32, counted from the user's first row."""
    support_mask: jax.Array
    """`[S]` bool."""
    query_rows: jax.Array
    """`[Q]` int32, none of them in the support."""
    query_mask: jax.Array
    """`[Q]` bool."""


def sample_tasks(
    table: TaskTable,
    key: jax.Array,
    *,
    tasks: int,
    support: int,
    query: int,
    order: TaskOrder = "random",
    members: bool = False,
) -> Task:
    """Draws a batch of tasks, which the key determines.

    Users are drawn uniformly, with replacement between tasks. Each task draws its own support
    size, uniformly from 0 to `support`; support and query are disjoint, without repetition, and
    shrink by their masks where a user has too few interactions. One interaction always goes to
    the query.

    Args:
        table: The training set.
        key: A PRNG key.
        tasks: T, the number of tasks.
        support: S, the largest support.
        query: Q, the largest query.
        order: `random`: the support is any of the user's interactions. `time`: the support is
            the user's first ones, the query is drawn from the later ones. `mixed`: one or the
            other, by a coin for each task.
        members: True if the inputs of a query are `MemberInputs`.

    Returns:
        Tasks whose inputs are `Inputs`; leaves lead with `[T, S]` and `[T, Q]`.

    Raises:
        ValueError: If `tasks` or `query` < 1, `support` < 0, `support + query` > 4096, or `order`
            is another word.
    """
    draws = draw_users(table, key, tasks=tasks, support=support, query=query, order=order)

    def one(draw: Draw) -> Task:
        query = rows_of_user(table, draw.user, draw.query_rows, draw.query_mask)
        return Task(
            rows_of_user(table, draw.user, draw.support_rows, draw.support_mask),
            of_member(query, table.user[draw.user]) if members else query,
        )

    return jax.vmap(one)(draws)


def draw_users(
    table: TaskTable, key: jax.Array, *, tasks: int, support: int, query: int, order: TaskOrder
) -> Draw:
    """Draws the users of a batch and their rows; arguments and errors as in `sample_tasks`.

    Returns:
        A draw whose leaves lead with T.
    """
    for name, value, least in (("tasks", tasks, 1), ("support", support, 0), ("query", query, 1)):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    if support + query > _MOST_ROWS:
        raise ValueError(
            f"support + query must be <= {_MOST_ROWS}, got {support} + {query}: a draw without "
            "repetition costs the square of it."
        )
    if order not in ("random", "time", "mixed"):
        raise ValueError(f"order must be random, time or mixed, got {order!r}.")
    user_key, task_key = jax.random.split(key)
    drawn = jax.random.randint(user_key, (tasks,), 0, table.users)

    def one(user: jax.Array, key: jax.Array) -> Draw:
        size_key, row_key, order_key = jax.random.split(key, 3)
        count = table.count[user]
        # At least one interaction is left to be judged by.
        size = jnp.minimum(jax.random.randint(size_key, (), 0, support + 1), count - 1)
        in_time = {"random": False, "time": True, "mixed": jax.random.bernoulli(order_key)}[order]
        # In time the support is given and the draw is of later rows, counted from the first one.
        rows = distinct(row_key, jnp.where(in_time, count - size, count), support + query)
        return Draw(
            user,
            key,
            support_rows=jnp.where(in_time, jnp.arange(support), rows[:support]),
            support_mask=jnp.arange(support) < size,
            query_rows=jnp.where(in_time, size + rows[:query], rows[size + jnp.arange(query)]),
            query_mask=jnp.arange(query) < jnp.minimum(count - size, query),
        )

    return jax.vmap(one)(drawn, jax.random.split(task_key, tasks))


def rows_of_user(table: TaskTable, user: jax.Array, rows: jax.Array, mask: jax.Array) -> Examples:
    """Gathers rows `[N]` of one user; padding repeats the last row and is masked."""
    last = table.count[user] - 1
    rows = table.start[user] + jnp.minimum(rows, last)
    return Examples(inputs_of(table, user, table.item[rows]), table.rating[rows], mask)


def of_member(
    query: Examples,
    user: jax.Array,
    known: jax.Array | None = None,
    rating: jax.Array | None = None,
) -> Examples:
    """Adds the user's index and known ratings to a query.

    Args:
        query: N rows of one user.
        user: `[]` int32 index of the user in the training set.
        known: `[N]` bool, True where the user has rated the item; None means all.
        rating: `[N]` these ratings; None means the labels.

    Returns:
        The query with `MemberInputs`.
    """
    who = jnp.full(query.mask.shape, user)
    known = jnp.ones_like(query.mask) if known is None else known
    rating = query.labels if rating is None else rating
    return query._replace(inputs=MemberInputs(query.inputs, who, known, rating))


def inputs_of(table: TaskTable, user: jax.Array, item: jax.Array) -> Inputs:
    """Gathers the features of one user and of `[N]` items."""
    features = table.user_features[table.user[user]]  # [Du]
    return Inputs(
        user_features=jnp.broadcast_to(features, (len(item), len(features))),
        item_features=table.item_features[item],
        item=item,
    )


def _padded(column: np.ndarray) -> jax.Array:
    return jnp.asarray(np.pad(column, (0, room(len(column)) - len(column))))


def distinct(key: jax.Array, n: jax.Array, k: int) -> jax.Array:
    """Draws min(n, k) distinct integers below n, in random order, then padding: `[k]` int32.

    Floyd's algorithm costs O(k^2) however long the history is.

    References:
        Bentley and Floyd, A sample of brilliance, Communications of the ACM 30(9), 1987.
    """
    draw_key, order_key = jax.random.split(key)
    top = n - k + jnp.arange(k)  # [k], negative where n < k: no draw
    draws = jax.random.randint(draw_key, (k,), 0, jnp.maximum(top + 1, 1))

    def draw(i: jax.Array, chosen: jax.Array) -> jax.Array:
        taken = jnp.any(chosen == draws[i])
        return chosen.at[i].set(jnp.where(top[i] < 0, -1, jnp.where(taken, top[i], draws[i])))

    chosen = jax.lax.fori_loop(0, k, draw, jnp.full(k, -1, jnp.int32))
    # Floyd's set is uniform, its order is not.
    rank = jnp.where(chosen < 0, 2.0, jax.random.uniform(order_key, (k,)))
    return jnp.maximum(chosen[jnp.argsort(rank)], 0)


def sample_catalogue_tasks(
    table: TaskTable,
    key: jax.Array,
    *,
    tasks: int,
    support: int,
    relevant: float = -jnp.inf,
    order: TaskOrder = "random",
    members: bool = False,
) -> Task:
    """Draws tasks whose query is all candidates of the table without the user's pool.

    Label 1 marks what the user rated `relevant` or better, 0 everything else. The pool is the
    support of full size S, or of all interactions but one if they are fewer; what of it is not
    shown is masked out like what is, as in protocol P1. A query without a 1 is masked out.

    Args:
        table: The training set.
        key: A PRNG key.
        tasks: T, the number of tasks.
        support: S, the largest support; its labels are ratings, as in `sample_tasks`.
        relevant: Lowest rating of a relevant item; by default every interaction counts.
        order: As in `sample_tasks`.
        members: True if the inputs of a query are `MemberInputs`.

    Returns:
        Tasks whose leaves lead with `[T, S]` and `[T, C]`, C items in all or as candidates.

    Raises:
        ValueError: As `sample_tasks`.
    """
    draws = draw_users(table, key, tasks=tasks, support=support, query=1, order=order)
    catalogue = table.listed

    def one(draw: Draw) -> Task:
        seen = rows_of_user(table, draw.user, draw.support_rows, draw.support_mask)
        known, rating = _look_up(table, draw.user, catalogue)
        pooled = jnp.arange(support) < table.count[draw.user] - 1
        query = _listed(
            table, draw, seen._replace(mask=pooled), catalogue, known & (rating >= relevant)
        )
        if members:
            query = of_member(query, table.user[draw.user], known, rating)
        return Task(seen, query)

    return jax.vmap(one)(draws)


def sample_candidate_tasks(
    table: TaskTable,
    key: jax.Array,
    *,
    tasks: int,
    support: int,
    query: int,
    negatives: int,
    power: float = 0.0,
    relevant: float = -jnp.inf,
    order: TaskOrder = "random",
    members: bool = False,
) -> Task:
    """Draws tasks whose query is some of the user's other items among sampled ones.

    The sampled items are drawn from the candidates of the table, with repetition, by
    `sampling_shares`; those the user knows are masked out.

    Args:
        table: The training set.
        key: A PRNG key.
        tasks: T, the number of tasks.
        support: S, the largest support; its labels are ratings, as in `sample_tasks`.
        query: Q, the most of the user's own items. Label 1 marks those rated `relevant` or better.
        negatives: C, the sampled items, of label 0.
        power: As in `sampling_shares`.
        relevant: Lowest rating of a relevant item; by default every interaction counts.
        order: As in `sample_tasks`.
        members: True if the inputs of a query are `MemberInputs`.

    Returns:
        Tasks whose leaves lead with `[T, S]` and `[T, Q + C]`.

    Raises:
        ValueError: As `sample_tasks`, or if `negatives` < 1.
    """
    if negatives < 1:
        raise ValueError(f"negatives must be >= 1, got {negatives}.")
    draws = draw_users(table, key, tasks=tasks, support=support, query=query, order=order)
    listed = table.listed
    ends = jnp.cumsum(sampling_shares(table, power)[listed])

    def drawn_by(key: jax.Array) -> jax.Array:
        if not power:
            return jax.random.randint(key, (negatives,), 0, len(listed), jnp.int32)
        place = jax.random.uniform(key, (negatives,)) * ends[-1]
        return jnp.minimum(jnp.searchsorted(ends, place, side="right"), len(listed) - 1)

    def one(draw: Draw) -> Task:
        seen = rows_of_user(table, draw.user, draw.support_rows, draw.support_mask)
        own = rows_of_user(table, draw.user, draw.query_rows, draw.query_mask)
        drawn = listed[drawn_by(jax.random.fold_in(draw.key, 1))]
        item = jnp.concatenate([own.inputs.item, drawn])
        known, rating = _look_up(table, draw.user, item)
        mask = jnp.concatenate([own.mask, ~known[query:]])
        liked = own.mask & (own.labels >= relevant)
        candidates = _listed(table, draw, seen, item, jnp.pad(liked, (0, negatives)))
        candidates = candidates._replace(mask=candidates.mask & mask)
        if members:
            candidates = of_member(candidates, table.user[draw.user], known, rating)
        return Task(seen, candidates)

    return jax.vmap(one)(draws)


def sampling_shares(table: TaskTable, power: float) -> jax.Array:
    """Returns `[I]` probabilities of a draw of a candidate; 0 of what is none.

    Args:
        table: The training set.
        power: Of the number of interactions with an item, and one more, in [0, 1]: 0 draws
            uniformly, 1 by popularity, and 3/4 is that of word2vec.

    References:
        Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality,
        NIPS 2013, section 2.2.
    """
    listed = table.listed
    weight = (1 + table.item_counts[listed]) ** power
    return jnp.zeros(len(table.item_features)).at[listed].set(weight / jnp.sum(weight))


def _listed(
    table: TaskTable, draw: Draw, left_out: Examples, item: jax.Array, liked: jax.Array
) -> Examples:
    """Makes a query of candidates `[N]`, some items left out; empty where none is liked."""
    matches = (item[:, None] == left_out.inputs.item[None]) & left_out.mask[None]  # [N, S]
    mask = ~matches.any(axis=1)
    liked &= mask
    mask &= liked.any()
    return Examples(inputs_of(table, draw.user, item), liked.astype(jnp.float32), mask)


def _look_up(table: TaskTable, user: jax.Array, item: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds items `[N]` among those of a user by bisection: `[N]` bool, and their ratings."""
    start, count = table.start[user], table.count[user]
    low, high = jnp.zeros_like(item), jnp.full_like(item, count)
    for _ in range(len(table.sorted_item).bit_length()):
        middle = (low + high) // 2
        less = (low < high) & (table.sorted_item[start + middle] < item)
        low, high = jnp.where(less, middle + 1, low), jnp.where(less, high, middle)
    row = start + jnp.minimum(low, count - 1)
    known = (low < count) & (table.sorted_item[row] == item)
    return known, table.sorted_rating[row]
