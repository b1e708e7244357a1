"""Rankings by vectors on the graph of users and items, trained on users as if they were new."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from metajax import learners
from metajax.baselines.preferences import liked_counts
from metajax.data import blank_graph, training_graph
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.graph_ridge import (
    Layers,
    attentions,
    convolutions,
    light,
    samples_and_aggregates,
)
from metajax.methods.method import Method
from metajax.methods.parts import objectives, outer_optimizer
from metajax.methods.settings import Options, Settings, bounded
from metajax.networks import GraphModel, GraphResidual, graph_model, spectral_nodes, start_graph
from metajax.types import MetaLearner, Params

__all__ = [
    "LayerOptions",
    "VectorOptions",
    "by_vectors",
    "initial_vectors",
    "light_network",
    "methods",
    "ranking_defaults",
]


@dataclass(frozen=True, kw_only=True)
class VectorOptions(Options):
    """Options of rankings by vectors of nodes."""

    embedding: int = bounded(32, least=1)
    """Width of the vectors of users and items."""
    length: float = bounded(1.0, above=0)
    """Length of the initial vectors, a multiple of that of the smoothest directions. Where layers
    are added, and a new user is the mean of their items, vectors whose mean square is 1 would let
    one item alone outweigh popularity many times."""
    bias_rate: float = bounded(0.2, above=0)
    """Learning rate of the items' biases, a share of `rate`: each learns from the few tasks in
    which its item is near the top."""


@dataclass(frozen=True, kw_only=True)
class LayerOptions(VectorOptions):
    """Options of rankings by vectors to which layers add something."""

    width: int = bounded(32, least=1)
    """Width of the layers."""


ranking_defaults = MappingProxyType(
    {
        "objective": "ndcg",
        "order": "random",
        "rate": 0.01,
        "weight_decay": 0.0,
        "tasks": 256,
        "updates": 100,
    }
)
"""Defaults of rankings by vectors of nodes."""


def light_network(settings: Settings, shapes: Shapes) -> GraphModel:
    """Builds LightGCN, with room for the graph of the training set."""
    return _network(settings, shapes, light(settings))


def initial_vectors(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises by the graph, its smoothest directions, and the logarithm of popularity."""
    graph, length = training_graph(training), settings.options.length
    popularity = np.log1p(liked_counts(training))

    def initial(params: Params) -> Params:
        width = params["item"].shape[1]
        user, item = spectral_nodes(graph, width, seed=settings.seed)
        vectors = {"user": length * user, "item": length * item, "item_bias": popularity}
        values = {name: jnp.asarray(value, jnp.float32) for name, value in vectors.items()}
        return {**start_graph(params, graph), **values}

    return initial


def by_vectors(
    learner: Callable[..., MetaLearner],
) -> Callable[[Settings, GraphModel], MetaLearner]:
    """Returns `Method.learner` of a learner of vectors of nodes, such as `learners.light_gcn`."""

    def build(settings: Settings, network: GraphModel) -> MetaLearner:
        slow = replace(settings, rate=settings.options.bias_rate * settings.rate)
        optimizers: dict[Hashable, optax.GradientTransformation] = {
            "slow": outer_optimizer(slow),
            "fast": outer_optimizer(settings),
        }
        outer = optax.partition(
            optimizers, lambda params: {n: "slow" if n == "item_bias" else "fast" for n in params}
        )
        return learner(
            network,
            objectives[settings.objective].loss,
            outer=outer,
            microbatch=settings.microbatch,
        )

    return build


def _network(settings: Settings, shapes: Shapes, network: Any) -> GraphModel:
    if objectives[settings.objective].rating:
        raise ValueError(f"objective must be of an order of items, got {settings.objective!r}.")
    graph = blank_graph(shapes.users, shapes.items, shapes.rows)
    return graph_model(graph, network, width=min(settings.options.embedding, shapes.items))


def _with_layers(name: str, layers: Layers) -> Method:
    def network(settings: Settings, shapes: Shapes) -> GraphModel:
        # What layers add to the vectors of nodes is 0 at first.
        return _network(settings, shapes, GraphResidual(layers(settings)))

    return _fold_in(name, network, LayerOptions, length=0.2)


def _fold_in(
    name: str,
    network: Callable[[Settings, Shapes], GraphModel],
    options: type,
    **changes: Any,
) -> Method:
    return Method(
        name,
        learner=by_vectors(learners.graph_fold_in),
        network=network,
        initial=initial_vectors,
        members=True,
        options=options,
        settings={**ranking_defaults, **changes},
        grid=({}, {"order": "time"}),
        any_support=True,
    )


methods: tuple[Method, ...] = (
    _fold_in("graph_light", light_network, VectorOptions, rate=0.03),
    _with_layers("graph_gcn", convolutions),
    _with_layers("graph_gat", attentions),
    _with_layers("graph_sage", samples_and_aggregates),
)
"""LightGCN's propagation without layers, then with layers of three kinds."""
