"""A recommender whose vectors of users and items come from message passing on their graph."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.networks.graph_layers import LightGCN
from metajax.networks.messages import in_degree
from metajax.types import BipartiteGraph, Edges, Inputs, MemberInputs, NodeVectors, Params

__all__ = [
    "GraphModel",
    "edges_as_floats",
    "edges_in",
    "graph_model",
    "start_graph",
]

# Whole numbers up to here are exact in float32.
_NODES = 2**24


class GraphModel(NamedTuple):
    """A network on a graph as pure functions.

    What `propagate` returns is to be shared: it costs the whole graph, a score D numbers.
    """

    init: Callable[..., Params]
    """`init(key, inputs) -> params`."""
    apply: Callable[[Params, Any], jax.Array]
    """`apply(params, inputs) -> scores [N]`: `score` of what is propagated."""
    propagate: Callable[..., Any]
    """`propagate(params, without=None) -> nodes`, `NodeVectors` for instance; `without` `[n]` are
    users whose edges are left out, as if they were not in the graph."""
    score: Callable[[Any, Any], jax.Array]
    """`score(nodes, inputs) -> scores [N]` of who has shown nothing; of a user in the graph where
    inputs are `MemberInputs` and the model has vectors of users."""
    fixed: tuple[str, ...] = ("graph",)
    """Which parameters are not trained, and must not decay."""


def graph_model(
    graph: BipartiteGraph,
    network: nn.Module | None = None,
    *,
    width: int = 64,
    bias: float | jax.Array = 0.0,
) -> GraphModel:
    """Scores an item for a user by the product of their vectors, and the item's bias.

    A vector is what the network makes of a table of embeddings and the graph. Users who are not in
    the graph get theirs from the items they chose (`adaptation.neighbourhood`): with LightGCN just
    what its steps would give them, were they in the graph with an embedding that is all strangers'
    and without being heard by the items; with any other network the mean of the items.

    The graph lies among the parameters, and not in the closure: as a constant of the program it
    would be compiled into it, and each fold would need a program of its own. It is not trained, and
    is kept as floats so that parameters which hold it can be differentiated; an optimizer with
    weight decay must leave it alone, as those of `learners.light_gcn` and `graph_fold_in` do.

    Args:
        graph: Of the training users; see `data.training_graph`. Another one of as many nodes
            is put in its place by `start_graph`.
        network: Maps nodes `[N, width]` and `Edges` to nodes `[N, D]`, for instance
            `GraphNetwork([GraphSAGE(64), GraphSAGE(64)])`; None means `LightGCN(3)`.
        width: Numbers an embedding.
        bias: First bias of the items, one for all or `[I]`: for ratings their mean.

    Returns:
        The model.

    Raises:
        ValueError: If `width` < 1, `bias` is neither one number nor I, or the graph has more than
            2^24 nodes.

    Example:
        >>> from metajax.data import bipartite_graph
        >>> graph = bipartite_graph([0, 0, 1], [0, 1, 1], users=2, items=3)
        >>> model = graph_model(graph, LightGCN(2), width=8)
        >>> nodes = model.propagate(model.init(jax.random.key(0), None))
        >>> nodes.user.shape, nodes.item.shape
        ((2, 8), (3, 8))
    """
    if width < 1:
        raise ValueError(f"width must be >= 1, got {width}.")
    if graph.users + graph.items > _NODES:
        raise ValueError(
            f"graph must have at most {_NODES} nodes, got {graph.users + graph.items}."
        )
    users, items = graph.users, graph.items
    if jnp.shape(bias) not in ((), (items,)):
        raise ValueError(f"bias must be one number or {items}, got the shape {jnp.shape(bias)}.")
    network = LightGCN() if network is None else network

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        key_user, key_item, key_network = jax.random.split(key, 3)
        draw = nn.initializers.normal(0.1)
        nodes = draw(key_user, (users, width)), draw(key_item, (items, width))
        started = network.init(key_network, jnp.concatenate(nodes), graph.edges)
        params = started.get("params", {})
        out: Any = jax.eval_shape(network.apply, started, jnp.concatenate(nodes), graph.edges)
        return {
            "graph": edges_as_floats(graph.edges),
            "user": nodes[0],
            "item": nodes[1],
            "network": params,
            "item_bias": jnp.zeros(items) + bias,
            "stranger": jnp.zeros(out.shape[1]),
        }

    def propagate(params: Params, without: jax.Array | None = None) -> NodeVectors:
        edges = edges_in(params, without)
        x = jnp.concatenate([params["user"], params["item"]])
        out, sent, power = _passed(network, params["network"], x, edges)
        return NodeVectors(
            out[:users],
            out[users:],
            params["item_bias"],
            params["stranger"],
            sent[users:],
            jnp.array(power),
        )

    def score(nodes: NodeVectors, inputs: Inputs | MemberInputs) -> jax.Array:
        if isinstance(inputs, MemberInputs):
            vector, inputs = nodes.user[inputs.user], inputs.inputs
        else:
            vector = nodes.new_user[None]
        return nodes.item_bias[inputs.item] + jnp.sum(nodes.item[inputs.item] * vector, axis=1)

    def apply(params: Params, inputs: Inputs | MemberInputs) -> jax.Array:
        return score(propagate(params), inputs)

    return GraphModel(init, apply, propagate, score)


def start_graph(params: Params, graph: BipartiteGraph) -> Params:
    """Puts another graph in the place of the one that parameters hold.

    Args:
        params: Parameters of a `graph_model`.
        graph: Of as many users and items, and no more edges than there is room for.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a size does not fit.
    """
    for name, size, other in (
        ("users", len(params["user"]), graph.users),
        ("items", len(params["item"]), graph.items),
    ):
        if size != other:
            raise ValueError(f"graph must have {size} {name}, with padding, got {other}.")
    room, used = len(params["graph"].source), len(graph.edges.source)
    if used > room:
        raise ValueError(f"graph must have at most {room} edges, with padding, got {used}.")
    last = graph.users + graph.items - 1
    fills = last, last, 0
    padded = (
        jnp.pad(leaf, (0, room - used), constant_values=fill)
        for leaf, fill in zip(graph.edges, fills, strict=True)
    )
    return {**params, "graph": edges_as_floats(Edges(*padded))}


def edges_as_floats(edges: Edges) -> Edges:
    """Returns edges as parameters hold them."""
    return Edges(*(leaf.astype(jnp.float32) for leaf in edges))


def edges_in(params: Params, without: jax.Array | None = None) -> Edges:
    """Reads the graph that parameters hold.

    Args:
        params: With `graph`, and with tables `user` and `item` of the nodes.
        without: `[n]` users whose edges weigh nothing; None means nobody.

    Returns:
        The edges.
    """
    floats = jax.lax.stop_gradient(params["graph"])
    source, target = floats.source.astype(jnp.int32), floats.target.astype(jnp.int32)
    if without is None:
        return Edges(source, target, floats.weight)
    stays = jnp.ones(len(params["user"]) + len(params["item"])).at[without].set(0)
    return Edges(source, target, floats.weight * stays[source] * stays[target])


def _passed(
    network: nn.Module, params: Params, x: jax.Array, edges: Edges
) -> tuple[jax.Array, jax.Array, float]:
    """Returns the nodes `[N, D]`, what they send to strangers `[N, D]`, and the power."""
    applied: Callable[..., Any] = partial(network.apply, {"params": params})
    if not isinstance(network, LightGCN):
        out = applied(x, edges)
        return out, out, 1.0
    steps = applied(x, edges, method="steps")
    # The stranger is one more neighbour of each of its items.
    scale = jax.lax.rsqrt(in_degree(edges, len(x)) + 1)[:, None]
    nothing = jnp.zeros_like(x)
    sent = scale * sum(steps[:-1], nothing)
    return sum(steps, nothing) / len(steps), sent / len(steps), 0.5
