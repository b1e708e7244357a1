"""Learners that order items by vectors on the graph of users and items."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from metajax import learners
from metajax.baselines.preferences import liked_counts
from metajax.data import blank_graph, training_graph
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.graphs import Layers, attentions, convolutions, samples_and_aggregates
from metajax.methods.method import Method
from metajax.methods.parts import objectives, outer_optimizer
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.networks import (
    GraphModel,
    GraphResidual,
    LightGCN,
    graph_model,
    spectral_nodes,
    start_graph,
)
from metajax.types import MetaLearner, Params

__all__ = [
    "corrected_vectors",
    "graph_fold_in",
    "light_gcn",
    "light_vectors",
    "methods",
    "smooth_vectors",
]

# Each item's bias learns from the few tasks in which it is near the top.
_SLOWER = 0.2

# Where a stranger is the mean of their items, of vectors whose mean square is 1 one item alone
# would outweigh popularity many times.
_SHORTER = 0.2


def light_vectors(settings: Settings, shapes: Shapes) -> GraphModel:
    """Builds LightGCN of two steps, with room for the graph of the training set."""
    return _vectors(settings, shapes, LightGCN(2))


def corrected_vectors(layers: Layers) -> Callable[[Settings, Shapes], GraphModel]:
    """Returns what builds vectors of nodes to which layers add something, from 0 on."""

    def network(settings: Settings, shapes: Shapes) -> GraphModel:
        return _vectors(settings, shapes, GraphResidual(layers(settings)))

    return network


def smooth_vectors(
    settings: Settings, training: TrainingSet, *, length: float = 1.0
) -> Callable[[Params], Params]:
    """Starts from the graph, its smoothest directions, and the logarithm of popularity.

    With `length`, vectors are so many times as long.
    """
    graph = training_graph(training)
    popularity = np.log1p(liked_counts(training))

    def start(params: Params) -> Params:
        width = params["item"].shape[1]
        user, item = spectral_nodes(graph, width, seed=settings.seed)
        vectors = {"user": length * user, "item": length * item, "item_bias": popularity}
        started = {name: jnp.asarray(value, jnp.float32) for name, value in vectors.items()}
        return {**start_graph(params, graph), **started}

    return start


def light_gcn(settings: Settings, network: GraphModel) -> MetaLearner:
    """Builds the learner that trains on known users, and serves new ones by what they chose."""
    return _learner(learners.light_gcn, settings, network)


def graph_fold_in(settings: Settings, network: GraphModel) -> MetaLearner:
    """Builds the learner that trains on users as if they were new."""
    return _learner(learners.graph_fold_in, settings, network)


def _vectors(settings: Settings, shapes: Shapes, network: Any) -> GraphModel:
    if objectives[settings.objective].rating:
        raise ValueError(f"objective must be of an order of items, got {settings.objective!r}.")
    graph = blank_graph(shapes.users, shapes.items, shapes.rows)
    return graph_model(graph, network, width=min(settings.options.embedding, shapes.items))


def _learner(
    method: Callable[..., MetaLearner], settings: Settings, network: GraphModel
) -> MetaLearner:
    optimizers: dict[Hashable, optax.GradientTransformation] = {
        "slow": outer_optimizer(replace(settings, rate=_SLOWER * settings.rate)),
        "fast": outer_optimizer(settings),
    }
    outer = optax.partition(
        optimizers, lambda params: {n: "slow" if n == "item_bias" else "fast" for n in params}
    )
    return method(
        network,
        objectives[settings.objective].loss,
        outer=outer,
        microbatch=settings.microbatch,
    )


def _vectors_of(
    name: str,
    learner: Callable[[Settings, Any], MetaLearner],
    network: Callable[[Settings, Shapes], Any],
    *,
    length: float = 1.0,
    **changes: Any,
) -> Method:
    settings = {
        "objective": "ndcg",
        "order": "random",
        "width": 32,
        "embedding": 32,
        "rate": 0.01,
        "weight_decay": 0.0,
        "tasks": 256,
        "updates": 100,
    }
    return Method(
        name,
        learner,
        network,
        partial(smooth_vectors, length=length),
        members=True,
        settings={**settings, **changes},
        grid=({}, {"order": "time"}),
        any_support=True,
        options=TwoTowerOptions,
    )


def _corrected(name: str, layers: Layers) -> Method:
    return _vectors_of(name, graph_fold_in, corrected_vectors(layers), length=_SHORTER)


methods: tuple[Method, ...] = (
    _vectors_of("light_gcn", light_gcn, light_vectors, objective="ranking"),
    _vectors_of("graph_light", graph_fold_in, light_vectors, rate=0.03),
    _corrected("graph_gcn", convolutions),
    _corrected("graph_gat", attentions),
    _corrected("graph_sage", samples_and_aggregates),
)
"""Orders of items: LightGCN as it is trained by others, then as it is used here."""
