"""Learners on the graph of users and items: their layers, their graph, and where they start."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.factors import fit_factors, user_posteriors
from metajax.data import blank_graph, training_graph
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.base import Recipe
from metajax.methods.parts import by_one_pass, identities_of
from metajax.methods.ridge import check_rank
from metajax.methods.sampling import Sampler, rating_tasks
from metajax.methods.settings import Settings
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
    "Layers",
    "attentions",
    "closed_forms_of_nodes",
    "convolutions",
    "light",
    "of_members",
    "rating_graph_of",
    "recipes",
    "samples_and_aggregates",
]

Layers = Callable[[Settings], Any]
"""`layers(settings)` builds the network that passes the messages."""


def convolutions(settings: Settings) -> Any:
    """Builds two layers of graph convolution."""
    return GraphNetwork([GraphConvolution(settings.width), GraphConvolution(settings.width)])


def attentions(settings: Settings) -> Any:
    """Builds two layers of graph attention, the first of two heads."""
    heads = 2 if settings.width % 2 == 0 else 1
    first = GraphAttention(settings.width // heads, heads=heads)
    return GraphNetwork([first, GraphAttention(settings.width)])


def samples_and_aggregates(settings: Settings) -> Any:
    """Builds two layers of GraphSAGE."""
    return GraphNetwork([GraphSAGE(settings.width), GraphSAGE(settings.width)])


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
        return rating_graph(graph, layers(settings), width=settings.rank + 1, adapter=adapter)

    return network


def closed_forms_of_nodes(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from factors, which attributes complete, and from the posteriors of users under them.

    The first predictions are those of a fold-in on the items of all domains.
    """
    check_rank(settings)
    log = training.interactions
    factors = fit_factors(log, rank=settings.rank, seed=settings.seed)
    users, latents = user_posteriors(factors, log)
    root = np.linalg.cholesky(np.asarray(factors.prior_covariance, np.float64))
    graph = training_graph(training)
    # In the coordinates of the identities, where the prior is standard normal.
    user = np.zeros((graph.users, settings.rank + 1))
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


def of_members(settings: Settings, shapes: Shapes) -> Sampler:
    """Samples ratings that say whose they are, so that the user can be left out of the graph."""
    return rating_tasks(settings, shapes, members=True)


def _ridge(name: str, layers: Layers, *, adapter: bool = False) -> Recipe:
    return Recipe(
        name,
        by_one_pass(learners.graph_ridge),
        rating_graph_of(layers, adapter=adapter),
        closed_forms_of_nodes,
        of_members,
        settings={
            "width": 16,
            "rate": 3e-3,
            "weight_decay": 0.1,
            "updates": 80,
            "validate_every": 20,
        },
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        two_domains=adapter,
    )


recipes: tuple[Recipe, ...] = (
    _ridge("light_gcn_ridge", light),
    _ridge("gcn_ridge", convolutions),
    _ridge("gat_ridge", attentions),
    _ridge("sage_ridge", samples_and_aggregates),
    _ridge("shared_graph", samples_and_aggregates, adapter=True),
)
"""Ratings, in one domain or in two; the last needs two."""
