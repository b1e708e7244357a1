"""Empirical-Bayes fold-in: a new user's posterior under a Gaussian model of the trained ones."""

from typing import Any

import jax
import jax.numpy as jnp

from metajax.base import Examples, Inputs
from metajax.baselines.base import Baseline, observed
from metajax.baselines.factors import Factors, fit_factors
from metajax.data.dataset import TrainingSet

__all__ = ["eb_fold_in"]


def _fit(training: TrainingSet, *, noise_scale: float = 1.0, **settings: Any) -> Factors:
    """Fits factors, and tempers the noise a new user is judged by.

    Args:
        training: The training users' log.
        noise_scale: What the noise is multiplied by, > 0. Above 1 the support counts for less:
            first ratings come in sessions of similar items and tell less than independent ones.
        **settings: As in `fit_factors`.

    Returns:
        The factors.

    Raises:
        ValueError: If the scale is not positive, or as in `fit_factors`.
    """
    if not noise_scale > 0:
        raise ValueError(f"noise_scale must be > 0, got {noise_scale}.")
    factors = fit_factors(training.interactions, **settings)
    return factors._replace(noise=noise_scale * factors.noise)


def _adapt(factors: Factors, support: Examples, key: jax.Array | None = None) -> jax.Array:
    """Returns the posterior mean `[d + 1]` of the user's bias and factors.

    With prior N(m, S), rows x of the support, residuals y and noise s^2 it is
    m + (I + S X'X / s^2)^-1 S X'(y - X m) / s^2, which needs no inverse of S.
    """
    item, rating, present = observed(support)
    x = present[:, None] * _regressors(factors, item)
    residual = present * (rating - factors.mean - factors.item_bias[item])
    gain = factors.prior_covariance @ x.T / factors.noise  # [d + 1, N]
    system = jnp.eye(len(factors.prior_mean)) + gain @ x
    innovation = gain @ (residual - x @ factors.prior_mean)
    return factors.prior_mean + jnp.linalg.solve(system, innovation)


def _predict(factors: Factors, latent: jax.Array, inputs: Inputs) -> jax.Array:
    item = inputs.item
    return factors.mean + factors.item_bias[item] + _regressors(factors, item) @ latent


def _regressors(factors: Factors, item: jax.Array) -> jax.Array:
    """Returns `[1, item vector]` of each item, `[N, d + 1]`."""
    return jnp.concatenate([jnp.ones((*item.shape, 1)), factors.item_factors[item]], axis=-1)


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
)
