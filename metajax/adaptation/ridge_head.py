"""Adaptation in closed form: a Bayesian linear regression on features that were learned.

A network says of each interaction what the average user would answer, along which few directions
users differ in it, and how noisy it is. Where a user lies along those directions has a standard
normal prior, so the posterior of it is exact, cheap, and differentiable: training passes through
the solution of the regression, not through steps towards it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.losses import blanked
from metajax.types import Adaptation, Examples, Params

__all__ = ["Evidence", "Posterior", "ridge_head", "ridge_posterior"]


class Evidence(NamedTuple):
    """What a network knows of N interactions before it knows the user; F directions."""

    expected: jax.Array
    """`[N]` label that the average user would give."""
    design: jax.Array
    """`[N, F]` what a unit along each direction adds to it."""
    noise: jax.Array
    """`[N]` variance of a label around what its user would give on average, > 0."""
    power: jax.Array | None = None
    """`[N]` how much a label counts as evidence of its user, > 0, as if it had been given so many
    times; None means 1."""


class Posterior(NamedTuple):
    """What is known of one user."""

    mean: jax.Array
    """`[F]`."""
    covariance: jax.Array
    """`[F, F]`."""


def ridge_head(
    evidence: Callable[[Params, Any], Evidence],
    prior: Callable[[Params, Examples], jax.Array] | None = None,
) -> Adaptation:
    """Adapts by the posterior of a linear model whose features are a network's.

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
        spread = jnp.sum((found.design @ adapted.covariance) * found.design, axis=1)
        return spread + found.noise

    return Adaptation(adapt, predict, predict_variance)


def ridge_posterior(found: Evidence, seen: Examples, before: jax.Array | None = None) -> Posterior:
    """Returns the posterior of a user with a normal prior of unit covariance.

    Args:
        found: What is known of the interactions beforehand.
        seen: The interactions; padding tells nothing.
        before: `[F]` prior mean; None means 0.

    Returns:
        The posterior, as in `ridge_head`.
    """
    design = jnp.where(seen.mask[:, None], found.design, 0)
    before = jnp.zeros(design.shape[1], design.dtype) if before is None else before
    surprise = jnp.where(seen.mask, seen.labels - found.expected, 0) - design @ before
    noise = found.noise if found.power is None else found.noise / found.power
    weighed = design / jnp.where(seen.mask, noise, 1)[:, None]
    precision = jnp.eye(design.shape[1], dtype=design.dtype) + weighed.T @ design
    covariance = _inverse(precision)
    return Posterior(before + covariance @ (weighed.T @ surprise), covariance)


@jax.custom_jvp
def _inverse(matrix: jax.Array) -> jax.Array:
    """Inverts a positive definite matrix `[F, F]`.

    Its derivative is products alone. Left to itself it would be more triangular solutions side by
    side, and two batches of those at once can block the threads of XLA's CPU client for good:
    each waits, on a thread of the pool, for parts of its batch that no thread is left to work on.
    """
    root = jax.scipy.linalg.cho_factor(matrix)
    return jax.scipy.linalg.cho_solve(root, jnp.eye(len(matrix), dtype=matrix.dtype))


@_inverse.defjvp
def _inverse_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    inverse = _inverse(*primals)
    return inverse, -inverse @ tangents[0] @ inverse
