"""Ratings on the graph of users and items: what an item is like, as those who rated it tell.

A closed form knows an item by how it was rated. Message passing adds by whom: an item with few
ratings is described by the tastes of its raters, and these by all else that they rated, in another
domain too.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.networks.graph_layers import GraphNetwork, GraphSAGE
from metajax.networks.graph_model import GraphModel, edges_as_floats, edges_in, start_graph
from metajax.networks.linen import init_params
from metajax.networks.messages import in_degree
from metajax.types import BipartiteGraph, Evidence, Inputs, MemberInputs, Params

__all__ = ["at_items", "rating_graph", "start_rating_graph"]

_FIXED = ("graph", "user", "item", "item_bias", "item_domain", "noise")


def rating_graph(
    graph: BipartiteGraph, network: nn.Module | None = None, *, width: int, adapter: bool = False
) -> GraphModel:
    """Corrects what closed forms say of the items by message passing.

    An item has an embedding x_i and an expected rating b_i, under which users are standard normal
    vectors z; a user in the graph has the posterior mean of z. Nodes start as (z, 0, 0) and
    (0, x_i, b_i), with the logarithm of their degree behind. With h_i, what the network makes of
    item i, the item is described by

        [x_i, b_i] + relu(h_i + t_i h_i A) C

    where C starts at 0, so that the first predictions are those of the closed form. Layers are
    the same for users and items of all domains; the adapter A, which also starts at 0, changes what
    they say of items of the target, t_i = 1. Users are adapted to by `adaptation.ridge_head`.

    Args:
        graph: As in `graph_model`.
        network: Maps nodes `[N, 2 width + 2]` and `Edges` to nodes `[N, D]`; None means two
            layers of `GraphSAGE(16)`.
        width: F, directions in which users differ, >= 1.
        adapter: Whether there is an adapter.

    Returns:
        The model, whose `propagate` returns the `Evidence` of all items `[I]`. What
        `start_rating_graph` fills is fixed; `network`, `correction` and `adapter` learn.

    Raises:
        ValueError: If `width` < 1.

    References:
        Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS
        2017, for nodes described by features and neighbours instead of embeddings of their own.
        Zhao, Li and Fu, Cross-Domain Recommendation via Preference Propagation GraphNet, CIKM
        2019, for one graph of both domains, of which users are the bridge, under shared layers.
        Liu, Li, Li and Pan, Cross Domain Recommendation via Bi-directional Transfer Graph
        Collaborative Filtering Networks, CIKM 2020, for keeping what is specific of a domain beside
        what is common. Differs from both: ratings and not implicit feedback; nodes start from
        closed forms, not from learned embeddings; layers are common, and an adapter of the target
        is what is specific; users who are not in the graph are served.
    """
    if width < 1:
        raise ValueError(f"width must be >= 1, got {width}.")
    network = GraphNetwork([GraphSAGE(16), GraphSAGE(16)]) if network is None else network
    users, items = graph.users, graph.items

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        nodes = jnp.zeros((users + items, 2 * width + 2))
        started = init_params(network, key, nodes, graph.edges)
        out: Any = jax.eval_shape(network.apply, {"params": started}, nodes, graph.edges)
        size = out.shape[1]
        return {
            "graph": edges_as_floats(graph.edges),
            "user": jnp.zeros((users, width)),
            "item": jnp.zeros((items, width)),
            "item_bias": jnp.zeros(items),
            "item_domain": jnp.zeros(items),
            "noise": jnp.ones(items),
            "network": started,
            "correction": jnp.zeros((size, width + 1)),
            **({"adapter": jnp.zeros((size, size))} if adapter else {}),
        }

    def propagate(params: Params, without: jax.Array | None = None) -> Evidence:
        fixed = jax.lax.stop_gradient({name: params[name] for name in _FIXED if name != "graph"})
        user, item, bias = fixed["user"], fixed["item"], fixed["item_bias"]
        edges = edges_in(params, without)
        # The mean rating is in every bias and tells nothing of an item.
        known = jnp.concatenate([item, (bias - jnp.mean(bias))[:, None]], axis=1)
        degree = jnp.log1p(in_degree(edges, len(user) + len(item)))[:, None]
        nodes = jnp.concatenate(
            [jnp.pad(user, ((0, 0), (0, known.shape[1]))), jnp.pad(known, ((0, 0), (width, 0)))]
        )
        nodes = jnp.concatenate([nodes, degree], axis=1)
        found: Any = network.apply({"params": params["network"]}, nodes, edges)
        found = found[len(user) :]
        if adapter:
            found += fixed["item_domain"][:, None] * (found @ params["adapter"])
        change = nn.relu(found) @ params["correction"]
        return Evidence(bias + change[:, width], item + change[:, :width], fixed["noise"])

    def score(items: Evidence, inputs: Inputs | MemberInputs) -> jax.Array:
        return at_items(items, inputs).expected

    def apply(params: Params, inputs: Inputs | MemberInputs) -> jax.Array:
        return score(propagate(params), inputs)

    return GraphModel(init, apply, propagate, score, _FIXED)


def at_items(items: Evidence, inputs: Inputs | MemberInputs) -> Evidence:
    """Describes N interactions, given what is known of all I items."""
    item = (inputs.inputs if isinstance(inputs, MemberInputs) else inputs).item
    return jax.tree.map(lambda leaf: leaf[item], items)


def start_rating_graph(
    params: Params,
    graph: BipartiteGraph,
    *,
    user: jax.Array,
    item: jax.Array,
    item_bias: jax.Array,
    noise: jax.Array,
    item_domain: jax.Array | None = None,
) -> Params:
    """Fills in the graph and what closed forms say of its nodes.

    Args:
        params: Parameters of a `rating_graph`.
        graph: As in `start_graph`.
        user: `[U, F]` expected place of each user in the graph; 0 for who rated nothing.
        item: `[I, F]` what a unit along each direction adds to a rating.
        item_bias: `[I]` the rating of a user of whom nothing is known.
        noise: `[I]` variance of a rating of each item, > 0.
        item_domain: `[I]` 0 for an item of the source, 1 for one of the target; None means 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a size does not fit.
    """
    given = {"user": user, "item": item, "item_bias": item_bias, "noise": noise}
    given["item_domain"] = params["item_domain"] if item_domain is None else item_domain
    for name, value in given.items():
        if jnp.shape(value) != params[name].shape:
            raise ValueError(
                f"{name} must have the shape {params[name].shape}, got {jnp.shape(value)}."
            )
    floats = {name: jnp.asarray(value, jnp.float32) for name, value in given.items()}
    return {**start_graph(params, graph), **floats}
