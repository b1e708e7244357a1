"""Scores of cold users, reduced on the device to a few numbers a user."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics
from metajax.data.cold_tasks import ColdTasks
from metajax.types import Adaptation, Examples, Inputs, Params

__all__ = ["Batch", "batches", "measure"]

# The central 50 % and 90 % of a Gaussian end so many standard deviations from its mean.
_CENTRAL = {50: 0.6744898, 90: 1.6448536}


class Batch(NamedTuple):
    """C users; N columns: the catalogue in shuffled order, or the queries if nothing is ranked."""

    user: jax.Array
    """`[C]` index."""
    features: jax.Array
    """`[C, Du]` encoded attributes."""
    support_item: jax.Array
    """`[C, P]` items of the pool."""
    support_column: jax.Array
    """`[C, P]` where they lie in the shuffled catalogue."""
    support_rating: jax.Array
    """`[C, P]` their ratings."""
    support_mask: jax.Array
    """`[C, P]` bool, False where the pool is shorter."""
    candidate: jax.Array | None
    """`[C, N]` items, padded with 0; None for the whole catalogue."""
    rating: jax.Array
    """`[C, N]` ratings; 0 where not in the query."""
    in_query: jax.Array
    """`[C, N]` bool."""


@partial(jax.jit, static_argnames=("adaptation", "length"))
def measure(
    adaptation: Adaptation,
    params: Params,
    item_features: jax.Array,
    order: jax.Array,
    batch: Batch,
    k: jax.Array,
    *,
    low: float,
    high: float,
    relevant: float,
    key: jax.Array | None,
    length: int,
) -> dict[str, jax.Array]:
    """Adapts to each user's first k supports, scores, and reduces the scores to figures.

    Args:
        adaptation: The method.
        params: What it learned.
        item_features: `[I, Di]` encoded attributes.
        order: `[I]` int32 the shuffled catalogue.
        batch: C users.
        k: `[]` the support size.
        low: Lowest rating; predictions are clipped to it.
        high: Highest rating.
        relevant: Lowest rating of a relevant item.
        key: For methods that draw, or None.
        length: Of the recommended list.

    Returns:
        `[C, ...]` figures by the names of `evaluation.PerUser`, and what guards ask: the lowest and
        highest score, and whether all are finite.

    Raises:
        ValueError: If predict does not return one score a candidate.
    """
    items, pool = len(order), batch.support_item.shape[1]
    shuffled = item_features[order]

    def judge_one(user: Batch) -> dict[str, jax.Array]:
        def repeat(rows: int) -> jax.Array:
            return jnp.broadcast_to(user.features, (rows, *user.features.shape))

        mask = user.support_mask & (jnp.arange(pool) < k)
        item = user.support_item
        inputs = Inputs(repeat(pool), item_features[item], item)
        own_key = None if key is None else jax.random.fold_in(key, user.user)
        adapted = adaptation.adapt(params, Examples(inputs, user.support_rating, mask), own_key)
        asked = Inputs(repeat(items), shuffled, order)
        if user.candidate is not None:
            own = user.candidate
            asked = Inputs(repeat(len(own)), item_features[own], own)
        scores = adaptation.predict(params, adapted, asked)
        if scores.shape != asked.item.shape:
            raise ValueError(
                f"predict must return scores [{len(asked.item)}], got {list(scores.shape)}."
            )

        finite = jnp.all(jnp.isfinite(scores))
        deviation = jnp.full(len(scores), -1.0)
        if adaptation.predict_variance is not None:
            deviation = jnp.sqrt(adaptation.predict_variance(params, adapted, asked))
            finite &= jnp.all(jnp.isfinite(deviation))
        off = jnp.where(user.in_query, jnp.abs(scores - user.rating), jnp.inf)
        error = jnp.where(user.in_query, jnp.clip(scores, low, high) - user.rating, 0)
        gains = user.in_query & (user.rating >= relevant)
        ranked = _unranked(length)
        seen = user.in_query
        if user.candidate is None:
            # One past the end is dropped: what is masked out excludes nothing.
            column = jnp.where(mask, user.support_column, items)
            left = jnp.ones(items, bool).at[column].set(False, mode="drop")
            ranked, seen = _ranked(scores, gains, left, order, length), jnp.ones(items, bool)
        return {
            "squared_error": jnp.sum(jnp.square(error)),
            "absolute_error": jnp.sum(jnp.abs(error)),
            **{f"within_{q}": jnp.sum(off <= z * deviation) for q, z in _CENTRAL.items()},
            **ranked,
            "has_relevant": jnp.any(gains),
            "lowest": jnp.min(scores, where=seen, initial=jnp.inf),
            "highest": jnp.max(scores, where=seen, initial=-jnp.inf),
            "finite": finite,
        }

    return jax.vmap(judge_one)(batch)


def _ranked(
    scores: jax.Array, gains: jax.Array, left: jax.Array, order: jax.Array, length: int
) -> dict[str, jax.Array]:
    top = metrics.top_items(scores, k=length, where=left)
    return {
        "ndcg": metrics.ndcg(scores, gains, k=length, where=left),
        "precision": metrics.precision(scores, gains, k=length, where=left),
        "recall": metrics.recall(scores, gains, k=length, where=left),
        "hit": metrics.hit_rate(scores, gains, k=1, where=left),
        "top_items": jnp.where(top < 0, -1, order[top]),
    }


def _unranked(length: int) -> dict[str, jax.Array]:
    nothing = dict.fromkeys(("ndcg", "precision", "recall", "hit"), jnp.zeros(()))
    return {**nothing, "top_items": jnp.full(length, -1)}


def batches(
    tasks: ColdTasks, user_features: np.ndarray, order: np.ndarray, chunk: int, *, ranking: bool
) -> Iterator[Batch]:
    """Lays cold users out in batches of one shape.

    Args:
        tasks: The cold users.
        user_features: `[U, Du]` encoded attributes.
        order: `[I]` int32 the shuffled catalogue.
        chunk: C, the users of a batch; the last one is filled with copies of the last user.
        ranking: Whether all items are candidates, or those of the query alone.

    Yields:
        The batches.
    """
    items, users = len(order), len(tasks.user)
    column = np.argsort(order).astype(np.int32)
    # Queries are padded to a power of two, so that folds share a program.
    longest = int(np.diff(tasks.query_offsets).max(initial=1))
    width = items if ranking else 1 << (longest - 1).bit_length()
    for start in range(0, users, chunk):
        t = np.minimum(np.arange(start, start + chunk), users - 1)
        rating, in_query = np.zeros((chunk, width), np.float32), np.zeros((chunk, width), bool)
        candidate = np.zeros((chunk, width), np.int32)
        for row, task in enumerate(t):
            query = slice(*tasks.query_offsets[task : task + 2])
            item = tasks.query_item[query]
            place = column[item] if ranking else np.arange(len(item))
            candidate[row, place] = item
            rating[row, place], in_query[row, place] = tasks.query_rating[query], True
        columns: Any = (
            tasks.user[t].astype(np.int32),
            np.asarray(user_features)[tasks.user[t]],
            tasks.support_item[t],
            column[tasks.support_item[t]],
            tasks.support_rating[t],
            tasks.support_mask[t],
            None if ranking else candidate,
            rating,
            in_query,
        )
        yield Batch(*jax.tree.map(jnp.asarray, columns))
