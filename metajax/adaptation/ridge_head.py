"""Ridge head: closed-form Bayesian linear regression on learned features.

A network gives each interaction the expected label of the average user, features, and the variance
of the noise. A user's coefficients of the features have a standard normal prior, so their posterior
is exact, cheap, and differentiable: training passes through the solution of the regression, not
through steps towards it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax.gaussian import covariance_root, predictive_variance, ridge_posterior
from metajax.losses import blanked
from metajax.types import (
    Adaptation,
    Evidence,
    Examples,
    Expectation,
    Params,
    Posterior,
    returning,
)

__all__ = ["ridge_head"]


def ridge_head(
    evidence: Callable[[Params, Any], Evidence],
    prior: Callable[[Params, Examples], jax.Array] | None = None,
) -> Adaptation:
    """Adapts by the Gaussian posterior of a linear model on a network's features.

    With the design X of the support, labels y, expectations e and a diagonal S of noise variances,

        covariance = (I + X' S^-1 X)^-1,    mean = m + covariance X' S^-1 (y - e - X m) .

    A user is F + F^2 numbers, and adapting costs the solution of an F x F system.

    Args:
        evidence: `evidence(params, inputs) -> Evidence`, a network.
        prior: `prior(params, support) -> m [F]`, prior mean from the chosen items; independent of
            labels, padding comes as zeros. None means 0.

    Returns:
        An adaptation whose adapted state is a `Posterior`; its `predict_variance` is that of a
        label, `x' covariance x` and the noise, and its `expectation` is without the noise.

    References:
        Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019,
        section 3.2. Harrison, Sharma and Pavone, Meta-Learning Priors for Efficient Online
        Bayesian Regression, WAFR 2018. Differs: noise by example; features of the user enter
        through `expected`, so that the prior is standard normal.
    """
    evidence = returning(evidence, Evidence)

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Posterior:
        del key
        seen = blanked(support)
        before = None if prior is None else prior(params, seen)
        return ridge_posterior(evidence(params, seen.inputs), seen, before)

    def predict(params: Params, adapted: Posterior, inputs: Any) -> jax.Array:
        found = evidence(params, inputs)
        return found.expected + found.design @ adapted.mean

    def predict_variance(params: Params, adapted: Posterior, inputs: Any) -> jax.Array:
        found = evidence(params, inputs)
        return predictive_variance(adapted.covariance, found.design, found.noise)

    def expectation(params: Params, adapted: Posterior, inputs: Any) -> Expectation:
        found = evidence(params, inputs)
        mean = found.expected + found.design @ adapted.mean
        root = found.design @ covariance_root(adapted.covariance)
        return Expectation(mean, root, jnp.zeros_like(mean))

    return Adaptation(adapt, predict, predict_variance, expectation=expectation)
