"""Empirical-Bayes fold-in across domains: one posterior of what a user is like in both."""

import jax
import jax.numpy as jnp

from metajax.baselines.base import Baseline, observed
from metajax.baselines.fold_in import Posterior, gaussian_posterior
from metajax.cross_domain.joint_factors import JointFactors, fit_joint_factors
from metajax.types import Examples, Inputs

__all__ = ["joint_fold_in"]


def _adapt(params: JointFactors, support: Examples, key: jax.Array | None = None) -> Posterior:
    """Conditions the user's latents in both domains on ratings of either."""
    item, rating, present = observed(support)
    # In units of the noise, which differs between domains.
    weight = present / jnp.sqrt(params.noise[item])
    # The user's attributes stand in every row, padded ones too.
    told = support.inputs.user_features[0] @ params.attribute_weights
    prior = Posterior(params.prior_mean + told, params.prior_covariance)
    residual = weight * (rating - params.expected[item])
    return gaussian_posterior(
        prior, weight[:, None] * params.design[item], residual, jnp.ones((), weight.dtype)
    )


def _predict(params: JointFactors, posterior: Posterior, inputs: Inputs) -> jax.Array:
    return params.expected[inputs.item] + params.design[inputs.item] @ posterior.mean


def _predict_variance(params: JointFactors, posterior: Posterior, inputs: Inputs) -> jax.Array:
    x = params.design[inputs.item]
    return jnp.sum(x @ posterior.covariance * x, axis=-1) + params.noise[inputs.item]


joint_fold_in = Baseline(
    "joint_fold_in",
    "rating",
    fit_joint_factors,
    _adapt,
    _predict,
    grid=(
        {"rank": 4, "item_ridge": 60.0, "correlation": 0.8},
        {"rank": 2, "item_ridge": 30.0, "correlation": 0.9},
        {"rank": 4, "item_ridge": 120.0, "correlation": 0.6},
        {"rank": 8, "item_ridge": 120.0, "correlation": 0.8},
    ),
    predict_variance=_predict_variance,
)
