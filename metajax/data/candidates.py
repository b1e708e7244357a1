"""Tasks of ranking: a user's support, and candidates of which some are what the user liked."""

import jax
import jax.numpy as jnp

from metajax.data.sampler import (
    Draw,
    TaskOrder,
    TaskTable,
    draw_users,
    inputs_of,
    of_member,
    rows_of_user,
)
from metajax.types import Examples, Task

__all__ = ["sample_candidate_tasks", "sample_catalogue_tasks"]


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
    """Draws tasks whose query is the whole catalogue without the support.

    Label 1 marks what the user rated `relevant` or better, 0 everything else. What a support of
    full size S would have held is not asked for: it is a candidate of label 0, as in protocol P1,
    where users are judged by what comes after the pool whatever they have shown of it. A query
    without a 1 is masked out whole: it would teach nothing.

    Args:
        table: The training set.
        key: A PRNG key.
        tasks: T, the number of tasks.
        support: S, the largest support; its labels are ratings, as in `sample_tasks`.
        relevant: Lowest rating of a relevant item; by default every interaction counts.
        order: As in `sample_tasks`.
        members: Whether the inputs of a query are `MemberInputs`.

    Returns:
        Tasks whose leaves lead with `[T, S]` and `[T, I]`.

    Raises:
        ValueError: As `sample_tasks`.
    """
    draws = draw_users(table, key, tasks=tasks, support=support, query=1, order=order)
    catalogue = jnp.arange(len(table.item_features), dtype=jnp.int32)

    def one(draw: Draw) -> Task:
        seen = rows_of_user(table, draw.user, draw.support_rows, draw.support_mask)
        known, rating = _look_up(table, draw.user, catalogue)
        pooled = (catalogue[:, None] == seen.inputs.item[None]).any(axis=1)
        liked = known & (rating >= relevant) & ~pooled
        query = _listed(table, draw, seen, catalogue, liked)
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
    relevant: float = -jnp.inf,
    order: TaskOrder = "random",
    members: bool = False,
) -> Task:
    """Draws tasks whose query is some of the user's other items among sampled ones.

    The sampled items are drawn uniformly, with repetition; those the user knows are masked out.

    Args:
        table: The training set.
        key: A PRNG key.
        tasks: T, the number of tasks.
        support: S, the largest support; its labels are ratings, as in `sample_tasks`.
        query: Q, the most of the user's own items. Label 1 marks those rated `relevant` or better.
        negatives: C, the sampled items, of label 0.
        relevant: Lowest rating of a relevant item; by default every interaction counts.
        order: As in `sample_tasks`.
        members: Whether the inputs of a query are `MemberInputs`.

    Returns:
        Tasks whose leaves lead with `[T, S]` and `[T, Q + C]`.

    Raises:
        ValueError: As `sample_tasks`, or if `negatives` < 1.
    """
    if negatives < 1:
        raise ValueError(f"negatives must be >= 1, got {negatives}.")
    draws = draw_users(table, key, tasks=tasks, support=support, query=query, order=order)

    def one(draw: Draw) -> Task:
        seen = rows_of_user(table, draw.user, draw.support_rows, draw.support_mask)
        own = rows_of_user(table, draw.user, draw.query_rows, draw.query_mask)
        drawn = jax.random.randint(
            jax.random.fold_in(draw.key, 1), (negatives,), 0, len(table.item_features), jnp.int32
        )
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


def _listed(
    table: TaskTable, draw: Draw, support: Examples, item: jax.Array, liked: jax.Array
) -> Examples:
    """Lists candidates `[N]` without those in the support; nothing where none is liked."""
    in_support = (item[:, None] == support.inputs.item[None]) & support.mask[None]  # [N, S]
    mask = ~in_support.any(axis=1)
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
