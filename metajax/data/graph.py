"""Bipartite user-item graphs as padded arrays of directed edges, for message passing.

Sizes are static and padded to powers of two, so that a program compiled for the graph of one
training set serves those of about its size: the folds of a data set, for instance.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import TrainingSet, room
from metajax.types import BipartiteGraph, Edges

__all__ = [
    "bipartite_graph",
    "blank_graph",
    "edges_of",
    "training_graph",
]


def edges_of(source: Any, target: Any, weight: Any = None, *, nodes: int) -> Edges:
    """Sorts and pads directed edges.

    Args:
        source: `[m]` whole numbers in [0, nodes).
        target: `[m]` whole numbers in [0, nodes).
        weight: `[m]` finite numbers > 0; None means 1.
        nodes: Number of nodes, >= 1.

    Returns:
        The edges; M is the next power of two.

    Raises:
        ValueError: If an edge leads from or to a node that does not exist, a weight is not finite
            or not > 0, the columns differ in length, or `nodes` < 1.
        TypeError: If nodes are named by anything but whole numbers.

    Example:
        >>> edges = edges_of([0, 1, 2], [2, 0, 0], nodes=3)
        >>> edges.source.tolist(), edges.target.tolist(), edges.weight.tolist()
        ([1, 2, 0, 2], [0, 0, 2, 2], [1.0, 1.0, 1.0, 0.0])
    """
    if nodes < 1:
        raise ValueError(f"nodes must be >= 1, got {nodes}.")
    ends = _ends({"source": (source, nodes), "target": (target, nodes)})
    weight = _weights(weight, len(ends[0]))
    order = np.argsort(ends[1], kind="stable")
    padding = room(len(order)) - len(order)

    def padded(column: np.ndarray, fill: int, dtype: Any) -> jax.Array:
        return jnp.asarray(np.pad(column[order], (0, padding), constant_values=fill), dtype)

    last = nodes - 1
    return Edges(
        padded(ends[0], last, jnp.int32),
        padded(ends[1], last, jnp.int32),
        padded(weight, 0, jnp.float32),
    )


def bipartite_graph(
    user: Any, item: Any, weight: Any = None, *, users: int, items: int
) -> BipartiteGraph:
    """Joins users to items, both ways.

    Args:
        user: `[E]` whole numbers in [0, users).
        item: `[E]` whole numbers in [0, items).
        weight: `[E]` finite numbers > 0; None means 1.
        users: U, >= 1.
        items: I, >= 1.

    Returns:
        The graph, of 2 E edges and padding.

    Raises:
        ValueError: As `edges_of`; an edge is named by its place and its ends.
        TypeError: As `edges_of`.

    Example:
        >>> bipartite_graph([0], [5], users=2, items=3)
        Traceback (most recent call last):
        ...
        ValueError: item must be in [0, 3), got 5 in edge 0 (user 0, item 5).
    """
    for name, size in (("users", users), ("items", items)):
        if size < 1:
            raise ValueError(f"{name} must be >= 1, got {size}.")
    who, what = _ends({"user": (user, users), "item": (item, items)})
    each = _weights(weight, len(who))
    edges = edges_of(
        np.concatenate([users + what, who]),
        np.concatenate([who, users + what]),
        np.concatenate([each, each]),
        nodes=users + items,
    )
    return BipartiteGraph(edges, users, items)


def blank_graph(users: int, items: int, rows: int) -> BipartiteGraph:
    """Returns a graph without edges that has room for those of a training set.

    Args:
        users: U, >= 1.
        items: I, >= 1.
        rows: Pairs of user and item there is room for, a power of two.

    Returns:
        The graph, of 2 rows edges of weight 0.
    """
    last = jnp.full(2 * rows, users + items - 1, jnp.int32)
    return BipartiteGraph(Edges(last, last, jnp.zeros(2 * rows)), users, items)


def training_graph(training: TrainingSet, *, relevant: float = -np.inf) -> BipartiteGraph:
    """Graph of a training set: edges between users and the items they chose.

    Users are counted as the log counts them, those without an interaction too, and padded to a
    power of two, as in `shapes_of`.

    Args:
        training: The training set.
        relevant: Lowest rating that makes an edge; by default every interaction does.

    Returns:
        The graph, of weights 1.

    Raises:
        ValueError: If `relevant` is NaN, or the training set has no interaction.
    """
    if np.isnan(relevant):
        raise ValueError("relevant must be a number, got nan.")
    log = training.interactions
    if not len(log.item):
        raise ValueError("training must have at least one interaction, got none.")
    kept = log.rating >= relevant
    return bipartite_graph(
        log.user[kept],
        log.item[kept],
        users=room(len(log.user_ids)),
        items=len(log.item_ids),
    )


def _ends(columns: dict[str, tuple[Any, int]]) -> list[np.ndarray]:
    """Checks the ends of edges: by name, a column of nodes and how many there are."""
    ends = []
    for name, (column, _) in columns.items():
        column = np.asarray(column)
        if column.size and column.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold whole numbers, got {column.dtype}.")
        ends.append(column.astype(np.int64))
    (first, one), (second, other) = zip(columns, ends, strict=True)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(
            f"{first} and {second} must be columns of one length, got {one.shape}, {other.shape}."
        )
    for name, column, (_, size) in zip(columns, ends, columns.values(), strict=True):
        wrong = np.flatnonzero((column < 0) | (column >= size))
        if len(wrong):
            at = int(wrong[0])
            raise ValueError(
                f"{name} must be in [0, {size}), got {column[at]} in edge {at} "
                f"({first} {one[at]}, {second} {other[at]})."
            )
    return ends


def _weights(weight: Any, count: int) -> np.ndarray:
    weight = np.ones(count, np.float32) if weight is None else np.asarray(weight, np.float32)
    if weight.shape != (count,):
        raise ValueError(f"weight must be a column of {count} numbers, got {weight.shape}.")
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight > 0)))
    if len(wrong):
        at = int(wrong[0])
        raise ValueError(f"weight must be finite and > 0, got {weight[at]} in edge {at}.")
    return weight
