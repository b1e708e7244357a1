"""What a mask means: padding may hold anything, and reaches neither a value nor a gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax.types import Examples, Params

__all__ = [
    "blanked",
    "masked_mean",
    "on_examples",
]


def masked_mean(values: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Averages the values that the mask keeps; the mean of nothing is 0.

    Padding may hold anything, NaN included: it reaches neither the value nor the gradient.

    Args:
        values: `[N]` values.
        where: `[N]` bool, or None to keep all.

    Returns:
        `[]` the mean.

    Example:
        >>> float(masked_mean(jnp.array([1., 2., jnp.nan]), jnp.array([True, True, False])))
        1.5
    """
    if where is None:
        where = jnp.ones(values.shape, bool)
    return jnp.sum(jnp.where(where, values, 0)) / jnp.maximum(jnp.sum(where), 1)


def blanked(examples: Examples) -> Examples:
    """Shows what the mask hides as zeros, so that padding may hold anything.

    A mask on the results alone would not do: the gradient of a layer is its inputs times zero
    there, and NaN times zero is NaN.
    """

    def kept(leaf: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(examples.mask, range(1, jnp.ndim(leaf))), leaf, 0)

    inputs = jax.tree.map(kept, examples.inputs)
    return Examples(inputs, kept(examples.labels), examples.mask)


def on_examples(
    apply: Callable[[Params, Any], jax.Array], loss: Callable[..., jax.Array]
) -> Callable[[Params, Examples], jax.Array]:
    """Turns a loss of scores into a loss of parameters.

    Padding is shown as zeros.

    Args:
        apply: `apply(params, inputs) -> scores [N]`.
        loss: `loss(scores, labels, *, where) -> []`.

    Returns:
        `loss_fn(params, examples) -> []`, what inner and outer loops differentiate.
    """

    def loss_fn(params: Params, examples: Examples) -> jax.Array:
        inputs, labels, mask = blanked(examples)
        return loss(apply(params, inputs), labels, where=mask)

    return loss_fn
