"""Item factors by expectation maximisation, with users integrated out (probabilistic PCA).

Ordinary matrix factorisation spends its training on user vectors that a cold user does not have.
Here a user is a latent Gaussian, known only through its posterior, so the item vectors and the
prior are fitted to predict a user's ratings from a few others. Bayesian fold-in
reads them off directly; networks start their item embeddings and biases from them.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.interactions import Interactions
from metajax.gaussian import (
    Population,
    Statistics,
    bounded_noise,
    expected_error,
    posterior,
    second_moments,
)
from metajax.steps import counted
from metajax.types import Posterior

__all__ = [
    "Factors",
    "Layout",
    "fit_factors",
    "identities_of",
    "item_regressions",
    "layouts",
    "row_statistics",
    "segment_moments",
    "user_posteriors",
    "user_statistics",
]


# Users whose posteriors are held at a time.
_USERS = 2**15


class Factors(NamedTuple):
    """A Gaussian model of ratings; d is the rank.

    The rating of item i by a user with latents w `[d + 1]` is
    `mean + item_bias[i] + [1, item_factors[i]] . w` plus noise, and w is drawn from the prior.
    Scaled so that the prior of the last d latents is standard normal: a column of `item_factors`
    shows how much its factor moves ratings.
    """

    mean: jax.Array
    """`[]` the mean of all training ratings."""
    item_bias: jax.Array
    """`[I]` item biases; 0 for an item without ratings."""
    item_factors: jax.Array
    """`[I, d]` item vectors; 0 for an item without ratings."""
    prior_mean: jax.Array
    """`[d + 1]` prior mean of a user's bias (first) and factors (0 by the scaling)."""
    prior_covariance: jax.Array
    """`[d + 1, d + 1]` prior covariance of the same."""
    noise: jax.Array
    """`[]` variance of a rating around its expectation."""


def fit_factors(
    interactions: Interactions,
    *,
    rank: int = 8,
    steps: int = 20,
    item_ridge: float = 120.0,
    bias_ridge: float = 3.0,
    seed: int = 0,
) -> Factors:
    """Fits item factors, noise and the users' prior by expectation maximisation.

    E-step: the Gaussian posterior of every training user's latents. M-step: prior and noise from
    the posteriors' moments; each item's bias and vector by a ridge regression of its ratings on
    the users' latents. Then the latents are rescaled to a standard normal prior, which changes no
    prediction but keeps the ridge meaningful (else the vectors would shrink and the prior grow)
    and speeds up convergence as parameter-expanded EM does. Without ridges the marginal
    likelihood never falls. One step costs O(R d^2 + (U + I) d^3) for R ratings.

    Args:
        interactions: The training users' log, of at least one rating; other users, without
            ratings, do not count.
        rank: Number of factors d besides the user's bias, >= 1.
        steps: EM steps, >= 1; stopping early regularises as well.
        item_ridge: Penalty of item vectors, in users: an item rated by so many is shrunk to about
            half, >= 0. Strong, for a new user's few ratings cannot check weak factors.
        bias_ridge: The same of item biases.
        seed: Of the random start of the item vectors.

    Returns:
        The factors, float32; the same for the same arguments.

    Raises:
        ValueError: If the log is empty or a setting is out of range.

    References:
        Tipping and Bishop, "Probabilistic Principal Component Analysis", JRSS B 1999, section 3,
        here with missing entries, a user bias and ridges. Liu, Rubin and Wu, "Parameter expansion
        to accelerate EM: the PX-EM algorithm", Biometrika 1998.
    """
    _check(interactions, rank, steps, item_ridge, bias_ridge)
    by_user = _by_user(interactions)
    mean = np.mean(interactions.rating, dtype=np.float64)
    target = interactions.rating - mean
    items = len(interactions.item_ids)
    ridge = np.diag([bias_ridge] + [item_ridge] * rank)

    generator = np.random.default_rng(seed)
    factors = 0.1 * generator.standard_normal((items, rank))
    count = interactions.item_counts
    bias = np.bincount(interactions.item, target, items) / (count + bias_ridge + 1)
    residual = target - bias[interactions.item]
    # Where all ratings are equal nothing is left, and any noise explains it.
    noise = float(np.mean(residual**2)) or 1e-6
    prior = Population(np.zeros(rank + 1), np.diag([noise / 4] + [1.0] * rank), noise)

    for _ in counted("EM of item factors", steps):
        bias, factors, prior = _em_step(by_user, factors, residual, target, prior, ridge)
        bias, factors, prior = _standardised(bias, factors, prior)
        residual = target - bias[interactions.item]
    fitted = (mean, bias, factors, *prior)
    return Factors(*(jnp.asarray(leaf, jnp.float32) for leaf in fitted))


