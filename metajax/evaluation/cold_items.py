"""Next-item ranking: the rank of a sequence's cold target among all cold items."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.cold_items import ItemTasks
from metajax.evaluation.evaluate import NonFinitePredictionsError
from metajax.types import Adaptation, Examples, MetaLearner, Params, Sequences

__all__ = ["ItemRanking", "rank_cold_items", "score_cold_items"]


class ItemRanking(NamedTuple):
    """Ranking metrics of Q sequences, with all cold items as candidates."""

    hit: np.ndarray
    """`[Q]` 1 if the item is among the first k."""
    ndcg: np.ndarray
    """`[Q]` NDCG of the first k: 1 / log2(1 + rank) or 0."""
    reciprocal_rank: np.ndarray
    """`[Q]` 1 / rank among all candidates."""


def score_cold_items(
    adaptation: Adaptation | MetaLearner,
    params: Params,
    tasks: ItemTasks,
    item_features: np.ndarray,
    *,
    shots: int | None = None,
) -> np.ndarray:
    """Adapts to each cold item and scores every sequence for it.

    Args:
        adaptation: The method.
        params: Its parameters.
        tasks: The cold items and the sequences.
        item_features: `[I, Di]` encoded attributes of all items.
        shots: Number of supports that are seen; None means all.

    Returns:
        `[Q, C]` scores.

    Raises:
        ValueError: If `shots` is out of range, or an item has no features.
        NonFinitePredictionsError: If a score is NaN or infinite.
    """
    pool = tasks.support_length.shape[1]
    shots = pool if shots is None else shots
    if not 0 <= shots <= pool:
        raise ValueError(f"shots must be in [0, {pool}] (the supports), got {shots}.")
    last = int(np.max(tasks.item, initial=0))
    if np.ndim(item_features) != 2 or len(item_features) <= last:
        raise ValueError(
            f"item_features must be a table with more than {last} rows, got shape "
            f"{np.shape(item_features)}."
        )
    scores = _scores(
        Adaptation(adaptation.adapt, adaptation.rank or adaptation.predict),
        params,
        *map(jnp.asarray, (tasks.support_item, tasks.support_length)),
        jnp.asarray(item_features)[tasks.item],
        *map(jnp.asarray, (tasks.query_item, tasks.query_length)),
        jnp.int32(shots),
    )
    if not jnp.isfinite(scores).all():
        raise NonFinitePredictionsError(f"a cold item's scores are not finite at K={shots}.")
    return np.asarray(scores).T


def rank_cold_items(scores: np.ndarray, tasks: ItemTasks, *, k: int = 10) -> ItemRanking:
    """Ranks the items that sequences ended in.

    Args:
        scores: `[Q, C]`, from `score_cold_items`.
        tasks: The same tasks.
        k: Length of the recommended list.

    Returns:
        The figures of each sequence. Of equal scores half are taken to be better: a method that
        scores all alike is in the middle.

    Raises:
        ValueError: If `k` < 1, or the scores are not those of the tasks.
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}.")
    shape = len(tasks.query_target), len(tasks.item)
    if np.shape(scores) != shape:
        raise ValueError(f"scores must have the shape {shape}, got {np.shape(scores)}.")
    right = np.take_along_axis(scores, tasks.query_target[:, None], axis=1)
    rank = 1 + np.sum(scores > right, axis=1) + (np.sum(scores == right, axis=1) - 1) / 2
    hit = rank <= k
    return ItemRanking(hit * 1.0, hit / np.log2(1 + rank), 1 / rank)


@partial(jax.jit, static_argnames=("adaptation",))
def _scores(
    adaptation: Adaptation,
    params: Params,
    support_item: jax.Array,
    support_length: jax.Array,
    features: jax.Array,
    query_item: jax.Array,
    query_length: jax.Array,
    shots: jax.Array,
) -> jax.Array:
    def one(item: jax.Array, length: jax.Array, features: jax.Array) -> jax.Array:
        def about(item: jax.Array, length: jax.Array) -> Sequences:
            repeated = jnp.broadcast_to(features, (len(item), *features.shape))
            return Sequences(item, length, repeated)

        mask = (length > 0) & (jnp.arange(len(length)) < shots)
        support = Examples(about(item, length), jnp.ones(len(length)), mask)
        adapted = adaptation.adapt(params, support)
        return adaptation.predict(params, adapted, about(query_item, query_length))

    # One item at a time: pairs of all sequences with all items would not fit in memory.
    return jax.lax.map(lambda task: one(*task), (support_item, support_length, features))
