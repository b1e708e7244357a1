"""Cosine attention to the user's ratings and to learned prototypes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.losses import blanked
from metajax.types import Adaptation, AmongPrototypes, Examples, Params, returning

__all__ = ["Remembered", "cosine_prototypes"]

_TINY = 1e-12


class Remembered(NamedTuple):
    """A user's ratings as prototypes, in addition to the learned ones."""

    place: jax.Array
    """`[S, D]` of length 1; 0 in padding."""
    residual: jax.Array
    """`[S]` rating above what is expected at the user's level; 0 in padding."""
    mask: jax.Array
    """`[S]` bool, False in padding."""
    level: jax.Array
    """`[]` shrunk mean of the residuals: the bias of the user."""


def cosine_prototypes(compare: Callable[[Params, Any], AmongPrototypes]) -> Adaptation:
    """Stores the ratings and predicts by their mean, weighted by a softmax of cosines.

    Prototypes j are the user's own ratings, at their items' places x_j, and learned ones of
    weight w_j, where a user of these attributes is expected to differ by v_j from all others:

        score(x) = expected + level + sum_j softmax_j(g cos(x, x_j) + log w_j) v_j .

    Of a rating v_j is what it is above the expected one and the user's level, which is the mean of
    what ratings are above the expected ones, shrunk by `level_count`. An empty support leaves the
    learned prototypes, and with them the attributes of a new user and a new item.

    Args:
        compare: `compare(params, inputs) -> AmongPrototypes`, for instance a
            `methods.attribute_prototypes.AttributePrototypes`.

    Returns:
        An adaptation whose adapted state is a `Remembered`.

    References:
        Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, equation 1 and
        section 2.1.1: the softmax of cosines over the support weighs its labels. Snell, Swersky
        and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017, have a softmax of
        squared distances from means of classes. Differs: labels are ratings above what is
        expected; the sharpness g is learned; learned prototypes are among the examples.
    """
    compare = returning(compare, AmongPrototypes)

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Remembered:
        del key
        inputs, labels, mask = blanked(support)
        found = compare(params, inputs)
        above = jnp.where(mask, labels - found.expected, 0)
        level = jnp.sum(above) / (found.level_count + jnp.sum(mask))
        place = jnp.where(mask[:, None], _unit(found.place), 0)
        return Remembered(place, jnp.where(mask, above - level, 0), mask, level)

    def predict(params: Params, adapted: Remembered, inputs: Any) -> jax.Array:
        found = compare(params, inputs)
        place = _unit(found.place)
        own = found.sharpness * place @ adapted.place.T  # [N, S]
        own = jnp.where(adapted.mask[None], own, -jnp.inf)
        learned = found.sharpness * place @ _unit(found.prototype).T + found.log_weight[None]
        shares = jax.nn.softmax(jnp.concatenate([learned, own], axis=1), axis=1)
        split = found.log_weight.shape[0]
        rated = shares[:, split:] @ adapted.residual
        return (
            found.expected
            + adapted.level
            + jnp.sum(shares[:, :split] * found.value, axis=1)
            + rated
        )

    return Adaptation(adapt, predict)


def _unit(place: jax.Array) -> jax.Array:
    # What has no direction is orthogonal to all.
    return place * jax.lax.rsqrt(jnp.sum(jnp.square(place), axis=-1, keepdims=True) + _TINY)
