"""Where learners of two domains start: factors of each, turned until direction meets direction."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.factors import Factors, fit_factors, user_posteriors
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import Interactions, rows_of
from metajax.models import DomainFactors
from metajax.recipes.parts import identities_of

__all__ = ["CanonicalFactors", "canonical_factors"]


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
    steps: int = 20,
    guess: float = 0.7,
    strength: float = 20.0,
    noise_scale: float = 1.5,
) -> CanonicalFactors:
    """Fits factors in each domain alone, then how a user's places in the two go together.

    Places are drawn from one normal distribution, whose covariance is fitted by expectation
    maximisation to the users of both domains: nobody's place is known, only what their ratings
    tell of it, and a regression of one estimate on another would find too little in common. Then
    each domain is turned to canonical coordinates.

    Args:
        training: Both domains.
        rank: As in `fit_factors`; F is `rank + 1`.
        seed: As in `fit_factors`.
        steps: Steps of expectation maximisation, >= 1.
        guess: What is believed beforehand to be the correlation of how generous a user is here
            and there, in [0, 1); of all else none is.
        strength: How many users that belief is worth, > 0.
        noise_scale: What the noise of ratings is multiplied by, > 0: factors have seen the ratings
            that it was fitted to, and those of a new user are further off.

    Returns:
        The factors.

    Raises:
        ValueError: If there is one domain alone, or one of them has no row.

    References:
        Bach and Jordan, A Probabilistic Interpretation of Canonical Correlation Analysis, 2005.
        Differs: both views are known through ratings, and what is believed beforehand is an
        inverse Wishart prior's pseudo-observations.
    """
    domain = training.item_domain
    if domain is None:
        raise ValueError("training must tell two domains apart, got no item_domain.")
    if rank < 1:
        raise ValueError(f"rank must be >= 1 where there are two domains, got {rank}.")
    log = training.interactions
    logs = [rows_of(log, domain[log.item] == side) for side in (0, 1)]
    fitted = [fit_factors(part, rank=rank, seed=seed) for part in logs]
    width, users = rank + 1, len(log.user_ids)
    told = [_told(*given, users) for given in zip(fitted, logs, strict=True)]
    precision = np.zeros((users, 2 * width, 2 * width))
    for side, (matrix, _) in enumerate(told):
        here = slice(side * width, (side + 1) * width)
        precision[:, here, here] = matrix
    information = np.concatenate([vector for _, vector in told], axis=1)
    both = precision.any(axis=(1, 2))
    precision, information = precision[both], information[both]

    believed = np.eye(2 * width)
    believed[0, width] = believed[width, 0] = guess
    joint = believed
    for _ in range(steps):
        covariance = np.linalg.inv(np.linalg.inv(joint) + precision)
        mean = np.einsum("uab,ub->ua", covariance, information)
        second = covariance.sum(axis=0) + mean.T @ mean
        joint = (strength * believed + second) / (strength + len(mean))
    return _turned(fitted, domain, joint, noise_scale)


def _told(factors: Factors, log: Interactions, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what ratings add to each user's standard normal: `[U, F, F]` precision, `[U, F]`."""
    present, mean, covariance = user_posteriors(factors, log)
    root = np.linalg.cholesky(np.asarray(factors.prior_covariance, np.float64))
    inverse = np.linalg.inv(root)
    mean = (mean - np.asarray(factors.prior_mean, np.float64)) @ inverse.T
    precision = root.T @ np.linalg.inv(covariance) @ root
    matrices, vectors = np.zeros((users, *root.shape)), np.zeros((users, len(root)))
    matrices[present] = precision - np.eye(len(root))
    vectors[present] = np.einsum("uab,ub->ua", precision, mean)
    return matrices, vectors


def _turned(
    fitted: list[Factors], domain: np.ndarray, joint: np.ndarray, noise_scale: float
) -> CanonicalFactors:
    """Turns each domain so that the covariance of the two is diagonal, and each one's own is I."""
    width = len(joint) // 2
    roots = [np.linalg.cholesky(joint[:width, :width]), np.linalg.cholesky(joint[width:, width:])]
    across = np.linalg.solve(roots[1], joint[width:, :width])
    across = np.linalg.solve(roots[0], across.T).T
    target, correlation, source = np.linalg.svd(across)
    embedding, bias = np.zeros((len(domain), width)), np.zeros(len(domain))
    for side, turn in enumerate((roots[0] @ source.T, roots[1] @ target)):
        design, expected = identities_of(fitted[side])
        here = domain == side
        embedding[here], bias[here] = design[here] @ turn, expected[here]
    noise = noise_scale * np.array([float(factors.noise) for factors in fitted])
    factors = (jnp.asarray(leaf, jnp.float32) for leaf in (domain, embedding, bias, noise))
    # A standard deviation of 0 would leave the target's ratings nothing to correct.
    shared = np.minimum(correlation, 0.999)
    return CanonicalFactors(DomainFactors(*factors), jnp.asarray(shared, jnp.float32))
