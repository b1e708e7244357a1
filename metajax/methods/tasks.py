"""Samplers of training tasks: ratings of users, rankings of the catalogue or of a sample of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.data.dataset import Shapes
from metajax.data.sampler import (
    sample_candidate_tasks,
    sample_catalogue_tasks,
    sample_tasks,
    sampling_shares,
    task_table,
)
from metajax.methods.settings import Settings
from metajax.types import MemberInputs, Task

__all__ = [
    "Sampler",
    "candidate_tasks",
    "ranking_tasks",
    "rating_tasks",
    "weighted_candidate_tasks",
]


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
    """Samples all candidates as a query, with `options` of `data.sample_catalogue_tasks`."""
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


def candidate_tasks(settings: Settings, shapes: Shapes, **options: Any) -> Sampler:
    """Samples some of the user's items among sampled ones as a query, whatever the catalogue.

    Takes `options` of `data.sample_candidate_tasks`.
    """
    return Sampler(
        partial(
            sample_candidate_tasks,
            tasks=settings.tasks,
            support=settings.support,
            query=settings.query,
            negatives=settings.negatives,
            power=settings.negative_power,
            relevant=shapes.threshold,
            order=settings.order,
            **options,
        )
    )


def weighted_candidate_tasks(settings: Settings, shapes: Shapes, **options: Any) -> Sampler:
    """Samples as `candidate_tasks`; the label of a sampled item is minus its expected draws.

    Each candidate is expected `negatives` times its share, `data.sampler.sampling_shares`.
    """
    plain = candidate_tasks(settings, shapes, **options)

    def sample(table: Any, key: jax.Array) -> Task:
        task = plain.sample(table, key)
        labels = task.query.labels
        inputs = task.query.inputs
        item = (inputs.inputs if isinstance(inputs, MemberInputs) else inputs).item
        sampled = jnp.arange(labels.shape[-1]) >= settings.query
        draws = settings.negatives * sampling_shares(table, settings.negative_power)[item]
        labels = jnp.where(sampled, -draws, labels)
        return task._replace(query=task.query._replace(labels=labels))

    return plain._replace(sample=sample)
