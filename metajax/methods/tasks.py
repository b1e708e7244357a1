"""Samplers of training tasks: ratings of users, or rankings of the catalogue."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from metajax.data.dataset import Shapes
from metajax.data.sampler import sample_catalogue_tasks, sample_tasks, task_table
from metajax.methods.settings import Settings
from metajax.types import Task

__all__ = ["Sampler", "ranking_tasks", "rating_tasks"]


class Sampler(NamedTuple):
    """A sampler of training tasks, and the table it samples from."""

    sample: Callable[[Any, jax.Array], Task]
    """`sample(table, key) -> tasks`, on the device."""
    table: Callable[..., Any] = task_table
    """`table(training, *, seed)`: the table on the device."""


def rating_tasks(settings: Settings, shapes: Shapes, **options: Any) -> Sampler:
    """Samples ratings of users, with `options` of `data.sample_tasks`."""
    del shapes
    return Sampler(
        partial(
            sample_tasks,
            tasks=settings.tasks,
            support=settings.support,
            query=settings.query,
            order=settings.order,
            **options,
        )
    )


def ranking_tasks(settings: Settings, shapes: Shapes, **options: Any) -> Sampler:
    """Samples the whole catalogue as a query, with `options` of `data.sample_catalogue_tasks`."""
    return Sampler(
        partial(
            sample_catalogue_tasks,
            tasks=settings.tasks,
            support=settings.support,
            relevant=shapes.threshold,
            order=settings.order,
            **options,
        )
    )
