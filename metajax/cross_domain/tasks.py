"""Training tasks across domains: many source and few target interactions as support."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.cross_domain.domains import TARGET, check_domains, domain_logs
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.sampler import (
    TaskTable,
    distinct,
    draw_users,
    of_member,
    rows_of_user,
    task_table,
)
from metajax.fields import bounded
from metajax.methods.objective import objectives
from metajax.methods.settings import Options, Settings
from metajax.methods.tasks import Sampler
from metajax.types import Examples, Task

__all__ = [
    "CrossDomainOptions",
    "cross_lists",
    "cross_table",
    "cross_tasks",
    "cross_tasks_of_both",
    "sample_cross_tasks",
    "shown_rows",
    "source_table",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossDomainOptions(Options):
    """Options of every method that trains on two domains."""

    source_shown: int = bounded(64, least=0)
    """Most source interactions in the support of a training task."""
    target_shown: int = bounded(5, least=0)
    """Most target interactions in the support, besides `Settings.support`."""


def cross_table(training: TrainingSet, *, seed: int = 0) -> tuple[TaskTable, TaskTable]:
    """Tables of source and target on the device, indexed by the same users.

    Args:
        training: Both domains; users without a row in the target give no task.
        seed: Breaks ties of time.

    Returns:
        The source and the target, whose items are the candidates of lists. A user without source
        rows has a count of 0 there.

    Raises:
        ValueError: If there is a single domain, or one of them has no row.
    """
    sides = domain_logs(training)
    other, table = (task_table(training._replace(interactions=s), seed=seed) for s in sides)
    known, users = (side.users for side in sides)
    at = np.minimum(np.searchsorted(known, users), len(known) - 1)
    found = np.zeros(len(table.user), np.int32)
    found[: len(users)] = known[at] == users
    place = np.zeros(len(table.user), np.int32)
    place[: len(users)] = at
    # The source's users in the target's order, so that one index means one user.
    other = other._replace(
        users=table.users,
        user=table.user,
        start=other.start[place] * found,
        count=other.count[place] * found,
    )
    candidates = np.flatnonzero(check_domains(training) == TARGET).astype(np.int32)
    return other, table._replace(candidates=jnp.asarray(candidates))


def source_table(training: TrainingSet, *, seed: int = 0) -> TaskTable:
    """Table of the source on the device, with all users who have a row there.

    Args:
        training: Both domains.
        seed: Breaks ties of time.

    Returns:
        The source.

    Raises:
        ValueError: If there is a single domain, or the source has no row.
    """
    source, _ = domain_logs(training)
    return task_table(training._replace(interactions=source), seed=seed)


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
    """Draws users of the target, with their source history in the support.

    Each task draws its number of target ratings in the support, uniformly from 0 to `support`; at
    least one target interaction goes to the query.

    Args:
        tables: As from `cross_table`.
        key: A PRNG key.
        tasks: T, the number of tasks.
        source: Most source interactions in the support, drawn at random.
        support: Most target interactions in the support.
        query: Q, most target interactions in the query.
        source_query: Most source interactions in the query, disjoint from the support; at most half
            of the history.
        members: True if the inputs of queries are `MemberInputs`.

    Returns:
        Tasks whose leaves lead with `[T, source + support]` and `[T, Q + source_query]`; rows of
        the source come first in supports and last in queries.

    Raises:
        ValueError: If `tasks` or `query` < 1, or another number < 0.
    """
    for name, value, least in (
        ("tasks", tasks, 1), ("source", source, 0), ("support", support, 0), ("query", query, 1),
        ("source_query", source_query, 0),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    source_rows, target_rows = tables
    user_key, task_key = jax.random.split(key)
    users = jax.random.randint(user_key, (tasks,), 0, target_rows.users)

    def one(user: jax.Array, key: jax.Array) -> Task:
        size_key, row_key, source_key = jax.random.split(key, 3)
        count = target_rows.count[user]
        size = jnp.minimum(jax.random.randint(size_key, (), 0, support + 1), count - 1)
        rows = distinct(row_key, count, support + query)
        shown = rows_of_user(target_rows, user, rows[:support], jnp.arange(support) < size)
        queried = rows_of_user(
            target_rows,
            user,
            rows[size + jnp.arange(query)],
            jnp.arange(query) < jnp.minimum(count - size, query),
        )
        known = source_rows.count[user]
        kept = jnp.minimum(known // 2, source_query)
        seen = jnp.minimum(known - kept, source)
        # A user without history has no row to repeat as padding.
        rows = distinct(source_key, jnp.maximum(known, 1), source + source_query)
        history = rows_of_user(source_rows, user, rows[:source], jnp.arange(source) < seen)
        place = jnp.arange(source_query)
        rest = rows_of_user(source_rows, user, rows[seen + place], place < kept)
        queried = _after(queried, rest)
        if members:
            queried = of_member(queried, target_rows.user[user])
        return Task(_after(history, shown), queried)

    return jax.vmap(one)(users, jax.random.split(task_key, tasks))


def _after(first: Examples, second: Examples) -> Examples:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)


def cross_tasks(settings: Settings, shapes: Shapes, **options: Any) -> Sampler:
    """Sampler of `sample_cross_tasks`, with further `options` of it.

    Methods that are not specific to two domains have the defaults of `CrossDomainOptions`.
    """
    del shapes
    shown = _shown(settings)
    return Sampler(
        partial(
            sample_cross_tasks,
            tasks=settings.tasks,
            source=shown.source_shown,
            support=min(settings.support, shown.target_shown),
            query=settings.query,
            **options,
        ),
        cross_table,
    )


def cross_lists(settings: Settings, shapes: Shapes, **options: Any) -> Sampler:
    """Sampler of lists of the target's items, with the source history in the support.

    Tasks are those of the objective in the target, with `options` of its sampler.
    """
    shown = _shown(settings)
    few = dataclasses.replace(
        settings, support=min(settings.support, shown.target_shown), order="random"
    )
    of_target = objectives[settings.objective].sampler(few, shapes, **options)

    def sample(tables: tuple[TaskTable, TaskTable], key: jax.Array) -> Task:
        source, target = tables
        target_key, source_key = jax.random.split(key)
        task = of_target.sample(target, target_key)
        # One key draws the same users, whatever is drawn of them.
        users = draw_users(
            target, target_key, tasks=settings.tasks, support=0, query=1, order="random"
        ).user

        def history(user: jax.Array, key: jax.Array) -> Examples:
            known, most = source.count[user], shown.source_shown
            rows = distinct(key, jnp.maximum(known, 1), most)
            return rows_of_user(source, user, rows, jnp.arange(most) < jnp.minimum(known, most))

        seen = jax.vmap(history)(users, jax.random.split(source_key, settings.tasks))
        return task._replace(support=jax.vmap(_after)(seen, task.support))

    return Sampler(sample, cross_table)


def cross_tasks_of_both(settings: Settings, shapes: Shapes) -> Sampler:
    """Sampler of tasks with as many source as target interactions in the query."""
    return cross_tasks(settings, shapes, source_query=settings.query)


def shown_rows(settings: Settings, source: int) -> tuple[int, ...]:
    """Rows of a larger support that match a training task in number.

    Args:
        settings: Of the training.
        source: Number of rows of the source, which come first in the support.

    Returns:
        Indices of rows.
    """
    shown = _shown(settings)
    return (*range(shown.source_shown), *range(source, source + shown.target_shown))


def _shown(settings: Settings) -> CrossDomainOptions:
    options = settings.options
    return options if isinstance(options, CrossDomainOptions) else CrossDomainOptions()
