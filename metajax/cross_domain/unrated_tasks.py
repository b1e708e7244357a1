"""Tasks that also ask users of the source for items of the target, which nobody saw them rate."""

import jax
import jax.numpy as jnp

from metajax.cross_domain.tasks import cross_table, sample_cross_tasks, source_table
from metajax.data.dataset import TrainingSet
from metajax.data.sampler import TaskTable, distinct, inputs_of, of_member, rows_of_user
from metajax.types import Examples, Task

__all__ = ["UnratedTable", "sample_unrated_tasks", "unrated_table"]

UnratedTable = tuple[tuple[TaskTable, TaskTable], TaskTable]
"""Both domains, as from `cross_table`, and the source, as from `source_table`."""


def unrated_table(training: TrainingSet, *, seed: int = 0) -> UnratedTable:
    """Moves a training set of two domains to the device.

    Args:
        training: Both domains.
        seed: Of ties of time.

    Returns:
        What `sample_unrated_tasks` draws from.

    Raises:
        ValueError: As `cross_table`.
    """
    return cross_table(training, seed=seed), source_table(training, seed=seed)


def sample_unrated_tasks(
    tables: UnratedTable,
    key: jax.Array,
    *,
    tasks: int,
    source: int,
    support: int,
    query: int,
) -> Task:
    """Draws users of the target who are asked for ratings, and users of the source for any items.

    The first half are those of `sample_cross_tasks`. The others show what they rated in the
    source, and are asked for items of the target, each drawn as often as it was rated: what they
    would have rated nobody knows, but someone may guess.

    Args:
        tables: As from `unrated_table`.
        key: A PRNG key.
        tasks: T, the number of tasks, >= 2.
        source: The most of a user's source history, drawn at random, >= 0.
        support: The most that is shown of the target, >= 0.
        query: Q, the most that is asked of it, >= 1.

    Returns:
        Tasks whose queries have `MemberInputs`, which tell by `known` what has a label; leaves
        lead with `[T, source + support]` and `[T, Q]`.

    Raises:
        ValueError: If a number is too small.
    """
    if tasks < 2:
        raise ValueError(f"tasks must be >= 2, got {tasks}.")
    both, alone = tables
    rated_key, unrated_key = jax.random.split(key)
    rated = sample_cross_tasks(
        both,
        rated_key,
        tasks=tasks - tasks // 2,
        source=source,
        support=support,
        query=query,
        members=True,
    )
    target = both[1]
    ratings = jnp.sum(target.count)

    def one(key: jax.Array) -> Task:
        user_key, row_key, item_key = jax.random.split(key, 3)
        user = jax.random.randint(user_key, (), 0, alone.users)
        count = alone.count[user]
        rows = distinct(row_key, count, source + support)
        shown = jnp.arange(source + support) < jnp.minimum(count, source)
        item = target.item[jax.random.randint(item_key, (query,), 0, ratings)]
        nothing, asked = jnp.zeros(query), jnp.ones(query, bool)
        unrated = Examples(inputs_of(alone, user, item), nothing, asked)
        return Task(
            rows_of_user(alone, user, rows, shown),
            of_member(unrated, alone.user[user], ~asked, nothing),
        )

    unrated = jax.vmap(one)(jax.random.split(unrated_key, tasks // 2))
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), rated, unrated)
