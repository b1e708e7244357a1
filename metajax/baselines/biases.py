"""Bias baselines: global mean, shrunk item mean, item plus user bias."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline, adapt_to_nothing, check_positive, observed
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import Interactions
from metajax.fields import Range
from metajax.types import Adaptation, Examples, Inputs

__all__ = [
    "Biases",
    "baselines",
    "fit_biases",
    "global_mean",
    "item_mean",
    "item_user_bias",
    "predict_with_bias",
    "prior_weights",
    "shrunk_bias",
    "user_residuals",
]

# On MovieLens-100K ten leave an error below 1e-6; sparser logs take more.
_SWEEPS = 20


class Biases(NamedTuple):
    """Additive effects of items and users on the rating."""

    mean: jax.Array
    """`[]` the mean of all training ratings."""
    item_bias: jax.Array
    """`[I]` item effects; 0 for an item without ratings."""
    prior_bias: jax.Array
    """`[]` prior mean of a user's effect."""
    user_shrinkage: jax.Array
    """`[]` weight of that prior, in ratings."""


def fit_biases(
    interactions: Interactions, *, item_shrinkage: float = 5.0, user_shrinkage: float = 5.0
) -> Biases:
    """Fits `rating = mean + item bias + user bias` by alternating shrunk means.

    Item biases shrink to 0. User biases shrink to their own mean over users, which is not 0: users
    with few ratings rate higher and have little weight in the mean over ratings.

    Args:
        interactions: The training users' log, of at least one rating.
        item_shrinkage: Weight of the prior of an item's bias, in ratings, > 0.
        user_shrinkage: The same of a user's bias.

    Returns:
        The biases.

    Raises:
        ValueError: If the log is empty or a shrinkage is not positive.

    References:
        Koren, "Factor in the Neighbors: Scalable and Accurate Collaborative Filtering",
        TKDD 2010, section 2.1; there both biases shrink to 0.
    """
    check_positive(item_shrinkage=item_shrinkage, user_shrinkage=user_shrinkage)
    mean = _mean_rating(interactions)
    user = interactions.user
    count = interactions.user_counts
    weight = prior_weights(count, user_shrinkage)
    user_bias, prior_bias = np.zeros(len(count)), 0.0
    rated = interactions.item_counts > 0
    for _ in range(_SWEEPS):
        item_bias = _item_bias(interactions, mean + user_bias[user], item_shrinkage)
        # A constant moved from items to users costs the fit nothing and the items' penalty is
        # least where they sum to 0; alternation alone would take hundreds of sweeps to get there.
        item_bias[rated] -= np.mean(item_bias[rated])
        residual = user_residuals(interactions, mean, item_bias)
        prior_bias = np.sum(weight * residual) / np.sum(weight)
        # The posterior mean of each bias: `weight` is what the ratings count against the prior.
        user_bias = prior_bias + weight * (residual - prior_bias)
    item_bias = _item_bias(interactions, mean + user_bias[user], item_shrinkage)
    fitted = (mean, item_bias, prior_bias, user_shrinkage)
    return Biases(*(jnp.asarray(leaf, jnp.float32) for leaf in fitted))


def prior_weights(count: np.ndarray, shrinkage: float) -> np.ndarray:
    """Returns weights `[U]` of users with `count [U]` ratings in the mean of the prior of biases.

    The mean of n residuals of variance s^2 around a bias of variance t^2 has variance
    t^2 + s^2 / n, so generalised least squares weighs it by n / (n + s^2 / t^2).
    """
    return count / (count + shrinkage)


def user_residuals(interactions: Interactions, mean: float, item_bias: np.ndarray) -> np.ndarray:
    """Averages each user's ratings after mean and item bias, `[U]`; 0 for a user without any."""
    user, count = interactions.user, interactions.user_counts
    residual = interactions.rating - mean - item_bias[interactions.item]
    return np.bincount(user, residual, len(count)) / np.maximum(count, 1)


def shrunk_bias(biases: Biases, support: Examples, prior_bias: jax.Array) -> jax.Array:
    """Returns `[]` the user's bias: the mean residual of the support, shrunk to `prior_bias`."""
    item, rating, present = observed(support)
    residual = present * (rating - biases.mean - biases.item_bias[item])
    shrinkage = biases.user_shrinkage
    return (jnp.sum(residual) + shrinkage * prior_bias) / (jnp.sum(present) + shrinkage)


def _item_bias(
    interactions: Interactions, expected: float | np.ndarray, shrinkage: float
) -> np.ndarray:
    items, rest = len(interactions.item_ids), interactions.rating - expected
    count = interactions.item_counts
    return np.bincount(interactions.item, rest, items) / (count + shrinkage)


def _mean_rating(interactions: Interactions) -> float:
    if not len(interactions.rating):
        raise ValueError("training must hold at least one interaction, got none.")
    return float(np.mean(interactions.rating, dtype=np.float64))


def _fit_global_mean(training: TrainingSet) -> jax.Array:
    return jnp.asarray(_mean_rating(training.interactions), jnp.float32)


def _fit_item_mean(training: TrainingSet, *, item_shrinkage: float = 5.0) -> dict[str, jax.Array]:
    check_positive(item_shrinkage=item_shrinkage)
    mean = _mean_rating(training.interactions)
    item_bias = _item_bias(training.interactions, mean, item_shrinkage)
    return {"item_mean": jnp.asarray(mean + item_bias, jnp.float32)}


def _fit_item_user_bias(
    training: TrainingSet, *, item_shrinkage: float = 5.0, user_shrinkage: float = 5.0
) -> Biases:
    return fit_biases(
        training.interactions, item_shrinkage=item_shrinkage, user_shrinkage=user_shrinkage
    )


def _adapt_bias(biases: Biases, support: Examples, key: jax.Array | None = None) -> jax.Array:
    return shrunk_bias(biases, support, biases.prior_bias)


def _predict_global_mean(mean: jax.Array, adapted: tuple[()], inputs: Inputs) -> jax.Array:
    return jnp.full(inputs.item.shape, mean)


def _predict_item_mean(
    params: dict[str, jax.Array], adapted: tuple[()], inputs: Inputs
) -> jax.Array:
    return params["item_mean"][inputs.item]


def predict_with_bias(biases: Biases, user_bias: jax.Array, inputs: Inputs) -> jax.Array:
    """Predicts `mean + item bias + user bias`, `[N]`."""
    return biases.mean + biases.item_bias[inputs.item] + user_bias


global_mean = Baseline(
    "global_mean",
    "rating",
    _fit_global_mean,
    Adaptation(adapt_to_nothing, _predict_global_mean),
)
item_mean = Baseline(
    "item_mean",
    "rating",
    _fit_item_mean,
    Adaptation(adapt_to_nothing, _predict_item_mean),
    grid=tuple({"item_shrinkage": shrinkage} for shrinkage in (5.0, 2.0, 10.0)),
    ranges={"item_shrinkage": Range(0.5, 50.0, log=True)},
    target_alone=True,
)
item_user_bias = Baseline(
    "item_user_bias",
    "rating",
    _fit_item_user_bias,
    Adaptation(_adapt_bias, predict_with_bias),
    grid=tuple(
        {"item_shrinkage": item, "user_shrinkage": user}
        for user in (5.0, 3.0, 8.0, 12.0)
        for item in (5.0, 2.0)
    ),
    ranges={
        "item_shrinkage": Range(0.5, 50.0, log=True),
        "user_shrinkage": Range(0.5, 50.0, log=True),
    },
)

baselines: tuple[Baseline, ...] = (
    global_mean,
    item_mean,
    item_user_bias,
)
