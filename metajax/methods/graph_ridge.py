"""Graph ridge: message passing on ratings corrects closed-form items, users are a ridge head.

A closed form fits an item to its ratings. Message passing adds its raters: an item with few ratings
is described by the tastes of its raters, and these by all their ratings, in another domain too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adaptation import ridge_head
from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.factors import fit_factors, identities_of, user_posteriors
from metajax.data import blank_graph, training_graph
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.learners.graph import new_user_learner
from metajax.methods.bayesian_ridge import check_rank
from metajax.methods.method import Method
from metajax.methods.objective import by_one_pass
from metajax.methods.settings import Options, Settings
from metajax.networks import (
    GraphAttention,
    GraphConvolution,
    GraphModel,
    GraphNetwork,
    GraphSAGE,
    LightGCN,
)
from metajax.networks.graph import (
    edges_as_floats,
    edges_in,
    in_degree,
    with_graph,
)
from metajax.networks.linen import init_params
from metajax.types import (
    BipartiteGraph,
    Evidence,
    Inputs,
    MemberInputs,
    MetaLearner,
    Params,
)

__all__ = [
    "AttentionRidgeOptions",
    "GraphRidgeOptions",
    "Layers",
    "at_items",
    "attentions",
    "closed_forms_of_nodes",
    "convolutions",
    "graph_ridge",
    "graph_ridge_method",
    "initial_rating_graph",
    "light",
    "methods",
    "rating_graph",
    "rating_graph_of",
    "samples_and_aggregates",
]


_FIXED = ("graph", "user", "item", "item_bias", "item_domain", "noise")


def rating_graph(
    graph: BipartiteGraph, network: nn.Module | None = None, *, width: int, adapter: bool = False
) -> GraphModel:
    """Model that corrects closed-form evidence of items by message passing.

    An item has an embedding x_i and an expected rating b_i, under which users are standard normal
    vectors z; a user in the graph has the posterior mean of z. Nodes start as (z, 0, 0) and
    (0, x_i, b_i), followed by the logarithm of their degree. With the network's output h_i for item
    i, the item is described by

        [x_i, b_i] + relu(h_i + t_i h_i A) C

    where C starts at 0, so that the first predictions are those of the closed form. Layers are
    the same for users and items of all domains; the adapter A, which also starts at 0, changes
    their output for items of the target, t_i = 1. Users adapt by `adaptation.ridge_head`.

    Args:
        graph: As in `graph_model`.
        network: Maps nodes `[N, 2 width + 2]` and `Edges` to nodes `[N, D]`; None means two
            layers of `GraphSAGE(16)`.
        width: F, directions in which users differ, >= 1.
        adapter: True to add the adapter.

    Returns:
        The model, whose `propagate` returns the `Evidence` of all items `[I]`. What
        `initial_rating_graph` fills is fixed; `network`, `correction` and `adapter` learn.

    Raises:
        ValueError: If `width` < 1.

    References:
        Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS
        2017, for nodes described by features and neighbours instead of embeddings of their own.
        Zhao, Li and Fu, Cross-Domain Recommendation via Preference Propagation GraphNet, CIKM
        2019, for one graph of both domains, of which users are the bridge, under shared layers.
        Liu, Li, Li and Pan, Cross Domain Recommendation via Bi-directional Transfer Graph
        Collaborative Filtering Networks, CIKM 2020, for domain-specific in addition to
        common features. Differs from both: ratings and not implicit feedback; nodes start from
        closed forms, not from learned embeddings; layers are common, and only an adapter of the
        target is specific; new users are folded in.
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
        # The mean rating is in every bias and does not distinguish items.
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
    """Evidence of N interactions, given that of all I items."""
    item = (inputs.inputs if isinstance(inputs, MemberInputs) else inputs).item
    return jax.tree.map(lambda leaf: leaf[item], items)


def initial_rating_graph(
    params: Params,
    graph: BipartiteGraph,
    *,
    user: jax.Array,
    item: jax.Array,
    item_bias: jax.Array,
    noise: jax.Array,
    item_domain: jax.Array | None = None,
) -> Params:
    """Initialises the graph and its nodes by closed forms.

    Args:
        params: Parameters of a `rating_graph`.
        graph: As in `with_graph`.
        user: `[U, F]` posterior mean of each user in the graph; 0 without ratings.
        item: `[I, F]` embedding of each item.
        item_bias: `[I]` expected rating by a new user.
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
    return {**with_graph(params, graph), **floats}


def graph_ridge(
    model: GraphModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Graph ridge: a Bayesian ridge head on item features to which graph layers add a correction.

    Users of training tasks count as new, as in `graph_fold_in`. In two domains, whose items share
    one space, a user's rows in one domain predict the other.

    Args:
        model: A `rating_graph`, or another whose `propagate` returns `Evidence` of items.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters; those that are `fixed` do not change.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner, with `predict_variance`.
    """
    return new_user_learner(model, ridge_head(at_items), loss, outer=outer, microbatch=microbatch)


