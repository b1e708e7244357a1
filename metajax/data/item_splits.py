"""Which items are cold, and what is asked about them: the splits beside `item_sequences`."""

from typing import NamedTuple

import numpy as np

from metajax.data.interactions import Interactions, select_rows
from metajax.data.item_sequences import in_time
from metajax.data.leakage import LeakageError

__all__ = ["ItemTasks", "item_tasks", "split_items"]


class ItemTasks(NamedTuple):
    """C cold items with their supports, and Q later sequences that each end in one of them."""

    item: np.ndarray
    """`[C]` int64 item indices."""
    support_item: np.ndarray
    """`[C, K, L]` int32 the first sequences in time that end in each, oldest item first."""
    support_length: np.ndarray
    """`[C, K]` int32 their lengths; 0 is padding."""
    query_item: np.ndarray
    """`[Q, L]` int32 sequences, each asked about all cold items."""
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
    """Draws cold items and takes all that was done with them out of the log.

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
    """Asks of each later sequence in which of the cold items it ended.

    A sequence consists of the user's last interactions before, of items that training knows; one
    without any is left out. Users are not cold: what they did later with other items may be in
    the training log.

    Args:
        interactions: The whole log.
        training: What was trained on, without the cold items.
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
    order, begin = in_time(interactions, seed)
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
    shown, asked = by_time[place < support], by_time[place >= support]
    at = target[shown], place[place < support]
    supports = np.zeros((len(cold), support, length), np.int32)
    lengths = np.zeros((len(cold), support), np.int32)
    supports[at], lengths[at] = sequence[shown], size[shown]
    return ItemTasks(
        cold,
        supports,
        lengths,
        sequence[asked].astype(np.int32),
        size[asked].astype(np.int32),
        target[asked],
    )
