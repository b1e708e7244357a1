"""Low-rank change of a weight as outer products, and fast products with it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

__all__ = [
    "LowRank",
    "change",
    "inner_product",
    "is_low_rank",
    "materialised",
    "product",
    "product_with_transposed",
    "shared_product",
]


class LowRank(NamedTuple):
    """Low-rank change `sum_i X_i^T D_i` of a weight `[a, b]` by one user's adaptation.

    Axes: R rows of a layer's inputs, the examples of a support.
    """

    inputs: tuple[jax.Array, ...]
    """X_i: `[R, a]`, or for an embedding table `[R]` integers, rows of the identity."""
    outputs: tuple[jax.Array, ...]
    """D_i: `[R, b]`."""


def is_low_rank(node: object) -> bool:
    """Predicate on tree nodes that are low-rank changes."""
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


def product(a: jax.Array, d: jax.Array) -> jax.Array:
    """Multiplies `[N, R]` by `[R, B]`."""
    return _product_p.bind(*_alike(a, d), transposed=False)


def product_with_transposed(p: jax.Array, q: jax.Array) -> jax.Array:
    """Multiplies `[N, A]` by the transpose of `[R, A]`."""
    return _product_p.bind(*_alike(p, q), transposed=True)


def _alike(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.result_type(a, b)
    return a.astype(dtype), b.astype(dtype)


def _laid_out_transposed(a: jax.Array) -> jax.Array:
    # Without the barrier XLA would fold the transpose back into the product.
    return jax.lax.optimization_barrier(jnp.swapaxes(a, -1, -2))


def _dot(a: jax.Array, b: jax.Array, *, transposed: bool) -> jax.Array:
    lead = tuple(range(a.ndim - 2))
    contracted = (a.ndim - 1,), (b.ndim - 1 if transposed else b.ndim - 2,)
    return jax.lax.dot_general(a, b, (contracted, (lead, lead)))


def _back_to_first(g: jax.Array, a: Any, b: jax.Array, *, transposed: bool) -> jax.Array:
    del a
    return _product_p.bind(g, b, transposed=not transposed)


def _back_to_second(g: jax.Array, a: jax.Array, b: Any, *, transposed: bool) -> jax.Array:
    del b
    first, second = (g, a) if transposed else (a, g)
    return _product_p.bind(_laid_out_transposed(first), second, transposed=False)


def _batched(args: Any, axes: Any, *, transposed: bool) -> tuple[jax.Array, int]:
    a, b = args
    size = next(x.shape[axis] for x, axis in zip(args, axes, strict=True) if axis is not None)

    def in_front(x: jax.Array, axis: int | None) -> jax.Array:
        if axis is None:
            return jnp.broadcast_to(x, (size, *x.shape))
        return jnp.moveaxis(x, axis, 0)

    pair = in_front(a, axes[0]), in_front(b, axes[1])
    return _product_p.bind(*pair, transposed=transposed), 0


_product_p = Primitive("thin_product")
_product_p.def_impl(jax.jit(_dot, static_argnames="transposed"))
_product_p.def_abstract_eval(
    lambda a, b, *, transposed: a.update(shape=(*a.shape[:-1], b.shape[-2 if transposed else -1]))
)
ad.defbilinear(_product_p, _back_to_first, _back_to_second)
batching.primitive_batchers[_product_p] = _batched
mlir.register_lowering(_product_p, mlir.lower_fun(_dot, multiple_results=False))


def shared_product(rows: jax.Array, weight: jax.Array) -> jax.Array:
    """Multiplies `[N, A]` by a weight `[A, B]` that all users share.

    Batched over users, it is one product of all their rows. XLA would make one of it too, but
    lay out the rows anew for the weight's gradient, where they have two axes.
    """
    return _shared_p.bind(*_alike(rows, weight))


def _shared_batched(args: Any, axes: Any) -> tuple[jax.Array, int]:
    rows, weight = args
    if axes[1] is not None:
        return jax.vmap(jnp.matmul, in_axes=axes)(rows, weight), 0
    rows = jnp.moveaxis(rows, axes[0], 0)
    outputs = _shared_p.bind(rows.reshape(-1, rows.shape[-1]), weight)
    return outputs.reshape(*rows.shape[:-1], weight.shape[1]), 0


def _shared_back_to_rows(g: jax.Array, rows: Any, weight: jax.Array) -> jax.Array:
    del rows
    return _shared_p.bind(g, weight.T)


def _shared_back_to_weight(g: jax.Array, rows: jax.Array, weight: Any) -> jax.Array:
    del weight
    return jax.lax.dot_general(rows, g, (((0,), (0,)), ((), ())))


_shared_p = Primitive("shared_product")
_shared_p.def_impl(jax.jit(jnp.matmul))
_shared_p.def_abstract_eval(lambda a, b: a.update(shape=(a.shape[0], b.shape[1])))
ad.defbilinear(_shared_p, _shared_back_to_rows, _shared_back_to_weight)
batching.primitive_batchers[_shared_p] = _shared_batched
mlir.register_lowering(_shared_p, mlir.lower_fun(jnp.matmul, multiple_results=False))