def user_posteriors(factors: Factors, interactions: Interactions) -> tuple[np.ndarray, Posterior]:
    """Returns the posteriors of users' latents given their ratings.

    Args:
        factors: The model.
        interactions: The log, of items that the model knows.

    Returns:
        `[S]` the users with interactions, and their posteriors, mean `[S, d + 1]` and covariance
        `[S, d + 1, d + 1]`, float64.
    """
    users, statistics = user_statistics(factors, interactions)
    noise = float(factors.noise)
    prior_mean, prior = (
        np.asarray(leaf, np.float64) for leaf in (factors.prior_mean, factors.prior_covariance)
    )
    return users, posterior(statistics.gram / noise, statistics.cross / noise, prior_mean, prior)


def user_statistics(factors: Factors, interactions: Interactions) -> tuple[np.ndarray, Statistics]:
    """Returns the sufficient statistics of users' ratings.

    Args:
        factors: The model; x is `[1, vector]` of an item.
        interactions: The log, of items that the model knows.

    Returns:
        `[S]` the users with interactions, and the statistics of their rows (x, rating less mean
        and item bias), float64.
    """
    mean, bias, vectors = (np.asarray(leaf, np.float64) for leaf in factors[:3])
    by_user, _ = layouts(interactions)
    residual = interactions.rating - mean - bias[interactions.item]
    return by_user.present, row_statistics(by_user, vectors, residual)


def _standardised(
    bias: np.ndarray, factors: np.ndarray, prior: Population
) -> tuple[np.ndarray, np.ndarray, Population]:
    """Rescales the latents to a standard normal prior, all but the bias, and predicts the same.

    With w = mean + root z, `x . w` is `x . mean + (root' x) . z`: the first goes to the item's
    bias, the second to its vector.
    """
    bias = bias + factors @ prior.mean[1:]
    root = np.linalg.cholesky(prior.covariance[1:, 1:])
    scaled = prior.covariance.copy()
    scaled[1:, 1:] = np.eye(len(root))
    scaled[0, 1:] = scaled[1:, 0] = np.linalg.solve(root, prior.covariance[1:, 0])
    mean = np.append(prior.mean[0], np.zeros(len(root)))
    return bias, factors @ root, prior._replace(mean=mean, covariance=scaled)


def _check(
    interactions: Interactions, rank: int, steps: int, item_ridge: float, bias_ridge: float
) -> None:
    if not len(interactions.rating):
        raise ValueError("interactions must hold at least one rating, got none.")
    for name, value, least in (
        ("rank", rank, 1),
        ("steps", steps, 1),
        ("item_ridge", item_ridge, 0),
        ("bias_ridge", bias_ridge, 0),
    ):
        if not value >= least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")


class Layout(NamedTuple):
    """The log as segments: by user it points at items, by item at users."""

    order: np.ndarray | slice
    """Permutation that sorts the log's columns by segment."""
    other: np.ndarray
    """`[R]` index at the other end, in that order."""
    offsets: np.ndarray
    """`[S + 1]` where segments begin and end; none is empty."""
    present: np.ndarray
    """`[S]` index of each segment's user or item."""


