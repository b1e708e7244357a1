"""Gaussian models of a user's ratings: three posteriors of the latents of item factors.

Two are conjugate, one with the full likelihood and one with a tempered one. The third replaces the
Gaussian prior by a mixture with a component for each training user (non-parametric empirical
Bayes): where tastes come in clusters, it follows them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.factors import user_posteriors
from metajax.gaussian import posterior, predictive_variance
from metajax.hybrid.experts import Shared

__all__ = ["Taste", "Tastes", "adapt_taste", "fit_tastes", "predicted"]

RATERS = ("EB fold-in", "tempered EB fold-in", "users as mixture")
"""Names of the three predictions."""

_TEMPERED = 1 / 1.5
_MIXTURE_POWER = 0.7
_INFLATION = 0.3


class Tastes(NamedTuple):
    """A linear Gaussian model of ratings, F = rank + 1, with M remembered users."""

    expected: jax.Array
    """`[I]` mean of all ratings and bias of the item."""
    doubt: jax.Array
    """`[I]` variance of that expectation, 0 for an item with ratings."""
    design: jax.Array
    """`[I, F]` 1 and the item's factors."""
    mean: jax.Array
    """`[F]` prior mean of a user's latents."""
    covariance: jax.Array
    """`[F, F]` prior covariance."""
    noise: jax.Array
    """`[]` variance of a rating given the latents."""
    member_mean: jax.Array
    """`[F, M]` mean of each component of the mixture; the last axis is the longest, along which
    vector instructions run."""
    member_covariance: jax.Array
    """`[F, F, M]` its covariance."""
    member_noise: jax.Array
    """`[M]` its noise."""


class Taste(NamedTuple):
    """Posteriors of a user's latents."""

    means: jax.Array
    """`[3, F]` by each of `RATERS`."""
    covariances: jax.Array
    """`[2, F, F]` of the tempered fold-in, and of the mixture's moments."""
    noise: jax.Array
    """`[]` variance of a rating given the latents, by the mixture."""
    effective: jax.Array
    """`[]` logarithm of the number of training users that the mixture rests on."""


def fit_tastes(shared: Shared) -> Tastes:
    """Fits item factors, and the posterior of every remembered user."""
    (factors, doubt), log = shared.factors, shared.training.interactions
    mean, bias, vectors, prior_mean, prior, noise = (
        np.asarray(leaf, np.float64) for leaf in factors
    )
    design = np.insert(vectors, 0, 1.0, axis=1)
    users, found = user_posteriors(factors, log)
    row = np.searchsorted(users, log.user)
    left = log.rating - mean - bias[log.item] - np.sum(design[log.item] * found.mean[row], axis=1)
    count = np.bincount(row, minlength=len(users))
    member_noise = (np.bincount(row, left**2, len(users)) + 10 * noise) / (count + 10)
    chosen = np.searchsorted(users, shared.members)
    values = (
        mean + bias,
        doubt**2,
        design,
        prior_mean,
        prior,
        noise,
        found.mean[chosen].T,
        np.moveaxis(found.covariance[chosen] + _INFLATION * prior, 0, 2),
        member_noise[chosen],
    )
    return Tastes(*(jnp.asarray(value, jnp.float32) for value in values))


def adapt_taste(tastes: Tastes, item: jax.Array, rating: jax.Array, present: jax.Array) -> Taste:
    """Returns the posteriors of a user's latents.

    Args:
        tastes: The model.
        item: `[S]` items of the support.
        rating: `[S]` their ratings.
        present: `[S]` 1, or 0 in padding.
    """
    x = tastes.design[item] * present[:, None]
    residual = (rating - tastes.expected[item]) * present
    gram, cross = x.T @ x / tastes.noise, x.T @ residual / tastes.noise
    full = posterior(gram, cross, tastes.mean, tastes.covariance)
    less = posterior(_TEMPERED * gram, _TEMPERED * cross, tastes.mean, tastes.covariance)
    mean, covariance, noise, effective = _mixed(tastes, tastes.design[item], residual, present)
    means = jnp.stack([full.mean, less.mean, mean])
    return Taste(means, jnp.stack([less.covariance, covariance]), noise, effective)


def _mixed(
    tastes: Tastes, x: jax.Array, residual: jax.Array, present: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns moments of the posterior mixture: a Kalman step of every component a rating."""
    width = x.shape[1]

    def step(
        carry: tuple[jax.Array, jax.Array, jax.Array], row: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        mean, covariance, log_weight = carry
        x, residual, present = row
        pull = (x @ covariance.reshape(width, -1)).reshape(width, -1)  # [F, M]
        variance = x @ pull + tastes.member_noise
        off = residual - x @ mean
        log_weight = log_weight - present * (off**2 / variance + jnp.log(variance)) / 2
        gain = present * pull / variance
        return (mean + gain * off, covariance - gain[:, None] * pull, log_weight), None

    log_weight = jnp.zeros(len(tastes.member_noise))
    start = (tastes.member_mean, tastes.member_covariance, log_weight)
    (mean, covariance, log_weight), _ = jax.lax.scan(step, start, (x, residual, present))
    weight = jax.nn.softmax(_MIXTURE_POWER * log_weight)
    average = mean @ weight
    off = mean - average[:, None]
    spread = covariance @ weight + (weight * off) @ off.T
    return average, spread, weight @ tastes.member_noise, -jnp.log(jnp.sum(weight**2))


def predicted(tastes: Tastes, taste: Taste, item: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Predicts ratings.

    Args:
        tastes: The model.
        taste: The user.
        item: `[N]` candidates.

    Returns:
        `[N, 3]` ratings by each of `RATERS`, and `[N, 2]` variances of the tempered fold-in and of
        the mixture, without noise.
    """
    design = tastes.design[item]
    spread = [predictive_variance(c, design, 0.0) for c in taste.covariances]
    spread = jnp.stack(spread, axis=1) + tastes.doubt[item][:, None]
    return tastes.expected[item][:, None] + design @ taste.means.T, spread
