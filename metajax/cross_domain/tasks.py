"""Tasks across domains: all that is known of a user in the source, little of the target."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.cross_domain.domains import domain_logs
from metajax.data.dataset import TrainingSet
from metajax.data.sampler import TaskTable, distinct, of_member, rows_of_user, task_table
from metajax.types import Examples, Task

__all__ = ["cross_table", "sample_cross_tasks", "source_table", "with_strangers"]


def cross_table(training: TrainingSet, *, seed: int = 0) -> tuple[TaskTable, TaskTable]:
    """Moves the two domains of a training set to the device, with the same users in both.

    Args:
        training: Both domains; users without a row in the target give no task.
        seed: Of ties of time.

    Returns:
        The source and the target. A user without source rows has a count of 0 there.

    Raises:
        ValueError: If there is one domain alone, or one of them has no row.
    """
    sides = domain_logs(training)
    other, table = (task_table(training._replace(interactions=s), seed=seed) for s in sides)
    known, users = (side.users for side in sides)
    at = np.minimum(np.searchsorted(known, users), len(known) - 1)
    found = np.zeros(len(table.user), np.int32)
    found[: len(users)] = known[at] == users
    place = np.zeros(len(table.user), np.int32)
    place[: len(users)] = at
    # The source's users in the target's order, so that one index means one person.
    other = other._replace(
        users=table.users,
        user=table.user,
        start=other.start[place] * found,
        count=other.count[place] * found,
    )
    return other, table


def source_table(training: TrainingSet, *, seed: int = 0) -> TaskTable:
    """Moves the source alone to the device, with whoever has a row there.

    Args:
        training: Both domains.
        seed: Of ties of time.

    Returns:
        The source.

    Raises:
        ValueError: If there is one domain alone, or the source has no row.
    """
    source, _ = domain_logs(training)
    return task_table(training._replace(interactions=source), seed=seed)


def with_strangers(tasks: Task, source: TaskTable, key: jax.Array, *, rows: int) -> Task:
    """Adds to the query of each task rows of any one user of the source.

    For those who compare users of the two domains without knowing who is in both.

    Args:
        tasks: Of `sample_cross_tasks`; leaves lead with `[T, Q]` in the query.
        source: As from `source_table`.
        key: A PRNG key.
        rows: The most of the user's rows, drawn at random, >= 1.

    Returns:
        The tasks; leaves lead with `[T, Q + rows]` in the query.

    Raises:
        ValueError: If `rows` < 1.
    """
    if rows < 1:
        raise ValueError(f"rows must be >= 1, got {rows}.")

    def one(key: jax.Array) -> Examples:
        user_key, row_key = jax.random.split(key)
        user = jax.random.randint(user_key, (), 0, source.users)
        count = source.count[user]
        drawn = distinct(row_key, count, rows)
        return rows_of_user(source, user, drawn, jnp.arange(rows) < count)

    strangers = jax.vmap(one)(jax.random.split(key, len(tasks.query.labels)))
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), tasks.query, strangers)
    return tasks._replace(query=joined)


def sample_cross_tasks(
    tables: tuple[TaskTable, TaskTable],
    key: jax.Array,
    *,
    tasks: int,
    source: int,
    support: int,
    query: int,
    source_query: int = 0,
    members: bool = False,
) -> Task:
    """Draws users who are judged in the target by what they did in the source.

    Each task draws how many ratings of the target it is shown, uniformly from 0 to `support`; one
    interaction always goes to the query.

    Args:
        tables: As from `cross_table`.
        key: A PRNG key.
        tasks: T, the number of tasks.
        source: The most of a user's source history, drawn at random.
        support: The most that is shown of the target.
        query: Q, the most that is asked of it.
        source_query: The most that is asked of the source besides, of what is not shown; at most
            half of the history.
        members: Whether the inputs of a query are `MemberInputs`.

    Returns:
        Tasks whose leaves lead with `[T, source + support]` and `[T, Q + source_query]`, those of
        the source first in supports and last in queries.

    Raises:
        ValueError: If `tasks` or `query` < 1, or another number < 0.
    """
    for name, value, least in (
        ("tasks", tasks, 1), ("source", source, 0), ("support", support, 0), ("query", query, 1),
        ("source_query", source_query, 0),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    elsewhere, here = tables
    user_key, task_key = jax.random.split(key)
    users = jax.random.randint(user_key, (tasks,), 0, here.users)

    def one(user: jax.Array, key: jax.Array) -> Task:
        size_key, row_key, source_key = jax.random.split(key, 3)
        count = here.count[user]
        size = jnp.minimum(jax.random.randint(size_key, (), 0, support + 1), count - 1)
        rows = distinct(row_key, count, support + query)
        shown = rows_of_user(here, user, rows[:support], jnp.arange(support) < size)
        asked = rows_of_user(
            here,
            user,
            rows[size + jnp.arange(query)],
            jnp.arange(query) < jnp.minimum(count - size, query),
        )
        known = elsewhere.count[user]
        kept = jnp.minimum(known // 2, source_query)
        seen = jnp.minimum(known - kept, source)
        # Of a user without history there is no row to repeat as padding.
        rows = distinct(source_key, jnp.maximum(known, 1), source + source_query)
        history = rows_of_user(elsewhere, user, rows[:source], jnp.arange(source) < seen)
        place = jnp.arange(source_query)
        rest = rows_of_user(elsewhere, user, rows[seen + place], place < kept)
        asked = _after(asked, rest)
        return Task(_after(history, shown), of_member(asked, here.user[user]) if members else asked)

    return jax.vmap(one)(users, jax.random.split(task_key, tasks))


def _after(first: Examples, second: Examples) -> Examples:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
