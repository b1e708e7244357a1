"""The linear map between domains: from what a user is like in one to what they are in the other."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.base import Baseline, observed
from metajax.baselines.biases import check_positive
from metajax.baselines.factors import Factors, fit_factors, user_posteriors
from metajax.baselines.fold_in import (
    Posterior,
    expected_rating,
    gaussian_posterior,
    rating_variance,
    regressors,
)
from metajax.cross_domain.domains import domain_logs
from metajax.data.dataset import TrainingSet
from metajax.types import Examples, Inputs

__all__ = ["linear_map"]


class _Params(NamedTuple):
    item_domain: jax.Array
    """`[I]` int32, 0 for the source and 1 for the target."""
    source: Factors
    """Fitted to the source alone."""
    target: Factors
    """Fitted to the target alone."""
    weights: jax.Array
    """`[d + 1, d + 1]` from the deviation of a user's source latents to that of the target's."""
    covariance: jax.Array
    """`[d + 1, d + 1]` of the target's latents given the source's."""


def _fit(training: TrainingSet, *, map_ridge: float = 10.0, **settings: Any) -> _Params:
    """Fits factors in each domain, then regresses one's latents on the other's.

    Users with a history in both are the rows of the regression; without any nothing is mapped.

    Args:
        training: Both domains.
        map_ridge: Penalty of the map, in users, > 0.
        **settings: As in `fit_factors`.

    Returns:
        The parameters.

    Raises:
        ValueError: If there is one domain alone, the ridge is not positive, or as `fit_factors`.

    References:
        Man, Shen, Jin and Cheng, Cross-Domain Recommendation: An Embedding and Mapping Approach,
        IJCAI 2017, section 4, the linear map. Differs: factors are posterior means under a
        Gaussian prior, biases are mapped with them, and what the map leaves open is the prior
        that ratings of the target correct.
    """
    check_positive(map_ridge=map_ridge)
    source_log, target_log = domain_logs(training)
    source, target = (fit_factors(part, **settings) for part in (source_log, target_log))
    source_users, source_mean, _ = user_posteriors(source, source_log)
    target_users, target_mean, target_covariance = user_posteriors(target, target_log)
    both, at_source, at_target = np.intersect1d(source_users, target_users, return_indices=True)

    width = len(source.prior_mean)
    weights, covariance = np.zeros((width, width)), np.asarray(target.prior_covariance)
    if len(both):
        x = source_mean[at_source] - np.asarray(source.prior_mean, np.float64)
        y = target_mean[at_target] - np.asarray(target.prior_mean, np.float64)
        # As if so many users more had shown that nothing carries over.
        penalty = map_ridge * np.diag(np.mean(x**2, axis=0))
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ y).T
        rest = y - x @ weights.T
        covariance = rest.T @ rest / len(both) + np.mean(target_covariance[at_target], axis=0)
    learned = (jnp.asarray(leaf, jnp.float32) for leaf in (weights, covariance))
    return _Params(jnp.asarray(training.item_domain, jnp.int32), source, target, *learned)


def _adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> Posterior:
    """Returns what is known of the user in the target."""
    item, rating, present = observed(support)
    in_target = params.item_domain[item]
    source, target = params.source, params.target

    def learned(factors: Factors, prior: Posterior, shown: jax.Array) -> Posterior:
        x = shown[:, None] * regressors(factors, item)
        residual = shown * (rating - factors.mean - factors.item_bias[item])
        return gaussian_posterior(prior, x, residual, factors.noise)

    known = learned(
        source, Posterior(source.prior_mean, source.prior_covariance), present * (1 - in_target)
    )
    mapped = target.prior_mean + params.weights @ (known.mean - source.prior_mean)
    return learned(target, Posterior(mapped, params.covariance), present * in_target)


def _predict(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    return expected_rating(params.target, posterior, inputs.item)


def _predict_variance(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    return rating_variance(params.target, posterior, inputs.item)


linear_map = Baseline(
    "linear_map",
    "rating",
    _fit,
    _adapt,
    _predict,
    grid=(
        {"rank": 4, "item_ridge": 60.0},
        {"rank": 8, "item_ridge": 120.0},
        {"rank": 4, "item_ridge": 60.0, "map_ridge": 50.0},
        {"rank": 2, "item_ridge": 30.0},
    ),
    predict_variance=_predict_variance,
)
