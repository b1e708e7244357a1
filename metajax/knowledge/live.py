"""A live hypergraph of recent interactions, with exponential decay.

An arrival is an incidence of a node and a hyperedge: an item in a session, a basket, or the history
of a user, who is a hyperedge too (this is the bipartite graph of users and items). The latest
arrivals are in a ring buffer of fixed size, with incidence weights that decay with age. All shapes
are static: nothing is recompiled while the stream continues.

Irregularities of a stream:

- A late arrival has the weight of its own time. As long as it is in the buffer, the order of
  arrival makes no difference.
- A repeated arrival, or a node that is in a hyperedge again, counts once, at its latest time.
- A full buffer drops what arrived first, whatever its time.
- A time after now, of a clock that is ahead, counts as now.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import room
from metajax.networks.graph import in_degree, incoming, outgoing
from metajax.types import Edges

__all__ = [
    "Arrivals",
    "LiveBuffer",
    "LiveGraph",
    "LiveVectors",
    "add_arrivals",
    "arrivals_of",
    "bipartite_edges",
    "fold_in",
    "hyperedge_vectors",
    "live_buffer",
    "live_graph",
    "node_vectors",
]

# Name of no hyperedge.
_NONE = np.int32(2**31 - 1)


class Arrivals(NamedTuple):
    """B incidences of nodes and hyperedges."""

    node: jax.Array
    """`[B]` int32 the node, for instance an item."""
    edge: jax.Array
    """`[B]` int32 name of the hyperedge: any number in [0, 2^31 - 1), of a session or a user."""
    time: jax.Array
    """`[B]` int32 time >= 0, in any unit and from any origin, for instance seconds."""
    mask: jax.Array
    """`[B]` bool, False in padding."""


class LiveBuffer(NamedTuple):
    """The last C arrivals, in a ring buffer."""

    node: jax.Array
    """`[C]` int32."""
    edge: jax.Array
    """`[C]` int32."""
    time: jax.Array
    """`[C]` int32."""
    filled: jax.Array
    """`[]` int32 number of occupied slots."""
    next: jax.Array
    """`[]` int32 slot of the next arrival."""


class LiveGraph(NamedTuple):
    """The incidences of the buffer at one time, C at most, each of a node and a hyperedge once."""

    edges: Edges
    """From nodes to rows of hyperedges; duplicates and empty slots have weight 0."""
    names: jax.Array
    """`[C]` int32 name of the hyperedge in each row, ascending; 2^31 - 1 after the last."""


def live_buffer(capacity: int) -> LiveBuffer:
    """An empty ring buffer.

    Args:
        capacity: Number of arrivals to hold, >= 1; C is the next power of two.

    Raises:
        ValueError: If `capacity` < 1.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be >= 1, got {capacity}.")
    # Three arrays: donated buffers must not be shared.
    node, edge, time = (jnp.zeros(room(capacity), jnp.int32) for _ in range(3))
    return LiveBuffer(node, edge, time, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def arrivals_of(
    node: Any, edge: Any, time: Any, *, nodes: int, edges: int = int(_NONE)
) -> Arrivals:
    """Checks and pads a batch of arrivals.

    Args:
        node: `[b]` integers in [0, nodes).
        edge: `[b]` integers in [0, edges).
        time: `[b]` integers in [0, 2^31).
        nodes: Number of nodes.
        edges: Number of hyperedges, where it is known, for instance of users. At most 2^31 - 1.

    Returns:
        The arrivals; B is the next power of two.

    Raises:
        ValueError: If a number is out of range or the columns differ in length.
        TypeError: If a column is not of integers.

    Example:
        >>> arrivals_of([2, 9], [0, 0], [60, 61], nodes=5)
        Traceback (most recent call last):
        ...
        ValueError: node must be in [0, 5), got 9 in arrival 1.
    """
    given = {"node": node, "edge": edge, "time": time}
    columns = [np.asarray(column) for column in given.values()]
    shapes = [column.shape for column in columns]
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise ValueError(f"node, edge and time must be columns of one length, got {shapes}.")
    count = len(columns[0])
    size = room(count)
    padded = np.zeros((3, size), np.int32)
    for name, column, row, end in zip(given, columns, padded, (nodes, edges, 2**31), strict=True):
        if count and column.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold whole numbers, got {column.dtype}.")
        if count and not 0 <= column.min() <= column.max() < end:
            at = int(np.argmax((column < 0) | (column >= end)))
            raise ValueError(f"{name} must be in [0, {end}), got {column[at]} in arrival {at}.")
        row[:count] = column
    return Arrivals(*padded, np.arange(size) < count)  # pyrefly: ignore


def add_arrivals(buffer: LiveBuffer, arrivals: Arrivals) -> LiveBuffer:
    """Writes arrivals into the ring buffer.

    Compile it with `jax.jit(add_arrivals, donate_argnums=0)`, so that the buffer is updated in
    place; else each call copies it.

    Args:
        buffer: A buffer of C slots.
        arrivals: At most C.

    Returns:
        The buffer with them; a full one has lost as many of its first.

    Raises:
        ValueError: If there are more arrivals than slots.
    """
    capacity, most = len(buffer.node), len(arrivals.node)
    if most > capacity:
        raise ValueError(f"arrivals must be at most {capacity}, with padding, got {most}.")
    before = jnp.cumsum(arrivals.mask) - arrivals.mask
    # Padding is dropped.
    slot = jnp.where(arrivals.mask, (buffer.next + before) % capacity, capacity)
    count = jnp.sum(arrivals.mask, dtype=jnp.int32)
    node, edge, time = (
        column.at[slot].set(new, mode="drop", unique_indices=True)
        for column, new in zip(buffer[:3], arrivals[:3], strict=True)
    )
    return LiveBuffer(
        node,
        edge,
        time,
        jnp.minimum(buffer.filled + count, capacity),
        (buffer.next + count) % capacity,
    )


def live_graph(buffer: LiveBuffer, now: Any, tau: float) -> LiveGraph:
    """The hypergraph of a buffer, with incidence weights `exp(-(now - time) / tau)`.

    It sorts the buffer, which costs more than the sums over its edges: build it once for many uses.

    Args:
        buffer: The buffer.
        now: `[]` integer, in the unit of the times.
        tau: Time constant of the decay, > 0, in that unit.

    Returns:
        The graph.

    Raises:
        ValueError: If `tau` is not finite or not > 0.
    """
    if not (math.isfinite(tau) and tau > 0):
        raise ValueError(f"tau must be finite and > 0, got {tau}.")
    capacity = len(buffer.node)
    occupied = jnp.arange(capacity) < buffer.filled
    # The latest of each node and hyperedge comes first; empty slots come last.
    edge, node, later = jax.lax.sort(
        (jnp.where(occupied, buffer.edge, _NONE), buffer.node, -buffer.time), num_keys=3
    )
    is_new = _changes(edge)
    row = jnp.cumsum(is_new, dtype=jnp.int32) - 1
    age = jnp.maximum(jnp.asarray(now, jnp.int32) + later, 0)
    counts = (is_new | _changes(node)) & (edge != _NONE)
    weight = jnp.where(counts, jnp.exp(-age.astype(jnp.float32) / tau), 0)
    names = jnp.full(capacity, _NONE).at[row].min(edge, indices_are_sorted=True)
    return LiveGraph(Edges(node, row, weight), names)


def bipartite_edges(graph: LiveGraph, *, users: int, items: int) -> Edges:
    """Edges between users and items for graph networks, where hyperedges are users.

    Args:
        graph: The live graph; its nodes are items, and hyperedges are named by users' indices.
        users: U; checked by `arrivals_of(..., edges=users)`.
        items: I.

    Returns:
        2 C edges between U + I nodes, as in `BipartiteGraph`: both directions, sorted by
        target. Edges of padding have weight 0.
    """
    item, row, weight = graph.edges
    last = users + items - 1
    user = graph.names[row]
    item = jnp.where(user == _NONE, last, users + item)
    user = jnp.where(user == _NONE, last, user)
    target, source, weight = jax.lax.sort(
        (
            jnp.concatenate([user, item]),
            jnp.concatenate([item, user]),
            jnp.concatenate([weight, weight]),
        ),
        num_keys=1,
    )
    return Edges(source, target, weight)


def _changes(column: jax.Array) -> jax.Array:
    """Mask of entries that differ from the previous one, `[C]` bool; True for the first."""
    return jnp.concatenate([jnp.ones(1, bool), column[1:] != column[:-1]])


class LiveVectors(NamedTuple):
    """Vectors from the live hypergraph, and their weights."""

    vector: jax.Array
    """`[n, D]`, 0 where there is no arrival."""
    weight: jax.Array
    """`[n]` sum of incidence weights: the effective number of recent arrivals."""


def node_vectors(x: jax.Array, graph: LiveGraph) -> LiveVectors:
    """Hypergraph convolution: vectors of nodes from those that share a hyperedge with them.

    With weighted incidences H (nodes by hyperedges), degrees `Dv = H 1` and `De = 1 H`:
    `Dv^-1/2 H De^-1 H' Dv^-1/2 x`.

    Args:
        x: `[N, D]` the nodes' vectors.
        graph: The live graph.

    Returns:
        Of the N nodes.

    References:
        Feng et al., Hypergraph Neural Networks, AAAI 2019, equation 11, without the linear map and
        the nonlinearity, and with unit hyperedge weights. Differs: incidences have weights.
    """
    rows, nodes = len(graph.names), len(x)
    degree = jax.ops.segment_sum(graph.edges.weight, graph.edges.source, nodes)
    scale = jnp.where(degree > 0, jax.lax.rsqrt(jnp.where(degree > 0, degree, 1)), 0)[:, None]
    sent = incoming(scale * x, graph.edges, nodes=rows) * _inverse(in_degree(graph.edges, rows))
    return LiveVectors(scale * outgoing(sent, graph.edges, nodes=nodes), degree)


def hyperedge_vectors(x: jax.Array, graph: LiveGraph, names: jax.Array) -> LiveVectors:
    """Weighted means of the nodes of some hyperedges: the present interest of users or sessions.

    Args:
        x: `[N, D]` the nodes' vectors.
        graph: The live graph.
        names: `[n]` int32 names of hyperedges, known or not.

    Returns:
        Of these n.
    """
    rows = len(graph.names)
    weight = in_degree(graph.edges, rows)
    row = jnp.minimum(jnp.searchsorted(graph.names, names), rows - 1)
    known = graph.names[row] == names
    mean = incoming(x, graph.edges, nodes=rows) * _inverse(weight)
    return LiveVectors(jnp.where(known[:, None], mean[row], 0), jnp.where(known, weight[row], 0))


def fold_in(base: jax.Array, live: LiveVectors, strength: float) -> jax.Array:
    """Shrinks live vectors towards learned ones, by the number of recent arrivals.

    `base + share (live - base)` with `share = weight / (weight + strength)`. As arrivals age the
    result decays to `base`; without any it equals it.

    Args:
        base: `[n, D]` learned vectors.
        live: Of the same n, on the same scale.
        strength: Prior strength in arrivals, > 0.

    Returns:
        `[n, D]`.

    Raises:
        ValueError: If `strength` is not finite or not > 0.

    Example:
        >>> now = LiveVectors(jnp.array([[1.0], [0.0]]), jnp.array([3.0, 0.0]))
        >>> fold_in(jnp.array([[0.0], [2.0]]), now, 1.0).tolist()
        [[0.75], [2.0]]
    """
    if not (math.isfinite(strength) and strength > 0):
        raise ValueError(f"strength must be finite and > 0, got {strength}.")
    share = live.weight / (live.weight + strength)
    return base + share[:, None] * (live.vector - base)


def _inverse(degree: jax.Array) -> jax.Array:
    return jnp.where(degree > 0, 1 / jnp.where(degree > 0, degree, 1), 0)[:, None]
