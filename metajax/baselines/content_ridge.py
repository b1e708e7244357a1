"""Content ridge: ranks items without interactions by ridge regression of likes on attributes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline, check_positive
from metajax.baselines.preferences import (
    LIKED,
    PreferenceCurve,
    liked_counts,
    preference_curve,
    support_preferences,
)
from metajax.data.dataset import TrainingSet
from metajax.fields import Range
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["ContentRidge", "Likes", "content_ridge", "fit_content_ridge"]


class ContentRidge(NamedTuple):
    """Ridge regression of each user's likes on D attributes of items."""

    vectors: jax.Array
    """`[I, D]` attributes, on a scale on which the mean square of a row is 1."""
    expected: jax.Array
    """`[I]` share of users who like an item, predicted from the other items."""
    mean_likes: jax.Array
    """`[D]` sum over the known items of the predicted share times the vector."""
    posterior: jax.Array
    """`[D, D]` covariance of a user's tastes, in units of the noise."""
    typical: jax.Array
    """`[]` mean number of items that a user likes."""
    curve: PreferenceCurve
    """Preference of a rating."""


class Likes(NamedTuple):
    """Sufficient statistics of a user."""

    total: jax.Array
    """`[D]` sum of the vectors of the items that the user likes."""
    count: jax.Array
    """`[]` number of these items."""


def fit_content_ridge(
    training: TrainingSet, *, ridge: float = 7.0, level_ridge: float = 0.7
) -> ContentRidge:
    """Fits popularity by attributes, and the posterior covariance of users' tastes for attributes.

    The like, 0 or 1, of item i with attributes x_i is modelled as

        y_i = b e_i + x_i . z + noise ,

    where e_i is the expected share of users who like it, b the user's number of likes relative to
    the mean, and the tastes z have a normal prior. A known item that is not liked counts as 0, so
    the matrix to invert is the same for all users, and the score, the posterior mean, is
    `b e_i + x_i . P (sum_(j liked) x_j - b sum_j e_j x_j)`.

    The expectation of a known item is its leave-one-out prediction from the other items, which a
    ridge regression has in closed form: known and new items are predicted alike.

    Args:
        training: The log and `item_features`. Items without interactions are new.
        ridge: Penalty of a user's tastes, > 0; larger values shrink more.
        level_ridge: Penalty of the map from attributes to popularity, > 0.

    Returns:
        The fit. Memory is `I D + D^2`, time `I D^2 + D^3`.

    Raises:
        ValueError: If a penalty is not positive, no item is liked, all attributes are 0, or one
            is not finite.

    References:
        Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008,
        equation 4. Differs: vectors of items are given, all items weigh the same, and the prior
        mean is what is expected of an item.
    """
    check_positive(ridge=ridge, level_ridge=level_ridge)
    log, x = training.interactions, np.asarray(training.item_features, np.float64)
    liked = liked_counts(training).astype(np.float64)
    if not liked.any():
        raise ValueError("training must hold a liked item, got none.")
    if not np.isfinite(x).all():
        raise ValueError(f"item_features must be finite, got {x[~np.isfinite(x)][0]}.")
    if not x.any():
        raise ValueError("item_features must hold an attribute that is not 0, got none.")
    x = x / np.sqrt(np.mean(np.sum(x**2, axis=1)))
    users = np.sum(log.user_counts > 0)
    known = log.item_counts > 0
    share = liked / users
    mean = np.mean(share[known])
    residual = np.where(known, share - mean, 0)
    gram = x[known].T @ x[known]
    inverse = np.linalg.inv(gram + level_ridge * np.eye(len(gram)))
    fitted = x @ (inverse @ (x.T @ residual))
    leverage = np.where(known, np.sum((x @ inverse) * x, axis=1), 0)
    expected = mean + (fitted - leverage * residual) / (1 - leverage)
    posterior = np.linalg.inv(gram + ridge * np.eye(len(gram)))
    mean_likes = np.where(known, expected, 0) @ x
    return ContentRidge(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(expected, jnp.float32),
        jnp.asarray(mean_likes, jnp.float32),
        jnp.asarray(posterior, jnp.float32),
        jnp.asarray(np.sum(liked) / users, jnp.float32),
        preference_curve(training.scale),
    )


def _adapt(params: ContentRidge, support: Examples, key: jax.Array | None = None) -> Likes:
    item, preference = support_preferences(params.curve, support)
    liked = (preference >= LIKED).astype(jnp.float32)
    return Likes(liked @ params.vectors[item], jnp.sum(liked))


def _predict(params: ContentRidge, likes: Likes, inputs: Inputs) -> jax.Array:
    # As if everyone liked one item more: without a support, scores are the predicted shares.
    level = (likes.count + 1) / (params.typical + 1)
    taste = params.posterior @ (likes.total - level * params.mean_likes)
    return (level * params.expected + params.vectors @ taste)[inputs.item]


content_ridge = Baseline(
    "content_ridge",
    "ranking",
    fit_content_ridge,
    Adaptation(_adapt, _predict),
    grid=tuple(
        {"ridge": ridge, "level_ridge": level_ridge}
        for ridge, level_ridge in ((7.0, 0.7), (20.0, 0.7), (7.0, 2.0), (20.0, 2.0), (60.0, 2.0))
    ),
    ranges={
        "ridge": Range(1.0, 300.0, log=True),
        "level_ridge": Range(0.07, 20.0, log=True),
    },
)
