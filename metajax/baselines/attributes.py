"""Ridge regression of user and item biases on attributes: baselines for cold users and items."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline
from metajax.baselines.biases import (
    Biases,
    check_positive,
    fit_biases,
    predict_with_bias,
    prior_weights,
    shrunk_bias,
    user_residuals,
)
from metajax.data.dataset import TrainingSet
from metajax.fields import Range
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["attribute_ridge", "baselines", "demographics"]


class _Params(NamedTuple):
    biases: Biases
    """Mean, item biases, and the shrinkage of the user's bias."""
    intercept: jax.Array
    """`[]` prior bias of a user whose features are all 0."""
    weights: jax.Array
    """`[Du]` effect of each encoded feature on it."""


def _fit(
    training: TrainingSet,
    *,
    ridge: float = 10.0,
    item_shrinkage: float = 5.0,
    user_shrinkage: float = 5.0,
) -> _Params:
    """Fits biases, then a ridge regression of the users' mean residuals on their features.

    Users are weighted by `prior_weights`; the intercept is not penalised.

    Args:
        training: Users with features and ratings.
        ridge: Penalty of the weights, in users, > 0.
        item_shrinkage: As in `fit_biases`.
        user_shrinkage: As in `fit_biases`.

    Returns:
        The parameters.

    Raises:
        ValueError: If the ridge is not positive, or as in `fit_biases`.
    """
    check_positive(ridge=ridge)
    log = training.interactions
    biases = fit_biases(log, item_shrinkage=item_shrinkage, user_shrinkage=user_shrinkage)
    return _with_user_attributes(training, biases, ridge)


def _fit_both(
    training: TrainingSet,
    *,
    item_ridge: float = 10.0,
    ridge: float = 50.0,
    item_shrinkage: float = 5.0,
    user_shrinkage: float = 5.0,
) -> _Params:
    """Fits biases, then the same regression of the items' mean residuals, then of the users'.

    An item's bias is shrunk to its regression on features and not to 0: an item without ratings
    has that prediction as its bias.

    Args:
        training: Users and items with features, and ratings.
        item_ridge: Penalty of the weights of item features, in items, > 0.
        ridge: Penalty of the weights of user features, in users, > 0.
        item_shrinkage: As in `fit_biases`.
        user_shrinkage: As in `fit_biases`.

    Returns:
        The parameters.

    Raises:
        ValueError: If a ridge is not positive, or as in `fit_biases`.
    """
    check_positive(item_ridge=item_ridge, ridge=ridge)
    log = training.interactions
    biases = fit_biases(log, item_shrinkage=item_shrinkage, user_shrinkage=user_shrinkage)
    mean, prior = float(biases.mean), float(biases.prior_bias)
    residual = user_residuals(log, mean, np.asarray(biases.item_bias))
    weight = prior_weights(log.user_counts, user_shrinkage)
    user_bias = prior + weight * (residual - prior)

    items = len(log.item_ids)
    count = log.item_counts
    rest = log.rating - mean - user_bias[log.user]
    residual = np.bincount(log.item, rest, items) / np.maximum(count, 1)
    weight = prior_weights(count, item_shrinkage)
    intercept, weights = _regression(training.item_features, residual, weight, item_ridge)
    expected = intercept + training.item_features @ weights
    item_bias = expected + weight * (residual - expected)
    changed = biases._replace(item_bias=jnp.asarray(item_bias, jnp.float32))
    return _with_user_attributes(training, changed, ridge)


def _with_user_attributes(training: TrainingSet, biases: Biases, ridge: float) -> _Params:
    """Regresses each user's mean residual after item biases on the user's features."""
    log = training.interactions
    residual = user_residuals(log, float(biases.mean), np.asarray(biases.item_bias))
    weight = prior_weights(log.user_counts, float(biases.user_shrinkage))
    intercept, weights = _regression(training.user_features, residual, weight, ridge)
    return _Params(biases, jnp.asarray(intercept, jnp.float32), jnp.asarray(weights, jnp.float32))


def _regression(
    features: np.ndarray, target: np.ndarray, weight: np.ndarray, ridge: float
) -> tuple[float, np.ndarray]:
    """Solves a weighted ridge regression; the intercept is not penalised.

    Args:
        features: `[n, D]` of users or items.
        target: `[n]` mean residuals.
        weight: `[n]` weight of each row, 0 without ratings.
        ridge: Penalty of the weights, in rows.

    Returns:
        The intercept, and `[D]` weights.
    """
    share = weight / np.sum(weight)
    features = np.asarray(features, np.float64)
    # An unpenalised intercept is the same as centring both sides on their weighted means.
    centre, level = share @ features, share @ target
    x = features - centre
    gram = x.T @ (share[:, None] * x) + ridge / np.count_nonzero(weight) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (share * (target - level)))
    return float(level - centre @ weights), weights


def _adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> jax.Array:
    """Returns `[]` the user's bias: the support's mean residual, shrunk to its regression."""
    # The user's attributes stand in every row, padded ones too.
    features = support.inputs.user_features[0]
    return shrunk_bias(params.biases, support, params.intercept + features @ params.weights)


def _predict(params: _Params, user_bias: jax.Array, inputs: Inputs) -> jax.Array:
    return predict_with_bias(params.biases, user_bias, inputs)


demographics = Baseline(
    "demographics",
    "rating",
    _fit,
    Adaptation(_adapt, _predict),
    grid=tuple(
        {"ridge": ridge, "user_shrinkage": shrinkage}
        for ridge in (10.0, 50.0, 200.0)
        for shrinkage in (5.0, 8.0)
    ),
    ranges={
        "ridge": Range(1.0, 1000.0, log=True),
        "item_shrinkage": Range(0.5, 50.0, log=True),
        "user_shrinkage": Range(0.5, 50.0, log=True),
    },
)

attribute_ridge = Baseline(
    "attribute_ridge",
    "rating",
    _fit_both,
    Adaptation(_adapt, _predict),
    grid=tuple(
        {"item_ridge": item_ridge, "ridge": ridge, "item_shrinkage": shrinkage}
        for item_ridge, ridge, shrinkage in (
            (10.0, 50.0, 5.0),
            (3.0, 50.0, 10.0),
            (30.0, 200.0, 5.0),
            (10.0, 50.0, 2.0),
        )
    ),
    ranges={
        "item_ridge": Range(1.0, 100.0, log=True),
        "ridge": Range(5.0, 1000.0, log=True),
        "item_shrinkage": Range(0.5, 50.0, log=True),
        "user_shrinkage": Range(0.5, 50.0, log=True),
    },
)

baselines: tuple[Baseline, ...] = (
    demographics,
    attribute_ridge,
)
