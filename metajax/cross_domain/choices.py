"""What a user's choice of items tells of their tastes, before any rating is looked at."""

from typing import NamedTuple

import numpy as np

from metajax.baselines.baseline import check_positive
from metajax.baselines.factors import Factors, user_statistics
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import Interactions, select_rows
from metajax.gaussian import Population, em_step

__all__ = ["Choices", "fit_choices"]

# Users and items that axes are found among; more are left out, evenly or by their popularity.
_MOST = 2000


class Choices(NamedTuple):
    """A prior of a user's latents w `[d + 1]`, by the n items they chose and their attributes x.

    The prior mean is `x @ of_user` and, where n > 0, `level + sum(of_item[chosen]) / sqrt(n)`,
    else `unknown`.
    """

    level: np.ndarray
    """`[d + 1]`."""
    of_item: np.ndarray
    """`[I, d + 1]`, 0 for items that are not looked at."""
    of_user: np.ndarray
    """`[Du, d + 1]`."""
    unknown: np.ndarray
    """`[d + 1]` where nothing was chosen."""
    covariance: np.ndarray
    """`[d + 1, d + 1]` of the latents, given all that."""


def fit_choices(
    training: TrainingSet,
    factors: Factors,
    looked_at: np.ndarray,
    *,
    axes: int = 12,
    ridge: float = 60.0,
    steps: int = 3,
) -> Choices:
    """Fits the prior by expectation maximisation, with the factors as they are.

    Who chooses what is described by the main axes of the training users' choices, each of length
    1, so that no more than `axes` numbers and the attributes have to be regressed on.

    Args:
        training: The training users.
        factors: Fitted to them.
        looked_at: `[I]` bool, the items of which it is known of a new user whether they chose it.
        axes: How many, >= 1.
        ridge: Penalty of each regressor of unit variance, in users, > 0.
        steps: EM steps, >= 1.

    Returns:
        The prior.

    Raises:
        ValueError: If a number is out of range.

    References:
        Koren, Factorization Meets the Neighborhood, KDD 2008, section 4, of implicit feedback;
        here regressed on, as attributes are in Agarwal and Chen, Regression-based Latent Factor
        Models, KDD 2009.
    """
    check_positive(ridge=ridge)
    for name, value in (("axes", axes), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    users, statistics = user_statistics(factors, training.interactions)
    log = select_rows(training.interactions, looked_at[training.interactions.item])
    main = _main_axes(log, axes)
    chosen, some = _sums(log, main, users)
    middle, spread = _standard(chosen[some])
    chosen = np.where(some[:, None], (chosen - middle) / spread, 0)
    attributes = np.asarray(training.user_features, np.float64)[users]
    usual, range_of = _standard(attributes)
    regressors = np.concatenate(
        [some[:, None], ~some[:, None], chosen, (attributes - usual) / range_of], axis=1
    )
    penalty = np.diag([1e-6, 1e-6, *np.full(regressors.shape[1] - 2, ridge)])

    regression = np.linalg.solve(regressors.T @ regressors + penalty, regressors.T)
    mean, covariance = (
        np.asarray(leaf, np.float64) for leaf in (factors.prior_mean, factors.prior_covariance)
    )
    prior, weights = Population(mean, covariance, float(factors.noise)), np.zeros(0)
    for _ in range(steps):
        latents, fitted = em_step(statistics, prior, lambda mean: regressors @ (regression @ mean))
        prior = fitted._replace(noise=prior.noise)
        weights = regression @ latents.mean
    of_axis, of_user = np.split(weights[2:], [main.shape[1]])
    of_axis, of_user = of_axis / spread[:, None], of_user / range_of[:, None]
    known, unknown = weights[:2] - usual @ of_user
    if some.all():
        unknown = known
    return Choices(known - middle @ of_axis, main @ of_axis, of_user, unknown, prior.covariance)


def _main_axes(log: Interactions, axes: int) -> np.ndarray:
    """Returns the main axes `[I, A]` of users' choices, each user's of length 1."""
    counts = log.user_counts
    users = np.flatnonzero(counts)
    users = users[np.linspace(0, len(users) - 1, min(len(users), _MOST)).astype(int)]
    popular = np.argsort(-log.item_counts, kind="stable")
    popular = popular[:_MOST]
    place = np.full(len(log.item_ids), -1)
    place[popular] = np.arange(len(popular))
    row = np.full(len(counts), -1)
    row[users] = np.arange(len(users))
    user = log.user
    kept = (row[user] >= 0) & (place[log.item] >= 0)
    chosen = np.zeros((len(users), len(popular)))
    chosen[row[user[kept]], place[log.item[kept]]] = 1 / np.sqrt(counts[user[kept]])
    chosen -= chosen.sum(axis=0) / max(len(users), 1)
    _, vectors = np.linalg.eigh(chosen.T @ chosen)
    main = np.zeros((len(log.item_ids), min(axes, len(popular))))
    main[popular] = vectors[:, ::-1][:, :axes]
    return main


def _sums(log: Interactions, main: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[S, A]` where users lie along the axes, and `[S]` whether they chose anything."""
    counts = log.user_counts
    user = log.user
    sums = [np.bincount(user, axis[log.item], len(counts)) for axis in main.T]
    root = np.sqrt(np.maximum(counts[users], 1))
    return np.stack(sums, axis=1)[users] / root[:, None], counts[users] > 0


def _standard(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and spread of columns; of one that never changes, or of no row, 0 and 1."""
    if not len(columns):
        return np.zeros(columns.shape[1]), np.ones(columns.shape[1])
    spread = columns.std(axis=0)
    return columns.mean(axis=0), np.where(spread > 1e-6, spread, 1.0)
