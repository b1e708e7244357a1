"""Cold items: sequences of interactions that end in an item, their split and their sampler.

A sequence holds a user's earlier interactions and ends in an item. The few sequences that end in a
cold item describe the users to recommend it to.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import Interactions, select_rows
from metajax.data.leakage import LeakageError
from metajax.data.sampler import distinct
from metajax.types import Examples, Sequences, Task

__all__ = [
    "ItemTasks",
    "SequenceTable",
    "item_tasks",
    "sample_item_tasks",
    "sequence_table",
    "split_items",
]


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
        training: The training set.
        seed: Breaks ties of time.

    Returns:
        The table of sequences.

    Raises:
        ValueError: If there is no item in which two sequences end.
    """
    log = training.interactions
    order, begin = _in_time(log, seed)
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
    """Draws tasks of simulated cold items: a few sequences that end in each, and a query.

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
        held = jnp.minimum(size + jnp.arange(query), support + query - 1)
        other = jax.random.randint(other_key, (negatives,), 0, len(table.end))
        other = table.end[other]
        judged = examples(
            target,
            jnp.concatenate([rows[held], other]),
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


def _in_time(log: Interactions, seed: int) -> tuple[np.ndarray, np.ndarray]:
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


class ItemTasks(NamedTuple):
    """C cold items with their supports, and Q later sequences that each end in one of them."""

    item: np.ndarray
    """`[C]` int64 item indices."""
    support_item: np.ndarray
    """`[C, K, L]` int32 the first sequences in time that end in each, oldest item first."""
    support_length: np.ndarray
    """`[C, K]` int32 their lengths; 0 is padding."""
    query_item: np.ndarray
    """`[Q, L]` int32 sequences, with all cold items as candidates."""
    query_length: np.ndarray
    """`[Q]` int32 their lengths, >= 1."""
    query_target: np.ndarray
    """`[Q]` int64, which of the C items comes next."""


def split_items(
    interactions: Interactions,
    *,
    share: float = 0.2,
    among: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Interactions, np.ndarray]:
    """Draws cold items and removes their interactions from the log.

    Args:
        interactions: The log.
        share: Share of the items with interactions that become cold, in (0, 1).
        among: `[n]` the items that may; None means all.
        seed: Another seed is another draw.

    Returns:
        The log of the others, and `[C]` the cold items, sorted. Split that log again for
        validation items.

    Raises:
        ValueError: If share is out of range.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}.")
    known = np.unique(interactions.item)
    if among is not None:
        known = np.intersect1d(known, among)
    drawn = np.random.default_rng(seed).permutation(known)[: round(share * len(known))]
    cold = np.sort(drawn).astype(np.int64)
    return select_rows(interactions, ~np.isin(interactions.item, cold)), cold


def item_tasks(
    interactions: Interactions,
    training: Interactions,
    cold: np.ndarray,
    *,
    support: int = 5,
    length: int = 20,
    seed: int = 0,
) -> ItemTasks:
    """Makes next-item tasks: later sequences, with all cold items as candidates.

    A sequence consists of the user's last interactions before, of items of the training log; one
    without any is left out. Users are not cold: what they did later with other items may be in
    the training log.

    Args:
        interactions: The whole log.
        training: The training log, without the cold items.
        cold: `[C]` distinct item indices.
        support: K, how many sequences are seen of each: the first in time.
        length: L, the longest sequence.
        seed: Order of what has the same time.

    Returns:
        The tasks, in the order of `cold`.

    Raises:
        ValueError: If `support` < 0, `length` < 1, or an item is out of range or occurs twice.
        LeakageError: If training has seen a cold item.
    """
    if support < 0:
        raise ValueError(f"support must be >= 0, got {support}.")
    if length < 1:
        raise ValueError(f"length must be >= 1, got {length}.")
    items, cold = len(interactions.item_ids), np.asarray(cold, np.int64)
    if len(np.unique(cold)) != len(cold):
        raise ValueError("cold must hold distinct items.")
    if len(cold) and not 0 <= cold.min() <= cold.max() < items:
        raise ValueError(f"cold must hold indices in [0, {items}).")
    known = np.unique(training.item)
    seen = np.intersect1d(known, cold)
    if len(seen):
        raise LeakageError(
            f"a cold item must not be in the training log, got item index {seen[0]} there "
            f"({len(seen)} such items)."
        )
    order, begin = _in_time(interactions, seed)
    item, time = interactions.item[order], interactions.time[order]
    warm = np.isin(item, known)
    # How many warm rows come before each row: sequences are slices of the warm rows alone.
    before = np.cumsum(warm) - warm
    size = np.minimum(before - before[begin], length)
    ends = np.flatnonzero(np.isin(item, cold) & (size > 0))
    start = (before - size)[ends, None] + np.arange(length)
    real = np.arange(length) < size[ends, None]
    warm_item = np.append(item[warm], 0)
    sequence = np.where(real, warm_item[np.minimum(start, len(warm_item) - 1)], 0)

    slot = np.full(items, -1)
    slot[cold] = np.arange(len(cold))
    target, size = slot[item[ends]], size[ends]
    # By item, then time; what is left equal keeps the seeded order of users and rows.
    ties = np.random.default_rng(seed).random(len(ends))
    by_time = np.lexsort((ties, time[ends], target))
    place = np.arange(len(ends)) - np.searchsorted(target[by_time], target[by_time])
    shown, held = by_time[place < support], by_time[place >= support]
    at = target[shown], place[place < support]
    supports = np.zeros((len(cold), support, length), np.int32)
    lengths = np.zeros((len(cold), support), np.int32)
    supports[at], lengths[at] = sequence[shown], size[shown]
    return ItemTasks(
        cold,
        supports,
        lengths,
        sequence[held].astype(np.int32),
        size[held].astype(np.int32),
        target[held],
    )
