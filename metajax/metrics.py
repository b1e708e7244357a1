"""Metrics of scores against labels, with a mask in every signature.

Each metric is of one list, `(scores, labels, *, where=None)`; `jax.vmap` makes the batch. Relevance
is binary: an item is relevant where its label is above 0. Of equal scores the lower index ranks
first, so shuffle the items if their order depends on the labels. Where nothing is relevant, ranking
metrics are 0: exclude such lists from an average. NaN ranks last. A mask of None keeps all; shapes
that differ raise a ValueError.
"""

import jax
import jax.numpy as jnp

from metajax import losses

__all__ = [
    "auc",
    "coverage",
    "hit_rate",
    "mae",
    "mse",
    "ndcg",
    "precision",
    "recall",
    "rmse",
    "top_items",
]


def mse(scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None) -> jax.Array:
    """Averages `(score - label)^2`; the same as `losses.squared_error`.

    Args:
        scores: `[N]` predictions.
        labels: `[N]` observations.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean; 0 where nothing is kept.
    """
    return losses.squared_error(scores, labels, where=where)


def rmse(scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None) -> jax.Array:
    """Returns the square root of `mse`, in the unit of the labels.

    Args and Returns: as in `mse`.

    Example:
        >>> float(rmse(jnp.array([3., 4.]), jnp.array([0., 0.]), where=jnp.array([True, False])))
        3.0
    """
    return jnp.sqrt(mse(scores, labels, where=where))


def mae(scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None) -> jax.Array:
    """Averages `|score - label|`; the same as `losses.absolute_error`.

    Args and Returns: as in `mse`.
    """
    return losses.absolute_error(scores, labels, where=where)


