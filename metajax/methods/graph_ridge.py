"""Bayesian ridge heads on the graph of users and items, with layers of four kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.factors import fit_factors, user_posteriors
from metajax.data import blank_graph, training_graph
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.bayesian_ridge import check_rank
from metajax.methods.method import Method
from metajax.methods.parts import by_one_pass, identities_of
from metajax.methods.settings import Options, Settings, bounded
from metajax.networks import (
    GraphAttention,
    GraphConvolution,
    GraphModel,
    GraphNetwork,
    GraphSAGE,
    LightGCN,
    rating_graph,
    start_rating_graph,
)
from metajax.types import Params

__all__ = [
    "GraphRidgeOptions",
    "Layers",
    "attentions",
    "closed_forms_of_nodes",
    "convolutions",
    "graph_ridge_method",
    "light",
    "methods",
    "rating_graph_of",
    "samples_and_aggregates",
]


@dataclass(frozen=True, kw_only=True)
class GraphRidgeOptions(Options):
    """Options of ridge heads on the graph."""

    width: int = bounded(16, least=1)
    """Width of the layers."""
    rank: int = bounded(8, least=0)
    """Factors of an item, at least 1."""


Layers = Callable[[Settings], Any]
"""`layers(settings)` builds the network that passes the messages."""


def convolutions(settings: Settings) -> Any:
    """Builds two layers of graph convolution."""
    return GraphNetwork(
        [GraphConvolution(settings.options.width), GraphConvolution(settings.options.width)]
    )


def attentions(settings: Settings) -> Any:
    """Builds two layers of graph attention, the first of two heads."""
    heads = 2 if settings.options.width % 2 == 0 else 1
    first = GraphAttention(settings.options.width // heads, heads=heads)
    return GraphNetwork([first, GraphAttention(settings.options.width)])


def samples_and_aggregates(settings: Settings) -> Any:
    """Builds two layers of GraphSAGE."""
    return GraphNetwork([GraphSAGE(settings.options.width), GraphSAGE(settings.options.width)])


def light(settings: Settings) -> Any:
    """Builds LightGCN of two steps."""
    del settings
    return LightGCN(2)


def rating_graph_of(
    layers: Layers, *, adapter: bool = False
) -> Callable[[Settings, Shapes], GraphModel]:
    """Returns what builds a `models.rating_graph` with room for the graph of the training set."""

    def network(settings: Settings, shapes: Shapes) -> GraphModel:
        graph = blank_graph(shapes.users, shapes.items, shapes.rows)
        return rating_graph(
            graph, layers(settings), width=settings.options.rank + 1, adapter=adapter
        )

    return network


def closed_forms_of_nodes(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from factors, which attributes complete, and from the posteriors of users under them.

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
        start_rating_graph,
        graph=graph,
        user=jnp.asarray(user),
        item=jnp.asarray(item),
        item_bias=jnp.asarray(item_bias),
        noise=jnp.asarray(factors.noise + spread**2),
        item_domain=None if training.item_domain is None else jnp.asarray(training.item_domain),
    )


def graph_ridge_method(name: str, layers: Layers, *, adapter: bool = False) -> Method:
    """Ridge head on a graph; an `adapter` of the target's items needs two domains."""
    return Method(
        name,
        by_one_pass(learners.graph_ridge),
        rating_graph_of(layers, adapter=adapter),
        closed_forms_of_nodes,
        members=True,
        settings={
            "rate": 3e-3,
            "weight_decay": 0.1,
            "updates": 80,
            "validate_every": 20,
        },
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        two_domains=adapter,
        options=GraphRidgeOptions,
    )


methods: tuple[Method, ...] = (
    graph_ridge_method("light_gcn_ridge", light),
    graph_ridge_method("gcn_ridge", convolutions),
    graph_ridge_method("gat_ridge", attentions),
    graph_ridge_method("sage_ridge", samples_and_aggregates),
)
"""Ratings, in one domain or in two; the last needs two."""
