"""Where learners of two domains start: factors of each, turned until direction meets direction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.cross_domain.domain_factors import DomainFactors
from metajax.cross_domain.joint_factors import fit_joint_factors
from metajax.data.dataset import TrainingSet

__all__ = ["CanonicalFactors", "canonical_factors"]

# In users. The networks do not look at attributes, so that all that users are like is covariance.
_NO_ATTRIBUTES = 1e9


class CanonicalFactors(NamedTuple):
    """Factors of two domains in canonical coordinates.

    A user is standard normal in either domain, and the k-th direction of one has to do with the
    k-th direction of the other alone.
    """

    factors: DomainFactors
    """Of the items of both."""
    correlation: jax.Array
    """`[F]` of a user's places along the k-th directions, in [0, 1), from the highest down."""


def canonical_factors(
    training: TrainingSet,
    *,
    rank: int = 8,
    seed: int = 0,
    correlation: float = 0.8,
    noise_scale: float = 1.5,
) -> CanonicalFactors:
    """Fits factors of both domains under one prior of users, and turns each domain to it.

    Args:
        training: Both domains.
        rank: As in `baselines.joint_factors.fit_joint_factors`; F is `rank + 1`.
        seed: As there.
        correlation: As there.
        noise_scale: What the noise of ratings is multiplied by, > 0: factors have seen the ratings
            that it was fitted to, and those of a new user are further off.

    Returns:
        The factors.

    Raises:
        ValueError: If there is one domain alone, one of them has no rating, or an argument is out
            of range.

    References:
        Bach and Jordan, A Probabilistic Interpretation of Canonical Correlation Analysis, 2005;
        here both views are known through ratings alone.
    """
    if rank < 1:
        raise ValueError(f"rank must be >= 1 where there are two domains, got {rank}.")
    if not noise_scale > 0:
        raise ValueError(f"noise_scale must be > 0, got {noise_scale}.")
    joint = fit_joint_factors(
        training,
        rank=rank,
        seed=seed,
        correlation=correlation,
        attribute_ridge=_NO_ATTRIBUTES,
    )
    expected, design, noise, mean, _, covariance = (np.asarray(leaf, np.float64) for leaf in joint)
    domain, width = np.asarray(training.item_domain), rank + 1
    halves = slice(width), slice(width, None)
    roots = [np.linalg.cholesky(covariance[half, half]) for half in halves]
    across = np.linalg.solve(roots[1], covariance[halves[1], halves[0]])
    target, found, source = np.linalg.svd(np.linalg.solve(roots[0], across.T).T)
    embedding, noises = np.zeros((len(domain), width)), np.ones(2)
    for side, turn in enumerate((roots[0] @ source.T, roots[1] @ target)):
        here = domain == side
        embedding[here] = design[here, halves[side]] @ turn
        noises[side] = noise_scale * noise[here][0]
    leaves = domain, embedding, expected + design @ mean, noises
    # A standard deviation of 0 would leave the target's ratings nothing to correct.
    shared = np.minimum(found, 0.999)
    return CanonicalFactors(
        DomainFactors(*(jnp.asarray(leaf, jnp.float32) for leaf in leaves)),
        jnp.asarray(shared, jnp.float32),
    )