def top_items(scores: jax.Array, *, k: int, where: jax.Array | None = None) -> jax.Array:
    """Returns the indices of the k highest scores, best first.

    Args:
        scores: `[I]` scores.
        k: Length of the list, static; it may exceed I.
        where: `[I]` bool, False where an item may not be recommended; None allows all.

    Returns:
        `[k]` int32 indices, -1 where no item is left.

    Raises:
        ValueError: If k is below 1.

    Example:
        >>> top_items(jnp.array([.1, .9, .5]), k=4, where=jnp.array([True, True, False])).tolist()
        [1, 0, -1, -1]
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}.")
    losses.check_list(scores=scores, where=where)
    # Excluded items lie strictly below the worst of the others, even if that is -inf or NaN.
    low = jnp.finfo(scores.dtype).min
    ranked = jnp.where(jnp.isnan(scores), low, jnp.maximum(scores, low))
    if where is not None:
        ranked = jnp.where(where, ranked, -jnp.inf)
    values, items = jax.lax.top_k(ranked, min(k, scores.shape[0]))
    items = jnp.where(values == -jnp.inf, -1, items)
    return jnp.pad(items, (0, k - items.shape[0]), constant_values=-1)


def precision(
    scores: jax.Array, labels: jax.Array, *, k: int, where: jax.Array | None = None
) -> jax.Array:
    """Returns the share of relevant items among the first k.

    Divides by k also where fewer than k items are left: an empty place is a miss.

    Args:
        scores: `[I]` scores.
        labels: `[I]` relevant where above 0.
        k: Length of the list, static; it may exceed I.
        where: `[I]` bool, False where an item may not be recommended; None allows all.

    Returns:
        `[]` in [0, 1].
    """
    return jnp.sum(_gains(scores, labels, k, where)) / k


def recall(
    scores: jax.Array, labels: jax.Array, *, k: int, where: jax.Array | None = None
) -> jax.Array:
    """Returns the share of all relevant items that are among the first k.

    Args and Returns: as in `precision`.
    """
    hits = jnp.sum(_gains(scores, labels, k, where))
    return hits / jnp.maximum(_relevant(labels, where), 1)


def hit_rate(
    scores: jax.Array, labels: jax.Array, *, k: int, where: jax.Array | None = None
) -> jax.Array:
    """Returns 1 if any of the first k is relevant; at k = 1, first-recommendation success.

    Args and Returns: as in `precision`.
    """
    return jnp.max(_gains(scores, labels, k, where))


def ndcg(
    scores: jax.Array, labels: jax.Array, *, k: int, where: jax.Array | None = None
) -> jax.Array:
    """Returns the normalised discounted cumulative gain with binary relevance.

    DCG is the sum of `1 / log2(rank + 1)` over the relevant among the first k, ranks from 1; it is
    divided by that of the best list of length k, which holds `min(k, relevant)` of them.

    Args and Returns: as in `precision`.

    Example:
        >>> scores, labels = jnp.array([.3, .2, .1]), jnp.array([0, 1, 1])
        >>> round(float(ndcg(scores, labels, k=2)), 4)  # (1 / log2(3)) / (1 + 1 / log2(3))
        0.3869

    References:
        Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, ACM TOIS 2002,
        with the discount starting at rank 2 as in Burges et al., ICML 2005.
    """
    discount = 1 / jnp.log2(jnp.arange(k) + 2.0)
    ideal = jnp.sum(jnp.where(jnp.arange(k) < _relevant(labels, where), discount, 0))
    return jnp.sum(_gains(scores, labels, k, where) * discount) / jnp.where(ideal > 0, ideal, 1)


def auc(scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None) -> jax.Array:
    """Returns the probability that a relevant item is scored above an irrelevant one.

    Equal scores count half.

    Args:
        scores: `[N]` higher is better.
        labels: `[N]` relevant where positive.
        where: `[N]` bool, the candidates; None means all.

    Returns:
        `[]` in [0, 1]; .5 where all are relevant, or none.

    Example:
        >>> float(auc(jnp.array([3.0, 2.0, 1.0]), jnp.array([1, 0, 1])))
        0.5

    References:
        Hanley and McNeil, The Meaning and Use of the Area under a Receiver Operating
        Characteristic (ROC) Curve, Radiology 143, 1982.
    """
    losses.check_list(scores=scores, labels=labels, where=where)
    candidate = jnp.ones(scores.shape, bool) if where is None else where
    relevant = candidate & (labels > 0)
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    ordered = jnp.sort(jnp.where(candidate, scores, jnp.inf))
    first, after = (jnp.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    # In floating point: the number of pairs may be more than 32 bits can count.
    positive, count = (jnp.sum(kept, dtype=float) for kept in (relevant, candidate))
    # The middle of the places that equal scores share; those of padding are behind all others.
    below = (first + jnp.minimum(after, count)) / 2
    pairs = positive * (count - positive)
    above = jnp.sum(jnp.where(relevant, below, 0)) - positive**2 / 2
    return jnp.where(pairs > 0, above / jnp.maximum(pairs, 1), 0.5)


def coverage(lists: jax.Array, *, items: int) -> jax.Array:
    """Returns the share of the catalogue that occurs in at least one list.

    Args:
        lists: Item indices of any shape, as from `top_items`; negative entries do not count.
        items: Size of the catalogue, at least 1.

    Returns:
        `[]` in [0, 1].

    Example:
        >>> float(coverage(jnp.array([[0, 1], [1, -1]]), items=4))
        0.5
    """
    # A negative index would count from the end; one past the end is dropped.
    place = jnp.where(lists < 0, items, lists).reshape(-1)
    return jnp.mean(jnp.zeros(items).at[place].set(1.0, mode="drop"))


def _gains(scores: jax.Array, labels: jax.Array, k: int, where: jax.Array | None) -> jax.Array:
    # [k] 1.0 where the item at that place is relevant.
    losses.check_list(scores=scores, labels=labels, where=where)
    items = top_items(scores, k=k, where=where)
    return jnp.where((items >= 0) & (labels[items] > 0), 1.0, 0.0)


def _relevant(labels: jax.Array, where: jax.Array | None) -> jax.Array:
    return jnp.sum(labels > 0 if where is None else where & (labels > 0))
