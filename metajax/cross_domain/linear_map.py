"""Linear map between domains: a regression of users' target latents on their source latents."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline, check_positive
from metajax.baselines.eb_fold_in import FoldIn, eb_fold_in, fold_in_evidence, fold_in_of
from metajax.baselines.factors import fit_factors, user_posteriors
from metajax.cross_domain.domains import TARGET, domain_logs
from metajax.data.dataset import TrainingSet
from metajax.fields import Range
from metajax.gaussian import ridge_posterior
from metajax.losses import blanked
from metajax.types import Adaptation, Examples, Inputs, Posterior

__all__ = ["baselines", "linear_map"]


class _Params(NamedTuple):
    item_domain: jax.Array
    """`[I]` int32, 0 for the source and 1 for the target."""
    source: FoldIn
    """Fitted to the source alone."""
    target: FoldIn
    """Fitted to the target alone; its latents have unit covariance given those of the source."""
    weights: jax.Array
    """`[d + 1, d + 1]` from latents in the source to their prior mean in the target."""


def _fit(training: TrainingSet, *, map_ridge: float = 10.0, **settings: Any) -> _Params:
    """Fits factors in each domain, then regresses target latents on source latents.

    Common users are the rows of the regression; without any the map is 0.

    Args:
        training: Both domains.
        map_ridge: Penalty of the map, in users, > 0.
        **settings: As in `fit_factors`.

    Returns:
        The parameters.

    Raises:
        ValueError: If there is a single domain, the ridge is not positive, or as `fit_factors`.

    References:
        Man, Shen, Jin and Cheng, Cross-Domain Recommendation: An Embedding and Mapping Approach,
        IJCAI 2017, section 4, the linear map. Differs: factors are posterior means under a
        Gaussian prior, biases are mapped with them, and the residual covariance of the map is
        that of a prior, which ratings of the target correct.
    """
    check_positive(map_ridge=map_ridge)
    source_log, target_log = domain_logs(training)
    source, target = (fit_factors(part, **settings) for part in (source_log, target_log))
    source_users, in_source = user_posteriors(source, source_log)
    target_users, in_target = user_posteriors(target, target_log)
    both, at_source, at_target = np.intersect1d(source_users, target_users, return_indices=True)

    width = len(source.prior_mean)
    weights, covariance = np.zeros((width, width)), np.asarray(target.prior_covariance, np.float64)
    if len(both):
        x = in_source.mean[at_source] - np.asarray(source.prior_mean, np.float64)
        y = in_target.mean[at_target] - np.asarray(target.prior_mean, np.float64)
        # Equivalent to so many further users whose target latents are at the prior mean.
        penalty = map_ridge * np.diag(np.mean(x**2, axis=0))
        weights = np.linalg.solve(x.T @ x + penalty, x.T @ y).T
        rest = y - x @ weights.T
        covariance = rest.T @ rest / len(both) + np.mean(in_target.covariance[at_target], axis=0)
    root = np.linalg.cholesky(np.asarray(source.prior_covariance, np.float64))
    weights = np.linalg.solve(np.linalg.cholesky(covariance), weights @ root)
    return _Params(
        jnp.asarray(training.item_domain, jnp.int32),
        fold_in_of(source),
        fold_in_of(target._replace(prior_covariance=jnp.asarray(covariance))),
        jnp.asarray(weights, jnp.float32),
    )


def _adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> Posterior:
    """Returns the posterior of the user's latents in the target."""
    seen = blanked(support)
    in_target = params.item_domain[seen.inputs.item] == TARGET

    def given(model: FoldIn, mask: jax.Array, mean: jax.Array | None = None) -> Posterior:
        evidence = fold_in_evidence(model, seen.inputs)
        return ridge_posterior(evidence, seen._replace(mask=seen.mask & mask), mean)

    source = given(params.source, ~in_target)
    return given(params.target, in_target, params.weights @ source.mean)


def _predict(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    return eb_fold_in.adaptation.predict(params.target, posterior, inputs)


def _predict_variance(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    variance = eb_fold_in.adaptation.predict_variance
    assert variance is not None
    return variance(params.target, posterior, inputs)


linear_map = Baseline(
    "linear_map",
    "rating",
    _fit,
    Adaptation(_adapt, _predict, _predict_variance),
    grid=(
        {"rank": 4, "item_ridge": 60.0},
        {"rank": 8, "item_ridge": 120.0},
        {"rank": 4, "item_ridge": 60.0, "map_ridge": 50.0},
        {"rank": 2, "item_ridge": 30.0},
    ),
    ranges={
        "rank": Range(2, 16),
        "item_ridge": Range(10.0, 500.0, log=True),
        "map_ridge": Range(1.0, 100.0, log=True),
    },
    two_domains=True,
)

baselines: tuple[Baseline, ...] = (linear_map,)