def layouts(interactions: Interactions) -> tuple[Layout, Layout]:
    """Lays a log out by user and by item, without empty segments."""
    by_user = _by_user(interactions)
    user = np.searchsorted(by_user.present, interactions.user)
    order = np.argsort(interactions.item, kind="stable")
    item_counts = interactions.item_counts
    items = np.flatnonzero(item_counts)
    return by_user, Layout(order, user[order], _ends(item_counts[items]), items)


def _by_user(interactions: Interactions) -> Layout:
    counts = interactions.user_counts
    users = np.flatnonzero(counts)
    return Layout(slice(None), interactions.item, _ends(counts[users]), users)


def _em_step(
    by_user: Layout,
    factors: np.ndarray,
    residual: np.ndarray,
    target: np.ndarray,
    prior: Population,
    ridge: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, Population]:
    """Makes a step for the items' biases and vectors and the population of users.

    The posteriors of some users at a time are made, added to sums and forgotten: those of a
    million users would take gigabytes, several times over.
    """
    items, users = len(factors), len(by_user.present)
    moments, responses, covariance = (np.zeros(()) for _ in range(3))
    means = []
    square, error = float(np.sum(residual**2)), 0.0
    for part, rows in _blocks(by_user):
        statistics = row_statistics(part, factors, residual[rows])
        found = posterior(
            statistics.gram / prior.noise,
            statistics.cross / prior.noise,
            prior.mean,
            prior.covariance,
        )
        means.append(found.mean)
        covariance = covariance + np.sum(found.covariance, axis=0)
        error += expected_error(statistics, found)
        table, t = _regressors(found)
        moments = moments + _item_sums(part, np.ones(len(part.other)), table, items)
        responses = responses + _item_sums(part, target[rows], t, items)
    mean = np.concatenate(means)
    average = np.mean(mean, axis=0)
    rest = mean - average
    spread = covariance / users + rest.T @ rest / users
    present = np.flatnonzero(np.bincount(by_user.other, minlength=items))
    solved = _solved(moments[present], responses[present], ridge)
    bias, vectors = _of_all_items(solved, present, items)
    noise = bounded_noise(square + error, square, len(residual))
    return bias, vectors, Population(average, spread, noise)


def _blocks(by_user: Layout) -> Iterator[tuple[Layout, slice]]:
    """Yields a layout of some users at a time, and their rows."""
    offsets, users = by_user.offsets, len(by_user.present)
    for start in range(0, users, _USERS):
        stop = min(start + _USERS, users)
        rows = slice(int(offsets[start]), int(offsets[stop]))
        ends = offsets[start : stop + 1] - offsets[start]
        yield Layout(slice(None), by_user.other[rows], ends, by_user.present[start:stop]), rows


def row_statistics(by_user: Layout, factors: np.ndarray, residual: np.ndarray) -> Statistics:
    """Returns the statistics of S users' rows (x, residual), x = [1, item vector] `[d + 1]`."""
    x = np.insert(factors, 0, 1.0, axis=1)
    gram, cross = segment_moments(by_user, x[:, :, None] * x[:, None, :], x, residual)
    return Statistics(gram, cross, float(np.sum(residual**2)), len(residual))