@dataclass(frozen=True, kw_only=True)
class GraphRidgeOptions(Options):
    """Options of ridge heads on the graph."""

    width: int = bounded(16, least=1)
    """Width of the layers."""
    layers: int = bounded(2, least=1, search=Range(1, 4))
    """Layers, or steps of propagation."""
    rank: int = bounded(8, least=0, search=Range(2, 16))
    """Factors of an item, at least 1."""


@dataclass(frozen=True, kw_only=True)
class AttentionRidgeOptions(GraphRidgeOptions):
    """Options of ridge heads on the graph with attention."""

    heads: int = bounded(2, least=1)
    """Attention heads of all layers but the last, which has one; they divide the width."""


Layers = Callable[[Settings], Any]
"""`layers(settings)` builds the network that passes the messages."""


def convolutions(settings: Settings) -> Any:
    """Builds layers of graph convolution."""
    options = settings.options
    return GraphNetwork([GraphConvolution(options.width) for _ in range(options.layers)])


def attentions(settings: Settings) -> Any:
    """Builds layers of graph attention, the last of one head.

    Raises:
        ValueError: If the heads do not divide the width.
    """
    width, heads = settings.options.width, settings.options.heads
    if width % heads:
        raise ValueError(f"width must be a multiple of heads ({heads}), got {width}.")
    first = [GraphAttention(width // heads, heads) for _ in range(settings.options.layers - 1)]
    return GraphNetwork([*first, GraphAttention(width)])


def samples_and_aggregates(settings: Settings) -> Any:
    """Builds layers of GraphSAGE."""
    options = settings.options
    return GraphNetwork([GraphSAGE(options.width) for _ in range(options.layers)])


def light(settings: Settings) -> Any:
    """Builds LightGCN."""
    return LightGCN(settings.options.layers)


def rating_graph_of(
    layers: Layers, *, adapter: bool = False
) -> Callable[[Settings, Shapes], GraphModel]:
    """Returns `Method.network` of a `rating_graph` with room for the graph of the training set."""

    def network(settings: Settings, shapes: Shapes) -> GraphModel:
        graph = blank_graph(shapes.users, shapes.items, shapes.rows)
        return rating_graph(
            graph, layers(settings), width=settings.options.rank + 1, adapter=adapter
        )

    return network


def closed_forms_of_nodes(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises by factors, with unrated items from attributes, and by posteriors of users.

    The first predictions are those of a fold-in on the items of all domains.
    """
    check_rank(settings)
    log = training.interactions
    factors = fit_factors(log, rank=settings.options.rank, seed=settings.seed)
    users, latents = user_posteriors(factors, log)
    root = np.linalg.cholesky(np.asarray(factors.prior_covariance, np.float64))
    graph = training_graph(training)
    # In the coordinates of the identities, where the prior is standard normal.
    user = np.zeros((graph.users, settings.options.rank + 1))
    user[users] = np.linalg.solve(root, (latents.mean - np.asarray(factors.prior_mean)).T).T
    factors, spread = with_attributes(factors, training)
    item, item_bias = identities_of(factors)
    return partial(
        initial_rating_graph,
        graph=graph,
        user=jnp.asarray(user),
        item=jnp.asarray(item),
        item_bias=jnp.asarray(item_bias),
        noise=jnp.asarray(factors.noise + spread**2),
        item_domain=None if training.item_domain is None else jnp.asarray(training.item_domain),
    )


def graph_ridge_method(
    name: str, layers: Layers, options: type = GraphRidgeOptions, *, adapter: bool = False
) -> Method:
    """Ridge head on a graph; an `adapter` of the target's items needs two domains."""
    return Method(
        name,
        by_one_pass(graph_ridge),
        rating_graph_of(layers, adapter=adapter),
        closed_forms_of_nodes,
        members=True,
        needs_ratings=True,
        settings={
            "rate": 3e-3,
            "weight_decay": 0.1,
            "updates": 80,
            "validate_every": 20,
        },
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        two_domains=adapter,
        options=options,
    )


methods: tuple[Method, ...] = (
    graph_ridge_method("light_gcn_ridge", light),
    graph_ridge_method("gcn_ridge", convolutions),
    graph_ridge_method("gat_ridge", attentions, AttentionRidgeOptions),
    graph_ridge_method("sage_ridge", samples_and_aggregates),
)
"""Ratings, in one domain or in two; the last needs two."""
