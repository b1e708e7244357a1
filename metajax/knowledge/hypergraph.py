"""Vectors of nodes and of hyperedges from what is going on, and how far to believe them."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.knowledge.live import LiveGraph
from metajax.networks.messages import in_degree, incoming, outgoing

__all__ = ["LiveVectors", "edge_vectors", "folded", "node_vectors"]


class LiveVectors(NamedTuple):
    """What the last minutes say, and how much they say."""

    vector: jax.Array
    """`[n, D]`, 0 where nothing is said."""
    weight: jax.Array
    """`[n]` sum of the weights of its arrivals: about how many there are of late."""


def node_vectors(x: jax.Array, graph: LiveGraph) -> LiveVectors:
    """Gives each node what those send that are in a hyperedge with it, of late.

    With incidences H (nodes by hyperedges, weighted), degrees `Dv = H 1` and `De = 1 H`:
    `Dv^-1/2 H De^-1 H' Dv^-1/2 x`.

    Args:
        x: `[N, D]` the nodes' vectors.
        graph: The live graph.

    Returns:
        Of the N nodes.

    References:
        Feng et al., Hypergraph Neural Networks, AAAI 2019, equation 11, without the map and the
        nonlinearity behind, and with all hyperedges of weight 1. Differs: incidences have
        weights, which fall with age.
    """
    rows, nodes = len(graph.names), len(x)
    degree = jax.ops.segment_sum(graph.edges.weight, graph.edges.source, nodes)
    scale = jnp.where(degree > 0, jax.lax.rsqrt(jnp.where(degree > 0, degree, 1)), 0)[:, None]
    sent = incoming(scale * x, graph.edges, nodes=rows) * _inverse(in_degree(graph.edges, rows))
    return LiveVectors(scale * outgoing(sent, graph.edges, nodes=nodes), degree)


def edge_vectors(x: jax.Array, graph: LiveGraph, names: jax.Array) -> LiveVectors:
    """Averages the nodes of some hyperedges by their weights: what a user is after right now.

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


def folded(base: jax.Array, live: LiveVectors, strength: float) -> jax.Array:
    """Moves vectors towards what is going on, by how much of it there is.

    `base + share (live - base)` with `share = weight / (weight + strength)`. As arrivals age the
    vector goes back to where it was; with none it never moves.

    Args:
        base: `[n, D]` vectors learned before.
        live: Of the same n, on the same scale.
        strength: So many arrivals of right now count as much as the base, > 0.

    Returns:
        `[n, D]`.

    Raises:
        ValueError: If `strength` is not finite or not > 0.

    Example:
        >>> now = LiveVectors(jnp.array([[1.0], [0.0]]), jnp.array([3.0, 0.0]))
        >>> folded(jnp.array([[0.0], [2.0]]), now, 1.0).tolist()
        [[0.75], [2.0]]
    """
    if not (math.isfinite(strength) and strength > 0):
        raise ValueError(f"strength must be finite and > 0, got {strength}.")
    share = live.weight / (live.weight + strength)
    return base + share[:, None] * (live.vector - base)


def _inverse(degree: jax.Array) -> jax.Array:
    return jnp.where(degree > 0, 1 / jnp.where(degree > 0, degree, 1), 0)[:, None]
