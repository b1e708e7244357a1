"""Where vectors on a graph start: its smoothest directions, in closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from metajax.networks.graph_layers import LightGCN
from metajax.types import BipartiteGraph, Edges

__all__ = ["spectral_nodes"]


def spectral_nodes(
    graph: BipartiteGraph, width: int, *, sweeps: int = 10, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Finds vectors that message passing keeps, as the best start for what passes messages.

    With R the users' choices, each divided by the roots of both ends' degrees, the items' vectors
    span the first right singular vectors of R, and those of the users are R times them. Products
    of the items' vectors are then the weights between items of an ideal low-pass filter. Found by
    orthogonal iteration: a sweep is two steps along the edges.

    Args:
        graph: Of users and items.
        width: D, directions, at least 1 and at most as many as there are items.
        sweeps: Iterations, >= 1.
        seed: Of the random first directions.

    Returns:
        `[U, D]` users and `[I, D]` items, float32; the mean square of the items' is 1 where
        all of them are in the graph.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Shen et al., How Powerful is Graph Convolution for Recommendation?, CIKM 2021, where
        LightGCN and linear autoencoders are low-pass filters, and one in closed form competes with
        what is trained. Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review
        2011, algorithm 4.4.
    """
    if not 1 <= width <= graph.items:
        raise ValueError(f"width must be in [1, {graph.items}] (the items), got {width}.")
    if sweeps < 1:
        raise ValueError(f"sweeps must be >= 1, got {sweeps}.")
    items = np.random.default_rng(seed).normal(size=(graph.items, width))
    for _ in range(sweeps):
        _, swept = _swept(jnp.asarray(items, jnp.float32), graph.edges, users=graph.users)
        items = np.linalg.qr(np.asarray(swept))[0]
    items = np.float32(np.sqrt(graph.items)) * items.astype(np.float32)
    users, _ = _swept(jnp.asarray(items), graph.edges, users=graph.users)
    return np.asarray(users), items


@partial(jax.jit, static_argnames="users")
def _swept(items: jax.Array, edges: Edges, *, users: int) -> tuple[jax.Array, jax.Array]:
    """Sends items' vectors to the users, and back."""
    nodes = jnp.pad(items, ((users, 0), (0, 0)))
    _, there, back = LightGCN(2).steps(nodes, edges)
    return there[:users], back[users:]
