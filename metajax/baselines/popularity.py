"""Unpersonalised ranking baselines: popularity and random order."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.baselines.baseline import Baseline, adapt_to_nothing
from metajax.baselines.preferences import liked_counts
from metajax.data.dataset import TrainingSet
from metajax.fields import Choices
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["Popularity", "baselines", "popularity", "predict_popularity", "random_order"]


def _fit_random(training: TrainingSet, *, seed: int = 0) -> jax.Array:
    return jnp.asarray(seed, jnp.int32)


def _adapt_random(seed: jax.Array, support: Examples, key: jax.Array | None = None) -> jax.Array:
    """Draws the seed of this user's order, `[]` int32.

    Without a key it hashes the user's features: one fixed order for all users would make the
    figure depend on which ten items it happens to begin with.
    """
    if key is not None:
        return jax.random.bits(key).astype(jnp.int32)
    bits = jax.lax.bitcast_convert_type(support.inputs.user_features[0], jnp.int32)
    odd = 2 * jnp.arange(bits.shape[0], dtype=jnp.int32) + 0x3C6EF35F
    return seed + jnp.sum(bits * odd, dtype=jnp.int32)


def _predict_random(seed: jax.Array, user_seed: jax.Array, inputs: Inputs) -> jax.Array:
    key = jax.random.key(user_seed)
    return jax.vmap(lambda item: jax.random.uniform(jax.random.fold_in(key, item)))(inputs.item)


class Popularity(NamedTuple):
    """Popularity of items."""

    liked: jax.Array
    """`[I]` number of training users who like the item."""


def _fit_popularity(training: TrainingSet, *, least: float | None = None) -> Popularity:
    return Popularity(jnp.asarray(liked_counts(training, least=least)))


def predict_popularity(params: Popularity, adapted: tuple[()], inputs: Inputs) -> jax.Array:
    """Returns the popularity of each candidate, `[N]`."""
    return params.liked[inputs.item]


random_order = Baseline(
    "random",
    "ranking",
    _fit_random,
    Adaptation(_adapt_random, _predict_random),
    target_alone=True,
)
popularity = Baseline(
    "popularity",
    "ranking",
    _fit_popularity,
    Adaptation(adapt_to_nothing, predict_popularity),
    grid=({}, {"least": 1.0}, {"least": 0.0}),
    ranges={"least": Choices((None, 1.0, 0.0))},
    of_grades=("least",),
    target_alone=True,
)

baselines: tuple[Baseline, ...] = (
    random_order,
    popularity,
)
