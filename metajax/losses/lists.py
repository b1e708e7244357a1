"""Losses of a list of candidates: what counts is their order."""

import jax
import jax.numpy as jnp

from metajax.losses.masks import masked_mean

__all__ = [
    "approximate_ndcg",
    "bpr",
    "softmax_cross_entropy",
]


def softmax_cross_entropy(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages `-log softmax(scores)` over a list of candidates, weighed by their labels.

    Args:
        scores: `[N]` scores of the candidates.
        labels: `[N]` relevances >= 0, say 1 for what the user liked and 0 for the rest.
        where: `[N]` bool, or None to keep all; what is masked is no candidate.

    Returns:
        `[]` the loss; 0 where nothing is relevant.

    Example:
        >>> float(softmax_cross_entropy(jnp.zeros(4), jnp.array([1., 0., 1., 0.])))  # log 4
        1.3862943649291992

    References:
        Liang et al., Variational Autoencoders for Collaborative Filtering, WWW 2018, equation 2,
        here divided by the sum of the labels.
    """
    where, scores, labels = _listed(scores, labels, where)
    # A logarithm over nothing is kept finite, so that its gradient is 0 and not NaN.
    logits = jnp.where(where, scores, jnp.where(where.any(), -jnp.inf, 0))
    surprise = jax.nn.logsumexp(logits) - scores
    total = jnp.sum(labels)
    return jnp.sum(labels * surprise) / jnp.where(total > 0, total, 1)


def bpr(scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None) -> jax.Array:
    """Averages `log(1 + exp(s_j - s_i))` over the pairs in which i is more relevant than j.

    Memory is N^2: meant for sampled candidates, not for a whole catalogue.

    Args:
        scores: `[N]` scores of the candidates.
        labels: `[N]` relevances; only their order matters.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the loss; 0 where no pair differs.

    References:
        Rendle et al., BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009,
        section 4.1, without the penalty.
    """
    where, scores, labels = _listed(scores, labels, where)
    better = (labels[:, None] > labels[None, :]) & where[:, None] & where[None, :]
    return masked_mean(jnp.logaddexp(0.0, scores[None, :] - scores[:, None]), better)


def approximate_ndcg(
    scores: jax.Array,
    labels: jax.Array,
    *,
    where: jax.Array | None = None,
    k: int = 10,
    temperature: float = 0.04,
    pool: int = 64,
) -> jax.Array:
    """Is 1 - NDCG@k with ranks made smooth: what is judged by the first k is trained for them.

    The rank of an item counts the items above it, each by a sigmoid of the difference of scores,
    and the end of the list is as soft. Scores are measured in standard deviations of those that
    take part, so that making them all larger gains nothing.

    Args:
        scores: `[N]` scores of the candidates.
        labels: `[N]` relevant where above 0.
        where: `[N]` bool, or None to keep all; what is masked is no candidate.
        k: Length of the list, >= 1.
        temperature: Of the sigmoids, > 0: the lower, the closer to NDCG and the fewer the items
            that a gradient reaches.
        pool: So many candidates of the highest scores take part; others are too far from the
            list. Memory is its square.

    Returns:
        `[]` the loss, from 0 to 1; 0 where nothing is relevant.

    Example:
        >>> scores, labels = jnp.arange(6.), jnp.array([0., 0., 0., 1., 1., 1.])
        >>> best, worst = approximate_ndcg(scores, labels), approximate_ndcg(-scores, labels)
        >>> float(best) < 0.01, 0.4 < float(worst)
        (True, True)

    References:
        Qin, Liu and Li, A General Approximation Framework for Direct Optimization of Information
        Retrieval Measures, Information Retrieval 13, 2010, sections 4.1 and 4.2. Differs: binary
        relevance, standardised scores, and only the best candidates take part.
    """
    where, scores, labels = _listed(scores, labels, where)
    best, index = jax.lax.top_k(jnp.where(where, scores, -jnp.inf), min(pool, len(scores)))
    listed, relevant = where[index], (labels > 0)[index]
    best = jnp.where(listed, best, 0)
    count = jnp.maximum(jnp.sum(listed), 1)
    off = jnp.where(listed, best - jnp.sum(best) / count, 0)
    # A tiny addend keeps the gradient finite where all scores are the same.
    best = best / jnp.sqrt(jnp.sum(jnp.square(off)) / count + 1e-12)
    above = jax.nn.sigmoid((best[None, :] - best[:, None]) / temperature)
    # An item is half above itself: from there to rank 1.
    rank = 0.5 + jnp.sum(jnp.where(listed[None, :], above, 0), axis=1)
    gain = jax.nn.sigmoid(k + 0.5 - rank) / jnp.log2(1 + rank)
    total = jnp.sum(labels > 0)
    place = jnp.arange(min(k, len(scores)))
    ideal = jnp.sum(jnp.where(place < total, 1 / jnp.log2(2.0 + place), 0))
    reached = jnp.sum(jnp.where(relevant & listed, gain, 0))
    return jnp.where(total > 0, 1 - reached / jnp.where(total > 0, ideal, 1), 0)


def _listed(
    scores: jax.Array, labels: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Puts zeros where the mask hides."""
    where = jnp.ones(scores.shape, bool) if where is None else where
    return where, jnp.where(where, scores, 0), jnp.where(where, labels, 0)
