"""Prototypes: a user is a weighted mean of item embeddings, or attends by cosine to ratings."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from metajax.losses import blanked
from metajax.types import Adaptation, AmongPrototypes, Examples, Params, Placed, returning

__all__ = [
    "Distance",
    "Prototype",
    "Remembered",
    "cosine_prototypes",
    "prototypes",
]


Distance = Literal["euclidean", "cosine"]

_TINY = 1e-12


class Prototype(NamedTuple):
    """Weighted mean of a support, and the log of its total weight."""

    mean: jax.Array
    """`[D]` softmax(label)-weighted mean of the items; 0 of nothing."""
    log_weight: jax.Array
    """`[]` log of the sum of exp(sharpness * label); -inf of nothing."""


def prototypes(
    place: Callable[[Params, Any], Placed],
    *,
    distance: Distance = "euclidean",
    scale: tuple[float, float] | None = None,
    sharpness: float = 1.0,
) -> Adaptation:
    """Adapts by a label-weighted mean of item embeddings.

    With items at x_j, labels r_j and a prior prototype p_0 of label r_0, the prototype is

        p = sum_j softmax(sharpness * r)_j x_j ,   j = 0 .. n,  x_0 = p_0 ,

    and an item at x scores f(bias - closeness * d(x, p)), where f is a sigmoid onto the scale. An
    empty support leaves the prior, and each rating moves the prototype away from it.

    Args:
        place: `place(params, inputs) -> Placed`.
        distance: d: half the squared Euclidean distance, or minus the cosine.
        scale: Lowest and highest score; None for f the identity, for losses of an order.
        sharpness: Weight of higher labels: 1 is the plain softmax, 0 the plain mean.

    Returns:
        An adaptation whose adapted state is a `Prototype`.

    Raises:
        ValueError: If `distance` is none of these, or the scale is empty.

    References:
        Snell, Swersky and Zemel, Prototypical Networks for Few-shot Learning, NeurIPS 2017,
        equations 1 and 2. Differs: one prototype a user, of weighted ratings in the place of
        classes; a prior among the examples, so that the support may be empty; a bias for each
        item.
    """
    if distance not in get_args(Distance):
        raise ValueError(
            f"distance must be one of {', '.join(get_args(Distance))}, got {distance!r}."
        )
    if scale is not None and not scale[0] < scale[1]:
        raise ValueError(f"scale must be (lowest, highest), got {scale}.")
    far = _half_squared if distance == "euclidean" else _minus_cosine

    place = returning(place, Placed)

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Prototype:
        del key
        inputs, labels, mask = blanked(support)
        item = place(params, inputs).item
        logits = jnp.where(mask, sharpness * labels, -jnp.inf)
        # Of nothing the largest is -inf, and -inf - -inf is no number.
        top = jax.lax.stop_gradient(jnp.where(mask.any(), jnp.max(logits, initial=-jnp.inf), 0))
        weights = jnp.exp(logits - top)  # [S]
        total = jnp.sum(weights)
        some = jnp.where(total > 0, total, 1)
        log_weight = jnp.where(total > 0, jnp.log(some) + top, -jnp.inf)
        return Prototype(weights @ item / some, log_weight)

    def predict(params: Params, adapted: Prototype, inputs: Any) -> jax.Array:
        placed = place(params, inputs)
        # Both softmaxes in one: the prior's share of all the weight.
        share = jax.nn.sigmoid(sharpness * placed.prior_label - adapted.log_weight)[:, None]
        prototype = share * placed.prior + (1 - share) * adapted.mean[None]  # [N, D]
        score = placed.bias - placed.closeness * far(placed.item, prototype)
        if scale is None:
            return score
        low, high = scale
        return low + (high - low) * jax.nn.sigmoid(score)

    return Adaptation(adapt, predict)


def _half_squared(a: jax.Array, b: jax.Array) -> jax.Array:
    return 0.5 * jnp.sum(jnp.square(a - b), axis=-1)


def _minus_cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    # A vector of length 0 has no direction: it is as far from everything as what is orthogonal.
    lengths = jnp.sum(jnp.square(a), axis=-1) * jnp.sum(jnp.square(b), axis=-1)
    return -jnp.sum(a * b, axis=-1) * jax.lax.rsqrt(lengths + _TINY)


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
