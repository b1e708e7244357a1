"""Empirical-Bayes fold-in: a new user's posterior under a Gaussian model of the trained ones."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.baselines.base import Baseline, observed
from metajax.baselines.factors import Factors, fit_factors
from metajax.data.dataset import TrainingSet
from metajax.types import Examples, Inputs

__all__ = [
    "Posterior",
    "eb_fold_in",
    "expected_rating",
    "gaussian_posterior",
    "rating_variance",
    "regressors",
]


class _Params(NamedTuple):
    factors: Factors
    """The model of ratings."""
    support_noise: jax.Array
    """`[]` variance of a rating of the support, as the fold-in takes it to be."""


class Posterior(NamedTuple):
    """What is known of a user's bias and factors."""

    mean: jax.Array
    """`[d + 1]`."""
    covariance: jax.Array
    """`[d + 1, d + 1]`."""


def gaussian_posterior(
    prior: Posterior, x: jax.Array, residual: jax.Array, noise: jax.Array
) -> Posterior:
    """Learns from rows `residual = x . w + noise` under a Gaussian prior of w.

    With prior N(m, S), rows x, residuals y and noise s^2 the mean is
    m + (I + S X'X / s^2)^-1 S X'(y - X m) / s^2 and the covariance (I + S X'X / s^2)^-1 S, which
    needs no inverse of S.

    Args:
        prior: Before the rows are seen.
        x: `[N, d + 1]` regressors; a row of zeros tells nothing.
        residual: `[N]` what they explain.
        noise: `[]` its variance.

    Returns:
        The posterior.
    """
    gain = prior.covariance @ x.T / noise  # [d + 1, N]
    system = jnp.eye(len(prior.mean)) + gain @ x
    innovation = gain @ (residual - x @ prior.mean)
    sides = jnp.concatenate([innovation[:, None], prior.covariance], axis=1)
    solved = jnp.linalg.solve(system, sides)  # [d + 1, 1 + d + 1]
    return Posterior(prior.mean + solved[:, 0], solved[:, 1:])


def regressors(factors: Factors, item: jax.Array) -> jax.Array:
    """Returns `[1, item vector]` of each item, `[N, d + 1]`."""
    return jnp.concatenate([jnp.ones((*item.shape, 1)), factors.item_factors[item]], axis=-1)


def expected_rating(factors: Factors, posterior: Posterior, item: jax.Array) -> jax.Array:
    """Returns what a user of that posterior is expected to rate items `[N]`, `[N]`."""
    expected = regressors(factors, item) @ posterior.mean
    return factors.mean + factors.item_bias[item] + expected


def rating_variance(factors: Factors, posterior: Posterior, item: jax.Array) -> jax.Array:
    """Returns the variance of such a rating, its noise included, `[N]`."""
    x = regressors(factors, item)
    return jnp.sum(x @ posterior.covariance * x, axis=-1) + factors.noise


def _fit(training: TrainingSet, *, noise_scale: float = 1.0, **settings: Any) -> _Params:
    """Fits factors, and tempers the noise a new user's support is judged by.

    Args:
        training: The training users' log.
        noise_scale: What the noise is multiplied by, > 0. Above 1 the support counts for less:
            first ratings come in sessions of similar items and tell less than independent ones.
        **settings: As in `fit_factors`.

    Returns:
        The parameters.

    Raises:
        ValueError: If the scale is not positive, or as in `fit_factors`.
    """
    if not noise_scale > 0:
        raise ValueError(f"noise_scale must be > 0, got {noise_scale}.")
    factors = fit_factors(training.interactions, **settings)
    return _Params(factors, noise_scale * factors.noise)


def _adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> Posterior:
    factors = params.factors
    item, rating, present = observed(support)
    x = present[:, None] * regressors(factors, item)
    residual = present * (rating - factors.mean - factors.item_bias[item])
    prior = Posterior(factors.prior_mean, factors.prior_covariance)
    return gaussian_posterior(prior, x, residual, params.support_noise)


def _predict(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    return expected_rating(params.factors, posterior, inputs.item)


def _predict_variance(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    return rating_variance(params.factors, posterior, inputs.item)


eb_fold_in = Baseline(
    "eb_fold_in",
    "rating",
    _fit,
    _adapt,
    _predict,
    grid=tuple(
        {"rank": rank, "item_ridge": ridge, "noise_scale": scale}
        for rank, ridge in ((8, 120.0), (4, 60.0))
        for scale in (1.0, 1.5)
    ),
    predict_variance=_predict_variance,
)
