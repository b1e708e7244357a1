"""Joint fold-in: factors of two domains under one Gaussian prior of users, and its posterior.

Each domain has its own item factors, with users integrated out. A user's latents in both domains
are one Gaussian vector: its covariance states what transfers, and how surely; its mean is linear in
the user's attributes. A regression between posterior means would ignore their uncertainty; here one
expectation maximisation fits the factors of both domains, with users of a single one too.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.adaptation import ridge_head
from metajax.baselines.baseline import Baseline, check_positive
from metajax.baselines.eb_fold_in import FoldIn, fold_in_evidence, standardised
from metajax.baselines.factors import (
    Layout,
    fit_factors,
    item_regressions,
    layouts,
    row_statistics,
)
from metajax.cross_domain.domains import check_domains, domain_logs
from metajax.data.dataset import TrainingSet
from metajax.fields import Range
from metajax.gaussian import Statistics, population_moments, posterior, residual_variance
from metajax.types import Posterior

__all__ = ["JointFactors", "baselines", "fit_joint_factors", "joint_fold_in", "joint_fold_in_of"]

# EM steps of the prior alone, with the items as fitted to each domain.
_PRIOR_STEPS = 10


class JointFactors(NamedTuple):
    """A Gaussian model of ratings in two domains; d is the rank, L = 2 (d + 1).

    The rating of item i by a user with latents w `[L]` is `expected[i] + design[i] . w` plus noise;
    w is drawn from N(prior_mean + attributes . attribute_weights, prior_covariance).
    """

    expected: jax.Array
    """`[I]` rating by a user whose latents are 0."""
    design: jax.Array
    """`[I, L]` one and the item's factors, in the first half for items of the source and in the
    second for items of the target; the other half is 0."""
    noise: jax.Array
    """`[I]` variance of a rating around its expectation, one value a domain."""
    prior_mean: jax.Array
    """`[L]`."""
    attribute_weights: jax.Array
    """`[Du, L]`."""
    prior_covariance: jax.Array
    """`[L, L]`."""


class _Domain(NamedTuple):
    """The ratings of a domain and the current estimate of its items."""

    by_user: Layout
    by_item: Layout
    rating: np.ndarray
    """`[R]`."""
    item: np.ndarray
    """`[R]`."""
    users: np.ndarray
    """`[S]` rows of its users among those of both domains."""
    half: slice
    """Its latents among the L."""
    mean: float
    bias: np.ndarray
    """`[I]`."""
    factors: np.ndarray
    """`[I, d]`."""
    noise: float

    def statistics(self) -> Statistics:
        """Returns the sufficient statistics of its users."""
        residual = self.rating - self.mean - self.bias[self.item]
        return row_statistics(self.by_user, self.factors, residual)


class _Prior(NamedTuple):
    """Prior of users: `latents ~ N(features @ weights, covariance)`."""

    weights: np.ndarray
    """`[1 + Du, L]`, the first row for a constant feature 1."""
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
    """Fits the factors of each domain, then the prior of both, then both together.

    Args:
        training: Both domains; users may be in one or in both.
        rank: Factors d of each domain besides the user's bias, >= 1.
        steps: EM steps of items and prior together, >= 0; stopping early regularises.
        item_ridge: As in `fit_factors`.
        bias_ridge: As in `fit_factors`.
        attribute_ridge: Penalty of the weights of attributes, in users, > 0.
        correlation: Prior correlation of a user's mean rating in the two domains, in [0, 1).
            Common users correct it; without any it stays.
        seed: Seed of the initial item factors.

    Returns:
        The factors, float32.

    Raises:
        ValueError: If there is a single domain, one has no rating, or an option is out of range.

    References:
        Zhang, Cao and Yeung, Multi-Domain Collaborative Filtering, UAI 2010, section 3: a learned
        covariance between domains. Differs: it is between all latents and not between domains as
        wholes, and users are integrated out. Agarwal and Chen, Regression-based Latent Factor
        Models, KDD 2009: the mean of the prior.
    """
    check_positive(attribute_ridge=attribute_ridge)
    item_domain = check_domains(training)
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation must be in [0, 1), got {correlation}.")
    if steps < 0:
        raise ValueError(f"steps must be >= 0, got {steps}.")
    users, width = training.interactions.users, rank + 1
    features = np.insert(np.asarray(training.user_features, np.float64)[users], 0, 1.0, axis=1)
    domains: list[_Domain] = []
    prior = _Prior(np.zeros((features.shape[1], 2 * width)), np.zeros((2 * width, 2 * width)))
    for n, log in enumerate(domain_logs(training)):
        fitted = fit_factors(
            log, rank=rank, item_ridge=item_ridge, bias_ridge=bias_ridge, seed=seed
        )
        mean, bias, factors, prior_mean, covariance, noise = (
            np.asarray(leaf, np.float64) for leaf in fitted
        )
        by_user, by_item = layouts(log)
        at, half = np.searchsorted(users, by_user.present), slice(n * width, (n + 1) * width)
        rows = (by_user, by_item, log.rating, log.item, at, half)
        domains.append(_Domain(*rows, float(mean), bias, factors, float(noise)))
        prior.weights[0, half], prior.covariance[half, half] = prior_mean, covariance
    _correlate(domains, prior.covariance, correlation)

    ridge = np.diag([bias_ridge] + [item_ridge] * rank)
    penalty = attribute_ridge * np.eye(features.shape[1])
    penalty[0, 0] = 0.0
    regression = np.linalg.solve(features.T @ features + penalty, features.T)  # [1 + Du, users]

    def project(latents: np.ndarray) -> np.ndarray:
        return features @ (regression @ latents)

    for step in range(_PRIOR_STEPS + steps):
        found = _posteriors(domains, prior, features)
        _, covariance = population_moments(found, project)
        prior = _Prior(regression @ found.mean, covariance)
        if step >= _PRIOR_STEPS:
            domains = [_with_items(domain, found, ridge) for domain in domains]
            domains, prior = _standardised(domains, prior, features)
    return _as_arrays(domains, prior, item_domain)


def _correlate(domains: list[_Domain], covariance: np.ndarray, correlation: float) -> None:
    """Fills in the covariance between the domains by the prior correlation of mean ratings.

    A user's mean over a domain's ratings is g = x . w with the mean x of their regressors. If the
    latents of the domains depend on one another through g alone, of variances v and v' and with
    correlation r, their covariance is S x (r / sqrt(v v')) x' S'.
    """
    loadings = []
    for domain in domains:
        x = np.insert(np.mean(domain.factors[domain.item], axis=0), 0, 1.0)
        load = covariance[domain.half, domain.half] @ x
        loadings.append(load / np.sqrt(x @ load))
    source, target = (domain.half for domain in domains)
    covariance[source, target] = correlation * np.outer(*loadings)
    covariance[target, source] = covariance[source, target].T


def _posteriors(domains: list[_Domain], prior: _Prior, features: np.ndarray) -> Posterior:
    """Returns the posteriors of all users given their ratings in both domains."""
    width = len(prior.covariance)
    gram, cross = np.zeros((len(features), width, width)), np.zeros((len(features), width))
    for domain in domains:
        own = domain.statistics()
        gram[domain.users, domain.half, domain.half] = own.gram / domain.noise
        cross[domain.users, domain.half] = own.cross / domain.noise
    return posterior(gram, cross, features @ prior.weights, prior.covariance)


def _with_items(domain: _Domain, users: Posterior, ridge: np.ndarray) -> _Domain:
    """Fits noise, item biases and item factors of a domain to the posteriors of the users."""
    own = Posterior(
        users.mean[domain.users, domain.half],
        users.covariance[domain.users, domain.half, domain.half],
    )
    noise = residual_variance(domain.statistics(), own)
    target, items = domain.rating - domain.mean, len(domain.bias)
    bias, factors = item_regressions(domain.by_item, own, target, ridge, items)
    return domain._replace(bias=bias, factors=factors, noise=noise)


def _standardised(
    domains: list[_Domain], prior: _Prior, features: np.ndarray
) -> tuple[list[_Domain], _Prior]:
    """Rescales each domain's factors to a standard normal population; predictions are the same.

    As in `fit_factors`: else the factors would shrink, the prior grow and ridges lose their
    meaning.
    """
    means = features @ prior.weights
    weights, turn = prior.weights.copy(), np.eye(means.shape[1])
    turned = []
    for domain in domains:
        tastes = slice(domain.half.start + 1, domain.half.stop)
        centre = np.mean(means[:, tastes], axis=0)
        weights[0, tastes] -= centre
        between = np.cov(means[:, tastes], rowvar=False, bias=True).reshape(len(centre), -1)
        root = np.linalg.cholesky(prior.covariance[tastes, tastes] + between)
        turn[tastes, tastes] = np.linalg.inv(root)
        bias = domain.bias + domain.factors @ centre
        turned.append(domain._replace(bias=bias, factors=domain.factors @ root))
    return turned, _Prior(weights @ turn.T, turn @ prior.covariance @ turn.T)


def _as_arrays(domains: list[_Domain], prior: _Prior, item_domain: np.ndarray) -> JointFactors:
    expected, noise = np.zeros(len(item_domain)), np.ones(len(item_domain))
    design = np.zeros((len(item_domain), len(prior.covariance)))
    for n, domain in enumerate(domains):
        own = item_domain == n
        expected[own], noise[own] = domain.mean + domain.bias[own], domain.noise
        design[own, domain.half] = np.insert(domain.factors[own], 0, 1.0, axis=1)
    fitted = (expected, design, noise, prior.weights[0], prior.weights[1:], prior.covariance)
    return JointFactors(*(jnp.asarray(leaf, jnp.float32) for leaf in fitted))


def joint_fold_in_of(factors: JointFactors) -> FoldIn:
    """Returns the fold-in on given factors of both domains."""
    expected, design, noise, mean, weights, covariance = (
        np.asarray(leaf, np.float64) for leaf in factors
    )
    expected, design, root = standardised(expected, design, mean, covariance)
    user_map = np.linalg.solve(root, weights.T).T
    return FoldIn(*(jnp.asarray(leaf, jnp.float32) for leaf in (expected, design, noise, user_map)))


def _fit(training: TrainingSet, **settings: Any) -> FoldIn:
    """Fits joint factors; settings as in `fit_joint_factors`."""
    return joint_fold_in_of(fit_joint_factors(training, **settings))


joint_fold_in = Baseline(
    "joint_fold_in",
    "rating",
    _fit,
    ridge_head(fold_in_evidence),
    grid=(
        {"rank": 4, "item_ridge": 60.0, "correlation": 0.8},
        {"rank": 2, "item_ridge": 30.0, "correlation": 0.9},
        {"rank": 4, "item_ridge": 120.0, "correlation": 0.6},
        {"rank": 8, "item_ridge": 120.0, "correlation": 0.8},
    ),
    ranges={
        "rank": Range(2, 16),
        "item_ridge": Range(10.0, 500.0, log=True),
        "correlation": Range(0.3, 0.95),
    },
    two_domains=True,
)

baselines: tuple[Baseline, ...] = (joint_fold_in,)
