"""Factors of two domains under one prior: what a user is like in one tells of the other.

Each domain has factors of its own, whose users are integrated out. A user's latents in both are
one Gaussian vector. Its covariance says what carries over, and how surely; its mean is a linear
form of the user's attributes. A linear map between posterior means would be blind to how little
is known of the users it is fitted to; here the same expectation maximisation that fits the factors
of one domain fits those of both, and who is in one domain alone counts as well.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import check_positive
from metajax.baselines.factors import Layout, fit_factors, item_regressions, layouts, row_statistics
from metajax.cross_domain.domains import check_domains, domain_logs
from metajax.data.dataset import TrainingSet
from metajax.gaussian import Statistics, population_moments, posterior, residual_variance
from metajax.types import Posterior

__all__ = ["JointFactors", "fit_joint_factors"]

# Steps in which items stay as each domain alone has fitted them.
_PRIOR_STEPS = 10


class JointFactors(NamedTuple):
    """A Gaussian model of ratings in two domains; d is the rank, L = 2 (d + 1).

    The rating of item i by a user with latents w `[L]` is `expected[i] + design[i] . w` plus noise;
    w is drawn from N(prior_mean + attributes . attribute_weights, prior_covariance).
    """

    expected: jax.Array
    """`[I]` rating by a user whose latents are 0."""
    design: jax.Array
    """`[I, L]` one and the item's vector, in the first half for an item of the source and in the
    second for one of the target; the other half is 0."""
    noise: jax.Array
    """`[I]` variance of a rating around its expectation, the same within a domain."""
    prior_mean: jax.Array
    """`[L]`."""
    attribute_weights: jax.Array
    """`[Du, L]`."""
    prior_covariance: jax.Array
    """`[L, L]`."""


class _Side(NamedTuple):
    """A domain, and what is known of its items."""

    by_user: Layout
    by_item: Layout
    rating: np.ndarray
    """`[R]`."""
    item: np.ndarray
    """`[R]`."""
    at: np.ndarray
    """`[S]` where its users stand among those of both domains."""
    half: slice
    """Its latents."""
    mean: float
    bias: np.ndarray
    """`[I]`."""
    factors: np.ndarray
    """`[I, d]`."""
    noise: float


class _Population(NamedTuple):
    """What users are like: `latents ~ N(features @ weights, covariance)`."""

    weights: np.ndarray
    """`[1 + Du, L]`, the first row for a feature that is always 1."""
    covariance: np.ndarray
    """`[L, L]`."""


def fit_joint_factors(
    training: TrainingSet,
    *,
    rank: int = 4,
    steps: int = 5,
    item_ridge: float = 60.0,
    bias_ridge: float = 3.0,
    attribute_ridge: float = 100.0,
    correlation: float = 0.8,
    seed: int = 0,
) -> JointFactors:
    """Fits each domain alone, then what carries over, then items and all together.

    Args:
        training: Both domains; users may be in one or in both.
        rank: Number of factors d of each domain besides the user's bias, >= 1.
        steps: EM steps of items and population together, >= 0; stopping early regularises.
        item_ridge: As in `fit_factors`.
        bias_ridge: As in `fit_factors`.
        attribute_ridge: Penalty of the weights of attributes, in users, > 0.
        correlation: Of how generous a user is in the two domains, as it is believed to be before
            anybody is seen in both, in [0, 1). Users in both correct it; without any it stays.
        seed: Of the random starts of item vectors.

    Returns:
        The factors, float32.

    Raises:
        ValueError: If there is one domain alone, one has no rating, or a setting is out of range.

    References:
        Zhang, Cao and Yeung, Multi-Domain Collaborative Filtering, UAI 2010, section 3: a
        covariance between domains, learned. Differs: it is between all latents and not between
        domains as wholes, and users are integrated out. Agarwal and Chen, Regression-based Latent
        Factor Models, KDD 2009: the mean of the prior.
    """
    check_positive(attribute_ridge=attribute_ridge)
    domain = check_domains(training)
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation must be in [0, 1), got {correlation}.")
    if steps < 0:
        raise ValueError(f"steps must be >= 0, got {steps}.")
    users, width = training.interactions.users, rank + 1
    features = np.insert(np.asarray(training.user_features, np.float64)[users], 0, 1.0, axis=1)
    sides: list[_Side] = []
    prior = _Population(np.zeros((features.shape[1], 2 * width)), np.zeros((2 * width, 2 * width)))
    for n, part in enumerate(domain_logs(training)):
        fitted = fit_factors(
            part, rank=rank, item_ridge=item_ridge, bias_ridge=bias_ridge, seed=seed
        )
        mean, bias, vectors, prior_mean, covariance, noise = (
            np.asarray(leaf, np.float64) for leaf in fitted
        )
        by_user, by_item = layouts(part)
        at, half = np.searchsorted(users, by_user.present), slice(n * width, (n + 1) * width)
        place = (by_user, by_item, part.rating, part.item, at, half)
        sides.append(_Side(*place, float(mean), bias, vectors, float(noise)))
        prior.weights[0, half], prior.covariance[half, half] = prior_mean, covariance
    _correlate(sides, prior.covariance, correlation)

    ridge = np.diag([bias_ridge] + [item_ridge] * rank)
    penalty = attribute_ridge * np.eye(features.shape[1])
    penalty[0, 0] = 0.0
    regression = np.linalg.solve(features.T @ features + penalty, features.T)  # [1 + Du, users]
    for step in range(_PRIOR_STEPS + steps):
        latents = _posteriors(sides, prior, features)
        weights = regression @ latents.mean
        _, covariance = population_moments(latents, lambda mean: features @ (regression @ mean))
        prior = _Population(weights, covariance)
        if step >= _PRIOR_STEPS:
            sides = [_with_items(side, latents, ridge) for side in sides]
            sides, prior = _standardised(sides, prior, features)
    return _as_arrays(sides, prior, domain)


def _correlate(sides: list[_Side], covariance: np.ndarray, correlation: float) -> None:
    """Fills in the covariance between the domains, from the belief that generosity carries over.

    How generous a user is, in the mean over a domain's ratings, is g = x . w with the mean x of
    their regressors. If latents of the domains depend on one another through g alone, of variances
    v and v' and with correlation r, their covariance is S x (r / sqrt(v v')) x' S'.
    """
    loadings = []
    for side in sides:
        x = np.insert(np.mean(side.factors[side.item], axis=0), 0, 1.0)
        load = covariance[side.half, side.half] @ x
        loadings.append(load / np.sqrt(x @ load))
    source, target = (side.half for side in sides)
    covariance[source, target] = correlation * np.outer(*loadings)
    covariance[target, source] = covariance[source, target].T


def _statistics(side: _Side) -> Statistics:
    residual = side.rating - side.mean - side.bias[side.item]
    return row_statistics(side.by_user, side.factors, residual)


def _posteriors(sides: list[_Side], prior: _Population, features: np.ndarray) -> Posterior:
    """Returns the users' posteriors, mean `[users, L]` and covariance `[users, L, L]`."""
    width = len(prior.covariance)
    gram, cross = np.zeros((len(features), width, width)), np.zeros((len(features), width))
    for side in sides:
        found = _statistics(side)
        gram[side.at, side.half, side.half] = found.gram / side.noise
        cross[side.at, side.half] = found.cross / side.noise
    return posterior(gram, cross, features @ prior.weights, prior.covariance)


