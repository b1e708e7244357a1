"""Tasks in which the item is cold, not the user, drawn on the device.

An interaction is a sequence, the user's earlier ones, that ends in an item. Of an item with few
interactions, these sequences are all that tells to whom it should be recommended next.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import Interactions
from metajax.data.sampler import distinct
from metajax.types import Examples, Task

__all__ = ["SequenceTable", "Sequences", "in_time", "sample_item_tasks", "sequence_table"]


class Sequences(NamedTuple):
    """N sequences, each asked about one item: does it come next?"""

    item: jax.Array
    """`[N, L]` int32 what the user did, oldest first; padding comes last and is 0."""
    length: jax.Array
    """`[N]` int32, at most L."""
    target_features: jax.Array
    """`[N, Di]` encoded attributes of the item that is asked about."""


class SequenceTable(NamedTuple):
    """A training log on the device, laid out for sampling sequences by the item they end in."""

    item: jax.Array
    """`[R]` int32; users one after the other, each in order of time, ties in seeded order."""
    begin: jax.Array
    """`[R]` int32, the first row of the row's user."""
    target: jax.Array
    """`[M]` int32, the items in which two sequences or more end."""
    start: jax.Array
    """`[M]` int32, the first entry of each in `end`."""
    count: jax.Array
    """`[M]` int32, how many sequences end in it."""
    end: jax.Array
    """`[E]` int32, the rows in which sequences end, by item."""
    item_features: jax.Array
    """`[I, Di]` float32."""


def sequence_table(training: TrainingSet, *, seed: int = 0) -> SequenceTable:
    """Moves a training set to the device.

    Args:
        training: What may be learned from.
        seed: Breaks ties of time.

    Returns:
        The table of sequences.

    Raises:
        ValueError: If there is no item in which two sequences end.
    """
    log = training.interactions
    order, begin = in_time(log, seed)
    item = log.item[order]
    ends = np.flatnonzero(begin < np.arange(len(item)))
    ends = ends[np.argsort(item[ends], kind="stable")]
    target, start, count = np.unique(item[ends], return_index=True, return_counts=True)
    often = count >= 2
    if not often.any():
        raise ValueError("training must have an item in which two sequences end, got none.")
    columns = (item, begin, target[often], start[often], count[often], ends)
    return SequenceTable(
        *(jnp.asarray(column, jnp.int32) for column in columns),
        item_features=jnp.asarray(training.item_features),
    )


def sample_item_tasks(
    table: SequenceTable,
    key: jax.Array,
    *,
    tasks: int,
    support: int,
    query: int,
    negatives: int,
    length: int = 20,
) -> Task:
    """Draws items as if they were cold: a few sequences that end in each, and others to judge by.

    Items are drawn uniformly, with replacement between tasks. Each draws its own support size,
    uniformly from 0 to `support`; one sequence is always left for the query. Label 1 marks the
    query's sequences that end in the item, label 0 sequences that end in other ones, drawn
    uniformly with repetition. The item itself is in no sequence of its task: those of label 0 in
    which it occurs are masked out, since of a cold item there are none.

    Args:
        table: The training set.
        key: A PRNG key.
        tasks: T, the number of tasks.
        support: S, the largest support.
        query: Q, the most sequences of label 1.
        negatives: C, the sequences of label 0.
        length: L, the longest sequence: the last L interactions.

    Returns:
        Tasks whose inputs are `Sequences`; leaves lead with `[T, S]` and `[T, Q + C]`.

    Raises:
        ValueError: If `support` < 0, or another is < 1.
    """
    counts = {"tasks": tasks, "query": query, "negatives": negatives, "length": length}
    for name, value, least in (("support", support, 0), *((n, v, 1) for n, v in counts.items())):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    item_key, task_key = jax.random.split(key)
    drawn = jax.random.randint(item_key, (tasks,), 0, len(table.target))

    def examples(
        target: jax.Array, rows: jax.Array, labels: jax.Array, mask: jax.Array
    ) -> Examples:
        size = jnp.minimum(rows - table.begin[rows], length)
        place = jnp.arange(length)
        real = place[None] < size[:, None]
        item = table.item[jnp.where(real, (rows - size)[:, None] + place[None], 0)]
        features = table.item_features[target]
        features = jnp.broadcast_to(features, (len(rows), *features.shape))
        return Examples(Sequences(jnp.where(real, item, 0), size, features), labels, mask)

    def one(index: jax.Array, key: jax.Array) -> Task:
        size_key, row_key, other_key = jax.random.split(key, 3)
        count, target = table.count[index], table.target[index]
        size = jnp.minimum(jax.random.randint(size_key, (), 0, support + 1), count - 1)
        chosen = distinct(row_key, count, support + query)
        rows = table.end[table.start[index] + jnp.minimum(chosen, count - 1)]
        shown = jnp.arange(support)
        asked = jnp.minimum(size + jnp.arange(query), support + query - 1)
        other = jax.random.randint(other_key, (negatives,), 0, len(table.end))
        other = table.end[other]
        judged = examples(
            target,
            jnp.concatenate([rows[asked], other]),
            jnp.concatenate([jnp.ones(query), jnp.zeros(negatives)]),
            jnp.concatenate([jnp.arange(query) < count - size, table.item[other] != target]),
        )
        place = jnp.arange(length)[None] < judged.inputs.length[:, None]
        without = ~jnp.any(place & (judged.inputs.item == target), axis=1)
        return Task(
            examples(target, rows[:support], jnp.ones(support), shown < size),
            judged._replace(mask=judged.mask & without),
        )

    return jax.vmap(one)(drawn, jax.random.split(task_key, tasks))


def in_time(log: Interactions, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders rows by user, then time.

    Args:
        log: The interactions.
        seed: Of the order of what has the same time.

    Returns:
        `[R]` the order, and `[R]` at which place the user of each place begins.
    """
    user = log.user
    ties = np.random.default_rng(seed).random(len(log.item))
    return np.lexsort((ties, log.time, user)), log.offsets[user]
