"""Probability that a support holds a user's first interactions, by logistic regression."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Arrival", "arrived", "between", "fit_arrival"]

KNOTS = (0, 1, 3, 5, 10)
"""Numbers of interactions at which weights are fitted."""

_CERTAIN = 30.0


class Arrival(NamedTuple):
    """Logistic regressions of a support being of the first interactions, G knots, V statistics.

    The last four statistics are of times, `support.Summary.pace`.
    """

    centre: jax.Array
    """`[V]` mean of the statistics."""
    spread: jax.Array
    """`[V]` their standard deviation."""
    weights: jax.Array
    """`[2, G, 1 + V]` intercept and weights, for supports without times and with them."""


def between(table: jax.Array, count: jax.Array) -> jax.Array:
    """Interpolates rows `[G, ...]` of knots in log(1 + K); beyond the last it is the last."""
    place = jnp.log1p(jnp.asarray(KNOTS, jnp.float32))
    at = jnp.clip(jnp.log1p(count), place[0], place[-1])
    over = jnp.clip(jnp.searchsorted(place, at, side="right"), 1, len(KNOTS) - 1)
    share = (at - place[over - 1]) / (place[over] - place[over - 1])
    return (1 - share) * table[over - 1] + share * table[over]


def arrived(params: Arrival, values: jax.Array, count: jax.Array, timed: jax.Array) -> jax.Array:
    """Returns `[]` the probability that a support is of somebody's first interactions.

    Args:
        params: The regressions.
        values: `[V]` statistics of the support.
        count: `[]` its size.
        timed: `[]` bool, whether its times are known.
    """
    z = jnp.clip((values - params.centre) / params.spread, -3, 3) * (count > 0)
    weights = between(params.weights[timed.astype(jnp.int32)], count)
    return jax.nn.sigmoid(weights[0] + weights[1:] @ z)


def fit_arrival(
    counts: Sequence[Any], statistics: Sequence[np.ndarray], of_times: int, order: str = "both"
) -> Arrival:
    """Fits the regressions by Newton steps.

    Args:
        counts: `[T]` sizes of supports of any of a user's interactions; and, where the log has
            times, of the first ones.
        statistics: `[T, V]` of the same.
        of_times: Number of the statistics, the last ones, that supports without times have not.
        order: "random" or "time" if all supports are known to be of one kind.

    Returns:
        The regressions. Without interactions nothing tells the kinds apart.
    """
    size, values = np.concatenate(counts), np.concatenate(statistics)
    first = np.repeat(np.arange(len(counts)), [len(count) for count in counts])
    some = values[size > 0] if np.any(size > 0) else values
    centre, spread = some.mean(axis=0), some.std(axis=0)
    spread = np.where(spread > 1e-6, spread, 1.0)
    z = np.clip((values - centre) / spread, -3, 3)
    x = np.insert(z, 0, 1.0, axis=1).astype(np.float64)
    table = np.zeros((2, len(KNOTS), x.shape[1]))
    if order != "both" or len(counts) == 1:
        table[..., 0] = _CERTAIN if order == "time" and len(counts) > 1 else -_CERTAIN
        counts = counts[:1]
    for timed, width in enumerate((x.shape[1] - of_times, x.shape[1])):
        for place, knot in enumerate(KNOTS):
            rows = size == knot
            if len(counts) > 1 and knot and len(set(first[rows])) > 1:
                table[timed, place, :width] = _logistic(x[rows, :width], first[rows])
    return Arrival(*(jnp.asarray(leaf, jnp.float32) for leaf in (centre, spread, table)))


def _logistic(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the weights of a logistic regression, by Newton steps."""
    weights = np.zeros(design.shape[1])
    penalty = 1e-3 * len(design) * np.eye(design.shape[1])
    for _ in range(20):
        share = 1 / (1 + np.exp(-design @ weights))
        curve = design.T @ (design * (share * (1 - share))[:, None]) + penalty
        weights -= np.linalg.solve(curve, design.T @ (share - target) + penalty @ weights)
    return weights
