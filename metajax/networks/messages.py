"""Sums over the edges of a graph, block by block.

Messages are by far the largest array: those of a million edges both ways, of 64 numbers each, fill
half a gigabyte. Made and added up in blocks, there and on the way back, they stay in a processor's
caches, and cost a third of the time.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metajax.types import Edges

__all__ = ["in_degree", "incoming", "outgoing"]

# Edges a block. More, so that an accelerator has fewer steps to take one after the other, cost a
# CPU its caches.
_BLOCK = 1 << 14


def in_degree(edges: Edges, nodes: int) -> jax.Array:
    """Sums the weights of the edges into each node, `[N]`."""
    return jax.ops.segment_sum(edges.weight, edges.target, nodes, indices_are_sorted=True)


def incoming(
    x: jax.Array, edges: Edges, share: jax.Array | None = None, *, nodes: int | None = None
) -> jax.Array:
    """Sums the messages into each node.

    Args:
        x: `[N, D]` what each node sends.
        edges: Along which.
        share: `[M, H]` by what each edge multiplies it, each column another H-th of D; None means
            the weight of the edge.
        nodes: Number of targets where they are not the sources; None means N.

    Returns:
        `[nodes, D]`, 0 where no edge leads to.
    """
    share = edges.weight[:, None] if share is None else share
    return _added(True, len(x) if nodes is None else nodes, x, share, edges.source, edges.target)


def outgoing(x: jax.Array, edges: Edges, *, nodes: int) -> jax.Array:
    """Sums at each source the messages of its targets, against the edges.

    Args:
        x: `[N, D]` what each target sends.
        edges: Against which, by their weights.
        nodes: Number of sources.

    Returns:
        `[nodes, D]`, 0 where no edge leads from.
    """
    return _added(False, nodes, x, edges.weight[:, None], edges.target, edges.source)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _added(
    in_order: bool,
    nodes: int,
    x: jax.Array,
    share: jax.Array,
    source: jax.Array,
    target: jax.Array,
) -> jax.Array:
    def add(total: jax.Array, block: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        share, source, target = block
        by_head = _at(x, source).reshape(*share.shape, -1) * share[:, :, None]
        sent = by_head.reshape(-1, x.shape[1])
        return total.at[target].add(sent, indices_are_sorted=in_order, mode="drop"), None

    nothing = jnp.zeros((nodes, x.shape[1]), x.dtype)
    if len(source) <= _BLOCK:
        return add(nothing, (share, source, target))[0]
    return jax.lax.scan(add, nothing, _blocks(share, source, target))[0]


def _kept(in_order: bool, nodes: int, *given: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _added(in_order, nodes, *given), given


def _back(
    in_order: bool, nodes: int, given: tuple[jax.Array, ...], slope: jax.Array
) -> tuple[Any, ...]:
    """Backward pass of `_added`; the gradient of a share is the product of both ends."""
    del in_order, nodes
    x, share, source, target = given

    # A product with ones adds up rows several times faster than a sum along them.
    heads = jnp.repeat(jnp.eye(share.shape[1], dtype=x.dtype), x.shape[1] // share.shape[1], axis=0)

    def product(block: tuple[jax.Array, ...]) -> jax.Array:
        source, target = block
        return jnp.matmul(_at(x, source) * _at(slope, target), heads, precision="highest")

    if len(source) <= _BLOCK:
        shares = product((source, target))
    else:
        shares = jax.lax.map(product, _blocks(source, target)).reshape(share.shape)
    return _added(False, len(x), slope, share, target, source), shares, None, None


_added.defvjp(_kept, _back)


def _at(x: jax.Array, node: jax.Array) -> jax.Array:
    # Clipping only spares a check: builders of edges refuse what leads out of range.
    return jnp.take(x, node, axis=0, mode="clip")


def _blocks(*columns: jax.Array) -> tuple[jax.Array, ...]:
    """Cuts columns of edges, whose number is a power of two."""
    return tuple(column.reshape(-1, _BLOCK, *column.shape[1:]) for column in columns)
