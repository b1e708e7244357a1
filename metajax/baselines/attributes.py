"""A rating baseline that guesses a new user's bias from who the user is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.base import Examples, Inputs
from metajax.baselines.base import Baseline
from metajax.baselines.biases import (
    Biases,
    fit_biases,
    predict_with_bias,
    prior_weights,
    shrunk_bias,
    user_residuals,
)
from metajax.data.dataset import TrainingSet

__all__ = ["demographics"]


class _Params(NamedTuple):
    biases: Biases
    """Mean, item biases, and the shrinkage of the user's bias."""
    intercept: jax.Array
    """`[]` prior bias of a user whose features are all 0."""
    weights: jax.Array
    """`[Du]` what each encoded feature adds to it."""


def _fit(
    training: TrainingSet,
    *,
    ridge: float = 10.0,
    item_shrinkage: float = 5.0,
    user_shrinkage: float = 5.0,
) -> _Params:
    """Fits biases, then a ridge regression of the users' mean residuals on their features.

    Users count by what their ratings tell (see `prior_weights`); the intercept is not penalised.

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
    if not ridge > 0:
        raise ValueError(f"ridge must be > 0, got {ridge}.")
    log = training.interactions
    biases = fit_biases(log, item_shrinkage=item_shrinkage, user_shrinkage=user_shrinkage)
    residual = user_residuals(log, float(biases.mean), np.asarray(biases.item_bias))
    weight = prior_weights(np.diff(log.offsets), user_shrinkage)
    weight = weight / np.sum(weight)
    features = np.asarray(training.user_features, np.float64)

    # An unpenalised intercept is the same as centring both sides on their weighted means.
    centre, level = weight @ features, weight @ residual
    x = features - centre
    users = np.count_nonzero(np.diff(log.offsets))
    gram = x.T @ (weight[:, None] * x) + ridge / users * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x.T @ (weight * (residual - level)))
    intercept = level - centre @ weights
    return _Params(biases, jnp.asarray(intercept, jnp.float32), jnp.asarray(weights, jnp.float32))


def _adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> jax.Array:
    """Returns `[]` the user's bias: the support's mean residual, shrunk to the features' guess."""
    # The user's attributes stand in every row, padded ones too.
    features = support.inputs.user_features[0]
    return shrunk_bias(params.biases, support, params.intercept + features @ params.weights)


def _predict(params: _Params, user_bias: jax.Array, inputs: Inputs) -> jax.Array:
    return predict_with_bias(params.biases, user_bias, inputs)


demographics = Baseline(
    "demographics",
    "rating",
    _fit,
    _adapt,
    _predict,
    grid=tuple(
        {"ridge": ridge, "user_shrinkage": shrinkage}
        for ridge in (10.0, 50.0, 200.0)
        for shrinkage in (5.0, 8.0)
    ),
)
