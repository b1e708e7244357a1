"""Factors of a target domain for users whose factors were learned in a source.

Users who are in both domains keep what the source knows of them, as a prior that their ratings in
the target correct; and items of the target are first taken to be like those of the source. So both
domains share one space of users, and that even where no user is known to be in both: then what
items are usually like is what ties the spaces together.
"""

from typing import NamedTuple

import numpy as np

from metajax.baselines.factors import (
    Factors,
    Layout,
    fit_factors,
    layouts,
    segment_moments,
    user_posteriors,
)
from metajax.cross_domain.domains import check_domains, domain_logs
from metajax.data.dataset import TrainingSet
from metajax.gaussian import Population, Statistics, em_step, posterior, second_moments
from metajax.types import Posterior

__all__ = ["TransferredFactors", "fit_transferred_factors"]

# How often an item of the source is rated of which it is known what it is like.
_KNOWN = 20


class TransferredFactors(NamedTuple):
    """Items of two domains for users with one standard normal vector; F is the rank + 1.

    A user with vector z rates item i `bias[i] + embedding[i] . z`, plus noise.
    """

    embedding: np.ndarray
    """`[I, F]` float32."""
    bias: np.ndarray
    """`[I]` float32."""
    noise: np.ndarray
    """`[2]` float32 variance of a rating in the source and in the target."""


def fit_transferred_factors(
    training: TrainingSet, *, rank: int = 8, steps: int = 10, seed: int = 0
) -> TransferredFactors:
    """Fits factors to the source, then items of the target to users who come from there.

    In the target users and items are Gaussian vectors, each known given the other. The prior of a
    user is the posterior that their source ratings leave, or standard normal where there are none.
    The prior of an item's bias and embedding is one for all, at first that of the source's items,
    then of the target's own. Each step updates users, items, their prior, and the noise.

    Args:
        training: Both domains.
        rank: As in `fit_factors`.
        steps: Steps in the target, >= 1. Stopping early keeps it close to the source.
        seed: As in `fit_factors`.

    Returns:
        The factors of both domains.

    Raises:
        ValueError: If there is one domain alone, one of them has no rating, or a setting is out of
            range.

    References:
        Lim and Teh, Variational Bayesian Approach to Movie Rating Prediction, KDD Cup and Workshop
        2007, section 3, the updates. Differs: priors of users come from the other domain, and
        items have one covariance that is learned.
    """
    domain = check_domains(training)
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}.")
    source, target = domain_logs(training)
    if not len(target.rating):
        raise ValueError("training must have a rating in each domain, got none in the target.")
    factors = fit_factors(source, rank=rank, seed=seed)
    root = np.linalg.cholesky(np.asarray(factors.prior_covariance, np.float64))
    table = _item_table(factors, root)  # [I, 1 + F]
    count = source.item_counts
    known = table[count >= min(_KNOWN, count.max())]

    by_user, by_item = layouts(target)
    rating = target.rating.astype(np.float64)
    prior = _users_of(factors, root, user_posteriors(factors, source), by_user.present)
    center = np.append(np.mean(rating), known[:, 1:].mean(axis=0))
    # One item alone does not vary.
    spread = np.cov(known.T, ddof=min(1, len(known) - 1)) + 1e-3 * np.eye(len(center))
    items = _first_items(center, spread, by_item, rating, float(factors.noise))
    of_items = Population(center, spread, float(factors.noise))
    for _ in range(steps):
        users = _users_given(prior, items, by_item, by_user, rating, of_items.noise)
        seen = _with_one(users)
        moments = segment_moments(by_item, second_moments(seen), seen.mean, rating)
        statistics = Statistics(*moments, float(np.sum(rating**2)), len(rating))
        items, of_items = em_step(statistics, of_items)
    in_target = domain == 1
    table[in_target] = of_items.mean
    table[by_item.present] = items.mean
    noises = np.array([float(factors.noise), of_items.noise])
    return TransferredFactors(
        *(leaf.astype(np.float32) for leaf in (table[:, 1:], table[:, 0], noises))
    )


def _first_items(
    center: np.ndarray, spread: np.ndarray, by_item: Layout, rating: np.ndarray, noise: float
) -> Posterior:
    """Returns items whose mean rating is all that is known of them, of users who are not known.

    To regress items on users of whom nothing is known would shrink their embeddings to nothing.
    """
    count = np.diff(by_item.offsets)
    sums = np.add.reduceat(rating[by_item.order], by_item.offsets[:-1])
    gram, cross = np.zeros((len(count), *spread.shape)), np.zeros((len(count), len(center)))
    # A user adds embedding . z, of which nothing is known, to the noise.
    around = noise + center[1:] @ center[1:] + np.trace(spread[1:, 1:])
    gram[:, 0, 0], cross[:, 0] = count / around, sums / around
    return posterior(gram, cross, center, spread)


def _item_table(factors: Factors, root: np.ndarray) -> np.ndarray:
    """Returns `[I, 1 + F]` biases and embeddings for a standard normal prior of users."""
    vectors = np.asarray(factors.item_factors, np.float64)
    design = np.insert(vectors, 0, 1.0, axis=1)
    bias = float(factors.mean) + np.asarray(factors.item_bias) + design @ factors.prior_mean
    return np.insert(design @ root, 0, bias, axis=1)


def _users_of(
    factors: Factors,
    root: np.ndarray,
    told: tuple[np.ndarray, Posterior],
    users: np.ndarray,
) -> Posterior:
    """Returns what the source tells of users of the target, as standard normal vectors."""
    present, found = told
    inverse = np.linalg.inv(root)
    width = len(root)
    mean, covariance = np.zeros((len(users), width)), np.tile(np.eye(width), (len(users), 1, 1))
    _, there, here = np.intersect1d(present, users, return_indices=True)
    mean[here] = (found.mean[there] - np.asarray(factors.prior_mean, np.float64)) @ inverse.T
    covariance[here] = inverse @ found.covariance[there] @ inverse.T
    return Posterior(mean, covariance)


def _users_given(
    prior: Posterior,
    items: Posterior,
    by_item: Layout,
    by_user: Layout,
    rating: np.ndarray,
    noise: float,
) -> Posterior:
    """Returns what ratings say of users, of items that are known in part themselves."""
    at_item = by_user._replace(other=np.searchsorted(by_item.present, by_user.other))
    moment, cross = segment_moments(at_item, second_moments(items), items.mean, rating)
    # The bias, w's first part, is no part of what a user changes.
    told = cross[:, 1:] - moment[:, 1:, 0]
    gram = moment[:, 1:, 1:] / noise
    return posterior(gram, told / noise, prior.mean, prior.covariance)


def _with_one(users: Posterior) -> Posterior:
    """Returns [1, z] of vectors z."""
    count, width = users.mean.shape
    covariance = np.zeros((count, width + 1, width + 1))
    covariance[:, 1:, 1:] = users.covariance
    return Posterior(np.insert(users.mean, 0, 1.0, axis=1), covariance)