def segment_moments(
    layout: Layout, second: np.ndarray, first: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums moments of a user's items, or of an item's users.

    Args:
        layout: The log, of S segments and R rows.
        second: `[n, w, w]` symmetric matrices of those at the other end.
        first: `[n, w]` vectors of those at the other end.
        weight: `[R]` what a row's vector is multiplied by, in the order of the log.

    Returns:
        `[S, w, w]` sums of the matrices and `[S, w]` of the weighted vectors.
    """
    moment, cross = _segment_sums(layout, _packed(second), first, weight)
    return _unpacked(moment, first.shape[1]), cross


def item_regressions(
    by_item: Layout,
    latents: Posterior,
    target: np.ndarray,
    ridge: np.ndarray,
    items: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Regresses `target - user bias` on t = [1, user factors] for every item, in expectation.

    Args:
        by_item: The log, of S users and R rows.
        latents: Posteriors of the users' biases and factors, mean `[S, d + 1]`.
        target: `[R]` what is explained, in the order of the log.
        ridge: `[d + 1, d + 1]` penalty of an item's bias and vector.
        items: I.

    Returns:
        `[I]` biases and `[I, d]` vectors, 0 for an item without rows.
    """
    sums = _segment_sums(by_item, *_regressors(latents), target)
    return _of_all_items(_solved(*sums, ridge), by_item.present, items)


def _regressors(latents: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Returns what an item's regression sums over its users, and t itself: `[S, ...]`."""
    latent, second = latents.mean, second_moments(latents)
    t = np.insert(latent[:, 1:], 0, 1.0, axis=1)
    bias_moment = np.insert(second[:, 1:, 0], 0, latent[:, 0], axis=1)
    second[:, 0, :] = second[:, :, 0] = t
    return np.concatenate([_packed(second), bias_moment], axis=1), t


def _solved(sums: np.ndarray, response: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    """Solves the regressions of `[n]` items: `[n, d + 1]`."""
    width = response.shape[1]
    gram = _unpacked(sums[:, :-width], width) + ridge
    return np.linalg.solve(gram, (response - sums[:, -width:])[:, :, None])[:, :, 0]


def _of_all_items(
    solution: np.ndarray, present: np.ndarray, items: int
) -> tuple[np.ndarray, np.ndarray]:
    regression = np.zeros((items, solution.shape[1]))
    regression[present] = solution
    return regression[:, 0], regression[:, 1:]


def _item_sums(part: Layout, weight: np.ndarray, rows: np.ndarray, items: int) -> np.ndarray:
    """Sums weighted rows of `[S, w]` over the users of every item, `[I, w]`."""
    from scipy.sparse import csr_array

    return csr_array((weight, part.other, part.offsets), (len(rows), items)).T @ rows


def _ends(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def _segment_sums(
    layout: Layout, table: np.ndarray, weighted: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums rows `table[other]` and `weight * weighted[other]` over every segment."""
    from scipy.sparse import csr_array  # Takes a tenth of a second, and only a fit needs it.

    shape = len(layout.present), len(table)

    def summed(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        # A sparse product gathers nothing: R rows of a table would take R times its width.
        return csr_array((values, layout.other, layout.offsets), shape) @ rows

    return summed(np.ones(len(weight)), table), summed(weight[layout.order], weighted)


def _packed(matrices: np.ndarray) -> np.ndarray:
    """Keeps the upper triangles of `[n, w, w]` symmetric matrices, `[n, w (w + 1) / 2]`."""
    rows, columns = np.triu_indices(matrices.shape[-1])
    return matrices[:, rows, columns]


def _unpacked(triangles: np.ndarray, width: int) -> np.ndarray:
    rows, columns = np.triu_indices(width)
    matrices = np.empty((len(triangles), width, width))
    matrices[:, rows, columns] = matrices[:, columns, rows] = triangles
    return matrices


def identities_of(factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Turns factors into identities `[I, d + 1]` and biases `[I]` of a network.

    With the prior N(m, L L') of a user's latents, the score mean + b + [1, v] . w is
    (mean + b + [1, v] . m) + ([1, v] L) . z with z standard normal. In these coordinates a user
    starts at z = 0 and gradient steps from there shrink towards the prior in every direction
    alike, as the posterior mean does.
    """
    ones = np.ones((len(factors.item_bias), 1), np.float32)
    design = np.concatenate([ones, factors.item_factors], axis=1)  # [I, d + 1]
    root = np.linalg.cholesky(factors.prior_covariance)
    bias = factors.mean + factors.item_bias + design @ factors.prior_mean
    return design @ root, np.asarray(bias)
