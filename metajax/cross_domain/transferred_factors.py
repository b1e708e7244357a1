"""Factors of a target domain for users whose factors were learned in a source.

Users who are in both domains keep what the source knows of them, as a prior that their ratings in
the target correct; and items of the target are first taken to be like those of the source. So both
domains share one space of users, and that even where no user is known to be in both: then what
items are usually like is what ties the spaces together.
"""

from typing import NamedTuple

import numpy as np

from metajax.baselines.factors import Factors, fit_factors, user_posteriors
from metajax.baselines.moments import Layout, layouts, segment_moments
from metajax.cross_domain.domains import check_domains, domain_logs
from metajax.data.dataset import TrainingSet

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


class _Gaussians(NamedTuple):
    """Vectors known in part, each by a mean `[n, w]` and a covariance `[n, w, w]`."""

    mean: np.ndarray
    covariance: np.ndarray

    def second(self) -> np.ndarray:
        """Returns `[n, w, w]` expected products."""
        return self.covariance + self.mean[:, :, None] * self.mean[:, None, :]


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
    count = np.bincount(source.item, minlength=len(domain))
    known = table[count >= min(_KNOWN, count.max())]

    by_user, by_item = layouts(target)
    rating = target.rating.astype(np.float64)
    prior = _users_of(factors, root, user_posteriors(factors, source), by_user.present)
    noise = float(factors.noise)
    center = np.append(np.mean(rating), known[:, 1:].mean(axis=0))
    # One item alone does not vary.
    spread = np.cov(known.T, ddof=min(1, len(known) - 1)) + 1e-3 * np.eye(len(center))
    items = _first_items(center, spread, by_item, rating, noise)
    for _ in range(steps):
        users = _users_given(prior, items, by_item, by_user, rating, noise)
        seen = _with_one(users)
        moment, cross = segment_moments(by_item, seen.second(), seen.mean, rating)
        items = _posterior(_Gaussians(center[None], spread[None]), moment / noise, cross / noise)
        second = items.second()
        # E sum (rating - w . [1, z])^2 expanded, so that the log is not gone through again.
        error = np.sum(rating**2) - 2 * np.sum(items.mean * cross) + np.sum(second * moment)
        noise = max(float(error) / len(rating), 1e-6)
        center = items.mean.mean(axis=0)
        spread = second.mean(axis=0) - np.outer(center, center)
    in_target = domain == 1
    table[in_target] = center
    table[by_item.present] = items.mean
    noises = np.array([float(factors.noise), noise])
    return TransferredFactors(
        *(leaf.astype(np.float32) for leaf in (table[:, 1:], table[:, 0], noises))
    )


def _first_items(
    center: np.ndarray, spread: np.ndarray, by_item: Layout, rating: np.ndarray, noise: float
) -> _Gaussians:
    """Returns items whose mean rating is all that is known of them, of users who are not known.

    To regress items on users of whom nothing is known would shrink their embeddings to nothing.
    """
    count = np.diff(by_item.offsets)
    sums = np.add.reduceat(rating[by_item.order], by_item.offsets[:-1])
    prior = _Gaussians(np.tile(center, (len(count), 1)), np.tile(spread, (len(count), 1, 1)))
    precision, information = np.zeros_like(prior.covariance), np.zeros_like(prior.mean)
    # A user adds embedding . z, of which nothing is known, to the noise.
    around = noise + center[1:] @ center[1:] + np.trace(spread[1:, 1:])
    precision[:, 0, 0], information[:, 0] = count / around, sums / around
    return _posterior(prior, precision, information)


def _item_table(factors: Factors, root: np.ndarray) -> np.ndarray:
    """Returns `[I, 1 + F]` biases and embeddings for a standard normal prior of users."""
    vectors = np.asarray(factors.item_factors, np.float64)
    design = np.insert(vectors, 0, 1.0, axis=1)
    bias = float(factors.mean) + np.asarray(factors.item_bias) + design @ factors.prior_mean
    return np.insert(design @ root, 0, bias, axis=1)


def _users_of(
    factors: Factors,
    root: np.ndarray,
    told: tuple[np.ndarray, np.ndarray, np.ndarray],
    users: np.ndarray,
) -> _Gaussians:
    """Returns what the source tells of users of the target, as standard normal vectors."""
    present, mean, covariance = told
    inverse = np.linalg.inv(root)
    width = len(root)
    prior = _Gaussians(np.zeros((len(users), width)), np.tile(np.eye(width), (len(users), 1, 1)))
    _, there, here = np.intersect1d(present, users, return_indices=True)
    prior.mean[here] = (mean[there] - np.asarray(factors.prior_mean, np.float64)) @ inverse.T
    prior.covariance[here] = inverse @ covariance[there] @ inverse.T
    return prior


def _users_given(
    prior: _Gaussians,
    items: _Gaussians,
    by_item: Layout,
    by_user: Layout,
    rating: np.ndarray,
    noise: float,
) -> _Gaussians:
    """Returns what ratings say of users, of items that are known in part themselves."""
    at_item = by_user._replace(other=np.searchsorted(by_item.present, by_user.other))
    moment, cross = segment_moments(at_item, items.second(), items.mean, rating)
    # The bias, w's first part, is no part of what a user changes.
    told = cross[:, 1:] - moment[:, 1:, 0]
    return _posterior(prior, moment[:, 1:, 1:] / noise, told / noise)


def _posterior(prior: _Gaussians, precision: np.ndarray, information: np.ndarray) -> _Gaussians:
    before = np.linalg.inv(prior.covariance)
    covariance = np.linalg.inv(before + precision)
    told = np.einsum("nab,nb->na", before, prior.mean) + information
    return _Gaussians(np.einsum("nab,nb->na", covariance, told), covariance)


def _with_one(users: _Gaussians) -> _Gaussians:
    """Returns [1, z] of vectors z."""
    count, width = users.mean.shape
    covariance = np.zeros((count, width + 1, width + 1))
    covariance[:, 1:, 1:] = users.covariance
    return _Gaussians(np.insert(users.mean, 0, 1.0, axis=1), covariance)
