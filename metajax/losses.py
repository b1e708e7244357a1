"""Losses of scores against labels, with a mask in every signature."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax.base import Examples, Params

__all__ = [
    "absolute_error",
    "approximate_ndcg",
    "blanked",
    "bpr",
    "gaussian_nll",
    "masked_mean",
    "on_examples",
    "shrunk_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "total_squared_error",
]


def masked_mean(values: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Averages the values that the mask keeps; the mean of nothing is 0.

    Padding may hold anything, NaN included: it reaches neither the value nor the gradient.

    Args:
        values: `[N]` values.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean.

    Example:
        >>> float(masked_mean(jnp.array([1., 2., jnp.nan]), jnp.array([True, True, False])))
        1.5
    """
    if where is None:
        where = jnp.ones(values.shape, bool)
    return jnp.sum(jnp.where(where, values, 0)) / jnp.maximum(jnp.sum(where), 1)


def squared_error(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages `(score - label)^2` over the examples that the mask keeps.

    Args:
        scores: `[N]` predictions.
        labels: `[N]` observations.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean squared error; 0 where nothing is kept.
    """
    return masked_mean(jnp.square(_error(scores, labels, where)), where)


def total_squared_error(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Sums `(score - label)^2` over the examples that the mask keeps.

    As an inner loss it is what a Gaussian likelihood is: each further example counts as much as
    the first, and steps of one size stand for one prior, whatever the size of the support.

    Args and Returns: as in `squared_error`.
    """
    return jnp.sum(jnp.square(_error(scores, labels, where)))


def shrunk_squared_error(
    scores: jax.Array,
    labels: jax.Array,
    *,
    prior: float,
    where: jax.Array | None = None,
) -> jax.Array:
    """Averages `(score - label)^2` as if there were `prior` examples more, without an error.

    As an inner loss it lies between the two above: the first examples count as in a total, and
    however many there are, steps of one size do not become too long.

    Args:
        scores: `[N]` predictions.
        labels: `[N]` observations.
        prior: How many more, > 0.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the shrunk mean.
    """
    count = jnp.sum(where) if where is not None else labels.size
    return total_squared_error(scores, labels, where=where) / (prior + count)


def absolute_error(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages `|score - label|` over the examples that the mask keeps.

    Args and Returns: as in `squared_error`.
    """
    return masked_mean(jnp.abs(_error(scores, labels, where)), where)


def sigmoid_cross_entropy(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Averages the cross-entropy of labels in [0, 1] against scores in logits.

    Args and Returns: as in `squared_error`.
    """
    if where is not None:
        scores, labels = jnp.where(where, scores, 0), jnp.where(where, labels, 0)
    # log(1 + e^s) - s y, in the form that does not overflow.
    return masked_mean(jnp.logaddexp(0.0, scores) - scores * labels, where)


def gaussian_nll(
    mean: jax.Array,
    labels: jax.Array,
    *,
    variance: jax.Array,
    where: jax.Array | None = None,
) -> jax.Array:
    """Averages `-log N(label; mean, variance)` over the examples that the mask keeps.

    Args:
        mean: `[N]` predicted means.
        labels: `[N]` observations.
        variance: `[N]` predicted variances, > 0.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean surprise in nats; 0 where nothing is kept.

    Example:
        >>> import math
        >>> nll = gaussian_nll(jnp.zeros(1), jnp.zeros(1), variance=jnp.ones(1) / (2 * math.pi))
        >>> abs(float(nll)) < 1e-6
        True
    """
    variance = variance if where is None else jnp.where(where, variance, 1)
    error = _error(mean, labels, where)
    nll = 0.5 * (jnp.log(2 * jnp.pi * variance) + jnp.square(error) / variance)
    return masked_mean(nll, where)


def blanked(examples: Examples) -> Examples:
    """Shows what the mask hides as zeros, so that padding may hold anything.

    A mask on the results alone would not do: the gradient of a layer is its inputs times zero
    there, and NaN times zero is NaN.
    """

    def kept(leaf: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(examples.mask, range(1, jnp.ndim(leaf))), leaf, 0)

    inputs = jax.tree.map(kept, examples.inputs)
    return Examples(inputs, kept(examples.labels), examples.mask)


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


def on_examples(
    apply: Callable[[Params, Any], jax.Array], loss: Callable[..., jax.Array]
) -> Callable[[Params, Examples], jax.Array]:
    """Turns a loss of scores into a loss of parameters.

    Padding is shown as zeros.

    Args:
        apply: `apply(params, inputs) -> scores [N]`.
        loss: `loss(scores, labels, *, where) -> []`.

    Returns:
        `loss_fn(params, examples) -> []`, what inner and outer loops differentiate.
    """

    def loss_fn(params: Params, examples: Examples) -> jax.Array:
        inputs, labels, mask = blanked(examples)
        return loss(apply(params, inputs), labels, where=mask)

    return loss_fn


def _error(scores: jax.Array, labels: jax.Array, where: jax.Array | None) -> jax.Array:
    # Masked before the nonlinearity: a gradient of `where(mask, f(nan), 0)` is still NaN.
    error = scores - labels
    return error if where is None else jnp.where(where, error, 0)


def _listed(
    scores: jax.Array, labels: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Puts zeros where the mask hides."""
    where = jnp.ones(scores.shape, bool) if where is None else where
    return where, jnp.where(where, scores, 0), jnp.where(where, labels, 0)
