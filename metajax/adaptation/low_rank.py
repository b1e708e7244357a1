"""A change of a weight as outer products, never multiplied out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.adaptation.thin_products import product, product_with_transposed, shared_product

__all__ = ["LowRank", "change", "inner_product", "is_low_rank", "materialised"]


class LowRank(NamedTuple):
    """The change `sum_i X_i^T D_i` of a weight `[a, b]`, what one user's adaptation leaves.

    Axes: R rows, the examples of a support as a layer sees them.
    """

    inputs: tuple[jax.Array, ...]
    """X_i: `[R, a]`, or for an embedding table `[R]` integers, rows of the identity."""
    outputs: tuple[jax.Array, ...]
    """D_i: `[R, b]`."""


def is_low_rank(node: object) -> bool:
    """Tells a change from the weights and the None beside it in a tree."""
    return isinstance(node, LowRank)


def change(low_rank: LowRank, inputs: jax.Array) -> jax.Array:
    """Multiplies a layer's inputs by the change of its weight.

    Args:
        low_rank: The change; at least one block.
        inputs: `[..., a]`, or integers `[...]` for an embedding table.

    Returns:
        `[..., b]`.
    """
    terms = [_product(inputs, x, d) for x, d in zip(*low_rank, strict=True)]
    return sum(terms[1:], start=terms[0])


def materialised(low_rank: LowRank, weight: jax.Array) -> jax.Array:
    """Adds the change to its weight `[a, b]`."""
    for x, d in zip(*low_rank, strict=True):
        is_index = jnp.issubdtype(x.dtype, jnp.integer)
        weight = weight.at[x].add(d) if is_index else weight + x.T @ d
    return weight


def inner_product(low_rank: LowRank, weight: jax.Array) -> jax.Array:
    """Sums the elements of a weight `[a, b]` times those of a change, `sum_i <X_i W, D_i>`.

    Of many users, its derivative by a weight that they share is the sum of their changes, in one
    product of all their rows.
    """
    total = jnp.zeros((), weight.dtype)
    for x, d in zip(*low_rank, strict=True):
        is_index = jnp.issubdtype(x.dtype, jnp.integer)
        total += jnp.sum((weight[x] if is_index else shared_product(x, weight)) * d)
    return total


def _product(inputs: jax.Array, x: jax.Array, d: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jnp.integer):
        alike = (inputs.reshape(-1, 1) == x[None, :]).astype(d.dtype)  # [N, R]
        outputs = inputs.shape
    else:
        alike = product_with_transposed(inputs.reshape(-1, x.shape[1]), x)
        outputs = inputs.shape[:-1]
    return product(alike, d).reshape(*outputs, d.shape[1])
