"""Losses of each score against its label, added up or averaged."""

import jax
import jax.numpy as jnp

from metajax.losses.masks import masked_mean

__all__ = [
    "absolute_error",
    "gaussian_nll",
    "shrunk_squared_error",
    "sigmoid_cross_entropy",
    "squared_error",
    "total_squared_error",
]


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


def _error(scores: jax.Array, labels: jax.Array, where: jax.Array | None) -> jax.Array:
    # Masked before the nonlinearity: a gradient of `where(mask, f(nan), 0)` is still NaN.
    error = scores - labels
    return error if where is None else jnp.where(where, error, 0)
