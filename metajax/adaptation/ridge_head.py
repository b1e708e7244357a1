"""Ridge head: closed-form Bayesian linear regression on learned features.

A network says of each interaction what the average user would answer, along which few directions
users differ in it, and how noisy it is. Where a user lies along those directions has a standard
normal prior, so the posterior of it is exact, cheap, and differentiable: training passes through
the solution of the regression, not through steps towards it.
"""

from collections.abc import Callable
from typing import Any

import jax

from metajax.gaussian import predictive_variance, ridge_posterior
from metajax.losses import blanked
from metajax.types import Adaptation, Evidence, Examples, Params, Posterior, returning

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
        prior: `prior(params, support) -> m [F]`, what to expect of a user of whom it is known what
            they chose; it must not look at labels, and sees padding as zeros. None means 0.

    Returns:
        An adaptation whose adapted state is a `Posterior`; its `predict_variance` is that of a
        label, `x' covariance x` and the noise.

    References:
        Bertinetto et al., Meta-learning with Differentiable Closed-form Solvers, ICLR 2019,
        section 3.2. Harrison, Sharma and Pavone, Meta-Learning Priors for Efficient Online
        Bayesian Regression, WAFR 2018. Differs: noise by example; what is known of the user
        beforehand enters through `expected`, so that the prior is standard normal.
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

    return Adaptation(adapt, predict, predict_variance)