def _with_items(side: _Side, latents: Posterior, ridge: np.ndarray) -> _Side:
    """Fits noise, biases and vectors of a domain's items to the users' posteriors."""
    mine = Posterior(
        latents.mean[side.at, side.half], latents.covariance[side.at, side.half, side.half]
    )
    noise = residual_variance(_statistics(side), mine)
    target = side.rating - side.mean
    bias, factors = item_regressions(side.by_item, mine, target, ridge, len(side.bias))
    return side._replace(bias=bias, factors=factors, noise=noise)


def _standardised(
    sides: list[_Side], prior: _Population, features: np.ndarray
) -> tuple[list[_Side], _Population]:
    """Rescales each domain's factors to a standard normal population, and predicts the same.

    As in `fit_factors`: else the vectors would shrink, the prior grow and ridges lose their
    meaning.
    """
    means = features @ prior.weights
    weights, turn = prior.weights.copy(), np.eye(means.shape[1])
    turned = []
    for side in sides:
        tastes = slice(side.half.start + 1, side.half.stop)
        centre = np.mean(means[:, tastes], axis=0)
        weights[0, tastes] -= centre
        between = np.cov(means[:, tastes], rowvar=False, bias=True).reshape(len(centre), -1)
        root = np.linalg.cholesky(prior.covariance[tastes, tastes] + between)
        turn[tastes, tastes] = np.linalg.inv(root)
        bias = side.bias + side.factors @ centre
        turned.append(side._replace(bias=bias, factors=side.factors @ root))
    return turned, _Population(weights @ turn.T, turn @ prior.covariance @ turn.T)


def _as_arrays(sides: list[_Side], prior: _Population, domain: np.ndarray) -> JointFactors:
    expected, noise = np.zeros(len(domain)), np.ones(len(domain))
    design = np.zeros((len(domain), len(prior.covariance)))
    for n, side in enumerate(sides):
        own = domain == n
        expected[own], noise[own] = side.mean + side.bias[own], side.noise
        design[own, side.half] = np.insert(side.factors[own], 0, 1.0, axis=1)
    fitted = (expected, design, noise, prior.weights[0], prior.weights[1:], prior.covariance)
    return JointFactors(*(jnp.asarray(leaf, jnp.float32) for leaf in fitted))
