"""Gradients of any number of tasks in the memory of a few."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax.types import Params

__all__ = ["accumulated"]


def accumulated(
    value_and_grad: Callable[..., tuple[jax.Array, Params]], size: int
) -> Callable[..., tuple[jax.Array, Params]]:
    """Sums a value and its gradient over chunks of tasks, one chunk at a time.

    The loop lies outside of the differentiation, so nothing of a chunk outlives it: memory is
    that of `size` tasks, whatever their number.

    Args:
        value_and_grad: `value_and_grad(params, rows, weights, *given) -> (value [], gradient)`, a
            sum over rows that each count by their weight.
        size: Tasks a chunk, at least 1.

    Returns:
        A function of the same arguments and results. Leaves of `rows` and `weights` lead with T;
        a ragged last chunk is filled with rows of weight 0.

    Raises:
        ValueError: If `size` < 1.
    """
    if size < 1:
        raise ValueError(f"microbatch must be >= 1, got {size}.")

    def summed(
        params: Params, rows: Any, weights: jax.Array, *given: Any
    ) -> tuple[jax.Array, Params]:
        count = len(weights)
        chunks = -(-count // size)
        index = jnp.arange(chunks * size).reshape(chunks, size)

        def add(total: Any, at: jax.Array) -> tuple[Any, None]:
            # Filled with copies, not zeros: on real rows every model is finite.
            row = jnp.minimum(at, count - 1)
            chosen = jax.tree.map(lambda leaf: leaf[row], rows)
            kept = jnp.where(at < count, weights[row], 0)
            found = value_and_grad(params, chosen, kept, *given)
            return jax.tree.map(jnp.add, total, found), None

        shapes = jax.eval_shape(value_and_grad, params, rows, weights, *given)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(add, nothing, index)[0]

    return summed
